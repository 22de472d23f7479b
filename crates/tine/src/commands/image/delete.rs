//! `tine image delete`

use super::super::count;
use crate::{failure::Outcome, output::Output};
use serde::Serialize;
use tine_model::{Error, ImageTag, Service};

/// What `image delete` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine image delete python-numpy --dry-run\n  tine image delete python-numpy later --yes"
)]
pub struct Args {
    /// The images
    #[arg(value_name = "TAG", required = true)]
    pub tags: Vec<ImageTag>,
    /// Only print what would go
    #[arg(long)]
    pub dry_run: bool,
}

/// The document of `image delete`.
#[derive(Serialize)]
struct Deleted<'a> {
    dry_run: bool,
    removed: &'a [ImageTag],
}

/// Deletes images and prints their tags; none when one is unknown.
pub fn run(service: &dyn Service, args: &Args, out: &mut Output) -> Outcome {
    let tags = distinct(&args.tags);
    if !args.dry_run {
        out.permission.get(&format!("Delete {}?", what(&tags)))?;
    }
    tags.iter().try_for_each(|tag| service.delete_image(tag, true).map(drop))?;
    if !args.dry_run {
        delete(service, &tags)?;
    }
    out.names(&Deleted { dry_run: args.dry_run, removed: &tags }, &tags)?;
    let verb = if args.dry_run { "would delete" } else { "deleted" };
    out.say(&format!("{verb} {}", what(&tags)));
    Ok(0)
}

/// Deletes one after the other; an error says which have gone before it.
fn delete(service: &dyn Service, tags: &[ImageTag]) -> Result<(), Error> {
    for (done, tag) in tags.iter().enumerate() {
        service.delete_image(tag, false).map_err(|error| match done {
            0 => error,
            _ => error.context(format!("after deleting {}", list(&tags[..done]))),
        })?;
    }
    Ok(())
}

fn what(tags: &[ImageTag]) -> String {
    match tags {
        [tag] => format!("image \"{tag}\""),
        tags => format!("{}: {}", count(tags.len(), "image"), list(tags)),
    }
}

fn list(tags: &[ImageTag]) -> String {
    tags.iter().map(ImageTag::as_str).collect::<Vec<_>>().join(", ")
}

/// Each tag once, in the order typed.
fn distinct(tags: &[ImageTag]) -> Vec<ImageTag> {
    let first = |(index, tag): &(usize, &ImageTag)| !tags[..*index].contains(tag);
    tags.iter().enumerate().filter(first).map(|(_, tag)| tag.clone()).collect()
}
