//! `update`: changes a box's settings; limits at once, mounts and network from the next start on.

use super::{create, for_box, info, status};
use crate::{LocalEngine, machine};
use tine_model::{
    BoxKind, BoxRef, BoxSettings, BoxStatus, Change, Error, ErrorCode, Result, UpdateBox, UpdateReport,
};

pub fn run(engine: &LocalEngine, name: &BoxRef, request: &UpdateBox) -> Result<UpdateReport> {
    let pool = engine.pool()?;
    let locked = engine.lock(&pool, name)?;
    let before = locked.meta()?.settings;
    let after = changed(&before, request)?;
    create::check_settings(&after)?;
    let is_vm = locked.meta()?.kind == BoxKind::Vm;
    let after = if is_vm { machine_settings(after, request)? } else { after };
    if !is_vm && !matches!(request.disk_bytes, Change::Keep) {
        locked.set_disk_limit(after.limits.disk_bytes)?;
    }
    let running = status(&pool, name)? != BoxStatus::Stopped;
    // the limits may be refused, and then nothing has changed
    if running && before.limits != after.limits {
        tine_machine::set_limits(&pool.box_run_path(name), &after.limits)
            .map_err(|e| for_box(name)(e.into()))?;
    }
    locked.write_settings(&after)?;
    let remounts = before.volumes != after.volumes
        || before.network != after.network
        || (is_vm && before.limits.memory_bytes != after.limits.memory_bytes);
    Ok(UpdateReport { info: info::run(&pool, name)?, needs_restart: running && remounts })
}

/// A machine's disk has its size for life, and nothing is mounted over it.
fn machine_settings(after: BoxSettings, request: &UpdateBox) -> Result<BoxSettings> {
    let usage = |message: &str| Err(Error::new(ErrorCode::Usage, message));
    if !matches!(request.disk_bytes, Change::Keep) {
        return usage("the disk of a vm box has its size for life");
    }
    if !after.volumes.is_empty() {
        return usage("volumes can only be attached to boxes of kind container");
    }
    machine::complete(&after)
}

/// The settings after the request.
fn changed(before: &BoxSettings, request: &UpdateBox) -> Result<BoxSettings> {
    let mut after = before.clone();
    after.env.retain(|var| {
        !request.unset_env.contains(&var.key) && !request.set_env.iter().any(|s| s.key == var.key)
    });
    after.env.extend(request.set_env.iter().cloned());
    after.tags.retain(|tag| {
        !request.unset_tags.contains(&tag.key) && !request.set_tags.iter().any(|s| s.key == tag.key)
    });
    after.tags.extend(request.set_tags.iter().cloned());
    request.cpu.apply(&mut after.limits.cpu);
    request.memory_bytes.apply(&mut after.limits.memory_bytes);
    request.pids.apply(&mut after.limits.pids);
    request.disk_bytes.apply(&mut after.limits.disk_bytes);
    for path in &request.detach {
        let count = after.volumes.len();
        after.volumes.retain(|volume| volume.path != *path);
        if after.volumes.len() == count {
            return Err(Error::new(ErrorCode::NotFound, format!("no volume is attached at {path}")));
        }
    }
    after.volumes.extend(request.attach.iter().cloned());
    after.network = request.network.unwrap_or(after.network);
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_set_replaced_and_removed() {
        let before = BoxSettings {
            env: vec!["A=1".parse().unwrap(), "B=2".parse().unwrap()],
            tags: vec!["t=1".parse().unwrap()],
            volumes: vec!["v=/v".parse().unwrap()],
            ..Default::default()
        };
        let request = UpdateBox {
            set_env: vec!["B=3".parse().unwrap()],
            unset_env: vec!["A".into()],
            unset_tags: vec!["t".into()],
            pids: Change::Set(9),
            detach: vec!["/v".parse().unwrap()],
            ..Default::default()
        };
        let after = changed(&before, &request).unwrap();
        assert_eq!(
            (after.env, after.tags, after.limits.pids),
            (vec!["B=3".parse().unwrap()], vec![], Some(9))
        );
        assert!(after.volumes.is_empty());
        let missing = UpdateBox { detach: vec!["/w".parse().unwrap()], ..Default::default() };
        assert_eq!(changed(&before, &missing).unwrap_err().code, ErrorCode::NotFound);
    }
}
