//! `tine gc`

use super::count;
use crate::{failure::Outcome, output::Output};
use tine_model::Service;

/// What `gc` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine gc --dry-run")]
pub struct Args {
    /// Only print what would go
    #[arg(long)]
    pub dry_run: bool,
}

/// Removes what nothing refers to and prints each thing.
pub fn run(service: &dyn Service, args: &Args, out: &mut Output) -> Outcome {
    let report = out.long_work(|progress| service.gc(args.dry_run, progress))?;
    out.names(&report, &report.removed)?;
    let verb = if report.dry_run { "would remove" } else { "removed" };
    out.say(&format!("{verb} {}", count(report.removed.len(), "thing")));
    Ok(0)
}
