//! Which members a pack may have, by its manifest, and in which order. Reads no content.

use crate::{
    error::{PackError, Result},
    manifest::{Layout, MANIFEST, Manifest, Role, SIGNATURE},
};
use std::collections::BTreeSet;
use tine_archive::{Member, MemberKind};

/// Directories that are passed over; no writer makes more than one for each image.
const DIRECTORIES_MAX: usize = 256;
/// How much of a name is shown.
const SHOWN_MAX: usize = 100;

/// What is still to come.
pub(super) struct Order<'a> {
    manifest: &'a Manifest,
    /// Links that do not come.
    left_out: &'a BTreeSet<usize>,
    link: usize,
    left: Vec<Role>,
    directories: usize,
}

/// A member's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of its link.
    pub link: usize,
    /// What it is there.
    pub role: Role,
}

impl<'a> Order<'a> {
    pub fn new(manifest: &'a Manifest, left_out: &'a BTreeSet<usize>) -> Self {
        let left = if left_out.contains(&0) { Vec::new() } else { roles(manifest, 0) };
        Self { manifest, left_out, link: 0, left, directories: 0 }
    }

    /// The number of the next link that comes.
    fn following(&self) -> Option<usize> {
        (self.link + 1..self.manifest.links.len()).find(|link| !self.left_out.contains(link))
    }

    /// The place of the next member; none for a directory, which is harmless.
    pub fn accept(&mut self, member: &Member) -> Result<Option<Place>> {
        let name = name(member)?;
        match member.kind {
            MemberKind::Dir => return self.directory(name).map(|()| None),
            MemberKind::File => {}
            _ => return Err(refused(name, "is neither a regular file nor a directory")),
        }
        if let Some(following) = self.following().filter(|_| self.left.is_empty()) {
            self.link = following;
            self.left = roles(self.manifest, following);
        }
        let found = self.left.iter().position(|role| self.manifest.entry_name(self.link, *role) == name);
        match found {
            // ours has one order
            Some(0) => {}
            Some(_) if self.manifest.layout != Layout::V3 => {}
            _ => return Err(refused(name, self.why(name))),
        }
        let role = self.left.remove(found.unwrap_or_default());
        let place = Place { link: self.link, role };
        self.sized(place, member, name).map(|()| Some(place))
    }

    /// After the last member: whether all have come.
    pub fn finish(&self) -> Result<()> {
        let missing = match (self.left.first(), self.following()) {
            (Some(role), _) => self.manifest.entry_name(self.link, *role),
            (None, Some(link)) => self.manifest.entry_name(link, Role::Memory),
            (None, None) => return Ok(()),
        };
        Err(PackError::malformed(format!("the pack does not hold {missing}, which it declares")))
    }

    fn sized(&self, place: Place, member: &Member, name: &str) -> Result<()> {
        let links = self.manifest.links.get(place.link);
        let Some(entry) = links.and_then(|link| link.file(place.role)) else {
            return Err(refused(name, "is not declared"));
        };
        let size = member.sparse.as_ref().map_or(member.stored, |map| map.size);
        if size != entry.size {
            let declared = entry.size;
            return Err(refused(name, format!("has {size} bytes and is declared with {declared}")));
        }
        if self.manifest.layout == Layout::V3 && member.stored != entry.stored {
            let (stored, declared) = (member.stored, entry.stored);
            return Err(refused(name, format!("stores {stored} bytes and is declared with {declared}")));
        }
        Ok(())
    }

    fn directory(&mut self, name: &str) -> Result<()> {
        self.directories += 1;
        if self.directories > DIRECTORIES_MAX {
            return Err(PackError::TooLarge(format!("the pack has more than {DIRECTORIES_MAX} directories")));
        }
        if name.starts_with('/') || name.split('/').any(|part| part == "..") {
            return Err(refused(name, "leads out of the pack"));
        }
        Ok(())
    }

    fn why(&self, name: &str) -> &'static str {
        let roles = |link| roles(self.manifest, link).into_iter().map(move |role| (link, role));
        let mut declared = (0..self.manifest.links.len()).flat_map(roles);
        match name {
            MANIFEST => "comes a second time",
            SIGNATURE => "does not come second",
            _ if declared.any(|(link, role)| self.manifest.entry_name(link, role) == name) => {
                "comes a second time, or not in its place"
            }
            _ => "is not declared",
        }
    }
}

fn roles(manifest: &Manifest, link: usize) -> Vec<Role> {
    let files = manifest.links.get(link).map(|link| link.files.as_slice()).unwrap_or_default();
    files.iter().map(|file| file.role).collect()
}

/// The name of a member as text.
pub(super) fn name(member: &Member) -> Result<&str> {
    std::str::from_utf8(&member.name)
        .map_err(|_| refused(&String::from_utf8_lossy(&member.name), "has a name that is not UTF-8"))
}

/// The error of a member that no pack may have.
pub(super) fn refused(name: &str, why: impl std::fmt::Display) -> PackError {
    let shown: String = name.escape_debug().take(SHOWN_MAX).collect();
    PackError::malformed(format!("{shown} in the pack {why}"))
}
