//! Ports of the host that lead into a box.

use crate::world::{HOST, TestBox, World, can_run, get, get_udp, ip, output, serve, serve_udp};
use std::net::Ipv4Addr;
use tine_machine::net::NetError;
use tine_model::ErrorCode;

fn publish(world: &World, name: &str, ports: &[&str]) -> Result<TestBox, NetError> {
    let mut spec = world.spec("red", name);
    spec.publish = ports.iter().map(|p| p.parse().unwrap()).collect();
    world.try_start(spec)
}

fn from_everywhere(world: &World, bridge_netfilter: bool) {
    let web = publish(world, "web", &["8080:80", "5353:53/udp"]).unwrap();
    web.serve(80);
    web.actor.run(|| serve_udp(Ipv4Addr::UNSPECIFIED, 53));
    let client = "198.51.100.2".to_owned();
    assert_eq!(world.outside.run(|| get(HOST, 8080)), Some(client.clone()), "from outside");
    assert_eq!(world.outside.run(|| get_udp(HOST, 5353)), Some(client), "UDP from outside");
    for address in [HOST, Ipv4Addr::LOCALHOST] {
        assert!(get(address, 8080).is_some(), "from the host at {address}");
        assert!(get_udp(address, 5353).is_some(), "UDP from the host at {address}");
    }
    let neighbour = world.start(world.spec("red", "neighbour"));
    let stranger = world.start(world.spec("blue", "stranger"));
    for (name, other) in [("neighbour", &neighbour), ("stranger", &stranger)] {
        assert!(other.get(HOST, 8080).is_some(), "from the {name}, at the host's address");
        assert_eq!(other.get(HOST, 80), None);
    }
    // Where bridged packets are shown to the firewall, the kernel sends this one back by the port it came from,
    // which a bridge does not do.
    assert_eq!(web.get(HOST, 8080).is_some(), !bridge_netfilter, "from the box itself");
    for running in [web, neighbour, stranger] {
        running.stop().unwrap();
    }
    assert_eq!(world.outside.run(|| get(HOST, 8080)), None);
    assert_eq!(world.leftovers(), "");
}

#[test]
fn a_published_port_is_reached_from_outside_from_the_host_and_from_boxes() {
    if can_run() {
        let world = World::new();
        world.set_bridge_netfilter(false);
        from_everywhere(&world, false);
    }
}

#[test]
fn a_published_port_is_reached_with_bridge_netfilter_too() {
    if can_run() {
        let world = World::new();
        if world.set_bridge_netfilter(true) {
            from_everywhere(&world, true);
        } else {
            eprintln!("SKIPPED: needs the kernel module br_netfilter");
        }
    }
}

#[test]
fn a_port_published_on_one_address_is_reached_there_only() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let web = publish(&world, "web", &["127.0.0.1:8080:80", "198.51.100.1:8081:80"]).unwrap();
    web.serve(80);
    assert!(get(Ipv4Addr::LOCALHOST, 8080).is_some());
    assert_eq!(get(HOST, 8080), None);
    assert!(get(HOST, 8081).is_some());
    assert_eq!(get(Ipv4Addr::LOCALHOST, 8081), None);
    assert!(world.outside.run(|| get(HOST, 8081)).is_some());
    // One that sends packets for 127.0.0.1 over the wire must not get into what is published on loopback.
    let over_the_wire = world.outside.run(|| {
        std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
        ip("address delete 127.0.0.1/8 dev lo");
        ip(&format!("route add 127.0.0.1/32 via {HOST} src 198.51.100.2"));
        get(Ipv4Addr::LOCALHOST, 8080)
    });
    assert_eq!(over_the_wire, None);
    web.stop().unwrap();
}

#[test]
fn a_box_does_not_reach_the_hosts_loopback_over_a_bridge_that_publishes_on_it() {
    if !can_run() {
        return;
    }
    let world = World::new();
    serve(Ipv4Addr::LOCALHOST, 5000);
    let mut spec = world.spec("red", "web");
    spec.publish = vec!["127.0.0.1:8080:80".parse().unwrap()];
    // Also where the port is open to it: what listens on loopback only is not for boxes.
    spec.host_ports = vec![5000];
    let web = world.start(spec);
    let gateway = Ipv4Addr::from(u32::from(web.address()) & !0x3ff | 1);
    let reached = web.actor.run(move || {
        std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
        ip("address delete 127.0.0.1/8 dev lo");
        ip(&format!("route add 127.0.0.1/32 via {gateway}"));
        get(Ipv4Addr::LOCALHOST, 5000)
    });
    assert_eq!(reached, None);
    web.stop().unwrap();
}

#[test]
fn a_taken_port_is_refused_by_name_and_nothing_is_left() {
    if !can_run() {
        return;
    }
    let world = World::new();
    serve(Ipv4Addr::UNSPECIFIED, 8080);
    let error: tine_model::Error =
        publish(&world, "web", &["9090:90", "8080:80"]).map(drop).unwrap_err().into();
    assert_eq!(error.code, ErrorCode::AlreadyExists);
    assert!(error.message.contains("8080:80/tcp"), "{error}");
    let error: tine_model::Error =
        publish(&world, "web", &["203.0.113.1:80:80"]).map(drop).unwrap_err().into();
    assert_eq!(error.code, ErrorCode::InvalidInput);
    assert_eq!(world.leftovers(), "");
    let first = publish(&world, "first", &["9090:90"]).expect("the port of a refused box is free again");
    let error: tine_model::Error = publish(&world, "second", &["9090:90"]).map(drop).unwrap_err().into();
    assert_eq!(error.code, ErrorCode::AlreadyExists);
    first.stop().unwrap();
    publish(&world, "second", &["9090:90"]).unwrap().stop().unwrap();
    assert_eq!(world.leftovers(), "");
}

#[test]
fn a_flushed_firewall_is_restored_with_all_ports_by_the_next_box() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let web = publish(&world, "web", &["8080:80"]).unwrap();
    web.serve(80);
    output("nft", &["flush", "ruleset"]);
    assert_eq!(world.outside.run(|| get(HOST, 8080)), None);
    let next = world.start(world.spec("blue", "next"));
    assert!(world.outside.run(|| get(HOST, 8080)).is_some());
    output("nft", &["flush", "ruleset"]);
    next.stop().unwrap();
    web.stop().expect("stopping does not need the firewall");
    assert_eq!(world.leftovers(), "");
}
