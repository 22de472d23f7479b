//! zstd streams made of independent frames, written and read by all cores.
//!
//! A stream is a row of zstd frames (RFC 8878) of at most [`FRAME_MAX`] bytes of content each. Every frame has the
//! size of its content in its header and no checksum, and none needs another. A closing skippable frame holds the
//! table of them, as `contrib/seekable_format/zstd_seekable_compression_format.md` of zstd defines it, so that ranges
//! can be fetched and read alone; every zstd reader skips it.
//!
//! Knows nothing of what the content is.

mod buffers;
mod format;
mod read;
mod split;
mod spread;
mod table;
mod write;

pub use read::FrameReader;
pub use table::{FRAMES_MAX, Frame, SeekTable};
pub use write::{Compression, FrameStats, FrameWriter};

/// The most content of a frame that is written, and of one that is read by all cores: 4 MiB.
pub const FRAME_MAX: usize = 4 << 20;

/// The largest window a frame may ask its reader to keep: 8 MiB, which `zstd -19` uses.
pub const WINDOW_MAX: u64 = 8 << 20;

/// More threads than this are not worth their memory.
const THREADS_MAX: usize = 16;
