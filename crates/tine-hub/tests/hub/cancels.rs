//! Hubs whose publisher has thought better of it.

use crate::support::{Case, add, code};
use std::sync::atomic::{AtomicU32, Ordering};
use tine_hub::{Hub, LocalStorage};
use tine_model::{ErrorCode, Reporter};

/// Wants to stop once it has been asked so many times.
struct Fickle(AtomicU32);

impl Reporter for Fickle {
    fn step(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn output(&self, _: &str) {}
    fn note(&self, _: &str) {}
    fn is_cancelled(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

#[test]
fn a_cancelled_adder_changes_nothing() {
    let case = Case::new();
    let hub = case.init();
    case.add(&hub, "v1", "one").unwrap();
    let (before, registry) = (case.files(), hub.registry().unwrap());
    let pack = case.file("large.tar.zst", &"x".repeat(3 << 20));
    for looks in 0.. {
        let fickle = Fickle(AtomicU32::new(looks));
        let storage = LocalStorage::new(case.hub_dir()).reporting(&fickle);
        let added = add(&Hub::open_on(storage).unwrap(), &pack, "v2", &case.publisher());
        if added.is_ok() {
            assert!(looks > 3, "it looked {looks} times only");
            break;
        }
        assert_eq!(code(added), ErrorCode::Cancelled, "{looks}");
        assert_eq!(case.files(), before, "{looks}");
        assert_eq!(hub.registry().unwrap(), registry, "{looks}");
    }
    assert!(hub.verify(Some(&case.keys), case.publisher().now).unwrap().is_sound());
}

#[test]
fn verifying_stops_in_the_middle_of_a_file() {
    let case = Case::new();
    let hub = case.init();
    case.add(&hub, "v1", &"x".repeat(3 << 20)).unwrap();
    let fickle = Fickle(AtomicU32::new(2));
    let watched = Hub::open_on(LocalStorage::new(case.hub_dir()).reporting(&fickle)).unwrap();
    assert_eq!(code(watched.verify(Some(&case.keys), case.publisher().now)), ErrorCode::Cancelled);
}
