//! Moving bytes between this host and servers.
//!
//! Fetches and sends one file at a time: over HTTP, from object stores, from OCI registries, from local folders. Downloads go on
//! after any break, use parallel ranges where the server can, and can be read while they grow; uploads go on part by part
//! where the store can; small objects of a store are written only over what was read. Knows nothing of what the bytes mean.
//! Every server is taken for hostile: every answer is bounded, every redirect looked at, every length checked.
//!
//! The interface is blocking; an asynchronous runtime lives inside [`Remote`]. Reads no environment: what a caller wants
//! to be heeded of it is handed in with [`RemoteConfig`].
#![forbid(unsafe_code)]

mod authorities;
mod client;
mod config;
mod download;
mod error;
mod journal;
mod location;
mod objects;
mod ranged;
mod ranges;
mod registry;
mod remote;
mod retry;
mod source;
mod upload;

pub use config::RemoteConfig;
pub use download::{Download, DownloadRequest, DownloadStats, Expected, Finished, GrowingReader};
pub use error::RemoteError;
pub use location::{Location, Scheme};
pub use objects::{Listed, ObjectTag, Over};
pub use ranged::Ranged;
pub use remote::{Head, Remote};
pub use upload::{Beside, UploadRequest, Uploaded};
