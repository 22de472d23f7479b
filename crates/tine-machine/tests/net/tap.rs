//! The network of vm boxes: a tap on the bridge, with a guest that may send what it likes.

use crate::{
    guest::{ARP, BROADCAST, Guest, IPV4, Mac, arp, ethernet, ipv4, udp},
    world::{HOST, OUTSIDE, TestBox, World, can_run, get_udp, ip, output, serve_udp},
};
use std::net::{Ipv4Addr, UdpSocket};
use tine_machine::net::{Device, NetworkSpec, sweep};
use tine_model::{ErrorCode, NetworkMode};

fn tap_spec(world: &World, project: &str, name: &str) -> NetworkSpec {
    NetworkSpec { device: Device::Tap, ..world.spec(project, name) }
}

fn start(world: &World, project: &str, name: &str) -> (TestBox, Guest) {
    started(world, tap_spec(world, project, name))
}

fn started(world: &World, spec: NetworkSpec) -> (TestBox, Guest) {
    let mut running = world.start(spec);
    let guest = Guest::of(&mut running);
    (running, guest)
}

fn serve_inside(running: &TestBox, port: u16) {
    running.actor.run(move || serve_udp(Ipv4Addr::UNSPECIFIED, port));
}

fn device(running: &TestBox) -> String {
    format!("tv{:08x}", u32::from(running.address()))
}

#[test]
fn a_guest_reaches_its_gateway_the_outside_and_its_project_and_nothing_else() {
    if !can_run() {
        return;
    }
    let world = World::new();
    serve_udp(Ipv4Addr::UNSPECIFIED, 53);
    serve_udp(Ipv4Addr::UNSPECIFIED, 54);
    world.outside.run(|| serve_udp(Ipv4Addr::UNSPECIFIED, 53));
    let container = world.start(world.spec("red", "container"));
    let stranger = world.start(world.spec("blue", "stranger"));
    serve_inside(&container, 53);
    serve_inside(&stranger, 53);
    let (running, guest) =
        started(&world, NetworkSpec { host_ports: vec![53], ..tap_spec(&world, "red", "vm") });
    let (strange, strange_guest) = start(&world, "blue", "vm");
    let (mine, gateway) = (guest.network.address.to_string(), guest.network.gateway);
    assert!(guest.hardware_of(gateway).is_some(), "the gateway answers ARP");
    assert_eq!(guest.get_udp(gateway, 53), Some(mine.clone()), "the host's port it was allowed");
    assert_eq!(guest.get_udp(gateway, 54), None, "another port of the host");
    assert_eq!(guest.get_udp(OUTSIDE, 53), Some(HOST.to_string()), "the outside sees the host");
    assert_eq!(guest.get_udp(container.address(), 53), Some(mine), "a container of its project");
    assert!(guest.pings(container.address()));
    assert_eq!(guest.get_udp(stranger.address(), 53), None, "another project's container");
    assert_eq!(guest.get_udp(strange.address(), 99), None, "another project's guest");
    assert_eq!(strange_guest.get_udp(strange.address(), 99), None, "nobody answers himself");
    let address = guest.network.address;
    let seen = container.actor.run(move || get_udp(address, 99));
    assert_eq!(seen, Some(container.address().to_string()), "the guest answers a container");
    assert_eq!(stranger.actor.run(move || get_udp(address, 99)), None, "another project got in");
    assert_eq!(get_udp(address, 99), Some(gateway.to_string()), "the guest answers the host");
    for running in [running, strange, container, stranger] {
        running.stop().unwrap();
    }
    assert_eq!(world.leftovers(), "");
}

#[test]
fn two_guests_of_a_project_reach_each_other() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let (a, guest_a) = start(&world, "red", "a");
    let (b, guest_b) = start(&world, "red", "b");
    assert_eq!(guest_a.hardware_of(b.address()), Some(guest_b.network.mac));
    assert_eq!(guest_a.get_udp(b.address(), 99), Some(a.address().to_string()));
    assert_eq!(guest_b.get_udp(a.address(), 99), Some(b.address().to_string()));
    a.stop().unwrap();
    b.stop().unwrap();
    assert_eq!(world.leftovers(), "");
}

/// Frames that a box must not send, each ending in a mark of its own.
fn lies(liar: &Guest, victim: &Guest, gateway: Mac) -> Vec<Vec<u8>> {
    let (me, he) = (liar.network, victim.network);
    let honest_ip = |from| ipv4(from, he.address, 17, &udp(1, 2, b""));
    let [mine, his] = [me.address, he.address].map(honest_ip);
    let asks = |sender| arp(1, sender, ([0; 6], he.address));
    let tagged = [&[0, 5][..], &IPV4.to_be_bytes(), &mine].concat();
    let doubly = [&[0, 5][..], &0x8100_u16.to_be_bytes(), &[0, 6], &IPV4.to_be_bytes(), &mine].concat();
    let frames = [
        ethernet(he.mac, gateway, IPV4, &mine),
        ethernet(he.mac, me.mac, IPV4, &his),
        ethernet(he.mac, me.mac, IPV4, &honest_ip(me.gateway)),
        ethernet(he.mac, me.mac, IPV4, &honest_ip(Ipv4Addr::UNSPECIFIED)),
        ethernet(BROADCAST, gateway, ARP, &asks((me.mac, me.address))),
        ethernet(BROADCAST, me.mac, ARP, &asks((gateway, me.address))),
        ethernet(BROADCAST, me.mac, ARP, &asks((me.mac, me.gateway))),
        ethernet(BROADCAST, me.mac, ARP, &asks((me.mac, Ipv4Addr::UNSPECIFIED))),
        ethernet(he.mac, me.mac, ARP, &arp(2, (gateway, me.gateway), (he.mac, he.address))),
        ethernet(he.mac, me.mac, 0x86dd, &[0x60; 40]),
        ethernet(BROADCAST, me.mac, 0x88b5, b"anything"),
        ethernet(he.mac, me.mac, 0x8100, &tagged),
        ethernet(he.mac, me.mac, 0x88a8, &doubly),
        ethernet(he.mac, me.mac, IPV4, b""),
        ethernet(he.mac, me.mac, ARP, b"\0\x01\x08"),
        ethernet([1, 0x80, 0xc2, 0, 0, 0], me.mac, 0x0027, b"anything"),
        // The last: from here on the bridge would take the victim's frames to the liar.
        ethernet(BROADCAST, he.mac, IPV4, &mine),
    ];
    frames.into_iter().zip(1..).map(|(frame, mark)| marked(frame, mark)).collect()
}

fn marked(mut frame: Vec<u8>, mark: u8) -> Vec<u8> {
    frame.extend(b"mark");
    frame.push(mark);
    frame
}

const HONEST: u8 = 255;

/// Which of the liar's frames the victim gets to see.
fn seen(liar: &Guest, victim: &Guest, gateway: Mac) -> Vec<u8> {
    lies(liar, victim, gateway).iter().for_each(|frame| liar.send(frame));
    let truth = ipv4(liar.network.address, victim.network.address, 17, &udp(1, 2, b""));
    liar.send(&marked(ethernet(BROADCAST, liar.network.mac, IPV4, &truth), HONEST));
    victim.marks_until(HONEST)
}

#[test]
fn a_guest_can_send_only_as_itself() {
    if !can_run() {
        return;
    }
    let world = World::new();
    world.let_all_frames_through();
    let (liar, lying) = start(&world, "red", "liar");
    let (victim, guest) = start(&world, "red", "victim");
    let gateway = lying.hardware_of(lying.network.gateway).unwrap();
    assert_eq!(seen(&lying, &guest, gateway), [HONEST]);
    assert_eq!(guest.get_udp(liar.address(), 99), Some(victim.address().to_string()), "still itself");
    // The test sees a lie that gets through.
    output("nft", &["delete", "table", "bridge", "tine"]);
    let count = u8::try_from(lies(&lying, &guest, gateway).len()).unwrap();
    let all: Vec<u8> = (1..=count).chain([HONEST]).collect();
    assert_eq!(seen(&lying, &guest, gateway), all, "without the firewall every lie gets through");
    liar.stop().unwrap();
    victim.stop().unwrap();
    assert_eq!(world.leftovers(), "");
}

#[test]
fn a_bridge_learns_no_false_address() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let (liar, lying) = start(&world, "red", "liar");
    let (victim, guest) = start(&world, "red", "victim");
    let [a, b, c, d, e, f] = guest.network.mac;
    let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    let learned = || output("bridge", &["fdb", "show", "dev", &device(&liar)]).contains(&mac);
    let lie = |to: Mac| lying.send(&ethernet(to, guest.network.mac, 0x88cc, b"anything"));
    let reserved = |last| [1, 0x80, 0xc2, 0, 0, last];
    lie(BROADCAST);
    (0..16).map(reserved).for_each(lie);
    assert!(!learned());
    output("nft", &["delete", "table", "bridge", "tine"]);
    // These the firewall does not see.
    (1..16).map(reserved).for_each(lie);
    assert!(!learned());
    lie(BROADCAST);
    assert!(learned(), "without the firewall it does");
    liar.stop().unwrap();
    victim.stop().unwrap();
}

#[test]
fn a_container_can_send_only_as_itself() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let liar = world.start(world.spec("red", "liar"));
    let (victim, guest) = start(&world, "red", "victim");
    let address = victim.address();
    let (mine, false_one) = (liar.address(), Ipv4Addr::from(u32::from(address) + 7));
    let send = move |from: Ipv4Addr, mark: u8| {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.send_to(&[b'm', b'a', b'r', b'k', mark], (address, 99)).unwrap();
    };
    liar.actor.run(move || {
        send(mine, 1);
        ip(&format!("address add {false_one}/22 dev eth0"));
        send(false_one, 2);
        send(mine, 3);
    });
    assert_eq!(guest.marks_until(3), [1, 3]);
    liar.actor.run(move || {
        ip("link set eth0 address 02:54:00:00:00:01");
        send(mine, 4);
    });
    assert_eq!(liar.actor.run(move || get_udp(address, 99)), None, "a false hardware address");
    let [a, b, c, d] = mine.octets();
    liar.actor.run(move || {
        ip(&format!("link set eth0 address 02:54:{a:02x}:{b:02x}:{c:02x}:{d:02x}"));
        send(mine, 5);
    });
    assert!(!guest.marks_until(5).contains(&4));
    liar.stop().unwrap();
    victim.stop().unwrap();
    assert_eq!(world.leftovers(), "");
}

#[test]
fn a_published_port_leads_to_a_guest() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let mut spec = tap_spec(&world, "red", "vm");
    spec.publish = vec!["5353:53/udp".parse().unwrap(), "127.0.0.1:8080:80".parse().unwrap()];
    let (running, guest) = started(&world, spec);
    let rules = output("nft", &["list", "ruleset"]);
    for element in [
        format!("udp . 5353 : {} . 53", running.address()),
        format!("tcp . 127.0.0.1 . 8080 : {} . 80", running.address()),
    ] {
        assert!(rules.contains(&element), "{element} is not in {rules}");
    }
    let outside = world.outside.run(|| get_udp(HOST, 5353));
    assert_eq!(outside, Some(OUTSIDE.to_string()), "from outside");
    assert!(get_udp(Ipv4Addr::LOCALHOST, 5353).is_some(), "from the host");
    assert!(guest.hardware_of(guest.network.gateway).is_some());
    running.stop().unwrap();
    assert_eq!(world.outside.run(|| get_udp(HOST, 5353)), None);
    assert_eq!(world.leftovers(), "");
}

#[test]
fn a_flushed_firewall_admits_running_guests_again_with_the_next_box() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let (running, guest) = start(&world, "red", "vm");
    let sets = || output("nft", &["list", "ruleset"]);
    let mine = format!("\"{}\" . 02:54:", device(&running));
    assert!(sets().contains(&mine));
    output("nft", &["delete", "table", "bridge", "tine"]);
    let (next, _next_guest) = start(&world, "red", "next");
    assert!(sets().contains(&mine), "{}", sets());
    assert_eq!(guest.hardware_of(next.address()).map(|mac| mac[..2].to_vec()), Some(vec![0x02, 0x54]));
    next.stop().unwrap();
    running.stop().unwrap();
    assert_eq!(world.leftovers(), "");
}

#[test]
fn the_process_of_a_machine_sees_no_network_and_the_guest_is_told_one() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let peer = world.start(world.spec("red", "peer"));
    let (running, guest) = start(&world, "red", "vm");
    let links = running.actor.run(|| output("ip", &["-o", "link"]));
    assert_eq!((links.lines().count(), links.contains("state DOWN")), (1, true), "{links}");
    let [a, b, c, d] = running.address().octets();
    assert_eq!(guest.network.mac, [0x02, 0x54, a, b, c, d]);
    assert_eq!((guest.network.prefix, guest.network.gateway), (22, Ipv4Addr::new(a, b, c & 0xfc, 1)));
    let hosts = running.attachment.hosts_content().unwrap();
    assert_eq!(hosts, std::fs::read_to_string(&running.attachment.hosts_file).unwrap());
    for line in [format!("{} vm", running.address()), format!("{} peer", peer.address())] {
        assert!(hosts.lines().any(|l| l == line), "{hosts}");
    }
    let resolver = running.attachment.resolv_conf_content().unwrap();
    assert_eq!(resolver, std::fs::read_to_string(&running.attachment.resolv_conf).unwrap());
    assert!(peer.attachment.guest.is_none());
    let host_side = output("ip", &["-6", "address", "show", "dev", &device(&running)]);
    assert_eq!(host_side, "", "the host talks IPv6 to a guest");
    running.stop().unwrap();
    peer.stop().unwrap();
    assert_eq!(world.leftovers(), "");
}

#[test]
fn a_machine_without_a_bridge_has_an_empty_namespace_and_never_the_hosts() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let mut spec = tap_spec(&world, "red", "vm");
    spec.mode = NetworkMode::None;
    let mut alone = world.start(spec.clone());
    let links = alone.actor.run(|| output("ip", &["-o", "link"]));
    assert_eq!((links.lines().count(), links.contains("state DOWN")), (1, true), "{links}");
    assert!(alone.attachment.take_tap().is_none() && alone.attachment.guest.is_none());
    assert!(alone.attachment.hosts_content().unwrap().contains("127.0.1.1 vm\n"));
    assert_eq!(alone.attachment.resolv_conf_content().unwrap(), "");
    alone.stop().unwrap();
    spec.mode = NetworkMode::Host;
    let error: tine_model::Error = world.try_start(spec).map(drop).unwrap_err().into();
    assert_eq!(error.code, ErrorCode::Usage);
    assert!(error.message.contains("no host network"), "{error}");
    assert!(error.hint.is_some_and(|hint| hint.contains("--net nat")));
    assert_eq!(world.leftovers(), "");
}

#[test]
fn a_tap_in_the_way_is_replaced() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let keeper = world.start(world.spec("red", "keeper"));
    let name = format!("tv{:08x}", u32::from(keeper.address()) + 1);
    ip(&format!("tuntap add {name} mode tap"));
    let (running, guest) = start(&world, "red", "vm");
    assert_eq!(device(&running), name);
    assert!(guest.hardware_of(keeper.address()).is_some());
    running.stop().unwrap();
    ip(&format!("tuntap add {name} mode tap"));
    let container = world.start(world.spec("red", "container"));
    assert_eq!(device(&container), name);
    container.stop().unwrap();
    keeper.stop().unwrap();
    assert_eq!(world.leftovers(), "");
}

#[test]
fn a_persistent_tap_of_nobody_is_swept() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let (running, guest) = start(&world, "red", "vm");
    let bridge = output("ip", &["-o", "link", "show", "dev", &device(&running)]);
    let bridge = bridge.split(' ').skip_while(|w| *w != "master").nth(1).unwrap().to_owned();
    let left = format!("tv{:08x}", u32::from(running.address()) + 5);
    ip(&format!("tuntap add {left} mode tap"));
    ip(&format!("link set {left} master {bridge}"));
    ip("tuntap add mine0 mode tap");
    ip(&format!("link set mine0 master {bridge}"));
    let planned = [format!("device {left}")];
    assert_eq!(sweep(&world.runtime_dir(), true).unwrap(), planned);
    assert_eq!(sweep(&world.runtime_dir(), false).unwrap(), planned);
    assert_eq!(sweep(&world.runtime_dir(), false).unwrap(), Vec::<String>::new());
    assert!(guest.hardware_of(guest.network.gateway).is_some(), "a live box's device stays");
    assert!(output("ip", &["-o", "link"]).contains("mine0"), "a stranger's device stays");
    ip("tuntap del mine0 mode tap");
    running.stop().unwrap();
    assert_eq!(world.leftovers(), "");
}
