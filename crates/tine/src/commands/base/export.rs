//! `tine base export`

use crate::{failure::Outcome, outfile::OutFile, output::Output, progress::Length};
use std::{
    io::Write,
    path::{Path, PathBuf},
};
use tine_model::{BaseRef, Error, ErrorCode, Reporter, Result, Service};

/// What `base export` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine base export box-base --file box-base.tar.zst\n  tine base export box-base --file - | tar t"
)]
pub struct Args {
    /// The base: ALIAS, VERSION, ALIAS@VERSION or ALIAS:SCRIPT_SHA256
    #[arg(value_name = "BASE")]
    pub name: BaseRef,
    /// Where the tar goes, compressed when it ends in .gz, .tgz or .zst; - for stdout
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
}

/// Writes a version as a tar; the file appears only when it is whole.
pub fn run(service: &dyn Service, args: &Args, out: &mut Output) -> Outcome {
    let progress = out.progress(Length::Long);
    if args.file == Path::new("-") {
        out.refuse_terminal("a tar")?;
        out.stream(|stream| service.export_base(&args.name, stream, &progress))?;
        return Ok(0);
    }
    let mut file = OutFile::create(&args.file)?;
    compressed(&args.file, &mut file, |stream| service.export_base(&args.name, stream, &progress))?;
    file.publish()?;
    progress.note(&format!("wrote {}", args.file.display()));
    Ok(0)
}

/// Lets `write` fill `file`, compressed as its name says.
fn compressed(
    name: &Path,
    file: &mut OutFile,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let failed =
        |e: std::io::Error| Error::new(ErrorCode::Internal, format!("compressing {}: {e}", name.display()));
    match name.extension().and_then(|e| e.to_str()) {
        Some("gz" | "tgz") => {
            let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::default());
            write(&mut encoder)?;
            encoder.finish().map(|_| ()).map_err(failed)
        }
        Some("zst") => {
            let mut encoder = zstd::Encoder::new(file, 0).map_err(failed)?;
            write(&mut encoder)?;
            encoder.finish().map(|_| ()).map_err(failed)
        }
        _ => write(file),
    }
}
