//! Rollback, freeze, stripped and strange signatures of registries.

use super::*;
use tine_model::{ErrorCode, KeyName, KeyRef};

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

/// A hub that publishes, and a user who reads it.
struct Case {
    _dir: tempfile::TempDir,
    publisher: KeyStore,
    keys: KeyStore,
    seen: SeenStore,
    hub: HubUrl,
    name: KeyName,
}

impl Case {
    /// Whose key the user trusts.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = |name: &str| KeyStore::new(dir.path().join(name));
        let (publisher, keys, seen) =
            (store("publisher"), store("keys"), SeenStore::new(dir.path().join("seen")));
        let name: KeyName = "hub".parse().unwrap();
        let public = publisher.generate(&name, None).unwrap().public_key;
        keys.trust(&name, &public).unwrap();
        Self { _dir: dir, publisher, keys, seen, hub: "https://hub".parse().unwrap(), name }
    }

    /// A registry with a serial, signed by the hub's key, that expires so many days from now.
    fn publish(&self, serial: u64, days: i64) -> (Vec<u8>, String) {
        self.publish_by(&self.name, serial, days)
    }

    fn publish_by(&self, name: &KeyName, serial: u64, days: i64) -> (Vec<u8>, String) {
        let signer = self.publisher.unlock(name, None).unwrap();
        let mut registry = Registry::empty();
        let expires_at = Timestamp::from_second(NOW + days * DAY);
        registry.set_freshness(Some(Freshness::new(serial, expires_at, signer.key_id())));
        let bytes = registry.to_bytes().unwrap();
        let signature = signer.sign(&bytes, "").unwrap();
        (bytes, signature)
    }

    fn read(&self, policy: TrustPolicy, (bytes, signature): &(Vec<u8>, String)) -> Result<CheckedRegistry> {
        self.read_with(policy, bytes, Some(signature))
    }

    fn read_with(
        &self,
        policy: TrustPolicy,
        bytes: &[u8],
        signature: Option<&str>,
    ) -> Result<CheckedRegistry> {
        let now = Timestamp::from_second(NOW);
        RegistryCheck { policy, keys: &self.keys, seen: &self.seen, hub: &self.hub, now }
            .check(bytes, signature)
    }

    fn refuses(&self, policy: TrustPolicy, registry: &(Vec<u8>, String), word: &str) {
        let error: tine_model::Error = self.read(policy, registry).unwrap_err().into();
        assert!(error.code == ErrorCode::Untrusted && error.message.contains(word), "{error}");
    }
}

use TrustPolicy::{Off, Require, Warn};

#[test]
fn a_signed_registry_is_taken_and_may_be_read_again_and_go_on() {
    let case = Case::new();
    for serial in [7, 7, 8, 20] {
        let checked = case.read(Require, &case.publish(serial, 1)).unwrap();
        assert!(checked.verdict.is_signed() && checked.warnings.is_empty());
    }
}

#[test]
fn a_rollback_is_refused() {
    let case = Case::new();
    let (old, new) = (case.publish(7, 1), case.publish(8, 1));
    case.read(Warn, &old).unwrap();
    case.read(Warn, &new).unwrap();
    case.refuses(Warn, &old, "rollback");
    case.refuses(Require, &old, "rollback");
    case.read(Off, &old).unwrap();
    case.read(Require, &new).unwrap();
}

#[test]
fn two_registries_with_one_serial_are_refused() {
    let case = Case::new();
    case.read(Warn, &case.publish(7, 1)).unwrap();
    case.refuses(Warn, &case.publish(7, 2), "same serial");
}

#[test]
fn a_signed_registry_that_has_lost_its_serial_is_a_rollback() {
    let case = Case::new();
    let bytes = Registry::empty().to_bytes().unwrap();
    let bare = (bytes.clone(), case.publisher.sign(&case.name, None, &bytes, "").unwrap());
    assert_eq!(case.read(Require, &bare).unwrap().warnings.len(), 1);
    case.read(Require, &case.publish(1, 1)).unwrap();
    case.refuses(Warn, &bare, "rollback");
}

#[test]
fn a_frozen_registry_is_refused_under_require_and_where_the_hub_was_seen_signed() {
    let case = Case::new();
    let stale = case.publish(7, -1);
    case.refuses(Require, &stale, "freeze");
    for _ in 0..2 {
        assert!(case.read(Warn, &stale).unwrap().warnings[0].contains("freeze"));
    }
    case.read(Warn, &case.publish(7, 1)).unwrap();
    case.refuses(Warn, &case.publish(9, -1), "freeze");
    case.read(Off, &stale).unwrap();
}

#[test]
fn a_stripped_signature_is_refused() {
    let case = Case::new();
    let unsigned = Registry::empty().to_bytes().unwrap();
    assert!(!case.read_with(Warn, &unsigned, None).unwrap().verdict.is_signed());
    case.read(Warn, &case.publish(7, 1)).unwrap();
    for (policy, signature) in [(Warn, None), (Require, None), (Warn, Some("<html>not found</html>"))] {
        let error = case.read_with(policy, &unsigned, signature).unwrap_err().to_string();
        assert!(error.contains("stripped signature"), "{error}");
    }
    case.read_with(Off, &unsigned, None).unwrap();
}

#[test]
fn a_strangers_signature_is_no_substitute() {
    let case = Case::new();
    let stranger: KeyName = "stranger".parse().unwrap();
    case.publisher.generate(&stranger, None).unwrap();
    let theirs = case.publish_by(&stranger, 99, 1);
    assert!(case.read(Warn, &theirs).unwrap().warnings[0].contains("not trusted"));
    case.read(Warn, &case.publish(7, 1)).unwrap();
    case.refuses(Warn, &theirs, "stripped signature");
    case.refuses(Require, &theirs, "not trusted");
    // nothing of theirs was kept: a serial of 99 would shut the real one out
    case.read(Warn, &case.publish(8, 1)).unwrap();
}

#[test]
fn another_trusted_key_may_take_over() {
    let case = Case::new();
    case.read(Require, &case.publish(7, 1)).unwrap();
    let next: KeyName = "next".parse().unwrap();
    let public = case.publisher.generate(&next, None).unwrap().public_key;
    case.keys.trust(&next, &public).unwrap();
    case.read(Require, &case.publish_by(&next, 8, 1)).unwrap();
    case.keys.revoke(&KeyRef::Name(case.name.clone())).unwrap();
    case.refuses(Warn, &case.publish(9, 1), "revoked");
    case.refuses(Require, &case.publish(9, 1), "revoked");
}

#[test]
fn a_changed_registry_is_refused_even_when_only_warned() {
    let case = Case::new();
    let (mut bytes, signature) = case.publish(7, 1);
    bytes.push(b' ');
    case.refuses(Warn, &(bytes, signature), "does not verify");
}

#[test]
fn the_key_named_inside_is_the_one_that_signs() {
    let case = Case::new();
    let next: KeyName = "next".parse().unwrap();
    let public = case.publisher.generate(&next, None).unwrap().public_key;
    case.keys.trust(&next, &public).unwrap();
    let (bytes, _) = case.publish(7, 1);
    let signature = case.publisher.sign(&next, None, &bytes, "").unwrap();
    case.refuses(Require, &(bytes, signature), "says that the key");
}

#[test]
fn an_unsigned_registry_that_says_it_expired_is_told_of() {
    let case = Case::new();
    let (bytes, _) = case.publish(7, -1);
    let warnings = case.read_with(Warn, &bytes, None).unwrap().warnings;
    assert!(warnings.len() == 2 && warnings[1].contains("freeze"), "{warnings:?}");
}
