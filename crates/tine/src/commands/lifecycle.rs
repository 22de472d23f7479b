//! `tine start`, `stop`, `pause` and `resume`: what a box is doing.

use crate::{args::BoxArg, failure::Outcome, output::Output};
use serde::Serialize;
use tine_model::{BoxRef, ProjectName, Service, StopBox};

/// What `start` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine start web")]
pub struct StartArgs {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
}

/// What `stop` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine stop web --grace 30")]
pub struct StopArgs {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
    /// Between asking its programs to end and killing them
    #[arg(long, value_name = "SECONDS", default_value_t = StopBox::default().grace_seconds)]
    pub grace: u32,
}

/// What `pause` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine pause web")]
pub struct PauseArgs {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
}

/// What `resume` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine resume web")]
pub struct ResumeArgs {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
}

/// The document of a verb that changes a box and has nothing else to tell.
#[derive(Serialize)]
struct Changed<'a> {
    #[serde(rename = "box")]
    name: &'a BoxRef,
}

fn changed(name: &BoxRef, out: &mut Output) -> Outcome {
    out.name(&Changed { name }, name)?;
    Ok(0)
}

/// Starts a box and prints its name.
pub fn start(service: &dyn Service, project: &ProjectName, args: &StartArgs, out: &mut Output) -> Outcome {
    let info = service.start_box(&args.name.within(project))?;
    out.name(&info, &info.summary.name)?;
    Ok(0)
}

/// Stops a box and prints its name.
pub fn stop(service: &dyn Service, project: &ProjectName, args: &StopArgs, out: &mut Output) -> Outcome {
    let name = args.name.within(project);
    service.stop_box(&name, &StopBox { grace_seconds: args.grace })?;
    changed(&name, out)
}

/// Freezes a box and prints its name.
pub fn pause(service: &dyn Service, project: &ProjectName, args: &PauseArgs, out: &mut Output) -> Outcome {
    let name = args.name.within(project);
    service.pause_box(&name)?;
    changed(&name, out)
}

/// Thaws a box and prints its name.
pub fn resume(service: &dyn Service, project: &ProjectName, args: &ResumeArgs, out: &mut Output) -> Outcome {
    let name = args.name.within(project);
    service.resume_box(&name)?;
    changed(&name, out)
}
