//! Maps of sparse files: the old GNU blocks and the PAX forms 0.1 and 1.0 (GNU tar manual, "Storing Sparse Files").

use crate::{
    entry::{Header, SparseMap, sparse_pairs},
    error::{ArchiveError, Result},
    pax::decimal,
};

/// More stretches than any honest file has; a map is kept in memory.
pub(crate) const SEGMENTS_MAX: usize = 1 << 20;

/// What an extended header says about a sparse file.
#[derive(Debug, Default)]
pub(crate) struct PaxSparse {
    pub name: Option<Vec<u8>>,
    size: Option<u64>,
    map: Option<Vec<u64>>,
    version: (Option<u64>, Option<u64>),
    unsupported: bool,
}

impl PaxSparse {
    /// Takes a record whose key is `GNU.sparse.<key>`.
    pub fn record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let number =
            || decimal(value).ok_or_else(|| ArchiveError::malformed("a sparse file's header is damaged"));
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"major" => self.version.0 = Some(number()?),
            b"minor" => self.version.1 = Some(number()?),
            b"map" => self.map = value.split(|b| *b == b',').map(decimal).collect(),
            b"offset" | b"numbytes" => self.unsupported = true,
            _ => {}
        }
        Ok(())
    }

    /// How the map is given, if the file is sparse at all.
    pub fn form(self, member: &[u8]) -> Result<Option<PaxForm>> {
        if self.unsupported {
            return Err(ArchiveError::hostile(
                member,
                "is a sparse file of the obsolete form 0.0, which is not read",
            ));
        }
        match (self.version, self.map, self.size) {
            ((Some(1), Some(0)), _, Some(size)) => Ok(Some(PaxForm::InData { size })),
            ((None, None) | (Some(0), _), Some(numbers), Some(size)) => {
                Ok(Some(PaxForm::Given(SparseMap { size, data: pairs(&numbers) })))
            }
            ((None, None), None, _) => Ok(None),
            _ => Err(ArchiveError::hostile(member, "is a sparse file of an unknown form")),
        }
    }
}

/// Where a sparse file's map is.
pub(crate) enum PaxForm {
    /// In the header.
    Given(SparseMap),
    /// In front of the data.
    InData {
        /// The file's size with its holes.
        size: u64,
    },
}

fn pairs(numbers: &[u64]) -> Vec<(u64, u64)> {
    numbers.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))).collect()
}

/// Reads the map in front of the data: decimal lines, padded to a block. Gives the map and the blocks' bytes.
pub(crate) fn read_map_in_data(
    size: u64,
    mut block: impl FnMut() -> Result<Header>,
) -> Result<(SparseMap, u64)> {
    let damaged = || ArchiveError::malformed("a sparse file's map is damaged");
    let (mut numbers, mut line, mut used, mut wanted) = (Vec::new(), Vec::new(), 0u64, None);
    while wanted.is_none_or(|n| numbers.len() < n) {
        used += crate::entry::BLOCK as u64;
        for byte in block()?.0 {
            match byte {
                b'\n' if wanted.is_none_or(|n| numbers.len() < n) => {
                    let number = decimal(&line).ok_or_else(damaged)?;
                    line.clear();
                    match wanted {
                        None => wanted = Some(map_length(number)?),
                        Some(_) => numbers.push(number),
                    }
                }
                _ if wanted.is_some_and(|n| numbers.len() >= n) => break,
                _ if line.len() < 20 => line.push(byte),
                _ => return Err(damaged()),
            }
        }
    }
    Ok((SparseMap { size, data: pairs(&numbers) }, used))
}

/// How many numbers a map of so many stretches has.
fn map_length(stretches: u64) -> Result<usize> {
    match usize::try_from(stretches) {
        Ok(n) if n <= SEGMENTS_MAX => Ok(n * 2),
        _ => Err(ArchiveError::TooLarge("a sparse file has too many stretches".into())),
    }
}

/// Reads the map of an old GNU header and the blocks after it.
pub(crate) fn read_old_gnu(header: &Header, mut block: impl FnMut() -> Result<Header>) -> Result<SparseMap> {
    let damaged = || ArchiveError::malformed("a sparse file's map is damaged");
    let (mut data, mut more, size) = header.gnu_sparse().ok_or_else(damaged)?;
    while more {
        let block = block()?;
        data.extend(sparse_pairs(block.0.get(..504).unwrap_or_default()).ok_or_else(damaged)?);
        more = block.0.get(504) == Some(&1);
        if data.len() > SEGMENTS_MAX {
            return Err(ArchiveError::TooLarge("a sparse file has too many stretches".into()));
        }
    }
    Ok(SparseMap { size, data })
}

impl SparseMap {
    /// Checks that the stretches ascend, stay inside the file, and hold exactly the stored bytes.
    pub fn check(&self, member: &[u8], stored: u64) -> Result<()> {
        let mut end = 0u64;
        let mut sum = 0u64;
        for (offset, length) in &self.data {
            let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= self.size);
            end =
                next.ok_or_else(|| ArchiveError::hostile(member, "has a sparse map that leaves the file"))?;
            sum += length;
        }
        if sum == stored && i64::try_from(self.size).is_ok() {
            Ok(())
        } else {
            Err(ArchiveError::hostile(member, "has a sparse map that does not fit its content"))
        }
    }
}
