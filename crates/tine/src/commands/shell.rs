//! `tine shell`

use super::exec::{Attached, attach};
use crate::{args::BoxArg, failure::Outcome, output::Output, terminal};
use tine_model::{ExecRequest, ProjectName, Service};

/// bash where the box has it, else sh, as a login shell.
const BEST_SHELL: &str = "if command -v bash >/dev/null 2>&1; then exec bash -l; else exec sh -l; fi";

/// What `shell` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tine shell web\n  tine shell web --user www-data")]
pub struct Args {
    /// The box, BOX or PROJECT:BOX; it is started if it is stopped
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
    /// User in the box: NAME, UID, NAME:GROUP or UID:GID [default: root]
    #[arg(short, long)]
    pub user: Option<String>,
    /// Folder in the box [default: the user's home]
    #[arg(short, long, value_name = "DIR")]
    pub wd: Option<String>,
}

/// Opens a shell on the user's terminal, or lets one read the script on stdin.
pub fn run(service: &dyn Service, project: &ProjectName, args: &Args, out: &mut Output) -> Outcome {
    let request = ExecRequest {
        user: args.user.clone(),
        working_dir: args.wd.clone(),
        ..ExecRequest::of(["/bin/sh", "-c", BEST_SHELL].map(str::to_owned).to_vec())
    };
    let attached = Attached { input: true, tty: terminal::stdin_is_terminal() };
    attach(service, &args.name.within(project), request, attached, out)
}
