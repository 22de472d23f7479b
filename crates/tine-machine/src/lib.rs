//! Container boxes: the monitor, the box's init, exec, cgroups, seccomp and networking.
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
mod wire;

pub use control::{kill, pause, resume, set_limits, stop};
pub use error::{MachineError, MachineResult};
pub use exec::{ExecContext, exec};
pub use processes::processes;
pub use rundir::{address, status};
pub use spec::{Bind, StartSpec};
pub use start::{MonitorProgram, Started, start};
