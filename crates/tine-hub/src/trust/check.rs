//! What a policy makes of a signature, or of none.

use super::keys::{Finding, KeyStore};
use crate::{
    error::{HubError, Result},
    trust::VerifiedBy,
};
use tine_model::TrustPolicy;

/// What is known after a signature was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A trusted key has signed it.
    Signed(VerifiedBy),
    /// No trusted key has, and the policy lets it pass.
    Unsigned {
        /// The sentence to show.
        warning: String,
    },
    /// The policy is not to look.
    Unchecked,
}

impl Verdict {
    /// True when a trusted key has signed it.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        matches!(self, Self::Signed(_))
    }

    /// The sentence to show, if there is one.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        match self {
            Self::Unsigned { warning } => Some(warning),
            Self::Signed(_) | Self::Unchecked => None,
        }
    }
}

/// Applies `policy` to the signature of `bytes`. `what` is what they are, as in `the pack python-numpy`.
///
/// # Errors
/// `untrusted`, each with its own sentence: under `require` for no signature, one that can't be read, one by an
/// unknown or a revoked key; under `require` and `warn` for one by a known key that does not verify.
pub fn check_signature(
    policy: TrustPolicy,
    keys: &KeyStore,
    what: &str,
    signature: Option<&str>,
    bytes: &[u8],
) -> Result<Verdict> {
    let require = match policy {
        TrustPolicy::Off => return Ok(Verdict::Unchecked),
        TrustPolicy::Warn => false,
        TrustPolicy::Require => true,
    };
    let Some(signature) = signature else {
        let message = format!("{what} is not signed");
        return if require {
            Err(HubError::untrusted(message))
        } else {
            Ok(Verdict::Unsigned { warning: message })
        };
    };
    match keys.examine(bytes, signature)? {
        Finding::Verified(by) => Ok(Verdict::Signed(by)),
        wrong @ Finding::Wrong(..) => Err(wrong.refusal(what)),
        other if require => Err(other.refusal(what)),
        other => Ok(Verdict::Unsigned { warning: other.reason(what) }),
    }
}
