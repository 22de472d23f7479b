//! Swapped packages, downgraded layouts and stripped signatures of packs.

use super::*;
use tine_model::ErrorCode;

const SIGNED_V3: PackTraits = PackTraits { layout: 3, signed: true };

fn store() -> (tempfile::TempDir, SeenStore, HubUrl) {
    let dir = tempfile::tempdir().unwrap();
    let seen = SeenStore::new(dir.path().join("seen"));
    (dir, seen, "https://hub".parse().unwrap())
}

fn version(text: &str) -> PackageRef {
    text.parse().unwrap()
}

fn digest(seed: u8) -> Sha256Digest {
    Sha256Digest([seed; 32])
}

fn refused(result: Result<impl std::fmt::Debug>) -> String {
    let error: tine_model::Error = result.unwrap_err().into();
    assert_eq!(error.code, ErrorCode::Untrusted);
    error.message
}

#[test]
fn a_swapped_package_is_refused() {
    let (_dir, seen, hub) = store();
    let v1 = version("a/b@v1");
    seen.check_version(TrustPolicy::Warn, &hub, &v1, digest(1)).unwrap();
    seen.record_pack(&hub, &v1, digest(1), SIGNED_V3).unwrap();
    for policy in [TrustPolicy::Warn, TrustPolicy::Require] {
        seen.check_version(policy, &hub, &v1, digest(1)).unwrap();
        assert!(refused(seen.check_version(policy, &hub, &v1, digest(2))).contains("swapped package"));
    }
    seen.check_version(TrustPolicy::Off, &hub, &v1, digest(2)).unwrap();
    // what was pulled against the advice does not take the place of what was first seen
    seen.record_pack(&hub, &v1, digest(2), SIGNED_V3).unwrap();
    assert!(seen.check_version(TrustPolicy::Warn, &hub, &v1, digest(2)).is_err());
    let other = "https://other".parse().unwrap();
    seen.check_version(TrustPolicy::Require, &other, &v1, digest(2)).unwrap();
}

#[test]
fn latest_may_move() {
    let (_dir, seen, hub) = store();
    for latest in [version("a/b@latest"), version("a/b")] {
        seen.record_pack(&hub, &latest, digest(1), SIGNED_V3).unwrap();
        seen.check_version(TrustPolicy::Require, &hub, &latest, digest(2)).unwrap();
    }
}

#[test]
fn a_downgraded_layout_and_a_stripped_signature_are_refused_under_require_and_told_under_warn() {
    let (_dir, seen, hub) = store();
    let package = version("a/b").package;
    let check =
        |policy, layout, signed| seen.check_pack(policy, &hub, &package, PackTraits { layout, signed });
    assert!(check(TrustPolicy::Require, 1, false).unwrap().is_empty());
    seen.record_pack(&hub, &version("a/b@v1"), digest(1), SIGNED_V3).unwrap();
    seen.record_pack(&hub, &version("a/b@v2"), digest(2), PackTraits { layout: 1, signed: false }).unwrap();
    assert!(check(TrustPolicy::Require, 3, true).unwrap().is_empty());
    assert!(refused(check(TrustPolicy::Require, 2, true)).contains("downgraded layout"));
    assert!(refused(check(TrustPolicy::Require, 3, false)).contains("stripped signature"));
    let both = refused(check(TrustPolicy::Require, 1, false));
    assert!(both.contains("stripped signature") && both.contains("downgraded layout"), "{both}");
    assert_eq!(check(TrustPolicy::Warn, 1, false).unwrap().len(), 2);
    assert!(check(TrustPolicy::Off, 1, false).unwrap().is_empty());
}

#[test]
fn others_layouts_are_of_one_rank() {
    let (_dir, seen, hub) = store();
    let package = version("a/b").package;
    seen.record_pack(&hub, &version("a/b@v1"), digest(1), PackTraits { layout: 2, signed: false }).unwrap();
    let found = PackTraits { layout: 1, signed: false };
    assert!(seen.check_pack(TrustPolicy::Require, &hub, &package, found).unwrap().is_empty());
}

#[test]
fn the_oldest_of_very_many_are_forgotten() {
    let mut list: Vec<usize> = Vec::new();
    (0..MOST + 5).for_each(|i| push_bounded(&mut list, i));
    assert_eq!((list.len(), list[0]), (MOST, 5));
}

#[test]
fn a_full_file_is_still_read() {
    let (_dir, seen, hub) = store();
    let long = "a".repeat(64);
    let package = |i: usize| version(&format!("{long}/{i:064}@{long}"));
    seen.change(&hub, |hub| {
        hub.versions = (0..MOST).map(|i| SeenVersion { version: package(i), sha256: digest(1) }).collect();
        let name = |i| package(i).package;
        hub.packages = (0..MOST).map(|i| SeenPackage { package: name(i), traits: SIGNED_V3 }).collect();
    })
    .unwrap();
    assert!(seen.check_version(TrustPolicy::Warn, &hub, &package(MOST - 1), digest(2)).is_err());
}

#[test]
fn two_writers_lose_nothing_of_each_other() {
    let (_dir, seen, hub) = store();
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (seen, hub) = (&seen, &hub);
            scope.spawn(move || {
                for i in 0..10 {
                    let v = version(&format!("a/b@w{writer}-{i}"));
                    seen.record_pack(hub, &v, digest(1), SIGNED_V3).unwrap();
                }
            });
        }
    });
    assert_eq!(seen.read(&hub).unwrap().versions.len(), 20);
}
