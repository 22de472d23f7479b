//! `tine image …`: warmed machines, what `fork` multiplies.

mod bake;
mod delete;
mod show;

pub use show::{ImagesArgs, list};

use crate::{failure::Outcome, output::Output};
use tine_model::{ImageTag, ProjectName, Service};

/// The commands of `image`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Boot a machine, warm it up and freeze it
    Bake(Box<bake::Args>),
    /// List images
    #[command(alias = "ls")]
    List(show::ListArgs),
    /// Show an image and what a host must offer for it
    #[command(alias = "info")]
    Show(show::ShowArgs),
    /// Delete images; boxes made from them stay
    #[command(alias = "rm")]
    Delete(delete::Args),
    /// Give an image another tag
    Rename(RenameArgs),
}

/// What `image rename` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine image rename python-numpy numpy-2.1")]
pub struct RenameArgs {
    /// The image
    #[arg(value_name = "TAG")]
    pub tag: ImageTag,
    /// Its new tag
    #[arg(value_name = "NEW")]
    pub new_tag: ImageTag,
}

/// Runs a command of `image`.
pub fn run(service: &dyn Service, project: &ProjectName, command: &Command, out: &mut Output) -> Outcome {
    match command {
        Command::Bake(args) => bake::run(service, project, args, out),
        Command::List(_) => show::list(service, out),
        Command::Show(args) => show::show(service, args, out),
        Command::Delete(args) => delete::run(service, args, out),
        Command::Rename(args) => {
            let info = service.rename_image(&args.tag, &args.new_tag)?;
            out.name(&info, &info.tag)?;
            Ok(0)
        }
    }
}
