//! `tine doctor`

use crate::{failure::Outcome, output::Output, table::or_dash};
use tine_model::{CheckStatus, Service};

/// What `doctor` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine doctor")]
pub struct Args {}

/// Prints how everything needed stands; 1 when something needed is missing.
pub fn run(service: &dyn Service, out: &mut Output) -> Outcome {
    let report = service.doctor()?;
    let rows: Vec<Vec<String>> = report
        .items
        .iter()
        .map(|i| vec![i.name.clone(), word(i.status).to_owned(), i.detail.clone(), or_dash(i.mend.as_ref())])
        .collect();
    let wrong = report.items.iter().filter(|i| i.status != CheckStatus::Ok).map(|i| i.name.clone());
    out.present(&report, wrong, |out| out.table(&["CHECK", "STATUS", "DETAIL", "MEND"], &rows))?;
    Ok(u8::from(!report.healthy))
}

fn word(status: CheckStatus) -> &'static str {
    match status {
        CheckStatus::Ok => "ok",
        CheckStatus::Warning => "warning",
        CheckStatus::Failed => "failed",
    }
}
