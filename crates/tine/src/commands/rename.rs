//! `tine rename`

use crate::{args::BoxArg, failure::Outcome, output::Output};
use tine_model::{BoxName, ProjectName, Service};

/// What `rename` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine rename web web-old")]
pub struct Args {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
    /// Its new name in the same project
    pub new_name: BoxName,
}

/// Renames a box and prints its new name.
pub fn run(service: &dyn Service, project: &ProjectName, args: &Args, out: &mut Output) -> Outcome {
    let info = service.rename_box(&args.name.within(project), &args.new_name)?;
    out.name(&info, &info.summary.name)?;
    Ok(0)
}
