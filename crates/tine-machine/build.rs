//! Builds the guest's agent, which is part of every initramfs that Tine makes.
//!
//! A static program whatever the profile of the rest, so it is built by a cargo of its own, in a target directory of
//! its own.

#![expect(clippy::expect_used, clippy::panic, reason = "a build script has nobody to return an error to")]

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// What the agent is made of.
const SOURCES: [&str; 4] = ["tine-agent", "tine-archive", "tine-sys", "tine-model"];
const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let crates = manifest.parent().expect("the crate lies among others");
    for source in SOURCES {
        for part in ["src", "Cargo.toml"] {
            println!("cargo::rerun-if-changed={}", crates.join(source).join(part).display());
        }
    }
    let agent = build(crates, &target_directory());
    println!("cargo::rustc-env=TINE_AGENT={}", agent.display());
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

/// `<target>/<profile>/build/<package>/out` is what cargo gives; the agent is the same for all profiles.
fn target_directory() -> PathBuf {
    let out = PathBuf::from(variable("OUT_DIR"));
    out.ancestors().nth(4).expect("the directory lies in cargo's target directory").join("guest")
}

fn build(crates: &Path, target: &Path) -> PathBuf {
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .args([
            "build",
            "--package",
            "tine-agent",
            "--bin",
            "tine-agent",
            "--profile",
            "agent",
            "--target",
            TARGET,
        ])
        .arg("--manifest-path")
        .arg(crates.join("tine-agent/Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        // a build script inherits what its own cargo was told about this build
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "the guest's agent could not be built");
    target.join(TARGET).join("agent/tine-agent")
}
