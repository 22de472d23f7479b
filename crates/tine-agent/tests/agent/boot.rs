//! The whole agent: booted as the first process of a machine, frozen with it, and woken as another.

use crate::{
    host::{End, TestHost, exec, identity, request},
    machine::{Parts, machines},
};
use std::time::{Duration, Instant};
use tine_agent::{
    message::{GuestControl, HostControl, Identity, NetworkIdentity, Order, Phase, Refused},
    processes::parse_list,
};
use tine_model::{ExecRequest, PathKind, RawPath, WindowSize};

/// 2033-05-18, a moment at which neither the host nor the machine's own clock is.
const THEN_NS: u64 = 2_000_000_000_000_000_000;

fn be(host: &mut TestHost, who: Identity) {
    let answer = host.ask(&HostControl::Identity(Box::new(who)));
    assert!(matches!(answer, GuestControl::IdentitySet { .. }), "{answer:?}");
}

fn somebody(name: &str) -> Identity {
    Identity { wall_clock_ns: THEN_NS, ..identity(name) }
}

/// Runs a script to its end; gives what it has said.
fn said(host: &mut TestHost, script: &str) -> String {
    host.sh(1, script);
    let end = host.end(1);
    assert_eq!(end, End::Exited(0), "{script}: {} {}", host.out(1), host.err(1));
    host.out(1)
}

#[test]
fn a_machine_boots_becomes_somebody_and_runs_programs() {
    if !machines() {
        return;
    }
    let parts = Parts::make();
    let (mut machine, mut host) = parts.boot("box", &[]);
    assert_eq!(host.hello(1), Phase::Booted);
    eprintln!("hello acknowledged {:?} after QEMU was started", machine.started.elapsed());
    let network = NetworkIdentity {
        mac: "52:54:00:aa:bb:cc".parse().unwrap(),
        address: [10, 0, 2, 77].into(),
        prefix: 24,
        gateway: [10, 0, 2, 2].into(),
    };
    be(&mut host, Identity { network: Some(network), ..somebody("first") });
    host.thaw();
    // Nothing was written to the disk, whose files are all older than the machine's clock at its boot was.
    assert_eq!(said(&mut host, "mount --bind / /tmp; find /tmp -xdev -newermt 2033-01-01"), "");
    assert_eq!(
        said(&mut host, "hostname; cat /etc/hostname /etc/hosts /etc/machine-id; date +%Y"),
        "first\nfirst\n127.0.0.1 first\n0123456789abcdef0123456789abcdef\n2033\n"
    );
    assert_eq!(
        said(&mut host, "cat /run/tine/resolv.conf; stat -c %F /etc/resolv.conf"),
        "nameserver 10.0.0.1\nsymbolic link\n"
    );
    let net = said(&mut host, "cat /sys/class/net/eth0/address; cat /proc/net/route; cat /proc/net/fib_trie");
    assert!(
        net.starts_with("52:54:00:aa:bb:cc\n") && net.contains("0202000A") && net.contains("10.0.2.77"),
        "{net}"
    );
    assert!(net.contains("127.0.0.1"), "the loopback device is up: {net}");
    assert_eq!(
        said(&mut host, "cat /proc/self/cgroup; cat /proc/1/cgroup; echo $$ | tr -d '0-9'"),
        "0::/box\n0::/\n\n"
    );
    let mounts = said(&mut host, "cat /proc/mounts");
    assert!(mounts.contains("/dev/vda / ext4 rw,noatime 0 0\n"), "{mounts}");
    // What runs before everything else does not make its programs do so.
    assert_eq!(said(&mut host, "cat /proc/self/sched | head -40 | tr -s ' ' | while read -r a b c; do [ $a = policy ] && echo $c; done; true").trim(), "0");
    host.open(
        2,
        &exec(ExecRequest { tty: Some(WindowSize { rows: 9, columns: 33 }), ..request(&["stty", "size"]) }),
    );
    assert_eq!((host.end(2), host.out(2).as_str()), (End::Exited(0), "9 33\r\n"));
    host.open(2, &exec(ExecRequest { user: Some("ann".to_owned()), ..request(&["id"]) }));
    assert_eq!((host.end(2), host.out(2).contains("uid=1000(ann)")), (End::Exited(0), true));
    host.open(2, &Order::Processes);
    assert_eq!(host.end(2), End::Exited(0));
    let listed = parse_list(&host.channels[&2].out).unwrap();
    assert_eq!((listed.len(), listed[0].pid), (2, 1), "{listed:?}");
    let asked = Instant::now();
    for _ in 0..10 {
        host.open(2, &exec(request(&["true"])));
        assert_eq!(host.end(2), End::Exited(0));
    }
    eprintln!("exec true: {:?} each", asked.elapsed() / 10);
    let asked = Instant::now();
    assert_eq!(said(&mut host, "head -c 10000000 /dev/zero").len(), 10_000_000);
    eprintln!("10 MB out: {:?}", asked.elapsed());
    host.say(&HostControl::Shutdown { grace_seconds: 1 });
    machine.wait_until_off();
}

#[test]
fn files_go_into_the_disk_and_not_into_what_is_mounted_over_it() {
    if !machines() {
        return;
    }
    let parts = Parts::make();
    let (mut machine, mut host) = parts.boot("box", &[]);
    host.hello(1);
    be(&mut host, somebody("copies"));
    host.thaw();
    host.open(1, &Order::CopyOut { path: RawPath::new("/etc") });
    assert_eq!(host.end(1), End::Exited(0));
    assert!(host.out(1).contains("from the disk"), "the disk's own files are copied");
    let tar = host.channels[&1].out.clone();
    host.open(2, &Order::CopyIn { path: RawPath::new("/run") });
    let mut at = 0;
    while at < tar.len() {
        at += host.feed(2, &tar[at..]);
        host.hear();
    }
    host.eof(2);
    assert_eq!(host.end(2), End::Exited(0));
    host.open(3, &Order::StatPath { path: RawPath::new("/run/etc/passwd") });
    assert_eq!(host.end(3), End::Stat(PathKind::File));
    assert_eq!(said(&mut host, "ls /run"), "tine\n");
    host.say(&HostControl::Shutdown { grace_seconds: 1 });
    machine.wait_until_off();
}

#[test]
fn a_machine_goes_on_as_another_from_the_middle_of_everything() {
    if !machines() {
        return;
    }
    let parts = Parts::make();
    let (mut machine, mut host) = parts.boot("source", &[]);
    host.hello(1);
    be(&mut host, somebody("source"));
    host.thaw();
    let counting = "n=0; while :; do n=$((n+1)); echo $n > /tmp/count; echo $n; done";
    host.sh(7, counting);
    host.until_said(7, "\n50\n");
    let pid = host.channels[&7].started.unwrap();
    assert_eq!(host.ask(&HostControl::Quiesce { programs: true }), GuestControl::Quiesced);
    host.sh(8, "true");
    assert!(matches!(host.end(8), End::Failed(tine_model::ErrorCode::WrongState, _)));
    let state = parts.path("state");
    // Half a message is on its way when the machine is frozen.
    host.send_raw(&[9, 8, 7, 6, 5]);
    machine.command(&format!("migrate \"exec:cat > {}\"\nquit", state.display()));
    machine.wait_until_off();
    drop(host);
    let (mut machine, mut host) =
        parts.boot("clone", &["-incoming", &format!("exec:cat {}", state.display())]);
    let woken = Instant::now();
    assert_eq!(host.hello(2), Phase::Quiesced);
    eprintln!("hello acknowledged {:?} after the clone was connected", woken.elapsed());
    be(&mut host, somebody("clone"));
    std::thread::sleep(Duration::from_millis(300));
    host.hear();
    assert!(host.channels.is_empty() && host.log.is_empty());
    host.thaw();
    assert_eq!(said(&mut host, "hostname; cat /etc/hostname"), "clone\nclone\n");
    let count = |host: &mut TestHost| said(host, "cat /tmp/count").trim().parse::<u64>().unwrap_or(0);
    let before = count(&mut host);
    let end = Instant::now() + Duration::from_secs(20);
    while count(&mut host) <= before {
        assert!(Instant::now() < end, "the program does not go on");
    }
    assert_eq!(said(&mut host, &format!("cat /proc/{pid}/comm")), "sh\n");
    host.say(&HostControl::Shutdown { grace_seconds: 1 });
    machine.wait_until_off();
}

#[test]
fn holding_the_disk_still_holds_writers_and_nothing_else() {
    if !machines() {
        return;
    }
    let parts = Parts::make();
    let (mut machine, mut host) = parts.boot("box", &[]);
    host.hello(1);
    be(&mut host, somebody("still"));
    host.thaw();
    host.sh(7, "while :; do echo tick; sleep 0.1; done");
    host.sh(8, "read x; echo more > /tmp/file; echo written");
    host.until_said(7, "tick");
    assert_eq!(host.ask(&HostControl::Quiesce { programs: false }), GuestControl::Quiesced);
    host.feed(8, b"\n");
    let ticks = host.out(7).len();
    host.until("programs run", |host| host.out(7).len() > ticks + 20);
    assert_eq!(host.out(8), "", "a writer waits");
    assert_eq!(host.hello(2), Phase::Quiesced);
    host.thaw();
    host.thaw();
    assert_eq!(said(&mut host, "cat /tmp/file"), "more\n");
    let answer = host.ask(&HostControl::Identity(Box::new(Identity {
        network: Some(NetworkIdentity {
            mac: "52:54:00:00:00:01".parse().unwrap(),
            address: [10, 0, 2, 9].into(),
            prefix: 24,
            gateway: [10, 9, 9, 9].into(),
        }),
        ..somebody("nowhere")
    })));
    assert!(matches!(answer, GuestControl::Refused { what: Refused::Identity, .. }), "{answer:?}");
    host.say(&HostControl::Shutdown { grace_seconds: 1 });
    machine.wait_until_off();
}

#[test]
fn a_machine_without_a_disk_says_why_and_is_off() {
    if !machines() {
        return;
    }
    let parts = Parts::without_disk();
    let (mut machine, mut host) = parts.boot("box", &[]);
    host.begin();
    host.until("told", |host| host.controls.iter().any(|c| matches!(c, GuestControl::Boot { .. })));
    assert!(format!("{:?}", host.controls).contains("there is no disk"), "{:?}", host.controls);
    machine.wait_until_off();
}
