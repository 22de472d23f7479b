//! Boxes: what the box verbs are asked and answer.

use crate::{
    bytesize::ByteSize,
    error::{Error, ErrorCode, Result},
    exec::EnvVar,
    names::{BaseRef, BaseVersion, BoxRef, ImageTag, ProjectName, SnapshotName, Tag},
    timestamp::Timestamp,
    volumes::VolumeMount,
};
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr, str::FromStr};

/// How a box runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxKind {
    /// Namespaces of the host's kernel.
    Container,
    /// A microVM with its own kernel.
    Vm,
}

impl fmt::Display for BoxKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Container => "container",
            Self::Vm => "vm",
        })
    }
}

/// What runs the instructions of a vm box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accel {
    /// The host's processor, by its virtualisation extensions.
    Kvm,
    /// Translation by the emulator: works everywhere, several times slower.
    Tcg,
}

impl FromStr for Accel {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            _ => Err(Error::new(ErrorCode::Usage, format!("acceleration {text:?} is not one of kvm, tcg"))),
        }
    }
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// What a box is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxStatus {
    /// No process of it exists.
    Stopped,
    /// Its processes exist and are frozen.
    Paused,
    /// Its processes run.
    Running,
}

impl fmt::Display for BoxStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Running => "running",
        })
    }
}

/// What network a box has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// Loopback only.
    None,
    /// The host's own network.
    Host,
    /// An address of its own on the project's bridge, masqueraded to the outside.
    #[default]
    Nat,
}

impl FromStr for NetworkMode {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Self::None),
            "host" => Ok(Self::Host),
            "nat" => Ok(Self::Nat),
            _ => Err(Error::new(
                ErrorCode::Usage,
                format!("network mode {text:?} is not one of none, host, nat"),
            )),
        }
    }
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Host => "host",
            Self::Nat => "nat",
        })
    }
}

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of the host that leads into a box; text form `[ADDR:]HOST:BOX[/udp]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The host's address; all of them when none.
    pub address: Option<Ipv4Addr>,
    /// The host's port, 1–65535.
    pub host_port: u16,
    /// The box's port, 1–65535.
    pub box_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl FromStr for PublishedPort {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::new(
                ErrorCode::Usage,
                format!(
                    "published port {text:?} is not of the form [ADDR:]HOST:BOX[/tcp|/udp] with ports 1 to 65535"
                ),
            )
        };
        let (ports, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some(_) => return Err(bad()),
        };
        let (host, inner) = ports.rsplit_once(':').ok_or_else(bad)?;
        let (address, host) = match host.rsplit_once(':') {
            Some((address, host)) => (Some(address.parse::<Ipv4Addr>().map_err(|_| bad())?), host),
            None => (None, host),
        };
        let port = |t: &str| t.parse::<u16>().ok().filter(|p| *p > 0 && !t.starts_with('+')).ok_or_else(bad);
        Ok(Self { address, host_port: port(host)?, box_port: port(inner)?, protocol })
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.address {
            write!(f, "{address}:")?;
        }
        write!(f, "{}:{}/{}", self.host_port, self.box_port, self.protocol)
    }
}

/// A share of the host's processors in thousandths; text form `1.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CpuLimit(pub u32);

impl FromStr for CpuLimit {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        match text.parse::<f64>() {
            Ok(n) if plain && (0.01..=4096.0).contains(&n) => Ok(Self((n * 1000.0).round() as u32)),
            _ => Err(Error::new(
                ErrorCode::Usage,
                format!("cpu limit {text:?} is not a number from 0.01 to 4096"),
            )),
        }
    }
}

impl fmt::Display for CpuLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1000.0)
    }
}

/// What a box may use. None means no limit, except for `pids`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Processor time.
    #[serde(default)]
    pub cpu: Option<CpuLimit>,
    /// Memory, page cache included; swap is not added to it. For a vm box the size of its memory.
    #[serde(default)]
    pub memory_bytes: Option<ByteSize>,
    /// Processes and threads; 4,096 when none.
    #[serde(default)]
    pub pids: Option<u32>,
    /// Bytes written to the root beyond what it was cloned from. For a vm box the size of its disk.
    #[serde(default)]
    pub disk_bytes: Option<ByteSize>,
}

/// Where a new box's root comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxSource {
    /// A base.
    Base(BaseRef),
    /// The current root of another box.
    Box(BoxRef),
    /// A snapshot of another box.
    Snapshot {
        /// The box.
        #[serde(rename = "box")]
        name: BoxRef,
        /// Its snapshot.
        snapshot: SnapshotName,
    },
    /// An image.
    Image(ImageTag),
}

impl fmt::Display for BoxSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base(base) => write!(f, "base {base}"),
            Self::Box(name) => write!(f, "box {name}"),
            Self::Snapshot { name, snapshot } => write!(f, "snapshot {name}/{snapshot}"),
            Self::Image(tag) => write!(f, "image {tag}"),
        }
    }
}

/// What a box is set up with; given at `create`, shown by `info`, changed by `update`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxSettings {
    /// Set for every program in the box.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// The user's marks.
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
    /// Its network.
    #[serde(default)]
    pub network: NetworkMode,
    /// Ports of the host that lead into it.
    #[serde(default)]
    pub publish: Vec<PublishedPort>,
    /// TCP ports of the host itself that the box may reach, at the name `host.tine`.
    #[serde(default)]
    pub host_ports: Vec<u16>,
    /// Attached volumes.
    #[serde(default)]
    pub volumes: Vec<VolumeMount>,
    /// Whether the box is deleted when it stops.
    #[serde(default)]
    pub remove_on_stop: bool,
    /// Virtual processors of a vm box; 1 when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Forces what runs the instructions of a vm box.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accel: Option<Accel>,
}

/// What `create` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateBox {
    /// The new box.
    #[serde(rename = "box")]
    pub name: BoxRef,
    /// Where its root comes from.
    pub source: BoxSource,
    /// What it is set up with.
    pub settings: BoxSettings,
    /// Asks for a box of kind vm. One made from a vm box, its snapshot or an image is of that kind anyway.
    #[serde(default)]
    pub vm: bool,
    /// Boots the disk of an image instead of going on from its memory.
    #[serde(default)]
    pub cold: bool,
    /// Whether to start it.
    pub start: bool,
}

/// What `list` is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListBoxes {
    /// One project; all when none.
    pub project: Option<ProjectName>,
    /// Only boxes that carry all of these.
    #[serde(default)]
    pub tags: Vec<Tag>,
}

/// A box, as `list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxSummary {
    /// The box.
    #[serde(rename = "box")]
    pub name: BoxRef,
    /// How it runs.
    pub kind: BoxKind,
    /// What it is doing.
    pub status: BoxStatus,
    /// The base version at the root of its ancestry, if that is known.
    pub base: Option<BaseVersion>,
    /// When it was made.
    pub created_at: Timestamp,
    /// The user's marks.
    pub tags: Vec<Tag>,
}

/// A box, as `info` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxInfo {
    /// What `list` shows too.
    #[serde(flatten)]
    pub summary: BoxSummary,
    /// 32 hex digits that stay the same when it is renamed.
    pub id: String,
    /// Where its root came from, in words.
    pub source: String,
    /// What it is set up with.
    pub settings: BoxSettings,
    /// Its address while it runs with `nat`.
    pub address: Option<Ipv4Addr>,
    /// Its snapshots, oldest first.
    pub snapshots: Vec<SnapshotName>,
    /// Whether `snapshot undo` has something to go back to.
    pub can_undo: bool,
    /// Where its root lies on this host.
    pub root_path: String,
    /// What runs a running vm box's instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accel: Option<Accel>,
    /// How its last run ended, where it was not stopped in order: `the guest's kernel panicked`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_end: Option<String>,
}

/// What `stop` is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopBox {
    /// Seconds between SIGTERM and SIGKILL.
    pub grace_seconds: u32,
}

impl Default for StopBox {
    fn default() -> Self {
        Self { grace_seconds: 10 }
    }
}

/// What `delete` did or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteBoxReport {
    /// The box.
    #[serde(rename = "box")]
    pub name: BoxRef,
    /// True when nothing was removed because a plan was asked for.
    pub dry_run: bool,
    /// Snapshots that go with it.
    pub snapshots: Vec<SnapshotName>,
    /// Whether it was running.
    pub was_running: bool,
    /// Volumes attached to it, which stay.
    pub kept_volumes: Vec<String>,
}

/// What `update` changes; none leaves a setting as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateBox {
    /// Set or replaced by key.
    #[serde(default)]
    pub set_env: Vec<EnvVar>,
    /// Keys removed.
    #[serde(default)]
    pub unset_env: Vec<String>,
    /// Set or replaced by key.
    #[serde(default)]
    pub set_tags: Vec<Tag>,
    /// Keys removed.
    #[serde(default)]
    pub unset_tags: Vec<String>,
    /// A new limit; at once for a running box.
    #[serde(default)]
    pub cpu: Change<CpuLimit>,
    /// A new limit; at once for a running box.
    #[serde(default)]
    pub memory_bytes: Change<ByteSize>,
    /// A new limit; at once for a running box.
    #[serde(default)]
    pub pids: Change<u32>,
    /// A new limit; at once.
    #[serde(default)]
    pub disk_bytes: Change<ByteSize>,
    /// Attached from the next start on.
    #[serde(default)]
    pub attach: Vec<VolumeMount>,
    /// Paths at which a volume is detached from the next start on.
    #[serde(default)]
    pub detach: Vec<crate::MountPath>,
    /// A new network from the next start on.
    #[serde(default)]
    pub network: Option<NetworkMode>,
}

/// What happens to a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is removed.
    Clear,
    /// It becomes this.
    Set(T),
}

impl<T: Copy> Change<T> {
    /// Applies the change to a setting.
    pub fn apply(self, setting: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *setting = None,
            Self::Set(value) => *setting = Some(value),
        }
    }
}

/// What `update` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateReport {
    /// The box as it is now.
    pub info: BoxInfo,
    /// Whether something takes effect only at the next start.
    pub needs_restart: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ports_read_and_print_one_form() {
        for (text, shown) in [("8080:80", "8080:80/tcp"), ("127.0.0.1:53:53/udp", "127.0.0.1:53:53/udp")] {
            assert_eq!(text.parse::<PublishedPort>().unwrap().to_string(), shown);
        }
        for bad in ["", "80", "0:80", "80:0", "70000:1", "x:1:2", "80:80/sctp", "::1:80:80", "+1:80"] {
            assert!(bad.parse::<PublishedPort>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn cpu_limits_are_thousandths() {
        assert_eq!("1.5".parse::<CpuLimit>().unwrap().0, 1500);
        for bad in ["", "0", "-1", "nan", "inf", "1e2", "5000"] {
            assert!(bad.parse::<CpuLimit>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_change_keeps_clears_or_sets() {
        let mut setting = Some(1);
        Change::Keep.apply(&mut setting);
        assert_eq!(setting, Some(1));
        Change::Set(2).apply(&mut setting);
        assert_eq!(setting, Some(2));
        Change::Clear.apply(&mut setting);
        assert_eq!(setting, None);
    }
}
