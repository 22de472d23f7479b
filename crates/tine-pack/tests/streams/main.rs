//! Streams of frames, stretches of sparse files, and sidecars, against the `zstd` program and real files.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that meets an error has failed")]

mod hostile;
mod pages;
mod reading;
mod sidecar;
mod support;
mod writing;
