//! Whose packs are taken: the keys of a pool, and what is asked of each hub.

use sha2::{Digest as _, Sha256};
use tine_hub::{HubUrl, KeyStore, PackTraits, PolicyStore, SeenStore, check_signature};
use tine_model::{Error, ErrorCode, PackageRef, Reporter, Result, Sha256Digest, TrustPolicy};
use tine_pack::Manifest;
use tine_store::Pool;

/// What a pack is checked against.
pub struct Trust {
    policy: TrustPolicy,
    keys: KeyStore,
    hub: Option<FromHub>,
    /// The digest that a registry names for the manifest.
    manifest: Option<Sha256Digest>,
}

/// The package that a pack is pulled as.
struct FromHub {
    seen: SeenStore,
    hub: HubUrl,
    package: PackageRef,
}

impl Trust {
    /// For a pack that comes from no hub.
    pub fn of_file(pool: &Pool) -> Result<Self> {
        Self::of_url(pool, "")
    }

    /// For a pack that lies at a URL.
    pub fn of_url(pool: &Pool, url: &str) -> Result<Self> {
        Ok(Self { policy: policies(pool).policy_for(url)?, keys: keys(pool), hub: None, manifest: None })
    }

    /// For a package of a hub.
    pub fn of_package(pool: &Pool, hub: &HubUrl, package: &PackageRef) -> Result<Self> {
        let from = FromHub { seen: seen(pool), hub: hub.clone(), package: package.clone() };
        Ok(Self { hub: Some(from), ..Self::of_url(pool, hub.registry())? })
    }

    /// Takes only packs with a manifest of this plain SHA-256, if one is named.
    pub fn of_manifest(self, sha256: Option<Sha256Digest>) -> Self {
        Self { manifest: sha256, ..self }
    }

    /// Refuses a pack with another digest than the version of the package had when it was first pulled.
    pub fn check_version(&self, sha256: Sha256Digest) -> Result<()> {
        let Some(from) = &self.hub else { return Ok(()) };
        Ok(from.seen.check_version(self.policy, &from.hub, &from.package, sha256)?)
    }

    /// Takes a manifest or refuses it, before anything else of the pack is read. Gives the name of the key that has
    /// signed it.
    pub fn check_manifest(
        &self,
        manifest: &Manifest,
        raw: &[u8],
        signature: Option<&str>,
        reporter: &dyn Reporter,
    ) -> Result<Option<String>> {
        let what = format!("the pack {}", manifest.tag);
        if self.manifest.is_some_and(|sha256| sha256 != plain_digest(raw)) {
            let message = format!("the manifest of {what} has another SHA-256 than the registry names");
            return Err(Error::new(ErrorCode::InvalidInput, message));
        }
        if signature.is_none() {
            // what it has become says more than that it is not signed
            self.compare(manifest, false)?;
        }
        let verdict = check_signature(self.policy, &self.keys, &what, signature, raw)?;
        if let Some(warning) = verdict.warning().filter(|_| signature.is_some() || self.hub.is_some()) {
            reporter.note(warning);
        }
        let complaints = self.compare(manifest, verdict.is_signed())?;
        complaints.iter().for_each(|complaint| reporter.note(complaint));
        match verdict {
            tine_hub::Verdict::Signed(by) => Ok(Some(by.name.to_string())),
            _ => Ok(None),
        }
    }

    /// What a pack has less than those of the same package had that were pulled before; refused where that is asked.
    fn compare(&self, manifest: &Manifest, signed: bool) -> Result<Vec<String>> {
        let Some(from) = &self.hub else { return Ok(Vec::new()) };
        let found = traits(manifest, signed);
        Ok(from.seen.check_pack(self.policy, &from.hub, &from.package.package, found)?)
    }
}

/// Plain SHA-256.
pub fn plain_digest(bytes: &[u8]) -> Sha256Digest {
    Sha256Digest(Sha256::digest(bytes).into())
}

/// What is remembered of a package's pack.
pub fn traits(manifest: &Manifest, signed: bool) -> PackTraits {
    PackTraits { layout: manifest.layout.number(), signed }
}

/// The signing keys of a pool.
pub fn keys(pool: &Pool) -> KeyStore {
    KeyStore::new(pool.trust_dir())
}

/// What a pool asks of each hub.
pub fn policies(pool: &Pool) -> PolicyStore {
    PolicyStore::new(pool.trust_dir())
}

/// What a pool has seen of hubs.
pub fn seen(pool: &Pool) -> SeenStore {
    SeenStore::new(pool.trust_dir().join("seen"))
}
