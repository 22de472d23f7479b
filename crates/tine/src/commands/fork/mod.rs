//! `tine fork`: running boxes that go on from one instant, told one by one as they become ready.

mod summary;

use crate::{
    args::BoxArg,
    failure::{Failure, Outcome, usage},
    figures,
    output::Output,
    progress::Length,
};
use tine_model::{
    BoxRef, EnvVar, ErrorCode, ForkPrefix, ForkReport, ForkRequest, ForkSource, ForkedBox, ImageTag,
    MAX_FORK, NetworkMode, ProjectName, Result, Service, Tag,
};

/// What `fork` takes.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("origin").required(true),
    after_help = "Examples:
  tine fork python-numpy -n 100
  tine fork --tag python-numpy -n 4 --prefix worker --net none -e COLOR=blue -t team=a --rm
  tine fork --box worker-1 -n 3"
)]
pub struct Args {
    /// The image
    #[arg(value_name = "TAG", group = "origin")]
    pub image: Option<ImageTag>,
    /// The image, as TAG
    #[arg(long = "tag", value_name = "TAG", group = "origin")]
    pub image_flag: Option<ImageTag>,
    /// A running vm box instead, BOX or PROJECT:BOX; it goes on
    #[arg(long = "box", value_name = "BOX", group = "origin")]
    pub source: Option<BoxArg>,
    /// How many boxes
    #[arg(
        short = 'n', long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_FORK))
    )]
    pub count: u32,
    /// Name them PREFIX-1, PREFIX-2, … [default: after the image or box]
    #[arg(long)]
    pub prefix: Option<ForkPrefix>,
    /// Network: none or nat
    #[arg(long, value_name = "MODE", default_value = "nat")]
    pub net: NetworkMode,
    /// Set a variable for every program started in them
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub env: Vec<EnvVar>,
    /// Mark each box
    #[arg(short = 't', value_name = "KEY=VALUE")]
    pub tags: Vec<Tag>,
    /// Delete each when it stops
    #[arg(long)]
    pub rm: bool,
    /// Boot the image's disk instead of going on from its memory
    #[arg(long, conflicts_with = "source")]
    pub cold: bool,
}

impl Args {
    fn request(&self, project: &ProjectName) -> Result<ForkRequest> {
        Ok(ForkRequest {
            source: self.source(project)?,
            count: self.count,
            project: project.clone(),
            prefix: self.prefix.clone(),
            network: self.net,
            env: self.env.clone(),
            tags: self.tags.clone(),
            remove_on_stop: self.rm,
            cold: self.cold,
        })
    }

    fn source(&self, project: &ProjectName) -> Result<ForkSource> {
        match (self.image.as_ref().or(self.image_flag.as_ref()), &self.source) {
            (Some(tag), _) => Ok(ForkSource::Image(tag.clone())),
            (None, Some(name)) => Ok(ForkSource::Box(name.within(project))),
            (None, None) => Err(usage("neither an image nor a box is named")),
        }
    }
}

/// Makes the boxes, prints each as it becomes ready, and tells at the end what came of it.
pub fn run(service: &dyn Service, project: &ProjectName, args: &Args, out: &mut Output) -> Outcome {
    let request = args.request(project)?;
    let width = width(&request);
    let progress = out.progress(Length::Long);
    let lines = out.at_once();
    let on_ready = |child: &ForkedBox| {
        let name = child.name.to_string();
        let after = figures::duration(child.since_start_us);
        progress.aside(|| lines.item(&name, &format!("{name:<width$}  {after:>7}")));
    };
    let result = progress.cause(service.fork(&request, &on_ready, &progress));
    let printed = lines.conclude();
    drop(progress);
    let report = result?;
    tell(&report, out)?;
    match printed {
        // whoever has left need not hear, but a script still sees the code
        Err(Failure::ReaderGone) if exit_code(&report) != 0 => Ok(exit_code(&report)),
        printed => printed.map(|()| exit_code(&report)),
    }
}

/// A failure weighs more than having been stopped.
fn exit_code(report: &ForkReport) -> u8 {
    let stopped = |code| code == ErrorCode::Cancelled;
    match report.failed.iter().all(|failure| stopped(failure.error.code)) {
        true if report.failed.is_empty() && report.cancelled == 0 => 0,
        true => ErrorCode::Cancelled.exit_code(),
        false => 1,
    }
}

/// The width of the longest name, where no number is taken.
fn width(request: &ForkRequest) -> usize {
    let of_source = || match &request.source {
        ForkSource::Image(tag) => ForkPrefix::of_image(tag),
        ForkSource::Box(name) => ForkPrefix::of_box(&name.name),
    };
    let last = request.prefix.clone().unwrap_or_else(of_source).child(request.count);
    last.map_or(0, |name| BoxRef { project: request.project.clone(), name }.to_string().len())
}

/// The document; or what failed and the summary, on stderr.
fn tell(report: &ForkReport, out: &mut Output) -> Outcome<()> {
    out.present(report, [], |_| Ok(()))?;
    let failed = || report.failed.iter().filter(|f| f.error.code != ErrorCode::Cancelled);
    for failure in failed() {
        out.complain(&format!("{}: {}", failure.name, failure.error.message));
    }
    if let Some(hint) = failed().find_map(|f| f.error.hint.as_ref()) {
        out.advise(hint);
    }
    out.say(&summary::summary(report));
    if let Some(text) = summary::stopped(report) {
        out.say(&text);
    }
    Ok(())
}
