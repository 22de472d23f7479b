//! What becomes of each of the caller's streams.

use super::pump::Pump;
use crate::{
    error::{MachineError, MachineResult},
    wire::Stream,
};
use rustix::{
    fs::FileType,
    net::AddressFamily,
    pipe::{PipeFlags, pipe_with},
};
use std::os::fd::OwnedFd;
use tine_model::{BoxKind, ExecRequest};

/// How a program's streams are wired.
pub(super) struct Plan {
    /// What the init is told about input, output and error.
    pub(super) kinds: [Stream; 3],
    /// Whether pipes and Unix sockets go into the box. The monitor of a vm box copies, and what it sets on a descriptor must
    /// not reach the caller's. Whose program has a time limit may wait for the end of its output too, which a descendant or a
    /// box that stands still would keep open.
    through: bool,
    /// The descriptors that go into the box.
    pub(super) passed: Vec<OwnedFd>,
    /// What is copied here.
    pub(super) pumps: Vec<Pump>,
    /// The caller's input and output, to be joined to a terminal.
    pub(super) terminal: Option<(Option<OwnedFd>, OwnedFd)>,
}

impl Plan {
    /// Input, output and error of the caller.
    pub(super) fn new(
        request: &ExecRequest,
        streams: [Option<OwnedFd>; 3],
        kind: BoxKind,
    ) -> MachineResult<Self> {
        let through = kind == BoxKind::Container && request.timeout_seconds.is_none();
        let mut plan =
            Self { kinds: [Stream::Null; 3], through, passed: Vec::new(), pumps: Vec::new(), terminal: None };
        let [stdin, stdout, stderr] = streams;
        if request.background {
            plan.kinds = [Stream::Null, Stream::Log, Stream::Log];
        } else if request.tty.is_some() {
            plan.terminal = stdout.map(|stdout| (stdin, stdout));
        } else {
            for (index, stream) in [stdin, stdout, stderr].into_iter().enumerate() {
                if let Some(stream) = stream {
                    plan.kinds[index] = plan.wire(stream, index == 0)?;
                }
            }
        }
        Ok(plan)
    }

    fn wire(&mut self, stream: OwnedFd, input: bool) -> MachineResult<Stream> {
        match classify(&stream)? {
            Class::Null => return Ok(Stream::Null),
            Class::Harmless if self.through => self.passed.push(stream),
            Class::Host | Class::Harmless => {
                let (read, write) =
                    pipe_with(PipeFlags::CLOEXEC).map_err(|e| MachineError::io("make", "pipe", e))?;
                let (theirs, pump) = if input {
                    (read, Pump::into_box(stream, write)?)
                } else {
                    (write, Pump::out_of_box(read, stream)?)
                };
                self.passed.push(theirs);
                self.pumps.push(pump);
            }
        }
        Ok(Stream::Passed)
    }
}

/// What a descriptor of the caller is to a box.
#[derive(Debug, PartialEq, Eq)]
enum Class {
    /// The null device, of which the box has its own.
    Null,
    /// A pipe or Unix socket: opening it anew gives nothing that its other end does not give.
    Harmless,
    /// Anything else.
    Host,
}

fn classify(fd: &OwnedFd) -> MachineResult<Class> {
    let stat = rustix::fs::fstat(fd).map_err(|e| MachineError::io("look at", "stream", e))?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => Class::Harmless,
        FileType::Socket if rustix::net::sockopt::socket_domain(fd) == Ok(AddressFamily::UNIX) => {
            Class::Harmless
        }
        FileType::CharacterDevice if stat.st_rdev == rustix::fs::makedev(1, 3) => Class::Null,
        _ => Class::Host,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pipes_and_unix_sockets_go_into_the_box() {
        let class = |fd: OwnedFd| classify(&fd).unwrap();
        let (pipe, _other) = std::io::pipe().unwrap();
        let (unix, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(class(pipe.into()), Class::Harmless);
        assert_eq!(class(unix.into()), Class::Harmless);
        assert_eq!(class(std::fs::File::open("/dev/null").unwrap().into()), Class::Null);
        assert_eq!(class(std::fs::File::open("/dev/zero").unwrap().into()), Class::Host);
        assert_eq!(class(std::fs::File::open("/").unwrap().into()), Class::Host);
        assert_eq!(class(tempfile::tempfile().unwrap().into()), Class::Host);
        assert_eq!(class(std::net::TcpListener::bind("127.0.0.1:0").unwrap().into()), Class::Host);
    }
}
