//! Bases, as typed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};
use support::Fixture;

const VERSION_SHAPE: usize = "-v20260101120000".len();

#[test]
fn versions_pile_up_and_the_alias_moves() {
    require!("btrfs");
    let f = Fixture::empty();
    f.import_tiny("deb");
    f.import_tiny("deb");
    f.import_tiny("deb");
    let info = f.json(&["base", "info", "deb"]);
    let versions: Vec<&str> =
        info["versions"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap()).collect();
    assert_eq!(versions.len(), 3);
    assert_eq!(versions[2], "deb", "the first write has exactly that name");
    assert!(
        versions[..2].iter().all(|v| v.starts_with("deb-v") && v.len() == 3 + VERSION_SHAPE),
        "{versions:?}"
    );
    assert!(versions[0] > versions[1]);
    assert_eq!(info["latest_version"], versions[0]);
    assert_eq!(info["versions"][0]["provenance"]["kind"], "import");
    let list = f.ok(&["base", "list"]);
    assert!(
        list.starts_with("NAME  VERSION") && list.contains(versions[0]) && list.lines().count() == 2,
        "{list}"
    );
    f.check();
}

#[test]
fn a_box_can_pin_a_version() {
    require!("container");
    let f = Fixture::new();
    f.ok(&["create", "a", "--net", "none"]);
    f.sh("a", "echo two > /etc/motd");
    f.ok(&["base", "save", "box-base", "a"]);
    let newest = f.json(&["base", "info", "box-base"])["latest_version"].as_str().unwrap().to_owned();
    let motd = |name: &str, base: &str| {
        f.ok(&["create", name, "--net", "none", "--base", base]);
        f.sh(name, "cat /etc/motd")
    };
    assert_eq!(motd("b", "box-base"), "two\n", "an alias means the newest");
    assert_eq!(motd("c", "box-base@box-base"), "welcome\n", "a pinned version");
    assert_eq!(motd("d", &newest), "two\n", "an exact version");
    assert_eq!(motd("e", &format!("box-base@{newest}")), "two\n");
    f.refuses("not_found", &["create", "x", "--base", "nope"]);
    f.refuses("not_found", &["create", "x", "--base", "box-base@nope"]);
    f.refuses("not_found", &["create", "x", "--base", &format!("box-base:{}", "0".repeat(64))]);
    f.check();
}

#[test]
fn export_and_import_give_the_same_tree() {
    require!("container");
    let f = Fixture::with_boxes(&["a"]);
    f.sh("a", "ln /etc/motd /etc/motd2; mkfifo /fifo; mknod /null c 1 3; touch \"$(printf '/new\\nline')\" \"$(printf '/ff\\377')\"; chmod 4755 /usr/bin/id");
    f.ok(&["base", "save", "saved", "a"]);
    let tar = f.dir().join("saved.tar");
    let tar = tar.to_str().unwrap();
    f.ok(&["base", "export", "saved", "--file", tar]);
    f.ok(&["base", "import", "again", "--file", tar]);
    let list = |name: &str| {
        let root = f.pool().join("bases").join(name).join("root");
        let script =
            "cd \"$0\" && find . -printf '%p|%y|%m|%U|%G|%n|%l|%T@\\0' | LC_ALL=C sort -z | sha256sum";
        String::from_utf8(Command::new("sh").args(["-c", script]).arg(root).output().unwrap().stdout).unwrap()
    };
    assert_eq!(list("saved"), list("again"));
}

#[test]
fn every_compression_is_read() {
    require!("btrfs");
    let f = Fixture::empty();
    let tar = f.file("root.tar", &support::root::tiny_root_tar());
    for (name, tool) in [("gz", "gzip"), ("zst", "zstd"), ("xz", "xz")] {
        let script = format!("{tool} -1 -c < \"$0\" > \"$0.{name}\"");
        assert!(Command::new("sh").args(["-c", &script]).arg(&tar).status().unwrap().success());
        f.ok(&["base", "import", name, "--file", &format!("{}.{name}", tar.display())]);
    }
    let piped = f.feed(&["base", "import", "piped", "--file", "-"], &fs::read(&tar).unwrap());
    assert_eq!(piped.code, 0, "{piped:?}");
    assert_eq!(f.ok(&["-q", "base", "list"]), "gz\npiped\nxz\nzst\n");
    f.check();
}

#[test]
fn an_import_over_a_parent_extends_it() {
    require!("container");
    let f = Fixture::new();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(6);
    tar.append_data(&mut header, "etc/motd", &b"layer\n"[..]).unwrap();
    let layer = f.file("layer.tar", &tar.into_inner().unwrap());
    f.ok(&["base", "import", "layered", "--file", layer.to_str().unwrap(), "-p", "box-base"]);
    f.ok(&["create", "a", "--base", "layered", "--net", "none"]);
    assert_eq!(f.sh("a", "cat /etc/motd"), "layer\n");
    let info = f.json(&["base", "info", "layered"]);
    assert_eq!(info["versions"][0]["provenance"]["kind"], "import");
    f.fails(2, &["base", "import", "x", "--project", "y", "--file", "z"]);
}

#[test]
fn delete_needs_exactly_one_of_alias_and_version() {
    require!("btrfs");
    let f = Fixture::empty();
    f.import_tiny("deb");
    f.import_tiny("deb");
    f.refuses("usage", &["base", "delete", "--yes"]);
    f.refuses("usage", &["base", "delete", "--alias", "deb", "--version", "deb", "--yes"]);
    let newest = f.json(&["base", "info", "deb"])["latest_version"].as_str().unwrap().to_owned();
    f.refuses("wrong_state", &["base", "delete", "--version", &newest, "--yes"]);
    f.ok(&["base", "delete", "--version", &newest, "--force", "--yes"]);
    assert_eq!(
        f.json(&["base", "info", "deb"])["latest_version"],
        "deb",
        "the alias names the next older version"
    );
    f.ok(&["base", "delete", "--alias", "deb", "--yes"]);
    f.refuses("not_found", &["base", "delete", "--alias", "deb", "--yes"]);
    f.ok(&["create", "still", "--base", "deb", "--no-start"]);
    f.ok(&["base", "delete", "--version", "deb", "--yes"]);
    assert_eq!(f.ok(&["-q", "base", "list"]), "");
    f.check();
}

#[test]
fn a_script_digest_selects_versions() {
    require!("container");
    let f = Fixture::new();
    let context = context(&f, "FROM scratch\n");
    let path = recorded_engines(&f, &["podman"], "amd64");
    let built =
        f.command(&["base", "build", "made", context.to_str().unwrap()]).env("PATH", &path).output().unwrap();
    assert!(built.status.success(), "{built:?}");
    let info = f.json(&["base", "info", "made"]);
    let provenance = &info["versions"][0]["provenance"];
    assert_eq!(
        (provenance["kind"].as_str(), provenance["build"]["builder"].as_str()),
        (Some("build"), Some("podman"))
    );
    assert_eq!(provenance["build"]["script"], "FROM scratch\n");
    let digest = provenance["build"]["script_sha256"].as_str().unwrap();
    f.ok(&["create", "a", "--base", &format!("made:{digest}"), "--net", "none"]);
    assert_eq!(f.json(&["base", "info", "made", "--tag", digest])["versions"].as_array().unwrap().len(), 1);
    assert_eq!(
        f.json(&["base", "info", "made", "--tag", &"0".repeat(64)])["versions"].as_array().unwrap().len(),
        0
    );
    let shown = f.ok(&["base", "show", "made"]);
    assert!(shown.starts_with("VERSION") && shown.contains("FROM scratch"), "{shown}");
}

fn context(f: &Fixture, dockerfile: &str) -> std::path::PathBuf {
    let context = f.dir().join("context");
    fs::create_dir_all(&context).unwrap();
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    context
}

/// A folder of programs that answer as the engines do and write down how they were called; `export` gives the tiny
/// root. Returns a `PATH` with that folder and the system's.
fn recorded_engines(f: &Fixture, engines: &[&str], architecture: &str) -> String {
    let folder = f.dir().join("engines");
    fs::create_dir_all(&folder).unwrap();
    let root = f.file("engine-root.tar", &support::root::tiny_root_tar());
    for engine in ["docker", "podman", "nerdctl"] {
        let answers = if engines.contains(&engine) { "exit 0" } else { "echo 'cannot connect' >&2; exit 1" };
        let script = format!(
            "#!/bin/sh\necho \"{engine} $*\" >> {log}\ncase $1 in\ninfo) {answers};;\nimage) echo {architecture};;\n\
             create) echo 0123456789abcdef;;\nexport) cat {root};;\nesac\n",
            log = f.dir().join("calls").display(),
            root = root.display(),
        );
        let program = folder.join(engine);
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.display())
}

#[test]
fn the_first_engine_that_answers_builds() {
    require!("btrfs");
    for (answering, chosen) in
        [(&["docker", "podman"][..], "docker"), (&["podman", "nerdctl"], "podman"), (&["nerdctl"], "nerdctl")]
    {
        let f = Fixture::empty();
        let context = context(&f, "FROM x\n");
        let path = recorded_engines(&f, answering, "amd64");
        let done = f
            .command(&["base", "build", "made", context.to_str().unwrap()])
            .env("PATH", &path)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        let calls = fs::read_to_string(f.dir().join("calls")).unwrap();
        let dir = context.display();
        let build =
            format!("{chosen} build --platform linux/amd64 -t made:latest -f {dir}/Dockerfile {dir}\n");
        assert!(calls.contains(&build), "{calls}");
        assert!(calls.ends_with(&format!("{chosen} rm -f 0123456789abcdef\n")), "{calls}");
    }
}

#[test]
fn a_build_is_refused_without_engine_file_or_right_architecture() {
    require!("btrfs");
    let f = Fixture::empty();
    let context = context(&f, "FROM x\n");
    let context = context.to_str().unwrap();
    let try_build = |engines: &[&str], architecture: &str, args: &[&str]| {
        let path = recorded_engines(&f, engines, architecture);
        let done = f
            .command(&[&["--json", "base", "build", "made"], args].concat())
            .env("PATH", &path)
            .output()
            .unwrap();
        let document: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        document["error"]["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(try_build(&[], "amd64", &[context]), "unsupported");
    assert_eq!(try_build(&["podman"], "arm64", &[context]), "wrong_architecture");
    assert_eq!(try_build(&["podman"], "amd64", &["/no/such/folder"]), "not_found");
    assert_eq!(try_build(&["podman"], "amd64", &["--engine", "docker", context]), "tool_failed");
    assert_eq!(f.ok(&["-q", "base", "list"]), "");
    assert_eq!(f.staging(), Vec::<String>::new());
}

#[test]
fn podman_builds_for_real() {
    require!("container");
    let root = std::env::var("TINE_TEST_ROOT_TAR").unwrap_or_default();
    if !Path::new(&root).exists() || Command::new("podman").arg("--version").output().is_err() {
        assert!(
            !std::env::var("TINE_REQUIRE").unwrap_or_default().contains("container"),
            "needs podman and TINE_TEST_ROOT_TAR"
        );
        eprintln!("SKIPPED: needs podman and TINE_TEST_ROOT_TAR");
        return;
    }
    let f = Fixture::empty();
    let image = format!("tine-test-{}", support::nanos());
    let storage = f.dir().join("podman");
    // storage of its own, and RUN without an OCI runtime: some hosts' cgroup layouts are refused by crun
    let podman_root = format!(
        "[storage]\ndriver=\"vfs\"\ngraphroot=\"{0}/graph\"\nrunroot=\"{0}/run\"\n",
        storage.display()
    );
    let storage_conf = f.file("storage.conf", podman_root.as_bytes());
    let environment =
        [("CONTAINERS_STORAGE_CONF", storage_conf.to_str().unwrap()), ("BUILDAH_ISOLATION", "chroot")];
    let imported = Command::new("podman").args(["import", &root, &image]).envs(environment).output().unwrap();
    assert!(imported.status.success(), "{imported:?}");
    let context = context(&f, &format!("FROM localhost/{image}\nRUN echo from-podman > /built\n"));
    let mut build = f.command(&["base", "build", "made", "--engine", "podman", context.to_str().unwrap()]);
    let built = build.envs(environment).output().unwrap();
    assert!(built.status.success(), "{built:?}");
    f.ok(&["create", "b", "--base", "made", "--net", "none"]);
    assert_eq!(
        f.sh("b", "cat /built; test -e /etc/debian_version -o -e /etc/lsb-release && echo debian"),
        "from-podman\ndebian\n"
    );
    assert_eq!(f.json(&["base", "info", "made"])["versions"][0]["provenance"]["build"]["builder"], "podman");
    let _ = Command::new("podman").args(["system", "reset", "--force"]).envs(environment).output();
}

#[test]
fn wrong_architectures_and_roots_without_programs_are_refused() {
    require!("btrfs");
    let f = Fixture::empty();
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xb7\0".to_vec();
    elf.resize(4096, 0);
    for (name, path, content) in [("arm", "usr/bin/sh", &elf[..]), ("none", "etc/motd", &b"text"[..])] {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content).unwrap();
        let file = f.file("bad.tar", &tar.into_inner().unwrap());
        f.refuses("wrong_architecture", &["base", "import", name, "--file", file.to_str().unwrap()]);
    }
    assert_eq!((f.ok(&["-q", "base", "list"]), f.staging(), f.subvolumes()), (String::new(), vec![], vec![]));
}

#[test]
fn saving_within_one_second_makes_two_versions() {
    require!("btrfs");
    let f = Fixture::with_boxes(&["a"]);
    let children: Vec<_> =
        (0..4).map(|_| f.command(&["base", "save", "saved", "a"]).spawn().unwrap()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(f.json(&["base", "info", "saved"])["versions"].as_array().unwrap().len(), 4);
    f.check();
}

#[test]
fn the_maintained_python_base_builds_on_the_maintained_root() {
    require!("container");
    let root = std::env::var("TINE_TEST_ROOT_TAR").unwrap_or_default();
    if !Path::new(&root).exists() || std::env::var_os("TINE_TEST_NETWORK").is_none() {
        eprintln!("SKIPPED: needs TINE_TEST_ROOT_TAR and TINE_TEST_NETWORK");
        return;
    }
    let f = Fixture::empty();
    f.ok(&["base", "import", "box-base", "--file", &root]);
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    let mut missing = f.command(&["base", "install", "python"]);
    let missing = missing.env("SSL_CERT_FILE", "/nonexistent/authorities.pem").output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("SSL_CERT_FILE"), "{missing:?}");
    assert!(f.ok(&["-q", "-p", "tine-build", "list", "-a"]).is_empty());
    assert!(
        f.command(&["base", "install", "python"]).env("SSL_CERT_FILE", bundle).status().unwrap().success()
    );
    let again = f.run(&["base", "install", "python"]);
    assert_eq!(again.code, 0);
    assert_eq!(
        f.json(&["base", "info", "python"])["versions"].as_array().unwrap().len(),
        1,
        "installed once"
    );
    f.ok(&["create", "p", "--base", "python", "--net", "none"]);
    f.ok(&["exec", "p", "--", "sh", "-c", "! ls /run/tine-certificates.pem"]);
    assert_eq!(
        f.ok(&["exec", "p", "--", "python3", "-c", "import numpy; print(numpy.arange(5).sum())"]),
        "10\n"
    );
    f.check();
}

#[test]
fn recipes_are_listed_with_what_is_there() {
    require!("btrfs");
    let f = Fixture::new();
    let states = |name: &str| {
        let list = f.json(&["recipe", "list"]);
        let row = list.as_array().unwrap().iter().find(|r| r["name"] == name).unwrap().clone();
        (row["base"].as_str().unwrap().to_owned(), row["image"].as_str().unwrap().to_owned())
    };
    let of = |base: &str, image: &str| (base.to_owned(), image.to_owned());
    let list = f.ok(&["recipe", "list"]);
    assert!(list.lines().next().unwrap().split_whitespace().eq(["NAME", "ABOUT", "BASE", "IMAGE"]), "{list}");
    assert!(list.contains("postgres-fixture") && !list.contains("box-base"), "{list}");
    assert_eq!(states("nodejs"), of("missing", "missing"));
    f.import_tiny("nodejs");
    assert_eq!(states("nodejs"), of("outdated", "missing"), "a base of another origin");
    assert_eq!(states("python-numpy"), of("missing", "missing"));
    f.refuses("not_found", &["recipe", "build", "nope"]);
    let plain = f.fails(1, &["recipe", "build", "box-base"]);
    assert!(plain.contains("hint: tine base install box-base"), "{plain}");
    f.refuses("usage", &["recipe", "build", "nodejs", "python-numpy", "--tag", "both"]);
    f.refuses("usage", &["recipe", "build", "--all", "nodejs"]);
    f.refuses("usage", &["recipe", "build"]);
    f.check();
}
