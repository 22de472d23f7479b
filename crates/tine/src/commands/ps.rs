//! `tine ps`

use crate::{args::BoxArg, failure::Outcome, output::Output};
use tine_model::{ProcessInfo, ProjectName, Service};

/// What `ps` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine ps web")]
pub struct Args {
    /// The box, BOX or PROJECT:BOX
    #[arg(value_name = "BOX")]
    pub name: BoxArg,
}

/// Prints the processes of a running box.
pub fn run(service: &dyn Service, project: &ProjectName, args: &Args, out: &mut Output) -> Outcome {
    let processes = service.processes(&args.name.within(project))?;
    let rows: Vec<Vec<String>> = processes.iter().map(row).collect();
    out.rows(&processes, &["PID", "UID", "STATE", "MEMORY", "STARTED", "COMMAND"], &rows)?;
    Ok(0)
}

fn row(process: &ProcessInfo) -> Vec<String> {
    vec![
        process.pid.to_string(),
        process.uid.to_string(),
        process.state.clone(),
        process.rss_bytes.to_string(),
        process.started_at.to_string(),
        process.command.clone(),
    ]
}
