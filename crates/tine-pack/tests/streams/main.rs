//! Streams of frames, stretches of sparse files, and sidecars, against the `zstd` program and real files.

mod hostile;
mod pages;
mod reading;
mod sidecar;
mod support;
mod writing;
