//! What a box is started with, as the engine hands it to the monitor.

use crate::{
    error::{MachineError, MachineResult},
    net::NetworkSpec,
    vm::VmSpec,
};
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};
use tine_model::{BoxName, Limits};

/// The largest start specification, in bytes of JSON.
pub(crate) const MAX_SPEC: u64 = 1 << 20;

/// A directory of the host that appears in the box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// The directory on the host.
    pub source: PathBuf,
    /// Where it appears in the box: absolute, normal components only.
    pub target: PathBuf,
    /// Whether the box may only read it.
    pub read_only: bool,
}

/// What a box is started with. Every path is absolute, valid UTF-8 and on the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StartSpec {
    /// The box's id, 32 hex digits; names its cgroups.
    pub id: String,
    /// The host name inside the box.
    pub hostname: BoxName,
    /// The box's run directory, which must exist; lock and sockets lie there while it runs.
    pub run_dir: PathBuf,
    /// The directory in which `log` and `log.1` are written.
    pub log_dir: PathBuf,
    /// What the box may use; `disk_bytes` is not this layer's.
    pub limits: Limits,
    /// Its network.
    pub network: NetworkSpec,
    /// What runs it.
    pub machine: MachineSpec,
    /// Whether it ends with its starter until it is released; starting decides that.
    #[serde(default)]
    pub tied: bool,
}

/// What runs a box.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineSpec {
    /// Namespaces of the host's kernel.
    Container(ContainerSpec),
    /// A microVM.
    Vm(Box<VmSpec>),
}

/// What a container box is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The root's directory.
    pub root: PathBuf,
    /// Mounted over the root, in this order.
    pub binds: Vec<Bind>,
}

impl StartSpec {
    /// Refuses what the monitor could not use.
    pub(crate) fn check(&self) -> MachineResult<()> {
        check_id(&self.id)?;
        let mut paths = vec![&self.run_dir, &self.log_dir];
        match &self.machine {
            MachineSpec::Container(container) => {
                paths.push(&container.root);
                paths.extend(container.binds.iter().flat_map(|b| [&b.source, &b.target]));
            }
            MachineSpec::Vm(vm) => {
                vm.check()?;
                paths.extend(vm.paths());
            }
        }
        paths.into_iter().try_for_each(|path| check_path(path))
    }
}

/// Refuses an id that is not 32 hex digits, for it becomes a directory's name.
pub(crate) fn check_id(id: &str) -> MachineResult<()> {
    let good = id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if good { Ok(()) } else { Err(MachineError::Invalid(format!("box id {id:?} is not 32 hex digits"))) }
}

fn check_path(path: &Path) -> MachineResult<()> {
    let normal = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if path.is_absolute() && normal && path.to_str().is_some() {
        Ok(())
    } else {
        Err(MachineError::Invalid(format!("path {path:?} is not an absolute UTF-8 path without . and ..")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_hex_digits() {
        assert!(check_id("0123456789abcdef0123456789abcdef").is_ok());
        for bad in ["", "..", "0123456789abcdef0123456789abcdeg", "0123456789ABCDEF0123456789abcdef", "a/b"] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_absolute_and_normal() {
        assert!(check_path(Path::new("/a/b")).is_ok());
        for bad in ["a", "/a/../b", ""] {
            assert!(check_path(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
