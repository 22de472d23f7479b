//! `tine volume create`, `list`, `info` and `delete`

use crate::{failure::Outcome, output::Output, progress::Length, table::or_dash};
use tine_model::{ProjectName, Service, VolumeInfo, VolumeName, VolumeRef};

/// The commands of `volume`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make an empty volume
    Create(CreateArgs),
    /// List volumes
    #[command(alias = "ls")]
    List(ListArgs),
    /// Show a volume
    Info(InfoArgs),
    /// Delete a volume that no box has attached
    #[command(alias = "rm")]
    Delete(DeleteArgs),
}

/// What `volume create` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine volume create data")]
pub struct CreateArgs {
    /// The new volume
    pub name: VolumeName,
}

/// What `volume list` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine volume list")]
pub struct ListArgs {
    /// Volumes of every project, as PROJECT:VOLUME
    #[arg(short, long)]
    pub all: bool,
}

/// What `volume info` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine volume info data")]
pub struct InfoArgs {
    /// The volume
    pub name: VolumeName,
}

/// What `volume delete` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tine volume delete data --dry-run\n  tine volume delete data --yes")]
pub struct DeleteArgs {
    /// The volume
    pub name: VolumeName,
    /// Only print what would go
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs a command of `volume`.
pub fn run(service: &dyn Service, project: &ProjectName, command: &Command, out: &mut Output) -> Outcome {
    let volume = |name: &VolumeName| VolumeRef { project: project.clone(), name: name.clone() };
    match command {
        Command::Create(args) => {
            let info = service.create_volume(&volume(&args.name))?;
            out.name(&info, &info.volume)?;
        }
        Command::List(args) => list(service, project, args, out)?,
        Command::Info(args) => {
            let info = service.volume_info(&volume(&args.name))?;
            out.present(&info, [info.volume.to_string()], |out| text(&info, out))?;
        }
        Command::Delete(args) => delete(service, &volume(&args.name), args.dry_run, out)?,
    }
    Ok(0)
}

fn list(service: &dyn Service, project: &ProjectName, args: &ListArgs, out: &mut Output) -> Outcome<()> {
    let volumes = service.list_volumes((!args.all).then_some(project), &out.progress(Length::Short))?;
    let row = |v: &VolumeInfo| {
        let name = &v.volume;
        vec![
            if args.all { format!("{}:{}", name.project, name.name) } else { name.name.to_string() },
            v.size_bytes.to_string(),
            attached(v),
            v.created_at.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = volumes.iter().map(row).collect();
    out.rows(&volumes, &["NAME", "SIZE", "BOXES", "CREATED"], &rows)
}

fn text(info: &VolumeInfo, out: &mut Output) -> Outcome<()> {
    out.field("name", &info.volume.name)?;
    out.field("project", &info.volume.project)?;
    out.field("size", info.size_bytes)?;
    out.field("created", info.created_at)?;
    out.field("boxes", attached(info))
}

fn attached(info: &VolumeInfo) -> String {
    let names: Vec<&str> = info.attached_to.iter().map(|b| b.as_str()).collect();
    or_dash((!names.is_empty()).then(|| names.join(",")))
}

fn delete(service: &dyn Service, volume: &VolumeRef, dry_run: bool, out: &mut Output) -> Outcome<()> {
    if !dry_run && out.permission.will_ask() {
        let plan = service.delete_volume(volume, true)?;
        out.permission.get(&format!("Delete volume \"{volume}\" and its {}?", plan.size_bytes))?;
    } else if !dry_run {
        out.permission.get(&format!("Delete volume \"{volume}\" and its data?"))?;
    }
    let info = service.delete_volume(volume, dry_run)?;
    out.name(&info, &info.volume)?;
    let verb = if dry_run { "would delete" } else { "deleted" };
    out.say(&format!("{verb} volume \"{volume}\" and its {}", info.size_bytes));
    Ok(())
}
