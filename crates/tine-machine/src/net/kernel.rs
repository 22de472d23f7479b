//! The conversations with the kernel about the host's network, opened together.
//!
//! Decides nothing.

use super::{dial::Dial, error::NetError, nftables_link::Ruleset};

/// Both conversations, about one network namespace.
#[derive(Debug)]
pub struct Kernel {
    /// About devices, addresses and routes.
    pub dial: Dial,
    /// About the firewall.
    pub ruleset: Ruleset,
}

impl Kernel {
    /// Opens both about the calling thread's network namespace.
    pub fn open() -> Result<Self, NetError> {
        Ok(Self { dial: Dial::open()?, ruleset: Ruleset::open()? })
    }
}
