//! Writing packs and the registry of a hub, and signing it.

use super::{Hub, HubConfig, HubStorage, NewPack, Publisher, REGISTRY, SIGNATURE, storage::Content};
use crate::{
    error::{HubError, Result},
    registry::{Freshness, Registry, SidecarEntry, VersionEntry},
    trust::{MAX_SIGNATURES, Signer, split_signatures},
};
use std::path::{Path, PathBuf};
use tine_model::{KeyRef, Timestamp};

const DAY_SECONDS: i64 = 86_400;

/// The hub's signing key, ready; none when it is not signed. Asked for before anything is written.
pub(super) fn signer(config: &HubConfig, publisher: &Publisher<'_>) -> Result<Option<Signer>> {
    let Some(name) = &config.signing_key else { return Ok(None) };
    let absent = || HubError::NotFound {
        message: format!(
            "the registry of this hub is signed with the key {}, and no keys are here",
            KeyRef::Name(name.clone())
        ),
        hint: Some("tine key list".to_owned()),
    };
    publisher.keys.ok_or_else(absent)?.unlock(name, publisher.password).map(Some)
}

impl<S: HubStorage> Hub<S> {
    /// Puts the files of a pack into `folder`, and tells what the registry is to say of it.
    pub(super) fn put(
        &self,
        pack: &NewPack<'_>,
        folder: &str,
        names: &[String],
        config: &HubConfig,
        now: Timestamp,
    ) -> Result<VersionEntry> {
        let files = std::iter::once(pack.file).chain(pack.sidecars.iter().map(PathBuf::as_path));
        let put = |(name, file): (&String, &Path)| {
            let content = self.storage.put_file(&format!("{folder}/{name}"), file)?;
            Ok((name.clone(), content))
        };
        let mut contents: Vec<(String, Content)> = names.iter().zip(files).map(put).collect::<Result<_>>()?;
        let (name, content) = contents.remove(0);
        let mut entry = entry(pack, content, now);
        let name = format!("{folder}/{name}");
        entry.url = config.base_url.as_ref().map_or(name.clone(), |base| format!("{base}/{name}"));
        entry.set_extras(contents.into_iter().map(sidecar).collect(), pack.facts.manifest_sha256);
        Ok(entry)
    }

    /// Writes the registry, signed with the next serial where there is a key.
    pub(super) fn publish(
        &self,
        mut registry: Registry,
        config: &HubConfig,
        signer: Option<&Signer>,
        publisher: &Publisher<'_>,
    ) -> Result<()> {
        let Some(signer) = signer else {
            let was_signed = registry.freshness().is_some();
            registry.set_freshness(None);
            self.storage.write_atomic(REGISTRY, &registry.to_bytes()?)?;
            return if was_signed { self.storage.delete(SIGNATURE) } else { Ok(()) };
        };
        registry.set_freshness(Some(self.next(&registry, config, signer, publisher.now)?));
        let bytes = registry.to_bytes()?;
        let mut signatures = signer.sign(&bytes, &format!("registry.json of {}", publisher.now))?;
        signatures.push_str(&self.former_signature(publisher)?);
        self.storage.write_atomic(SIGNATURE, signatures.as_bytes())?;
        self.storage.write_atomic(REGISTRY, &bytes)
    }

    fn next(
        &self,
        registry: &Registry,
        config: &HubConfig,
        signer: &Signer,
        now: Timestamp,
    ) -> Result<Freshness> {
        let last = registry.freshness().map_or(0, |freshness| freshness.serial);
        let serial = last.checked_add(1).ok_or_else(|| self.corrupt(REGISTRY, "its serial can't rise"))?;
        let expires_at = now.as_second().saturating_add(i64::from(config.expiry_days) * DAY_SECONDS);
        Ok(Freshness::new(serial, Timestamp::from_second(expires_at), signer.key_id()))
    }

    /// The signature of the registry that is there now, empty when there is none.
    fn former_signature(&self, publisher: &Publisher<'_>) -> Result<String> {
        let (Some(bytes), Some(text)) = (
            self.storage.read(REGISTRY, Registry::MAX_BYTES)?,
            self.storage.read(SIGNATURE, MAX_SIGNATURES as u64)?,
        ) else {
            return Ok(String::new());
        };
        let text = String::from_utf8_lossy(&text);
        let verifies = |one: &String| publisher.keys.is_some_and(|keys| keys.verify(&bytes, one).is_ok());
        Ok(split_signatures(&text).into_iter().find(verifies).unwrap_or_default())
    }
}

fn entry(pack: &NewPack<'_>, content: Content, now: Timestamp) -> VersionEntry {
    VersionEntry {
        sha256: Some(content.sha256),
        size_bytes: Some(content.size_bytes),
        memory_mib: pack.facts.memory_mib,
        base_image: pack.facts.base_image.clone(),
        recipe_path: pack.facts.recipe_path.clone(),
        release_tag: pack.facts.release_tag.clone(),
        created_at: Some(now.to_string()),
        ..VersionEntry::default()
    }
}

fn sidecar((name, content): (String, Content)) -> SidecarEntry {
    SidecarEntry { name, size_bytes: content.size_bytes, sha256: content.sha256 }
}
