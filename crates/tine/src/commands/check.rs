//! `tine check`

use super::count;
use crate::{failure::Outcome, output::Output, table::or_dash};
use tine_model::{CheckRequest, Service};

/// What `check` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine check --read-data")]
pub struct Args {
    /// Also read all data and verify every checksum and stored digest
    #[arg(long)]
    pub read_data: bool,
}

/// Verifies the store and prints each broken invariant; 1 when there is one.
pub fn run(service: &dyn Service, args: &Args, out: &mut Output) -> Outcome {
    let request = CheckRequest { read_data: args.read_data };
    let report = out.long_work(|progress| service.check(&request, progress))?;
    let rows: Vec<Vec<String>> = report
        .problems
        .iter()
        .map(|p| vec![p.object.clone(), p.problem.clone(), or_dash(p.mend.as_ref())])
        .collect();
    let names: Vec<String> = report.problems.iter().map(|p| p.object.clone()).collect();
    let looked_at = format!("No problems in {} objects", report.checked);
    out.present(&report, names, |out| match rows.is_empty() {
        true => out.line(&looked_at),
        false => out.table(&["OBJECT", "PROBLEM", "MEND"], &rows),
    })?;
    if !rows.is_empty() {
        out.say(&format!("{} in {} objects", count(rows.len(), "problem"), report.checked));
    }
    Ok(u8::from(!rows.is_empty()))
}
