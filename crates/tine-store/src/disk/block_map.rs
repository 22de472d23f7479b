//! Block maps: where a file's blocks are, in the form that ext2 and ext3 use
//! (`Documentation/filesystems/ext4/blockmap.rst`).
//!
//! Twelve direct pointers, then one each to a tree of height one, two and three. A pointer of 0 is a hole of all
//! that could lie below it. The kernel writes such files where a file system is made without extents.

use super::{Image, content::Run};
use crate::Result;

const DIRECT: usize = 12;

/// Written blocks, in order.
pub(super) struct BlockMap<'a> {
    image: &'a Image,
    /// The inode's own pointers, then nodes down to the one being read.
    path: Vec<Node>,
    /// Number in the file of the block that the next pointer is about.
    logical: u64,
    /// How many blocks the file has.
    end: u64,
}

struct Node {
    pointers: Vec<u32>,
    next: usize,
    /// How many levels lie below a pointer of this node; of the inode's pointers, each has its own.
    height: Option<u32>,
}

impl<'a> BlockMap<'a> {
    /// Begins at the pointers that an inode holds, for a file of `end` blocks.
    pub fn new(image: &'a Image, root: &[u8], end: u64) -> Self {
        let path = vec![Node { pointers: pointers(root), next: 0, height: None }];
        Self { image, path, logical: 0, end }
    }

    /// The next written block; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Run>> {
        while self.logical < self.end {
            let Some(node) = self.path.last_mut() else { return Ok(None) };
            let Some((pointer, height)) = node.take() else {
                self.path.pop();
                continue;
            };
            if pointer == 0 {
                self.logical = self.logical.saturating_add(self.span(height));
            } else if height > 0 {
                let pointers = pointers(&self.image.block(u64::from(pointer))?);
                self.path.push(Node { pointers, next: 0, height: Some(height - 1) });
            } else {
                let run = Run { logical: self.logical, physical: u64::from(pointer), blocks: 1 };
                self.logical += 1;
                return Ok(Some(run));
            }
        }
        Ok(None)
    }

    /// How many blocks a pointer with `height` levels below it is about.
    fn span(&self, height: u32) -> u64 {
        u64::from(self.image.superblock.block_size / 4).saturating_pow(height)
    }
}

impl Node {
    /// The next pointer and how many levels lie below it.
    fn take(&mut self) -> Option<(u32, u32)> {
        let pointer = *self.pointers.get(self.next)?;
        let own = self.next.saturating_sub(DIRECT - 1) as u32;
        self.next += 1;
        Some((pointer, self.height.unwrap_or(own)))
    }
}

fn pointers(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}
