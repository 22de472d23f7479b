//! `tine image list` (also `images`) and `tine image show`

use crate::{failure::Outcome, figures, output::Output, progress::Length, table::or_dash};
use tine_model::{Contract, ImageInfo, ImageTag, Service, Timestamp};

/// What `images` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine images\n  tine images --hub\n  tine images --hub https://hub.example.org"
)]
pub struct ImagesArgs {
    /// List the packages of a hub: a URL or a folder [default: TINE_HUB_URL, or that of `tine hub default`]
    #[arg(long, value_name = "URL", num_args = 0..=1)]
    pub hub: Option<Option<String>>,
}

/// What `image list` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine image list")]
pub struct ListArgs {}

/// What `image show` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine image show python-numpy")]
pub struct ShowArgs {
    /// The image
    #[arg(value_name = "TAG")]
    pub tag: ImageTag,
}

/// Prints every image.
pub fn list(service: &dyn Service, out: &mut Output) -> Outcome {
    let images = service.list_images(&out.progress(Length::Short))?;
    let now = Timestamp::now();
    let row = |image: &ImageInfo| {
        vec![
            image.tag.to_string(),
            image.size_bytes.to_string(),
            image.memory_bytes.to_string(),
            figures::ago(image.created_at, now),
            rootfs(image).to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = images.iter().map(row).collect();
    out.rows(&images, &["TAG", "SIZE", "MEMORY", "CREATED", "ROOTFS"], &rows)?;
    Ok(0)
}

/// Prints everything about an image.
pub fn show(service: &dyn Service, args: &ShowArgs, out: &mut Output) -> Outcome {
    let image = service.image_info(&args.tag)?;
    out.present(&image, [image.tag.to_string()], |out| text(&image, out))?;
    Ok(0)
}

fn rootfs(image: &ImageInfo) -> &'static str {
    if image.has_rootfs { "yes" } else { "—" }
}

fn text(image: &ImageInfo, out: &mut Output) -> Outcome<()> {
    out.field("tag", &image.tag)?;
    out.field("id", &image.id)?;
    out.field("size", image.size_bytes)?;
    out.field("created", image.created_at)?;
    out.field("description", if image.description.is_empty() { "-" } else { &image.description })?;
    out.field("rootfs", rootfs(image))?;
    out.field("source", &image.source)?;
    out.field("base", or_dash(image.base.as_ref()))?;
    out.field("parent", or_dash(image.parent.as_ref()))?;
    out.field("memory digest", image.memory_digest)?;
    out.field("vmstate digest", image.vmstate_digest)?;
    out.field("disk digest", or_dash(image.disk_digest))?;
    out.field(
        "pack",
        or_dash(image.pack.as_ref().map(|pack| format!("{} of {}", pack.layout, pack.writer))),
    )?;
    image.contract.as_ref().map_or(Ok(()), |wanted| contract(wanted, out))
}

/// What a host must offer.
fn contract(contract: &Contract, out: &mut Output) -> Outcome<()> {
    out.field("engine", format!("{} {}", contract.engine, contract.engine_version))?;
    out.field("accel", contract.accel)?;
    out.field("machine", &contract.machine)?;
    out.field("cpu model", &contract.cpu_model)?;
    let features = (!contract.cpu_features.is_empty()).then(|| contract.cpu_features.join(","));
    out.field("cpu features", or_dash(features))?;
    out.field("cpus", contract.cpus)?;
    out.field("memory", contract.memory_bytes)?;
    out.field("kernel", &contract.kernel)?;
    out.field("kernel digest", contract.kernel_digest)?;
    contract.devices.iter().try_for_each(|device| out.field("device", device))
}
