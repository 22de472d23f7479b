//! The vocabulary of Tine: names, sizes, models, requests, error codes and the `Service` trait.
//!
//! Owns every type that crosses a layer. Does no I/O and reads no environment.
#![forbid(unsafe_code)]

mod bases;
mod boxes;
mod bytesize;
mod diff;
mod digest;
mod error;
mod exec;
mod hub;
mod images;
mod names;
mod packs;
mod pool;
mod rawpath;
mod recipes;
mod reporter;
mod service;
mod snapshots;
mod timestamp;
mod transfers;
mod volumes;

pub use bases::*;
pub use boxes::*;
pub use bytesize::ByteSize;
pub use diff::*;
pub use digest::Sha256Digest;
pub use error::{Error, ErrorBody, ErrorCode, ErrorFields, Result};
pub use exec::*;
pub use hub::*;
pub use images::*;
pub use names::*;
pub use packs::*;
pub use pool::*;
pub use rawpath::RawPath;
pub use recipes::*;
pub use reporter::{Muted, Reporter, Silent};
pub use service::Service;
pub use snapshots::*;
pub use timestamp::Timestamp;
pub use transfers::*;
pub use volumes::*;
