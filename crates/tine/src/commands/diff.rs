//! `tine diff status` and `tine diff file`

use crate::{args::BoxArg, failure::Outcome, output::Output};
use std::{ffi::OsString, os::unix::ffi::OsStrExt as _};
use tine_model::{
    ChangeKind, DiffFileRequest, DiffStatus, DiffStatusRequest, FileStatus, ProjectName, RawPath, Service,
    SnapshotName,
};

/// The commands of `diff`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the paths that differ from a snapshot
    Status(StatusArgs),
    /// Show how one file differs from a snapshot
    File(FileArgs),
}

/// What `diff status` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tine diff status web\n  tine diff status web --against v0 --to v1")]
pub struct StatusArgs {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
    /// The older side [default: the most recent snapshot]
    #[arg(long, value_name = "SNAPSHOT")]
    pub against: Option<SnapshotName>,
    /// The newer side [default: the box as it is now]
    #[arg(long, value_name = "SNAPSHOT")]
    pub to: Option<SnapshotName>,
}

/// What `diff file` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine diff file web /etc/motd --against v0")]
pub struct FileArgs {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
    /// The path in the box
    pub path: OsString,
    /// The older side [default: the most recent snapshot]
    #[arg(long, value_name = "SNAPSHOT")]
    pub against: Option<SnapshotName>,
    /// The newer side [default: the box as it is now]
    #[arg(long, value_name = "SNAPSHOT")]
    pub to: Option<SnapshotName>,
}

/// Runs a command of `diff`.
pub fn run(service: &dyn Service, project: &ProjectName, command: &Command, out: &mut Output) -> Outcome {
    match command {
        Command::Status(args) => status(service, project, args, out),
        Command::File(args) => file(service, project, args, out),
    }
}

fn status(service: &dyn Service, project: &ProjectName, args: &StatusArgs, out: &mut Output) -> Outcome {
    let request = DiffStatusRequest { against: args.against.clone(), to: args.to.clone() };
    let diff = service.diff_status(&args.name.within(project), &request)?;
    let names: Vec<String> = diff.lines().iter().map(|(_, path)| path.to_string()).collect();
    out.present(&diff, names, |out| changes(&diff, out))?;
    Ok(0)
}

fn changes(diff: &DiffStatus, out: &mut Output) -> Outcome<()> {
    if diff.is_empty() {
        return out.line("No changes");
    }
    diff.lines().into_iter().try_for_each(|(kind, path)| out.line(&format!("{} {path}", mark(kind))))
}

fn mark(kind: ChangeKind) -> char {
    match kind {
        ChangeKind::Added => '+',
        ChangeKind::Modified => '~',
        ChangeKind::Deleted => '-',
    }
}

fn file(service: &dyn Service, project: &ProjectName, args: &FileArgs, out: &mut Output) -> Outcome {
    let request = DiffFileRequest {
        path: RawPath::new(args.path.as_bytes()),
        against: args.against.clone(),
        to: args.to.clone(),
    };
    let diff = service.diff_file(&args.name.within(project), &request)?;
    let word = word(diff.status);
    out.present(&diff, [word.to_owned()], |out| match (diff.status, &diff.diff) {
        (FileStatus::Modified, Some(text)) => out.lines(text),
        _ => out.line(word),
    })?;
    Ok(0)
}

fn word(status: FileStatus) -> &'static str {
    match status {
        FileStatus::Added => "added",
        FileStatus::Deleted => "deleted",
        FileStatus::Modified => "modified",
        FileStatus::Unchanged => "unchanged",
    }
}
