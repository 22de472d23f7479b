//! Extent trees: where a file's blocks are, as a tree of stretches
//! (`Documentation/filesystems/ext4/ifork.rst`, "Extent Tree").
//!
//! Read from left to right with one block of each level in memory. The logical numbers must ascend, so no leaf can be
//! visited twice, and a node's depth must be one less than its parent's, so no path is longer than the root says.

use super::{Image, content::Run, corrupt, fields::Fields};
use crate::Result;

const MAGIC: u16 = 0xf30a;
/// Bytes of a node's header and of each entry.
const ENTRY: usize = 12;
/// The kernel's `EXT4_MAX_EXTENT_DEPTH`.
const DEPTH_MAX: u16 = 5;
/// A longer one is an allocated stretch without content, of this many blocks less.
const WRITTEN_MAX: u16 = 32768;

/// Stretches of written blocks, in order.
pub(super) struct Extents<'a> {
    image: &'a Image,
    /// Nodes from the root to the one being read.
    path: Vec<Node>,
    /// Where the next stretch may begin.
    from: u64,
}

struct Node {
    bytes: Vec<u8>,
    depth: u16,
    entries: usize,
    next: usize,
}

impl<'a> Extents<'a> {
    /// Begins at the root that an inode holds.
    pub fn new(image: &'a Image, root: &[u8]) -> Result<Self> {
        let root = Node::parse(root.to_vec())?;
        if root.depth > DEPTH_MAX {
            return Err(corrupt("a tree of extents is deeper than any can be"));
        }
        Ok(Self { image, path: vec![root], from: 0 })
    }

    /// The next stretch; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Run>> {
        while let Some(node) = self.path.last_mut() {
            let Some(entry) = node.take()? else {
                self.path.pop();
                continue;
            };
            if node.depth > 0 {
                let depth = node.depth;
                self.descend(entry, depth)?;
            } else if let Some(run) = self.leaf(entry)? {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }

    fn descend(&mut self, entry: [u8; ENTRY], depth: u16) -> Result<()> {
        let fields = Fields(&entry);
        let child = u64::from(fields.le32(4)?) | u64::from(fields.le16(8)?) << 32;
        let node = Node::parse(self.image.block(child)?)?;
        if node.depth.checked_add(1) != Some(depth) {
            return Err(corrupt("a tree of extents has a node at a wrong depth"));
        }
        self.path.push(node);
        Ok(())
    }

    /// One stretch; `None` for one without content.
    fn leaf(&mut self, entry: [u8; ENTRY]) -> Result<Option<Run>> {
        let fields = Fields(&entry);
        let (logical, length) = (u64::from(fields.le32(0)?), fields.le16(4)?);
        let written = length <= WRITTEN_MAX;
        let blocks = u64::from(if written { length } else { length - WRITTEN_MAX });
        if blocks == 0 || logical < self.from {
            return Err(corrupt("a tree of extents is not in order"));
        }
        self.from = logical + blocks;
        let physical = u64::from(fields.le32(8)?) | u64::from(fields.le16(6)?) << 32;
        Ok(written.then_some(Run { logical, physical, blocks }))
    }
}

impl Node {
    fn parse(bytes: Vec<u8>) -> Result<Self> {
        let fields = Fields(&bytes);
        let (entries, depth) = (usize::from(fields.le16(2)?), fields.le16(6)?);
        let room = bytes.len().saturating_sub(ENTRY) / ENTRY;
        if fields.le16(0)? != MAGIC || entries > room {
            return Err(corrupt("a tree of extents has a damaged node"));
        }
        Ok(Self { depth, entries, next: 0, bytes })
    }

    fn take(&mut self) -> Result<Option<[u8; ENTRY]>> {
        if self.next >= self.entries {
            return Ok(None);
        }
        self.next += 1;
        Fields(&self.bytes).array(self.next * ENTRY).map(Some)
    }
}
