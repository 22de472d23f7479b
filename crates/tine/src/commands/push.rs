//! `tine push`

use super::pack::password;
use crate::{failure::Outcome, output::Output, progress::Length};
use tine_model::{ImageTag, KeyName, PackImage, PackLayout, PushImage, Service};

/// What `push` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine push --tag python-numpy s3://images/python-numpy/\n  tine push --tag python-numpy 'https://store.example.org/up?signature=…'\n  tine push --tag python-numpy tine/python-numpy@v2 --hub /srv/hub"
)]
pub struct Args {
    /// The image
    #[arg(long)]
    pub tag: ImageTag,
    /// A URL (https: by PUT, s3, gs, az, file, oci; a folder where it ends in /), or OWNER/NAME or OWNER/NAME@VERSION at a hub's folder
    pub target: String,
    /// The hub's folder [default: TINE_HUB_URL, or that of `tine hub default`]
    #[arg(long, value_name = "DIR")]
    pub hub: Option<String>,
    /// One line about it [default: the image's own]
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Name the container image it was made from
    #[arg(long, value_name = "REF")]
    pub base_image: Option<String>,
    /// The layout: v1, v2 or v3 [default: that of the pack it came in, else v3]
    #[arg(long, value_name = "LAYOUT")]
    pub format: Option<PackLayout>,
    /// Sign it with a key; TINE_KEY_PASSWORD is its password
    #[arg(long, value_name = "KEY")]
    pub sign: Option<KeyName>,
}

/// Packs and sends, and prints where the pack is.
pub fn run(service: &dyn Service, args: &Args, out: &mut Output) -> Outcome {
    let progress = out.progress(Length::Long);
    let pack = PackImage {
        tag: args.tag.clone(),
        description: args.description.clone(),
        base_image: args.base_image.clone(),
        layout: args.format,
        sign: args.sign.clone(),
        password: password(),
    };
    let request = PushImage { pack, target: args.target.clone(), hub: args.hub.clone(), recipe_path: None };
    let report = progress.cause(service.push_image(&request, &progress))?;
    drop(progress);
    let name = report.package.as_ref().map_or_else(|| report.place.clone(), ToString::to_string);
    out.name(&report, &name)?;
    let there = match report.reused_bytes.bytes() {
        0 => String::new(),
        _ => format!(", {} were there", report.reused_bytes),
    };
    out.say(&format!("pushed {}: sent {}{there}", args.tag, report.sent_bytes));
    out.suggest(&format!("tine pull {name}"));
    Ok(0)
}
