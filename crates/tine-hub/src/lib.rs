//! Hubs: the registry document, the folder or bucket that serves it, signing keys, and what is trusted.
//!
//! Does no network I/O: callers hand it bytes and get bytes. Everything read from a registry or a signature is
//! taken for an attacker's: sizes are bounded before anything is parsed, and names and locations are types. Never
//! opens a pack; what it says about one is its size and digest.
#![forbid(unsafe_code)]

mod durable;
mod error;
mod folder;
mod location;
mod registry;
mod trust;

pub use error::HubError;
pub use folder::{
    Content, Hub, HubConfig, HubFolder, HubProblem, HubReport, HubStorage, LocalStorage, NewPack, Over,
    PackFacts, Published, Publisher, SETTINGS, Small, StoredFile, content_of, is_hub_file,
};
pub use location::HubUrl;
pub use registry::{
    Added, Freshness, Listing, PackExtras, Package, Registry, Resolved, SidecarEntry, VersionEntry,
};
pub use trust::{
    CheckedRegistry, KeyStore, PackTraits, PolicyStore, RegistryCheck, SeenStore, Signer, Verdict,
    VerifiedBy, check_signature,
};
