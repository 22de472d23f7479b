//! What a vm box is started with.

use super::hardware::Hardware;
use crate::error::{MachineError, MachineResult};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tine_model::{ByteSize, Contract};

/// What a vm box is started with. Every path is absolute, valid UTF-8 and on the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VmSpec {
    /// The QEMU program.
    pub qemu: PathBuf,
    /// What the machine is made of.
    pub hardware: Hardware,
    /// What other hosts must offer to go on from states of this machine.
    pub contract: Contract,
    /// What it starts from.
    pub boot: Boot,
    /// The file that holds its disk.
    pub disk: PathBuf,
    /// Seconds that starting may take, from QEMU's start to the agent's last acknowledgement.
    pub patience_seconds: u32,
}

/// What a machine starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Boot {
    /// A kernel and an initramfs with the agent in it.
    Kernel {
        /// The kernel's file.
        kernel: PathBuf,
        /// The initramfs's file.
        initrd: PathBuf,
    },
    /// A saved state.
    State {
        /// The file that holds the memory. It is mapped privately and never written to.
        memory: PathBuf,
        /// The file that holds the devices' state.
        vmstate: PathBuf,
    },
}

impl VmSpec {
    /// Every path in it.
    pub(crate) fn paths(&self) -> Vec<&PathBuf> {
        let mut paths = vec![&self.qemu, &self.disk];
        match &self.boot {
            Boot::Kernel { kernel, initrd } => paths.extend([kernel, initrd]),
            Boot::State { memory, vmstate } => paths.extend([memory, vmstate]),
        }
        paths
    }

    /// Refuses what no machine can be made of.
    pub(crate) fn check(&self) -> MachineResult<()> {
        const MIB: u64 = 1 << 20;
        let Hardware { cpus, memory_bytes, .. } = self.hardware;
        let bad = |text: String| Err(MachineError::Invalid(text));
        if memory_bytes.bytes() % MIB != 0 || !(64 * MIB..=1024 * 1024 * MIB).contains(&memory_bytes.bytes())
        {
            return bad(format!("memory of {memory_bytes} is not whole MiB between 64 MiB and 1 TiB"));
        }
        if !(1..=64).contains(&cpus) {
            return bad(format!("{cpus} processors are not between 1 and 64"));
        }
        Ok(())
    }

    /// What the machine's process may take beside the guest's memory.
    pub(crate) fn memory_limit(&self) -> ByteSize {
        const OVERHEAD: u64 = 512 << 20;
        ByteSize(self.hardware.memory_bytes.bytes() + OVERHEAD)
    }
}
