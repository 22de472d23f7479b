//! Saved machines as one verified file, and back.
//!
//! Knows layouts, never the store, the network or where files lie: callers give open files and streams. [`write()`] makes a
//! pack of any layout, [`read()`] takes any without being told which, [`sidecar`] does disks that lie beside a pack.
//!
//! # The third layout
//! A pack is a zstd stream, and in it a tar. `zstd -dc | tar x` opens it.
//!
//! ## The stream
//! A row of zstd frames (RFC 8878). A frame holds at most 4 MiB of content (4,194,304 bytes), has the size of its content in
//! its header, neither a checksum nor a dictionary, and needs no other frame. Each member of the tar begins a frame, and
//! so does the end mark, and the content of a memory or a disk after its header; what is longer than a frame goes on in as
//! many as it takes. All frames but the last of such a part are full.
//!
//! The last frame of the stream is a skippable one with the table of frames, all numbers little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | `0x184D2A5E` |
//! | 4 | how many bytes follow these eight: 8 for each frame, and 9 |
//! | 8 for each frame, in order | its length in the file (4), the length of its content (4) |
//! | 4 | the number of frames, at most 1,048,576 |
//! | 1 | 0 |
//! | 4 | `0x8F92EAB1` |
//!
//! A file that does not end in such a table is refused as cut off. A reader that passes from start to end needs no more of
//! it; one that fetches ranges finds by it which bytes hold which content, and believes nothing but digests: where the
//! parts that end in frames which are not full are as long as the manifest says, they are its files ([`outline`]).
//!
//! ## The tar
//! Headers are of the GNU form (magic `ustar␣␣`, numbers beyond octal digits in binary), with owner and group 0 without
//! names, mode 0644 and the time of the pack. No header extends another. Members, in this order:
//!
//! 1. `manifest.toml`.
//! 2. `manifest.toml.minisig`, if it is signed: a minisign signature over the bytes of the manifest, at most 4096 bytes.
//! 3. For each image, root first: `snapshot.json` (if another tool noted something), `vmstate`, `rootfs.ext4` (if it has a
//!    disk of its own), `memory.bin`. The names are these where the pack has one image, and `<tag>/vmstate` and so on
//!    where it has several.
//! 4. The end mark: 1024 zeros.
//!
//! `vmstate`, `snapshot.json` and the first two are regular files (type `0`). Memory and disk are sparse files (type `S`:
//! four stretches in the header, 21 in each block after it, a last empty stretch where the file ends in a hole), or
//! regular ones where all of their pages are stored. Stretches are whole pages of 4096 bytes, but for the end of a file
//! that is not; there are at most 500,000 of them in a file.
//!
//! * In the first image a page is stored when it is not all zero. A hole is zeros.
//! * In a later image a page is stored when it differs from that page of the image before, also when it has become zero. A
//!   hole is what that image has there; what it lacks because it is shorter is zeros.
//! * In files of very many stretches, pages between two near stretches may be stored although they need not be.
//!
//! ## The manifest
//! TOML in UTF-8, at most 1 MiB, keys in this order when written:
//!
//! | key | is |
//! | --- | --- |
//! | `forkd_pack_version` | `3` |
//! | `format` | `"tine"`; with anything else the pack is refused as newer |
//! | `tag` | the tag of the last image |
//! | `description`, `base_image` | texts, optional |
//! | `created_at` | RFC 3339, seconds, `Z` |
//! | `writer` | name and version of what made it |
//! | `features.incompat` | features without which it cannot be read rightly: `"delta"` where an image holds only what differs; a reader refuses one it does not know, by name |
//! | `features.compat` | features that a reader may pass over |
//! | `links` | the images, root first, at most 64 |
//! | `rootfs` | `{target_path, sha256, size}` of a last image's disk that lies beside the pack: a relative path, plain SHA-256, bytes |
//!
//! Each of `links`:
//!
//! | key | is |
//! | --- | --- |
//! | `tag` | its tag; no two are the same |
//! | `parent_tag` | the tag of the image before it; absent in the first |
//! | `parent_content_hash` | the `digest` of that image's memory; absent in the first |
//! | `files` | its files, in the order of the tar |
//! | `tine` | `id`, `description`, `source`, `base`, `created_at`, and `contract`: what a host must offer, see [`tine_model::Contract`] |
//!
//! Each of `files`: `path`, its name without the tag; `size`, with holes; for `vmstate` and `snapshot.json` `sha256`, plain;
//! for memory and disk `digest`, that of [`tine_digest`] over the whole content, `stored`, the bytes of it in the tar, and
//! `delta = true` where a hole is what the image before has.
//!
//! Unknown keys are passed over. Texts have at most 4096 bytes and no control characters but tab and newline. The last line
//! is `# sha256 ` and 64 digits `0-9a-f`: plain SHA-256 of every byte before it. It finds damage; the signature is against
//! forgery.
//!
//! ## The same every time
//! The bytes depend on the images, the words of the manifest and its time, and on the version of zstd, but not on the
//! number of threads.
//!
//! # The first and the second layout
//! As others define them, written as two frames: the manifest in blocks that are not compressed, so that it can be
//! written last, and all else in one. What Tine knows of an image lies in tables `[tine]` and `[chain.tine]`, and the manifest ends
//! in the same closing line, which others take for a comment. In the second layout the memory of later images is always
//! whole; in one that others made a sparse member there is what differs from the image before.
#![forbid(unsafe_code)]

mod crew;
mod error;
mod flowing;
pub mod frames;
mod manifest;
pub mod outline;
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
pub use read::{Begin, Limits, LinkSums, Receiver, Reused, Unpacked, manifest_of, read};
pub use write::{Facts, Sign, Source, SourceFile, SourceLink, Written, write, write_with};

/// Plain SHA-256 of what is in memory.
fn plain_digest(bytes: &[u8]) -> tine_model::Sha256Digest {
    use sha2::Digest;
    tine_model::Sha256Digest(sha2::Sha256::digest(bytes).into())
}
