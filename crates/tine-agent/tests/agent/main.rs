//! The agent's loop as an ordinary process, spoken with over a socket pair as a host does over the link; and the whole
//! agent as the first process of a machine.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod boot;
mod channels;
mod copies;
mod host;
mod machine;
mod sessions;
