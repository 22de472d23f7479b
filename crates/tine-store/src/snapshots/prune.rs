//! Which snapshots a rule keeps. Looks at names and times only; deletes nothing.

use super::SnapshotRecord;
use crate::error::{Result, StoreError};
use std::collections::BTreeSet;
use tine_model::{PruneReport, PruneSnapshots, SnapshotName};

/// What `rules` keep and remove of `snapshots`, which are given oldest first. A snapshot stays when any rule keeps it.
///
/// # Errors
/// `Usage` without a rule.
pub fn plan_prune(snapshots: &[SnapshotRecord], rules: &PruneSnapshots) -> Result<PruneReport> {
    if rules.keep_last.is_none() && rules.keep_daily.is_none() {
        return Err(StoreError::Usage { message: "prune needs --keep-last or --keep-daily".to_owned() });
    }
    let newest_first: Vec<&SnapshotRecord> = snapshots.iter().rev().collect();
    let last = newest_first.iter().take(rules.keep_last.unwrap_or(0) as usize).copied();
    let kept: BTreeSet<&SnapshotName> = last
        .chain(newest_of_days(&newest_first, rules.keep_daily.unwrap_or(0)))
        .map(|record| &record.name)
        .collect();
    let (keep, remove) = newest_first.iter().map(|r| r.name.clone()).partition(|name| kept.contains(name));
    Ok(PruneReport { dry_run: rules.dry_run, kept: keep, removed: remove })
}

/// The newest snapshot of each of the `days` most recent days (in UTC) that have one.
fn newest_of_days<'a>(
    newest_first: &[&'a SnapshotRecord],
    days: u32,
) -> impl Iterator<Item = &'a SnapshotRecord> {
    let mut seen = BTreeSet::new();
    newest_first.iter().copied().filter(move |r| seen.insert(r.created_at.day())).take(days as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tine_model::Timestamp;

    /// Snapshots taken at these hours since the epoch, oldest first, named by the hour.
    fn taken_at(hours: &[i64]) -> Vec<SnapshotRecord> {
        let record = |h: &i64| SnapshotRecord {
            name: format!("h{h}").parse().unwrap(),
            created_at: Timestamp::from_second(h * 3600),
            description: String::new(),
            missing_subvolumes: Vec::new(),
            live: false,
            created_ns: 0,
        };
        hours.iter().map(record).collect()
    }

    fn kept(hours: &[i64], last: Option<u32>, daily: Option<u32>) -> Vec<String> {
        let rules = PruneSnapshots { keep_last: last, keep_daily: daily, dry_run: false };
        let report = plan_prune(&taken_at(hours), &rules).unwrap();
        assert_eq!(report.kept.len() + report.removed.len(), hours.len());
        report.kept.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_snapshot_stays_when_any_rule_keeps_it() {
        let hours = [1, 2, 25, 26, 50, 100, 101];
        assert_eq!(kept(&hours, Some(3), None), ["h101", "h100", "h50"]);
        assert_eq!(kept(&hours, None, Some(2)), ["h101", "h50"]);
        assert_eq!(kept(&hours, Some(2), Some(4)), ["h101", "h100", "h50", "h26", "h2"]);
        assert_eq!(kept(&hours, Some(0), Some(0)), [""; 0]);
        assert_eq!(kept(&[], Some(1), None), [""; 0]);
        assert_eq!(kept(&hours, Some(u32::MAX), None).len(), 7);
    }

    #[test]
    fn without_a_rule_nothing_is_pruned() {
        assert!(plan_prune(&taken_at(&[1]), &PruneSnapshots::default()).is_err());
    }
}
