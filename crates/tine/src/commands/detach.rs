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
    let names = report.stopped.iter().map(|b| format!("{}:{}", b.project, b.name));
    out.present(&report, names.clone().collect::<Vec<_>>(), |out| names.into_iter().try_for_each(|n| out.line(&n)))?;
    let end = if report.unmounted { "unmounted the pool" } else { "the pool stays where it is, on btrfs" };
    match report.stopped.len() {
        0 => out.say(end),
        stopped if stopped == 1 => out.say(&format!("stopped 1 box; {end}")),
        stopped => out.say(&format!("stopped {}; {end}", count(stopped, "boxe"))),
    }
    Ok(0)
}
