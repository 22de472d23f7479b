//! Boxes on a host that has cgroup version 2 alone, in a virtual machine that is booted for it.

mod support;
mod vm;

use std::time::Duration;

/// A boot and all steps without hardware virtualisation, on a machine that has better things to do.
const PATIENCE: Duration = Duration::from_secs(240);

/// The steps that each part of the script is to take, as `part/step`.
fn planned() -> Vec<String> {
    let script = include_str!("vm/steps.sh");
    let (_, plan) = script.split_once("case $part in").unwrap_or_default();
    let (mut part, mut steps) = ("", Vec::new());
    for line in plan.lines() {
        part = line.strip_suffix(')').unwrap_or(part);
        steps.extend(line.trim().strip_prefix("step ").map(|name| format!("{part}/{name}")));
    }
    steps
}

#[test]
fn alone_boxes_live_and_end_where_cgroups_are_version_2_alone() {
    require!("vm");
    let planned = planned();
    assert!(!planned.is_empty());
    let console = vm::run(PATIENCE);
    eprintln!("{console}");
    let failed: Vec<String> =
        planned.into_iter().filter(|step| !console.contains(&format!("STEP {step}: ok"))).collect();
    assert!(failed.is_empty(), "{failed:?} failed");
    assert!(console.contains("DOWN "), "the machine did not end by itself");
}
