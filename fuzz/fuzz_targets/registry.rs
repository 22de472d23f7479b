//! What a hub serves: a registry and its signature, of any bytes.
//!
//! A registry is refused, or written again it is the same. A signature never verifies other data than it is of.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::{os::unix::fs::PermissionsExt, sync::OnceLock};
use tine_hub::{KeyStore, Registry, check_signature};
use tine_model::TrustPolicy;

fuzz_target!(|bytes: &[u8]| {
    registry(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        signature(text);
    }
});

fn registry(bytes: &[u8]) {
    let Ok(registry) = Registry::parse(bytes) else { return };
    for (name, package) in registry.packages() {
        assert!(registry.resolve(name, None).is_ok());
        for (version, _) in package.versions() {
            assert!(registry.resolve(name, Some(version)).is_ok());
            assert!(registry.entry(name, version).is_some());
        }
        let next = registry.next_version(name);
        assert!(registry.entry(name, &next).is_none() || next.number() == Some(u64::MAX));
    }
    assert_eq!(registry.list().count(), registry.packages().count());
    assert_eq!(registry.search("").len(), registry.list().count());
    let Ok(again) = registry.to_bytes() else { return };
    let again = Registry::parse(&again).expect("it is ours");
    assert_eq!(again, registry);
}

fn signature(text: &str) {
    let whole = check_signature(TrustPolicy::Require, keys(), "this", Some(text), b"data");
    let never = check_signature(TrustPolicy::Require, keys(), "this", Some(text), b"never signed");
    assert!(never.is_err());
    if whole.is_ok() {
        // a second one behind it changes nothing, as long as both are no more than is read
        let twice = format!("{}\n{}\n", text.trim_end(), text.trim_end());
        let too_much = text.trim_end().lines().count() > 8 || twice.len() > 16 << 10;
        let verdict = check_signature(TrustPolicy::Require, keys(), "this", Some(&twice), b"data");
        assert!(verdict.is_ok() || too_much);
    }
}

/// A store with one key, which has signed the seeds.
fn keys() -> &'static KeyStore {
    static KEYS: OnceLock<KeyStore> = OnceLock::new();
    KEYS.get_or_init(|| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/keys");
        // a store that others may write is not believed
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).expect("it is ours");
        let keys = KeyStore::new(folder);
        assert_eq!(keys.list().expect("it can be read").len(), 1);
        keys
    })
}
