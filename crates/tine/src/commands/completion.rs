//! `tine completion`

use crate::{cli, failure::Outcome, output::Output};
use clap_complete::Shell;

/// What `completion` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine completion bash")]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    pub shell: Kind,
}

/// A shell with completion scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
}

/// Prints the script that completes commands in a shell.
pub fn run(args: &Args, out: &mut Output) -> Outcome {
    let shell = match args.shell {
        Kind::Bash => Shell::Bash,
        Kind::Zsh => Shell::Zsh,
        Kind::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::grammar(), "tine", &mut script);
    out.exact(&script)?;
    Ok(0)
}
