//! A signed hub, as its readers see it.

use crate::support::{Case, NOW, code, package, publisher_at};
use std::fs;
use tine_hub::{
    CheckedRegistry, HubError, HubFolder, HubUrl, KeyStore, Publisher, RegistryCheck, SeenStore, Verdict,
};
use tine_model::{ErrorCode, KeyRef, Timestamp, TrustPolicy};

/// A user of the hub who trusts its key.
struct Reader {
    keys: KeyStore,
    seen: SeenStore,
    hub: HubUrl,
}

impl Reader {
    fn new(case: &Case) -> Self {
        let keys = KeyStore::new(case.dir.path().join("reader"));
        let key = case.keys.list().unwrap().remove(0);
        keys.trust(&key.name, &key.public_key).unwrap();
        let seen = SeenStore::new(case.dir.path().join("seen"));
        Self { keys, seen, hub: "https://hub".parse().unwrap() }
    }

    fn check(
        &self,
        (registry, signature): &(Vec<u8>, Option<String>),
        days: i64,
    ) -> Result<CheckedRegistry, HubError> {
        let now = Timestamp::from_second(NOW + days * 86_400);
        let (policy, keys, seen, hub) = (TrustPolicy::Require, &self.keys, &self.seen, &self.hub);
        RegistryCheck { policy, keys, seen, hub, now }.check(registry, signature.as_deref())
    }
}

/// The two files as a web server would serve them.
fn served(case: &Case) -> (Vec<u8>, Option<String>) {
    let file = |name: &str| case.hub_dir().join(name);
    (fs::read(file("registry.json")).unwrap(), fs::read_to_string(file("registry.json.minisig")).ok())
}

#[test]
fn every_change_is_signed_with_the_next_serial_and_expires() {
    let case = Case::new();
    let hub = case.init_signed();
    let reader = Reader::new(&case);
    for (serial, content) in [(2, "one"), (3, "two")] {
        case.add(&hub, &format!("v{serial}"), content).unwrap();
        let checked = reader.check(&served(&case), 29).unwrap();
        assert!(checked.warnings.is_empty() && matches!(checked.verdict, Verdict::Signed(_)));
        assert_eq!(checked.registry.freshness().unwrap().serial, serial);
    }
    hub.remove(&package(), None, &case.publisher()).unwrap();
    assert_eq!(reader.check(&served(&case), 0).unwrap().registry.freshness().unwrap().serial, 4);
    assert_eq!(code(reader.check(&served(&case), 31)), ErrorCode::Untrusted);
    assert!(!hub.verify(Some(&case.keys), publisher_at(&case.keys, 31).now).unwrap().is_sound());
    hub.renew(&publisher_at(&case.keys, 20)).unwrap();
    reader.check(&served(&case), 45).unwrap();
    assert!(hub.verify(Some(&case.keys), publisher_at(&case.keys, 31).now).unwrap().is_sound());
}

#[test]
fn a_reader_between_two_files_finds_the_signature_of_either_registry() {
    let case = Case::new();
    let hub = case.init_signed();
    let reader = Reader::new(&case);
    let (old_registry, _) = served(&case);
    case.add(&hub, "v1", "one").unwrap();
    let (new_registry, signatures) = served(&case);
    assert_ne!(old_registry, new_registry);
    reader.check(&(old_registry.clone(), signatures.clone()), 0).unwrap();
    reader.check(&(new_registry, signatures.clone()), 0).unwrap();
    let error = reader.check(&(old_registry, signatures), 0).unwrap_err().to_string();
    assert!(error.contains("rollback"), "{error}");
}

#[test]
fn without_its_key_a_signed_hub_changes_nothing() {
    let case = Case::new();
    let hub = case.init_signed();
    case.add(&hub, "v1", "one").unwrap();
    let before = (case.files(), served(&case));
    let none = Publisher { keys: None, ..case.publisher() };
    let file = case.file("p.tar.zst", "two");
    assert_eq!(code(crate::support::add(&hub, &file, "v2", &none)), ErrorCode::NotFound);
    case.keys.revoke(&KeyRef::Name("hub".parse().unwrap())).unwrap();
    assert_eq!(code(case.add(&hub, "v2", "two")), ErrorCode::Untrusted);
    assert_eq!(code(hub.remove(&package(), None, &case.publisher())), ErrorCode::Untrusted);
    assert_eq!((case.files(), served(&case)), before);
}

#[test]
fn a_hub_that_is_signed_no_more_is_refused_by_who_has_seen_it_signed() {
    let case = Case::new();
    let hub = case.init_signed();
    let reader = Reader::new(&case);
    reader.check(&served(&case), 0).unwrap();
    hub.set_signing_key(None, &case.publisher()).unwrap();
    let unsigned = served(&case);
    assert!(unsigned.1.is_none() && hub.registry().unwrap().freshness().is_none());
    let error = reader.check(&unsigned, 0).unwrap_err().to_string();
    assert!(error.contains("stripped signature"), "{error}");
}

#[test]
fn a_hub_may_become_signed() {
    let case = Case::new();
    let hub = case.init();
    case.add(&hub, "v1", "one").unwrap();
    hub.set_signing_key(Some(case.key()), &case.publisher()).unwrap();
    Reader::new(&case).check(&served(&case), 0).unwrap();
    assert!(
        HubFolder::open(&case.hub_dir())
            .unwrap()
            .verify(Some(&case.keys), case.publisher().now)
            .unwrap()
            .is_sound()
    );
}

#[test]
fn verify_tells_of_a_signature_that_is_gone_or_wrong() {
    let case = Case::new();
    let hub = case.init_signed();
    let problems = || hub.verify(Some(&case.keys), case.publisher().now).unwrap().problems;
    assert!(problems().is_empty());
    let registry = case.hub_dir().join("registry.json");
    fs::write(&registry, fs::read_to_string(&registry).unwrap() + " ").unwrap();
    assert!(problems()[0].why.contains("does not verify"));
    fs::remove_file(case.hub_dir().join("registry.json.minisig")).unwrap();
    assert!(problems()[0].why.contains("not there"));
}
