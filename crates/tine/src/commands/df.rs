//! `tine df`

use crate::{failure::Outcome, output::Output, progress::Length};
use tine_model::{Service, StoredKind, StoredUsage};

/// What `df` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine df")]
pub struct Args {}

/// Prints the pool's space and what each box, image, kernel and cached disk takes of it; only boxes when quiet.
pub fn run(service: &dyn Service, out: &mut Output) -> Outcome {
    let usage = service.disk_usage(&out.progress(Length::Short))?;
    let row = |b: &tine_model::BoxUsage| {
        let name = format!("{}:{}", b.name.project, b.name.name);
        vec![name, b.logical_bytes.to_string(), b.exclusive_bytes.to_string()]
    };
    let rows: Vec<Vec<String>> = usage.boxes.iter().map(row).collect();
    let names: Vec<String> = rows.iter().filter_map(|r| r.first().cloned()).collect();
    out.present(&usage, names, |out| {
        let pool = [usage.total_bytes, usage.used_bytes, usage.free_bytes].map(|b| b.to_string());
        out.table(&["TOTAL", "USED", "FREE"], &[pool.to_vec()])?;
        out.line("")?;
        out.table(&["NAME", "LOGICAL", "EXCLUSIVE"], &rows)?;
        stored(&usage.stored, out)
    })?;
    Ok(0)
}

fn stored(stored: &[StoredUsage], out: &mut Output) -> Outcome<()> {
    if stored.is_empty() {
        return Ok(());
    }
    let row = |s: &StoredUsage| {
        let kind = match s.kind {
            StoredKind::Image => "image",
            StoredKind::Kernel => "kernel",
            StoredKind::Disk => "disk",
        };
        vec![kind.to_owned(), s.name.clone(), s.logical_bytes.to_string(), s.exclusive_bytes.to_string()]
    };
    out.line("")?;
    out.table(&["KIND", "NAME", "LOGICAL", "EXCLUSIVE"], &stored.iter().map(row).collect::<Vec<_>>())
}
