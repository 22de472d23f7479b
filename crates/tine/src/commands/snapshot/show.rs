//! `tine snapshot list` and `tine snapshot show`

use crate::{args::BoxArg, failure::Outcome, output::Output, progress::Length};
use tine_model::{ProjectName, Service, SnapshotInfo, SnapshotName};

/// What `snapshot list` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine snapshot list web")]
pub struct ListArgs {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
}

/// What `snapshot show` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine snapshot show web v0")]
pub struct ShowArgs {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
    /// The snapshot
    #[arg(value_name = "NAME")]
    pub snapshot: SnapshotName,
}

/// Prints a box's snapshots, oldest first.
pub fn list(service: &dyn Service, project: &ProjectName, args: &ListArgs, out: &mut Output) -> Outcome {
    let snapshots = service.list_snapshots(&args.name.within(project), &out.progress(Length::Short))?;
    let row = |s: &SnapshotInfo| {
        vec![
            s.name.to_string(),
            s.size_bytes.map_or_else(|| "-".to_owned(), |size| size.to_string()),
            s.created_at.to_string(),
            s.description.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = snapshots.iter().map(row).collect();
    out.rows(&snapshots, &["NAME", "SIZE", "CREATED", "DESCRIPTION"], &rows)?;
    Ok(0)
}

/// Prints everything about a snapshot.
pub fn show(service: &dyn Service, project: &ProjectName, args: &ShowArgs, out: &mut Output) -> Outcome {
    let info = service.snapshot_info(&args.name.within(project), &args.snapshot)?;
    out.present(&info, [info.name.to_string()], |out| text(&info, out))?;
    Ok(0)
}

fn text(info: &SnapshotInfo, out: &mut Output) -> Outcome<()> {
    out.field("name", &info.name)?;
    if let Some(size) = info.size_bytes {
        out.field("size", size)?;
    }
    out.field("created", info.created_at)?;
    out.field("description", if info.description.is_empty() { "-" } else { &info.description })?;
    out.field("live", if info.live { "yes" } else { "no" })?;
    info.missing_subvolumes.iter().try_for_each(|path| out.field("without subvolume", path))
}
