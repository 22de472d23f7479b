//! Every command: what it takes, what it asks of the service, what it prints. One file per command.
//!
//! A command converts, asks and prints; rules about boxes belong to the service.

pub mod base;
pub mod check;
pub mod completion;
pub mod cp;
pub mod create;
pub mod delete;
pub mod detach;
pub mod df;
pub mod diff;
pub mod doctor;
pub mod exec;
pub mod fork;
pub mod gc;
pub mod hub;
pub mod image;
pub mod info;
pub mod init;
pub mod kernel;
pub mod key;
pub mod lifecycle;
pub mod list;
pub mod logs;
pub mod pack;
pub mod ps;
pub mod pull;
pub mod push;
pub mod recipe;
pub mod rename;
pub mod shell;
pub mod snapshot;
pub mod unpack;
pub mod update;
pub mod version;
pub mod volume;

use crate::{cli::Command, failure::Outcome, output::Output};
use tine_model::{ProjectName, Service};

/// Runs a command that needs no service; none for the others.
pub fn without_service(command: &Command, out: &mut Output) -> Option<Outcome> {
    match command {
        Command::Completion(args) => Some(completion::run(args, out)),
        Command::Version(_) => Some(version::run(out)),
        _ => None,
    }
}

/// True for a command whose exit code is that of a program in a box, so that 1 cannot mean a failure of Tine.
pub fn runs_a_program(command: &Command) -> bool {
    matches!(command, Command::Exec(_) | Command::Shell(_))
}

/// Runs a command against a service; boxes and volumes named without a project are in `project`.
pub fn run(service: &dyn Service, project: &ProjectName, command: &Command, out: &mut Output) -> Outcome {
    match command {
        Command::Init(args) => init::run(service, args, out),
        Command::Detach(_) => detach::run(service, out),
        Command::Doctor(_) => doctor::run(service, out),
        Command::Df(_) => df::run(service, out),
        Command::Gc(args) => gc::run(service, args, out),
        Command::Check(args) => check::run(service, args, out),
        Command::Create(args) => create::run(service, project, args, out),
        Command::List(args) => list::run(service, project, args, out),
        Command::Info(args) => info::run(service, project, args, out),
        Command::Start(args) => lifecycle::start(service, project, args, out),
        Command::Stop(args) => lifecycle::stop(service, project, args, out),
        Command::Pause(args) => lifecycle::pause(service, project, args, out),
        Command::Resume(args) => lifecycle::resume(service, project, args, out),
        Command::Rename(args) => rename::run(service, project, args, out),
        Command::Delete(args) => delete::run(service, project, args, out),
        Command::Update(args) => update::run(service, project, args, out),
        Command::Exec(args) => exec::run(service, project, args, out),
        Command::Shell(args) => shell::run(service, project, args, out),
        Command::Ps(args) => ps::run(service, project, args, out),
        Command::Logs(args) => logs::run(service, project, args, out),
        Command::Cp(args) => cp::run(service, project, args, out),
        Command::Snapshot(command) => snapshot::run(service, project, command, out),
        Command::Diff(command) => diff::run(service, project, command, out),
        Command::Base(command) => base::run(service, project, command, out),
        Command::Image(command) => image::run(service, project, command, out),
        Command::Images(args) => match &args.hub {
            Some(hub) => hub::list(service, hub.as_deref(), None, out),
            None => image::list(service, out),
        },
        Command::Fork(args) => fork::run(service, project, args, out),
        Command::Pack(args) => pack::run(service, args, out),
        Command::Unpack(args) => unpack::run(service, args, out),
        Command::Pull(args) => pull::run(service, args, out),
        Command::Push(args) => push::run(service, args, out),
        Command::Hub(command) => hub::run(service, command, out),
        Command::Key(command) => key::run(service, command, out),
        Command::Kernel(command) => kernel::run(service, command, out),
        Command::Recipe(command) => recipe::run(service, command, out),
        Command::Volume(command) => volume::run(service, project, command, out),
        Command::Completion(args) => completion::run(args, out),
        Command::Version(_) => version::run(out),
    }
}

/// `3 snapshots`, `1 snapshot`, `2 boxes`.
fn count(number: usize, noun: &str) -> String {
    let ending = match number {
        1 => "",
        _ if noun.ends_with('x') => "es",
        _ => "s",
    };
    format!("{number} {noun}{ending}")
}
