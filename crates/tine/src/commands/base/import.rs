//! `tine base import`

use super::write::report;
use crate::{
    failure::{Outcome, local_error},
    interrupt::Interrupt,
    output::Output,
    progress::Length,
    terminal::{Patient, copy_of},
};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};
use tine_model::{BaseAlias, BaseRef, ImportBase, Result, Service};

/// What `base import` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine base import debian --file rootfs.tar.gz\n  tine base import extra --file layer.tar.zst --parent debian"
)]
pub struct Args {
    /// The base to write
    pub name: BaseAlias,
    /// The tar, plain or compressed with gzip, zstd or xz; - for stdin
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
    /// Extract over a clone of this base
    #[arg(short, long, value_name = "BASE")]
    pub parent: Option<BaseRef>,
}

/// Reads a tar and prints the new version.
pub fn run(service: &dyn Service, args: &Args, out: &mut Output) -> Outcome {
    let progress = out.progress(Length::Long);
    let mut tar = open(&args.file, progress.interrupt())?;
    let request = ImportBase { name: args.name.clone(), parent: args.parent.clone() };
    let written = progress.cause(service.import_base(&request, &mut *tar, &progress))?;
    drop(progress);
    report(&written, out)
}

fn open(file: &Path, interrupt: &Interrupt) -> Result<Box<dyn Read + Send>> {
    if file == Path::new("-") {
        let stdin = File::from(copy_of(io::stdin(), "stdin")?);
        return Ok(Box::new(Patient::new(stdin, interrupt.clone())));
    }
    let opened = File::open(file).map_err(|e| local_error("opening", file, &e))?;
    Ok(Box::new(Patient::new(opened, interrupt.clone())))
}
