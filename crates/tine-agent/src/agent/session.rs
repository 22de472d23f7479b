//! What each of the host's messages makes the agent do.

use super::{Agent, channel::Channel, channel::Failure, identity, work};
use crate::{
    error::{AgentError, AgentResult},
    message::{
        GuestControl, HostControl, HostMessage, MAX_CHANNELS, Order, OrderPart, PROTOCOL, Phase, Refused,
    },
};
use std::time::Duration;
use tine_model::ErrorCode;

/// At most so many processes that were asked for run at a time, listened to or not.
const MAX_PROCESSES: usize = 1024;

impl Agent {
    /// Does what a frame's content asks; outside a session only `Hello` is heard.
    pub(super) fn obey(&mut self, payload: &[u8]) {
        match HostMessage::parse(payload) {
            Ok(HostMessage::Control(HostControl::Hello { nonce, .. })) => self.greet(nonce),
            Ok(message) if self.in_session => self.take(message),
            _ => {}
        }
    }

    fn take(&mut self, message: HostMessage<'_>) {
        match message {
            HostMessage::Control(control) => self.control(control),
            HostMessage::Order(part) => self.order(&part),
            HostMessage::Data(data) => {
                self.with_channel(data.channel, |channel, link| channel.take(data.stream, data.bytes, link));
            }
            HostMessage::Eof(eof) => {
                self.with_channel(eof.channel, |channel, link| channel.end_input(eof.stream, link));
            }
            HostMessage::Credit(credit) => {
                self.with_channel(credit.channel, |channel, _| channel.returned(credit.stream, credit.bytes));
            }
        }
    }

    fn control(&mut self, control: HostControl) {
        let ours = self.is_first;
        match control {
            HostControl::Hello { nonce, .. } => self.greet(nonce),
            HostControl::Identity(wanted) => {
                let assumed = identity::assume(&wanted, &self.identity, ours);
                let set = || GuestControl::IdentitySet { wall_clock_ns: identity::clock() };
                self.answer(Refused::Identity, assumed, set);
            }
            HostControl::SetClock { wall_clock_ns } => {
                let set = || GuestControl::ClockSet { wall_clock_ns: identity::clock() };
                self.answer(Refused::SetClock, identity::set_clock(wall_clock_ns, ours), set);
            }
            HostControl::Quiesce { programs } => self.quiesce(programs),
            HostControl::Thaw => {
                let thawed = self.freezer.release();
                self.has_run |= thawed.is_ok();
                self.answer(Refused::Thaw, thawed, || GuestControl::Thawed);
            }
            HostControl::Signal { channel, number } => {
                self.with_channel(channel, |channel, _| channel.signal(number));
            }
            HostControl::Resize { channel, size } => {
                self.with_channel(channel, |channel, _| channel.resize(size));
            }
            HostControl::Close { channel } => self.close(channel),
            HostControl::Shutdown { grace_seconds } => {
                if self.stopping.is_none() {
                    self.stop(Duration::from_secs(u64::from(grace_seconds)));
                }
            }
        }
    }

    /// A session begins: whoever listened before is gone, and the programs go on unheard.
    fn greet(&mut self, nonce: u64) {
        self.link.restart();
        self.pieces.clear();
        for channel in &mut self.channels {
            channel.forsake(&mut self.link);
        }
        self.in_session = true;
        let agent_version = env!("CARGO_PKG_VERSION").into();
        self.link.tell(GuestControl::HelloAck {
            nonce,
            protocol: PROTOCOL,
            agent_version,
            phase: self.phase(),
        });
    }

    fn phase(&self) -> Phase {
        match () {
            () if self.stopping.is_some() => Phase::Stopping,
            () if self.freezer.is_anything_still() => Phase::Quiesced,
            () if self.has_run => Phase::Running,
            () => Phase::Booted,
        }
    }

    fn quiesce(&mut self, programs: bool) {
        let held = match self.stopping {
            Some(_) => Err(AgentError::Malformed("the machine is shutting down".to_owned())),
            None => self.freezer.hold(programs),
        };
        self.answer(Refused::Quiesce, held, || GuestControl::Quiesced);
    }

    fn answer(&mut self, what: Refused, done: AgentResult<()>, answer: impl FnOnce() -> GuestControl) {
        self.link.tell(match done {
            Ok(()) => answer(),
            Err(error) => GuestControl::Refused { what, message: error.to_string().into() },
        });
    }

    fn close(&mut self, channel: u32) {
        self.pieces.forget(channel);
        self.with_channel(channel, Channel::close);
    }

    fn with_channel(&mut self, id: u32, act: impl FnOnce(&mut Channel, &mut super::Link)) {
        if let Some(channel) = self.channels.iter_mut().find(|channel| channel.is(id)) {
            act(channel, &mut self.link);
        }
    }

    /// Opens a channel once the whole order is there. One that is open already stays what it is.
    fn order(&mut self, part: &OrderPart<'_>) {
        let channel = part.channel;
        if self.channels.iter().any(|open| open.is(channel)) {
            return;
        }
        let Some(order) = self.pieces.add(part) else { return };
        let opened = order.map_err(Failure::from).and_then(|order| self.open(channel, &order));
        if let Err(Failure { code, message }) = opened {
            self.link.tell(GuestControl::Failed { channel, code, message: message.into() });
        }
    }

    fn open(&mut self, id: u32, order: &Order) -> Result<(), Failure> {
        self.may_open()?;
        if let Order::StatPath { path } = order {
            let kind = work::stat(&self.ground.root, path)?;
            self.link.tell(GuestControl::StatResult { channel: id, kind });
            return Ok(());
        }
        let mut channel = self.ground.start(id, order)?;
        let pid = channel.program().map_or(0, |program| program.raw_pid());
        self.link.tell(GuestControl::Started { channel: id, pid });
        self.channels.push(channel);
        Ok(())
    }

    fn may_open(&self) -> Result<(), Failure> {
        let wrong = |message| Err(Failure::new(ErrorCode::WrongState, message));
        match self.phase() {
            Phase::Booted => return wrong("the box has not been thawed"),
            Phase::Quiesced => return wrong("the box is frozen"),
            Phase::Stopping => return wrong("the box is stopping"),
            Phase::Running => {}
        }
        let open = self.channels.iter().filter(|channel| channel.is_open()).count();
        if open >= MAX_CHANNELS || self.channels.len() >= MAX_PROCESSES {
            return Err(Failure::new(ErrorCode::Busy, "the box runs too many programs at a time"));
        }
        Ok(())
    }
}
