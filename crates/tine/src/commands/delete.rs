//! `tine delete`

use super::count;
use crate::{args::BoxArg, failure::Outcome, output::Output};
use tine_model::{DeleteBoxReport, ProjectName, Service};

/// What `delete` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tine delete web --dry-run\n  tine delete web --yes")]
pub struct Args {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
    /// Only print what would go
    #[arg(long)]
    pub dry_run: bool,
}

/// Deletes a box and tells what went with it.
pub fn run(service: &dyn Service, project: &ProjectName, args: &Args, out: &mut Output) -> Outcome {
    let name = args.name.within(project);
    if args.dry_run {
        let plan = service.delete_box(&name, true)?;
        out.names(&plan, &names(&plan))?;
        out.say(&format!("would delete {}", what(&plan)));
        return Ok(0);
    }
    if out.permission.will_ask() {
        let plan = service.delete_box(&name, true)?;
        out.permission.get(&format!("Delete {}?", what(&plan)))?;
    } else {
        out.permission.get(&format!("Delete box \"{name}\" and its snapshots?"))?;
    }
    let report = service.delete_box(&name, false)?;
    out.name(&report, &report.name)?;
    out.say(&format!("deleted {}", what(&report)));
    if !report.kept_volumes.is_empty() {
        out.say(&format!("kept its volumes: {}", report.kept_volumes.join(", ")));
    }
    Ok(0)
}

/// The box, then `BOX/SNAPSHOT` for each of its snapshots.
fn names(report: &DeleteBoxReport) -> Vec<String> {
    let snapshots = report.snapshots.iter().map(|s| format!("{}/{s}", report.name));
    std::iter::once(report.name.to_string()).chain(snapshots).collect()
}

fn what(report: &DeleteBoxReport) -> String {
    let running = if report.was_running { "running box" } else { "box" };
    match report.snapshots.len() {
        0 => format!("{running} \"{}\"", report.name),
        1 => format!("{running} \"{}\" and its snapshot", report.name),
        many => format!("{running} \"{}\" and its {}", report.name, count(many, "snapshot")),
    }
}
