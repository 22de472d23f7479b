//! `tine base build`, `install`, `update` and `save`: verbs that write a new version.

use crate::{
    args::{BoxArg, absolute},
    failure::Outcome,
    output::Output,
};
use std::path::PathBuf;
use tine_model::{
    BaseAlias, BuildBase, BuildEngine, InstallBase, ProjectName, SaveBase, Service, WrittenBase,
};

/// What `base build` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine base build web .\n  tine base build web -f deploy/Dockerfile --engine podman ."
)]
pub struct BuildArgs {
    /// The base to write
    pub name: BaseAlias,
    /// The Dockerfile [default: Dockerfile in the folder]
    #[arg(short, long, value_name = "DOCKERFILE")]
    pub file: Option<PathBuf>,
    /// docker, podman or nerdctl [default: the first that answers]
    #[arg(long)]
    pub engine: Option<BuildEngine>,
    /// The folder to build
    #[arg(default_value = ".")]
    pub dir: PathBuf,
}

/// What `base install` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine base install box-base")]
pub struct InstallArgs {
    /// The maintained definition
    pub name: BaseAlias,
}

/// What `base update` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine base update box-base")]
pub struct UpdateArgs {
    /// The maintained definition
    pub name: BaseAlias,
}

/// What `base save` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine base save my-base web")]
pub struct SaveArgs {
    /// The base to write
    #[arg(value_name = "NEWBASE")]
    pub name: BaseAlias,
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub source: BoxArg,
}

/// Builds a Dockerfile and prints the new version.
pub fn build(service: &dyn Service, args: &BuildArgs, out: &mut Output) -> Outcome {
    let request = BuildBase {
        name: args.name.clone(),
        context_dir: absolute(&args.dir)?,
        dockerfile: args.file.as_deref().map(absolute).transpose()?,
        engine: args.engine,
    };
    let written = out.long_work(|progress| service.build_base(&request, progress))?;
    report(&written, out)
}

/// Builds a maintained definition and prints its version.
pub fn install(service: &dyn Service, name: &BaseAlias, rebuild: bool, out: &mut Output) -> Outcome {
    let request = InstallBase { name: name.clone(), rebuild };
    let written = out.long_work(|progress| service.install_base(&request, progress))?;
    report(&written, out)
}

/// Makes a box's root a base and prints the new version.
pub fn save(service: &dyn Service, project: &ProjectName, args: &SaveArgs, out: &mut Output) -> Outcome {
    let request = SaveBase { name: args.name.clone(), source: args.source.within(project) };
    let written = out.long_work(|progress| service.save_base(&request, progress))?;
    report(&written, out)
}

/// Prints the version a verb wrote, or found.
pub fn report(written: &WrittenBase, out: &mut Output) -> Outcome {
    let version = &written.version;
    out.name(written, &version.name)?;
    out.say(&match written.created {
        true => format!("base {} is now {} ({})", written.alias, version.name, version.size_bytes),
        false => format!("base {} is {}, made by the same script", written.alias, version.name),
    });
    Ok(0)
}
