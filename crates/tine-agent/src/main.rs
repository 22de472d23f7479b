//! The first process of a microVM: brings the machine up, then serves as its agent.
//!
//! The initramfs holds this program as `/init`, the kernel's modules in `/modules` with `/modules/order` naming one per
//! line, and the device nodes `/dev/console` and `/dev/null`, for a process begins with three open streams.
#![forbid(unsafe_code)]

mod boot;

use rustix::system::RebootCommand;
use std::process::ExitCode;
use tine_agent::agent;

fn main() -> ExitCode {
    if !rustix::process::getpid().is_init() {
        eprintln!("tine-agent is the first process of a machine and runs nowhere else");
        return ExitCode::from(2);
    }
    if let Err(error) = boot::boot().and_then(agent::serve) {
        boot::say_to_kernel(&error.to_string());
    }
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
    // Not reached but when the machine has no power button: the kernel panics, and stops.
    ExitCode::FAILURE
}
