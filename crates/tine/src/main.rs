//! The binary: hands the hidden monitor entry to the engine and everything else to the command line.
//!
//! Owns nothing but that choice. Nothing is done before it, so that a short command starts fast.
#![forbid(unsafe_code)]

mod app;
mod args;
mod cli;
mod commands;
mod confirm;
mod failure;
mod figures;
mod interrupt;
mod outfile;
mod output;
mod progress;
mod screen;
mod service;
mod table;
mod terminal;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod transcripts;

use std::{ffi::OsString, process::ExitCode};

/// The first argument with which the engine starts its own monitor process.
const MONITOR: &str = "__monitor";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match args.get(1) {
        Some(first) if first == MONITOR => service::monitor(&args[2..]),
        _ => app::main(&args),
    }
}
