//! `tine base …`: templates that boxes are made from.

mod delete;
mod export;
mod import;
mod show;
mod write;

use crate::{failure::Outcome, output::Output};
use tine_model::{ProjectName, Service};

/// The commands of `base`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List bases
    #[command(alias = "ls")]
    List(show::ListArgs),
    /// Show a base, its versions and how they were built
    #[command(visible_alias = "show")]
    Info(show::InfoArgs),
    /// Build a Dockerfile as a new version
    Build(write::BuildArgs),
    /// Build a maintained definition, unless that very one is there
    Install(write::InstallArgs),
    /// Build a maintained definition again
    Update(write::UpdateArgs),
    /// Make a box's root a new version
    Save(write::SaveArgs),
    /// Read a tar as a new version
    Import(import::Args),
    /// Write a version as a tar
    Export(export::Args),
    /// Delete an alias or a version
    #[command(alias = "rm")]
    Delete(delete::Args),
}

/// Runs a command of `base`.
pub fn run(service: &dyn Service, project: &ProjectName, command: &Command, out: &mut Output) -> Outcome {
    match command {
        Command::List(_) => show::list(service, out),
        Command::Info(args) => show::info(service, args, out),
        Command::Build(args) => write::build(service, args, out),
        Command::Install(args) => write::install(service, &args.name, false, out),
        Command::Update(args) => write::install(service, &args.name, true, out),
        Command::Save(args) => write::save(service, project, args, out),
        Command::Import(args) => import::run(service, args, out),
        Command::Export(args) => export::run(service, args, out),
        Command::Delete(args) => delete::run(service, args, out),
    }
}
