//! `tine logs`

use crate::{
    args::BoxArg,
    failure::{Failure, Outcome},
    output::Output,
    progress::Length,
};
use tine_model::{ErrorCode, LogsRequest, ProjectName, Service};

/// What `logs` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine logs web\n  tine logs web --tail 20 --follow\n  tine logs machine --console"
)]
pub struct Args {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
    /// Go on printing as the log grows
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last lines
    #[arg(short = 'n', long, value_name = "LINES")]
    pub tail: Option<u32>,
    /// What the kernel of a vm box wrote to its console instead
    #[arg(long)]
    pub console: bool,
}

/// Prints the output of a box's background programs.
pub fn run(service: &dyn Service, project: &ProjectName, args: &Args, out: &mut Output) -> Outcome {
    let request = LogsRequest { tail: args.tail, follow: args.follow, console: args.console };
    let progress = out.progress(Length::Short);
    let name = args.name.within(project);
    let result = out.live_stream(|stream| service.logs(&name, &request, stream, &progress));
    match result {
        // asking to stop is how one ends following
        Err(Failure::Told(e)) if args.follow && e.code == ErrorCode::Cancelled => Ok(0),
        result => result.map(|()| 0),
    }
}
