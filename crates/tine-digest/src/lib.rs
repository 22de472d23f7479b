//! Digests of memory, disks and other files.
//!
//! Memory and disks are sparse, so only what is not zero is read and counts. Such a file is cut into chunks of
//! 256 KiB, and these into pages of 4 KiB:
//!
//! * the sum of a chunk is BLAKE3 over its pages, up to and with the last one that is not all zero; a last page of the
//!   file that is shorter counts as it is;
//! * the digest of the file is SHA-256 over the sum of each chunk that is not all zero, led by the chunk's number as
//!   a 64-bit little-endian integer.
//!
//! Chunks are what takes time, and BLAKE3 hashes one several times as fast as SHA-256 does; the digest made of the sums is
//! like every other that Tine stores.
//!
//! So a hole and zeros give the same digest, chunks can be summed on all cores and in any order, and a file of which
//! a part has changed is summed anew by that part alone. The length does not count: it is recorded beside the digest.
//!
//! Only reads files that are open; knows nothing of where they lie.
#![forbid(unsafe_code)]

mod chunks;
mod read;

pub use chunks::{CHUNK, ChunkSum, ChunkSums, PAGE, chunk_sum, is_zero};
pub use read::{of_all, of_data, sums_of_data};
