//! Running a shell command in a box that somebody waits for: its output goes to the reporter, and it is ended when the
//! operation is cancelled.

use crate::cancelled;
use rustix::pipe::{PipeFlags, pipe_with};
use std::{
    fs::File,
    io::Read,
    os::fd::OwnedFd,
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};
use tine_machine::ExecContext;
use tine_model::{
    BoxKind, EnvVar, Error, ErrorCode, ExecEvent, ExecOutcome, ExecRequest, ExecStreams, Reporter, Result,
};

/// SIGTERM, and SIGKILL for who does not mind it for so long.
const TERMINATE: i32 = 15;
const KILL: i32 = 9;
const GRACE: Duration = Duration::from_secs(2);
/// The exit code of a program whose time was over.
const TIMED_OUT: u8 = 124;

/// A command and where it runs.
pub struct Script<'a> {
    /// The box's run directory.
    pub run_dir: &'a Path,
    /// How the box runs.
    pub kind: BoxKind,
    /// Set for it.
    pub env: &'a [EnvVar],
    /// What the shell is given.
    pub text: &'a str,
    /// What it reads, copied to it from where the file stands; nothing when none.
    pub input: Option<&'a File>,
    /// Seconds it may take.
    pub timeout_seconds: Option<u32>,
}

impl Script<'_> {
    /// Runs it to its end and gives its exit code.
    pub fn run(&self, reporter: &dyn Reporter) -> Result<u8> {
        let request = ExecRequest {
            env: vec![],
            working_dir: Some("/".into()),
            timeout_seconds: self.timeout_seconds,
            ..ExecRequest::of(vec!["/bin/sh".into(), "-c".into(), self.text.to_owned()])
        };
        let ((out, stdout), (err, stderr)) = (pipe()?, pipe()?);
        let (events_in, events) = mpsc::channel();
        let stdin = self.input.map(File::try_clone).transpose();
        let stdin =
            stdin.map_err(|e| Error::new(ErrorCode::Internal, format!("open the input again: {e}")))?;
        let streams = ExecStreams { stdin: stdin.map(OwnedFd::from), stdout, stderr, events };
        let context = ExecContext { run_dir: self.run_dir, env: self.env, kind: self.kind };
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| report_lines(out, reporter));
            scope.spawn(|| report_lines(err, reporter));
            let program = scope.spawn(|| tine_machine::exec(context, &request, streams));
            let mut asked = None;
            while !program.is_finished() {
                if reporter.is_cancelled() {
                    let since = asked.get_or_insert_with(Instant::now).elapsed();
                    let signal = if since < GRACE { TERMINATE } else { KILL };
                    let _ = events_in.send(ExecEvent::Signal(signal));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let lost = || Error::new(ErrorCode::Internal, "the script's thread died");
            program.join().map_err(|_| lost())?.map_err(Error::from)
        })?;
        match outcome {
            ExecOutcome::Exited { code } => Ok(code),
            ExecOutcome::Started { .. } => {
                Err(Error::new(ErrorCode::Internal, "the script ran in the background"))
            }
        }
    }

    /// As [`Script::run`], but it has to succeed. `doing` says what fails with it.
    pub fn succeed(&self, doing: &str, reporter: &dyn Reporter) -> Result<()> {
        let code = self.run(reporter)?;
        if reporter.is_cancelled() {
            return Err(cancelled(doing));
        }
        let failed = |why: String| Err(Error::new(ErrorCode::ToolFailed, format!("{doing}: {why}")));
        match (code, self.timeout_seconds) {
            (0, _) => Ok(()),
            (TIMED_OUT, Some(seconds)) => failed(format!("not done within {seconds} s")),
            (code, _) => failed(format!("the script failed with exit code {code}")),
        }
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|e| Error::new(ErrorCode::Internal, format!("make a pipe: {e}")))
}

fn report_lines(pipe: OwnedFd, reporter: &dyn Reporter) {
    let mut pipe = std::io::BufReader::new(File::from(pipe));
    let mut line = Vec::new();
    loop {
        line.clear();
        let limited = &mut Read::by_ref(&mut pipe).take(4096);
        match std::io::BufRead::read_until(limited, b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => reporter.output(String::from_utf8_lossy(&line).trim_end()),
        }
    }
}
