//! A host for tests: the other end of the link, which hears everything and remembers it.

use std::{
    collections::HashMap,
    io::{Read, Write},
    ops::{Deref, DerefMut},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};
use tine_agent::{
    frame::Decoder,
    message::{
        Credit, Data, Entropy, Eof, ExecOrder, GuestControl, GuestMessage, HostControl, HostMessage,
        Identity, MAX_DATA, Order, PROTOCOL, Phase, Stream,
    },
    window::{Intake, WINDOW, Window},
};
use tine_model::ExecRequest;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was heard of one channel.
#[derive(Debug, Default)]
pub struct Heard {
    pub out: Vec<u8>,
    pub err: Vec<u8>,
    /// Streams that have ended.
    pub ended: Vec<u8>,
    /// Of the output and error, as long as credit is given at once.
    intakes: HashMap<u8, Intake>,
    pub input: Window,
    pub started: Option<u32>,
    pub end: Option<End>,
}

/// How a channel ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Exited(u8),
    Failed(tine_model::ErrorCode, String),
    Stat(tine_model::PathKind),
}

/// The host's end of a link.
pub struct TestHost {
    link: UnixStream,
    decoder: Decoder,
    pub channels: HashMap<u32, Heard>,
    /// Channels of a host that does not keep to the windows: their data is kept but not acknowledged.
    pub slow: Vec<u32>,
    pub log: Vec<u8>,
    pub controls: Vec<GuestControl>,
    /// The nonce whose acknowledgement has come.
    session: Option<u64>,
}

/// An agent that is an ordinary process, with its host. It dies with it.
pub struct TestAgent {
    host: TestHost,
    pub dir: tempfile::TempDir,
    process: Child,
}

impl Deref for TestAgent {
    type Target = TestHost;
    fn deref(&self) -> &TestHost {
        &self.host
    }
}

impl DerefMut for TestAgent {
    fn deref_mut(&mut self) -> &mut TestHost {
        &mut self.host
    }
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl TestAgent {
    /// One that has been greeted, and runs programs.
    pub fn running() -> Self {
        let mut agent = Self::silent();
        assert_eq!(agent.hello(1), Phase::Booted);
        agent.thaw();
        agent
    }

    /// One to which nothing has been said.
    pub fn silent() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["root", "files"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let (link, theirs) = UnixStream::pair().unwrap();
        let process = Command::new(agent_program())
            .args([dir.path().join("root"), dir.path().join("files")])
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .unwrap();
        Self { host: TestHost::over(link), dir, process }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub fn files(&self) -> PathBuf {
        self.dir.path().join("files")
    }

    pub fn agent_pid(&self) -> u32 {
        self.process.id()
    }
}

impl TestHost {
    /// The host of whatever is at the other end.
    pub fn over(link: UnixStream) -> Self {
        link.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Self {
            link,
            decoder: Decoder::new(),
            channels: HashMap::new(),
            slow: Vec::new(),
            log: Vec::new(),
            controls: Vec::new(),
            session: None,
        }
    }

    /// Says something and hears until the answer has come; gives the answer.
    pub fn ask(&mut self, control: &HostControl) -> GuestControl {
        self.controls.clear();
        self.say(control);
        let answer = |control: &&GuestControl| {
            !matches!(
                control,
                GuestControl::Started { .. } | GuestControl::Exited { .. } | GuestControl::Failed { .. }
            )
        };
        self.until("answered", |host| host.controls.iter().any(|control| answer(&control)));
        self.controls.iter().find(answer).unwrap().clone()
    }

    pub fn thaw(&mut self) {
        assert_eq!(self.ask(&HostControl::Thaw), GuestControl::Thawed);
    }

    /// Begins a session; what was heard before is forgotten.
    pub fn hello(&mut self, nonce: u64) -> Phase {
        self.session = None;
        self.send_raw(&[0]);
        self.say(&HostControl::Hello { nonce, protocol: PROTOCOL });
        self.until("acknowledged", |host| host.session == Some(nonce));
        match self.controls.as_slice() {
            [.., GuestControl::HelloAck { protocol: PROTOCOL, phase, .. }] => *phase,
            other => panic!("{other:?}"),
        }
    }

    /// Listens without a session.
    pub fn begin(&mut self) {
        self.session = Some(0);
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.link.write_all(bytes).unwrap();
    }

    pub fn send(&mut self, message: &HostMessage<'_>) {
        let mut frame = Vec::new();
        message.append(&mut frame).unwrap();
        self.send_raw(&frame);
    }

    pub fn say(&mut self, control: &HostControl) {
        self.send(&HostMessage::Control(control.clone()));
    }

    pub fn open(&mut self, channel: u32, order: &Order) {
        self.channels.insert(channel, Heard::default());
        let mut frames = Vec::new();
        order.append(channel, &mut frames).unwrap();
        self.send_raw(&frames);
    }

    /// Runs a shell script on a channel; its input is a pipe.
    pub fn sh(&mut self, channel: u32, script: &str) {
        self.open(channel, &exec(request(&["sh", "-c", script])));
    }

    pub fn eof(&mut self, channel: u32) {
        self.send(&HostMessage::Eof(Eof { channel, stream: 0 }));
    }

    /// Sends as much of `bytes` as the window allows; gives how much.
    pub fn feed(&mut self, channel: u32, bytes: &[u8]) -> usize {
        let window = &mut self.channels.get_mut(&channel).unwrap().input;
        let count = bytes.len().min(window.available()).min(MAX_DATA);
        window.sent(count);
        if count > 0 {
            self.send(&HostMessage::Data(Data { channel, stream: 0, bytes: &bytes[..count] }));
        }
        count
    }

    /// Acknowledges everything of an output that was kept back.
    pub fn acknowledge(&mut self, channel: u32) {
        let heard = self.channel(channel);
        let bytes = heard.intakes.entry(1).or_default().passed_on(heard.out.len());
        self.send(&HostMessage::Credit(Credit { channel, stream: 1, bytes }));
    }

    /// Closes the link.
    pub fn hang_up(&mut self) {
        self.link.shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// Hears what comes within a moment.
    pub fn hear(&mut self) {
        let mut buffer = vec![0; 64 << 10];
        let length = match self.link.read(&mut buffer) {
            Ok(0) => panic!("the agent has closed the link"),
            Ok(length) => length,
            Err(_) => return,
        };
        let mut decoder = std::mem::take(&mut self.decoder);
        let mut bytes = &buffer[..length];
        while let Some(payload) = decoder.next(&mut bytes) {
            self.take(GuestMessage::parse(payload).unwrap());
        }
        self.decoder = decoder;
    }

    fn take(&mut self, message: GuestMessage<'_>) {
        if let GuestMessage::Control(GuestControl::HelloAck { nonce, .. }) = &message {
            self.channels.clear();
            self.session = Some(*nonce);
        }
        if self.session.is_none() {
            return;
        }
        match message {
            GuestMessage::Control(control) => self.take_control(control),
            GuestMessage::Log(bytes) => self.log.extend(bytes),
            GuestMessage::Data(data) => self.take_data(data),
            GuestMessage::Eof(eof) => self.channel(eof.channel).ended.push(eof.stream),
            GuestMessage::Credit(credit) => {
                assert_eq!(credit.stream, 0);
                let counted = self.channel(credit.channel).input.returned(credit.bytes);
                assert!(counted.is_ok() || self.slow.contains(&credit.channel), "{counted:?}");
            }
        }
    }

    fn channel(&mut self, channel: u32) -> &mut Heard {
        self.channels.get_mut(&channel).unwrap_or_else(|| panic!("channel {channel} is not open"))
    }

    fn take_data(&mut self, data: Data<'_>) {
        let slow = self.slow.contains(&data.channel);
        let heard = self.channel(data.channel);
        assert!(!heard.ended.contains(&data.stream) && heard.end.is_none(), "data after its end");
        if data.stream == 1 {
            heard.out.extend(data.bytes)
        } else {
            heard.err.extend(data.bytes)
        }
        let intake = heard.intakes.entry(data.stream).or_default();
        intake.came(data.bytes.len()).unwrap();
        let bytes = if slow { 0 } else { intake.passed_on(data.bytes.len()) };
        if bytes > 0 {
            let Data { channel, stream, .. } = data;
            self.send(&HostMessage::Credit(Credit { channel, stream, bytes }));
        }
    }

    fn take_control(&mut self, control: GuestControl) {
        match control.clone() {
            GuestControl::Started { channel, pid } => self.channel(channel).started = Some(pid),
            GuestControl::Exited { channel, code } => self.channel(channel).end = Some(End::Exited(code)),
            GuestControl::Failed { channel, code, message } => {
                self.channel(channel).end = Some(End::Failed(code, message.to_string()));
            }
            GuestControl::StatResult { channel, kind } => {
                self.channel(channel).end = Some(End::Stat(kind));
            }
            _ => {}
        }
        self.controls.push(control);
    }

    /// Hears until something is so.
    pub fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !so(self) {
            assert!(Instant::now() < end, "never {what}: {:?} {:?}", self.controls, self.channels);
            self.hear();
        }
    }

    /// Hears until a channel has ended, and tells how.
    pub fn end(&mut self, channel: u32) -> End {
        self.until("ended", |host| host.channels[&channel].end.is_some());
        self.channels[&channel].end.clone().unwrap()
    }

    /// Hears until a channel has said something.
    pub fn until_said(&mut self, channel: u32, text: &str) {
        self.until(text, |host| host.out(channel).contains(text));
    }

    pub fn out(&self, channel: u32) -> String {
        String::from_utf8_lossy(&self.channels[&channel].out).into_owned()
    }

    pub fn err(&self, channel: u32) -> String {
        String::from_utf8_lossy(&self.channels[&channel].err).into_owned()
    }
}

/// A request for a program with nothing special.
pub fn request(argv: &[&str]) -> ExecRequest {
    ExecRequest::of(argv.iter().map(|a| (*a).to_owned()).collect())
}

/// An order for it; a background program's streams are nothing and the log.
pub fn exec(request: ExecRequest) -> Order {
    let streams =
        if request.background { [Stream::Null, Stream::Log, Stream::Log] } else { [Stream::Piped; 3] };
    Order::Exec(Box::new(ExecOrder { request, env: vec!["BOX=here".parse().unwrap()], streams }))
}

/// Somebody to be.
pub fn identity(name: &str) -> Identity {
    Identity {
        wall_clock_ns: 1,
        entropy: Entropy::new(vec![1; 32]).unwrap(),
        machine_id: "0123456789abcdef0123456789abcdef".parse().unwrap(),
        hostname: name.parse().unwrap(),
        hosts: format!("127.0.0.1 {name}\n"),
        resolv_conf: "nameserver 10.0.0.1\n".to_owned(),
        network: None,
    }
}

/// Waits for something outside the agent.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "never so: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// True when a process runs; one that is dead but not reaped does not.
pub fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// As much as fits a window, and a little more.
pub fn more_than_a_window() -> usize {
    WINDOW as usize + 1
}

fn agent_program() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    Path::new(&path).join("examples/agent")
}
