//! Coming and going: many at once, killed monitors, half-made things, dropped attachments.

use crate::{
    guest::Guest,
    world::{HOST, World, can_run, get, ip, output},
};
use std::{
    io::{BufRead, BufReader, Write},
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tine_machine::net::{Device, NetworkSpec, attach, doctor, sweep};
use tine_model::CheckStatus;

const SPEC: &str = "TINE_NET_TEST_SPEC";

/// Set when the monitor's machine is to outlive it.
const MACHINE: &str = "TINE_NET_TEST_MACHINE";

/// Not a test: the monitor of a box, in a process of its own that can be killed.
#[test]
#[ignore = "run by other tests"]
fn monitor() {
    let spec: NetworkSpec = serde_json::from_str(&std::env::var(SPEC).unwrap()).unwrap();
    let mut attachment = attach(&spec).unwrap();
    let machine = std::env::var_os(MACHINE).map(|_| {
        let tap = attachment.take_tap().unwrap();
        rustix::io::fcntl_setfd(&tap, rustix::io::FdFlags::empty()).unwrap();
        Command::new("sleep").arg("60").stderr(Stdio::null()).spawn().unwrap()
    });
    if let Some(machine) = &machine {
        writeln!(std::io::stderr(), "machine {}", machine.id()).unwrap();
    }
    writeln!(std::io::stderr(), "address {}", attachment.address.unwrap()).unwrap();
    std::thread::sleep(Duration::from_secs(60));
    machine.map(|mut machine| machine.wait().unwrap());
    drop(attachment);
}

struct Monitor(Child);

impl Monitor {
    fn start(spec: &NetworkSpec) -> (Self, String) {
        let (monitor, mut said) = Self::spawn(Self::command(spec));
        (monitor, said("address "))
    }

    /// One with a machine that holds the tap and outlives it.
    fn start_with_machine(spec: &NetworkSpec) -> (Self, String, Machine) {
        let mut command = Self::command(spec);
        command.env(MACHINE, "1");
        let (monitor, mut said) = Self::spawn(command);
        let machine = Machine(said("machine ").parse().unwrap());
        (monitor, said("address "), machine)
    }

    fn command(spec: &NetworkSpec) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "lifecycle::monitor", "--ignored", "--nocapture"])
            .env(SPEC, serde_json::to_string(spec).unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// The monitor, and what it says after a word.
    fn spawn(mut command: Command) -> (Self, impl FnMut(&str) -> String) {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let said = move |word: &str| lines.find_map(|l| l.strip_prefix(word).map(str::to_owned)).unwrap();
        (Self(child), said)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that holds a tap.
struct Machine(i32);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0), nix::sys::signal::SIGKILL);
    }
}

fn eventually(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn no_device_left() {
    eventually("the device of a killed box goes", || !output("ip", &["-o", "link"]).contains(": tv"));
}

#[test]
fn eight_boxes_at_once_get_eight_addresses_and_leave_nothing() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let start = |n: u16| {
        let mut spec = world.spec(if n.is_multiple_of(4) { "blue" } else { "red" }, &format!("box{n}"));
        spec.device = if n.is_multiple_of(2) { Device::Veth } else { Device::Tap };
        spec.publish = vec![format!("{}:80", 8000 + n).parse().unwrap()];
        spec.host_ports = vec![7000 + n];
        world.start(spec)
    };
    for _ in 0..2 {
        let boxes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || start(n))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let mut addresses: Vec<_> = boxes.iter().map(crate::world::TestBox::address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), 8);
        std::thread::scope(|scope| {
            boxes.into_iter().for_each(|b| drop(scope.spawn(move || b.stop().unwrap())));
        });
        assert_eq!(world.leftovers(), "");
    }
}

#[test]
fn what_a_killed_monitor_leaves_is_swept() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let mut spec = world.spec("red", "killed");
    spec.publish = vec!["8080:80".parse().unwrap()];
    spec.host_ports = vec![5000];
    let (monitor, address) = Monitor::start(&spec);
    assert_eq!(sweep(&world.runtime_dir(), false).unwrap(), Vec::<String>::new(), "a live box is left alone");
    monitor.kill();
    no_device_left();
    let planned = sweep(&world.runtime_dir(), true).unwrap();
    assert_eq!(planned.len(), 3, "{planned:?}");
    assert_eq!(planned[0], format!("address {address} of box killed"));
    assert_ne!(world.leftovers(), "", "a plan changes nothing");
    assert_eq!(sweep(&world.runtime_dir(), false).unwrap(), planned);
    assert_eq!(world.leftovers(), "");
    assert_eq!(sweep(&world.runtime_dir(), false).unwrap(), Vec::<String>::new());
}

#[test]
fn what_a_killed_monitor_of_a_vm_box_leaves_is_swept_while_its_machine_lives() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let mut spec = world.spec("red", "killed");
    spec.device = Device::Tap;
    spec.publish = vec!["8080:80".parse().unwrap()];
    let (monitor, address, machine) = Monitor::start_with_machine(&spec);
    assert_eq!(sweep(&world.runtime_dir(), false).unwrap(), Vec::<String>::new(), "a live box is left alone");
    monitor.kill();
    let planned = sweep(&world.runtime_dir(), true).unwrap();
    let device = format!("tv{:08x}", u32::from(address.parse::<Ipv4Addr>().unwrap()));
    assert_eq!(planned.len(), 4, "{planned:?}");
    assert_eq!(planned[..2], [format!("device {device}"), format!("address {address} of box killed")]);
    assert_ne!(world.leftovers(), "", "a plan changes nothing");
    assert_eq!(sweep(&world.runtime_dir(), false).unwrap(), planned);
    assert_eq!(world.leftovers(), "");
    drop(machine);
}

#[test]
fn the_tap_of_a_killed_monitor_goes_with_it_or_with_the_heir_of_its_address() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let mut spec = world.spec("red", "killed");
    spec.device = Device::Tap;
    let (monitor, _) = Monitor::start(&spec);
    assert!(output("ip", &["-o", "link"]).contains(": tv"));
    monitor.kill();
    no_device_left();
    let (monitor, address, machine) = Monitor::start_with_machine(&spec);
    monitor.kill();
    let mut heir = world.spec("red", "heir");
    heir.device = Device::Tap;
    let mut heir = world.start(heir);
    assert_eq!(heir.address().to_string(), address);
    let guest = Guest::of(&mut heir);
    drop(machine);
    assert!(guest.hardware_of(guest.network.gateway).is_some(), "the heir lost its device");
    heir.stop().unwrap();
    assert_eq!(sweep(&world.runtime_dir(), false).unwrap(), Vec::<String>::new());
    assert_eq!(world.leftovers(), "");
}

#[test]
fn the_heir_of_a_killed_boxs_address_and_port_inherits_no_permission() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let keeper = world.start(world.spec("blue", "keeper"));
    let mut spec = world.spec("red", "killed");
    spec.publish = vec!["8080:80".parse().unwrap()];
    spec.host_ports = vec![5000];
    let (monitor, address) = Monitor::start(&spec);
    assert!(output("nft", &["list", "ruleset"]).contains(&format!("{address} . 5000")));
    monitor.kill();
    // At once, while the kernel may still be taking the killed box's namespace apart.
    let mut heir = world.spec("red", "heir");
    heir.publish = vec!["8080:90".parse().unwrap()];
    let heir = world.start(heir);
    assert_eq!(heir.address().to_string(), address);
    let rules = output("nft", &["list", "ruleset"]);
    assert!(!rules.contains(&format!("{address} . 5000")), "{rules}");
    assert!(rules.contains(&format!("{address} . 90")), "{rules}");
    heir.stop().unwrap();
    keeper.stop().unwrap();
    no_device_left();
    sweep(&world.runtime_dir(), false).unwrap();
    assert_eq!(world.leftovers(), "");
}

#[test]
fn monitors_killed_at_any_moment_leave_what_a_sweep_removes() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let spec = |n: u64| {
        let mut spec = world.spec("red", &format!("box{n}"));
        spec.device = if n.is_multiple_of(2) { Device::Veth } else { Device::Tap };
        spec.publish = vec!["8080:80".parse().unwrap()];
        spec
    };
    for n in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "lifecycle::monitor", "--ignored"])
            .env(SPEC, serde_json::to_string(&spec(n)).unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(n * 6));
        child.kill().unwrap();
        child.wait().unwrap();
        if n.is_multiple_of(3) {
            world.start(spec(99)).stop().unwrap();
        }
    }
    no_device_left();
    sweep(&world.runtime_dir(), false).unwrap();
    assert_eq!(world.leftovers(), "");
}

#[test]
fn a_dropped_attachment_is_taken_away() {
    if !can_run() {
        return;
    }
    let world = World::new();
    for device in [Device::Veth, Device::Tap] {
        let mut spec = world.spec("red", "a");
        spec.device = device;
        let running = world.start(spec);
        running.actor.run(move || drop(running.attachment));
        assert_eq!(world.leftovers(), "");
    }
}

#[test]
fn sweeps_beside_boxes_that_come_and_go_meet_bridges_that_are_just_deleted() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let runtime_dir = world.runtime_dir();
    let (done, until) = std::sync::mpsc::channel::<()>();
    let sweeping = std::thread::spawn(move || {
        while until.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            sweep(&runtime_dir, false).unwrap();
        }
    });
    for _ in 0..40 {
        let running = world.start(world.spec("red", "a"));
        running.serve(80);
        assert!(get(running.address(), 80).is_some(), "it has its bridge still");
        running.stop().unwrap();
    }
    drop(done);
    sweeping.join().unwrap();
    assert_eq!(world.leftovers(), "");
}

#[test]
fn a_bridge_left_half_made_is_made_anew_and_a_strangers_is_left_alone() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let first = world.start(world.spec("red", "a"));
    let links = output("ip", &["-o", "link"]);
    let name = links.split([' ', ':']).find(|w| w.starts_with("tine-")).unwrap().to_owned();
    first.stop().unwrap();
    ip(&format!("link add {name} type bridge"));
    world.start(world.spec("red", "a")).stop().unwrap();
    assert_eq!(world.leftovers(), "");
    ip(&format!("link add {name} type bridge"));
    assert_eq!(sweep(&world.runtime_dir(), false).unwrap(), [format!("bridge {name}")]);
    assert_eq!(world.leftovers(), "");
    ip(&format!("link add {name} type bridge"));
    ip(&format!("link set {name} alias mine"));
    let second = world.start(world.spec("red", "a"));
    assert_eq!(output("ip", &["-o", "link", "show", "type", "bridge"]).matches(": tine-").count(), 2);
    assert_eq!(sweep(&world.runtime_dir(), false).unwrap(), Vec::<String>::new());
    assert!(output("ip", &["-o", "link"]).contains(&name), "a stranger's bridge is left alone");
    // A project stays on the bridge it has, also when the name it would rather have had is free again.
    ip(&format!("link delete {name}"));
    let third = world.start(world.spec("red", "b"));
    second.serve(80);
    assert!(third.get(second.address(), 80).is_some());
    second.stop().unwrap();
    third.stop().unwrap();
    assert_eq!(world.leftovers(), "");
}

#[test]
fn a_subnet_the_host_uses_is_not_taken() {
    if !can_run() {
        return;
    }
    let world = World::new();
    ip("route add 10.0.0.0/8 via 198.51.100.2");
    let running = world.start(world.spec("red", "a"));
    assert_eq!(running.address().to_string(), "172.24.0.2");
    running.stop().unwrap();
    ip("route delete 10.0.0.0/8");
    ip("address add 10.201.3.7/32 dev lo");
    let running = world.start(world.spec("red", "a"));
    assert_eq!(running.address().to_string(), "10.201.4.2");
    running.stop().unwrap();
}

#[test]
fn a_box_that_is_gone_gives_its_ports_back_before_its_devices() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let spec = |name: &str| {
        let mut spec = world.spec("red", name);
        spec.publish = vec!["8080:80".parse().unwrap()];
        spec
    };
    let mut first = world.start(spec("web"));
    let hosts = first.attachment.hosts_file.clone();
    first = first.disconnect();
    assert!(!std::fs::read_to_string(&hosts).unwrap().contains(" web\n"));
    let second = world.start(spec("web"));
    assert_ne!(second.address(), first.address(), "an address is not shared while devices have it");
    assert!(std::fs::read_to_string(&hosts).unwrap().contains(&format!("{} web\n", second.address())));
    second.serve(80);
    assert!(get(HOST, 8080).is_some());
    first.stop().unwrap();
    assert!(get(HOST, 8080).is_some(), "the former holder takes nothing of the new one's away");
    second.stop().unwrap();
    assert_eq!(world.leftovers(), "");
}

#[test]
fn doctor_warns_of_a_foreign_chain_that_drops_what_boxes_send() {
    if !can_run() {
        return;
    }
    let _world = World::new();
    let warned = || doctor().into_iter().any(|i| i.status == CheckStatus::Warning);
    assert!(!warned());
    output("nft", &["add", "table", "ip", "filter"]);
    let chain = "{ type filter hook forward priority filter; policy drop; }";
    output("nft", &["add", "chain", "ip", "filter", "FORWARD", chain]);
    assert!(warned());
}

#[test]
fn doctor_sees_that_the_firewall_of_running_boxes_is_gone() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let firewall = || doctor().into_iter().find(|i| i.name == "firewall").unwrap().status;
    assert_eq!(firewall(), CheckStatus::Ok);
    let running = world.start(world.spec("red", "a"));
    assert_eq!(firewall(), CheckStatus::Ok);
    output("nft", &["delete", "table", "inet", "tine"]);
    assert_eq!(firewall(), CheckStatus::Failed);
    running.stop().unwrap();
    assert_eq!(firewall(), CheckStatus::Ok);
}
