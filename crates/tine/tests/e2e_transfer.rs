//! What is here is not fetched again, and https stays https: with nginx.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/nginx.rs"]
mod nginx;
#[path = "support/packs.rs"]
mod packs;
mod support;

use nginx::{Nginx, certified};
use packs::{make_chain, text};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};
use support::{Done, Fixture};
use tine_pack::Layout;

const MIB: u64 = 1 << 20;
const LONG: &str = "long.tine.tar.zst";
const TAGS: [&str; 3] = ["root", "mid", "leaf"];

/// A hub with a package of two images in version 1 and one more in version 2, and a pool that has the first.
struct Case {
    keeper: Fixture,
    reader: Fixture,
    folder: PathBuf,
    nginx: Nginx,
}

impl Case {
    fn new(extra: &str) -> Self {
        let (keeper, reader) = (Fixture::empty(), Fixture::empty());
        let folder = keeper.dir().join("hub");
        keeper.ok(&["hub", "init", &text(&folder)]);
        for (name, links) in [("short.tine.tar.zst", 2), (LONG, 3)] {
            let pack = make_chain(&keeper.dir().join(name), Layout::V3, &TAGS[..links], 9, 1);
            keeper.ok(&["hub", "add", &pack, "o/n", "--hub", &text(&folder)]);
        }
        let nginx = Nginx::of(&folder, &keeper.dir().join("nginx"), extra);
        reader.ok(&["pull", "o/n@v1", "--hub", &nginx.url("")]);
        Self { keeper, reader, folder, nginx }
    }

    fn pull(&self) -> Value {
        self.reader.json(&["pull", "o/n@v2", "--hub", &self.nginx.url("")])
    }

    fn refuses(&self, code: &str) -> String {
        let message = self.reader.leaves_all(code, &["pull", "o/n@v2", "--hub", &self.nginx.url("")]);
        assert_eq!(self.reader.downloads(), Vec::<String>::new());
        message
    }

    /// Changes what the registry says.
    fn registry(&self, change: impl Fn(&mut Value)) {
        let path = self.folder.join("registry.json");
        let mut registry: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for version in ["v2", "latest"] {
            change(&mut registry["packages"]["o/n"]["versions"][version]);
        }
        fs::write(path, registry.to_string()).unwrap();
    }

    /// The pack of version 2 at the hub.
    fn pack(&self) -> PathBuf {
        self.folder.join("packs/o/n/v2").join(LONG)
    }

    /// What the image must be, by a pool that has taken all of the pack.
    fn assert_right(&self) {
        let other = Fixture::empty();
        other.ok(&["unpack", &text(&self.keeper.dir().join(LONG))]);
        for fact in ["memory_digest", "vmstate_digest", "parent"] {
            assert_eq!(self.reader.fact("leaf", fact), other.fact("leaf", fact), "{fact}");
        }
        self.reader.ok(&["check", "--read-data"]);
        assert_eq!(self.reader.downloads(), Vec::<String>::new());
    }
}

fn reused(report: &Value) -> Vec<bool> {
    report["images"].as_array().unwrap().iter().map(|image| image["reused"] == true).collect()
}

#[test]
fn links_that_are_here_are_not_fetched() {
    require!("btrfs");
    require!("servers");
    let case = Case::new("");
    let ids = (case.reader.fact("root", "id"), case.reader.fact("mid", "id"));
    let report = case.pull();
    assert_eq!(reused(&report), [true, true, false]);
    assert_eq!((case.reader.fact("root", "id"), case.reader.fact("mid", "id")), ids);
    let (sent, told) = (case.nginx.sent(LONG), report["fetched_bytes"].as_u64().unwrap());
    assert!(sent < MIB && told < sent, "{sent} bytes were sent, {told} told");
    case.assert_right();
    // by its URL, of which no registry says anything
    case.reader.ok(&["image", "delete", "leaf", "--yes"]);
    let url = case.nginx.url(&format!("packs/o/n/v2/{LONG}"));
    assert_eq!(reused(&case.reader.json(&["pull", &url])), [true, true, false]);
    assert!(case.nginx.sent(LONG) < 2 * MIB);
    // what is missing is fetched, though it lies between
    case.reader.ok(&["image", "delete", "leaf", "--yes"]);
    case.reader.ok(&["image", "delete", "mid", "--yes"]);
    assert_eq!(reused(&case.reader.json(&["pull", &url])), [true, false, false]);
    assert!(case.nginx.sent(LONG) < 3 * MIB);
    case.assert_right();
}

#[test]
fn all_is_fetched_where_nothing_else_vouches_for_the_parts() {
    require!("btrfs");
    require!("servers");
    for keys in [&["tine"][..], &["tine", "sha256"], &["sha256"]] {
        let case = Case::new("");
        case.registry(|version| {
            keys.iter().for_each(|key| drop(version.as_object_mut().unwrap().remove(*key)))
        });
        assert_eq!(reused(&case.pull()), [true, true, false]);
        assert!(case.nginx.sent(LONG) > 8 * MIB, "{keys:?}");
        case.assert_right();
    }
    let case = Case::new("max_ranges 0;");
    assert_eq!(reused(&case.pull()), [true, true, false]);
    case.assert_right();
}

#[test]
fn another_manifest_than_the_registry_names_is_refused() {
    require!("btrfs");
    require!("servers");
    let case = Case::new("");
    make_chain(&case.pack(), Layout::V3, &TAGS, 10, 5);
    assert!(case.refuses("invalid_input").contains("were announced"));
    // the very parents, and another leaf
    let other = make_chain(&case.keeper.dir().join("other"), Layout::V3, &["root", "mid", "lead"], 9, 1);
    fs::copy(other, case.pack()).unwrap();
    case.registry(|version| version["size_bytes"] = Value::Null);
    assert!(case.refuses("invalid_input").contains("manifest"));
}

/// For each frame its stored length and its content's.
type Entries = Vec<(u32, u32)>;

/// Changes the table of a pack's frames.
fn with_table(pack: &Path, change: impl Fn(&mut Entries)) {
    let bytes = fs::read(pack).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let count = number(bytes.len() - 9) as usize;
    let at = bytes.len() - 9 - count * 8;
    let mut entries: Vec<_> = (0..count).map(|n| (number(at + n * 8), number(at + n * 8 + 4))).collect();
    change(&mut entries);
    let mut all = bytes[..at - 4].to_vec();
    all.extend((entries.len() as u32 * 8 + 9).to_le_bytes());
    entries.iter().for_each(|(stored, content)| {
        all.extend([stored.to_le_bytes(), content.to_le_bytes()].concat());
    });
    all.extend((entries.len() as u32).to_le_bytes());
    all.extend(&bytes[bytes.len() - 5..]);
    fs::write(pack, all).unwrap();
}

/// The first frame of the last image.
fn landing(entries: &[(u32, u32)]) -> usize {
    // its device state, its memory's header and its memory, and the end mark
    entries.len() - 4
}

#[test]
fn a_table_of_frames_that_lies_is_refused() {
    require!("btrfs");
    require!("servers");
    let lies: [fn(&mut Entries); 4] = [
        // the last image begins a byte early, a byte late, in the middle of the one before, or is the one before
        |entries| move_landing(entries, -1),
        |entries| move_landing(entries, 1),
        |entries| move_landing(entries, -300),
        |entries| {
            let at = landing(entries);
            (0..3).for_each(|n| entries.swap(at - 3 + n, at + n));
        },
    ];
    let case = Case::new("");
    let honest = fs::read(case.pack()).unwrap();
    for lie in lies {
        fs::write(case.pack(), &honest).unwrap();
        with_table(&case.pack(), lie);
        case.refuses("invalid_input");
        case.reader.leaves_all("invalid_input", &["unpack", &text(&case.pack())]);
    }
    // one that cannot be of this pack is not gone by, and the pack is not the one that was published
    fs::write(case.pack(), &honest).unwrap();
    with_table(&case.pack(), |entries| entries[3].1 -= 512);
    assert!(case.refuses("invalid_input").contains("SHA-256"));
    fs::write(case.pack(), &honest).unwrap();
    assert_eq!(reused(&case.pull()), [true, true, false]);
    case.assert_right();
}

fn move_landing(entries: &mut [(u32, u32)], by: i32) {
    let at = landing(entries);
    entries[at - 1].0 = entries[at - 1].0.checked_add_signed(by).unwrap();
    entries[at].0 = entries[at].0.checked_add_signed(-by).unwrap();
}

#[test]
fn a_pull_of_what_is_missing_that_is_killed_is_gone_on_with() {
    require!("btrfs");
    require!("servers");
    // slow enough to be in the middle of it most of the time
    let case = Case::new(&format!("location ~ {LONG}$ {{ limit_rate 40k; }}"));
    let (url, mut killed) = (case.nginx.url(""), 0);
    for n in 0..12 {
        let mut command = case.reader.command(&["pull", "o/n@v2", "--hub", &url]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20 + 35 * n));
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        case.reader.check();
        let tags = case.reader.tags();
        assert!(tags == ["mid", "root"] || tags == ["leaf", "mid", "root"], "{tags:?}");
        if tags.len() == 3 {
            case.reader.ok(&["image", "delete", "leaf", "--yes"]);
        }
    }
    assert!(killed > 0);
    assert_eq!(reused(&case.pull()), [true, true, false]);
    assert!(case.nginx.sent(LONG) < 8 * MIB);
    case.assert_right();
    case.reader.ok(&["gc"]);
    assert_eq!(case.reader.staging(), Vec::<String>::new());
}

#[test]
fn links_that_are_here_are_not_read_off_a_file() {
    require!("btrfs");
    let f = Fixture::empty();
    let name = |name: &str| f.dir().join(name);
    f.ok(&["unpack", &make_chain(&name("short"), Layout::V3, &TAGS[..2], 9, 1)]);
    let long = make_chain(&name("long"), Layout::V3, &TAGS, 9, 1);
    let mut bytes = fs::read(&long).unwrap();
    bytes[5 << 20] ^= 1;
    fs::write(&long, bytes).unwrap();
    let report = f.json(&["unpack", &long]);
    assert_eq!(reused(&report), [true, true, false]);
    assert_eq!(Fixture::empty().run(&["unpack", &long]).code, 1, "the damage is there");
    // a pipe is read through
    f.ok(&["image", "delete", "leaf", "--yes"]);
    let whole = make_chain(&name("long"), Layout::V3, &TAGS, 9, 1);
    let piped = f.feed(&["--json", "unpack", "/dev/stdin"], &fs::read(&whole).unwrap());
    assert_eq!(reused(&serde_json::from_str(&piped.out).unwrap()), [true, true, false]);
    f.ok(&["check", "--read-data"]);
}

#[test]
fn a_hub_over_https_needs_a_known_authority_and_never_goes_down_to_http() {
    require!("btrfs");
    require!("servers");
    let (keeper, reader) = (Fixture::empty(), Fixture::empty());
    let folder = keeper.dir().join("hub");
    keeper.ok(&["hub", "init", &text(&folder)]);
    let pack = make_chain(&keeper.dir().join(LONG), Layout::V3, &["image"], 1, 1);
    keeper.ok(&["hub", "add", &pack, "o/n", "--hub", &text(&folder)]);
    let plain = Nginx::of(&folder, &keeper.dir().join("plain"), "");
    let lines = format!(
        "{} location /down/ {{ return 302 {}; }} location /half/packs/ {{ return 302 {}packs/o/n/v1/{LONG}; }}
        location /half/ {{ alias {}/; }}",
        certified(keeper.dir()),
        plain.url("registry.json"),
        plain.url(""),
        folder.display()
    );
    let nginx = Nginx::of(&folder, &keeper.dir().join("tls"), &lines);
    let pull = |hub: &str, known: bool| {
        let url = nginx.url(hub);
        let args = ["--json", "pull", "o/n", "--hub", &url, "--force"];
        let mut command = reader.command(&args);
        if known {
            command.env("SSL_CERT_FILE", keeper.dir().join("ca.pem"));
        }
        Done::new(&args, command.output().unwrap())
    };
    let before = reader.seen();
    let done = pull("", false);
    assert!(done.code == 1 && done.out.contains("certificate"), "{done:?}");
    for down in ["down/", "half/"] {
        let done = pull(down, true);
        assert!(done.code == 1 && done.out.contains("https to http"), "{down}: {done:?}");
        assert!(done.out.contains("invalid_input"), "{done:?}");
        assert_eq!(reader.downloads(), Vec::<String>::new());
    }
    assert_eq!((plain.sent(".json"), plain.sent(".zst")), (0, 0), "nothing was asked for without TLS");
    reader.assert_unchanged(&before);
    assert_eq!(pull("", true).code, 0);
    assert_eq!(reader.tags(), ["image"]);
}
