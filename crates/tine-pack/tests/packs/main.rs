//! Packs of every layout, as written here and by others, and every harm that can be done by one.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod damage;
mod foreign;
mod golden;
mod hostile;
mod manifests;
mod outlines;
mod properties;
mod round_trip;
mod support;
