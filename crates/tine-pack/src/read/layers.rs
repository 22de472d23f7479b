//! The content of a file that was made of others, read off those.
//!
//! What was written to a file is in memory; of a file that shares its extents with another nothing is, though the other
//! was read or written a moment ago. So a page is read off the file it was written to, or that had it all.

use crate::positioned::{read_exact_at, read_or_zeros_at};
use std::{fs::File, io, sync::Arc};

/// The most stretches that are remembered: 16 bytes each.
const STRETCHES_MAX: usize = 200_000;

/// A file's content as layers, each over the ones before.
#[derive(Debug)]
pub(super) struct Layers {
    base: File,
    over: Vec<Layer>,
}

/// The stretches, ascending, that were written to a file of the same size.
#[derive(Debug, Clone)]
struct Layer {
    file: Arc<File>,
    stretches: Arc<[(u64, u64)]>,
}

impl Layers {
    /// A file that has it all.
    pub fn of(base: File) -> Self {
        Self { base, over: Vec::new() }
    }

    /// The layers of `file`, which has the content of these but for `stretches`, as offset and length.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn under(&self, file: File, stretches: &[(u64, u64)]) -> io::Result<Self> {
        let before: usize = self.over.iter().map(|layer| layer.stretches.len()).sum();
        if before + stretches.len() > STRETCHES_MAX {
            return Ok(Self::of(file));
        }
        let mut over = self.over.clone();
        over.push(Layer { file: Arc::new(file), stretches: stretches.into() });
        Ok(Self { base: self.base.try_clone()?, over })
    }

    /// Fills `buffer` with what lies at `offset`, zeros beyond the end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        read_or_zeros_at(&self.base, buffer, offset)?;
        self.over.iter().try_for_each(|layer| layer.read(buffer, offset))
    }
}

impl Layer {
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.saturating_add(buffer.len() as u64);
        let first = self.stretches.partition_point(|(start, length)| start.saturating_add(*length) <= offset);
        let stretches = self.stretches.get(first..).unwrap_or_default();
        for (start, length) in stretches.iter().take_while(|(start, _)| *start < end) {
            let (from, to) = (offset.max(*start), end.min(start.saturating_add(*length)));
            // both lie within the buffer
            let range = (from - offset) as usize..(to - offset) as usize;
            read_exact_at(&self.file, buffer.get_mut(range).unwrap_or_default(), from)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn file(content: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(content, 0).unwrap();
        file
    }

    fn read(layers: &Layers, offset: u64, length: usize) -> Vec<u8> {
        let mut buffer = vec![9; length];
        layers.read(&mut buffer, offset).unwrap();
        buffer
    }

    #[test]
    fn each_page_is_of_the_last_file_it_was_written_to() {
        let base = Layers::of(file(b"aaaaaaaaaa"));
        let one = base.under(file(b"-bb----bb-"), &[(1, 2), (7, 2)]).unwrap();
        let two = one.under(file(b"--cc------"), &[(2, 2)]).unwrap();
        assert_eq!(read(&base, 8, 4), b"aa\0\0");
        assert_eq!(read(&one, 0, 10), b"abbaaaabba");
        assert_eq!(read(&two, 0, 10), b"abccaaabba");
        for from in 0..10 {
            for to in from..10 {
                assert_eq!(read(&two, from as u64, to - from), b"abccaaabba"[from..to]);
            }
        }
    }

    #[test]
    fn where_there_are_very_many_the_file_itself_is_read() {
        let many: Vec<(u64, u64)> = (0..STRETCHES_MAX as u64).map(|n| (n * 2, 1)).collect();
        let one = Layers::of(file(b"aa")).under(file(b"b-"), &many).unwrap();
        assert_eq!(read(&one, 1, 1), b"a");
        let two = one.under(file(b"cc"), &[(0, 1)]).unwrap();
        assert_eq!((read(&two, 0, 2), two.over.len()), (b"cc".to_vec(), 0));
    }
}
