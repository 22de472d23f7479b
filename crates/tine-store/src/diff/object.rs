//! What is compared: an object of a tree that the kernel gives, or of a disk image.

use super::content;
use crate::Result;
use std::ffi::OsString;
use tine_sys::tree::{Meta, Node, Xattr};

/// One object of one side of a difference.
pub(super) trait Object {
    /// What `stat(2)` says of it.
    fn meta(&self) -> &Meta;

    /// Its extended attributes, sorted by name.
    fn xattrs(&self) -> Result<Vec<Xattr>>;

    /// The target of a link.
    fn read_link(&self) -> Result<OsString>;

    /// The content of a regular file; `None` when it has more than `limit` bytes.
    fn read(&self, limit: u64) -> Result<Option<Vec<u8>>>;

    /// Whether two regular files hold the same bytes.
    fn same_content(&self, newer: &Self) -> Result<bool>;
}

impl Object for Node {
    fn meta(&self) -> &Meta {
        self.meta()
    }

    fn xattrs(&self) -> Result<Vec<Xattr>> {
        Ok(self.xattrs()?)
    }

    fn read_link(&self) -> Result<OsString> {
        Ok(self.read_link()?)
    }

    fn read(&self, limit: u64) -> Result<Option<Vec<u8>>> {
        Ok(self.read(limit)?)
    }

    fn same_content(&self, newer: &Self) -> Result<bool> {
        Ok(content::same(self, newer)?)
    }
}
