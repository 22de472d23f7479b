//! Running boxes: the monitor, containers and microVMs, exec, cgroups, seccomp and networking.
//!
//! A running container box is one monitor process (this program started again, detached) and, inside its
//! namespaces, an init that is this same program's code: it reaps orphans and starts programs on request. The
//! crate knows nothing of the store: it is given paths and a run directory. It never prints and never reads the
//! environment.
#![forbid(unsafe_code)]

pub mod cgroup;
mod control;
mod error;
mod exec;
mod init;
pub mod monitor;
pub mod net;
mod processes;
mod rundir;
mod seccomp;
mod spec;
mod start;
pub mod vm;
mod wire;

pub use control::{CaptureTarget, capture, kill, pause, quiesce, resume, set_limits, stop, thaw, usage};
pub use error::{MachineError, MachineResult};
pub use exec::{ExecContext, exec};
pub use processes::processes;
pub use rundir::{accel, address, last_end, status};
pub use spec::{Bind, ContainerSpec, MachineSpec, StartSpec};
pub use start::{MonitorProgram, StartClocks, Started, Tied, start, start_tied};
pub use wire::{Captured, MachineUsage};
