//! Whether two objects differ as a user means it: content, type, mode, owner, xattrs, device number; never times.

use super::object::Object;
use crate::Result;
use tine_sys::tree::{Kind, Meta};

/// In which respect two objects differ first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Difference {
    /// One is a file, say, the other a link.
    Kind,
    Mode,
    Owner,
    Device,
    Xattrs,
    Content,
}

/// Compares two objects themselves, not what lies below them; cheap respects first.
pub(super) fn difference<O: Object>(older: &O, newer: &O) -> Result<Option<Difference>> {
    if let Some(found) = by_stat(older.meta(), newer.meta()) {
        return Ok(Some(found));
    }
    if older.xattrs()? != newer.xattrs()? {
        return Ok(Some(Difference::Xattrs));
    }
    let same = match older.meta().kind {
        Kind::File => older.same_content(newer)?,
        Kind::Symlink => older.read_link()? == newer.read_link()?,
        _ => true,
    };
    Ok((!same).then_some(Difference::Content))
}

fn by_stat(older: &Meta, newer: &Meta) -> Option<Difference> {
    if older.kind != newer.kind {
        return Some(Difference::Kind);
    }
    if older.device != newer.device {
        return Some(Difference::Device);
    }
    if older.mode != newer.mode {
        return Some(Difference::Mode);
    }
    if (older.uid, older.gid) != (newer.uid, newer.gid) {
        return Some(Difference::Owner);
    }
    // the size of a directory is a matter of its names
    (older.kind == Kind::File && older.size != newer.size).then_some(Difference::Content)
}
