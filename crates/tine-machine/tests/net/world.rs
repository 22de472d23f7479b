//! A world of network namespaces to test box networks in: a "host" that is the test's own thread, an "outside"
//! behind it, and threads that are boxes. Nothing of it is the machine's own network, and all of it is gone with
//! the process.

use nix::sched::{CloneFlags, unshare};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use tine_machine::net::{Attachment, Device, NetError, NetworkSpec, attach};
use tine_model::NetworkMode;

/// The host's address towards the outside, and the outside's.
pub const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// False, and says so, when this process may not make network namespaces or lacks the programs; fails instead
/// when the environment says that it has to.
pub fn can_run() -> bool {
    let here = Path::new("/usr/sbin/nft").exists()
        && thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET).is_ok()).join().unwrap();
    let required = std::env::var("TINE_REQUIRE").unwrap_or_default().split(',').any(|a| a == "container");
    assert!(here || !required, "TINE_REQUIRE names container, but network namespaces or nft are missing");
    if !here {
        eprintln!("SKIPPED: needs root and nft");
    }
    here
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread that does what it is told, in whatever namespace it is in by then.
pub struct Actor {
    jobs: mpsc::Sender<Job>,
    tid: i32,
}

impl Actor {
    pub fn new() -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (tell, tid) = mpsc::channel();
        thread::spawn(move || {
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            inbox.into_iter().for_each(|job| job());
        });
        Self { jobs, tid: tid.recv().unwrap() }
    }

    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, answer) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(tell.send(job())))).unwrap();
        answer.recv().expect("the actor's job panicked")
    }
}

/// The host and the outside.
pub struct World {
    pub outside: Actor,
    pub dir: tempfile::TempDir,
}

impl World {
    /// Moves the calling thread into the world's host.
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        let outside = Actor::new();
        outside.run(|| unshare(CloneFlags::CLONE_NEWNET).unwrap());
        ip(&format!("link add up0 type veth peer name eth0 netns {}", outside.tid));
        ip(&format!("address add {HOST}/24 dev up0"));
        ip("link set up0 up");
        outside.run(|| {
            ip("link set lo up");
            ip(&format!("address add {OUTSIDE}/24 dev eth0"));
            ip("link set eth0 up");
        });
        Self { outside, dir: tempfile::tempdir().unwrap() }
    }

    /// Whether packets between ports of one bridge are shown to the firewall.
    pub fn set_bridge_netfilter(&self, on: bool) -> bool {
        let path = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        Path::new(path).exists() && std::fs::write(path, if on { "1" } else { "0" }).is_ok()
    }

    /// Lets frames cross a bridge as they are, also those that are no valid packets.
    pub fn let_all_frames_through(&self) {
        for kind in ["iptables", "ip6tables", "arptables"] {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{kind}");
            if Path::new(&path).exists() {
                std::fs::write(path, "0").unwrap();
            }
        }
    }

    pub fn runtime_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub fn spec(&self, project: &str, name: &str) -> NetworkSpec {
        let state_dir = self.dir.path().join(format!("{project}-{name}"));
        std::fs::create_dir_all(&state_dir).unwrap();
        NetworkSpec {
            mode: NetworkMode::Nat,
            device: Device::Veth,
            project: project.parse().unwrap(),
            box_name: name.parse().unwrap(),
            pool_id: "00112233445566778899aabbccddeeff".into(),
            publish: Vec::new(),
            host_ports: Vec::new(),
            state_dir,
            runtime_dir: self.runtime_dir(),
        }
    }

    pub fn start(&self, spec: NetworkSpec) -> TestBox {
        self.try_start(spec).unwrap()
    }

    pub fn try_start(&self, spec: NetworkSpec) -> Result<TestBox, NetError> {
        let actor = Actor::new();
        let begun = Instant::now();
        let attachment = actor.run(move || attach(&spec))?;
        eprintln!("attach: {:?}", begun.elapsed());
        Ok(TestBox { actor, attachment })
    }

    /// What of boxes is on the host: devices, and the firewall.
    pub fn leftovers(&self) -> String {
        let links = output("ip", &["-o", "link"]);
        let ours = |l: &&str| l.contains("tine-") || l.contains(": tv");
        let links: Vec<&str> = links.lines().filter(ours).collect();
        let files: Vec<PathBuf> = match std::fs::read_dir(self.runtime_dir().join("net")) {
            Ok(entries) => entries.map(|e| e.unwrap().path()).filter(|p| !p.ends_with("lock")).collect(),
            Err(_) => Vec::new(),
        };
        let files: String = files.iter().map(|p| format!("{}\n", p.display())).collect();
        format!("{}{}{files}", links.join("\n"), output("nft", &["list", "ruleset"]))
    }
}

/// A running box.
pub struct TestBox {
    pub actor: Actor,
    pub attachment: Attachment,
}

impl TestBox {
    pub fn address(&self) -> Ipv4Addr {
        self.attachment.address.unwrap()
    }

    /// Serves a port of the box.
    pub fn serve(&self, port: u16) {
        self.actor.run(move || serve(Ipv4Addr::UNSPECIFIED, port));
    }

    /// What the box gets from a server; none when it cannot reach it.
    pub fn get(&self, address: Ipv4Addr, port: u16) -> Option<String> {
        self.actor.run(move || get(address, port))
    }

    /// The box with only its devices left.
    pub fn disconnect(self) -> Self {
        let Self { actor, mut attachment } = self;
        let attachment = actor.run(move || {
            attachment.disconnect().unwrap();
            attachment
        });
        Self { actor, attachment }
    }

    pub fn stop(self) -> Result<(), NetError> {
        let Self { actor, mut attachment } = self;
        actor.run(move || {
            let begun = Instant::now();
            attachment.disconnect()?;
            eprintln!("disconnect: {:?}", begun.elapsed());
            let result = attachment.detach();
            eprintln!("detach: {:?}", begun.elapsed());
            result
        })
    }
}

/// Serves a TCP port of the current namespace: tells each client which address it came from.
pub fn serve(address: Ipv4Addr, port: u16) {
    let listener = TcpListener::bind(SocketAddrV4::new(address, port)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let peer = stream.peer_addr().map(|p| p.ip().to_string()).unwrap_or_default();
            let _ = { stream }.write_all(peer.as_bytes());
        }
    });
}

/// What a TCP server sends; none when it cannot be reached.
pub fn get(address: Ipv4Addr, port: u16) -> Option<String> {
    let address = SocketAddrV4::new(address, port).into();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(700)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Answers every UDP packet with its sender's address.
pub fn serve_udp(address: Ipv4Addr, port: u16) {
    let socket = UdpSocket::bind(SocketAddrV4::new(address, port)).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(peer.ip().to_string().as_bytes(), peer);
        }
    });
}

/// What a UDP server answers; none when nothing comes back.
pub fn get_udp(address: Ipv4Addr, port: u16) -> Option<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    socket.connect((address, port)).ok()?;
    socket.send(b"?").ok()?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

pub fn ip(arguments: &str) {
    output("ip", &arguments.split(' ').collect::<Vec<_>>());
}

pub fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}
