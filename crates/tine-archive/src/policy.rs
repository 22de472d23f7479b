//! What an extraction may make, and how much of it.

/// Bounds of one extraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Members.
    pub members: u64,
    /// Bytes of content over all members, holes not counted; the free space of the target is a good bound.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { members: 5_000_000, bytes: u64::MAX }
    }
}

/// Who owns what is extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// The numeric owner in the archive.
    Archive,
    /// Whoever extracts.
    Caller,
}

/// What may be made, and with which attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Who owns it.
    pub ownership: Ownership,
    /// Whether set-id bits and extended attributes are kept.
    pub privileges: Privileges,
    /// What happens to device nodes.
    pub devices: Devices,
    /// What happens to an object that has the name of a member and is of another kind.
    pub conflicts: Conflicts,
}

/// What becomes of set-user-id, set-group-id and sticky bits, ACLs and file capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privileges {
    /// Kept.
    Keep,
    /// Left out.
    Drop,
}

/// What becomes of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    /// The harmless ones of every root (`null`, `tty`, …) are made, others refused.
    WellKnown,
    /// None is made; a note tells of each.
    Skip,
}

/// What becomes of an existing object of another kind than the member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflicts {
    /// It is replaced; a directory only when it is empty.
    Replace,
    /// A directory is never put in the place of something else, nor something else in its place.
    KeepDirectories,
}

impl Policy {
    /// For the root of a machine: owners, set-id bits, xattrs and well-known devices as in the archive.
    #[must_use]
    pub fn root_image() -> Self {
        Self {
            ownership: Ownership::Archive,
            privileges: Privileges::Keep,
            devices: Devices::WellKnown,
            conflicts: Conflicts::Replace,
        }
    }

    /// For a copy of files: owned by the caller, no set-id bits, no devices.
    #[must_use]
    pub fn copy() -> Self {
        Self {
            ownership: Ownership::Caller,
            privileges: Privileges::Drop,
            devices: Devices::Skip,
            conflicts: Conflicts::KeepDirectories,
        }
    }

    /// For a copy that keeps owners, set-id bits and xattrs; still no devices.
    #[must_use]
    pub fn archive_copy() -> Self {
        Self { ownership: Ownership::Archive, privileges: Privileges::Keep, ..Self::copy() }
    }
}
