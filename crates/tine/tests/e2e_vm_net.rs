//! The network of vm boxes, on a machine of the test's own.

#[path = "support/machine.rs"]
mod machine;
#[expect(dead_code, reason = "no monitor is killed here")]
#[path = "support/monitor.rs"]
mod monitor;
#[expect(dead_code, reason = "machines are reached with less")]
#[path = "support/net.rs"]
mod net;
mod support;

use machine::{MEMORY, within};
use net::{HOST, Machine, OUTSIDE, Place, address};
use std::net::Ipv4Addr;
use support::Fixture;

/// Answers every client with a word; needs nothing but the interpreter.
const SERVER: &str = r#"
    socket(S, 2, 1, 6) or die;
    bind(S, pack("Sna4x8", 2, 80, "\0\0\0\0")) or die;
    listen(S, 9) or die;
    open(F, ">/run/serves") or die; close F;
    while (accept(C, S)) { syswrite(C, "$ARGV[0]\n"); close C }"#;

/// Serves a word at port 80 of a machine.
fn serve(f: &Fixture, name: &str, word: &str) {
    f.ok(&["exec", name, "--bg", "--", "perl", "-e", SERVER, word]);
    within(20, "the server listens", || f.run(&["exec", name, "--", "cat", "/run/serves"]).code == 0);
}

/// What a program in a box gets from port 80 of another within so many seconds.
fn get(f: &Fixture, name: &str, from: &str, seconds: &str) -> String {
    let script = "exec 3<>/dev/tcp/$0/80 && head -n 1 <&3";
    let done = f.run(&["exec", name, "--timeout", seconds, "--", "bash", "-c", script, from]);
    assert!(![2, 125].contains(&done.code), "{done:?}");
    done.out.trim().to_owned()
}

fn machine(m: &Machine, name: &str, more: &[&str]) {
    let words = ["create", name, "--vm", "--memory", MEMORY, "--disk", "1GiB"];
    m.ok(&[&words[..], more].concat());
}

#[test]
fn machines_and_containers_of_a_project_reach_each_other_and_no_others() {
    require!("vm");
    require!("container");
    let m = Machine::new();
    let (f, host, outside) = (&m.f, m.host(), m.outside());
    machine::furnish(f, &[]);
    outside.serve(80, "outside");
    machine(&m, "one", &["--publish", "8080:80"]);
    machine(&m, "two", &[]);
    m.ok(&["create", "box"]);
    m.ok(&["create", "strange:far"]);
    for name in ["one", "two"] {
        serve(f, name, name);
    }
    Place::inside(f, "default", "box").serve(80, "box");
    Place::inside(f, "strange", "far").serve(80, "far");
    let [one, two, boxed, far] =
        ["one", "two", "box", "strange:far"].map(|name| address(f, name).to_string());
    assert_eq!(get(f, "one", &two, "20"), "two");
    assert_eq!(get(f, "two", &one, "20"), "one");
    assert_eq!(get(f, "two", "one", "20"), "one", "by its name");
    assert_eq!(get(f, "box", &one, "20"), "one");
    assert_eq!(get(f, "one", &boxed, "20"), format!("box {one}"));
    assert_eq!(get(f, "one", &OUTSIDE.to_string(), "20"), format!("outside {HOST}"));
    for (from, to) in [("one", &far), ("strange:far", &one), ("strange:far", &two)] {
        assert_eq!(get(f, from, to, "3"), "", "{from} to {to}");
    }
    let says = |got: Option<String>| got.as_deref() == Some("one\n");
    assert!(says(host.get(Ipv4Addr::LOCALHOST, 8080)) && says(host.get(HOST, 8080)));
    assert!(says(outside.get(HOST, 8080)), "the published port");
    assert!(f.sh("one", "cat /etc/resolv.conf; cat /etc/hosts").contains("one"));
    m.ok(&["stop", "one"]);
    assert_eq!(host.get(Ipv4Addr::LOCALHOST, 8080), None);
    m.ok(&["start", "one"]);
    serve(f, "one", "one");
    assert!(says(outside.get(HOST, 8080)), "again");
    for name in ["one", "two", "box", "strange:far"] {
        m.ok(&["delete", name, "--yes"]);
    }
    within(10, "nothing is left of the network", || m.leftovers().is_empty());
}

#[test]
fn a_bake_with_a_network_leaves_none_of_it() {
    require!("vm");
    let m = Machine::new();
    machine::furnish(&m.f, &[]);
    m.outside().serve(80, "outside");
    let reach = format!("exec 3<>/dev/tcp/{OUTSIDE}/80 && head -n 1 <&3 > /srv/got");
    let script = format!("exec bash -c '{reach}'");
    let words = ["image", "bake", "t", "--base", "box-base", "--memory", MEMORY, "--disk", "1GiB", "--run"];
    m.ok(&[&words[..], &[&script]].concat());
    within(10, "nothing is left of the network", || m.leftovers().is_empty());
    let failed = m.run(&[&words[..2], &["u"], &words[3..], &["exit 1"]].concat());
    assert_eq!(failed.code, 1, "{failed:?}");
    within(10, "nothing is left of a failed one", || m.leftovers().is_empty());
    m.ok(&["create", "b", "--image", "t"]);
    assert_eq!(m.f.sh("b", "cat /srv/got"), format!("outside {HOST}\n"));
    // it has an address of its own and goes on talking
    assert_eq!(get(&m.f, "b", &OUTSIDE.to_string(), "20"), format!("outside {HOST}"));
    m.ok(&["delete", "b", "--yes"]);
    within(10, "nothing is left of the box", || m.leftovers().is_empty());
}
