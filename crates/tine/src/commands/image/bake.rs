//! `tine image bake`

use crate::{args::BoxArg, failure::Outcome, output::Output, progress::Length};
use tine_model::{
    Accel, BakeImage, BaseRef, BoxSource, ByteSize, EnvVar, ImageTag, NetworkMode, ProjectName, Service,
};

/// What `image bake` takes.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("origin").required(true),
    after_help = "Examples:
  tine image bake plain --base box-base
  tine image bake python-numpy --base python --memory 512MiB --run 'nohup python3 /srv/wait.py &' --ready 'test -e /run/warm'
  tine image bake later --box python-numpy-1 -m 'after the first batch'"
)]
pub struct Args {
    /// The new image
    pub tag: ImageTag,
    /// Boot a machine from a base: ALIAS, VERSION, ALIAS@VERSION or ALIAS:SCRIPT_SHA256
    #[arg(short, long, group = "origin")]
    pub base: Option<BaseRef>,
    /// Take a box, BOX or PROJECT:BOX: as it runs, or its disk
    #[arg(long = "box", value_name = "BOX", group = "origin")]
    pub source: Option<BoxArg>,
    /// Memory of the machine [default: 512MiB]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,
    /// Processors of the machine [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: Option<u32>,
    /// Size of the machine's disk [default: 10GiB]
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<ByteSize>,
    /// Network while it warms up: none or nat
    #[arg(long, value_name = "MODE", default_value = "nat")]
    pub net: NetworkMode,
    /// Run its instructions by kvm or tcg [default: kvm where it works]
    #[arg(long)]
    pub accel: Option<Accel>,
    /// Set a variable for every command
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub env: Vec<EnvVar>,
    /// Run a shell command to warm it up; what it leaves running stays
    #[arg(long, value_name = "CMD")]
    pub run: Vec<String>,
    /// Repeat a shell command until it succeeds
    #[arg(long, value_name = "CMD")]
    pub ready: Option<String>,
    /// How long each command, and all tries of --ready, may take [default: 600]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: Option<u32>,
    /// One line about it
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
}

impl Args {
    fn request(&self, project: &ProjectName) -> BakeImage {
        BakeImage {
            tag: self.tag.clone(),
            source: self.source(project),
            memory_bytes: self.memory,
            cpus: self.cpus,
            disk_bytes: self.disk,
            network: self.net,
            accel: self.accel,
            env: self.env.clone(),
            run: self.run.clone(),
            ready: self.ready.clone(),
            timeout_seconds: self.timeout,
            description: self.message.clone().unwrap_or_default(),
        }
    }

    /// The grammar lets exactly one of the two through.
    fn source(&self, project: &ProjectName) -> BoxSource {
        match &self.source {
            Some(name) => BoxSource::Box(name.within(project)),
            None => BoxSource::Base(self.base.clone().unwrap_or_else(BaseRef::box_base)),
        }
    }
}

/// Makes an image and prints its tag.
pub fn run(service: &dyn Service, project: &ProjectName, args: &Args, out: &mut Output) -> Outcome {
    let progress = out.progress(Length::Long);
    let image = progress.cause(service.bake_image(&args.request(project), &progress))?;
    drop(progress);
    out.name(&image, &image.tag)?;
    let memory = image.memory_bytes;
    out.say(&format!("image {} holds {} of a machine with {memory} of memory", image.tag, image.size_bytes));
    Ok(0)
}
