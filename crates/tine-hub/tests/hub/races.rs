//! Several who change one hub at once, as threads, as processes, and killed.

use crate::support::{Case, add, package, publisher_at, version};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tine_hub::{HubFolder, KeyStore, Registry};

const DIR: &str = "TINE_HUB_TEST_DIR";
const PREFIX: &str = "TINE_HUB_TEST_PREFIX";
const ROUNDS: u32 = 10;

#[test]
fn adders_in_threads_lose_nothing_of_each_other_and_readers_see_whole_registries() {
    let case = Case::new();
    let hub = case.init_signed();
    std::thread::scope(|scope| {
        let adders: Vec<_> = (0..2)
            .map(|thread| {
                let (case, hub) = (&case, &hub);
                scope.spawn(move || {
                    for i in 0..ROUNDS {
                        let file = case.file(&format!("p{thread}"), &format!("{thread} {i}"));
                        add(hub, &file, &format!("t{thread}-{i}"), &case.publisher()).unwrap();
                    }
                })
            })
            .collect();
        while !adders.iter().all(|adder| adder.is_finished()) {
            hub.registry().unwrap();
        }
    });
    let registry = hub.registry().unwrap();
    assert_eq!(versions(&registry), 2 * ROUNDS as usize);
    assert_eq!(registry.freshness().unwrap().serial, 1 + 2 * u64::from(ROUNDS));
    assert!(hub.verify(Some(&case.keys), case.publisher().now).unwrap().is_sound());
}

#[test]
fn adders_in_processes_wait_for_each_other() {
    let case = Case::new();
    let hub = case.init();
    let mut children = [adder(case.dir.path(), "a"), adder(case.dir.path(), "b")];
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    assert_eq!(versions(&hub.registry().unwrap()), 2 * ROUNDS as usize);
    assert!(hub.verify(None, case.publisher().now).unwrap().is_sound());
}

#[test]
fn adders_killed_at_any_moment_leave_a_sound_hub() {
    let case = Case::new();
    let hub = case.init_signed();
    for round in 0..20 {
        let mut child = adder(case.dir.path(), &format!("k{round}"));
        std::thread::sleep(Duration::from_millis(10 + round * 7));
        child.kill().unwrap();
        child.wait().unwrap();
        let report = hub.verify(Some(&case.keys), case.publisher().now).unwrap();
        assert!(report.is_sound(), "{report:?}");
    }
    case.add(&hub, "last", "last").unwrap();
    let report = hub.verify(Some(&case.keys), case.publisher().now).unwrap();
    assert!(report.is_sound() && report.unreferenced.is_empty(), "{report:?}");
    let files = case.files();
    assert!(!files.iter().any(|f| f.starts_with(".tmp") || f == "pending.json"), "{files:?}");
}

/// This test's program once more, running [`adder_process`] alone.
fn adder(dir: &Path, prefix: &str) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "races::adder_process", "--ignored"]).env(DIR, dir).env(PREFIX, prefix);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
#[ignore = "what the other tests here start as a process"]
fn adder_process() {
    let (Some(dir), Ok(prefix)) = (env::var_os(DIR), env::var(PREFIX)) else { return };
    let dir = PathBuf::from(dir);
    let hub = HubFolder::open(&dir.join("hub")).unwrap();
    let keys = KeyStore::new(dir.join("keys"));
    let file = dir.join(&prefix);
    for i in 0..ROUNDS {
        fs::write(&file, format!("{prefix} {i}")).unwrap();
        add(&hub, &file, &format!("{prefix}-{i}"), &publisher_at(&keys, 0)).unwrap();
    }
}

fn versions(registry: &Registry) -> usize {
    let (_, package) = registry.packages().find(|(name, _)| **name == package()).unwrap();
    package.versions().filter(|(name, _)| **name != version("latest")).count()
}
