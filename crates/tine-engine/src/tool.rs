//! Running the programs Tine calls (`mmdebstrap`, container engines): their output goes to the reporter, they die
//! with a cancelled operation, and a failure carries the end of what they said.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};
use tine_model::{Error, ErrorCode, Reporter, Result};

/// Bytes of one line that are kept; a program that never ends a line does not fill memory.
const MAX_LINE: u64 = 4096;
/// Lines of a failed program's output that its error repeats.
const TAIL_LINES: usize = 4;

/// Runs `command` to its end, each line of its output going to the reporter.
///
/// # Errors
/// `tool_failed` when it cannot be started or fails, `cancelled` when the reporter says so; the whole process group
/// is killed then.
pub fn run(command: &mut Command, doing: &str, reporter: &dyn Reporter) -> Result<()> {
    let mut running = Running::start(command, doing)?;
    let mut tail = VecDeque::new();
    loop {
        match running.lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => {
                reporter.output(&line);
                if tail.len() == TAIL_LINES {
                    tail.pop_front();
                }
                tail.push_back(line);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if reporter.is_cancelled() {
            return Err(Error::new(ErrorCode::Cancelled, format!("{doing}: cancelled")));
        }
    }
    running.finish(doing, tail.make_contiguous())
}

/// Runs `command` and returns its standard output, at most 1 MiB of it, when it succeeds within `timeout`.
///
/// # Errors
/// `tool_failed` when it cannot be started, fails or takes longer.
pub fn capture(command: &mut Command, doing: &str, timeout: Duration) -> Result<String> {
    let mut running = Running::start(command, doing)?;
    let deadline = Instant::now() + timeout;
    let mut said = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match running.lines.recv_timeout(left) {
            Ok(line) if said.len() < 256 => said.push(line),
            Ok(_) => {}
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let seconds = timeout.as_secs();
                return Err(Error::new(
                    ErrorCode::ToolFailed,
                    format!("{doing}: no answer within {seconds} s"),
                ));
            }
        }
    }
    running.finish(doing, &said)?;
    Ok(said.join("\n"))
}

/// A program in its own process group, which is killed when this is dropped before it ended.
struct Running {
    child: Child,
    ended: bool,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(command: &mut Command, doing: &str) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| not_started(command, doing, &e))?;
        let (sender, lines) = mpsc::sync_channel(64);
        if let Some(out) = child.stdout.take() {
            read_lines(out, sender.clone());
        }
        if let Some(err) = child.stderr.take() {
            read_lines(err, sender);
        }
        Ok(Self { child, ended: false, lines })
    }

    fn finish(&mut self, doing: &str, tail: &[String]) -> Result<()> {
        let status = self
            .child
            .wait()
            .map_err(|e| Error::new(ErrorCode::ToolFailed, format!("{doing}: wait for the program: {e}")))?;
        self.ended = true;
        if status.success() { Ok(()) } else { Err(failed(doing, status, tail)) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // the group, so that what the program started goes too
            let _ =
                nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

fn read_lines(stream: impl Read + Send + 'static, lines: mpsc::SyncSender<String>) {
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            match stream.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if lines.send(text).is_err() {
                return;
            }
        }
    });
}

fn not_started(command: &Command, doing: &str, error: &std::io::Error) -> Error {
    let program = command.get_program().to_string_lossy().into_owned();
    let shown = Error::new(ErrorCode::ToolFailed, format!("{doing}: start {program}: {error}"));
    if error.kind() == std::io::ErrorKind::NotFound {
        shown.hint(format!("apt-get install {program}"))
    } else {
        shown
    }
}

fn failed(doing: &str, status: ExitStatus, tail: &[String]) -> Error {
    let start = tail.len().saturating_sub(TAIL_LINES);
    let last: Vec<&str> = tail[start..].iter().map(String::as_str).filter(|l| !l.is_empty()).collect();
    let said = if last.is_empty() { String::new() } else { format!(": {}", last.join(" | ")) };
    Error::new(ErrorCode::ToolFailed, format!("{doing}: {status}{said}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    };

    #[derive(Default)]
    struct Recorder {
        lines: Mutex<Vec<String>>,
        cancelled: AtomicBool,
    }

    impl Reporter for Recorder {
        fn step(&self, _: &str, _: Option<u64>) {}
        fn advance(&self, _: u64) {}
        fn output(&self, line: &str) {
            self.lines.lock().unwrap().push(line.to_owned());
            self.cancelled.store(line == "stop me", Ordering::Relaxed);
        }
        fn note(&self, _: &str) {}
        fn is_cancelled(&self) -> bool {
            self.cancelled.load(Ordering::Relaxed)
        }
    }

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_reaches_the_reporter_and_a_failure_repeats_its_end() {
        let recorder = Recorder::default();
        let error = run(&mut sh("echo one; echo two >&2; exit 3"), "try", &recorder).unwrap_err();
        assert_eq!(recorder.lines.lock().unwrap().len(), 2);
        assert!(error.message.contains("exit status: 3") && error.message.contains("two"), "{error}");
    }

    #[test]
    fn a_cancelled_program_is_killed_with_its_children() {
        let began = Instant::now();
        let error =
            run(&mut sh("echo stop me; sleep 60 & sleep 60"), "try", &Recorder::default()).unwrap_err();
        assert_eq!(error.code, ErrorCode::Cancelled);
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_silent_program_is_not_waited_for_forever() {
        let error = capture(&mut sh("sleep 60"), "ask", Duration::from_millis(50)).unwrap_err();
        assert!(error.message.contains("no answer"), "{error}");
    }

    #[test]
    fn a_missing_program_names_itself() {
        let error =
            capture(&mut Command::new("tine-no-such-program"), "ask", Duration::from_secs(1)).unwrap_err();
        assert!(error.message.contains("tine-no-such-program") && error.hint.is_some(), "{error:?}");
    }
}
