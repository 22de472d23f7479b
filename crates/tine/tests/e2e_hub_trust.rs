//! Signed hubs, and hubs that turn: old registries, expired ones, stripped signatures, swapped and lesser packs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/packs.rs"]
mod packs;
mod support;
#[expect(dead_code, reason = "its servers are as good as they can be")]
#[path = "support/web.rs"]
mod web;

use packs::{make, sha256, text};
use std::{
    fs,
    path::{Path, PathBuf},
};
use support::Fixture;
use tine_pack::Layout;
use web::Web;

const FILES: [&str; 2] = ["registry.json", "registry.json.minisig"];

/// A signed hub with one signed package in one version, and a pool that trusts its key.
struct Case {
    keeper: Fixture,
    reader: Fixture,
    folder: PathBuf,
    name: String,
    url: String,
    _web: Web,
}

impl Case {
    fn new(policy: &str) -> Self {
        let (keeper, reader) = (Fixture::empty(), Fixture::empty());
        let public = keeper.ok(&["key", "generate", "release"]).trim().to_owned();
        reader.ok(&["key", "trust", "release", &public]);
        reader.ok(&["key", "policy", policy]);
        let folder = keeper.dir().join("hub");
        let name = text(&folder);
        keeper.ok(&["hub", "init", &name, "--sign", "release"]);
        let web = Web::of(&folder);
        let case = Self { keeper, reader, folder, name, url: web.url(""), _web: web };
        case.publish("o/n@v1", 1);
        case
    }

    /// Publishes a signed pack of its own content.
    fn publish(&self, package: &str, seed: u64) {
        let pack = self.pack(seed);
        self.keeper.ok(&["hub", "add", &pack, package, "--hub", &self.name]);
    }

    fn pack(&self, seed: u64) -> String {
        let (raw, out) =
            (self.keeper.dir().join("raw"), self.keeper.dir().join(format!("p{seed}.tine.tar.zst")));
        let raw = make(&raw, Layout::V3, "image", 1, seed);
        self.keeper.ok(&["unpack", &raw, "--force"]);
        self.keeper.ok(&["pack", "--tag", "image", "--sign", "release", "-o", &text(&out)]);
        text(&out)
    }

    fn pull(&self, package: &str) -> String {
        self.reader.ok(&["pull", package, "--hub", &self.url, "--force"])
    }

    fn refuses(&self, package: &str) -> String {
        self.reader.leaves_all("untrusted", &["pull", package, "--hub", &self.url, "--force"])
    }

    fn keep(&self) -> [Vec<u8>; 2] {
        FILES.map(|name| fs::read(self.folder.join(name)).unwrap())
    }

    fn put(&self, files: &[Vec<u8>; 2]) {
        FILES
            .iter()
            .zip(files)
            .for_each(|(name, content)| fs::write(self.folder.join(name), content).unwrap());
    }
}

#[test]
fn a_signed_hub_is_read_where_that_is_required() {
    require!("btrfs");
    let case = Case::new("require");
    assert_eq!(case.pull("o/n"), "image\n");
    case.keeper.ok(&["hub", "verify", "--hub", &case.name]);
    let stranger = Fixture::empty();
    stranger.ok(&["key", "policy", "require"]);
    let message = stranger.leaves_all("untrusted", &["images", "--hub", &case.url]);
    assert!(message.contains("registry"), "{message}");
    stranger.ok(&["key", "policy", "off", "--hub", &case.url]);
    stranger.ok(&["pull", "o/n", "--hub", &case.url]);
}

#[test]
fn an_old_registry_is_refused() {
    require!("btrfs");
    for policy in ["require", "warn"] {
        let case = Case::new(policy);
        let old = case.keep();
        case.publish("o/n@v2", 2);
        case.pull("o/n");
        let new = case.keep();
        case.put(&old);
        let message = case.refuses("o/n");
        assert!(message.contains("rollback") && message.contains("serial"), "{message}");
        case.put(&new);
        case.pull("o/n");
    }
}

#[test]
fn an_expired_registry_is_refused() {
    require!("btrfs");
    let case = Case::new("require");
    let settings = case.folder.join("hub.json");
    let text = fs::read_to_string(&settings).unwrap();
    assert!(text.contains("\"expiry_days\": 30"), "{text}");
    fs::write(&settings, text.replace("\"expiry_days\": 30", "\"expiry_days\": 0")).unwrap();
    case.publish("o/n@v2", 2);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let message = case.refuses("o/n");
    assert!(message.contains("freeze") && message.contains("expired at"), "{message}");
    fs::write(&settings, text).unwrap();
    case.publish("o/n@v3", 3);
    case.pull("o/n");
}

#[test]
fn a_registry_without_its_signature_is_refused() {
    require!("btrfs");
    let case = Case::new("warn");
    case.pull("o/n");
    let kept = case.keep();
    fs::remove_file(case.folder.join(FILES[1])).unwrap();
    let message = case.refuses("o/n");
    assert!(message.contains("stripped signature"), "{message}");
    // one that another key has signed is no better
    let other = Fixture::empty();
    other.ok(&["key", "generate", "other"]);
    let name = text(&other.dir().join("hub"));
    other.ok(&["hub", "init", &name, "--sign", "other"]);
    case.put(&FILES.map(|file| fs::read(Path::new(&name).join(file)).unwrap()));
    let message = case.refuses("o/n");
    assert!(message.contains("stripped signature"), "{message}");
    // a changed one under the old signature
    case.put(&kept);
    let changed = String::from_utf8(kept[0].clone()).unwrap().replacen("o/n", "o/m", 1);
    fs::write(case.folder.join(FILES[0]), changed).unwrap();
    let message = case.refuses("o/m");
    assert!(message.contains("registry"), "{message}");
    case.put(&kept);
    case.pull("o/n");
}

#[test]
fn another_pack_under_a_version_that_was_pulled_is_refused() {
    require!("btrfs");
    for policy in ["require", "warn"] {
        let case = Case::new(policy);
        case.publish("o/n@v2", 2);
        case.pull("o/n@v1");
        case.keeper.ok(&["hub", "remove", "o/n@v1", "--hub", &case.name, "--yes"]);
        case.publish("o/n@v1", 3);
        let message = case.refuses("o/n@v1");
        assert!(message.contains("swapped package") && message.contains("never changes"), "{message}");
        // the file alone, which the registry then does not fit
        let pack = case.folder.join("packs/o/n/v2/p2.tine.tar.zst");
        fs::write(&pack, fs::read(case.pack(4)).unwrap()).unwrap();
        let done = case.reader.run(&["--json", "pull", "o/n@v2", "--hub", &case.url, "--force"]);
        assert!(done.code == 1 && done.out.contains("invalid_input"), "{done:?}");
        case.reader.check();
    }
}

#[test]
fn a_lesser_pack_of_a_package_is_told_of_or_refused() {
    require!("btrfs");
    for policy in ["warn", "require"] {
        let case = Case::new(policy);
        case.pull("o/n@v1");
        let old = make(&case.keeper.dir().join("old.forkd-snapshot.tar.zst"), Layout::V1, "image", 1, 5);
        case.keeper.ok(&["hub", "add", &old, "o/n@v2", "--hub", &case.name]);
        let bare = make(&case.keeper.dir().join("bare.tine.tar.zst"), Layout::V3, "image", 1, 6);
        case.keeper.ok(&["hub", "add", &bare, "o/n@v3", "--hub", &case.name]);
        if policy == "require" {
            let message = case.refuses("o/n@v2");
            assert!(message.contains("downgraded layout") && message.contains("stripped"), "{message}");
            let message = case.refuses("o/n@v3");
            assert!(message.contains("stripped signature") && !message.contains("downgraded"), "{message}");
            // who has seen nothing of it is told what it lacks
            case.keeper.ok(&["hub", "add", &bare, "o/new", "--hub", &case.name]);
            assert!(case.refuses("o/new").contains("is not signed"));
            continue;
        }
        for (version, why) in [("o/n@v2", "downgraded layout"), ("o/n@v3", "stripped signature")] {
            let done = case.reader.run(&["pull", version, "--hub", &case.url, "--force"]);
            assert!(done.code == 0 && done.err.contains(why), "{done:?}");
        }
    }
}

#[test]
fn a_hub_that_was_not_signed_can_still_not_swap_a_version() {
    require!("btrfs");
    let (keeper, reader) = (Fixture::empty(), Fixture::empty());
    let folder = keeper.dir().join("hub");
    let name = text(&folder);
    keeper.ok(&["hub", "init", &name]);
    let one = make(&keeper.dir().join("one.tine.tar.zst"), Layout::V3, "image", 1, 1);
    keeper.ok(&["hub", "add", &one, "o/n", "--hub", &name]);
    let web = Web::of(&folder);
    let done = reader.run(&["pull", "o/n", "--hub", &web.url("")]);
    assert!(done.code == 0 && done.err.contains("is not signed"), "{done:?}");
    let pack = folder.join("packs/o/n/v1/one.tine.tar.zst");
    let before = sha256(&pack);
    make(&pack, Layout::V3, "image", 1, 2);
    let registry = fs::read_to_string(folder.join("registry.json")).unwrap();
    fs::write(folder.join("registry.json"), registry.replace(&before, &sha256(&pack))).unwrap();
    let message = reader.leaves_all("untrusted", &["pull", "o/n@v1", "--hub", &web.url(""), "--force"]);
    assert!(message.contains("swapped package"), "{message}");
}

#[test]
fn another_pack_is_refused_before_it_shows_where_the_registry_names_no_digest() {
    require!("btrfs");
    let f = Fixture::empty();
    let folder = f.dir().join("www");
    fs::create_dir(&folder).unwrap();
    let pack = folder.join("p.tine.tar.zst");
    make(&pack, Layout::V3, "image", 1, 1);
    let version = serde_json::json!({ "url": "p.tine.tar.zst" });
    let package = serde_json::json!({ "versions": { "latest": version, "v1": version } });
    let registry = serde_json::json!({ "schema_version": 1, "packages": { "o/n": package } });
    fs::write(folder.join("registry.json"), registry.to_string()).unwrap();
    let web = Web::of(&folder);
    let pull = ["pull", "o/n@v1", "--hub", &web.url(""), "--force"];
    f.ok(&pull);
    let first = f.fact("image", "memory_digest");
    f.ok(&pull);
    for tag in ["image", "other"] {
        make(&pack, Layout::V3, tag, 1, 2);
        let message = f.leaves_all("untrusted", &pull);
        assert!(message.contains("swapped package") && message.contains("o/n@v1"), "{message}");
        assert_eq!((f.downloads(), f.tags()), (vec![], vec!["image".to_owned()]));
    }
    assert_eq!(f.fact("image", "memory_digest"), first);
    f.ok(&["key", "policy", "off"]);
    assert_eq!(f.ok(&pull), "other\n");
}
