//! `tine push`

use super::pack::What;
use crate::{failure::Outcome, output::Output, progress::Length};
use tine_model::{PushImage, Service};

/// What `push` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine push --tag python-numpy s3://images/python-numpy/\n  tine push --tag python-numpy 'https://store.example.org/up?signature=…'\n  tine push --tag python-numpy tine/python-numpy@v2 --hub /srv/hub\n  tine push --tag python-numpy tine/python-numpy --hub s3://my-bucket/hub"
)]
pub struct Args {
    #[command(flatten)]
    pub what: What,
    /// A URL (https: by PUT, s3, gs, az, file, oci; a folder where it ends in /), or OWNER/NAME or OWNER/NAME@VERSION at a hub that is kept in a folder or bucket
    pub target: String,
    /// The hub's folder, or URL in a bucket [default: TINE_HUB_URL, or that of `tine hub default`]
    #[arg(long, value_name = "DIR")]
    pub hub: Option<String>,
}

/// Packs and sends, and prints where the pack is.
pub fn run(service: &dyn Service, args: &Args, out: &mut Output) -> Outcome {
    let progress = out.progress(Length::Long);
    let pack = args.what.request();
    let request = PushImage { pack, target: args.target.clone(), hub: args.hub.clone(), recipe_path: None };
    let report = progress.cause(service.push_image(&request, &progress))?;
    drop(progress);
    let name = report.package.as_ref().map_or_else(|| report.place.clone(), ToString::to_string);
    out.name(&report, &name)?;
    let there = match report.reused_bytes.bytes() {
        0 => String::new(),
        _ => format!(", {} were there", report.reused_bytes),
    };
    out.say(&format!("pushed {}: sent {}{there}", args.what.tag, report.sent_bytes));
    let hub = args.hub.as_ref().filter(|_| report.package.is_some());
    let from = hub.map(|hub| format!(" --hub {hub}")).unwrap_or_default();
    out.suggest(&format!("tine pull {name}{from}"));
    Ok(0)
}
