//! A user at a terminal: a pseudo-terminal on which commands are typed, and everything it has shown.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use crate::support::{Fixture, eventually};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, kill_process},
    termios::{LocalModes, tcgetattr},
};
use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How often the reader looks whether it should stop.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// How long a command may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal of 31 rows and 97 columns.
pub struct Terminal {
    master: Option<Arc<OwnedFd>>,
    slave: OwnedFd,
    seen: Arc<Mutex<Vec<u8>>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    pub fn new() -> Self {
        let pty = tine_sys::terminal::open_pty(Path::new("/dev/ptmx"), 31, 97).unwrap();
        let master = Arc::new(pty.master);
        let (seen, stop) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<AtomicBool>::default());
        let (from, to, stopped) = (Arc::clone(&master), Arc::clone(&seen), Arc::clone(&stop));
        let reader = std::thread::spawn(move || watch(&from, &to, &stopped));
        Self { master: Some(master), slave: pty.slave, seen, stop, reader: Some(reader) }
    }

    /// Starts a command with the terminal as its streams and its controlling terminal.
    pub fn start(&self, f: &Fixture, args: &[&str]) -> Client {
        self.start_with(f, args, |_| {})
    }

    /// The same, with a last change to the command.
    pub fn start_with(&self, f: &Fixture, args: &[&str], change: impl FnOnce(&mut Command)) -> Client {
        let plain = f.command(args);
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(plain.get_program()).args(plain.get_args()).current_dir(f.dir());
        for (variable, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let stream = || Stdio::from(self.slave.try_clone().unwrap());
        command.stdin(stream()).stdout(stream()).stderr(stream());
        change(&mut command);
        Client { child: command.spawn().unwrap() }
    }

    /// Starts a command and waits until keys go to the program inside.
    pub fn start_raw(&self, f: &Fixture, args: &[&str]) -> Client {
        let client = self.start(f, args);
        eventually("raw mode", || self.is_raw());
        client
    }

    /// Runs a command to its end and gives its code and what it has shown.
    pub fn run(&self, f: &Fixture, args: &[&str]) -> (i32, String) {
        self.settled(0);
        let from = self.mark();
        let code = self.start(f, args).end();
        (code, self.settled(from))
    }

    /// Presses keys; waits while the terminal has no room.
    pub fn press(&self, keys: impl AsRef<[u8]>) {
        let mut rest = keys.as_ref();
        let master = self.master.as_ref().unwrap();
        while !rest.is_empty() {
            let written = rustix::io::write(master, rest).unwrap();
            rest = &rest[written..];
        }
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        tine_sys::terminal::set_size(self.master.as_ref().unwrap().as_fd(), rows, columns).unwrap();
    }

    /// All settings, to compare them.
    pub fn settings(&self) -> String {
        format!("{:?}", tcgetattr(&self.slave).unwrap())
    }

    pub fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Waits until the terminal shows a text.
    pub fn shows(&self, text: &str) {
        self.shows_after(0, text);
    }

    /// Waits until the terminal shows a text later than at a mark.
    pub fn shows_after(&self, mark: usize, text: &str) {
        for _ in 0..1000 {
            if self.text_after(mark).contains(text) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("not shown within ten seconds: {text:?}; but {:?}", self.text());
    }

    /// How much has been shown so far.
    pub fn mark(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.seen.lock().unwrap().clone()
    }

    pub fn text(&self) -> String {
        self.text_after(0)
    }

    fn text_after(&self, mark: usize) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()[mark..]).into_owned()
    }

    /// What has been shown since a mark once nothing more comes.
    pub fn settled(&self, mark: usize) -> String {
        let mut last = usize::MAX;
        while last != self.mark() {
            last = self.mark();
            std::thread::sleep(Duration::from_millis(100));
        }
        self.text_after(mark)
    }

    /// Closes the window: whoever uses the terminal gets SIGHUP.
    pub fn close(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.master = None;
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn watch(master: &OwnedFd, seen: &Mutex<Vec<u8>>, stop: &AtomicBool) {
    let mut buffer = [0; 65536];
    while !stop.load(Ordering::SeqCst) {
        let mut fds = [PollFd::new(master, PollFlags::IN)];
        if poll(&mut fds, Some(&GLANCE)) != Ok(1) {
            continue;
        }
        match rustix::io::read(master, &mut buffer) {
            Ok(read) if read > 0 => seen.lock().unwrap().extend(&buffer[..read]),
            _ => return,
        }
    }
}

/// A command that runs on a terminal; killed when a test fails half-way.
pub struct Client {
    pub child: Child,
}

impl Client {
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end and gives the code; 128+n for a signal.
    pub fn end(mut self) -> i32 {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the command does not end");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
