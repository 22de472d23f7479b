//! Places to talk from and to: the machine, a machine of the test's own with an outside, and the inside of boxes.
//!
//! Servers and clients are sockets made in a network namespace, so that nothing of them outlives the test.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use crate::{
    monitor::monitor,
    support::{Done, Fixture, nanos},
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    path::PathBuf,
    process::Command,
    time::Duration,
};

/// The own machine's address towards the outside, and the outside's; nobody else sees either.
pub const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// How long silence means that there is no way.
const SILENCE: Duration = Duration::from_millis(700);

/// A network namespace.
pub struct Place(PathBuf);

impl Place {
    /// The machine the test runs on.
    pub fn here() -> Self {
        Self("/proc/self/ns/net".into())
    }

    /// The inside of a running box.
    pub fn inside(f: &Fixture, project: &str, name: &str) -> Self {
        Self(format!("/proc/{}/ns/net", monitor(f, project, name)).into())
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = File::open(&self.0).unwrap();
        let enter = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            job()
        };
        std::thread::spawn(enter).join().unwrap()
    }

    /// Tells every client that connects to a TCP port `word` and the address it came from.
    pub fn serve(&self, port: u16, word: &'static str) {
        let listener = self.run(move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let peer = client.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |a| a.ip());
                let _ = writeln!(client, "{word} {peer}");
            }
        });
    }

    /// Answers every packet to a UDP port with `word`.
    pub fn serve_udp(&self, port: u16, word: &'static str) {
        let socket = self.run(move || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        std::thread::spawn(move || {
            while let Ok((_, peer)) = socket.recv_from(&mut [0; 64]) {
                let _ = socket.send_to(format!("{word}\n").as_bytes(), peer);
            }
        });
    }

    /// What a TCP server says; none when there is no way to it.
    pub fn get(&self, address: Ipv4Addr, port: u16) -> Option<String> {
        self.run(move || {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, port)), SILENCE).ok()?;
            stream.set_read_timeout(Some(SILENCE)).ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            // a published port's own socket takes a connection and says nothing, were it ever reached
            Some(text).filter(|t| !t.is_empty())
        })
    }

    /// What a UDP server answers.
    pub fn get_udp(&self, address: Ipv4Addr, port: u16) -> Option<String> {
        self.run(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
            socket.set_read_timeout(Some(SILENCE)).ok()?;
            socket.send_to(b"?", (address, port)).ok()?;
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
    }

    /// A TCP port that nobody has.
    pub fn free_port(&self) -> u16 {
        self.run(|| TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port())
    }
}

/// What a program in a box gets from a TCP server; none when there is no way to it.
pub fn get_from(f: &Fixture, name: &str, host: &str, port: u16) -> Option<String> {
    talk(f, name, "exec 3<>/dev/tcp/$0/$1 && head -n 1 <&3", host, port)
}

/// What a program in a box gets from a UDP server.
pub fn get_udp_from(f: &Fixture, name: &str, host: &str, port: u16) -> Option<String> {
    talk(f, name, "exec 3<>/dev/udp/$0/$1 && echo ? >&3 && head -n 1 <&3", host, port)
}

fn talk(f: &Fixture, name: &str, script: &str, host: &str, port: u16) -> Option<String> {
    let done = f.run(&["exec", name, "--timeout=1", "--", "bash", "-c", script, host, &port.to_string()]);
    assert!(![2, 125].contains(&done.code), "{done:?}");
    (done.code == 0 && !done.out.is_empty()).then_some(done.out)
}

/// A machine of its own: a network namespace with a firewall of its own, an outside beside it, and a pool.
pub struct Machine {
    pub f: Fixture,
    name: String,
}

impl Machine {
    pub fn new() -> Self {
        let machine =
            Self { f: Fixture::new(), name: format!("tt{:x}{:x}", std::process::id(), nanos() as u32) };
        let (inner, outer) = (machine.name.clone(), machine.outer());
        std::fs::create_dir_all("/run/tine").unwrap();
        std::fs::create_dir_all(machine.runtime()).unwrap();
        for line in [
            format!("netns add {inner}"),
            format!("netns add {outer}"),
            format!("-n {inner} link add up0 type veth peer name eth0 netns {outer}"),
            format!("-n {inner} address add {HOST}/24 dev up0"),
            format!("-n {outer} address add {OUTSIDE}/24 dev eth0"),
            format!("-n {inner} link set lo up"),
            format!("-n {inner} link set up0 up"),
            format!("-n {outer} link set lo up"),
            format!("-n {outer} link set eth0 up"),
        ] {
            ip(&line);
        }
        machine
    }

    /// The name of the outside.
    pub fn outer(&self) -> String {
        format!("{}o", self.name)
    }

    /// Stands for `/run/tine` on this machine.
    pub fn runtime(&self) -> PathBuf {
        self.f.dir().join("run")
    }

    pub fn host(&self) -> Place {
        Place(format!("/run/netns/{}", self.name).into())
    }

    pub fn outside(&self) -> Place {
        Place(format!("/run/netns/{}", self.outer()).into())
    }

    /// Runs a command of tine on this machine.
    pub fn run(&self, args: &[&str]) -> Done {
        let plain = self.f.command(args);
        // not `ip netns exec`, which puts another /sys over the host's cgroups
        let script = "mount --bind \"$0\" /run/tine && exec nsenter --net=/run/netns/\"$1\" \"${@:2}\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "bash", "-c", script]).arg(self.runtime()).arg(&self.name);
        command.arg(plain.get_program()).args(plain.get_args()).stdin(std::process::Stdio::null());
        Done::new(args, command.output().unwrap())
    }

    /// Runs a command of tine that must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, 0, "{done:?}");
        done.out
    }

    /// Any command on this machine.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(words).stdin(std::process::Stdio::null());
        command
    }

    /// What the machine has because of boxes: devices, firewall, files.
    pub fn leftovers(&self) -> String {
        let text = |words: &[&str]| {
            String::from_utf8_lossy(&self.command(words).output().unwrap().stdout).into_owned()
        };
        let links = text(&["ip", "-o", "link"]);
        let links: Vec<&str> =
            links.lines().filter(|l| !l.contains(": lo") && !l.contains(": up0")).collect();
        let files = crate::support::names(&self.runtime().join("net"));
        let files: Vec<String> = files.into_iter().filter(|n| n != "lock").collect();
        format!("{}{}{}", links.join("\n"), text(&["nft", "list", "ruleset"]), files.join("\n"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for name in [&self.name, &self.outer()] {
            let _ = Command::new("ip").args(["netns", "delete", name]).output();
        }
    }
}

/// Runs `ip` with these words; it must succeed.
pub fn ip(words: &str) -> String {
    let done = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {words}: {done:?}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// A running box's address, as `info` tells.
pub fn address(f: &Fixture, name: &str) -> Ipv4Addr {
    let info = f.json(&["info", name]);
    info["address"].as_str().unwrap_or_else(|| panic!("no address in {info}")).parse().unwrap()
}

/// The bridge and the device by which this machine reaches a box.
pub fn devices(address: Ipv4Addr) -> [String; 2] {
    let route = ip(&format!("route get {address}"));
    let bridge = route.split(" dev ").nth(1).and_then(|r| r.split(' ').next()).unwrap_or_default();
    assert!(bridge.starts_with("tine-"), "{route}");
    [bridge.to_owned(), format!("tv{:08x}", u32::from(address))]
}

/// Whether this machine has a network device.
pub fn exists(device: &str) -> bool {
    std::path::Path::new("/sys/class/net").join(device).exists()
}
