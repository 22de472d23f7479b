//! Boxes of kind container, as typed.

mod support;

use support::{Fixture, eventually};

#[test]
fn a_box_is_made_started_used_stopped_and_deleted() {
    require!("container");
    let f = Fixture::new();
    f.ok(&["create", "web", "--net", "none", "-t", "team=a", "-e", "COLOR=blue"]);
    assert!(f.ok(&["list"]).contains("web   container  running  box-base"), "{}", f.ok(&["list"]));
    assert_eq!(
        f.sh("web", "echo $COLOR; hostname; id -u; echo $$ > /dev/null; pwd"),
        "blue\nweb\n0\n/root\n"
    );
    f.ok(&["stop", "web"]);
    assert!(f.ok(&["list"]).contains("stopped"));
    assert_eq!(f.sh("web", "echo again"), "again\n", "exec starts a stopped box");
    f.ok(&["delete", "web", "--yes"]);
    assert_eq!(f.ok(&["list"]).lines().count(), 1);
    assert_eq!(f.refuses("not_found", &["info", "web"]), "box web does not exist");
    f.check();
}

#[test]
fn exec_gives_the_programs_own_code() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)] {
        assert_eq!(f.run(&["exec", "b", "--", "sh", "-c", script]).code, code, "{script}");
    }
    assert_eq!(f.run(&["exec", "b", "--", "no-such-program"]).code, 127);
    assert_eq!(f.run(&["exec", "b", "--", "/etc/motd"]).code, 126);
    assert_eq!(f.run(&["exec", "nobody", "--", "true"]).code, 125);
    assert_eq!(f.run(&["exec", "b", "--timeout", "1", "--", "sleep", "60"]).code, 124);
}

#[test]
fn exec_keeps_streams_apart_and_complete() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let done = f.run(&["exec", "b", "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("out\n", "err\n"));
    let big =
        f.run(&["exec", "b", "--", "sh", "-c", "dd if=/dev/zero bs=1M count=64 2>/dev/null | tr '\\0' x"]);
    assert_eq!(big.out.len(), 64 << 20);
    let input: Vec<u8> = (0..3_000_000u32).map(|n| b'a' + (n % 26) as u8).collect();
    let echoed = f.feed(&["exec", "-i", "b", "--", "cat"], &input);
    assert!(echoed.out.as_bytes() == input, "{} of {} bytes came back", echoed.out.len(), input.len());
    assert_eq!(f.feed(&["exec", "b", "--", "cat"], b"unseen").out, "", "without -i there is no input");
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let done = f.command(&["exec", "b", "--", "printf", "lost"]).stdout(full).output().unwrap();
    assert_eq!(done.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&done.stderr).contains("No space left"));
}

#[test]
fn exec_sets_user_environment_and_folder() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let as_dev = f.ok(&[
        "exec",
        "b",
        "--user",
        "dev",
        "--env",
        "X=1",
        "--wd",
        "/var",
        "--",
        "sh",
        "-c",
        "id -u; id -G; pwd; echo $X $HOME",
    ]);
    assert_eq!(as_dev, "1000\n1000 50\n/var\n1 /tmp\n");
    assert_eq!(f.ok(&["exec", "b", "--user", "1234:99", "--", "sh", "-c", "id -u; id -g"]), "1234\n99\n");
    assert_ne!(f.run(&["exec", "b", "--user", "nobody-here", "--", "true"]).code, 0);
    assert_ne!(f.run(&["exec", "b", "--wd", "/no/such", "--", "true"]).code, 0);
}

#[test]
fn pause_freezes_and_resume_thaws() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    f.ok(&["exec", "b", "--bg", "--", "sh", "-c", "while sleep 0.05; do echo tick; done"]);
    eventually("a first tick", || f.ok(&["logs", "b"]).contains("tick"));
    f.ok(&["pause", "b"]);
    assert!(f.ok(&["list"]).contains("paused"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    let frozen = f.ok(&["logs", "b"]);
    std::thread::sleep(std::time::Duration::from_millis(400));
    assert_eq!(f.ok(&["logs", "b"]), frozen);
    f.refuses("wrong_state", &["exec", "b", "--", "true"]);
    f.ok(&["resume", "b"]);
    eventually("more ticks", || f.ok(&["logs", "b"]).len() > frozen.len());
    f.ok(&["stop", "b"]);
}

#[test]
fn an_exec_whose_time_is_over_waits_for_no_box_that_stands_still() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let done = std::thread::scope(|scope| {
        let exec = scope.spawn(|| f.run(&["exec", "b", "--timeout", "5", "--", "sleep", "4321"]));
        eventually("it sleeps", || f.run(&["ps", "b"]).out.contains("sleep 4321"));
        f.ok(&["pause", "b"]);
        exec.join().unwrap()
    });
    assert!(done.code == 125 && done.err.contains("tine resume b"), "{done:?}");
    f.ok(&["resume", "b"]);
    eventually("what ran has ended", || !f.ok(&["ps", "b"]).contains("sleep 4321"));
    f.ok(&["stop", "b"]);
}

#[test]
fn a_paused_box_can_be_stopped_and_deleted() {
    require!("container");
    let f = Fixture::with_boxes(&["a", "b"]);
    for name in ["a", "b"] {
        f.ok(&["exec", name, "--bg", "--", "sleep", "1000"]);
        f.ok(&["pause", name]);
    }
    f.ok(&["stop", "a"]);
    f.ok(&["delete", "b", "--yes"]);
    assert!(f.ok(&["list"]).contains("stopped"));
}

#[test]
fn ps_shows_what_runs_inside() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    f.ok(&["exec", "b", "--bg", "--", "sleep", "1234"]);
    eventually("ps shows it", || f.ok(&["ps", "b"]).contains("sleep 1234"));
    f.ok(&["stop", "b"]);
    f.refuses("wrong_state", &["ps", "b"]);
}

#[test]
fn a_box_can_be_renamed_and_forked() {
    require!("container");
    let f = Fixture::with_boxes(&["a"]);
    f.sh("a", "echo mine > /etc/mine");
    f.refuses("wrong_state", &["rename", "a", "b"]);
    f.ok(&["stop", "a"]);
    f.ok(&["rename", "a", "b"]);
    f.refuses("not_found", &["info", "a"]);
    f.ok(&["snapshot", "create", "b", "--name", "then"]);
    f.sh("b", "echo changed > /etc/mine");
    f.ok(&["create", "c", "--fork", "b", "--net", "none"]);
    f.ok(&["create", "d", "--from", "b/then", "--net", "none"]);
    assert_eq!(
        (f.sh("c", "cat /etc/mine"), f.sh("d", "cat /etc/mine")),
        ("changed\n".into(), "mine\n".into())
    );
    assert_eq!(f.sh("c", "hostname"), "c\n");
    f.check();
}

#[test]
fn limits_hold() {
    require!("container");
    let f = Fixture::new();
    f.ok(&["create", "b", "--net", "none", "--memory", "64MiB", "--pids", "20", "--cpu", "0.5"]);
    let hog =
        f.run(&["exec", "b", "--", "sh", "-c", "head -c 300000000 /dev/zero | tail -c 299999999 | wc -c"]);
    assert!(!hog.out.contains("299999999"), "300 MB fitted into 64 MiB: {hog:?}");
    let bomb = f.run(&["exec", "b", "--", "bash", "-c", "for i in $(seq 60); do sleep 5 & done; wait"]);
    assert!(bomb.err.contains("fork") || bomb.code != 0, "{bomb:?}");
    f.ok(&["update", "b", "--pids", "200", "--memory", "512MiB"]);
    eventually("room for a program again", || f.run(&["exec", "b", "--", "true"]).code == 0);
    let fits = f.run(&["exec", "b", "--", "bash", "-c", "for i in $(seq 60); do sleep 0.1 & done; wait"]);
    assert_eq!((fits.code, fits.err.as_str()), (0, ""));
}

#[test]
fn projects_and_tags_select() {
    require!("container");
    let f = Fixture::new();
    f.ok(&["create", "a", "--no-start", "-t", "team=x", "-t", "tier=1"]);
    f.ok(&["-p", "other", "create", "a", "--no-start", "-t", "team=x"]);
    assert_eq!(f.ok(&["-q", "list"]), "a\n");
    assert_eq!(f.ok(&["-q", "list", "-a"]), "default:a\nother:a\n");
    assert_eq!(f.ok(&["-q", "list", "-a", "-t", "team=x", "-t", "tier=1"]), "default:a\n");
    f.ok(&["update", "other:a", "--tag", "tier=1"]);
    assert_eq!(f.ok(&["-q", "list", "-a", "-t", "tier=1"]).lines().count(), 2);
    f.ok(&["delete", "other:a", "--yes"]);
    assert_eq!(f.ok(&["-q", "list", "-a"]), "default:a\n");
}

#[test]
fn folders_are_shared_as_the_contract_says() {
    require!("container");
    let f = Fixture::new();
    for name in ["a", "b", "other:c"] {
        f.ok(&["create", name, "--net", "none"]);
    }
    f.sh("a", "echo h > /home/h; echo p > /box/proj/p; echo all > /box/all/all");
    assert_eq!(f.sh("b", "cat /home/h /box/proj/p /box/all/all"), "h\np\nall\n");
    assert_eq!(f.sh("other:c", "ls /home /box/proj; cat /box/all/all"), "/box/proj:\n\n/home:\nall\n");
    assert_ne!(f.run(&["exec", "a", "--", "touch", "/box/bin/x"]).code, 0);
}

#[test]
fn volumes_have_their_own_life() {
    require!("container");
    let f = Fixture::new();
    f.ok(&["volume", "create", "data"]);
    f.ok(&["create", "a", "--net", "none", "-d", "data=/srv/deep/data"]);
    f.ok(&["create", "b", "--net", "none", "-d", "data=/data:ro"]);
    f.sh("a", "echo kept > /srv/deep/data/f");
    assert_eq!(f.sh("b", "cat /data/f"), "kept\n");
    assert_ne!(f.run(&["exec", "b", "--", "touch", "/data/g"]).code, 0);
    f.ok(&["snapshot", "create", "a", "--name", "s"]);
    f.sh("a", "echo more >> /srv/deep/data/f");
    assert_eq!(f.ok(&["diff", "status", "a"]), "No changes\n");
    let restored = f.run(&["snapshot", "restore", "a", "s"]);
    assert!(restored.err.contains("data"), "the output says that volumes are not touched: {restored:?}");
    assert_eq!(f.sh("a", "cat /srv/deep/data/f"), "kept\nmore\n");
    f.refuses("wrong_state", &["volume", "delete", "data", "--yes"]);
    f.ok(&["delete", "a", "--yes"]);
    f.ok(&["delete", "b", "--yes"]);
    assert!(f.ok(&["volume", "list"]).contains("data"));
    f.ok(&["volume", "delete", "data", "--yes"]);
    assert!(f.subvolumes().iter().all(|s| !s.contains("volumes/")));
}

#[test]
fn rm_removes_the_box_when_it_stops() {
    require!("container");
    let f = Fixture::new();
    f.ok(&["create", "gone", "--rm", "--net", "none"]);
    f.sh("gone", "true");
    f.ok(&["stop", "gone"]);
    eventually("the box is gone", || !f.ok(&["list"]).contains("gone"));
    f.check();
}

#[test]
fn files_go_in_and_out() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let local = f.file("one.txt", b"one\n");
    let local = local.to_str().unwrap();
    f.ok(&["cp", local, "b:/etc/two.txt"]);
    assert_eq!(f.sh("b", "cat /etc/two.txt"), "one\n");
    f.ok(&["cp", local, "b:/tmp"]);
    assert_eq!(f.sh("b", "cat /tmp/one.txt; mkdir -p /tmp/tree/sub; echo x > /tmp/tree/sub/x; ln -s /etc/shadow /tmp/tree/link; mkfifo /tmp/tree/fifo"), "one\n");
    let out = f.dir().join("out");
    f.ok(&["cp", "b:/tmp/tree", out.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(out.join("sub/x")).unwrap(), "x\n");
    assert_eq!(std::fs::read_link(out.join("link")).unwrap().to_str(), Some("/etc/shadow"));
    f.ok(&["cp", out.to_str().unwrap(), "b:/var"]);
    assert_eq!(f.sh("b", "cat /var/out/sub/x"), "x\n");
    let tar = f.run(&["cp", "b:/etc/motd", "-"]);
    assert_eq!(tar.code, 0);
    assert!(tar.out.contains("motd") && tar.out.contains("welcome"));
    assert!(f.fails(1, &["cp", "b:/no/such", "/tmp/never"]).contains("/no/such"));
    assert!(f.fails(1, &["cp", "/no/such", "b:/tmp"]).contains("/no/such"));
}

#[test]
fn a_copy_out_never_follows_links_of_the_box_to_the_host() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let secret = f.file("secret", b"host secret\n");
    f.sh(
        "b",
        &format!("ln -s {} /tmp/secret; ln -s / /tmp/slash; ln -s /etc/motd /tmp/motd", secret.display()),
    );
    let out = f.dir().join("copied");
    let _ = f.run(&["cp", "b:/tmp/secret", out.to_str().unwrap()]);
    assert!(!std::fs::read_to_string(&out).is_ok_and(|t| t.contains("host secret")) || out.is_symlink());
    let through = f.run(&["cp", &format!("b:/tmp/slash{}", secret.display()), "-"]);
    assert!(!through.out.contains("host secret"));
}

#[test]
fn delete_asks_for_confirmation_and_tells_what_goes() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    f.ok(&["snapshot", "create", "b"]);
    f.refuses("confirmation_required", &["delete", "b"]);
    let plan = f.run(&["delete", "b", "--dry-run"]);
    assert!(plan.out.contains("v0") || plan.out.contains("1 snapshot"), "{plan:?}");
    assert!(f.ok(&["list"]).contains('b'));
    f.ok(&["exec", "b", "--bg", "--", "sleep", "1000"]);
    f.ok(&["delete", "b", "--yes"]);
    assert!(f.subvolumes().iter().all(|s| !s.contains("boxes/")), "{:?}", f.subvolumes());
}

#[test]
fn a_box_that_fights_back_stays_inside() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let denied = [
        "mount -t tmpfs none /mnt || mount -t tmpfs none /tmp",
        "mknod /tmp/sda b 7 0 && cat /tmp/sda",
        "mknod /dev/loop0 b 7 0 && cat /dev/loop0",
        "echo 1 > /proc/sys/kernel/panic",
        "echo b > /proc/sysrq-trigger",
        "cat /proc/kcore",
        "kill -9 1 && sleep 1 && false",
    ];
    for script in denied {
        let done = f.run(&["exec", "b", "--", "sh", "-c", script]);
        assert_ne!(done.code, 0, "{script}: {done:?}");
    }
    let fds = f.sh("b", "for fd in /proc/1/fd/*; do readlink $fd || true; done");
    assert!(!fds.contains("/boxes/") && !fds.contains("lock"), "{fds}");
    assert_eq!(f.sh("b", "echo alive"), "alive\n");
}
