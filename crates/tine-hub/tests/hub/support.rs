//! A directory with a hub, packs to publish in it, and keys.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tine_hub::{
    Hub, HubConfig, HubError, HubFolder, HubStorage, KeyStore, NewPack, PackFacts, Published, Publisher,
};
use tine_model::{ErrorCode, KeyName, PackageName, Timestamp, VersionName};

pub const NOW: i64 = 1_800_000_000;

pub struct Case {
    pub dir: TempDir,
    pub keys: KeyStore,
}

impl Case {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = KeyStore::new(dir.path().join("keys"));
        Self { dir, keys }
    }

    pub fn hub_dir(&self) -> PathBuf {
        self.dir.path().join("hub")
    }

    pub fn publisher(&self) -> Publisher<'_> {
        publisher_at(&self.keys, 0)
    }

    pub fn init(&self) -> HubFolder<'static> {
        HubFolder::init(&self.hub_dir(), HubConfig::default(), &self.publisher()).unwrap()
    }

    pub fn key(&self) -> KeyName {
        let name: KeyName = "hub".parse().unwrap();
        self.keys.generate(&name, None).unwrap();
        name
    }

    pub fn init_signed(&self) -> HubFolder<'static> {
        let config = HubConfig { signing_key: Some(self.key()), ..HubConfig::default() };
        HubFolder::init(&self.hub_dir(), config, &self.publisher()).unwrap()
    }

    /// A file of that name and content, outside the hub.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub fn add(&self, hub: &HubFolder<'_>, version: &str, content: &str) -> Result<Published, HubError> {
        add(hub, &self.file("p.tar.zst", content), version, &self.publisher())
    }

    /// Every file in the hub but its lock, in order.
    pub fn files(&self) -> Vec<String> {
        let mut all = Vec::new();
        collect(&self.hub_dir(), &self.hub_dir(), &mut all);
        all.sort();
        all
    }
}

fn collect(root: &Path, dir: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            assert!(fs::read_dir(&path).unwrap().next().is_some(), "{name} is an empty folder");
            collect(root, &path, all);
        } else if name != ".lock" {
            all.push(name);
        }
    }
}

/// One who publishes so many days later.
pub fn publisher_at(keys: &KeyStore, days: i64) -> Publisher<'_> {
    let now = Timestamp::from_second(NOW + days * 86_400);
    Publisher { keys: Some(keys), password: None, now, wait: Duration::from_secs(20) }
}

pub fn package() -> PackageName {
    "tine/numpy".parse().unwrap()
}

pub fn version(text: &str) -> VersionName {
    text.parse().unwrap()
}

pub fn add<S: HubStorage>(
    hub: &Hub<S>,
    file: &Path,
    version_name: &str,
    publisher: &Publisher<'_>,
) -> Result<Published, HubError> {
    let (package, version) = (package(), version(version_name));
    let facts = PackFacts::default();
    hub.add(&NewPack { file, sidecars: &[], package: &package, version: Some(&version), facts }, publisher)
}

pub fn code<T>(result: Result<T, HubError>) -> ErrorCode {
    match result {
        Ok(_) => panic!("it was taken"),
        Err(error) => tine_model::Error::from(error).code,
    }
}
