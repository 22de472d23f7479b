//! Checks of the workspace's own rules: `cargo xtask arch`.
//!
//! Owns the table of layers. Reads cargo's metadata and the sources as text; changes nothing.
#![forbid(unsafe_code)]

mod layers;
mod sources;

use cargo_metadata::MetadataCommand;
use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("arch") => arch(),
        _ => {
            eprintln!("usage: cargo xtask arch");
            ExitCode::from(2)
        }
    }
}

/// Prints every broken rule and fails when there is one.
fn arch() -> ExitCode {
    let metadata = match MetadataCommand::new().exec() {
        Ok(metadata) => metadata,
        Err(error) => {
            eprintln!("error: read cargo metadata: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut broken = layers::broken_arrows(&metadata);
    broken.extend(sources::broken_rules(metadata.workspace_root.as_std_path()));
    for line in &broken {
        eprintln!("error: {line}");
    }
    if broken.is_empty() {
        println!("arch: arrows, crates and sources keep the rules");
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}
