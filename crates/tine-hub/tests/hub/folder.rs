//! Publishing, removing and looking over.

use crate::support::{Case, add, code, package, publisher_at, version};
use std::{fs, os::unix::fs::PermissionsExt, time::Duration};
use tine_hub::{Added, HubConfig, HubFolder, HubUrl, NewPack, PackFacts, Publisher, Registry};
use tine_model::{ErrorCode, Sha256Digest};

#[test]
fn a_published_pack_is_found_where_the_registry_says() {
    let case = Case::new();
    let hub = case.init();
    let sidecars = [case.file("0123456789abcdef.rootfs.zst", "disk")];
    let facts = PackFacts {
        description: Some("numpy".to_owned()),
        memory_mib: Some(512),
        base_image: Some("python".to_owned()),
        recipe_path: Some("recipes/numpy".to_owned()),
        release_tag: Some("r1".to_owned()),
        manifest_sha256: Some(Sha256Digest([7; 32])),
    };
    let file = case.file("numpy.tine.tar.zst", "pack");
    let pack = NewPack { file: &file, sidecars: &sidecars, package: &package(), version: None, facts };
    let published = hub.add(&pack, &case.publisher()).unwrap();
    assert_eq!((published.version, published.added), (version("v1"), Added::New));

    let registry = HubFolder::open(&case.hub_dir()).unwrap().registry().unwrap();
    let found = registry.resolve(&package(), None).unwrap();
    assert_eq!((found.version, found.entry), (Some(&version("v1")), &published.entry));
    assert_eq!((found.entry.size_bytes, found.entry.memory_mib), (Some(4), Some(512)));
    assert_eq!(found.entry.manifest_sha256(), Some(Sha256Digest([7; 32])));
    assert_eq!(found.entry.created_at.as_deref(), Some("2027-01-15T08:00:00Z"));
    let url: HubUrl = format!("file://{}", case.hub_dir().display()).parse().unwrap();
    let place = url.resolve(&found.entry.url).unwrap();
    let path = place.strip_prefix("file://").unwrap();
    assert_eq!(fs::read(path).unwrap(), b"pack");
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(
        case.files(),
        [
            "hub.json",
            "packs/tine/numpy/v1/0123456789abcdef.rootfs.zst",
            "packs/tine/numpy/v1/numpy.tine.tar.zst",
            "registry.json"
        ]
    );
    let report = hub.verify(None, case.publisher().now).unwrap();
    assert!(report.is_sound() && report.unreferenced.is_empty(), "{report:?}");
    assert_eq!((report.packages, report.versions, report.files, report.bytes), (1, 1, 2, 8));
}

#[test]
fn with_a_base_url_the_registry_names_whole_urls() {
    let case = Case::new();
    let config = HubConfig { base_url: Some("HTTPS://Hub.example/x/".to_owned()), ..HubConfig::default() };
    let hub = HubFolder::init(&case.hub_dir(), config, &case.publisher()).unwrap();
    let entry = case.add(&hub, "v1", "one").unwrap().entry;
    assert_eq!(entry.url, "https://hub.example/x/packs/tine/numpy/v1/p.tar.zst");
    let report = hub.verify(None, case.publisher().now).unwrap();
    assert_eq!((report.files, report.elsewhere), (1, 0));
    hub.remove(&package(), None, &case.publisher()).unwrap();
    assert_eq!(case.files(), ["hub.json", "registry.json"]);
}

#[test]
fn a_changed_pack_under_a_published_version_is_refused_and_changes_nothing() {
    let case = Case::new();
    let hub = case.init();
    case.add(&hub, "v1", "one").unwrap();
    let before = (case.files(), fs::read(case.hub_dir().join("registry.json")).unwrap());
    assert_eq!(code(case.add(&hub, "v1", "two")), ErrorCode::AlreadyExists);
    assert_eq!(code(case.add(&hub, "latest", "two")), ErrorCode::Usage);
    let again = case.add(&hub, "v1", "one").unwrap();
    assert_eq!((again.added, again.version), (Added::Unchanged, version("v1")));
    assert_eq!((case.files(), fs::read(case.hub_dir().join("registry.json")).unwrap()), before);
}

#[test]
fn versions_count_up_and_the_same_pack_is_published_once() {
    let case = Case::new();
    let hub = case.init();
    let add = |content: &str| {
        let file = case.file("p.tar.zst", content);
        let facts = PackFacts::default();
        let pack = NewPack { file: &file, sidecars: &[], package: &package(), version: None, facts };
        hub.add(&pack, &case.publisher()).unwrap()
    };
    assert_eq!(add("one").version, version("v1"));
    assert_eq!(add("two").version, version("v2"));
    let again = add("two");
    assert_eq!((again.version, again.added), (version("v2"), Added::Unchanged));
}

#[test]
fn what_is_removed_leaves_no_file_and_no_folder() {
    let case = Case::new();
    let hub = case.init();
    case.add(&hub, "v1", "one").unwrap();
    add(&hub, &case.file("p.tar.zst", "two"), "v2", &publisher_at(&case.keys, 1)).unwrap();
    hub.remove(&package(), Some(&version("v2")), &case.publisher()).unwrap();
    let registry = hub.registry().unwrap();
    assert_eq!(registry.resolve(&package(), None).unwrap().version, Some(&version("v1")));
    assert_eq!(case.files(), ["hub.json", "packs/tine/numpy/v1/p.tar.zst", "registry.json"]);
    assert_eq!(code(hub.remove(&package(), Some(&version("v2")), &case.publisher())), ErrorCode::NotFound);
    hub.remove(&package(), Some(&version("v1")), &case.publisher()).unwrap();
    assert_eq!(case.files(), ["hub.json", "registry.json"]);
}

#[test]
fn damage_is_found_and_named() {
    let case = Case::new();
    let hub = case.init();
    for (name, content) in [("v1", "one"), ("v2", "two"), ("v3", "six"), ("v4", "ten")] {
        case.add(&hub, name, content).unwrap();
    }
    let file = |name: &str| case.hub_dir().join(format!("packs/tine/numpy/{name}/p.tar.zst"));
    fs::write(file("v1"), "eno").unwrap();
    fs::write(file("v2"), "longer").unwrap();
    fs::remove_file(file("v3")).unwrap();
    fs::write(file("v4").with_file_name("stray"), "x").unwrap();
    let report = hub.verify(None, case.publisher().now).unwrap();
    let problems: Vec<_> = report.problems.iter().map(|p| format!("{}: {}", p.what, p.why)).collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    for (problem, words) in problems.iter().zip([
        ["tine/numpy@v1", "has SHA-256"],
        ["tine/numpy@v2", "6 bytes long, not 3"],
        ["tine/numpy@v3", "is not there"],
    ]) {
        assert!(words.iter().all(|w| problem.contains(w)), "{problem}");
    }
    assert_eq!(report.unreferenced[0].name, "packs/tine/numpy/v4/stray");
}

#[test]
fn a_users_own_files_and_a_registry_of_others_stay() {
    let case = Case::new();
    fs::create_dir_all(case.hub_dir().join("packs/a/b/v1")).unwrap();
    let mine = case.hub_dir().join("packs/a/b/v1/mine");
    fs::write(&mine, "x").unwrap();
    let others = r#"{"_comment":"theirs","schema_version":1,"packages":{"o/p":{"versions":{"latest":{"url":"https://o/p"}}}}}"#;
    fs::write(case.hub_dir().join("registry.json"), others).unwrap();
    let hub = case.init();
    case.add(&hub, "v1", "one").unwrap();
    hub.remove(&package(), None, &case.publisher()).unwrap();
    let report = hub.verify(None, case.publisher().now).unwrap();
    assert_eq!((report.elsewhere, report.unreferenced.len(), mine.exists()), (1, 1, true));
    assert!(fs::read_to_string(case.hub_dir().join("registry.json")).unwrap().contains("theirs"));
}

#[test]
fn a_registry_of_100_mb_is_refused_before_it_is_read() {
    let case = Case::new();
    let hub = case.init();
    fs::File::create(case.hub_dir().join("registry.json")).unwrap().set_len(100 << 20).unwrap();
    assert_eq!(code(hub.registry()), ErrorCode::TooLarge);
    assert_eq!(code(case.add(&hub, "v1", "one")), ErrorCode::TooLarge);
    assert_eq!(case.files(), ["hub.json", "registry.json"]);
}

#[test]
fn a_hub_is_made_once_and_opened_only_where_there_is_one() {
    let case = Case::new();
    assert_eq!(code(HubFolder::open(&case.hub_dir())), ErrorCode::NotFound);
    case.init();
    assert_eq!(
        code(HubFolder::init(&case.hub_dir(), HubConfig::default(), &case.publisher())),
        ErrorCode::AlreadyExists
    );
    let bad = HubConfig { base_url: Some("ftp://h".to_owned()), ..HubConfig::default() };
    assert_eq!(
        code(HubFolder::init(&case.dir.path().join("other"), bad, &case.publisher())),
        ErrorCode::Usage
    );
    fs::write(case.hub_dir().join("hub.json"), r#"{"format":2,"expiry_days":1}"#).unwrap();
    assert_eq!(code(HubFolder::open(&case.hub_dir())), ErrorCode::Incompatible);
}

#[test]
fn files_that_are_no_packs_are_refused_and_leave_nothing() {
    let case = Case::new();
    let hub = case.init();
    let refused = |path: &std::path::Path| code(add(&hub, path, "v1", &case.publisher()));
    assert_eq!(refused(&case.file("a b", "x")), ErrorCode::Usage);
    assert_eq!(refused(&case.dir.path().join("missing")), ErrorCode::NotFound);
    assert_eq!(refused(&case.hub_dir()), ErrorCode::InvalidInput);
    let sidecars = [case.dir.path().join("missing")];
    let file = case.file("p", "x");
    let facts = PackFacts::default();
    let pack = NewPack { file: &file, sidecars: &sidecars, package: &package(), version: None, facts };
    assert_eq!(code(hub.add(&pack, &case.publisher())), ErrorCode::NotFound);
    assert_eq!(case.files(), ["hub.json", "registry.json"]);
    assert_eq!(hub.registry().unwrap(), Registry::empty());
}

#[test]
fn a_waiter_gives_up_when_its_time_is_over() {
    use tine_hub::{HubStorage, LocalStorage};
    let case = Case::new();
    let hub = case.init();
    let held = LocalStorage::new(case.hub_dir()).lock(Duration::ZERO).unwrap();
    let hasty = Publisher { wait: Duration::from_millis(30), ..case.publisher() };
    assert_eq!(code(add(&hub, &case.file("p", "x"), "v1", &hasty)), ErrorCode::Busy);
    drop(held);
    add(&hub, &case.file("p", "x"), "v1", &hasty).unwrap();
}
