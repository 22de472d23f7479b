//! What a vm box's monitor does when it is asked to: stop, pause, limit, quiesce, save.

use super::{
    boot::{await_word, wall_clock},
    capture::{self, Target},
    monitor::{Monitor, Pending},
};
use crate::{
    error::{MachineError, MachineResult},
    wire::{self, Captured, ControlReply, ControlRequest, MachineUsage},
};
use serde_json::json;
use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};
use tine_agent::message::{GuestControl, HostControl};
use tine_model::Limits;

/// How long QEMU may take for one command.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the guest may take to quiesce or thaw.
const GUEST_PATIENCE: Duration = Duration::from_secs(10);
/// What the guest gets to sync and power off, beyond the grace of its programs.
const POWER_OFF_GRACE: Duration = Duration::from_secs(10);

impl Monitor<'_> {
    /// Carries a request out and answers it. To `Stop` and `Kill` the answer is the connection's closing.
    pub(super) fn perform(&mut self, pending: Pending) {
        let Pending { client, request, fds } = pending;
        let done = match request {
            ControlRequest::Stop { grace_seconds } => {
                return self.stop(grace_seconds);
            }
            ControlRequest::Kill => return self.end(),
            ControlRequest::Pause => self.pause().map(|()| ControlReply::Done),
            ControlRequest::Resume => self.resume().map(|()| ControlReply::Done),
            ControlRequest::SetLimits(limits) => self.set_limits(&limits).map(|()| ControlReply::Done),
            ControlRequest::Quiesce => self.quiesce(false).map(|()| ControlReply::Done),
            ControlRequest::Thaw => self.thaw().map(|()| ControlReply::Done),
            ControlRequest::Capture { quiesce } => self.capture(quiesce, fds).map(ControlReply::Captured),
            ControlRequest::Usage => self.usage().map(ControlReply::Usage),
        };
        let failed = |error| ControlReply::Failed(tine_model::Error::from(error).body());
        let reply = done.unwrap_or_else(failed);
        if let Some(client) = self.clients.iter().find(|c| c.id == client) {
            let _ = wire::send(client.socket.as_fd(), &reply, &[]);
        }
    }

    /// The agent ends the programs and powers off; what is left when its time is over is killed.
    fn stop(&mut self, grace_seconds: u32) {
        self.stopping = true;
        let _ = self.resume();
        let _ = self.link.tell(&HostControl::Shutdown { grace_seconds });
        let deadline = Instant::now() + Duration::from_secs(u64::from(grace_seconds)) + POWER_OFF_GRACE;
        self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
    }

    fn end(&mut self) {
        self.stopping = true;
        self.process.kill();
    }

    fn pause(&mut self) -> MachineResult<()> {
        self.qmp.execute("stop", &json!({}), &[], PATIENCE)?;
        self.paused = true;
        self.stage.dir.mark_paused(true)
    }

    /// The guest's clock has stood still meanwhile.
    fn resume(&mut self) -> MachineResult<()> {
        if !self.paused {
            return Ok(());
        }
        self.qmp.execute("cont", &json!({}), &[], PATIENCE)?;
        self.paused = false;
        self.stage.dir.mark_paused(false)?;
        self.link.tell(&HostControl::SetClock { wall_clock_ns: wall_clock() })
    }

    /// Memory is the guest's for life; processor time changes at once.
    fn set_limits(&mut self, limits: &Limits) -> MachineResult<()> {
        let memory_bytes = Some(self.spec.memory_limit());
        self.stage.cgroup.set_limits(&Limits { memory_bytes, ..*limits })
    }

    fn require_running(&self) -> MachineResult<()> {
        if self.paused { Err(MachineError::Paused) } else { Ok(()) }
    }

    fn quiesce(&mut self, programs: bool) -> MachineResult<()> {
        self.require_running()?;
        self.words.clear();
        self.link.tell(&HostControl::Quiesce { programs })?;
        let done = await_word(self, Instant::now() + GUEST_PATIENCE, |word| *word == GuestControl::Quiesced);
        if done.is_err() {
            let _ = self.link.tell(&HostControl::Thaw);
        }
        done.map_err(|error| match error {
            MachineError::Timeout { .. } => {
                MachineError::Timeout { what: "quiescing the guest", seconds: GUEST_PATIENCE.as_secs() }
            }
            other => other,
        })
    }

    fn thaw(&mut self) -> MachineResult<()> {
        self.link.tell(&HostControl::Thaw)?;
        await_word(self, Instant::now() + GUEST_PATIENCE, |word| *word == GuestControl::Thawed)
    }

    fn capture(&mut self, quiesce: bool, fds: Vec<OwnedFd>) -> MachineResult<Captured> {
        let target = target(fds)?;
        let begun = Instant::now();
        if quiesce {
            self.quiesce(true)?;
        }
        let saved =
            capture::save(&mut self.qmp, &self.process, &self.memory, &self.disk, &target, !self.paused);
        self.take_events()?;
        let saved = if quiesce {
            let thawed = self.thaw();
            saved.and_then(|saved| thawed.map(|()| saved))
        } else {
            saved
        }?;
        let pause = if quiesce { begun.elapsed() } else { saved.pause };
        Ok(Captured {
            pause_us: u64::try_from(pause.as_micros()).unwrap_or(u64::MAX),
            own_bytes: saved.own_bytes,
            contract: self.spec.contract.clone(),
        })
    }

    fn usage(&mut self) -> MachineResult<MachineUsage> {
        let pid = self.process.pid();
        let path = format!("/proc/{}/smaps_rollup", pid.as_raw_nonzero());
        let text = std::fs::read_to_string(&path).map_err(|e| MachineError::io("read", &path, e))?;
        let kilobytes = text.lines().find_map(|line| {
            line.strip_prefix("Pss:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        Ok(MachineUsage {
            private_bytes: self.memory.own_bytes(pid)?,
            proportional_bytes: kilobytes.unwrap_or(0) * 1024,
        })
    }
}

/// Memory, devices, the root, and the directory for its snapshot, in this order.
fn target(fds: Vec<OwnedFd>) -> MachineResult<Target> {
    let odd = || MachineError::Protocol { peer: "client", reason: "descriptors do not match".to_owned() };
    let mut fds = fds.into_iter();
    let (memory, vmstate) = (fds.next().ok_or_else(odd)?, fds.next().ok_or_else(odd)?);
    let (root, directory) = (fds.next().ok_or_else(odd)?, fds.next().ok_or_else(odd)?);
    Ok(Target { memory: File::from(memory), vmstate: for_writing(&vmstate)?, root, directory })
}

/// QEMU takes a descriptor only when it has the very access it asks for.
fn for_writing(file: &OwnedFd) -> MachineResult<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().write(true).open(&path).map_err(|e| MachineError::io("open", "file for the state", e))
}
