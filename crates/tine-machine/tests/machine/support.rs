//! A box for a test: a small root over the host's own programs, started for real and gone when the test ends.

use std::{
    fs::File,
    io::Read,
    os::{fd::OwnedFd, unix::fs::symlink},
    path::{Path, PathBuf},
    sync::mpsc::{Sender, channel},
};
use tine_machine::{
    Bind, ContainerSpec, ExecContext, MachineError, MachineSpec, MonitorProgram, StartSpec,
    net::{Device, NetworkSpec},
};
use tine_model::{BoxKind, ExecEvent, ExecOutcome, ExecRequest, ExecStreams, Limits, NetworkMode};

/// False, with a loud word, where containers cannot be made; a failure where they are required.
pub fn containers() -> bool {
    let able = rustix::process::geteuid().is_root() && Path::new("/sys/fs/cgroup").exists();
    let required = std::env::var("TINE_REQUIRE").is_ok_and(|v| v.split(',').any(|a| a == "container"));
    assert!(able || !required, "containers are required, and this is not root with cgroups");
    if !able {
        eprintln!("SKIPPED: needs root and cgroups");
    }
    able
}

/// A box, stopped and cleaned up when dropped.
pub struct TestBox {
    _dir: tempfile::TempDir,
    pub spec: StartSpec,
    pub program: MonitorProgram,
}

/// What a program did.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    pub code: u8,
    pub out: String,
    pub err: String,
}

impl TestBox {
    /// A box that is not started.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        make_root(&dir.path().join("root"));
        for name in ["run", "runtime"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let id: String = {
            let mut bytes = [0; 16];
            File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
            bytes.iter().map(|b| format!("{b:02x}")).collect()
        };
        let at = |name: &str| dir.path().join(name);
        let spec = StartSpec {
            id,
            hostname: "testbox".parse().unwrap(),
            run_dir: at("run"),
            log_dir: dir.path().to_owned(),
            limits: Limits::default(),
            network: NetworkSpec {
                mode: NetworkMode::None,
                device: Device::Veth,
                project: "default".parse().unwrap(),
                box_name: "testbox".parse().unwrap(),
                pool_id: "0123".to_owned(),
                publish: Vec::new(),
                host_ports: Vec::new(),
                state_dir: at("run"),
                runtime_dir: at("runtime"),
            },
            machine: MachineSpec::Container(ContainerSpec {
                root: at("root"),
                binds: vec![Bind { source: "/usr".into(), target: "/usr".into(), read_only: true }],
            }),
            tied: false,
        };
        let program = MonitorProgram { path: monitor_program(), argv: vec!["monitor".to_owned()] };
        Self { _dir: dir, spec, program }
    }

    /// A box that runs.
    pub fn started() -> Self {
        let new = Self::new();
        new.start().unwrap();
        new
    }

    pub fn start(&self) -> Result<tine_machine::Started, MachineError> {
        tine_machine::start(&self.spec, &self.program)
    }

    pub fn root(&self) -> PathBuf {
        match &self.spec.machine {
            MachineSpec::Container(container) => container.root.clone(),
            MachineSpec::Vm(_) => unreachable!("these are containers"),
        }
    }

    pub fn run_dir(&self) -> &Path {
        &self.spec.run_dir
    }

    /// Runs a program, its output taken through pipes.
    pub fn exec(&self, request: &ExecRequest) -> Result<Ran, MachineError> {
        self.exec_with(request, None)
    }

    pub fn exec_with(&self, request: &ExecRequest, stdin: Option<OwnedFd>) -> Result<Ran, MachineError> {
        let (out, stdout) = std::io::pipe().unwrap();
        let (err, stderr) = std::io::pipe().unwrap();
        let collect = |mut from: std::io::PipeReader| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                from.read_to_end(&mut bytes).unwrap();
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let (out, err) = (collect(out), collect(err));
        let (_events, streams) = streams(stdin, stdout.into(), stderr.into());
        let outcome = tine_machine::exec(self.context(), request, streams)?;
        let ExecOutcome::Exited { code } = outcome else { panic!("{outcome:?}") };
        Ok(Ran { code, out: out.join().unwrap(), err: err.join().unwrap() })
    }

    pub fn context(&self) -> ExecContext<'_> {
        ExecContext { run_dir: &self.spec.run_dir, env: &[], kind: BoxKind::Container }
    }

    /// Runs a shell script; gives its exit code and output.
    pub fn sh(&self, script: &str) -> Ran {
        self.exec(&command(&["sh", "-c", script])).unwrap()
    }
}

impl Drop for TestBox {
    fn drop(&mut self) {
        let killed = tine_machine::kill(&self.spec.run_dir);
        let reaped = tine_machine::cgroup::reap_leftovers(&self.spec.id);
        if !std::thread::panicking() {
            killed.unwrap();
            assert!(!reaped.unwrap(), "the box left cgroups behind");
        }
    }
}

/// A request for a program with nothing special.
pub fn command(argv: &[&str]) -> ExecRequest {
    ExecRequest::of(argv.iter().map(|a| (*a).to_owned()).collect())
}

/// Streams with a sender for events, which must be kept as long as they are wanted.
pub fn streams(stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd) -> (Sender<ExecEvent>, ExecStreams) {
    let (sender, events) = channel();
    (sender, ExecStreams { stdin, stdout, stderr, events })
}

/// Waits up to a minute for something to become so.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("never so: {what}");
}

fn monitor_program() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples/monitor")
}

fn make_root(root: &Path) {
    std::fs::create_dir(root).unwrap();
    for dir in ["dev", "proc", "sys", "etc", "tmp", "root", "usr", "var", "home"] {
        std::fs::create_dir(root.join(dir)).unwrap();
    }
    for dir in ["bin", "sbin", "lib", "lib64"] {
        if Path::new("/usr").join(dir).exists() {
            symlink(format!("usr/{dir}"), root.join(dir)).unwrap();
        }
    }
    let files = [
        ("passwd", "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/tmp:/bin/sh\n"),
        ("group", "root:x:0:\nann:x:1000:\nextra:x:2000:ann\ntty:x:5:\n"),
        ("hosts", ""),
        ("resolv.conf", ""),
        ("hostname", "\n"),
    ];
    for (name, content) in files {
        std::fs::write(root.join("etc").join(name), content).unwrap();
    }
}
