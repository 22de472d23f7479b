//! Who reaches whom: boxes of one project, of different projects, the host and the outside.

use crate::world::{HOST, OUTSIDE, World, can_run, get, get_udp, ip, output, serve, serve_udp};
use std::{net::Ipv4Addr, path::Path, time::Duration};
use tine_model::NetworkMode;

fn gateway(address: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, _] = address.octets();
    Ipv4Addr::new(a, b, c & 0xfc, 1)
}

fn projects_are_apart(world: &World) {
    let (a, b) = (world.start(world.spec("red", "a")), world.start(world.spec("red", "b")));
    let other = world.start(world.spec("blue", "c"));
    b.serve(80);
    assert_eq!(a.get(b.address(), 80), Some(a.address().to_string()));
    assert_eq!(b.get(b.address(), 80), Some(b.address().to_string()));
    assert_eq!(other.get(b.address(), 80), None, "a box of another project got through");
    other.serve(80);
    assert_eq!(a.get(other.address(), 80), None, "a box of another project got through");
    assert_ne!(gateway(a.address()), gateway(other.address()));
    for running in [a, b, other] {
        running.stop().unwrap();
    }
    assert_eq!(world.leftovers(), "");
}

#[test]
fn boxes_reach_their_own_project_only() {
    if can_run() {
        let world = World::new();
        world.set_bridge_netfilter(false);
        projects_are_apart(&world);
    }
}

#[test]
fn boxes_reach_their_own_project_only_with_bridge_netfilter() {
    if can_run() {
        let world = World::new();
        if world.set_bridge_netfilter(true) {
            projects_are_apart(&world);
        } else {
            eprintln!("SKIPPED: needs the kernel module br_netfilter");
        }
    }
}

#[test]
fn a_box_reaches_the_ports_of_the_host_it_was_allowed_and_no_other() {
    if !can_run() {
        return;
    }
    let world = World::new();
    for port in [5000, 5001, 53] {
        serve(Ipv4Addr::UNSPECIFIED, port);
    }
    serve_udp(Ipv4Addr::UNSPECIFIED, 53);
    let closed = world.start(world.spec("red", "closed"));
    let mut spec = world.spec("red", "open");
    spec.host_ports = vec![5000, 53];
    let open = world.start(spec);
    let gateway = gateway(open.address());
    for host in [HOST, gateway, Ipv4Addr::LOCALHOST] {
        assert_eq!(closed.get(host, 5000), None, "{host}");
        assert_eq!(open.get(host, 5001), None, "{host}");
    }
    for host in [HOST, gateway] {
        assert_eq!(open.get(host, 5000), Some(open.address().to_string()), "{host}");
    }
    assert_eq!(open.actor.run(move || get_udp(gateway, 53)), Some(open.address().to_string()));
    assert_eq!(closed.actor.run(move || get_udp(gateway, 53)), None);
    // The permission goes with the box, not with its address.
    let address = open.address();
    open.stop().unwrap();
    let heir = world.start(world.spec("red", "heir"));
    assert_eq!((heir.address(), heir.get(HOST, 5000)), (address, None));
    heir.stop().unwrap();
    closed.stop().unwrap();
    assert_eq!(world.leftovers(), "");
}

#[test]
fn a_box_reaches_the_outside_with_the_hosts_address_and_is_not_reached_from_there() {
    if !can_run() {
        return;
    }
    let world = World::new();
    world.outside.run(|| serve(Ipv4Addr::UNSPECIFIED, 80));
    let inside = world.start(world.spec("red", "a"));
    assert_eq!(inside.get(OUTSIDE, 80), Some(HOST.to_string()));
    inside.serve(80);
    let address = inside.address();
    // The host itself may, and so the silence towards the outside is the firewall's.
    assert!(get(address, 80).is_some());
    let from_outside = world.outside.run(move || {
        ip(&format!("route add {address}/32 via {HOST}"));
        get(address, 80)
    });
    assert_eq!(from_outside, None);
    inside.stop().unwrap();
}

#[test]
fn a_box_cannot_send_from_an_address_that_is_not_its_bridges() {
    if !can_run() {
        return;
    }
    let world = World::new();
    serve(Ipv4Addr::UNSPECIFIED, 5000);
    let mut spec = world.spec("blue", "allowed");
    spec.host_ports = vec![5000];
    let allowed = world.start(spec);
    let forger = world.start(world.spec("red", "forger"));
    let forged = allowed.address();
    world.outside.run(|| serve_udp(Ipv4Addr::UNSPECIFIED, 99));
    let dropped = || output("nft", &["list", "ruleset"]);
    output(
        "nft",
        &["add", "chain", "inet", "tine", "seen", "{ type filter hook prerouting priority -200; }"],
    );
    output("nft", &["add", "rule", "inet", "tine", "seen", "ip", "saddr", &forged.to_string(), "counter"]);
    forger.actor.run(move || {
        ip(&format!("address add {forged}/32 dev lo"));
        let socket = std::net::UdpSocket::bind((forged, 0)).unwrap();
        socket.send_to(b"?", (OUTSIDE, 99)).unwrap();
        socket.send_to(b"?", (HOST, 5000)).unwrap();
    });
    std::thread::sleep(Duration::from_millis(50));
    assert!(dropped().contains("counter packets 0 "), "a forged packet passed:\n{}", dropped());
    allowed.actor.run(move || get_udp(OUTSIDE, 99)).expect("the real holder gets through");
    assert!(!dropped().contains("counter packets 0 "), "the counter does not count");
    forger.stop().unwrap();
    allowed.stop().unwrap();
    assert_eq!(world.leftovers(), "");
}

#[test]
fn a_box_has_ipv6_on_loopback_only() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let inside = world.start(world.spec("red", "a"));
    let (loopback, device) = inside.actor.run(|| {
        (output("ip", &["-6", "address", "show", "lo"]), output("ip", &["-6", "address", "show", "eth0"]))
    });
    assert!(loopback.contains("::1/128"), "{loopback}");
    assert_eq!(device, "");
    inside.stop().unwrap();
}

#[test]
fn a_box_does_not_get_out_by_ipv6_where_somebody_turned_it_on() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let inside = world.start(world.spec("red", "a"));
    let links = output("ip", &["-o", "link", "show", "type", "bridge"]);
    let bridge = links.split([' ', ':']).find(|w| w.starts_with("tine-")).unwrap().to_owned();
    std::fs::write(format!("/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6"), "0").unwrap();
    std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    ip(&format!("address add fd77::1/64 dev {bridge} nodad"));
    ip("address add fd88::1/64 dev up0 nodad");
    world.outside.run(|| {
        ip("address add fd88::2/64 dev eth0 nodad");
        ip("route add fd77::/64 via fd88::1");
        let listener = std::net::TcpListener::bind("[::]:80").unwrap();
        std::thread::spawn(move || listener.incoming().for_each(drop));
    });
    // Without asking for neighbours, which the host does not answer.
    let [mine, hosts] = [inside.address(), gateway(inside.address())].map(|address| {
        let [a, b, c, d] = address.octets();
        format!("02:54:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
    });
    ip(&format!("neighbour add fd77::2 lladdr {mine} dev {bridge}"));
    inside.actor.run(move || {
        std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "0").unwrap();
        ip("address add fd77::2/64 dev eth0 nodad");
        ip(&format!("neighbour add fd77::1 lladdr {hosts} dev eth0"));
        ip("route add default via fd77::1");
    });
    let connect = || {
        let wait = Duration::from_millis(700);
        std::net::TcpStream::connect_timeout(&"[fd88::2]:80".parse().unwrap(), wait).is_ok()
    };
    assert!(connect(), "the host itself gets there");
    assert!(!inside.actor.run(connect), "a box got out");
    inside.stop().unwrap();
    assert_eq!(world.leftovers(), "");
}

#[test]
fn boxes_of_a_project_find_each_other_and_the_host_by_name() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let a = world.start(world.spec("red", "a"));
    let hosts = std::fs::File::open(&a.attachment.hosts_file).unwrap();
    let read = || {
        let mut text = vec![0; 4096];
        let length = std::os::unix::fs::FileExt::read_at(&hosts, &mut text, 0).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let before = read();
    assert!(before.contains(&format!("\n{} host.tine\n{} a\n", gateway(a.address()), a.address())));
    let b = world.start(world.spec("red", "bee"));
    let other = world.start(world.spec("blue", "stranger"));
    assert_eq!(read(), format!("{before}{} bee\n", b.address()));
    b.stop().unwrap();
    assert_eq!(read(), before);
    other.stop().unwrap();
    a.stop().unwrap();
}

#[test]
fn without_a_bridge_nothing_of_the_host_is_changed() {
    if !can_run() {
        return;
    }
    let world = World::new();
    serve(Ipv4Addr::LOCALHOST, 5000);
    let mut spec = world.spec("red", "alone");
    spec.mode = NetworkMode::None;
    let alone = world.start(spec.clone());
    assert_eq!(alone.get(Ipv4Addr::LOCALHOST, 5000), None);
    alone.serve(80);
    assert!(alone.get(Ipv4Addr::LOCALHOST, 80).is_some(), "loopback is up");
    assert_eq!(std::fs::read_to_string(&alone.attachment.resolv_conf).unwrap(), "");
    spec.mode = NetworkMode::Host;
    let shared = world.start(spec.clone());
    assert!(shared.get(Ipv4Addr::LOCALHOST, 5000).is_some());
    assert_eq!(world.leftovers(), "");
    spec.publish = vec!["8080:80".parse().unwrap()];
    assert!(world.try_start(spec).is_err(), "publishing needs a network of the box's own");
    alone.stop().unwrap();
    shared.stop().unwrap();
    assert!(!Path::new(&world.runtime_dir()).exists());
}
