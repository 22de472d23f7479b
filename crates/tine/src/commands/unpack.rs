//! `tine unpack`

use crate::{
    failure::{Outcome, local_error},
    interrupt::Interrupt,
    output::Output,
    progress::Length,
    terminal::Patient,
};
use serde::Serialize;
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};
use tine_model::{
    Error, ErrorCode, ImageInfo, ImageTag, PackInput, Result, Service, UnpackImage, UnpackReport,
};

/// What `unpack` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine unpack python-numpy.tine.tar.zst\n  tine unpack numpy.forkd-snapshot.tar.zst --tag numpy-2"
)]
pub struct Args {
    /// The pack
    pub file: PathBuf,
    /// Give the image this tag [default: its own]
    #[arg(long)]
    pub tag: Option<ImageTag>,
    /// Replace an image that has the tag
    #[arg(long)]
    pub force: bool,
}

/// Reads a pack, verifies all of it, and prints the tags of its images.
pub fn run(service: &dyn Service, args: &Args, out: &mut Output) -> Outcome {
    let progress = out.progress(Length::Long);
    let mut pack = open(&args.file, progress.interrupt())?;
    let folder = args.file.parent().map(Path::to_path_buf).unwrap_or_default();
    let siblings = |name: &str| beside(&folder, name);
    let request = UnpackImage { tag: args.tag.clone(), force: args.force };
    let result = service.unpack_image(&request, &mut *pack, &siblings, &progress);
    let report = progress.cause(result.map_err(|error| error.context(args.file.display())))?;
    drop(progress);
    present(&report, &report, out)?;
    advise(report.images.last().map(|unpacked| &unpacked.image), out);
    Ok(0)
}

/// What can be done with an image.
pub fn advise(image: Option<&ImageInfo>, out: &mut Output) {
    match image {
        Some(image) if image.contract.is_some() => out.suggest(&format!("tine fork {} -n 1", image.tag)),
        Some(image) => out.suggest(&format!("tine image show {}", image.tag)),
        None => {}
    }
}

/// The tags, or the document; and what became of each image.
pub fn present<T: Serialize>(document: &T, report: &UnpackReport, out: &mut Output) -> Outcome<()> {
    let tags: Vec<&ImageTag> = report.images.iter().map(|unpacked| &unpacked.image.tag).collect();
    out.names(document, &tags)?;
    for unpacked in &report.images {
        let image = &unpacked.image;
        let done = if unpacked.reused { "was here already" } else { "verified and stored" };
        out.say(&format!("image {} {done}: {}, layout {}", image.tag, image.size_bytes, report.layout));
    }
    if let Some(key) = &report.signed_by {
        out.say(&format!("signed by {key}"));
    }
    Ok(())
}

fn open(file: &Path, interrupt: &Interrupt) -> Result<Box<dyn PackInput>> {
    let opened = File::open(file).map_err(|e| local_error("opening", file, &e))?;
    if opened.metadata().is_ok_and(|meta| meta.is_dir()) {
        let message = format!("{} is a directory, and no pack", file.display());
        return Err(Error::new(ErrorCode::InvalidInput, message).hint("tine unpack FILE"));
    }
    Ok(Box::new(Patient::new(opened, interrupt.clone())))
}

fn beside(folder: &Path, name: &str) -> Result<Option<Box<dyn Read + Send>>> {
    let path = folder.join(name);
    match File::open(&path) {
        Ok(file) => Ok(Some(Box::new(file))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(local_error("opening", &path, &e)),
    }
}
