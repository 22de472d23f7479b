//! Hubs: keeping one in a folder, looking at it, pulling from it over HTTP, and pushing.

#[path = "support/packs.rs"]
mod packs;
mod support;
#[path = "support/web.rs"]
mod web;

use packs::{BESIDE, DISK, V1, V2, make, sample, sha256, text};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};
use support::Fixture;
use tine_pack::Layout;
use web::Web;

/// A folder that is a hub, and its name.
fn hub(f: &Fixture) -> (PathBuf, String) {
    let folder = f.dir().join("hub");
    let name = text(&folder);
    assert_eq!(f.ok(&["hub", "init", &name]), format!("{name}\n"));
    (folder, name)
}

/// A hub with three packages, served.
fn served(f: &Fixture) -> (PathBuf, String, Web) {
    let (folder, name) = hub(f);
    let one = make(&f.dir().join("one.tine.tar.zst"), Layout::V3, "one", 1, 1);
    let two = make(&f.dir().join("two.tine.tar.zst"), Layout::V3, "two", 1, 2);
    f.ok(&["hub", "add", &one, "tine/numpy", "--hub", &name, "--description", "numbers"]);
    f.ok(&["hub", "add", &two, "tine/numpy@v2", "--hub", &name]);
    f.ok(&["hub", "add", &sample(f.dir(), V1), "others/base", "--hub", &name]);
    f.ok(&["hub", "add", &sample(f.dir(), V2), "others/chain", "--hub", &name]);
    let web = Web::of(&folder);
    (folder, name, web)
}

#[test]
fn a_hub_is_made_filled_searched_verified_and_emptied() {
    require!("btrfs");
    let f = Fixture::empty();
    let (folder, name, _web) = served(&f);
    assert!(f.refuses("already_exists", &["hub", "init", &name]).contains(&name));
    let names = "others/base\nothers/chain\ntine/numpy\n";
    assert_eq!(f.ok(&["-q", "hub", "list", "--hub", &name]), names);
    assert_eq!(f.ok(&["-q", "images", "--hub", &name]), names);
    let list = f.json(&["hub", "list", "--hub", &name]);
    assert_eq!((&list[2]["version"], &list[2]["versions"]), (&"v2".into(), &2.into()));
    assert_eq!(list[2]["description"], "made of seed 2");
    assert_eq!(f.ok(&["-q", "hub", "search", "SEED 2", "--hub", &name]), "tine/numpy\n");
    assert_eq!(f.ok(&["-q", "hub", "search", "nothing like it", "--hub", &name]), "");
    let report = f.json(&["hub", "verify", "--hub", &name]);
    assert_eq!((&report["packages"], &report["versions"]), (&3.into(), &4.into()), "{report}");
    assert!(f.ok(&["hub", "remove", "tine/numpy@v2", "--hub", &name, "--dry-run"]).is_empty());
    f.ok(&["hub", "remove", "tine/numpy@v2", "--hub", &name, "--yes"]);
    assert_eq!(f.json(&["hub", "list", "--hub", &name])[2]["version"], "v1");
    f.ok(&["hub", "remove", "others/base", "--hub", &name, "--yes"]);
    for gone in ["others/base", "tine/numpy@v2"] {
        let said = f.fails(1, &["hub", "remove", gone, "--hub", &name, "--yes"]);
        let package = gone.split('@').next().unwrap();
        assert!(said.contains(package) && said.contains(&format!("tine hub list --hub {name}")), "{said}");
    }
    assert_eq!(f.ok(&["-q", "hub", "list", "--hub", &name]), "others/chain\ntine/numpy\n");
    assert!(f.json(&["hub", "verify", "--hub", &name])["problems"].as_array().unwrap().is_empty());
    assert!(
        !folder.join("packs/others/base").exists()
            || support::names(&folder.join("packs/others/base")).is_empty()
    );
}

#[test]
fn verify_finds_what_was_changed() {
    require!("btrfs");
    let f = Fixture::empty();
    let (folder, name, _web) = served(&f);
    let pack = folder.join("packs/tine/numpy/v1/one.tine.tar.zst");
    let mut bytes = fs::read(&pack).unwrap();
    bytes[1000] ^= 1;
    fs::write(&pack, bytes).unwrap();
    fs::remove_file(folder.join("packs/tine/numpy/v2/two.tine.tar.zst")).unwrap();
    let done = f.run(&["hub", "verify", "--hub", &name]);
    assert!(done.code == 1 && done.out.contains("v1") && done.out.contains("v2"), "{done:?}");
    assert!(done.err.contains("2 problems") || done.err.contains("3 problems"), "{done:?}");
}

#[test]
fn packages_are_pulled_by_name_and_version() {
    require!("btrfs");
    let (f, g) = (Fixture::empty(), Fixture::empty());
    let (_, _, web) = served(&f);
    let url = web.url("");
    assert_eq!(g.ok(&["-q", "images", "--hub", &url]), "others/base\nothers/chain\ntine/numpy\n");
    let report = g.json(&["pull", "tine/numpy", "--hub", &url]);
    assert_eq!(
        (&report["package"], &report["images"][0]["image"]["tag"]),
        (&"tine/numpy@v2".into(), &"two".into())
    );
    let done = g.run(&["pull", "tine/numpy@v1", "--hub", &url]);
    assert_eq!((done.code, done.out.as_str()), (0, "one\n"), "{done:?}");
    assert!(done.err.contains("pulled tine/numpy@v1: fetched "), "{done:?}");
    assert_eq!(g.ok(&["pull", "others/chain", "--hub", &url]), "py-base\npy-numpy\npy-pandas\n");
    g.ok(&["hub", "default", &url]);
    assert_eq!(g.ok(&["hub", "default"]), format!("{url}\n"));
    assert_eq!(g.ok(&["pull", "others/base", "--tag", "mine"]), "mine\n");
    let mut command = g.command(&["pull", "others/base"]);
    let done = command.env("TINE_HUB_URL", web.url("registry.json")).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!((g.downloads(), g.staging()), (vec![], vec![]));
    g.check();
}

#[test]
fn a_pack_is_pulled_by_its_url_with_what_lies_beside() {
    require!("btrfs");
    let f = Fixture::empty();
    let folder = f.dir().join("www");
    sample(&folder, BESIDE);
    let web = Web::of(&folder);
    let url = web.url(BESIDE);
    assert!(f.leaves_all("not_found", &["pull", &url]).contains(DISK));
    assert_eq!(f.downloads(), Vec::<String>::new());
    sample(&folder, DISK);
    assert_eq!(f.ok(&["pull", &url]), "v1-sidecar\n");
    let asked =
        |web: &Web| web.log().iter().filter(|line| line.contains(DISK) && line.starts_with("GET")).count();
    let before = asked(&web);
    assert_eq!(f.ok(&["pull", &url, "--tag", "second"]), "second\n");
    assert_eq!(asked(&web), before, "the disk is here already");
    f.ok(&["pull", &format!("file://{}", folder.join(BESIDE).display()), "--tag", "third"]);
    assert!(f.leaves_all("not_found", &["pull", &web.url("no-such.tar.zst")]).contains("no-such"));
    assert_eq!(f.downloads(), Vec::<String>::new());
    f.check();
}

#[test]
fn a_hub_keeps_disks_beside_their_packs() {
    require!("btrfs");
    let (f, g) = (Fixture::empty(), Fixture::empty());
    let (folder, name) = hub(&f);
    let pack = sample(&f.dir().join("in"), BESIDE);
    assert!(f.refuses("not_found", &["hub", "add", &pack, "o/side", "--hub", &name]).contains(DISK));
    sample(&f.dir().join("in"), DISK);
    f.ok(&["hub", "add", &pack, "o/side", "--hub", &name]);
    let web = Web::of(&folder);
    assert_eq!(g.ok(&["pull", "o/side", "--hub", &web.url("")]), "v1-sidecar\n");
    assert_eq!(g.fact("v1-sidecar", "has_rootfs"), true);
}

#[test]
fn unknown_names_are_told_with_near_ones() {
    require!("btrfs");
    let (f, g) = (Fixture::empty(), Fixture::empty());
    let (_, _, web) = served(&f);
    let url = web.url("");
    let message = g.leaves_all("not_found", &["pull", "tine/nunpy", "--hub", &url]);
    assert!(message.contains("tine/numpy"), "{message}");
    let done = g.run(&["pull", "tine/nunpy", "--hub", &url]);
    assert!(done.err.contains(&format!("\nhint: tine pull tine/numpy --hub {url}\n")), "{done:?}");
    let done = g.run(&["pull", "a/b", "--hub", &url]);
    assert!(done.err.contains(&format!("\nhint: tine hub list --hub {url}\n")), "{done:?}");
    assert!(g.leaves_all("not_found", &["pull", "a/b", "--hub", &url]).contains("no package a/b"));
    let message = g.leaves_all("not_found", &["pull", "tine/numpy@v9", "--hub", &url]);
    assert!(message.contains("v1") && message.contains("v2"), "{message}");
    for name in ["numpy", "a/b/c", "../x", "a/b@../c", ""] {
        let done = g.run(&["--json", "pull", name, "--hub", &url]);
        assert!(done.code != 0 && done.out.contains("invalid_name"), "{done:?}");
    }
    let message = g.refuses("usage", &["pull", "a/b"]);
    assert!(message.contains("no hub is named"), "{message}");
    let message = g.refuses("not_found", &["pull", "a/b", "--hub", &web.url("nowhere")]);
    assert!(message.contains("no registry"), "{message}");
    g.refuses("unreachable", &["pull", "a/b", "--hub", "http://127.0.0.1:9/"]);
}

/// A registry as somebody else writes it.
fn registry(url: &str, sha256: Option<&str>, schema: u32) -> String {
    let version = serde_json::json!({ "url": url, "sha256": sha256, "memory_mib": 1, "base_image": "python:3.12-slim",
        "created_at": "2026-05-20T00:00:00Z", "release_tag": null });
    let versions = serde_json::json!({ "latest": version, "v1": version });
    serde_json::json!({ "_comment": "kept by hand", "schema_version": schema,
        "packages": { "official/py": { "description": "a sample", "versions": versions } } })
    .to_string()
}

#[test]
fn registries_of_others_are_read_and_lies_in_them_found() {
    require!("btrfs");
    let f = Fixture::empty();
    let folder = f.dir().join("www");
    let pack = sample(&folder, V1);
    let (web, right) = (Web::of(&folder), sha256(Path::new(&pack)));
    let url = web.url("");
    let write = |text: String| fs::write(folder.join("registry.json"), text).unwrap();
    write(registry(V1, Some(&right), 2));
    let message = f.leaves_all("incompatible", &["pull", "official/py", "--hub", &url]);
    assert!(message.contains("schema_version 2"), "{message}");
    for (bad, code) in
        [("{", "invalid_input"), ("[]", "invalid_input"), ("{\"schema_version\":1}", "invalid_input")]
    {
        write(bad.into());
        f.leaves_all(code, &["images", "--hub", &url]);
    }
    write(registry(V1, Some(&"0".repeat(64)), 1));
    let message = f.leaves_all("invalid_input", &["pull", "official/py", "--hub", &url]);
    assert!(message.contains("SHA-256"), "{message}");
    assert_eq!(f.downloads(), Vec::<String>::new());
    for elsewhere in ["ftp://h/x", "file:///etc/passwd", "javascript:1", "//127.0.0.1:9/x", "data:,x"] {
        write(registry(elsewhere, None, 1));
        f.leaves_all("invalid_input", &["pull", "official/py", "--hub", &url]);
    }
    write(registry("missing.tar.zst", None, 1));
    f.leaves_all("not_found", &["pull", "official/py", "--hub", &url]);
    write(registry(&web.url(V1), Some(&right.to_uppercase()), 1));
    assert_eq!(f.ok(&["-q", "images", "--hub", &url]), "official/py\n");
    assert_eq!(f.ok(&["pull", "official/py", "--hub", &url]), "v1-base\n");
    write(registry(V1, None, 1));
    assert_eq!(f.ok(&["pull", "official/py@v1", "--hub", &url, "--tag", "two"]), "two\n");
    f.check();
}

#[test]
fn hubs_and_targets_of_other_schemes_are_refused() {
    require!("btrfs");
    let f = Fixture::empty();
    for url in ["ftp://h/hub", "javascript:1//://x", "gopher://h/x"] {
        f.refuses("usage", &["images", "--hub", url]);
        let done = f.run(&["--json", "pull", url]);
        assert!(done.code != 0 && done.out.contains("invalid_input"), "{done:?}");
    }
    let message = f.refuses("usage", &["images", "--hub", "http://user:secret@127.0.0.1/"]);
    assert!(!message.contains("secret"), "{message}");
    f.refuses("unsupported", &["hub", "remove", "a/b", "--hub", "http://127.0.0.1:9/", "--yes"]);
}

#[test]
fn a_published_version_never_changes() {
    require!("btrfs");
    let f = Fixture::empty();
    let (folder, name, _web) = served(&f);
    let before = fs::read(folder.join("registry.json")).unwrap();
    let other = make(&f.dir().join("one.tine.tar.zst"), Layout::V3, "one", 1, 9);
    let message = f.refuses("already_exists", &["hub", "add", &other, "tine/numpy@v1", "--hub", &name]);
    assert!(message.contains("v1"), "{message}");
    f.refuses("usage", &["hub", "add", &other, "tine/numpy@latest", "--hub", &name]);
    let two = text(&f.dir().join("two.tine.tar.zst"));
    let again = f.json(&["hub", "add", &two, "tine/numpy@v2", "--hub", &name]);
    assert_eq!((&again["unchanged"], &again["version"]), (&true.into(), &"v2".into()));
    assert_eq!(f.json(&["hub", "add", &two, "tine/numpy", "--hub", &name])["unchanged"], true);
    assert_eq!(fs::read(folder.join("registry.json")).unwrap(), before);
    assert_eq!(f.json(&["hub", "add", &other, "tine/numpy", "--hub", &name])["version"], "v3");
    for bad in [f.file("empty.tar.zst", b""), f.file("text.tar.zst", b"text"), f.dir().to_owned()] {
        let done = f.run(&["hub", "add", &text(&bad), "tine/bad", "--hub", &name]);
        assert_eq!(done.code, 1, "{done:?}");
    }
    f.ok(&["hub", "verify", "--hub", &name]);
}

#[test]
fn a_pull_goes_on_where_the_server_broke_off() {
    require!("btrfs");
    let f = Fixture::empty();
    let folder = f.dir().join("www");
    fs::create_dir(&folder).unwrap();
    make(&folder.join("big.tine.tar.zst"), Layout::V3, "big", 40, 1);
    let web = Web::of(&folder);
    let url = web.url("big.tine.tar.zst");
    web.break_after(24 << 20);
    let message = f.leaves_all("unreachable", &["pull", &url]);
    assert!(message.contains("big.tine.tar.zst"), "{message}");
    assert!(!f.downloads().is_empty());
    web.heal();
    let report = f.json(&["pull", &url]);
    let (fetched, reused) =
        (report["fetched_bytes"].as_u64().unwrap(), report["reused_bytes"].as_u64().unwrap());
    assert!(reused > 8 << 20 && fetched < 36 << 20, "fetched {fetched}, reused {reused}");
    assert_eq!((f.tags(), f.downloads()), (vec!["big".to_owned()], vec![]));
    // another file under the same URL is not glued to the first
    web.break_after(24 << 20);
    f.leaves_all("unreachable", &["pull", &url, "--tag", "two"]);
    make(&folder.join("big.tine.tar.zst"), Layout::V3, "big", 40, 2);
    web.heal();
    f.ok(&["pull", &url, "--tag", "two"]);
    assert_ne!(f.fact("big", "memory_digest"), f.fact("two", "memory_digest"));
    f.check();
}

#[test]
fn two_pulls_of_one_tag_at_once_give_one_image() {
    require!("btrfs");
    let f = Fixture::empty();
    let folder = f.dir().join("www");
    fs::create_dir(&folder).unwrap();
    for name in ["a", "b"] {
        make(&folder.join(name), Layout::V3, "same", 8, u64::from(name.as_bytes()[0]));
    }
    let web = Web::of(&folder);
    web.slow_down(2);
    for (first, second) in [("a", "a"), ("a", "b")] {
        let start = |name: &str| {
            let mut command = f.command(&["--json", "pull", &web.url(name)]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let children = [start(first), start(second)];
        let done = children.map(|child| child.wait_with_output().unwrap());
        let won = done.iter().filter(|done| done.status.success()).count();
        assert_eq!(won, 1, "{done:?}");
        let lost = done.iter().find(|done| !done.status.success()).unwrap();
        assert!(String::from_utf8_lossy(&lost.stdout).contains("already_exists"), "{lost:?}");
        assert_eq!((f.tags(), f.staging(), f.downloads()), (vec!["same".to_owned()], vec![], vec![]));
        f.check();
        f.ok(&["image", "delete", "same", "--yes"]);
    }
}

#[test]
fn images_are_pushed_to_folders_and_servers() {
    require!("btrfs");
    let (f, g) = (Fixture::empty(), Fixture::empty());
    let (folder, name) = hub(&f);
    f.ok(&["unpack", &sample(f.dir(), V1)]);
    let out = f.dir().join("out");
    fs::create_dir(&out).unwrap();
    let place = format!("file://{}/", out.display());
    let done = f.run(&["push", "--tag", "v1-base", &place]);
    assert!(done.code == 0 && done.err.contains("pushed v1-base: sent "), "{done:?}");
    assert_eq!(support::names(&out), [V1]);
    g.ok(&["unpack", &text(&out.join(V1))]);
    let pushed = f.json(&["push", "--tag", "v1-base", "o/base", "--hub", &name, "--format", "v3"]);
    assert_eq!(pushed["package"], "o/base@v1");
    let web = Web::of(&folder);
    g.ok(&["pull", "o/base", "--hub", &web.url(""), "--tag", "pulled"]);
    let web = Web::of(&out);
    let done = f.run(&["push", "--tag", "v1-base", &web.url("up.tar.zst?signature=secret")]);
    assert!(done.code == 0 && !done.err.contains("secret") && !done.out.contains("secret"), "{done:?}");
    g.ok(&["unpack", &text(&out.join("up.tar.zst")), "--tag", "put"]);
    assert_eq!(g.fact("put", "memory_digest"), f.fact("v1-base", "memory_digest"));
    assert_eq!(f.staging(), Vec::<String>::new());
    f.check();
}

#[test]
fn a_push_that_was_not_taken_does_not_say_so() {
    require!("btrfs");
    let f = Fixture::empty();
    f.ok(&["unpack", &sample(f.dir(), V1)]);
    let out = f.dir().join("out");
    fs::create_dir(&out).unwrap();
    let web = Web::of(&out);
    for (status, code) in [(500, "unreachable"), (403, "forbidden"), (400, "invalid_input")] {
        web.answer_uploads(status);
        let message = f.leaves_all(code, &["push", "--tag", "v1-base", &web.url("up.tar.zst")]);
        assert!(message.contains(&status.to_string()), "{message}");
    }
    assert!(web.log().iter().any(|line| line.starts_with("PUT")) && support::names(&out).is_empty());
    f.leaves_all("not_found", &["push", "--tag", "nobody", &web.url("up.tar.zst")]);
    f.leaves_all("invalid_input", &["push", "--tag", "v1-base", "ftp://h/x"]);
    f.leaves_all("unsupported", &["push", "--tag", "v1-base", "o/n", "--hub", &web.url("")]);
    let nowhere = text(&f.dir().join("nowhere"));
    f.leaves_all("not_found", &["push", "--tag", "v1-base", "o/n", "--hub", &nowhere]);
}

#[test]
fn a_pull_that_fills_the_pool_leaves_room_again() {
    require!("btrfs");
    let f = Fixture::sized("256MiB");
    let folder = f.dir().join("www");
    fs::create_dir(&folder).unwrap();
    make(&folder.join("large"), Layout::V3, "large", 300, 1);
    let small = make(&folder.join("small"), Layout::V3, "small", 4, 2);
    let web = Web::of(&folder);
    let done = f.run(&["--json", "pull", &web.url("large")]);
    assert!(done.code == 1 && done.out.contains("pool_full") && done.out.contains("tine gc"), "{done:?}");
    assert_eq!((f.tags(), f.staging()), (vec![], vec![]));
    f.check();
    f.ok(&["gc"]);
    assert_eq!(f.downloads(), Vec::<String>::new());
    support::eventually("there is room again", || f.run(&["unpack", &small]).code == 0);
    assert_eq!(f.ok(&["pull", &web.url("small"), "--tag", "pulled"]), "pulled\n");
    f.check();
}
