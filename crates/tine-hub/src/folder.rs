//! A hub kept in a folder or bucket that any web server can serve: `registry.json`, `packs/`, and its own settings.
//!
//! The registry is written last and in one step, so that it never names what is not there. A signed one is two
//! files that can't change in one step: the signature goes first and holds that of the former registry too, so that
//! whichever registry a reader gets, its signature is there. Never deletes a file it has not put there.
//!
//! A folder has a lock. What is about to be put or deleted is written down first (`pending.json`), and whoever takes
//! the lock next finishes it. A bucket has none: a registry is only written over the one that was read, and who was
//! slower begins anew ([`change`]); packs have names that no other pack gets ([`unlocked`]).

mod change;
mod local;
mod names;
mod publish;
mod report;
mod storage;
mod unlocked;

pub use local::{LocalStorage, content_of};
pub use names::is_file as is_hub_file;
pub use report::{HubProblem, HubReport};
pub use storage::{Content, HubStorage, Over, Small, StoredFile};

use change::Step;
use publish::enter;

use crate::{
    error::{HubError, Result},
    location::HubUrl,
    registry::{Added, Registry, VersionEntry},
    trust::KeyStore,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};
use tine_model::{KeyName, PackageName, Sha256Digest, Timestamp, VersionName};

const REGISTRY: &str = "registry.json";
const SIGNATURE: &str = "registry.json.minisig";
/// The file with a hub's own settings, which is there when the hub is.
pub const SETTINGS: &str = "hub.json";
const PENDING: &str = "pending.json";
const MAX_SMALL: u64 = 1 << 20;
const FORMAT: u32 = 1;

/// A hub on some storage.
#[derive(Debug)]
pub struct Hub<S> {
    storage: S,
}

/// A hub in a local directory.
pub type HubFolder<'r> = Hub<LocalStorage<'r>>;

/// `hub.json`.
#[derive(Debug, Serialize, Deserialize)]
struct StoredConfig {
    format: u32,
    #[serde(flatten)]
    config: HubConfig,
}

/// How a hub is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubConfig {
    /// Where the folder is served. The registry's URLs lead there; they are relative when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The key that signs the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<KeyName>,
    /// Days until a signed registry expires.
    pub expiry_days: u32,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self { base_url: None, signing_key: None, expiry_days: 30 }
    }
}

/// Who changes a hub, and when.
#[derive(Debug, Clone, Copy)]
pub struct Publisher<'a> {
    /// Where the hub's signing key is, if it has one.
    pub keys: Option<&'a KeyStore>,
    /// The password of that key.
    pub password: Option<&'a str>,
    /// The present moment.
    pub now: Timestamp,
    /// How long to wait for another one who changes the hub.
    pub wait: Duration,
}

/// What a publisher says of a pack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackFacts {
    /// One line about the package; the present one stays when none is given.
    pub description: Option<String>,
    /// MiB of guest memory.
    pub memory_mib: Option<u64>,
    /// What the image was made from.
    pub base_image: Option<String>,
    /// Where its recipe lies.
    pub recipe_path: Option<String>,
    /// The release it belongs to.
    pub release_tag: Option<String>,
    /// Plain SHA-256 of its manifest.
    pub manifest_sha256: Option<Sha256Digest>,
}

/// A pack to publish.
#[derive(Debug, Clone)]
pub struct NewPack<'a> {
    /// The pack's file; the hub keeps its name.
    pub file: &'a Path,
    /// Files that belong beside it.
    pub sidecars: &'a [PathBuf],
    /// The package.
    pub package: &'a PackageName,
    /// The version; the next `v<number>` when none is named.
    pub version: Option<&'a VersionName>,
    /// What is said of it.
    pub facts: PackFacts,
}

/// A pack that is at the hub.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Under which version.
    pub version: VersionName,
    /// Whether it was there before.
    pub added: Added,
    /// What the registry says of it.
    pub entry: VersionEntry,
}

impl HubFolder<'_> {
    /// Makes a hub in the directory `dir`, which is made where missing. A registry that lies there stays.
    ///
    /// # Errors
    /// As [`Hub::init_on`].
    pub fn init(dir: &Path, config: HubConfig, publisher: &Publisher<'_>) -> Result<Self> {
        Self::init_on(LocalStorage::create(dir)?, config, publisher)
    }

    /// The hub in the directory `dir`.
    ///
    /// # Errors
    /// `not_found` when there is none.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_on(LocalStorage::new(dir))
    }
}

impl<S: HubStorage> Hub<S> {
    /// Makes a hub on `storage`. A registry that lies there stays.
    ///
    /// # Errors
    /// `already_exists` when there is a hub; `usage` for a base URL that is none; those of the signing key.
    pub fn init_on(storage: S, config: HubConfig, publisher: &Publisher<'_>) -> Result<Self> {
        let config =
            HubConfig { base_url: config.base_url.map(|url| normal_base(&url)).transpose()?, ..config };
        let hub = Self { storage };
        let _lock = hub.storage.lock(publisher.wait)?;
        let taken = || HubError::AlreadyExists(format!("there is a hub in {}", hub.storage.place()));
        if hub.storage.read(SETTINGS, MAX_SMALL)?.is_some() {
            return Err(taken());
        }
        let there = hub.standing()?;
        if there.is_none() || config.signing_key.is_some() {
            let signer = publish::signer(&config, publisher)?;
            let (registry, stored) = there.map(|there| (there.registry, there.stored)).unzip();
            let registry = registry.unwrap_or_else(Registry::empty);
            hub.publish(registry, stored.as_ref(), &config, signer.as_ref(), publisher)?;
        }
        // the settings last: a hub is there when they are
        match hub.write_config(config, Over::Nothing) {
            Err(HubError::Conflict(_)) => Err(taken()),
            written => written.map(|()| hub),
        }
    }

    /// The hub on `storage`.
    ///
    /// # Errors
    /// `not_found` when there is none.
    pub fn open_on(storage: S) -> Result<Self> {
        let hub = Self { storage };
        hub.config().map(|_| hub)
    }

    /// Where it is kept.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// How it is kept.
    ///
    /// # Errors
    /// `not_found`, `corrupt`, `incompatible`.
    pub fn config(&self) -> Result<HubConfig> {
        let there = self.storage.read(SETTINGS, MAX_SMALL)?.ok_or_else(|| HubError::NotFound {
            message: format!("there is no hub in {}", self.storage.place()),
            hint: Some(format!("tine hub init {}", self.storage.place())),
        })?;
        let stored: StoredConfig =
            serde_json::from_slice(&there.bytes).map_err(|e| self.corrupt(SETTINGS, e))?;
        if stored.format == FORMAT {
            return Ok(stored.config);
        }
        Err(HubError::Incompatible(format!(
            "{SETTINGS} of the hub in {} has format {}",
            self.storage.place(),
            stored.format
        )))
    }

    /// What it offers.
    ///
    /// # Errors
    /// `corrupt` when it is not there, and those of [`Registry::parse`].
    pub fn registry(&self) -> Result<Registry> {
        let there = self.standing()?.ok_or_else(|| self.corrupt(REGISTRY, "it is not there"))?;
        Ok(there.registry)
    }

    /// Publishes a pack. Killed at any moment, the registry is as before or as after. Where there is a lock the next
    /// change of the hub clears the rest away; where there is none it stays, and [`Hub::verify`] tells of it.
    ///
    /// # Errors
    /// `already_exists` when the version is published with another digest; `usage` for the version `latest`, or a
    /// file name that is not safe in a URL; `not_found` and `unauthorized` for the signing key; `busy`.
    pub fn add(&self, pack: &NewPack<'_>, publisher: &Publisher<'_>) -> Result<Published> {
        let names = names::of_files(pack.file, pack.sidecars)?;
        match self.storage.lock(publisher.wait)? {
            Some(_lock) => self.add_locked(pack, &names, publisher),
            None => self.add_unlocked(pack, &names, publisher),
        }
    }

    fn add_locked(
        &self,
        pack: &NewPack<'_>,
        names: &[String],
        publisher: &Publisher<'_>,
    ) -> Result<Published> {
        self.settle()?;
        let config = self.config()?;
        let published = self.change(&config, publisher, |registry| {
            if let Some(there) = self.already_there(registry, pack, None)? {
                return Ok(Step::Keep(there));
            }
            let version = pack.version.cloned().unwrap_or_else(|| registry.next_version(pack.package));
            let folder = names::folder(pack.package, &version);
            self.write_pending(&names.iter().map(|name| format!("{folder}/{name}")).collect())?;
            let entry = self.put(pack, &folder, names, &config, publisher.now)?;
            enter(registry, pack, entry).map(Step::Publish)
        });
        self.finish(published)
    }

    /// Takes a version away, or the whole package when none is named, and its files.
    ///
    /// # Errors
    /// As [`Registry::remove`]; those of the signing key; `busy`.
    pub fn remove(
        &self,
        package: &PackageName,
        version: Option<&VersionName>,
        publisher: &Publisher<'_>,
    ) -> Result<()> {
        let lock = self.storage.lock(publisher.wait)?;
        let config = self.ready(lock.as_ref())?;
        let gone = self.change(&config, publisher, |registry| {
            let before = names::referenced(registry, &config);
            registry.remove(package, version).map_err(|error| self.look_at_list(error))?;
            let after = names::referenced(registry, &config);
            let gone: BTreeSet<String> = before.difference(&after).cloned().collect();
            if lock.is_some() {
                self.write_pending(&gone)?;
            }
            Ok(Step::Publish(gone))
        });
        match lock {
            Some(_) => self.finish(gone.map(drop)),
            None => gone?.iter().try_for_each(|name| self.storage.delete(name)),
        }
    }

    /// Hints at what the hub has, instead of at something to pull.
    fn look_at_list(&self, error: HubError) -> HubError {
        let hint = || Some(format!("tine hub list --hub {}", self.storage.place()));
        match error {
            HubError::NotFound { message, .. } => HubError::NotFound { message, hint: hint() },
            other => other,
        }
    }

    /// Signs the registry anew, so that it expires later.
    ///
    /// # Errors
    /// Those of the signing key; `busy`.
    pub fn renew(&self, publisher: &Publisher<'_>) -> Result<()> {
        let lock = self.storage.lock(publisher.wait)?;
        let config = self.ready(lock.as_ref())?;
        self.change(&config, publisher, |_| Ok(Step::Publish(())))
    }

    /// Sets which key signs the registry from now on, none for no key. Who has seen a hub signed refuses it when it
    /// is not any more.
    ///
    /// # Errors
    /// Those of the signing key; `busy`.
    pub fn set_signing_key(&self, key: Option<KeyName>, publisher: &Publisher<'_>) -> Result<()> {
        let lock = self.storage.lock(publisher.wait)?;
        let config = HubConfig { signing_key: key, ..self.ready(lock.as_ref())? };
        // asked for before anything is written
        publish::signer(&config, publisher)?;
        self.write_config(config.clone(), Over::Anything)?;
        self.change(&config, publisher, |_| Ok(Step::Publish(())))
    }

    /// Clears away what a killed one left where that has had the lock, and reads how the hub is kept.
    fn ready(&self, lock: Option<&S::Lock>) -> Result<HubConfig> {
        lock.map_or(Ok(()), |_| self.settle())?;
        self.config()
    }

    /// What a file outside the hub holds.
    fn content_of(&self, file: &Path) -> Result<Content> {
        local::content_of(file, &|| self.storage.is_cancelled())
    }

    /// The version that holds this very pack, when it is the one that was asked for; another pack under that
    /// version is refused. `sha256` is the pack's where it is known.
    fn already_there(
        &self,
        registry: &Registry,
        pack: &NewPack<'_>,
        sha256: Option<Sha256Digest>,
    ) -> Result<Option<Published>> {
        let there = registry.resolve(pack.package, pack.version).ok();
        // a new package is read once only, while it is put
        let sha256 = match (&there, sha256) {
            (Some(_), None) => Some(self.content_of(pack.file)?.sha256),
            (_, known) => known,
        };
        if let Some(version) = pack.version {
            registry.admit(pack.package, version, sha256)?;
        }
        let same = there.filter(|found| sha256.is_some() && found.entry.sha256 == sha256);
        let Some((version, entry)) = same.and_then(|found| Some((found.version?, found.entry))) else {
            return Ok(None);
        };
        Ok(Some(Published { version: version.clone(), added: Added::Unchanged, entry: entry.clone() }))
    }

    /// Ends a change: what it has put and the registry does not name goes, and what it was to delete goes. After a
    /// failure the error stays the answer.
    fn finish<T>(&self, done: Result<T>) -> Result<T> {
        let settled = self.settle();
        let done = done?;
        settled.map(|()| done)
    }

    /// Deletes what the last change wrote down and the registry does not name.
    fn settle(&self) -> Result<()> {
        let Some(there) = self.storage.read(PENDING, MAX_SMALL)? else { return Ok(()) };
        let pending: Vec<String> =
            serde_json::from_slice(&there.bytes).map_err(|e| self.corrupt(PENDING, e))?;
        let registry = self.standing()?.map_or_else(Registry::empty, |there| there.registry);
        let referenced = names::referenced(&registry, &self.config()?);
        let mut garbage =
            pending.iter().filter(|name| names::is_pack_file(name) && !referenced.contains(*name));
        garbage.try_for_each(|name| self.storage.delete(name))?;
        self.storage.delete(PENDING)
    }

    fn write_config(&self, config: HubConfig, over: Over<'_, S::Tag>) -> Result<()> {
        self.write_json(SETTINGS, &StoredConfig { format: FORMAT, config }, over)
    }

    fn write_pending(&self, files: &BTreeSet<String>) -> Result<()> {
        self.write_json(PENDING, files, Over::Anything)
    }

    fn write_json<T: Serialize>(&self, name: &str, document: &T, over: Over<'_, S::Tag>) -> Result<()> {
        let mut bytes = serde_json::to_vec_pretty(document).map_err(|e| self.corrupt(name, e))?;
        bytes.push(b'\n');
        if bytes.len() as u64 > MAX_SMALL {
            return Err(HubError::TooLarge(format!("{name} of {} would be too long", self.storage.place())));
        }
        self.storage.write(name, &bytes, over)
    }

    fn corrupt(&self, name: &str, problem: impl ToString) -> HubError {
        HubError::corrupt(format!("{name} of the hub in {}", self.storage.place()), problem)
    }
}

/// The folder's URL without a closing slash.
fn normal_base(url: &str) -> Result<String> {
    let hub: HubUrl = url.parse()?;
    let registry = hub.registry();
    let folder = registry.strip_suffix("/registry.json");
    let other = || HubError::Usage(format!("{registry} is no URL of a folder"));
    folder.map(str::to_owned).ok_or_else(other)
}
