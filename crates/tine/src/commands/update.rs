//! `tine update`

use crate::{
    args::{BoxArg, ChangeArg, change},
    failure::{Outcome, usage},
    output::Output,
};
use std::num::NonZeroU32;
use tine_model::{
    ByteSize, Change, CpuLimit, EnvVar, MountPath, NetworkMode, ProjectName, Service, Tag, UpdateBox,
    VolumeMount,
};

/// What `update` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tine update web --memory 1GiB --cpu none
  tine update web -e COLOR=red --unset-env DEBUG -t tier=1 --untag team
  tine update web -d data=/srv/data --detach /srv/old")]
pub struct Args {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
    /// Set a variable
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub env: Vec<EnvVar>,
    /// Remove a variable
    #[arg(long, value_name = "KEY")]
    pub unset_env: Vec<String>,
    /// Set a mark
    #[arg(short, long = "tag", value_name = "KEY=VALUE")]
    pub tags: Vec<Tag>,
    /// Remove a mark
    #[arg(long, value_name = "KEY")]
    pub untag: Vec<String>,
    /// Limit processor time, in processors; none: no limit
    #[arg(long, value_name = "N")]
    pub cpu: Option<ChangeArg<CpuLimit>>,
    /// Limit memory; none: no limit
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ChangeArg<ByteSize>>,
    /// Limit processes and threads; none: the default
    #[arg(long, value_name = "N")]
    pub pids: Option<ChangeArg<NonZeroU32>>,
    /// Limit what is written to the root; none: no limit
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<ChangeArg<ByteSize>>,
    /// Attach a volume, from the next start on
    #[arg(short = 'd', long = "volume", value_name = "VOLUME=/PATH[:ro]")]
    pub volumes: Vec<VolumeMount>,
    /// Detach the volume at a path, from the next start on
    #[arg(long, value_name = "/PATH")]
    pub detach: Vec<MountPath>,
    /// Network from the next start on: none, host or nat
    #[arg(long, value_name = "MODE")]
    pub net: Option<NetworkMode>,
}

impl Args {
    fn request(&self) -> UpdateBox {
        UpdateBox {
            set_env: self.env.clone(),
            unset_env: self.unset_env.clone(),
            set_tags: self.tags.clone(),
            unset_tags: self.untag.clone(),
            cpu: change(self.cpu),
            memory_bytes: change(self.memory),
            pids: pids(change(self.pids)),
            disk_bytes: change(self.disk),
            attach: self.volumes.clone(),
            detach: self.detach.clone(),
            network: self.net,
        }
    }
}

fn pids(change: Change<NonZeroU32>) -> Change<u32> {
    match change {
        Change::Keep => Change::Keep,
        Change::Clear => Change::Clear,
        Change::Set(number) => Change::Set(number.get()),
    }
}

/// Changes a box's settings and prints its name.
pub fn run(service: &dyn Service, project: &ProjectName, args: &Args, out: &mut Output) -> Outcome {
    let request = args.request();
    if request == UpdateBox::default() {
        return Err(usage("nothing to change was given").hint("tine update --help").into());
    }
    let report = service.update_box(&args.name.within(project), &request)?;
    let name = &report.info.summary.name;
    out.name(&report, name)?;
    if report.needs_restart {
        out.say(&format!(
            "note: part of this takes effect at the next start: tine stop {name} && tine start {name}"
        ));
    }
    Ok(0)
}
