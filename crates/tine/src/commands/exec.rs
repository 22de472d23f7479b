//! `tine exec`, and what `shell` shares with it: the caller's streams, terminal and signals for a program in a box.

use crate::{
    args::BoxArg,
    failure::{Outcome, local_error, usage},
    interrupt::is_ignored,
    output::Output,
    terminal::{self, LeaveOnDrop, RawMode},
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH},
    iterator::Signals,
    low_level::emulate_default_handler,
};
use std::{
    io,
    path::Path,
    sync::mpsc::{self, Receiver, Sender},
};
use tine_model::{
    BoxRef, EnvVar, ExecEvent, ExecOutcome, ExecRequest, ExecStreams, ProjectName, Result, Service,
};

/// What `exec` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tine exec web -- ls -l /
  tine exec web --user www-data --env LANG=C --wd /srv -- make
  tine exec -it web bash
  tine exec web --bg -- sleep 600")]
pub struct Args {
    /// The box, BOX or PROJECT:BOX; it is started if it is stopped
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
    /// User in the box: NAME, UID, NAME:GROUP or UID:GID [default: root]
    #[arg(short, long)]
    pub user: Option<String>,
    /// Set a variable
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub env: Vec<EnvVar>,
    /// Folder in the box [default: the user's home]
    #[arg(short, long, value_name = "DIR", visible_alias = "workdir")]
    pub wd: Option<String>,
    /// Give it this command's input
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Leave it running and print its process id; its output goes to the box's log
    #[arg(long, conflicts_with_all = ["interactive", "tty"])]
    pub bg: bool,
    /// End it after so long; the exit code is then 124
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u32>,
    /// The program and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    pub command: Vec<String>,
}

/// Runs a program in a box and ends with its exit code.
pub fn run(service: &dyn Service, project: &ProjectName, args: &Args, out: &mut Output) -> Outcome {
    let request = ExecRequest {
        argv: args.command.clone(),
        env: args.env.clone(),
        user: args.user.clone(),
        working_dir: args.wd.clone(),
        tty: None,
        background: args.bg,
        timeout_seconds: args.timeout,
    };
    attach(
        service,
        &args.name.within(project),
        request,
        Attached { input: args.interactive, tty: args.tty },
        out,
    )
}

/// What of the caller a program is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// Its input.
    pub input: bool,
    /// Its terminal.
    pub tty: bool,
}

/// Runs `request` with the caller's streams; signals, or the window's size, go to the program.
pub fn attach(
    service: &dyn Service,
    name: &BoxRef,
    mut request: ExecRequest,
    attached: Attached,
    out: &mut Output,
) -> Outcome {
    if attached.tty {
        if !terminal::stdin_is_terminal() {
            return Err(usage("the input device is not a terminal")
                .hint(format!("tine exec -i {name} -- …"))
                .into());
        }
        request.env = with_terminal_kind(request.env);
    }
    // from here on no signal is missed: not one that ends raw mode, nor a window that changes after it was measured
    let signals = (!request.background).then(|| listen(attached.tty)).transpose()?;
    request.tty = attached.tty.then(terminal::window_size);
    let raw = (attached.tty && attached.input).then(RawMode::enter).transpose()?;
    let guard = raw.clone().map(LeaveOnDrop);
    let streams = ExecStreams {
        stdin: attached.input.then(|| terminal::copy_of(io::stdin(), "stdin")).transpose()?,
        stdout: terminal::copy_of(io::stdout(), "stdout")?,
        stderr: terminal::copy_of(io::stderr(), "stderr")?,
        events: events(signals, raw),
    };
    let outcome = service.exec(name, &request, streams);
    drop(guard);
    report(&outcome?, out)
}

fn report(outcome: &ExecOutcome, out: &mut Output) -> Outcome {
    match outcome {
        ExecOutcome::Exited { code } => Ok(*code),
        ExecOutcome::Started { pid } => {
            out.name(outcome, pid)?;
            Ok(0)
        }
    }
}

/// `TERM` of the user's terminal for the program that will draw on it, unless one was given.
fn with_terminal_kind(mut env: Vec<EnvVar>) -> Vec<EnvVar> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    let kind = std::env::var("TERM").ok().filter(|t| !t.is_empty() && t.chars().all(plain));
    if let (Some(value), false) = (kind, env.iter().any(|v| v.key == "TERM")) {
        env.push(EnvVar { key: "TERM".to_owned(), value });
    }
    env
}

/// Takes over the signals that are meant for the program.
fn listen(tty: bool) -> Result<Signals> {
    let mut wanted = vec![SIGINT, SIGTERM, SIGHUP, SIGQUIT];
    wanted.extend(if tty { vec![SIGWINCH] } else { vec![SIGUSR1, SIGUSR2] });
    wanted.retain(|signal| !is_ignored(*signal));
    Signals::new(wanted).map_err(|e| local_error("listening to", Path::new("signals"), &e))
}

/// Signals and window sizes for the program, from a thread that lives as long as the process. None for a background
/// program, which outlives this command: signals to it are not signals to the program.
fn events(signals: Option<Signals>, raw: Option<RawMode>) -> Receiver<ExecEvent> {
    let (sender, receiver) = mpsc::channel();
    if let Some(signals) = signals {
        std::thread::spawn(move || forward(signals, &sender, raw.as_ref()));
    }
    receiver
}

fn forward(mut signals: Signals, sender: &Sender<ExecEvent>, raw: Option<&RawMode>) {
    for signal in signals.forever() {
        let event = match (signal, raw) {
            (SIGWINCH, _) => ExecEvent::Resize(terminal::window_size()),
            // keys reach the program through its terminal, so this signal is meant for this very process
            (_, Some(raw)) => {
                raw.leave();
                let _ = emulate_default_handler(signal);
                return;
            }
            (_, None) => ExecEvent::Signal(signal),
        };
        if sender.send(event).is_err() {
            return;
        }
    }
}
