//! The guest of a microVM: what is spoken over its link, how programs are started in it, and its agent.
//!
//! The host uses the protocol ([`frame`], [`message`], [`window`]); containers share how a program is started
//! ([`launch`]) and how a process is described ([`processes`]). [`agent`] is what the guest's first process runs. Never
//! prints, never reads the environment.
#![forbid(unsafe_code)]

pub mod agent;
mod error;
pub mod frame;
pub mod launch;
pub mod message;
pub mod processes;
pub mod window;

pub use error::{AgentError, AgentResult};
