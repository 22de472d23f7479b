//! What `fork` says at its end.

use super::super::count;
use crate::figures::{duration, percentile};
use tine_model::{ErrorCode, ForkReport};

/// `100 boxes in 37.2 s; ready after p50 18.9 s, …; 2.1 MiB of memory for each, 31.0 MiB with its share of the rest`.
pub fn summary(report: &ForkReport) -> String {
    let parts = [Some(made(report)), readiness(report), memory(report), pause(report)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// After the user asked to stop: which boxes are ready, and how many are not there.
pub fn stopped(report: &ForkReport) -> Option<String> {
    let broken_off = report.failed.iter().any(|f| f.error.code == ErrorCode::Cancelled);
    if report.cancelled == 0 && !broken_off {
        return None;
    }
    let names: Vec<String> = report.ready.iter().map(|child| child.name.to_string()).collect();
    let ready = match names.len() {
        0 => "no box is ready".to_owned(),
        1 => format!("ready is {}", names.concat()),
        _ => format!("ready are {}", names.join(", ")),
    };
    let missing = report.failed.len() + report.cancelled as usize;
    Some(format!("stopped as asked: {ready}; {} not made", count(missing, "box")))
}

fn made(report: &ForkReport) -> String {
    let broken = report.failed.iter().filter(|f| f.error.code != ErrorCode::Cancelled).count();
    let failed = if broken == 0 { String::new() } else { format!(", {broken} failed") };
    format!("{} in {}{failed}", count(report.ready.len(), "box"), duration(report.wall_us))
}

/// How long the boxes took to get ready, where there are several to compare.
fn readiness(report: &ForkReport) -> Option<String> {
    let mut times: Vec<u64> = report.ready.iter().map(|child| child.since_start_us).collect();
    times.sort_unstable();
    let one = |percent| percentile(&times, percent).map(|us| format!("p{percent} {}", duration(us)));
    let all: Vec<String> = [50, 90, 99].into_iter().filter_map(one).collect();
    (times.len() > 1).then(|| format!("ready after {}", all.join(", ")))
}

fn memory(report: &ForkReport) -> Option<String> {
    match (report.private_bytes, report.proportional_bytes) {
        (Some(own), Some(share)) => {
            Some(format!("{own} of memory for each, {share} with its share of the rest"))
        }
        (Some(own), None) => Some(format!("{own} of memory for each")),
        (None, Some(share)) => Some(format!("{share} of memory for each with its share of the rest")),
        (None, None) => None,
    }
}

fn pause(report: &ForkReport) -> Option<String> {
    report.pause_us.map(|us| format!("the source stood still for {}", duration(us)))
}
