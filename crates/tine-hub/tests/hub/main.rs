//! Hubs in real directories.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that meets an error has failed")]

mod cancels;
mod folder;
mod interop;
mod kills;
mod races;
mod signed;
mod support;
mod unlocked;
