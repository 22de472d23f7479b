//! Safe wrappers over the Linux interfaces Tine uses.
//!
//! The only crate with `unsafe` code. An errno becomes meaning at the bottom: every error carries the operation
//! and the object it was done to. Never prints, never reads the environment.

pub mod btrfs;
pub mod commit;
pub mod error;
pub mod extents;
pub mod fdpass;
pub mod guest;
pub mod inode;
pub mod interface;
pub mod lock;
pub mod loopdev;
pub mod memory;
pub mod mountpoint;
pub mod namespace;
pub mod open_listener;
pub mod pages;
pub mod process;
pub mod reflink;
pub mod reserve;
pub mod tap;
pub mod terminal;
pub mod tree;

pub use error::{SysError, SysResult};
