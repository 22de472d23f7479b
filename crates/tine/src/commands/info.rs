//! `tine info`

use crate::{args::BoxArg, failure::Outcome, output::Output, table::or_dash};
use tine_model::{BoxInfo, BoxKind, Limits, ProjectName, Service};

/// What `info` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine info web")]
pub struct Args {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
}

/// Prints everything about a box.
pub fn run(service: &dyn Service, project: &ProjectName, args: &Args, out: &mut Output) -> Outcome {
    let info = service.box_info(&args.name.within(project))?;
    out.present(&info, [info.summary.name.to_string()], |out| text(&info, out))?;
    Ok(0)
}

fn text(info: &BoxInfo, out: &mut Output) -> Outcome<()> {
    let (summary, settings) = (&info.summary, &info.settings);
    out.field("name", &summary.name.name)?;
    out.field("project", &summary.name.project)?;
    out.field("id", &info.id)?;
    out.field("kind", summary.kind)?;
    out.field("status", summary.status)?;
    out.field("base", or_dash(summary.base.as_ref()))?;
    out.field("source", &info.source)?;
    out.field("created", summary.created_at)?;
    out.field("network", settings.network)?;
    out.field("address", or_dash(info.address))?;
    out.field("publish", joined(&settings.publish))?;
    out.field("host ports", joined(&settings.host_ports))?;
    limits(&settings.limits, out)?;
    if summary.kind == BoxKind::Vm {
        machine(info, out)?;
    }
    if let Some(end) = &info.last_end {
        out.field("last end", end)?;
    }
    out.field("volumes", joined(&settings.volumes))?;
    out.field("env", joined(&settings.env))?;
    out.field("tags", joined(&summary.tags))?;
    out.field("removed when stopped", if settings.remove_on_stop { "yes" } else { "no" })?;
    out.field("snapshots", joined(&info.snapshots))?;
    out.field("can undo", if info.can_undo { "yes" } else { "no" })?;
    out.field("root", &info.root_path)
}

fn limits(limits: &Limits, out: &mut Output) -> Outcome<()> {
    out.field("cpu", or_dash(limits.cpu))?;
    out.field("memory", or_dash(limits.memory_bytes))?;
    out.field("disk", or_dash(limits.disk_bytes))?;
    out.field("pids", or_dash(limits.pids))
}

/// What only a vm box has.
fn machine(info: &BoxInfo, out: &mut Output) -> Outcome<()> {
    out.field("cpus", info.settings.cpus.unwrap_or(1))?;
    out.field("accel", or_dash(info.accel.or(info.settings.accel)))
}

fn joined<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "-".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
