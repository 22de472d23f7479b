//! What host and guest say to each other, and how it lies in a frame: a byte for the kind, then either JSON or, for
//! what is frequent, a channel, a stream and bytes.
//!
//! A session begins with the host's `Hello` and a nonce; what either side has of an earlier one it forgets: the host
//! takes nothing until its nonce comes back. Both sides take what they receive for an attacker's.
//!
//! The host always reads, also what it will drop: a guest with too much to say stops listening until it is rid of it.

mod guest;
mod host;
mod identity;
mod wire;

pub use guest::{GuestControl, GuestMessage, GuestText, Phase, Refused};
pub use host::{ExecOrder, HostControl, HostMessage, MAX_ORDER, Order, OrderPart, Stream};
pub use identity::{Entropy, Identity, MacAddress, MachineId, NetworkIdentity};
pub use wire::{Credit, Data, Eof};

/// The version of this protocol. A guest lives on from the image it was baked into, so a host may meet an older one.
pub const PROTOCOL: u32 = 1;
/// The name of the virtio-serial port that is the link.
pub const PORT: &str = "tine.agent";
/// The most data one message carries, in bytes.
pub const MAX_DATA: usize = 32 << 10;
/// At most so many channels are open at a time.
pub const MAX_CHANNELS: usize = 256;

/// The streams of a channel; with a terminal only the first two.
pub mod stream {
    /// What the program reads, or a tar that is extracted.
    pub const INPUT: u8 = 0;
    /// What the program writes, or a tar that is made.
    pub const OUTPUT: u8 = 1;
    /// What the program writes to its standard error.
    pub const ERROR: u8 = 2;
}

#[cfg(test)]
mod tests;
