//! Whether a registry is the hub's, and its present one.
//!
//! A signature alone says who wrote a registry, and not when. The serial may not go back, the expiry may not have
//! passed, and a hub that was signed once stays signed: what was seen of it before decides, and is kept only when
//! all is well.

use super::{
    check::{Verdict, check_signature},
    keys::KeyStore,
    seen::{SeenRegistry, SeenStore},
    signature::VerifiedBy,
};
use crate::{
    error::{HubError, Result},
    location::HubUrl,
    registry::{Freshness, Registry},
};
use sha2::{Digest, Sha256};
use tine_model::{Sha256Digest, Timestamp, TrustPolicy};

/// What a registry is checked against.
#[derive(Debug, Clone, Copy)]
pub struct RegistryCheck<'a> {
    /// What is asked of this hub.
    pub policy: TrustPolicy,
    /// Whose signatures count.
    pub keys: &'a KeyStore,
    /// What was seen before; what is seen now is added.
    pub seen: &'a SeenStore,
    /// Which hub it is.
    pub hub: &'a HubUrl,
    /// The present moment.
    pub now: Timestamp,
}

/// A registry that may be used.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedRegistry {
    /// The registry.
    pub registry: Registry,
    /// Who has signed it.
    pub verdict: Verdict,
    /// Sentences to show.
    pub warnings: Vec<String>,
}

impl RegistryCheck<'_> {
    /// Takes or refuses the registry in `bytes`, whose signature is the content of `registry.json.minisig` beside
    /// it, none when there is no such file.
    ///
    /// # Errors
    /// Those of [`Registry::parse`] and [`check_signature`]; `untrusted` for a serial lower than one seen (rollback),
    /// for a passed expiry under `require` or where the hub was seen signed (freeze), and under `require` and `warn`
    /// for a hub that was seen signed by a trusted key and is not now (stripped signature).
    pub fn check(&self, bytes: &[u8], signature: Option<&str>) -> Result<CheckedRegistry> {
        let registry = Registry::parse(bytes)?;
        if self.policy == TrustPolicy::Off {
            return Ok(CheckedRegistry { registry, verdict: Verdict::Unchecked, warnings: Vec::new() });
        }
        let before = self.seen.registry(self.hub)?;
        if signature.is_none()
            && let Some(before) = &before
        {
            return Err(self.stripped(before, "is not signed now"));
        }
        let what = format!("the registry {}", self.hub);
        let verdict = check_signature(self.policy, self.keys, &what, signature, bytes)?;
        let warnings = match (&verdict, &before) {
            (Verdict::Signed(by), before) => self.signed(by, &registry, before.as_ref(), digest(bytes))?,
            (_, Some(before)) => return Err(self.stripped(before, verdict.warning().unwrap_or_default())),
            (_, None) => self.unsigned(&registry, &verdict),
        };
        Ok(CheckedRegistry { registry, verdict, warnings })
    }

    fn stripped(&self, before: &SeenRegistry, now: &str) -> HubError {
        HubError::untrusted(format!(
            "stripped signature: the registry {} was signed by the trusted key {} before: {now}",
            self.hub, before.key_id
        ))
    }

    fn unsigned(&self, registry: &Registry, verdict: &Verdict) -> Vec<String> {
        let expired = registry.freshness().filter(|f| f.expires_at < self.now).map(|f| self.expired(f));
        verdict.warning().map(str::to_owned).into_iter().chain(expired).collect()
    }

    fn signed(
        &self,
        by: &VerifiedBy,
        registry: &Registry,
        before: Option<&SeenRegistry>,
        sha256: Sha256Digest,
    ) -> Result<Vec<String>> {
        let taken = |serial| SeenRegistry { serial, sha256, key_id: by.key_id };
        let Some(freshness) = registry.freshness() else {
            self.check_serial(None, sha256, before)?;
            self.seen.record_registry(self.hub, taken(None))?;
            let warning =
                format!("the registry {} is signed, but says neither its serial nor its expiry", self.hub);
            return Ok(vec![warning]);
        };
        if freshness.signed_by != by.key_id {
            return Err(HubError::untrusted(format!(
                "the registry {} says that the key {} signs it, and {} did",
                self.hub, freshness.signed_by, by.key_id
            )));
        }
        self.check_serial(Some(freshness.serial), sha256, before)?;
        if freshness.expires_at < self.now {
            // a stale one teaches nothing: neither that it is the newest nor that its hub is well kept
            return self.stale(freshness, before);
        }
        self.seen.record_registry(self.hub, taken(Some(freshness.serial)))?;
        Ok(Vec::new())
    }

    fn check_serial(
        &self,
        serial: Option<u64>,
        sha256: Sha256Digest,
        before: Option<&SeenRegistry>,
    ) -> Result<()> {
        let Some(SeenRegistry { serial: Some(seen), sha256: seen_sha256, .. }) = before else {
            return Ok(());
        };
        let refuse =
            |why: String| Err(HubError::untrusted(format!("rollback: the registry {} {why}", self.hub)));
        match serial {
            None => refuse(format!("had serial {seen} when it was last read and has none now")),
            Some(now) if now < *seen => {
                refuse(format!("had serial {seen} when it was last read and has {now} now"))
            }
            Some(now) if now == *seen && sha256 != *seen_sha256 => {
                refuse(format!("has another content than when it was last read, with the same serial {now}"))
            }
            Some(_) => Ok(()),
        }
    }

    fn stale(&self, freshness: &Freshness, before: Option<&SeenRegistry>) -> Result<Vec<String>> {
        let expired = self.expired(freshness);
        let refused = self.policy == TrustPolicy::Require || before.is_some();
        if refused { Err(HubError::untrusted(expired)) } else { Ok(vec![expired]) }
    }

    fn expired(&self, freshness: &Freshness) -> String {
        format!(
            "freeze: the registry {} expired at {}: a newer one may be held back, or its keeper has not renewed it",
            self.hub, freshness.expires_at
        )
    }
}

fn digest(bytes: &[u8]) -> Sha256Digest {
    Sha256Digest(Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests;
