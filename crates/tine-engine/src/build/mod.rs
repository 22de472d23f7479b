//! Building a Dockerfile with a container engine: which engine, with which words, and how its image becomes a root.
//!
//! The words are pure functions of the request; running them is short and boring.

mod engine;
mod words;

pub use engine::{Built, build};
