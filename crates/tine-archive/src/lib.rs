//! Tar archives in and out of untrusted trees.
//!
//! Reads plain, gzip, zstd and xz tars from anyone (ustar, GNU and PAX) into a [`tine_sys::tree::Tree`] and writes
//! trees as PAX tars. Nothing outside the tree is ever touched, every size is bounded, and a refused archive is
//! refused with the name of the member at fault. What was extracted before that stays: the caller drops it.
//!
//! For archives that are no trees, [`TarReader`] gives members and their content one after the other, and [`GnuFile`]
//! makes the headers of regular and sparse files.
#![forbid(unsafe_code)]

mod architecture;
mod decompress;
mod entry;
mod error;
mod extract;
mod gnu;
mod pax;
mod policy;
mod reader;
mod sparse;
mod write;

pub use architecture::check_architecture;
pub use entry::{BLOCK, Member, MemberKind, SparseMap, Stretches};
pub use error::ArchiveError;
pub use extract::{ExtractStats, extract};
pub use gnu::{GnuFile, map_blocks};
pub use policy::{Limits, Ownership, Policy};
pub use reader::TarReader;
pub use write::{WriteStats, write};
