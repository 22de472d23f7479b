//! Saved machines as one verified file, and back.
//!
//! Knows layouts, never the store, the network or where files lie: callers give open files and streams.
#![forbid(unsafe_code)]

mod crew;
mod error;
pub mod frames;
mod manifest;
pub mod pages;
mod pieces;
mod positioned;
mod read;
mod share;
pub mod sidecar;
mod write;
mod zeros;

pub use error::PackError;
pub use manifest::{FileEntry, LINKS_MAX, Layout, Link, MANIFEST_MAX, Manifest, Role, SidecarRef};
pub use read::{Begin, Limits, LinkSums, Receiver, Reused, Unpacked, read};
pub use write::{Facts, Sign, Source, SourceFile, SourceLink, Written, write, write_with};

/// Plain SHA-256 of what is in memory.
fn plain_digest(bytes: &[u8]) -> tine_model::Sha256Digest {
    use sha2::Digest;
    tine_model::Sha256Digest(sha2::Sha256::digest(bytes).into())
}
