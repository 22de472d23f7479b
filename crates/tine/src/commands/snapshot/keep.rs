//! `tine snapshot create`, `rename`, `delete` and `prune`: which snapshots there are.

use super::super::count;
use crate::{
    args::BoxArg,
    failure::{Outcome, usage},
    figures,
    output::Output,
    progress::Length,
};
use serde::Serialize;
use tine_model::{BoxRef, CreateSnapshot, ProjectName, PruneReport, PruneSnapshots, Service, SnapshotName};

/// What `snapshot create` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine snapshot create web\n  tine snapshot create web good -m 'before the upgrade'\n  tine snapshot create machine --live"
)]
pub struct CreateArgs {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
    /// The snapshot [default: v0, v1, …]
    #[arg(value_name = "NAME")]
    pub positional: Option<SnapshotName>,
    /// The snapshot; wins over NAME
    #[arg(long = "name", value_name = "NAME")]
    pub flag: Option<SnapshotName>,
    /// One line about it
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Also keep memory and devices of a running vm box: a restore goes on from this instant
    #[arg(long)]
    pub live: bool,
}

/// What `snapshot rename` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine snapshot rename web v0 good")]
pub struct RenameArgs {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
    /// The snapshot
    #[arg(value_name = "OLD")]
    pub snapshot: SnapshotName,
    /// Its new name
    #[arg(value_name = "NEW")]
    pub new_name: SnapshotName,
}

/// What `snapshot delete` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine snapshot delete web v0 v1 --dry-run\n  tine snapshot delete web v0 v1 --yes"
)]
pub struct DeleteArgs {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
    /// The snapshots
    #[arg(value_name = "NAME", required = true)]
    pub snapshots: Vec<SnapshotName>,
    /// Only print what would go
    #[arg(long)]
    pub dry_run: bool,
}

/// What `snapshot prune` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine snapshot prune web --keep-last 3 --dry-run\n  tine snapshot prune web --keep-last 3 --keep-daily 7 --yes"
)]
pub struct PruneArgs {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
    /// Keep so many of the newest
    #[arg(long, value_name = "N")]
    pub keep_last: Option<u32>,
    /// Keep the newest of each of so many days that have one
    #[arg(long, value_name = "N")]
    pub keep_daily: Option<u32>,
    /// Only print what would go
    #[arg(long)]
    pub dry_run: bool,
}

/// Takes a snapshot and prints its name.
pub fn create(service: &dyn Service, project: &ProjectName, args: &CreateArgs, out: &mut Output) -> Outcome {
    let request = CreateSnapshot {
        name: args.flag.clone().or_else(|| args.positional.clone()),
        description: args.message.clone().unwrap_or_default(),
        live: args.live,
    };
    let info = service.create_snapshot(&args.name.within(project), &request, &out.progress(Length::Short))?;
    out.name(&info, &info.name)?;
    if let Some(us) = info.pause_us {
        out.say(&format!("note: the box stood still for {}", figures::duration(us)));
    }
    if !info.missing_subvolumes.is_empty() {
        let paths = info.missing_subvolumes.join(", ");
        out.say(&format!("note: nested subvolumes are only empty folders in it: {paths}"));
    }
    Ok(0)
}

/// Renames a snapshot and prints its new name.
pub fn rename(service: &dyn Service, project: &ProjectName, args: &RenameArgs, out: &mut Output) -> Outcome {
    let info = service.rename_snapshot(&args.name.within(project), &args.snapshot, &args.new_name)?;
    out.name(&info, &info.name)?;
    Ok(0)
}

/// The document of `snapshot delete`.
#[derive(Serialize)]
struct Deleted<'a> {
    #[serde(rename = "box")]
    name: &'a BoxRef,
    dry_run: bool,
    removed: &'a [SnapshotName],
}

/// Deletes snapshots and prints their names.
pub fn delete(service: &dyn Service, project: &ProjectName, args: &DeleteArgs, out: &mut Output) -> Outcome {
    let name = args.name.within(project);
    if args.dry_run {
        // each must exist, as it must for the deletion itself
        args.snapshots.iter().try_for_each(|s| service.snapshot_info(&name, s).map(|_| ()))?;
    } else {
        let what = count(args.snapshots.len(), "snapshot");
        out.permission.get(&format!("Delete {what} of box \"{name}\": {}?", list(&args.snapshots)))?;
        service.delete_snapshots(&name, &args.snapshots)?;
    }
    let document = Deleted { name: &name, dry_run: args.dry_run, removed: &args.snapshots };
    out.names(&document, &args.snapshots)?;
    Ok(0)
}

/// Deletes snapshots by rule and prints their names.
pub fn prune(service: &dyn Service, project: &ProjectName, args: &PruneArgs, out: &mut Output) -> Outcome {
    if args.keep_last.is_none() && args.keep_daily.is_none() {
        let hint = "tine snapshot prune BOX --keep-last 3 --dry-run";
        return Err(usage("at least one of --keep-last and --keep-daily must be given").hint(hint).into());
    }
    let name = args.name.within(project);
    let request =
        |dry_run| PruneSnapshots { keep_last: args.keep_last, keep_daily: args.keep_daily, dry_run };
    if !args.dry_run && out.permission.will_ask() {
        let plan = service.prune_snapshots(&name, &request(true))?;
        if plan.removed.is_empty() {
            return report(&PruneReport { dry_run: false, ..plan }, out);
        }
        let what = count(plan.removed.len(), "snapshot");
        out.permission.get(&format!("Delete {what} of box \"{name}\": {}?", list(&plan.removed)))?;
    } else if !args.dry_run {
        out.permission.get(&format!("Delete the snapshots of box \"{name}\" that no rule keeps?"))?;
    }
    report(&service.prune_snapshots(&name, &request(args.dry_run))?, out)
}

fn report(report: &PruneReport, out: &mut Output) -> Outcome {
    out.names(report, &report.removed)?;
    let verb = if report.dry_run { "would delete" } else { "deleted" };
    out.say(&format!("{verb} {}, kept {}", count(report.removed.len(), "snapshot"), report.kept.len()));
    Ok(0)
}

fn list(names: &[SnapshotName]) -> String {
    names.iter().map(SnapshotName::as_str).collect::<Vec<_>>().join(", ")
}
