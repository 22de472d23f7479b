//! vm boxes: a microVM under QEMU, its agent's link, its states saved and loaded.
//!
//! The monitor of a vm box starts QEMU without privileges, drives it over QMP, talks to the guest's agent over one
//! virtio-serial port, and serves the same sockets as the monitor of a container box. Nothing a guest or QEMU says is
//! trusted.

mod boot;
mod capture;
mod control;
mod engine;
mod guest;
mod hardware;
mod initramfs;
mod link;
mod modules;
mod monitor;
mod process;
mod qmp;
mod sessions;
mod spec;
mod unready;

pub use engine::{Engine, Probe, cpu_flags};
pub use guest::{copy_in, copy_out, processes, stat_path};
pub use hardware::Hardware;
pub use initramfs::{agent_id, write as write_initramfs};
pub use modules::{Module, collect as collect_modules};
pub(crate) use monitor::run;
pub use spec::{Boot, VmSpec};
