//! `tine snapshot restore` and `tine snapshot undo`: back, or forward again.

use crate::{args::BoxArg, failure::Outcome, output::Output, progress::Length};
use tine_model::{BoxRef, ProjectName, RestoreReport, RestoreSnapshot, Service, SnapshotName};

/// What `snapshot restore` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine snapshot restore web v0\n  tine snapshot restore web v0 --keep-as broken"
)]
pub struct RestoreArgs {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
    /// The snapshot
    #[arg(value_name = "NAME")]
    pub snapshot: SnapshotName,
    /// Keep what is there now as a snapshot of this name
    #[arg(long, value_name = "NAME")]
    pub keep_as: Option<SnapshotName>,
}

/// What `snapshot undo` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine snapshot undo web")]
pub struct UndoArgs {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
}

/// Restores a snapshot, prints its name and tells what was not touched and how to go back.
pub fn restore(
    service: &dyn Service,
    project: &ProjectName,
    args: &RestoreArgs,
    out: &mut Output,
) -> Outcome {
    let name = args.name.within(project);
    let request = RestoreSnapshot { name: args.snapshot.clone(), keep_as: args.keep_as.clone() };
    let report = service.restore_snapshot(&name, &request, &out.progress(Length::Short))?;
    out.name(&report, &args.snapshot)?;
    tell(&name, &report, out);
    out.say(&format!("note: to go back: tine snapshot undo {name}"));
    Ok(0)
}

/// Goes back to before the last restore.
pub fn undo(service: &dyn Service, project: &ProjectName, args: &UndoArgs, out: &mut Output) -> Outcome {
    let name = args.name.within(project);
    let report = service.undo_restore(&name, &out.progress(Length::Short))?;
    out.name(&report, &name)?;
    tell(&name, &report, out);
    Ok(0)
}

fn tell(name: &BoxRef, report: &RestoreReport, out: &mut Output) {
    if report.resumed {
        out.say(&format!("note: box {name} goes on from the instant of the snapshot"));
    } else if report.restarted {
        out.say(&format!("note: box {name} was running and was started again"));
    }
    if !report.untouched_volumes.is_empty() {
        out.say(&format!("note: volumes are not touched: {}", report.untouched_volumes.join(", ")));
    }
    if let Some(kept) = &report.kept_as {
        out.say(&format!("note: what was there before is kept as snapshot {kept}"));
    }
}
