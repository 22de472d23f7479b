//! Whom a user trusts: signing keys, what is asked of a hub, and what was seen of it before.
//!
//! All of it lies in directories that the caller names. Nothing here looks inside a pack; the caller says what it
//! found there.

mod check;
mod document;
mod freshness;
mod keys;
mod policy;
mod seen;
mod signature;

pub use check::{Verdict, check_signature};
pub use freshness::{CheckedRegistry, RegistryCheck};
pub use keys::{KeyStore, Signer};
pub use policy::PolicyStore;
pub use seen::{PackTraits, SeenStore};
pub use signature::VerifiedBy;
pub(crate) use signature::{MAX_TEXT as MAX_SIGNATURES, MOST as MOST_SIGNATURES, split as split_signatures};
