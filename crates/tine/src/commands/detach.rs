//! `tine detach`

use super::count;
use crate::{failure::Outcome, output::Output, progress::Length};
use tine_model::Service;

/// What `detach` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine detach --yes")]
pub struct Args {}

/// Stops every box, unmounts the pool and prints the boxes that were running.
pub fn run(service: &dyn Service, out: &mut Output) -> Outcome {
    out.permission.get("Stop every box and unmount the pool?")?;
    let report = service.detach(&out.progress(Length::Long))?;
    let names: Vec<String> = report.stopped.iter().map(|b| format!("{}:{}", b.project, b.name)).collect();
    out.names(&report, &names)?;
    let end = if report.unmounted { "unmounted the pool" } else { "the pool stays where it is, on btrfs" };
    out.say(&format!("stopped {}; {end}", count(report.stopped.len(), "box")));
    Ok(0)
}
