//! `tine version`

use crate::{failure::Outcome, output::Output};
use serde::Serialize;

/// What `version` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine version")]
pub struct Args {}

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

/// Prints the version.
pub fn run(out: &mut Output) -> Outcome {
    let version = Version { version: env!("CARGO_PKG_VERSION") };
    let text = format!("tine {}", version.version);
    out.name(&version, text)?;
    Ok(0)
}
