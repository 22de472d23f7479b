//! `tine pull`

use super::unpack::{advise, present};
use crate::{failure::Outcome, output::Output, progress::Length};
use tine_model::{ImageTag, PullImage, Service};

/// What `pull` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine pull tine/python-numpy\n  tine pull tine/python-numpy@v2 --hub https://hub.example.org\n  tine pull https://example.org/numpy.tine.tar.zst --tag numpy"
)]
pub struct Args {
    /// A URL, OWNER/NAME or OWNER/NAME@VERSION
    pub target: String,
    /// Give the image this tag [default: its own]
    #[arg(long)]
    pub tag: Option<ImageTag>,
    /// Replace an image that has the tag
    #[arg(long)]
    pub force: bool,
    /// The hub: a URL or a folder [default: TINE_HUB_URL, or that of `tine hub default`]
    #[arg(long, value_name = "URL")]
    pub hub: Option<String>,
}

/// Fetches, verifies and stores, and prints the tags of the images.
pub fn run(service: &dyn Service, args: &Args, out: &mut Output) -> Outcome {
    let progress = out.progress(Length::Long);
    let request = PullImage {
        target: args.target.clone(),
        tag: args.tag.clone(),
        force: args.force,
        hub: args.hub.clone(),
    };
    let report = progress.cause(service.pull_image(&request, &progress))?;
    drop(progress);
    let kept = match report.reused_bytes.bytes() {
        0 => String::new(),
        _ => format!(", {} were here", report.reused_bytes),
    };
    let what = report.package.as_ref().map_or_else(|| report.source.clone(), ToString::to_string);
    present(&report, &report.unpacked, out)?;
    out.say(&format!("pulled {what}: fetched {}{kept}", report.fetched_bytes));
    advise(report.image(), out);
    Ok(0)
}
