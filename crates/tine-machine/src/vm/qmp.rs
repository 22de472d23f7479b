//! Speaking QMP with QEMU (its `docs/interop/qmp-spec`): one command at a time, events kept for later.
//!
//! A guest that has taken QEMU over may say anything here, so every line is bounded and typed.

use crate::error::{MachineError, MachineResult};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};
use tine_sys::fdpass;

/// The longest line, in bytes.
const MAX_LINE: usize = 1 << 20;
/// Events that nobody has looked at yet; what comes beyond them is dropped.
const MAX_EVENTS: usize = 1024;

/// A conversation with QEMU.
#[derive(Debug)]
pub(super) struct Qmp {
    socket: OwnedFd,
    buffer: Vec<u8>,
    events: VecDeque<Event>,
    closed: bool,
}

/// Something that happened to the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// It has ended: why, as `guest-shutdown` or `guest-reset`.
    Shutdown(String),
    /// A state that is being loaded or saved has got to this status.
    Migration(String),
    /// Its disk could not be written; true when for want of space, and then it has been stopped.
    DiskError {
        /// Whether space was wanting.
        full: bool,
    },
    /// Anything else.
    Other,
}

#[derive(Deserialize)]
struct Line {
    event: Option<String>,
    #[serde(default)]
    data: Value,
    #[serde(rename = "return")]
    returned: Option<Value>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    desc: String,
}

impl Qmp {
    pub(super) fn new(socket: OwnedFd) -> MachineResult<Self> {
        rustix::io::ioctl_fionbio(&socket, true).map_err(|e| MachineError::io("set up", "QMP", e))?;
        Ok(Self { socket, buffer: Vec::new(), events: VecDeque::new(), closed: false })
    }

    /// The next event that has come, if any.
    pub(super) fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// True when QEMU has closed the conversation.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Reads what is there, without waiting; what is no event is dropped.
    pub(super) fn listen(&mut self) -> MachineResult<()> {
        self.fill()?;
        self.keep_all()
    }

    fn keep_all(&mut self) -> MachineResult<()> {
        while let Some(line) = self.line()? {
            self.keep(line);
        }
        Ok(())
    }

    /// Sends a command, with descriptors, and waits for its answer.
    pub(super) fn execute(
        &mut self,
        command: &'static str,
        arguments: &Value,
        fds: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> MachineResult<Value> {
        self.send(command, arguments, fds)?;
        self.answer(command, patience)
    }

    /// Sends a command; its answer is for [`Qmp::answer`] to take.
    pub(super) fn send(
        &mut self,
        command: &'static str,
        arguments: &Value,
        fds: &[BorrowedFd<'_>],
    ) -> MachineResult<()> {
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        let mut sent = fdpass::send(self.socket.as_fd(), line.as_bytes(), fds)?;
        while sent < line.len() {
            sent += fdpass::send(self.socket.as_fd(), &line.as_bytes()[sent..], &[])?;
        }
        Ok(())
    }

    /// Waits for the answer to the command that was sent last.
    pub(super) fn answer(&mut self, command: &'static str, patience: Duration) -> MachineResult<Value> {
        let deadline = Instant::now() + patience;
        loop {
            while let Some(line) = self.line()? {
                if let Some(refusal) = line.error {
                    return Err(odd(format!("{command}: {}", printable(&refusal.desc))));
                }
                match line.returned {
                    Some(value) => {
                        // what came along would not be told of by a poll
                        self.keep_all()?;
                        return Ok(value);
                    }
                    None => self.keep(line),
                }
            }
            if self.closed {
                return Err(odd(format!("{command}: it has ended")));
            }
            self.wait(command, deadline)?;
            self.fill()?;
        }
    }

    /// Reads what is there, and tells how many lines of it are no events: the greeting, and the answers to what was
    /// sent before it.
    pub(super) fn count_answers(&mut self) -> MachineResult<u32> {
        self.fill()?;
        let mut count = 0;
        while let Some(line) = self.line()? {
            if let Some(refusal) = line.error {
                return Err(odd(printable(&refusal.desc)));
            }
            match line.event {
                Some(_) => self.keep(line),
                None => count += 1,
            }
        }
        Ok(count)
    }

    fn keep(&mut self, line: Line) {
        let Some(name) = line.event else { return };
        let text =
            |field: &str| line.data.get(field).and_then(Value::as_str).map(printable).unwrap_or_default();
        let event = match name.as_str() {
            "SHUTDOWN" => Event::Shutdown(text("reason")),
            "MIGRATION" => Event::Migration(text("status")),
            "BLOCK_IO_ERROR" => {
                let full = line.data.get("nospace").and_then(Value::as_bool).unwrap_or(false);
                Event::DiskError { full }
            }
            _ => Event::Other,
        };
        if event != Event::Other && self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        }
    }

    fn line(&mut self) -> MachineResult<Option<Line>> {
        let Some(end) = self.buffer.iter().position(|b| *b == b'\n') else {
            return if self.buffer.len() > MAX_LINE { Err(odd("a line is too long")) } else { Ok(None) };
        };
        let line = serde_json::from_slice(&self.buffer[..end]).map_err(|e| odd(e.to_string()));
        self.buffer.drain(..=end);
        line.map(Some)
    }

    fn fill(&mut self) -> MachineResult<()> {
        let mut part = [0; 16 << 10];
        while self.buffer.len() <= MAX_LINE {
            match rustix::io::read(&self.socket, &mut part) {
                Ok(0) | Err(Errno::CONNRESET) => {
                    self.closed = true;
                    return Ok(());
                }
                Ok(n) => self.buffer.extend_from_slice(&part[..n]),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(MachineError::io("read from", "QEMU", e)),
            }
        }
        Ok(())
    }

    fn wait(&self, command: &'static str, deadline: Instant) -> MachineResult<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match rustix::event::poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => Err(odd(format!("{command}: no answer in time"))),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(MachineError::io("wait for", "QEMU", e)),
        }
    }
}

impl AsFd for Qmp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// At most a line of what QEMU says, without control characters.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(400).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn odd(reason: impl Into<String>) -> MachineError {
    MachineError::Protocol { peer: "qemu", reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, os::unix::net::UnixStream};

    const PATIENCE: Duration = Duration::from_secs(5);

    fn pair() -> (Qmp, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Qmp::new(ours.into()).unwrap(), theirs)
    }

    #[test]
    fn events_between_a_command_and_its_answer_are_kept() {
        let (mut qmp, mut qemu) = pair();
        qemu.write_all(
            b"{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true,\"reason\":\"guest-reset\"}}\n{\"return\":{\"a\":1}}\n\
              {\"event\":\"STOP\"}\n{\"event\":\"BLOCK_IO_ERROR\",\"data\":{\"nospace\":true}}\n",
        )
        .unwrap();
        assert_eq!(qmp.execute("stop", &json!({}), &[], PATIENCE).unwrap(), json!({ "a": 1 }));
        assert_eq!(qmp.event(), Some(Event::Shutdown("guest-reset".into())));
        assert_eq!(qmp.event(), Some(Event::DiskError { full: true }));
        assert_eq!(qmp.event(), None);
    }

    #[test]
    fn refusals_silence_nonsense_and_floods_are_errors() {
        let (mut qmp, mut qemu) = pair();
        qemu.write_all(b"{\"error\":{\"class\":\"x\",\"desc\":\"no \\u001b[31m\"}}\n").unwrap();
        let refused = qmp.execute("cont", &json!({}), &[], PATIENCE).unwrap_err().to_string();
        assert!(refused.contains("cont: no") && !refused.contains('\u{1b}'), "{refused}");
        assert!(qmp.execute("cont", &json!({}), &[], Duration::from_millis(20)).is_err());
        qemu.write_all(b"nonsense\n").unwrap();
        assert!(qmp.listen().is_err());
        let (mut qmp, mut qemu) = pair();
        let flood = std::thread::spawn(move || while qemu.write_all(&[b'x'; 4096]).is_ok() {});
        assert!(qmp.execute("cont", &json!({}), &[], PATIENCE).is_err());
        drop(qmp);
        flood.join().unwrap();
    }

    #[test]
    fn an_end_is_noticed() {
        let (mut qmp, qemu) = pair();
        drop(qemu);
        assert!(qmp.execute("stop", &json!({}), &[], PATIENCE).is_err());
        assert!(qmp.listen().is_ok() && qmp.is_closed());
    }
}
