//! What can go wrong with a box's network, named for what a caller can do about it.

use std::{fmt::Display, io, net::Ipv4Addr};
use tine_model::{Error, ErrorCode, NetworkMode, PublishedPort};
use tine_sys::SysError;

/// An error of the network of boxes.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A published or host port was asked of a box that has no network of its own.
    #[error("publishing ports and allowing host ports need the network mode nat, not {mode}")]
    NeedsNat {
        /// The mode asked for.
        mode: NetworkMode,
    },
    /// A vm box was to share the host's network, which a machine of its own can't.
    #[error("a vm box has no host network")]
    VmOnHostNetwork,
    /// The kernel has no tap devices.
    #[error("no tap device for a vm box: {source}")]
    NoTap {
        /// What failed.
        source: SysError,
    },
    /// Something on the host listens on a port that was to be published.
    #[error("port {port} of the host is already in use")]
    PortTaken {
        /// The port.
        port: PublishedPort,
    },
    /// A port was to be published on an address the host does not have.
    #[error("port {port} cannot be published: the host does not have that address")]
    NoSuchAddress {
        /// The port.
        port: PublishedPort,
    },
    /// No subnet is left that does not overlap with an address or route of the host.
    #[error("no private subnet is free for the bridge of project {project}")]
    NoSubnet {
        /// The project.
        project: String,
    },
    /// Every address of a project's subnet is held by a running box.
    #[error("bridge {bridge} has no free address for another box (gateway {gateway})")]
    NoAddress {
        /// The bridge.
        bridge: String,
        /// Its own address.
        gateway: Ipv4Addr,
    },
    /// The nft program is not installed.
    #[error("the program nft is not installed")]
    NoNft,
    /// The nft program refused a change.
    #[error("nft failed to {doing}: {detail}")]
    Nft {
        /// What was being done.
        doing: &'static str,
        /// What it printed.
        detail: String,
    },
    /// The kernel refused an operation.
    #[error("cannot {doing} {object}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        object: String,
        /// The refusal.
        source: io::Error,
    },
}

impl NetError {
    /// Turns an I/O error into one that says what was being done to what; for `map_err`.
    pub(super) fn io(doing: &'static str, object: impl Display) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, object: object.to_string(), source }
    }
}

impl From<NetError> for Error {
    fn from(error: NetError) -> Self {
        let (code, hint) = match &error {
            NetError::NeedsNat { .. } => (ErrorCode::Usage, None),
            NetError::VmOnHostNetwork => {
                (ErrorCode::Usage, Some("--net nat, with --host-port PORT for what the host serves"))
            }
            NetError::NoTap { .. } => (ErrorCode::Unsupported, Some("modprobe tun")),
            NetError::PortTaken { .. } => (ErrorCode::AlreadyExists, Some("ss -lntup")),
            NetError::NoSuchAddress { .. } => (ErrorCode::InvalidInput, Some("ip -4 address")),
            NetError::NoSubnet { .. } => (ErrorCode::Unsupported, Some("ip -4 route")),
            NetError::NoAddress { .. } => (ErrorCode::TooLarge, None),
            NetError::NoNft => (ErrorCode::Unsupported, Some("apt-get install nftables")),
            NetError::Nft { .. } => (ErrorCode::ToolFailed, None),
            NetError::Io { source, .. } => (io_code(source), None),
        };
        let mapped = Self::new(code, error.to_string());
        match hint {
            Some(hint) => mapped.hint(hint),
            None => mapped,
        }
    }
}

fn io_code(source: &io::Error) -> ErrorCode {
    match source.kind() {
        io::ErrorKind::PermissionDenied => ErrorCode::Forbidden,
        _ => ErrorCode::Internal,
    }
}
