//! `tine create`

use crate::{
    args::{BoxArg, SnapshotArg},
    failure::Outcome,
    output::Output,
    progress::Length,
};
use tine_model::{
    Accel, BaseRef, BoxSettings, BoxSource, ByteSize, CpuLimit, CreateBox, EnvVar, ImageTag, Limits,
    NetworkMode, ProjectName, PublishedPort, Service, Tag, VolumeMount,
};

/// What `create` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tine create web
  tine create web --base python --memory 512MiB --cpu 1.5 -e COLOR=blue -t team=a
  tine create copy --fork web
  tine create old --from web/v0 --no-start
  tine create api -d data=/srv/data:ro --publish 127.0.0.1:8080:80
  tine create machine --vm --cpus 2 --memory 1GiB --disk 20GiB
  tine create warm --image python-numpy")]
pub struct Args {
    /// The new box, BOX or PROJECT:BOX
    pub name: BoxArg,
    /// Make it from a base: ALIAS, VERSION, ALIAS@VERSION or ALIAS:SCRIPT_SHA256 [default: box-base]
    #[arg(short, long, group = "origin")]
    pub base: Option<BaseRef>,
    /// Make it from the current root of another box
    #[arg(short, long, value_name = "BOX", group = "origin")]
    pub fork: Option<BoxArg>,
    /// Make it from a snapshot of another box
    #[arg(long, value_name = "BOX/SNAPSHOT", group = "origin")]
    pub from: Option<SnapshotArg>,
    /// Attach a volume
    #[arg(short = 'd', long = "volume", value_name = "VOLUME=/PATH[:ro]")]
    pub volumes: Vec<VolumeMount>,
    /// Set a variable for every program in the box
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub env: Vec<EnvVar>,
    /// Mark the box
    #[arg(short, long = "tag", value_name = "KEY=VALUE")]
    pub tags: Vec<Tag>,
    /// Limit processor time, in processors
    #[arg(long, value_name = "N")]
    pub cpu: Option<CpuLimit>,
    /// Limit memory; of a vm box: the size of its memory
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,
    /// Limit what is written to the root; of a vm box: the size of its disk
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<ByteSize>,
    /// Limit processes and threads [default: 4096]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub pids: Option<u32>,
    /// Network: none, host or nat
    #[arg(long, value_name = "MODE", default_value = "nat")]
    pub net: NetworkMode,
    /// Lead a port of this machine into the box
    #[arg(long, value_name = "[ADDR:]HOST:BOX[/udp]")]
    pub publish: Vec<PublishedPort>,
    /// Let the box reach a TCP port of this machine, at the name host.tine
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub host_port: Vec<u16>,
    /// Leave it stopped
    #[arg(long)]
    pub no_start: bool,
    /// Delete it when it stops
    #[arg(long)]
    pub rm: bool,
    /// Make a microVM with a kernel and a disk of its own
    #[arg(long)]
    pub vm: bool,
    /// Processors of a vm box [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: Option<u32>,
    /// Run a vm box's instructions by kvm or tcg [default: kvm where it works]
    #[arg(long)]
    pub accel: Option<Accel>,
    /// Make it from an image: a vm box that goes on from its instant
    #[arg(long, value_name = "TAG", group = "origin")]
    pub image: Option<ImageTag>,
    /// Boot the image's disk instead of going on from its memory
    #[arg(long, requires = "image")]
    pub cold: bool,
}

impl Args {
    fn request(&self, project: &ProjectName) -> CreateBox {
        CreateBox {
            name: self.name.within(project),
            source: self.source(project),
            settings: self.settings(),
            vm: self.vm,
            cold: self.cold,
            start: !self.no_start,
        }
    }

    fn source(&self, project: &ProjectName) -> BoxSource {
        if let Some(name) = &self.fork {
            return BoxSource::Box(name.within(project));
        }
        if let Some(from) = &self.from {
            return BoxSource::Snapshot { name: from.name.within(project), snapshot: from.snapshot.clone() };
        }
        if let Some(tag) = &self.image {
            return BoxSource::Image(tag.clone());
        }
        BoxSource::Base(self.base.clone().unwrap_or_else(BaseRef::box_base))
    }

    fn settings(&self) -> BoxSettings {
        let limits =
            Limits { cpu: self.cpu, memory_bytes: self.memory, pids: self.pids, disk_bytes: self.disk };
        BoxSettings {
            env: self.env.clone(),
            tags: self.tags.clone(),
            limits,
            network: self.net,
            publish: self.publish.clone(),
            host_ports: self.host_port.clone(),
            volumes: self.volumes.clone(),
            remove_on_stop: self.rm,
            cpus: self.cpus,
            accel: self.accel,
        }
    }
}

/// Makes a box and prints its name.
pub fn run(service: &dyn Service, project: &ProjectName, args: &Args, out: &mut Output) -> Outcome {
    let info = service.create_box(&args.request(project), &out.progress(Length::Short))?;
    out.name(&info, &info.summary.name)?;
    Ok(0)
}
