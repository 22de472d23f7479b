//! The roots of vm boxes: snapshots, differences, and what is made of them.

#[path = "support/machine.rs"]
mod machine;
mod support;

use machine::{MEMORY, status, with_machine};

#[test]
fn snapshots_and_differences_of_a_machine() {
    require!("vm");
    let f = with_machine("b");
    assert!(f.fails(1, &["diff", "status", "b"]).contains("--against"));
    f.sh("b", "printf 'one\\ntwo\\n' > /etc/list; echo x > /srv/dead; mkdir /srv/dir; printf '\\0\\1' > /etc/binary");
    assert_eq!(f.ok(&["snapshot", "create", "b", "-m", "while it runs"]), "v0\n");
    assert_eq!(f.ok(&["diff", "status", "b"]), "No changes\n");
    f.sh("b", "printf 'one\\n2\\n' > /etc/list; rm /srv/dead; chmod 700 /srv/dir; printf '\\0\\2' > /etc/binary; head -c 70000 /dev/zero > '/srv/a b'");
    f.sh("b", "touch /etc/motd");
    let changes = f.ok(&["diff", "status", "b"]);
    let lines: Vec<&str> = changes.lines().collect();
    assert_eq!(lines, ["~ /etc/binary", "~ /etc/list", "+ /srv/a b", "- /srv/dead", "~ /srv/dir"]);
    let text = f.ok(&["diff", "file", "b", "/etc/list"]);
    assert!(text.contains("-two\n+2\n"), "{text}");
    assert!(f.ok(&["diff", "file", "b", "/etc/binary"]).contains("Binary files differ"));
    for (path, word) in [("/etc/motd", "unchanged"), ("/srv/dead", "deleted"), ("/srv/a b", "added")] {
        assert!(f.ok(&["diff", "file", "b", path]).contains(word), "{path}");
    }
    // it runs, and it runs again
    let boot = f.sh("b", "cat /proc/sys/kernel/random/boot_id");
    f.ok(&["snapshot", "restore", "b", "v0", "--keep-as", "later"]);
    assert_eq!(status(&f, "b"), "running");
    assert_eq!(f.sh("b", "cat /etc/list /srv/dead; ls /srv"), "one\ntwo\nx\ndead\ndir\n");
    assert_ne!(f.sh("b", "cat /proc/sys/kernel/random/boot_id"), boot);
    assert_eq!(f.ok(&["diff", "status", "b", "--against", "v0"]), "No changes\n");
    f.ok(&["stop", "b"]);
    f.ok(&["snapshot", "restore", "b", "later"]);
    assert_eq!(status(&f, "b"), "stopped");
    assert_eq!(f.sh("b", "cat /etc/list"), "one\n2\n");
    let there: Vec<String> = f.ok(&["snapshot", "list", "b"]).lines().skip(1).map(str::to_owned).collect();
    assert_eq!(there.len(), 2, "{there:?}");
    f.check();
}

#[test]
fn machines_and_containers_come_from_each_other() {
    require!("vm");
    require!("container");
    let f = with_machine("m");
    f.sh("m", "echo of the machine > /etc/mine");
    f.ok(&["snapshot", "create", "m", "then"]);
    f.sh("m", "echo later > /etc/mine; head -c 100000 /dev/zero > /srv/zero");
    f.ok(&["create", "copy", "--fork", "m", "--net", "none", "--memory", MEMORY]);
    assert_eq!(f.sh("copy", "cat /etc/mine; hostname"), "later\ncopy\n");
    f.sh("copy", "echo own > /etc/mine");
    assert_eq!(f.sh("m", "cat /etc/mine"), "later\n");
    f.ok(&["--yes", "delete", "copy"]);
    f.ok(&["create", "old", "--from", "m/then", "--net", "none", "--memory", MEMORY]);
    assert_eq!(f.sh("old", "cat /etc/mine"), "of the machine\n");
    f.ok(&["--yes", "delete", "old"]);
    f.ok(&["base", "save", "saved", "m"]);
    f.ok(&["create", "c", "--base", "saved", "--net", "none"]);
    assert_eq!(f.sh("c", "cat /etc/mine; wc -c < /srv/zero; stat -c %u:%a /tmp"), "later\n100000\n0:1777\n");
    f.ok(&["--yes", "delete", "m"]);
    f.sh("c", "echo of the container > /etc/mine; chown dev /etc/mine");
    f.ok(&["create", "again", "--fork", "c", "--vm", "--net", "none", "--memory", MEMORY, "--disk", "1GiB"]);
    assert_eq!(f.sh("again", "cat /etc/mine; stat -c %u /etc/mine"), "of the container\n1000\n");
    let kinds: Vec<String> = f
        .ok(&["list"])
        .lines()
        .skip(1)
        .map(|l| l.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(kinds, ["again vm", "c container"]);
    f.check();
}
