//! Saved machines as one verified file, and back.
//!
//! Knows layouts, never the store, the network or where files lie: callers give open files and streams.
#![forbid(unsafe_code)]

mod error;
pub mod frames;
pub mod pages;
pub mod sidecar;

pub use error::PackError;
