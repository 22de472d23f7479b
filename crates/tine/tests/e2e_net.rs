//! The network of boxes, as typed.
//!
//! Other tests have boxes on this machine too, so what is said of all that there is, is said of a machine of the
//! test's own.

#[path = "support/monitor.rs"]
mod monitor;
#[path = "support/net.rs"]
mod net;
mod support;

use monitor::kill_monitor;
use net::{HOST, Machine, OUTSIDE, Place, address, devices, exists, get_from, get_udp_from};
use std::net::Ipv4Addr;
use support::{Fixture, eventually};

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn gateway(address: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(address) & !1023 | 1)
}

#[test]
fn boxes_of_one_project_reach_each_other_by_name_and_no_others() {
    require!("container");
    let f = Fixture::new();
    for name in ["one", "two", "strange:three"] {
        f.ok(&["create", name]);
    }
    Place::inside(&f, "default", "one").serve(80, "one");
    Place::inside(&f, "strange", "three").serve(80, "three");
    let [one, two, three] = ["one", "two", "strange:three"].map(|name| address(&f, name));
    assert_eq!(get_from(&f, "two", "one", 80), Some(format!("one {two}\n")));
    assert_eq!(get_from(&f, "two", &one.to_string(), 80), Some(format!("one {two}\n")));
    assert_eq!(get_from(&f, "one", "one", 80), Some(format!("one {one}\n")), "itself");
    assert_eq!(get_from(&f, "strange:three", "three", 80), Some(format!("three {three}\n")));
    assert_eq!(get_from(&f, "strange:three", "one", 80), None);
    assert_eq!(get_from(&f, "strange:three", &one.to_string(), 80), None);
    assert_eq!(get_from(&f, "one", "three", 80), None);
    assert_eq!(get_from(&f, "one", &three.to_string(), 80), None);
    assert_eq!(Place::here().get(one, 80), Some(format!("one {}\n", gateway(one))), "from the host");
    assert_ne!(devices(one)[0], devices(three)[0]);
    assert_eq!(devices(one)[0], devices(two)[0]);
    assert!(f.ok(&["info", "one"]).contains(&format!("address: {one}\n")));
}

#[test]
fn a_box_reaches_no_port_of_the_host_that_it_was_not_allowed() {
    require!("container");
    let machine = Machine::new();
    let (host, f) = (machine.host(), &machine.f);
    host.serve(8080, "host");
    host.serve(8081, "secret");
    host.serve_udp(8080, "host");
    machine.ok(&["create", "shut"]);
    machine.ok(&["create", "open", "--host-port", "8080"]);
    let [open, shut] = ["open", "shut"].map(|name| address(f, name));
    let door = gateway(shut);
    std::thread::scope(|scope| {
        for way in [HOST, door, LOOPBACK, OUTSIDE].map(|way| way.to_string()) {
            scope.spawn(move || {
                assert_eq!(get_from(f, "shut", &way, 8080), None, "{way}:8080");
                assert_eq!(get_from(f, "shut", &way, 8081), None, "{way}:8081");
                assert_eq!(get_udp_from(f, "shut", &way, 8080), None, "{way} udp");
                assert_eq!(get_from(f, "open", &way, 8081), None, "{way}:8081");
            });
        }
    });
    assert_eq!(get_from(f, "shut", "host.tine", 8080), None);
    assert_eq!(get_from(f, "open", "host.tine", 8080), Some(format!("host {open}\n")));
    assert_eq!(get_from(f, "open", &HOST.to_string(), 8080), Some(format!("host {open}\n")));
    assert_eq!(get_udp_from(f, "open", "host.tine", 8080), None, "tcp was allowed");
    assert!(f.ok(&["info", "open"]).contains("host ports: 8080\n"));
}

#[test]
fn a_box_reaches_the_outside_and_is_not_reached_from_there() {
    require!("container");
    let machine = Machine::new();
    machine.outside().serve(80, "outside");
    machine.outside().serve_udp(53, "outside");
    machine.ok(&["create", "b"]);
    let f = &machine.f;
    assert_eq!(get_from(f, "b", &OUTSIDE.to_string(), 80), Some(format!("outside {HOST}\n")));
    assert_eq!(get_udp_from(f, "b", &OUTSIDE.to_string(), 53), Some("outside\n".into()));
    Place::inside(f, "default", "b").serve(80, "b");
    let b = address(f, "b");
    net::ip(&format!("-n {} route add {b} via {HOST}", machine.outer()));
    assert_eq!(machine.outside().get(b, 80), None);
}

#[test]
fn a_published_port_is_reached_from_everywhere_it_says() {
    require!("container");
    let machine = Machine::new();
    let (host, outside, f) = (machine.host(), machine.outside(), &machine.f);
    machine.ok(&["create", "web", "--publish", "8080:80", "--publish", "127.0.0.1:8081:80"]);
    machine.ok(&["create", "udp", "--publish", "8080:53/udp", "--publish", "127.0.0.1:8081:53/udp"]);
    machine.ok(&["create", "other"]);
    machine.ok(&["create", "strange:far"]);
    Place::inside(f, "default", "web").serve(80, "web");
    Place::inside(f, "default", "udp").serve_udp(53, "udp");
    let says = |got: Option<String>| got.is_some_and(|g| g.starts_with("web ") || g.starts_with("udp\n"));
    assert!(says(host.get(LOOPBACK, 8080)) && says(host.get(HOST, 8080)) && says(host.get(LOOPBACK, 8081)));
    assert_eq!(outside.get(HOST, 8080), Some(format!("web {OUTSIDE}\n")), "the client's own address");
    assert_eq!((outside.get(HOST, 8081), host.get(HOST, 8081)), (None, None));
    assert!(says(host.get_udp(LOOPBACK, 8080)) && says(outside.get_udp(HOST, 8080)));
    assert!(says(host.get_udp(LOOPBACK, 8081)));
    assert_eq!(outside.get_udp(HOST, 8081), None);
    assert!(says(get_from(f, "strange:far", &HOST.to_string(), 8080)), "by another project");
    assert!(says(get_from(f, "other", &HOST.to_string(), 8080)));
    let info = f.ok(&["info", "web"]);
    assert!(info.contains("publish: 8080:80/tcp, 127.0.0.1:8081:80/tcp\n"), "{info}");
    machine.ok(&["stop", "web"]);
    assert_eq!((host.get(LOOPBACK, 8080), outside.get(HOST, 8080)), (None, None));
    machine.ok(&["start", "web"]);
    Place::inside(f, "default", "web").serve(80, "web");
    assert!(says(host.get(LOOPBACK, 8080)) && says(outside.get(HOST, 8080)), "again");
}

#[test]
fn a_published_port_is_one_boxs_only() {
    require!("container");
    let f = Fixture::new();
    let port = Place::here().free_port().to_string();
    let publish = format!("{port}:80");
    f.ok(&["create", "first", "--publish", &publish]);
    let said = f.refuses("already_exists", &["create", "second", "--publish", &publish]);
    assert!(said.contains(&port), "{said}");
    assert_eq!(f.ok(&["-q", "list"]), "first\n", "nothing half-made");
    f.ok(&["create", "third", "--no-start", "--publish", &publish]);
    assert!(f.refuses("already_exists", &["start", "third"]).contains(&port));
    assert_eq!(f.json(&["info", "third"])["status"], "stopped");
    Place::inside(&f, "default", "first").serve(80, "first");
    assert!(Place::here().get(LOOPBACK, port.parse().unwrap()).is_some(), "the first one still has it");
    f.ok(&["create", "both", "--publish", &format!("{publish}/udp")]);
    f.ok(&["stop", "first"]);
    f.ok(&["start", "third"]);
    f.refuses("already_exists", &["start", "first"]);
    let foreign = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("127.0.0.1:{}:80", foreign.local_addr().unwrap().port());
    f.refuses("already_exists", &["create", "fourth", "--publish", &taken]);
}

#[test]
fn wrong_words_about_ports_are_wrong_usage() {
    require!("btrfs");
    let f = Fixture::new();
    for words in [
        &["--publish", "0:80"][..],
        &["--publish", "80"],
        &["--publish", "80:80/sctp"],
        &["--publish", "99999:80"],
        &["--publish", "::1:80:80"],
        &["--host-port", "0"],
        &["--host-port", "ssh"],
        &["--net", "bridge"],
        &["--net", "none", "--publish", "8080:80"],
        &["--net", "host", "--host-port", "80"],
    ] {
        let done = f.run(&[&["create", "b"], words].concat());
        assert_eq!(done.code, 2, "{done:?}");
    }
    assert_eq!(f.ok(&["-q", "list"]), "");
}

#[test]
fn without_a_network_there_is_only_lo() {
    require!("container");
    let f = Fixture::new();
    f.ok(&["create", "b", "--net", "none"]);
    assert_eq!(f.sh("b", "cut -d: -f1 -s /proc/net/dev | tr -d ' '"), "lo\n");
    Place::inside(&f, "default", "b").serve(80, "b");
    assert_eq!(get_from(&f, "b", "localhost", 80), Some("b 127.0.0.1\n".into()), "lo is up");
    assert_eq!(get_from(&f, "b", "b", 80), Some("b 127.0.0.1\n".into()), "its own name");
    assert_eq!(get_from(&f, "b", &HOST.to_string(), 80), None);
    assert_eq!(f.json(&["info", "b"])["address"], serde_json::Value::Null);
}

#[test]
fn the_hosts_network_may_be_shared() {
    require!("container");
    let machine = Machine::new();
    machine.ok(&["create", "b", "--net", "host"]);
    let f = &machine.f;
    let interfaces = f.sh("b", "cut -d: -f1 -s /proc/net/dev | tr -d ' ' | sort");
    assert_eq!(interfaces, "lo\nup0\n");
    machine.host().serve(8080, "host");
    assert_eq!(get_from(f, "b", "localhost", 8080), Some("host 127.0.0.1\n".into()));
    assert_eq!(get_from(f, "b", "host.tine", 8080), Some("host 127.0.0.1\n".into()));
    assert_eq!(f.sh("b", "hostname"), "b\n", "its own name all the same");
    assert_eq!(f.json(&["info", "b"])["address"], serde_json::Value::Null);
    machine.ok(&["delete", "b", "--yes"]);
    assert_eq!(machine.leftovers(), "");
}

#[test]
fn a_box_hears_of_others_that_come_and_go() {
    require!("container");
    let f = Fixture::new();
    let hosts = |name: &str| f.sh(name, "cat /etc/hosts");
    let line = |name: &str| format!("{} {name}\n", address(&f, name));
    f.ok(&["create", "one"]);
    assert!(hosts("one").contains(&line("one")));
    f.ok(&["create", "two"]);
    assert!(hosts("one").contains(&line("two")) && hosts("two").contains(&line("one")));
    f.ok(&["stop", "two"]);
    assert!(!hosts("one").contains("two"), "{}", hosts("one"));
    f.ok(&["rename", "two", "too"]);
    f.ok(&["start", "too"]);
    assert!(hosts("one").contains(&line("too")) && !hosts("one").contains("two"));
    assert_eq!(f.sh("too", "hostname"), "too\n");
    Place::inside(&f, "default", "too").serve(80, "too");
    assert!(get_from(&f, "one", "too", 80).is_some());
    f.ok(&["delete", "too", "--yes"]);
    assert!(!hosts("one").contains("too"));
    assert!(hosts("one").contains(&format!("{} host.tine\n", gateway(address(&f, "one")))));
}

#[test]
fn a_network_leaves_no_trace_in_a_box_and_survives_restarts() {
    require!("container");
    let f = Fixture::new();
    f.ok(&["create", "b", "--no-start"]);
    f.ok(&["create", "peer"]);
    Place::inside(&f, "default", "peer").serve(80, "peer");
    f.ok(&["snapshot", "create", "b"]);
    f.ok(&["start", "b"]);
    assert_eq!(f.ok(&["diff", "status", "b"]), "No changes\n");
    let reaches = |when: &str| assert!(get_from(&f, "b", "peer", 80).is_some(), "{when}");
    reaches("at first");
    f.ok(&["snapshot", "restore", "b", "v0", "--yes"]);
    reaches("after a restore");
    for round in 0..3 {
        f.ok(&["stop", "b"]);
        assert_eq!(f.json(&["info", "b"])["address"], serde_json::Value::Null);
        f.ok(&["start", "b"]);
        reaches(&format!("after restart {round}"));
    }
    f.ok(&["pause", "b"]);
    f.ok(&["resume", "b"]);
    reaches("after a pause");
}

#[test]
fn the_last_box_takes_everything_along() {
    require!("container");
    let machine = Machine::new();
    let gone = |device: &str| !machine.leftovers().contains(device);
    machine.ok(&["create", "one", "--publish", "8080:80"]);
    machine.ok(&["create", "two"]);
    machine.ok(&["create", "strange:three"]);
    let [one, two, three] = ["one", "two", "strange:three"].map(|n| address(&machine.f, n));
    let device = |a: Ipv4Addr| format!("tv{:08x}", u32::from(a));
    assert!([one, two, three].iter().all(|a| !gone(&device(*a))), "{}", machine.leftovers());
    machine.ok(&["stop", "one"]);
    eventually("its device goes", || gone(&device(one)));
    assert!(gone("8080") && !gone("table inet tine") && !gone(&device(two)));
    machine.ok(&["delete", "two", "--yes"]);
    eventually("its bridge goes", || machine.leftovers().matches(": tine-").count() == 1);
    machine.ok(&["delete", "strange:three", "--yes"]);
    eventually("all goes", || machine.leftovers().is_empty());
    machine.ok(&["start", "one"]);
    assert!(machine.host().get(address(&machine.f, "one"), 80).is_none());
    machine.ok(&["--yes", "detach"]);
    eventually("detach takes all", || machine.leftovers().is_empty());
}

#[test]
fn what_a_killed_monitor_leaves_goes_with_gc() {
    require!("container");
    let machine = Machine::new();
    let f = &machine.f;
    machine.ok(&["create", "b", "--publish", "8080:80", "--host-port", "99"]);
    kill_monitor(f, "default", "b");
    eventually("it is stopped", || f.json(&["info", "b"])["status"] == "stopped");
    machine.ok(&["gc"]);
    eventually("nothing is left", || {
        machine.ok(&["gc"]);
        machine.leftovers().is_empty()
    });
    machine.ok(&["start", "b"]);
    Place::inside(f, "default", "b").serve(80, "b");
    assert!(machine.host().get(LOOPBACK, 8080).is_some());
    // without gc, the next box inherits what is left and nothing stands in its way
    kill_monitor(f, "default", "b");
    machine.ok(&["create", "heir", "--publish", "8080:81"]);
    Place::inside(f, "default", "heir").serve(81, "heir");
    assert!(machine.host().get(LOOPBACK, 8080).is_some_and(|got| got.starts_with("heir")));
}

#[test]
fn two_pools_on_one_host_do_not_disturb_each_other() {
    require!("container");
    let (f, g) = (Fixture::new(), Fixture::new());
    for pool in [&f, &g] {
        pool.ok(&["create", "web"]);
        pool.ok(&["create", "peer"]);
    }
    Place::inside(&f, "default", "web").serve(80, "f");
    Place::inside(&g, "default", "web").serve(80, "g");
    let says = |pool: &Fixture, host: &str| get_from(pool, "peer", host, 80).map(|got| got[..1].to_owned());
    assert_eq!((says(&f, "web"), says(&g, "web")), (Some("f".into()), Some("g".into())));
    let [in_f, in_g] = [&f, &g].map(|pool| address(pool, "web"));
    assert_eq!((says(&f, &in_g.to_string()), says(&g, &in_f.to_string())), (None, None));
    let ([bridge_f, device_f], [bridge_g, _]) = (devices(in_f), devices(in_g));
    assert_ne!(bridge_f, bridge_g);
    f.ok(&["gc"]);
    f.ok(&["--yes", "detach"]);
    eventually("one pool's devices go", || !exists(&bridge_f) && !exists(&device_f));
    assert_eq!(says(&g, "web"), Some("g".into()));
    g.ok(&["gc"]);
    assert_eq!(says(&g, "web"), Some("g".into()));
    assert!(exists(&bridge_g));
}

#[test]
fn many_boxes_come_at_once() {
    require!("container");
    let f = Fixture::new();
    let names: Vec<String> = (0..8).map(|n| format!("b{n}")).collect();
    let start =
        |name: &String| f.command(&["create", name]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let children: Vec<_> = names.iter().map(start).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let mut addresses: Vec<Ipv4Addr> = names.iter().map(|name| address(&f, name)).collect();
    let hosts = f.sh("b0", "cat /etc/hosts");
    for (name, address) in names.iter().zip(&addresses) {
        assert!(hosts.contains(&format!("{address} {name}\n")), "{hosts}");
    }
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 8);
}
