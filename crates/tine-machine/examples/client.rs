//! Runs a program in the box whose run directory is the first argument; what the tests kill as a client.

use std::{process::ExitCode, sync::mpsc::channel};
use tine_machine::{ExecContext, exec};
use tine_model::{BoxKind, ExecOutcome, ExecRequest, ExecStreams};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let run_dir = args.next().unwrap_or_default();
    let request = ExecRequest::of(args.collect());
    let copy = |fd: &dyn std::os::fd::AsFd| fd.as_fd().try_clone_to_owned().ok();
    let (Some(stdout), Some(stderr)) = (copy(&std::io::stdout()), copy(&std::io::stderr())) else {
        return ExitCode::FAILURE;
    };
    let (_events, events) = channel();
    let streams = ExecStreams { stdin: None, stdout, stderr, events };
    match exec(
        ExecContext { run_dir: run_dir.as_ref(), env: &[], kind: BoxKind::Container },
        &request,
        streams,
    ) {
        Ok(ExecOutcome::Exited { code }) => ExitCode::from(code),
        _ => ExitCode::from(125),
    }
}
