//! `tine snapshot …`: moments of a box, kept and brought back.

mod keep;
mod restore;
mod show;

use crate::{failure::Outcome, output::Output};
use tine_model::{ProjectName, Service};

/// The commands of `snapshot`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Keep the box's root as it is now
    Create(keep::CreateArgs),
    /// List a box's snapshots
    #[command(alias = "ls")]
    List(show::ListArgs),
    /// Show a snapshot
    #[command(alias = "info")]
    Show(show::ShowArgs),
    /// Put a snapshot in the place of the box's root
    Restore(restore::RestoreArgs),
    /// Put back what the last restore replaced
    Undo(restore::UndoArgs),
    /// Give a snapshot another name
    Rename(keep::RenameArgs),
    /// Delete snapshots
    #[command(alias = "rm")]
    Delete(keep::DeleteArgs),
    /// Delete old snapshots by rule
    Prune(keep::PruneArgs),
}

/// Runs a command of `snapshot`.
pub fn run(service: &dyn Service, project: &ProjectName, command: &Command, out: &mut Output) -> Outcome {
    match command {
        Command::Create(args) => keep::create(service, project, args, out),
        Command::List(args) => show::list(service, project, args, out),
        Command::Show(args) => show::show(service, project, args, out),
        Command::Restore(args) => restore::restore(service, project, args, out),
        Command::Undo(args) => restore::undo(service, project, args, out),
        Command::Rename(args) => keep::rename(service, project, args, out),
        Command::Delete(args) => keep::delete(service, project, args, out),
        Command::Prune(args) => keep::prune(service, project, args, out),
    }
}
