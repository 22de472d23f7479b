//! Real boxes: made, used, limited, stopped and lost.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod confine;
mod exec;
mod life;
mod support;
