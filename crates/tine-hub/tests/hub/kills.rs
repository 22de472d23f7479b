//! A hub whose keeper dies between any two steps: it stays valid, and the next change clears the rest away.

use crate::support::{Case, add, package, version};
use std::{cell::Cell, path::Path, time::Duration};
use tine_hub::{
    Content, Hub, HubConfig, HubError, HubFolder, HubStorage, LocalStorage, NewPack, Over, PackFacts, Small,
    StoredFile,
};

/// When the keeper dies, at the call it dies in.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Moment {
    Before,
    After,
}

/// A directory whose user dies at the n-th call, and does nothing more.
struct Mortal {
    inner: LocalStorage<'static>,
    left: Cell<u32>,
    moment: Moment,
}

impl Mortal {
    fn new(dir: &Path, calls: u32, moment: Moment) -> Self {
        Self { inner: LocalStorage::new(dir), left: Cell::new(calls), moment }
    }

    fn live<T>(&self, call: impl FnOnce() -> Result<T, HubError>) -> Result<T, HubError> {
        let dead = || Err(HubError::Invalid("dead".to_owned()));
        match self.left.get() {
            0 => return dead(),
            1 if self.moment == Moment::Before => {
                self.left.set(0);
                return dead();
            }
            left => self.left.set(left - 1),
        }
        let done = call();
        if self.left.get() == 0 { dead() } else { done }
    }
}

impl HubStorage for Mortal {
    type Lock = <LocalStorage<'static> as HubStorage>::Lock;
    type Tag = ();

    fn lock(&self, wait: Duration) -> Result<Option<Self::Lock>, HubError> {
        self.live(|| self.inner.lock(wait))
    }
    fn read(&self, name: &str, max: u64) -> Result<Option<Small<()>>, HubError> {
        self.live(|| self.inner.read(name, max))
    }
    fn write(&self, name: &str, bytes: &[u8], over: Over<'_, ()>) -> Result<(), HubError> {
        self.live(|| self.inner.write(name, bytes, over))
    }
    fn put_file(&self, name: &str, source: &Path) -> Result<Content, HubError> {
        self.live(|| self.inner.put_file(name, source))
    }
    fn size(&self, name: &str) -> Result<Option<u64>, HubError> {
        self.live(|| self.inner.size(name))
    }
    fn content(&self, name: &str) -> Result<Option<Content>, HubError> {
        self.live(|| self.inner.content(name))
    }
    fn delete(&self, name: &str) -> Result<(), HubError> {
        self.live(|| self.inner.delete(name))
    }
    fn list(&self, prefix: &str) -> Result<Vec<StoredFile>, HubError> {
        self.live(|| self.inner.list(prefix))
    }
    fn place(&self) -> String {
        self.inner.place()
    }
}

/// What is done to a hub with one version, `v1`.
type Operation = fn(&Case, Mortal) -> Result<(), HubError>;

fn adds(case: &Case, storage: Mortal) -> Result<(), HubError> {
    let (file, sidecars) = (case.file("p2", "two"), [case.file("side", "car")]);
    let (package, version, facts) = (package(), version("v2"), PackFacts::default());
    let pack =
        NewPack { file: &file, sidecars: &sidecars, package: &package, version: Some(&version), facts };
    Hub::open_on(storage)?.add(&pack, &case.publisher()).map(drop)
}

fn removes(case: &Case, storage: Mortal) -> Result<(), HubError> {
    Hub::open_on(storage)?.remove(&package(), None, &case.publisher())
}

fn renews(case: &Case, storage: Mortal) -> Result<(), HubError> {
    Hub::open_on(storage)?.renew(&case.publisher())
}

/// Kills `operation` at each of its calls in turn; the answer is how many it made.
fn kill_everywhere(init: fn(&Case) -> HubFolder<'static>, operation: Operation) -> u32 {
    for calls in 1.. {
        for moment in [Moment::Before, Moment::After] {
            let case = Case::new();
            case.add(&init(&case), "v1", "one").unwrap();
            let done = operation(&case, Mortal::new(&case.hub_dir(), calls, moment));
            if done.is_ok() {
                return calls;
            }
            check(&case, calls, moment);
        }
    }
    unreachable!()
}

fn check(case: &Case, calls: u32, moment: Moment) {
    let hub = HubFolder::open(&case.hub_dir()).unwrap();
    let sound = |when: &str| {
        let report = hub.verify(Some(&case.keys), case.publisher().now).unwrap();
        assert!(report.is_sound(), "{when} {calls} {moment:?}: {report:?}");
        report
    };
    sound("dead at");
    add(&hub, &case.file("p3", "three"), "v3", &case.publisher()).unwrap();
    assert!(sound("after").unreferenced.is_empty());
    let files = case.files();
    assert!(!files.iter().any(|f| f.starts_with(".tmp") || f == "pending.json"), "{files:?}");
}

#[test]
fn a_dead_adder_leaves_a_valid_hub() {
    assert!(kill_everywhere(Case::init, adds) > 8);
}

#[test]
fn a_dead_adder_leaves_a_validly_signed_hub() {
    assert!(kill_everywhere(Case::init_signed, adds) > 10);
}

#[test]
fn a_dead_remover_leaves_a_valid_hub() {
    assert!(kill_everywhere(Case::init_signed, removes) > 8);
}

#[test]
fn a_dead_renewer_leaves_a_validly_signed_hub() {
    assert!(kill_everywhere(Case::init_signed, renews) > 6);
}

#[test]
fn deaths_in_a_row_leave_a_validly_signed_hub() {
    let case = Case::new();
    let hub = case.init_signed();
    for calls in 1..25 {
        for again in 0..3 {
            let storage = Mortal::new(&case.hub_dir(), calls, Moment::After);
            let file = case.file("p", &format!("{calls} {again}"));
            let _ = Hub::open_on(storage)
                .and_then(|mortal| add(&mortal, &file, &format!("d{calls}-{again}"), &case.publisher()));
            let report = hub.verify(Some(&case.keys), case.publisher().now).unwrap();
            assert!(report.is_sound(), "{calls} {again}: {report:?}");
        }
    }
    check(&case, 25, Moment::After);
}

#[test]
fn a_dead_maker_can_be_followed_by_another() {
    for calls in 1.. {
        let case = Case::new();
        let config = HubConfig { signing_key: Some(case.key()), ..HubConfig::default() };
        LocalStorage::create(case.hub_dir()).unwrap();
        let storage = Mortal::new(&case.hub_dir(), calls, Moment::After);
        if Hub::init_on(storage, config.clone(), &case.publisher()).is_ok() {
            assert!(calls > 4);
            return;
        }
        if HubFolder::open(&case.hub_dir()).is_err() {
            HubFolder::init(&case.hub_dir(), config, &case.publisher()).unwrap();
        }
        check(&case, calls, Moment::After);
    }
}

#[test]
fn a_change_of_the_key_that_was_broken_off_is_mended_by_the_next() {
    for calls in 1..20 {
        let case = Case::new();
        case.add(&case.init(), "v1", "one").unwrap();
        let storage = Mortal::new(&case.hub_dir(), calls, Moment::After);
        let _ =
            Hub::open_on(storage).and_then(|hub| hub.set_signing_key(Some(case.key()), &case.publisher()));
        let hub = HubFolder::open(&case.hub_dir()).unwrap();
        hub.registry().unwrap();
        hub.renew(&case.publisher()).unwrap();
        check(&case, calls, Moment::After);
    }
}
