//! What registries are read, what they answer, and how they change.

use super::*;
use proptest::prelude::*;
use serde_json::json;
use tine_model::{ErrorCode, Sha256Digest};

const OTHERS: &str = r#"{
  "_comment": "kept",
  "schema_version": 1,
  "packages": {
    "tine/python-numpy": {
      "description": "Python with numpy",
      "homepage": "https://h/p",
      "versions": {
        "latest": {"url": "https://h/p.tar.zst", "sha256": "ABCDEF0000000000000000000000000000000000000000000000000000000000", "mirror": "https://m/p"},
        "v1": {"url": "https://h/p.tar.zst", "sha256": "abcdef0000000000000000000000000000000000000000000000000000000000",
               "size_bytes": 12, "memory_mib": 512, "base_image": "python:3", "recipe_path": "r/p", "created_at": "2026-01-01T00:00:00Z", "release_tag": "r1"}
      }
    }
  }
}"#;

fn package_name(text: &str) -> PackageName {
    text.parse().unwrap()
}

fn version(text: &str) -> VersionName {
    text.parse().unwrap()
}

fn entry(seed: u8, created_at: &str) -> VersionEntry {
    VersionEntry {
        url: format!("packs/{seed}"),
        sha256: Some(Sha256Digest([seed; 32])),
        created_at: Some(created_at.to_owned()),
        ..VersionEntry::default()
    }
}

fn code(error: HubError) -> ErrorCode {
    tine_model::Error::from(error).code
}

fn refused(document: &Value) -> HubError {
    Registry::parse(document.to_string().as_bytes()).unwrap_err()
}

/// The least registry, changed.
fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut document =
        json!({"schema_version": 1, "packages": {"a/b": {"versions": {"latest": {"url": "x"}}}}});
    change(&mut document);
    document
}

#[test]
fn a_registry_of_others_is_read_as_it_is_and_keeps_what_is_unknown() {
    let registry = Registry::parse(OTHERS.as_bytes()).unwrap();
    let found = registry.resolve(&package_name("tine/python-numpy"), None).unwrap();
    assert!(found.entry.sha256.unwrap().to_string().starts_with("abcdef"));
    assert_eq!(found.version, Some(&version("v1")));
    let bytes = registry.to_bytes().unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    for kept in ["\"_comment\": \"kept\"", "\"homepage\": \"https://h/p\"", "\"mirror\": \"https://m/p\""] {
        assert!(text.contains(kept), "{text}");
    }
    let again = Registry::parse(&bytes).unwrap();
    assert_eq!((again.to_bytes().unwrap(), again), (bytes, registry));
}

#[test]
fn another_schema_is_refused_by_name() {
    let error = refused(&with(|d| d["schema_version"] = json!(2)));
    assert!(error.to_string().contains("schema_version 2"), "{error}");
    assert_eq!(code(error), ErrorCode::Incompatible);
    assert_eq!(code(refused(&with(|d| d["schema_version"] = json!("1")))), ErrorCode::InvalidInput);
    assert_eq!(code(refused(&with(|d| d["schema_version"] = json!(1.5)))), ErrorCode::Incompatible);
}

#[test]
fn a_document_of_100_mb_is_refused_by_its_size() {
    let error = Registry::parse(&vec![b' '; 100 << 20]).unwrap_err();
    assert!(error.to_string().contains("104857600"), "{error}");
    assert_eq!(code(error), ErrorCode::TooLarge);
}

#[test]
fn more_values_than_any_registry_has_are_refused_before_they_fill_the_memory() {
    let text = format!("{{\"a\":[{}0]}}", "0,".repeat(1_100_000));
    assert!(Registry::parse(text.as_bytes()).unwrap_err().to_string().contains("values"));
    let objects = format!("{{\"a\":[{}0]}}", "{\"a\":0},".repeat(150_000));
    assert!(Registry::parse(objects.as_bytes()).unwrap_err().to_string().contains("values"));
    let deep = "[".repeat(1 << 20);
    assert!(Registry::parse(deep.as_bytes()).is_err());
}

#[test]
fn names_latest_and_urls_are_required_and_checked() {
    for (why, document) in [
        (
            "a name without an owner",
            with(|d| d["packages"] = json!({"b": {"versions": {"latest": {"url": "x"}}}})),
        ),
        (
            "a name that climbs",
            with(|d| d["packages"] = json!({"../b": {"versions": {"latest": {"url": "x"}}}})),
        ),
        ("no latest", with(|d| d["packages"]["a/b"]["versions"] = json!({"v1": {"url": "x"}}))),
        ("no versions", with(|d| d["packages"]["a/b"] = json!({}))),
        ("no url", with(|d| d["packages"]["a/b"]["versions"]["latest"] = json!({}))),
        ("an empty url", with(|d| d["packages"]["a/b"]["versions"]["latest"]["url"] = json!(""))),
        ("a long url", with(|d| d["packages"]["a/b"]["versions"]["latest"]["url"] = json!("x".repeat(3000)))),
        ("a bad version", with(|d| d["packages"]["a/b"]["versions"]["../v"] = json!({"url": "x"}))),
        ("a short digest", with(|d| d["packages"]["a/b"]["versions"]["latest"]["sha256"] = json!("ab"))),
        ("a negative size", with(|d| d["packages"]["a/b"]["versions"]["latest"]["size_bytes"] = json!(-1))),
        ("a list of packages", with(|d| d["packages"] = json!([]))),
        ("a serial of text", with(|d| d["tine"] = json!({"serial": "1"}))),
    ] {
        assert_eq!(code(refused(&document)), ErrorCode::InvalidInput, "{why}");
    }
    assert!(Registry::parse(with(|_| ()).to_string().as_bytes()).is_ok());
}

#[test]
fn a_registry_full_of_real_entries_is_read() {
    let mut registry = Registry::empty();
    for i in 0..15_000_u32 {
        let entry = VersionEntry {
            url: format!("https://hub.example/packs/owner/package-{i}/v1/package-{i}.tine.tar.zst"),
            sha256: Some(Sha256Digest([7; 32])),
            size_bytes: Some(u64::from(i)),
            memory_mib: Some(512),
            base_image: Some("debian".into()),
            recipe_path: Some("recipes/x".into()),
            created_at: Some("2026-01-01T00:00:00Z".into()),
            release_tag: Some("r1".into()),
            ..VersionEntry::default()
        };
        registry.add(&package_name(&format!("owner/package-{i}")), &version("v1"), entry).unwrap();
    }
    let bytes = registry.to_bytes().unwrap();
    assert!(bytes.len() > 12 << 20, "{}", bytes.len());
    assert_eq!(Registry::parse(&bytes).unwrap(), registry);
}

#[test]
fn what_no_one_would_read_is_not_written() {
    let mut registry = Registry::empty();
    let many = (0..30_000).map(|i| (format!("k{i}"), json!({"a": {"b": {}, "c": {}}}))).collect();
    registry.rest.insert("x".into(), Value::Object(many));
    assert_eq!(code(registry.to_bytes().unwrap_err()), ErrorCode::TooLarge);
}

#[test]
fn a_refusal_does_not_repeat_the_whole_document() {
    let long = "x".repeat(1 << 20);
    let error = refused(&with(|d| d["packages"]["a/b"]["versions"]["latest"]["sha256"] = json!(long)));
    assert!(error.to_string().len() < 1000);
}

#[test]
fn a_key_that_stands_twice_is_refused_at_every_depth() {
    let once = with(|d| d["x"] = json!({"y": [{"z": 1}]})).to_string();
    assert!(Registry::parse(once.as_bytes()).is_ok());
    for (from, to) in [
        ("\"schema_version\":1", "\"schema_version\":1,\"schema_version\":1"),
        ("\"a/b\":", "\"a/b\":{},\"a/b\":"),
        ("\"latest\":", "\"latest\":{},\"latest\":"),
        ("\"url\":\"x\"", "\"url\":\"x\",\"url\":\"y\""),
        ("\"z\":1", "\"z\":1,\"\\u007a\":2"),
    ] {
        let twice = once.replace(from, to);
        assert_ne!(once, twice);
        let error = Registry::parse(twice.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("stands twice"), "{error}");
    }
    assert!(Registry::parse(format!("{once} {{}}").as_bytes()).is_err());
}

#[test]
fn a_published_version_never_changes_and_latest_moves() {
    let (mut registry, name) = (Registry::empty(), package_name("a/b"));
    let (v1, v2) = (version("v1"), version("v2"));
    assert_eq!(registry.next_version(&name), v1);
    assert_eq!(registry.add(&name, &v1, entry(1, "2026-01-01T00:00:00Z")).unwrap(), Added::New);
    assert_eq!(registry.add(&name, &v2, entry(2, "2026-01-02T00:00:00Z")).unwrap(), Added::New);
    let before = registry.clone();
    assert_eq!(registry.add(&name, &v1, entry(1, "2027-01-01T00:00:00Z")).unwrap(), Added::Unchanged);
    assert_eq!(
        code(registry.add(&name, &v1, entry(3, "2026-01-03T00:00:00Z")).unwrap_err()),
        ErrorCode::AlreadyExists
    );
    assert_eq!(
        code(registry.add(&name, &VersionName::latest(), entry(3, "")).unwrap_err()),
        ErrorCode::Usage
    );
    assert_eq!(registry, before);
    assert_eq!(registry.resolve(&name, None).unwrap().version, Some(&v2));
    assert_eq!(registry.next_version(&name), version("v3"));
}

#[test]
fn a_version_without_a_digest_is_never_taken_for_the_same() {
    let (mut registry, name) = (Registry::empty(), package_name("a/b"));
    let bare = VersionEntry { url: "x".into(), ..VersionEntry::default() };
    registry.add(&name, &version("v1"), bare.clone()).unwrap();
    assert_eq!(code(registry.add(&name, &version("v1"), bare).unwrap_err()), ErrorCode::AlreadyExists);
}

#[test]
fn latest_falls_back_to_the_newest_that_remains() {
    let (mut registry, name) = (Registry::empty(), package_name("a/b"));
    for (v, seed, day) in [("v9", 9, 3), ("v10", 10, 3), ("v1", 1, 1), ("v11", 11, 2)] {
        registry.add(&name, &version(v), entry(seed, &format!("2026-01-0{day}T00:00:00Z"))).unwrap();
    }
    registry.remove(&name, Some(&version("v1"))).unwrap();
    assert_eq!(registry.resolve(&name, None).unwrap().version, Some(&version("v11")));
    registry.remove(&name, Some(&version("v11"))).unwrap();
    assert_eq!(registry.resolve(&name, None).unwrap().version, Some(&version("v10")));
    assert_eq!(code(registry.remove(&name, Some(&VersionName::latest())).unwrap_err()), ErrorCode::Usage);
    assert_eq!(code(registry.remove(&name, Some(&version("v11"))).unwrap_err()), ErrorCode::NotFound);
    registry.remove(&name, Some(&version("v9"))).unwrap();
    registry.remove(&name, Some(&version("v10"))).unwrap();
    assert_eq!(registry.packages().count(), 0);
    assert_eq!(code(registry.remove(&name, None).unwrap_err()), ErrorCode::NotFound);
}

#[test]
fn an_older_version_that_goes_leaves_latest_alone() {
    let mut registry = Registry::parse(OTHERS.as_bytes()).unwrap();
    let name = package_name("tine/python-numpy");
    registry.add(&name, &version("v2"), entry(2, "2020-01-01T00:00:00Z")).unwrap();
    registry.remove(&name, Some(&version("v1"))).unwrap();
    assert_eq!(registry.resolve(&name, None).unwrap().version, Some(&version("v2")));
}

#[test]
fn what_is_not_there_is_answered_with_what_comes_near() {
    let mut registry = Registry::parse(OTHERS.as_bytes()).unwrap();
    registry.add(&package_name("a/b"), &version("v1"), entry(1, "")).unwrap();
    for wanted in ["tine/python-nunpy", "other/python-numpy"] {
        let error: tine_model::Error = registry.resolve(&package_name(wanted), None).unwrap_err().into();
        assert_eq!(error.code, ErrorCode::NotFound);
        assert!(error.message.contains("tine/python-numpy") && !error.message.contains("a/b"), "{error}");
        assert_eq!(error.hint.as_deref(), Some("tine pull tine/python-numpy"));
    }
    let far: tine_model::Error = registry.resolve(&package_name("zzz/zzz"), None).unwrap_err().into();
    assert_eq!(far.hint.as_deref(), Some("tine hub list"));
    let numpy = package_name("tine/python-numpy");
    let error: tine_model::Error = registry.resolve(&numpy, Some(&version("v77"))).unwrap_err().into();
    assert!(error.message.contains("latest, v1"), "{error}");
}

#[test]
fn search_looks_at_names_and_descriptions() {
    let mut registry = Registry::parse(OTHERS.as_bytes()).unwrap();
    registry.add(&package_name("a/b"), &version("v1"), entry(1, "")).unwrap();
    registry.describe(&package_name("a/b"), "A Box");
    let names = |text: &str| registry.search(text).iter().map(|l| l.package.to_string()).collect::<Vec<_>>();
    assert_eq!(names("WITH NUMPY"), ["tine/python-numpy"]);
    assert_eq!(names("box"), ["a/b"]);
    assert_eq!(names(""), ["a/b", "tine/python-numpy"]);
    assert!(names("nothing").is_empty());
}

fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("schema_version"),
        Just("packages"),
        Just("a/b"),
        Just("versions"),
        Just("latest"),
        Just("url"),
        Just("sha256"),
        Just("tine"),
        Just("serial"),
        Just("x")
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        Just(json!(1)),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|f| json!(f)),
        "\\PC{0,10}".prop_map(Value::from)
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|m| Value::Object(m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()))
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Registry::parse(&bytes);
    }

    #[test]
    fn no_json_panics_and_what_is_taken_is_written_the_same(versions in any_json(), extra in any_json()) {
        let mut document = with(|d| d["extra"] = extra);
        if let Value::Object(map) = versions {
            document["packages"]["a/b"].as_object_mut().unwrap().extend(map);
        }
        if let Ok(registry) = Registry::parse(document.to_string().as_bytes()) {
            let bytes = registry.to_bytes().unwrap();
            prop_assert_eq!(Registry::parse(&bytes).unwrap().to_bytes().unwrap(), bytes);
        }
    }
}
