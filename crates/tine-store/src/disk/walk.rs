//! Walks over a whole image that end, whatever its directories say.

use super::{Image, Inode, corrupt};
use crate::{Result, StoreError};
use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsString,
};
use tine_model::ByteSize;
use tine_sys::tree::Kind;

/// The most names one image may have in all.
const NAMES_MAX: u64 = 16 << 20;

/// The directories a walk has been in: an honest one has one name only, so it is met once.
#[derive(Default)]
pub(crate) struct Visits {
    dirs: HashSet<u32>,
    names: u64,
}

impl Visits {
    /// The names of a directory that was not met before.
    ///
    /// # Errors
    /// `Corrupt` when it was: a name below it may lead back to it; `TooLarge` for more than 16 million names in all;
    /// those of [`Image::names`].
    pub fn enter(&mut self, image: &Image, directory: &Inode) -> Result<BTreeMap<OsString, u32>> {
        if !self.dirs.insert(directory.number()) {
            return Err(corrupt("a directory has more than one name"));
        }
        let names = image.names(directory)?;
        self.names += names.len() as u64;
        if self.names > NAMES_MAX {
            return Err(StoreError::TooLarge { message: "the disk image has too many names".to_owned() });
        }
        Ok(names)
    }
}

/// The sum of the lengths of the regular files and links of an image, each file once.
///
/// # Errors
/// `Corrupt`, `TooLarge`; the kernel's.
pub fn logical_size(image: &Image) -> Result<ByteSize> {
    let (mut visits, mut counted) = (Visits::default(), HashSet::new());
    let (mut todo, mut sum) = (vec![image.root()?], 0u64);
    while let Some(directory) = todo.pop() {
        for number in visits.enter(image, &directory)?.into_values() {
            let inode = image.inode(number)?;
            match inode.meta().kind {
                Kind::Dir => todo.push(inode),
                Kind::File | Kind::Symlink if counted.insert(number) => {
                    sum = sum.saturating_add(inode.meta().size);
                }
                _ => {}
            }
        }
    }
    Ok(ByteSize(sum))
}
