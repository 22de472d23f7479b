//! Archives in and out of real directories.
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod architecture;
mod hostile;
mod roundtrip;
mod support;
