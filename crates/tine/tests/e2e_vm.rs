//! Boxes of kind vm, as typed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/machine.rs"]
mod machine;
mod support;
#[expect(dead_code, reason = "only its beginning is used here")]
#[path = "support/terminal.rs"]
mod terminal;

use machine::{
    Going, MEMORY, cgroups, engines, making, pool, processes, status, wall_clock, with_machine, within, word,
};
use rustix::process::Signal;
use std::time::Duration;
use support::{Fixture, eventually};
use terminal::Terminal;

#[test]
fn a_machine_has_the_hardware_it_was_given() {
    require!("vm");
    let f = pool();
    let words =
        ["create", "m", "--vm", "--memory", "160MiB", "--cpus", "2", "--disk", "1536MiB", "--net", "none"];
    assert_eq!(f.ok(&words), "m\n");
    let number = |script: &str| f.sh("m", script).trim().parse::<u64>().unwrap();
    assert_eq!(number("grep -c ^processor /proc/cpuinfo"), 2);
    assert_eq!(number("cat /sys/block/vda/size") * 512, 1536 << 20);
    let memory = number("sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo");
    assert!((100 << 10..160 << 10).contains(&memory), "{memory} KiB");
    assert_eq!(f.sh("m", "hostname; cat /etc/hostname; id -u; pwd"), "m\nm\n0\n/root\n");
    let info = f.ok(&["info", "m"]);
    for line in
        ["kind: vm", "status: running", "network: none", "memory: 160.0 MiB", "disk: 1.5 GiB", "cpus: 2"]
    {
        assert!(info.lines().any(|l| l == line), "{line}: {info}");
    }
    assert_eq!(f.sh("m", "cat /etc/machine-id").trim(), f.json(&["info", "m"])["id"]);
    let list = f.ok(&["list"]);
    assert!(list.lines().nth(1).unwrap().starts_with("m     vm    running  box-base  "), "{list}");
    // with no network there is nobody to talk to
    assert_eq!(f.sh("m", "cat /proc/net/route | wc -l"), "1\n");
    let addresses = f.sh("m", "grep '|--' /proc/net/fib_trie | sort -u");
    assert!(addresses.lines().all(|l| l.contains("|-- 127.")), "{addresses}");
    assert_ne!(f.sh("m", "cat /sys/class/net/eth0/operstate 2>/dev/null || echo none").trim(), "up");
    let id = f.json(&["info", "m"])["id"].as_str().unwrap().to_owned();
    assert!(!cgroups(&id).is_empty());
    f.ok(&["delete", "m", "--yes"]);
    within(10, "nothing is left", || cgroups(&id).is_empty() && processes(&f).is_empty());
    assert_eq!((f.ok(&["-q", "list"]), f.staging()), (String::new(), vec![]));
    f.check();
}

#[test]
fn exec_in_a_machine_is_as_in_a_container() {
    require!("vm");
    let f = with_machine("b");
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)] {
        assert_eq!(f.run(&["exec", "b", "--", "sh", "-c", script]).code, code, "{script}");
    }
    assert_eq!(f.run(&["exec", "b", "--", "no-such-program"]).code, 127);
    assert_eq!(f.run(&["exec", "b", "--", "/etc/motd"]).code, 126);
    assert_eq!(f.run(&["exec", "nobody", "--", "true"]).code, 125);
    assert_eq!(f.run(&["exec", "b", "--timeout", "1", "--", "sleep", "6161"]).code, 124);
    within(10, "its program is gone", || !f.ok(&["ps", "b"]).contains("sleep 6161"));
    let done = f.run(&["exec", "b", "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("out\n", "err\n"));
    let words = ["exec", "b", "--user", "dev", "--env", "X=1", "--wd", "/var", "--", "sh", "-c"];
    let as_dev = f.ok(&[&words[..], &["id -u; id -G; pwd; echo $X $HOME"]].concat());
    assert_eq!(as_dev, "1000\n1000 50\n/var\n1 /tmp\n");
    assert_eq!(f.ok(&["exec", "b", "--user", "1234:99", "--", "sh", "-c", "id -u; id -g"]), "1234\n99\n");
    assert_ne!(f.run(&["exec", "b", "--user", "nobody-here", "--", "true"]).code, 0);
    assert_ne!(f.run(&["exec", "b", "--wd", "/no/such", "--", "true"]).code, 0);
    // each program has its own variables, and those of the box
    f.ok(&["update", "b", "-e", "COLOR=blue"]);
    assert_eq!(f.sh("b", "echo $COLOR$X"), "blue\n");
}

#[test]
fn streams_of_a_machine_are_complete() {
    require!("vm");
    let f = with_machine("b");
    let script = "dd if=/dev/zero bs=1M count=12 2>/dev/null | tr '\\0' x";
    let big = f.run(&["exec", "b", "--", "sh", "-c", script]);
    assert!(big.out.len() == 12 << 20 && big.out.bytes().all(|b| b == b'x'), "{}", big.out.len());
    let input: Vec<u8> = (0..3_000_000u32).map(|n| b'a' + (n % 26) as u8).collect();
    let echoed = f.feed(&["exec", "-i", "b", "--", "cat"], &input);
    assert!(echoed.out.as_bytes() == input, "{} of {} bytes came back", echoed.out.len(), input.len());
    assert_eq!(f.feed(&["exec", "b", "--", "cat"], b"unseen").out, "", "without -i there is no input");
    // one that reads nothing and one that nobody listens to hold nobody up
    assert_eq!(f.feed(&["exec", "-i", "b", "--", "sh", "-c", "exit 3"], &input).code, 3);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let done = f.command(&["exec", "b", "--", "printf", "lost"]).stdout(full).output().unwrap();
    assert_eq!(done.status.code(), Some(125));
    // several at once keep their own streams
    std::thread::scope(|scope| {
        for n in 0..4 {
            let f = &f;
            scope.spawn(move || {
                let script = format!("for i in $(seq 2000); do echo {n}-$i; done");
                let wanted: String = (1..=2000).map(|i| format!("{n}-{i}\n")).collect();
                assert!(f.sh("b", &script) == wanted);
            });
        }
    });
}

#[test]
fn signals_and_the_terminal_reach_a_program_in_a_machine() {
    require!("vm");
    let f = with_machine("b");
    let script = "trap 'exit 5' TERM; echo re''ady > /tmp/ready; while :; do sleep 0.05; done";
    let client = Going::start(&f, &["exec", "b", "--", "bash", "-c", script]);
    within(20, "it runs", || f.run(&["exec", "b", "--", "cat", "/tmp/ready"]).code == 0);
    client.signal(Signal::TERM);
    assert_eq!(client.end().code, 5);
    let terminal = Terminal::new();
    let before = terminal.settings();
    // a shell may miss a signal that comes while it minds another, but not the size itself
    let script = "trap 'echo told' WINCH; trap 'exit 130' INT; echo re''ady; while :; do \
                  now=$(stty size); [ \"$now\" = \"$was\" ] || echo \"$now\"; was=$now; sleep 0.05; done";
    let client = terminal.start_raw(&f, &["exec", "-it", "b", "--", "bash", "-c", script]);
    terminal.shows("ready\r\n31 97\r\n");
    for (rows, columns) in [(40, 120), (10, 500), (11, 501), (12, 502), (13, 503), (14, 504)] {
        terminal.resize(rows, columns);
        terminal.shows(&format!("{rows} {columns}\r\n"));
    }
    terminal.shows("told\r\n");
    terminal.press(b"\x03");
    assert_eq!((client.end(), terminal.settings()), (130, before.clone()));
    let mark = terminal.mark();
    let shell = terminal.start_raw(&f, &["shell", "b"]);
    terminal.press("echo on $(readlink /proc/self/fd/0) $((6 * 7)); exit 9\r");
    terminal.shows_after(mark, "on /dev/pts/");
    assert_eq!((shell.end(), terminal.settings()), (9, before.clone()));
    // the machine goes from under a client
    let client = terminal.start_raw(&f, &["exec", "-it", "b", "--", "sleep", "1000"]);
    f.ok(&["stop", "b"]);
    assert_ne!(client.end(), 0);
    assert_eq!(terminal.settings(), before);
}

#[test]
fn background_programs_of_a_machine_are_logged_and_listed() {
    require!("vm");
    let f = with_machine("b");
    let script = "while sleep 0.05; do echo tick; done";
    let pid = f.ok(&["exec", "b", "--bg", "--", "sh", "-c", script]);
    eventually("a first tick", || f.ok(&["logs", "b"]).contains("tick"));
    let ps = f.ok(&["ps", "b"]);
    let row: Vec<&str> = ps.lines().find(|l| l.contains("while sleep")).unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[1]), (pid.trim(), "0"), "{ps}");
    assert_eq!(ps.lines().next().unwrap().split_whitespace().next(), Some("PID"), "{ps}");
    f.ok(&["pause", "b"]);
    assert_eq!(status(&f, "b"), "paused");
    std::thread::sleep(Duration::from_millis(300));
    let frozen = f.ok(&["logs", "b"]);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(f.ok(&["logs", "b"]), frozen);
    assert!(f.refuses("wrong_state", &["exec", "b", "--", "true"]).contains("paused"));
    f.ok(&["resume", "b"]);
    let begun = machine::wall_clock();
    let now: f64 = f.ok(&["exec", "b", "--", "date", "+%s.%N"]).trim().parse().unwrap();
    let ended = machine::wall_clock();
    assert!((begun - 1.0..ended + 0.1).contains(&now), "the guest says {now}, and it is {begun} to {ended}");
    eventually("more ticks", || f.ok(&["logs", "b"]).len() > frozen.len());
    assert!(f.ok(&["logs", "b", "--tail", "1"]) == "tick\n");
    f.sh("b", "echo '<3>said to the kernel' > /dev/kmsg");
    eventually("the console shows it", || f.ok(&["logs", "b", "--console"]).contains("said to the kernel"));
    // a paused machine can be stopped
    f.ok(&["pause", "b"]);
    f.ok(&["stop", "b"]);
    assert_eq!(status(&f, "b"), "stopped");
    f.refuses("wrong_state", &["ps", "b"]);
    assert!(f.ok(&["logs", "b"]).contains("tick"), "the log outlives the machine");
}

#[test]
fn files_go_into_a_machine_and_come_out_of_it() {
    require!("vm");
    let f = with_machine("b");
    let tree = f.dir().join("tree");
    std::fs::create_dir_all(tree.join("deep/er")).unwrap();
    let big: Vec<u8> = (0..2_000_003u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(tree.join("deep/big"), &big).unwrap();
    std::fs::write(tree.join("deep/er/empty"), "").unwrap();
    std::os::unix::fs::symlink("deep/big", tree.join("link")).unwrap();
    std::fs::set_permissions(tree.join("deep/er"), std::os::unix::fs::PermissionsExt::from_mode(0o710))
        .unwrap();
    f.ok(&["cp", word(&tree), "b:/srv"]);
    assert_eq!(
        f.sh("b", "readlink /srv/tree/link; wc -c < /srv/tree/link; stat -c %a /srv/tree/deep/er"),
        "deep/big\n2000003\n710\n"
    );
    f.sh("b", "echo more > /srv/tree/deep/more; cp /srv/tree/deep/big /srv/tree/deep/er/");
    let back = f.dir().join("back");
    f.ok(&["cp", "b:/srv/tree", word(&back)]);
    assert!(std::fs::read(back.join("deep/big")).unwrap() == big);
    assert!(std::fs::read(back.join("deep/er/big")).unwrap() == big);
    assert_eq!(std::fs::read(back.join("deep/more")).unwrap(), b"more\n");
    assert_eq!(std::fs::read_link(back.join("link")).unwrap().to_str(), Some("deep/big"));
    let file = f.file("name", b"mine\n");
    f.ok(&["cp", word(&file), "b:/etc/other-name"]);
    assert_eq!(f.sh("b", "cat /etc/other-name"), "mine\n");
    assert_eq!(f.refuses("not_found", &["cp", "b:/no/such", word(&back)]), "b:/no/such does not exist");
    f.ok(&["stop", "b"]);
    f.ok(&["cp", "b:/etc/other-name", word(&f.dir().join("from-stopped"))]);
    assert_eq!(std::fs::read(f.dir().join("from-stopped")).unwrap(), b"mine\n");
}

#[test]
fn what_a_machine_wrote_just_before_its_end_is_there() {
    require!("vm");
    let f = pool();
    f.ok(&making("b", &["--no-start"]));
    f.ok(&["snapshot", "create", "b", "before"]);
    f.ok(&["start", "b"]);
    f.sh("b", "true");
    assert_eq!(f.ok(&["diff", "status", "b"]), "No changes\n", "running");
    f.ok(&["stop", "b"]);
    assert_eq!(f.ok(&["diff", "status", "b"]), "No changes\n", "stopped");
    // exec starts it
    f.sh("b", "head -c 3000000 /dev/urandom > /srv/data; echo last > /srv/last");
    let sum = f.sh("b", "perl -e 'local $/; open F, \"/srv/data\"; print unpack(\"%32C*\", <F>)'");
    f.ok(&["stop", "b"]);
    assert_eq!(status(&f, "b"), "stopped");
    within(10, "its processes end", || processes(&f).is_empty());
    f.ok(&["start", "b"]);
    assert_eq!(f.sh("b", "cat /srv/last; wc -c < /srv/data"), "last\n3000000\n");
    assert_eq!(f.sh("b", "perl -e 'local $/; open F, \"/srv/data\"; print unpack(\"%32C*\", <F>)'"), sum);
    f.refuses("wrong_state", &["rename", "b", "c"]);
    f.ok(&["stop", "b"]);
    f.ok(&["rename", "b", "c"]);
    f.refuses("not_found", &["info", "b"]);
    assert_eq!(f.sh("c", "hostname; cat /srv/last"), "c\nlast\n");
    f.ok(&["--yes", "delete", "c"]);
    assert_eq!(f.ok(&["-q", "list"]), "");
    f.check();
}

#[test]
fn a_machine_that_removes_itself_does() {
    require!("vm");
    let f = pool();
    f.ok(&making("gone", &["--rm"]));
    f.ok(&["stop", "gone"]);
    within(10, "it is gone", || f.ok(&["-q", "list"]).is_empty());
    within(10, "its processes too", || processes(&f).is_empty());
    assert_eq!(f.staging(), Vec::<String>::new());
}

#[test]
fn a_machine_that_a_busy_host_does_not_run_for_seconds_knows_the_time_afterwards() {
    require!("vm");
    let f = with_machine("m");
    let engine = rustix::process::Pid::from_raw(engines(&f)[0].cast_signed()).unwrap();
    rustix::process::kill_process(engine, Signal::STOP).unwrap();
    // longer than a guest's shortest timer lasts
    std::thread::sleep(Duration::from_secs(6));
    rustix::process::kill_process(engine, Signal::CONT).unwrap();
    let before = wall_clock();
    let said: f64 = f.sh("m", "date +%s.%N").trim().parse().unwrap();
    assert!((before - 0.2..wall_clock() + 0.2).contains(&said), "{} s behind", before - said);
    f.ok(&["delete", "m", "--yes"]);
}

#[test]
fn what_a_machine_cannot_have_is_refused_and_nothing_is_made() {
    require!("vm");
    require!("container");
    let f = pool();
    f.ok(&making("m", &["--no-start"]));
    f.ok(&["create", "c", "--no-start", "--net", "none"]);
    f.ok(&["volume", "create", "data"]);
    let refused = |code: &str, args: &[&str], reason: &str| {
        let said = f.refuses(code, args);
        assert!(said.contains(reason), "{args:?}: {said}");
    };
    refused("usage", &["create", "x", "--vm", "-d", "data=/data"], "volumes");
    refused("usage", &["create", "x", "--vm", "--net", "host"], "network");
    refused("usage", &["create", "x", "--fork", "m", "--disk", "2GiB"], "1.0 GiB");
    refused("usage", &["create", "x", "--cpus", "2"], "--cpus");
    refused("usage", &["create", "x", "--accel", "tcg"], "--accel");
    refused("usage", &["create", "x", "--fork", "c", "--cpus", "2"], "--cpus");
    refused("usage", &["create", "x", "--vm", "--memory", "16MiB"], "64 MiB");
    refused("usage", &["create", "x", "--vm", "--net", "none", "--publish", "8080:80"], "nat");
    refused("not_found", &["create", "x", "--image", "none-such"], "none-such");
    refused("usage", &["update", "m", "--disk", "2GiB"], "disk");
    refused("usage", &["update", "m", "-d", "data=/data"], "volumes");
    refused("usage", &["update", "m", "--net", "host"], "network");
    refused("wrong_state", &["snapshot", "create", "c", "--live"], "container");
    refused("wrong_state", &["snapshot", "create", "m", "--live"], "stopped");
    refused("wrong_state", &["logs", "c", "--console"], "container");
    refused("wrong_state", &["pause", "m"], "m");
    refused("wrong_state", &["fork", "--box", "m"], "not running");
    assert_eq!(f.run(&["create", "x", "--vm", "--cpus", "0"]).code, 2);
    assert_eq!(f.run(&["create", "x", "--cold"]).code, 2);
    let said = f.run(&["diff", "status", "m"]);
    assert!(said.code == 1 && said.err.contains("--against"), "{said:?}");
    assert_eq!((f.ok(&["-q", "list"]), f.staging()), ("c\nm\n".into(), vec![]));
    assert_eq!(f.ok(&["snapshot", "list", "m"]).lines().count(), 1);
    f.check();
}

#[test]
fn limits_of_a_machine_hold() {
    require!("vm");
    let f = pool();
    f.ok(&making("b", &["--cpu", "0.5"]));
    // its memory is its own: what takes more is killed inside, and the machine goes on
    let hog =
        f.run(&["exec", "b", "--", "sh", "-c", "head -c 300000000 /dev/zero | tail -c 299999999 | wc -c"]);
    assert!(!hog.out.contains("299999999"), "300 MB fitted into {MEMORY}: {hog:?}");
    assert_eq!(f.sh("b", "echo alive"), "alive\n");
    // so is its disk
    let full = f.run(&[
        "exec",
        "b",
        "--",
        "sh",
        "-c",
        "dd if=/dev/zero of=/srv/big bs=1M count=1200 2>&1; rm /srv/big",
    ]);
    assert!(full.out.contains("No space left"), "{full:?}");
    let used = used_processor(&f, "b", || {
        f.run(&["exec", "b", "--timeout", "4", "--", "sh", "-c", "while :; do :; done"]);
    });
    assert!(used < 0.75, "{used} of a processor, not half of one");
    f.ok(&["update", "b", "--cpu", "0.2"]);
    let used = used_processor(&f, "b", || {
        f.run(&["exec", "b", "--timeout", "4", "--", "sh", "-c", "while :; do :; done"]);
    });
    assert!(used < 0.35, "{used} of a processor, not a fifth");
    f.ok(&["update", "b", "--cpu", "none"]);
    let done = f.run(&["update", "b", "--memory", "128MiB"]);
    assert!(done.code == 0 && done.err.contains("next start"), "{done:?}");
    f.ok(&["stop", "b"]);
    let total: u64 =
        f.sh("b", "sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo").trim().parse().unwrap();
    assert!((80 << 10..128 << 10).contains(&total), "{total} KiB");
}

/// Processors that a machine's engine has had while something went on.
fn used_processor(f: &Fixture, name: &str, during: impl FnOnce()) -> f64 {
    let engine = machine::engines(f);
    assert_eq!(engine.len(), 1, "{name}: {:?}", processes(f));
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", engine[0])).unwrap();
        let fields: Vec<u64> =
            stat.rsplit(") ").next().unwrap().split(' ').map(|n| n.trim().parse().unwrap_or(0)).collect();
        (fields[11] + fields[12]) as f64 / 100.0
    };
    let (before, begun) = (ticks(), machine::wall_clock());
    during();
    (ticks() - before) / (machine::wall_clock() - begun)
}
