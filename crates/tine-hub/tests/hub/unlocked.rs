//! A hub in a place without a lock: whoever comes between any two steps of another's change, nobody loses anything, no reader
//! meets what must be refused, and who is killed leaves at most a file that nothing refers to.

use crate::support::{Case, add, code, package};
use sha2::{Digest, Sha256};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    convert::Infallible,
    fs,
    path::Path,
    rc::Rc,
    time::Duration,
};
use tine_hub::{
    Added, Content, Hub, HubConfig, HubError, HubStorage, NewPack, Over, PackFacts, Published, Small,
    StoredFile,
};
use tine_model::{ErrorCode, PackageName, Sha256Digest};

type Files = Rc<RefCell<BTreeMap<String, (Vec<u8>, u64)>>>;

type Hook<'a> = Rc<dyn Fn(u32) -> bool + 'a>;

/// A bucket in memory, and what happens before and after each call of one who uses it.
#[derive(Clone, Default)]
struct Shelf<'a> {
    files: Files,
    calls: Rc<Cell<u32>>,
    /// Called with the number of the call that comes; dead when it says so.
    before: Option<Hook<'a>>,
    after: Option<Hook<'a>>,
    /// So many writes from now, one is done and said to have come too late: its answer was lost, and it was tried again.
    lost: Rc<Cell<Option<u32>>>,
}

impl<'a> Shelf<'a> {
    fn with(&self, before: impl Fn(u32) -> bool + 'a, after: impl Fn(u32) -> bool + 'a) -> Self {
        let (before, after): (Hook<'a>, Hook<'a>) = (Rc::new(before), Rc::new(after));
        Self { files: Rc::clone(&self.files), before: Some(before), after: Some(after), ..Self::default() }
    }

    fn live<T>(
        &self,
        call: impl FnOnce(&mut BTreeMap<String, (Vec<u8>, u64)>) -> Result<T, HubError>,
    ) -> Result<T, HubError> {
        let dead = || HubError::Invalid("dead".to_owned());
        let number = self.calls.get();
        self.calls.set(number + 1);
        if self.before.as_ref().is_some_and(|dies| dies(number)) {
            return Err(dead());
        }
        let done = call(&mut self.files.borrow_mut());
        if self.after.as_ref().is_some_and(|dies| dies(number)) {
            return Err(dead());
        }
        done
    }
}

fn content(bytes: &[u8]) -> Content {
    Content { size_bytes: bytes.len() as u64, sha256: Sha256Digest(Sha256::digest(bytes).into()) }
}

impl HubStorage for Shelf<'_> {
    type Lock = Infallible;
    type Tag = u64;

    fn lock(&self, _: Duration) -> Result<Option<Infallible>, HubError> {
        Ok(None)
    }
    fn read(&self, name: &str, _: u64) -> Result<Option<Small<u64>>, HubError> {
        self.live(|files| Ok(files.get(name).map(|(bytes, tag)| Small { bytes: bytes.clone(), tag: *tag })))
    }
    fn write(&self, name: &str, bytes: &[u8], over: Over<'_, u64>) -> Result<(), HubError> {
        self.live(|files| {
            let there = files.get(name).map(|(_, tag)| *tag);
            let fits = match over {
                Over::Anything => true,
                Over::Nothing => there.is_none(),
                Over::Tagged(tag) => there == Some(*tag),
            };
            if !fits {
                return Err(HubError::Conflict("the shelf".to_owned()));
            }
            files.insert(name.to_owned(), (bytes.to_vec(), there.unwrap_or_default() + 1));
            let lost = self.lost.get();
            self.lost.set(lost.and_then(|left| left.checked_sub(1)));
            if lost == Some(0) { Err(HubError::Conflict("the shelf".to_owned())) } else { Ok(()) }
        })
    }
    fn put_file(&self, name: &str, source: &Path) -> Result<Content, HubError> {
        let bytes = fs::read(source).unwrap();
        self.live(|files| {
            // nobody writes over what others may rely on
            if let Some((there, _)) = files.get(name) {
                assert_eq!(*there, bytes, "{name}");
            }
            files.insert(name.to_owned(), (bytes.clone(), 1));
            Ok(content(&bytes))
        })
    }
    fn size(&self, name: &str) -> Result<Option<u64>, HubError> {
        self.live(|files| Ok(files.get(name).map(|(bytes, _)| bytes.len() as u64)))
    }
    fn content(&self, name: &str) -> Result<Option<Content>, HubError> {
        self.live(|files| Ok(files.get(name).map(|(bytes, _)| content(bytes))))
    }
    fn delete(&self, name: &str) -> Result<(), HubError> {
        self.live(|files| {
            files.remove(name);
            Ok(())
        })
    }
    fn list(&self, prefix: &str) -> Result<Vec<StoredFile>, HubError> {
        self.live(|files| {
            let below = files.iter().filter(|(name, _)| name.starts_with(prefix));
            let file = |(name, (bytes, _)): (&String, &(Vec<u8>, u64))| StoredFile {
                name: name.clone(),
                size_bytes: bytes.len() as u64,
            };
            Ok(below.map(file).collect())
        })
    }
    fn place(&self) -> String {
        "the shelf".to_owned()
    }
}

/// A signed hub with one version, and its keeper's files.
fn hub(case: &Case) -> Shelf<'static> {
    let shelf = Shelf::default();
    let config = HubConfig { signing_key: Some(case.key()), ..HubConfig::default() };
    let hub = Hub::init_on(shelf.clone(), config, &case.publisher()).unwrap();
    add(&hub, &case.file("zero", "zero"), "v1", &case.publisher()).unwrap();
    shelf
}

fn add_next(case: &Case, shelf: Shelf<'_>, content: &str) -> Result<Published, HubError> {
    let (file, sidecars) = (case.file(content, content), [case.file("side", "car")]);
    let (package, facts) = (package(), PackFacts::default());
    let pack = NewPack { file: &file, sidecars: &sidecars, package: &package, version: None, facts };
    Hub::open_on(shelf)?.add(&pack, &case.publisher())
}

fn add_as(case: &Case, shelf: Shelf<'_>, content: &str, version: &str) -> Result<Published, HubError> {
    add(&Hub::open_on(shelf)?, &case.file(content, content), version, &case.publisher())
}

fn remove(case: &Case, shelf: Shelf<'_>, version: Option<&str>) -> Result<(), HubError> {
    let version = version.map(|version| version.parse().unwrap());
    Hub::open_on(shelf)?.remove(&package(), version.as_ref(), &case.publisher())
}

/// What the registry says, all of it as it should be; and how many files nothing refers to.
fn state(case: &Case, shelf: &Shelf<'_>) -> (BTreeMap<String, Sha256Digest>, usize) {
    let hub = Hub::open_on(Shelf { files: Rc::clone(&shelf.files), ..Shelf::default() }).unwrap();
    let report = hub.verify(Some(&case.keys), case.publisher().now).unwrap();
    assert!(report.is_sound(), "{report:?}");
    let registry = hub.registry().unwrap();
    let all = registry.packages().flat_map(|(_, package)| package.versions());
    let versions = all.filter(|(name, _)| !name.is_latest());
    (
        versions.map(|(name, entry)| (name.to_string(), entry.sha256.unwrap())).collect(),
        report.unreferenced.len(),
    )
}

/// Does `one`, with the whole of `other` before its n-th call, for every n; after each call a reader finds the hub sound.
/// `check` gets the state in the end.
fn interleave<T>(
    one: impl Fn(&Case, Shelf<'_>) -> T,
    other: impl Fn(&Case, Shelf<'_>),
    check: impl Fn(T, BTreeMap<String, Sha256Digest>),
) {
    for moment in 0.. {
        let case = Case::new();
        let shelf = hub(&case);
        let come = Cell::new(false);
        let handle = shelf.with(
            |call| {
                if call == moment {
                    come.set(true);
                    other(&case, shelf.clone());
                }
                false
            },
            |_| {
                state(&case, &shelf);
                false
            },
        );
        let done = one(&case, handle);
        let (versions, unreferenced) = state(&case, &shelf);
        assert_eq!(unreferenced, 0, "{moment}");
        if !come.get() {
            // the last call was before this one
            assert!(moment > 2, "{moment}");
            return;
        }
        check(done, versions);
    }
}

#[test]
fn two_packs_get_two_versions_whoever_is_quicker() {
    interleave(
        |case, shelf| add_next(case, shelf, "one").unwrap().version.to_string(),
        |case, shelf| drop(add_next(case, shelf, "two").unwrap()),
        |version, versions| {
            let own = versions[&version];
            assert_eq!(own, content(b"one").sha256);
            assert!(versions.len() == 3 || version == "v2", "{versions:?}");
        },
    );
}

#[test]
fn one_version_is_one_pack_whoever_is_quicker() {
    interleave(
        |case, shelf| add_as(case, shelf, "one", "v2"),
        |case, shelf| drop(add_as(case, shelf, "two", "v2")),
        |done, versions| {
            let won = versions["v2"] == content(b"one").sha256;
            assert_eq!(done.is_ok(), won);
            assert!(won || code(done) == ErrorCode::AlreadyExists);
        },
    );
}

#[test]
fn the_same_pack_under_the_same_version_is_published_once() {
    interleave(
        |case, shelf| add_as(case, shelf, "one", "v2").unwrap(),
        |case, shelf| drop(add_as(case, shelf, "one", "v2").unwrap()),
        |done, versions| {
            assert!(matches!(done.added, Added::New | Added::Unchanged));
            assert_eq!(versions["v2"], content(b"one").sha256);
        },
    );
}

#[test]
fn what_is_published_at_the_moment_it_is_taken_away_is_there_or_not() {
    interleave(
        |case, shelf| add_as(case, shelf, "zero", "v1").map(drop),
        |case, shelf| {
            remove(case, shelf.clone(), Some("v1")).unwrap();
            add_as(case, shelf, "three", "v3").map(drop).unwrap();
        },
        |done, versions| {
            done.unwrap();
            assert!(versions.contains_key("v3"));
        },
    );
}

#[test]
fn what_is_taken_away_at_the_moment_it_is_published_is_there_or_not() {
    interleave(
        |case, shelf| remove(case, shelf, Some("v1")),
        |case, shelf| drop(add_as(case, shelf, "one", "v2").unwrap()),
        |done, versions| {
            done.unwrap();
            assert_eq!(versions.keys().collect::<Vec<_>>(), ["v2"]);
        },
    );
}

#[test]
fn what_is_about_to_be_deleted_is_not_published_again() {
    interleave(
        |case, shelf| remove(case, shelf, Some("v1")),
        |case, shelf| drop(add_as(case, shelf, "zero", "v1").unwrap()),
        |done, versions| {
            done.unwrap();
            assert!(versions.len() < 2, "{versions:?}");
        },
    );
}

#[test]
fn who_dies_leaves_a_sound_hub_and_at_most_the_files_of_one_pack() {
    type Operation = fn(&Case, Shelf<'_>) -> Result<(), HubError>;
    let adds: Operation = |case, shelf| add_next(case, shelf, "one").map(drop);
    let removes: Operation = |case, shelf| remove(case, shelf, Some("v1"));
    for (operation, least) in [(adds, 12), (removes, 6)] {
        for moment in 0.. {
            let mut done = 0;
            for early in [true, false] {
                let case = Case::new();
                let shelf = hub(&case);
                // dead from that moment on
                let handle = shelf
                    .with(move |call| call > moment || (early && call == moment), move |call| call == moment);
                done += u32::from(operation(&case, handle).is_ok());
                let (_, unreferenced) = state(&case, &shelf);
                assert!(unreferenced <= 2, "{moment}: {unreferenced}");
                let version = add_next(&case, shelf.clone(), "one").unwrap().version;
                let (versions, unreferenced) = state(&case, &shelf);
                assert_eq!(versions[version.as_str()], content(b"one").sha256);
                assert!(unreferenced <= 2, "{moment}: {unreferenced}");
            }
            if done == 2 {
                assert!(moment >= least, "{moment}");
                break;
            }
        }
    }
}

#[test]
fn a_change_whose_answer_was_lost_is_made_once() {
    for write in 0..2 {
        let case = Case::new();
        let shelf = hub(&case);
        let handle = Shelf { lost: Rc::new(Cell::new(Some(write))), ..shelf.clone() };
        let published = add_next(&case, handle.clone(), "one").unwrap();
        assert_eq!(
            (published.added, published.version.as_str(), handle.lost.get()),
            (Added::New, "v2", None)
        );
        let (versions, unreferenced) = state(&case, &shelf);
        assert_eq!((versions.len(), unreferenced), (2, 0), "{versions:?}");
    }
}

#[test]
fn two_make_a_hub_and_one_of_them_is_told() {
    for moment in 0..4 {
        let case = Case::new();
        let shelf = Shelf::default();
        let init = |shelf: Shelf<'_>| Hub::init_on(shelf, HubConfig::default(), &case.publisher()).map(drop);
        let handle = shelf.with(
            |call| {
                if call == moment {
                    init(shelf.clone()).unwrap();
                }
                false
            },
            |_| false,
        );
        let done = init(handle);
        assert!(
            matches!(done, Err(HubError::AlreadyExists(_) | HubError::Conflict(_))),
            "{moment}: {done:?}"
        );
        state(&case, &shelf);
    }
}

#[test]
fn a_pack_that_lies_where_it_was_put_by_another_is_left_alone() {
    let case = Case::new();
    let shelf = hub(&case);
    let first = add_next(&case, shelf.clone(), "one").unwrap();
    let (folder, _) = first.entry.url.rsplit_once('/').unwrap();
    let other: PackageName = "tine/other".parse().unwrap();
    assert!(!folder.contains(other.as_str()) && folder.starts_with("packs/tine/numpy/"), "{folder}");
    // as one would who was killed after deleting the entry
    let registry = shelf.files.borrow()["registry.json"].clone();
    remove(&case, shelf.with(|_| false, |_| false), Some("v2")).unwrap();
    assert_ne!(shelf.files.borrow()["registry.json"], registry);
    shelf.files.borrow_mut().insert(first.entry.url.clone(), (b"one".to_vec(), 1));
    let again = add_next(&case, shelf.clone(), "one").unwrap();
    assert_eq!(again.entry.url, first.entry.url.replace(folder, &format!("{folder}-2")));
    assert_eq!(state(&case, &shelf).1, 1);
}
