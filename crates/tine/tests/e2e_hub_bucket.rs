//! Hubs in a bucket, and pushing to a store, with an S3 server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/packs.rs"]
mod packs;
#[path = "support/s3.rs"]
mod s3;
mod support;

use packs::{BESIDE, DISK, make, sample, text};
use s3::S3;
use std::{
    fs,
    path::Path,
    process::{Child, Output, Stdio},
};
use support::{Done, Fixture, eventually, names};
use tine_pack::Layout;

const HUB: &str = "s3://shelf/team/hub";

/// A pool, and a server to reach from it.
struct Case {
    f: Fixture,
    s3: S3,
}

impl Case {
    fn new() -> Self {
        Self { f: Fixture::empty(), s3: S3::start() }
    }

    /// With a hub.
    fn with_hub(words: &[&str]) -> Self {
        let case = Self::new();
        let init = ["hub", "init", HUB];
        assert_eq!(case.ok(&[&init, words].concat()), format!("{HUB}\n"));
        case
    }

    fn run(&self, words: &[&str]) -> Done {
        Done::new(words, self.s3.command(&self.f, words).output().unwrap())
    }

    fn ok(&self, words: &[&str]) -> String {
        let done = self.run(words);
        assert_eq!(done.code, 0, "{done:?}");
        done.out
    }

    fn json(&self, words: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(&[&["--json"], words].concat())).unwrap()
    }

    fn refuses(&self, code: &str, words: &[&str]) -> String {
        let done = self.run(&[&["--json"], words].concat());
        let document: serde_json::Value = serde_json::from_str(&done.out).unwrap();
        assert_eq!((document["error"]["code"].as_str().unwrap(), done.code != 0), (code, true), "{done:?}");
        document["error"]["message"].as_str().unwrap().to_owned()
    }

    fn start(&self, words: &[&str]) -> Child {
        let mut command = self.s3.command(&self.f, words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// A pack of one machine; another seed gives another.
    fn pack(&self, tag: &str, seed: u64) -> String {
        make(&self.f.dir().join(format!("{tag}.tine.tar.zst")), Layout::V3, tag, 1, seed)
    }

    fn add(&self, pack: &str, package: &str) -> String {
        self.ok(&["hub", "add", pack, package, "--hub", HUB])
    }

    fn listed(&self) -> String {
        self.ok(&["-q", "hub", "list", "--hub", HUB])
    }

    fn verified(&self) -> serde_json::Value {
        let report = self.json(&["hub", "verify", "--hub", HUB]);
        assert!(report["problems"].as_array().unwrap().is_empty(), "{report}");
        report
    }

    fn unreferenced(&self) -> usize {
        self.verified()["unreferenced"].as_array().unwrap().len()
    }

    /// The objects of the bucket, whatever their depth.
    fn objects(&self) -> Vec<String> {
        let mut all = Vec::new();
        collect(&self.s3.path(""), &self.s3.path(""), &mut all);
        all.sort();
        all
    }

    fn uploads(&self) -> Vec<String> {
        names(&self.f.pool().join("uploads"))
    }
}

fn collect(root: &Path, dir: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, all);
        } else {
            all.push(text(path.strip_prefix(root).unwrap()));
        }
    }
}

fn ended(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

#[test]
fn a_hub_is_made_filled_searched_verified_and_emptied_in_a_bucket() {
    require!("btrfs");
    let case = Case::with_hub(&[]);
    assert!(case.refuses("already_exists", &["hub", "init", HUB]).contains(HUB));
    assert_eq!(case.objects(), ["team/hub/hub.json", "team/hub/registry.json"]);
    let (one, two) = (case.pack("one", 1), case.pack("two", 2));
    assert_eq!(case.add(&one, "tine/numpy"), "tine/numpy@v1\n");
    assert_eq!(case.add(&two, "tine/numpy"), "tine/numpy@v2\n");
    let beside = sample(&case.f.dir().join("in"), BESIDE);
    sample(&case.f.dir().join("in"), DISK);
    case.add(&beside, "others/side");
    assert_eq!(case.listed(), "others/side\ntine/numpy\n");
    assert_eq!(case.ok(&["-q", "images", "--hub", HUB]), "others/side\ntine/numpy\n");
    assert_eq!(case.ok(&["-q", "hub", "search", "SEED 2", "--hub", HUB]), "tine/numpy\n");
    let report = case.verified();
    assert_eq!((&report["versions"], &report["files"]), (&3.into(), &4.into()), "{report}");
    case.ok(&["hub", "remove", "tine/numpy@v2", "--hub", HUB, "--yes"]);
    assert_eq!(case.json(&["hub", "list", "--hub", HUB])[1]["version"], "v1");
    case.ok(&["hub", "remove", "others/side", "--hub", HUB, "--yes"]);
    case.refuses("not_found", &["hub", "remove", "others/side", "--hub", HUB, "--yes"]);
    assert_eq!((case.listed().as_str(), case.unreferenced()), ("tine/numpy\n", 0));
    assert_eq!(case.objects().len(), 3, "{:?}", case.objects());
}

#[test]
fn a_published_version_never_changes_in_a_bucket() {
    require!("btrfs");
    let case = Case::with_hub(&[]);
    let one = case.pack("one", 1);
    case.add(&one, "tine/numpy@v1");
    let (registry, objects) = (fs::read(case.s3.path("team/hub/registry.json")).unwrap(), case.objects());
    let again = case.json(&["hub", "add", &one, "tine/numpy@v1", "--hub", HUB]);
    assert_eq!((&again["unchanged"], &again["version"]), (&true.into(), &"v1".into()));
    let other = case.pack("one", 9);
    let message = case.refuses("already_exists", &["hub", "add", &other, "tine/numpy@v1", "--hub", HUB]);
    assert!(message.contains("v1"), "{message}");
    case.refuses("usage", &["hub", "add", &other, "tine/numpy@latest", "--hub", HUB]);
    assert_eq!(fs::read(case.s3.path("team/hub/registry.json")).unwrap(), registry);
    assert_eq!(case.objects(), objects);
}

#[test]
fn all_who_add_at_once_are_listed() {
    require!("btrfs");
    for words in [&[][..], &["--sign", "release"]] {
        let case = Case::new();
        case.ok(&["key", "generate", "release"]);
        case.ok(&[&["hub", "init", HUB], words].concat());
        let packs: Vec<_> = (1..=4).map(|n| case.pack(&format!("p{n}"), n)).collect();
        let adding = packs
            .iter()
            .enumerate()
            .map(|(n, pack)| case.start(&["hub", "add", pack, &format!("o/p{n}"), "--hub", HUB]));
        for child in adding.collect::<Vec<_>>() {
            let done = ended(child);
            assert!(done.status.success(), "{done:?}");
        }
        assert_eq!(case.listed(), "o/p0\no/p1\no/p2\no/p3\n");
        assert_eq!(case.unreferenced(), 0);
        // of one package each gets a version of its own
        let adding = packs.iter().map(|pack| case.start(&["hub", "add", pack, "o/all", "--hub", HUB]));
        for child in adding.collect::<Vec<_>>() {
            let done = ended(child);
            assert!(done.status.success(), "{done:?}");
        }
        assert_eq!(case.json(&["hub", "list", "--hub", HUB])[0]["versions"], 4);
        assert_eq!(case.unreferenced(), 0);
    }
}

#[test]
fn of_two_packs_under_one_version_at_once_one_is_published() {
    require!("btrfs");
    let case = Case::with_hub(&[]);
    let packs = [case.pack("one", 1), case.pack("two", 2)];
    let adding =
        packs.each_ref().map(|pack| case.start(&["--json", "hub", "add", pack, "o/n@v1", "--hub", HUB]));
    let done = adding.map(ended);
    assert_eq!(done.iter().filter(|done| done.status.success()).count(), 1, "{done:?}");
    let lost = done.iter().find(|done| !done.status.success()).unwrap();
    assert!(String::from_utf8_lossy(&lost.stdout).contains("already_exists"), "{lost:?}");
    assert_eq!((case.unreferenced(), case.objects().len()), (0, 3), "{:?}", case.objects());
}

#[test]
fn a_signed_hub_in_a_bucket_is_taken_by_who_trusts_its_key() {
    require!("btrfs");
    let case = Case::new();
    case.ok(&["key", "generate", "release"]);
    let key = case.json(&["key", "list"])[0]["public_key"].as_str().unwrap().to_owned();
    case.ok(&["hub", "init", HUB, "--sign", "release"]);
    case.add(&case.pack("one", 1), "o/one");
    let reader = Case { f: Fixture::empty(), s3: S3::start() };
    let there = |words: &[&str]| Done::new(words, case.s3.command(&reader.f, words).output().unwrap());
    assert_eq!(there(&["key", "policy", "require"]).code, 0);
    let done = there(&["--json", "pull", "o/one", "--hub", HUB]);
    assert!(done.code == 1 && done.out.contains("untrusted"), "{done:?}");
    assert_eq!(there(&["key", "trust", "theirs", &key]).code, 0);
    assert_eq!(there(&["-q", "hub", "list", "--hub", HUB]).out, "o/one\n");
    case.add(&case.pack("two", 2), "o/two");
    assert_eq!(there(&["-q", "hub", "list", "--hub", HUB]).out, "o/one\no/two\n");
    case.verified();
}

#[test]
fn images_are_pushed_to_a_bucket_and_pulled_from_it() {
    require!("btrfs");
    let case = Case::with_hub(&[]);
    case.ok(&["unpack", &case.pack("numpy", 1)]);
    case.ok(&["hub", "default", HUB]);
    let pushed = case.json(&["push", "--tag", "numpy", "tine/numpy@v7"]);
    assert_eq!(pushed["package"], "tine/numpy@v7");
    let reader = Fixture::empty();
    let there = |words: &[&str]| Done::new(words, case.s3.command(&reader, words).output().unwrap());
    let done = there(&["pull", "tine/numpy", "--hub", HUB]);
    assert_eq!((done.code, done.out.as_str()), (0, "numpy\n"), "{done:?}");
    assert!(done.err.contains("pulled tine/numpy@v7"), "{done:?}");
    assert_eq!(reader.fact("numpy", "memory_digest"), case.f.fact("numpy", "memory_digest"));
    assert_eq!((case.uploads(), case.f.staging()), (vec![], vec![]));
    reader.check();
    case.f.check();
}

#[test]
fn a_killed_add_leaves_at_most_a_file_that_verify_tells_of() {
    require!("btrfs");
    let case = Case::with_hub(&[]);
    let pack = case.pack("one", 1);
    case.s3.heal();
    case.s3.hold("PUT /shelf/team/hub/registry.json", 0);
    let mut child = case.start(&["hub", "add", &pack, "o/n", "--hub", HUB]);
    eventually("it is about to publish", || case.s3.asked(&["PUT", "registry.json"]) > 0);
    child.kill().unwrap();
    ended(child);
    case.s3.heal();
    assert_eq!((case.listed().as_str(), case.unreferenced()), ("", 1));
    assert_eq!(case.add(&pack, "o/n"), "o/n@v1\n");
    assert_eq!((case.listed().as_str(), case.unreferenced()), ("o/n\n", 1));
    let done = case.run(&["hub", "verify", "--hub", HUB]);
    assert!(done.code == 0 && done.err.contains("no entry refers to packs/o/n/"), "{done:?}");
}

#[test]
fn a_killed_push_goes_on_with_the_parts_that_are_there() {
    require!("btrfs");
    let case = Case::with_hub(&[]);
    let pack = make(&case.f.dir().join("big.tine.tar.zst"), Layout::V3, "big", 50, 1);
    case.ok(&["unpack", &pack]);
    case.ok(&["key", "generate", "release"]);
    for target in ["s3://shelf/some/big.tar.zst", "o/big"] {
        let words = ["push", "--tag", "big", target, "--hub", HUB, "--sign", "release"];
        case.s3.heal();
        case.s3.hold("partNumber=", 3);
        let mut child = case.start(&words);
        eventually("three parts are there", || journaled(&case) == 3);
        child.kill().unwrap();
        ended(child);
        let asked = case.s3.asked(&["PUT", "partNumber="]);
        assert!(asked > 3, "{asked}");
        case.s3.heal();
        let pushed = case.json(&words);
        assert_eq!(case.s3.asked(&["PUT", "partNumber="]), 4, "{:?}", case.s3.log());
        // none is begun, and the one that is there is completed
        assert_eq!((case.s3.asked(&["POST", "?uploads"]), case.s3.asked(&["POST", "?uploadId="])), (0, 1));
        assert_eq!(pushed["reused_bytes"], 3 * (8 << 20), "{pushed}");
        assert_eq!((case.uploads(), case.f.staging()), (vec![], vec![]));
        let reader = Fixture::empty();
        let pull = ["pull", target, "--hub", HUB];
        let pulled = Done::new(&pull, case.s3.command(&reader, &pull).output().unwrap());
        assert_eq!((pulled.code, pulled.out.as_str()), (0, "big\n"), "{pulled:?}");
    }
    case.verified();
}

/// Parts that a broken upload has written down.
fn journaled(case: &Case) -> usize {
    let mut all = Vec::new();
    let dir = case.f.pool().join("uploads");
    collect(&dir, &dir, &mut all);
    let journals = all.iter().filter(|name| name.ends_with(".parts"));
    let lines = |name: &String| fs::read_to_string(dir.join(name)).unwrap_or_default();
    journals.map(|name| lines(name).lines().filter(|line| line.contains("\"part\":[")).count()).sum()
}

#[test]
fn gc_removes_what_broken_pushes_have_left() {
    require!("btrfs");
    let case = Case::new();
    let pack = make(&case.f.dir().join("big.tine.tar.zst"), Layout::V3, "big", 20, 1);
    case.ok(&["unpack", &pack]);
    case.s3.hold("partNumber=", 1);
    let mut child = case.start(&["push", "--tag", "big", "s3://shelf/big.tar.zst"]);
    eventually("a part is there", || journaled(&case) == 1);
    child.kill().unwrap();
    ended(child);
    assert_eq!(case.uploads().len(), 1);
    assert!(case.ok(&["gc"]).contains("upload "));
    assert_eq!(case.uploads(), Vec::<String>::new());
    case.s3.heal();
    assert_eq!(case.json(&["push", "--tag", "big", "s3://shelf/big.tar.zst"])["reused_bytes"], 0);
    case.f.check();
}

#[test]
fn a_store_that_ignores_conditions_is_refused() {
    require!("btrfs");
    let case = Case { f: Fixture::empty(), s3: S3::unconditional() };
    let message = case.refuses("unsupported", &["hub", "init", HUB]);
    assert!(message.contains("condition"), "{message}");
    assert_eq!(case.objects(), Vec::<String>::new());
    // a hub that was made in a folder and copied
    let folder = text(&case.f.dir().join("hub"));
    case.ok(&["hub", "init", &folder]);
    fs::create_dir_all(case.s3.path("team/hub")).unwrap();
    for name in ["hub.json", "registry.json"] {
        fs::copy(Path::new(&folder).join(name), case.s3.path("team/hub").join(name)).unwrap();
    }
    let pack = case.pack("one", 1);
    case.refuses("unsupported", &["hub", "add", &pack, "o/n", "--hub", HUB]);
    assert_eq!((case.listed().as_str(), case.objects().len()), ("", 2));
}

#[test]
fn hubs_that_are_not_there_and_credentials_that_are_wrong_are_told() {
    require!("btrfs");
    let case = Case::new();
    let pack = case.pack("one", 1);
    let done = case.run(&["hub", "add", &pack, "o/n", "--hub", HUB]);
    assert!(done.err.contains(&format!("hint: tine hub init {HUB}")), "{done:?}");
    case.refuses("not_found", &["hub", "list", "--hub", HUB]);
    case.ok(&["unpack", &pack]);
    let done = case.run(&["push", "--tag", "one", "o/n", "--hub", HUB]);
    assert!(done.code == 1 && !done.err.contains("packing"), "{done:?}");
    assert_eq!(case.uploads(), Vec::<String>::new());
    case.refuses("usage", &["hub", "add", &pack, "o/n", "--hub", "s3://shelf/other.json"]);
    let mut command = case.s3.command(&case.f, &["--json", "hub", "init", HUB]);
    let done = command.env("AWS_SECRET_ACCESS_KEY", "wrong").output().unwrap();
    let out = String::from_utf8_lossy(&done.stdout);
    assert!(out.contains("forbidden") || out.contains("unauthorized"), "{done:?}");
}
