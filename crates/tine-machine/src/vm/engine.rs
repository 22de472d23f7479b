//! Which QEMU there is, and what can run a guest's instructions here.
//!
//! A `/dev/kvm` that opens may still not be able to run a guest, so it counts only when a guest has run on it. Writes
//! nothing; whoever asks keeps the answer.

use crate::error::{MachineError, MachineResult};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::Read,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tine_model::Accel;

/// Where distributions put the program.
const PROGRAMS: [&str; 4] = [
    "/usr/bin/qemu-system-x86_64",
    "/usr/local/bin/qemu-system-x86_64",
    "/usr/libexec/qemu-kvm",
    "/usr/bin/qemu-kvm",
];
/// How long it may take to tell its version.
const VERSION_PATIENCE: Duration = Duration::from_secs(10);
/// How long a guest may take to say its first word where kvm works.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);
/// The most that is read of what either says.
const MAX_SAID: u64 = 64 << 10;

/// A QEMU of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// Its program.
    pub program: PathBuf,
    /// Its version, `7.2.22`.
    pub version: String,
    /// Tells one build of the program from another: device, inode, size and time of change.
    pub fingerprint: String,
}

/// What can run a guest's instructions, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The fastest that works.
    pub accel: Accel,
    /// Why it is that one.
    pub reason: String,
}

impl Engine {
    /// The first QEMU that is there and tells its version.
    ///
    /// # Errors
    /// [`MachineError::Unsupported`] when there is none.
    pub fn find() -> MachineResult<Self> {
        let program = PROGRAMS.iter().map(Path::new).find(|path| path.exists()).ok_or_else(|| {
            MachineError::Unsupported("there is no qemu-system-x86_64 on this host".to_owned())
        })?;
        let fingerprint = Self::fingerprint_of(program)?;
        Ok(Self { program: program.to_owned(), version: version(program)?, fingerprint })
    }

    /// True when the program is still the one that was found.
    #[must_use]
    pub fn is_current(&self) -> bool {
        Self::fingerprint_of(&self.program).is_ok_and(|now| now == self.fingerprint)
    }

    fn fingerprint_of(program: &Path) -> MachineResult<String> {
        let meta = fs::metadata(program).map_err(|e| MachineError::io("look at", program.display(), e))?;
        Ok(format!("{}:{}:{}:{}", meta.dev(), meta.ino(), meta.size(), meta.mtime()))
    }

    /// Finds out what runs a guest here, by running one: `kernel` is booted as far as its first word. Takes a moment
    /// where kvm works, seconds where it only seems to.
    #[must_use]
    pub fn probe(&self, kernel: &Path) -> Probe {
        let tcg = |reason: &str| Probe { accel: Accel::Tcg, reason: reason.to_owned() };
        let flags = cpu_flags();
        if !Path::new("/dev/kvm").exists() {
            return tcg("there is no /dev/kvm");
        }
        if !flags.iter().any(|flag| flag == "vmx" || flag == "svm") {
            return tcg("the processor offers no virtualisation (neither vmx nor svm)");
        }
        if let Err(e) = fs::File::options().read(true).write(true).open("/dev/kvm") {
            return tcg(&format!("/dev/kvm cannot be opened: {e}"));
        }
        match self.boots_under_kvm(kernel) {
            Ok(()) => Probe { accel: Accel::Kvm, reason: "a guest has run on /dev/kvm".to_owned() },
            Err(why) => tcg(&format!("/dev/kvm opens, but no guest runs on it: {why}")),
        }
    }

    fn boots_under_kvm(&self, kernel: &Path) -> Result<(), String> {
        let mut command = Command::new(&self.program);
        command
            .args(["-accel", "kvm", "-machine", "pc-q35-7.2", "-cpu", "host", "-m", "128M"])
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"])
            .args(["-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"])
            .arg("-kernel")
            .arg(kernel);
        let said = said_by(command, PROBE_PATIENCE, |text| text.contains("Linux version"))?;
        if said.contains("Linux version") { Ok(()) } else { Err("it says nothing".to_owned()) }
    }
}

/// The features of the host's processor, as `/proc/cpuinfo` names them.
#[must_use]
pub fn cpu_flags() -> Vec<String> {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("flags"));
    let flags = line.and_then(|line| line.split_once(':')).map_or("", |(_, flags)| flags);
    flags.split_ascii_whitespace().map(str::to_owned).collect()
}

fn version(program: &Path) -> MachineResult<String> {
    let mut command = Command::new(program);
    command.arg("--version");
    let said = said_by(command, VERSION_PATIENCE, |_| false)
        .map_err(|e| MachineError::Unsupported(format!("{}: {e}", program.display())))?;
    // `QEMU emulator version 7.2.22 (Debian …)`
    let word = said.split_ascii_whitespace().skip_while(|word| *word != "version").nth(1);
    word.map(str::to_owned)
        .ok_or_else(|| MachineError::Unsupported(format!("{} does not tell its version", program.display())))
}

/// What a program says until it ends, has said enough or its time is over; it and all it started are gone then.
fn said_by(
    mut command: Command,
    patience: Duration,
    enough: impl Fn(&str) -> bool,
) -> Result<String, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut child = Group(command.spawn().map_err(|e| e.to_string())?);
    let Some(mut output) = child.0.stdout.take() else { return Err("it has no output".to_owned()) };
    let deadline = Instant::now() + patience;
    let mut said = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [rustix::event::PollFd::new(&output, rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Err(format!("no answer within {} s", patience.as_secs())),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.to_string()),
        }
        let mut part = [0; 4096];
        let length = output.read(&mut part).map_err(|e| e.to_string())?;
        said.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&said);
        if length == 0 || enough(&text) || said.len() as u64 > MAX_SAID {
            return Ok(text.into_owned());
        }
    }
}

/// A child and its process group, killed when dropped.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}
