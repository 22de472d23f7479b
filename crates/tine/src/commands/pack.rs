//! `tine pack`

use crate::{failure::Outcome, outfile::OutFiles, output::Output, progress::Length};
use std::path::PathBuf;
use tine_model::{ImageTag, KeyName, PackImage, PackLayout, PackReport, Reporter, Service};

/// What `pack` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine pack --tag python-numpy\n  tine pack --tag python-numpy -o numpy.tine.tar.zst --sign release\n  tine pack --tag old --format v1"
)]
pub struct Args {
    #[command(flatten)]
    pub what: What,
    /// Where the pack goes [default: TAG.tine.tar.zst, or TAG.forkd-snapshot.tar.zst for v1 and v2]
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What is packed, and how; `push` takes it too.
#[derive(Debug, clap::Args)]
pub struct What {
    /// The image
    #[arg(long)]
    pub tag: ImageTag,
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

impl What {
    /// The request, with the password from the environment.
    pub fn request(&self) -> PackImage {
        PackImage {
            tag: self.tag.clone(),
            description: self.description.clone(),
            base_image: self.base_image.clone(),
            layout: self.format,
            sign: self.sign.clone(),
            password: password(),
        }
    }
}

/// Writes a pack; its files appear only when they are whole.
pub fn run(service: &dyn Service, args: &Args, out: &mut Output) -> Outcome {
    let progress = out.progress(Length::Long);
    let request = args.what.request();
    let files = OutFiles::new(args.out.clone());
    let report = progress.cause(service.pack_image(&request, &files, &progress))?;
    let paths = files.publish()?;
    for path in paths.iter().skip(1) {
        progress.note(&format!("wrote {}, which belongs beside it", path.display()));
    }
    drop(progress);
    let path = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
    out.name(&report, &path)?;
    out.say(&figures(&report));
    out.suggest(&format!("tine unpack {path}"));
    Ok(0)
}

/// The password of a signing key, where there is one.
pub fn password() -> Option<String> {
    std::env::var("TINE_KEY_PASSWORD").ok().filter(|password| !password.is_empty())
}

/// Sizes and ratio in words.
fn figures(report: &PackReport) -> String {
    let size: u64 = report.files.iter().map(|file| file.bytes.bytes()).sum();
    let content = report.content_bytes;
    let tenths = content.bytes().saturating_mul(10) / size.max(1);
    let images = match report.images.len() {
        1 => String::new(),
        n => format!(", {n} images"),
    };
    let signed = report.signed_by.as_ref().map(|key| format!(", signed by {key}")).unwrap_or_default();
    let size = tine_model::ByteSize(size);
    format!(
        "packed {content} into {size}, {}.{}:1, layout {}{images}{signed}",
        tenths / 10,
        tenths % 10,
        report.layout
    )
}
