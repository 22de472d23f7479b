//! `start`: what a box is started with, and how it is ended again.

use super::{for_box, info, status};
use crate::{LocalEngine, pool_id};
use std::path::PathBuf;
use tine_machine::{Bind, MonitorProgram, StartSpec, net::NetworkSpec};
use tine_model::{BoxInfo, BoxRef, BoxStatus, Error, ErrorCode, Result, VolumeRef};
use tine_store::{BoxMeta, LockedBox, Pool};

/// Starts a stopped box; nothing for a running one.
pub fn run(engine: &LocalEngine, name: &BoxRef) -> Result<BoxInfo> {
    let pool = engine.pool()?;
    let locked = engine.lock(&pool, name)?;
    match status(&pool, name)? {
        BoxStatus::Running => {}
        BoxStatus::Paused => {
            let message = format!("box {name} is paused");
            return Err(Error::new(ErrorCode::WrongState, message).hint(format!("tine resume {name}")));
        }
        BoxStatus::Stopped => start(engine, &pool, &locked)?,
    }
    info::run(&pool, name)
}

/// Starts a box that is held and stopped.
pub fn start(engine: &LocalEngine, pool: &Pool, locked: &LockedBox<'_>) -> Result<()> {
    let name = locked.name();
    let spec = start_spec(engine, pool, name, &locked.meta()?)?;
    let program = MonitorProgram {
        path: engine.config.monitor_program.clone(),
        argv: vec![
            "tine".to_owned(),
            "__monitor".to_owned(),
            pool.root().display().to_string(),
            format!("{}:{}", name.project, name.name),
        ],
    };
    tine_machine::start(&spec, &program)
        .map_err(|error| for_box(name)(error.into()).context(format!("start {name}")))?;
    Ok(())
}

/// Ends a box that is held: its programs get `grace_seconds`, or none. Also reaps what a killed monitor left.
pub fn end(pool: &Pool, locked: &LockedBox<'_>, grace_seconds: Option<u32>) -> Result<()> {
    let run_dir = pool.box_run_path(locked.name());
    match grace_seconds {
        Some(seconds) => tine_machine::stop(&run_dir, seconds)?,
        None => tine_machine::kill(&run_dir)?,
    }
    // a box whose document cannot be read has to be ended all the same
    if let Ok(meta) = locked.meta() {
        tine_machine::cgroup::reap_leftovers(&meta.id)?;
    }
    Ok(())
}

/// Whether the box was made with `--rm`.
pub fn goes_when_stopped(locked: &LockedBox<'_>) -> bool {
    locked.meta().is_ok_and(|meta| meta.settings.remove_on_stop)
}

fn start_spec(engine: &LocalEngine, pool: &Pool, name: &BoxRef, meta: &BoxMeta) -> Result<StartSpec> {
    let run_dir = pool.box_run_path(name);
    let log_dir = run_dir.parent().map_or_else(|| run_dir.clone(), PathBuf::from);
    Ok(StartSpec {
        id: meta.id.clone(),
        hostname: name.name.clone(),
        root: pool.box_root_path(name),
        log_dir,
        binds: binds(pool, name, meta)?,
        limits: meta.settings.limits,
        network: NetworkSpec {
            mode: meta.settings.network,
            project: name.project.clone(),
            box_name: name.name.clone(),
            pool_id: pool_id(pool)?,
            publish: meta.settings.publish.clone(),
            host_ports: meta.settings.host_ports.clone(),
            state_dir: run_dir.clone(),
            runtime_dir: engine.config.runtime_dir.clone(),
        },
        run_dir,
    })
}

/// The shared folders and the volumes, the outer paths first.
fn binds(pool: &Pool, name: &BoxRef, meta: &BoxMeta) -> Result<Vec<Bind>> {
    let shared = pool.shared_dirs(&name.project)?;
    let bind =
        |source: PathBuf, target: &str, read_only| Bind { source, target: PathBuf::from(target), read_only };
    let mut binds = vec![
        bind(shared.home, "/home", false),
        bind(shared.project, "/box/proj", false),
        bind(shared.all, "/box/all", false),
        bind(shared.bin, "/box/bin", true),
    ];
    for volume in &meta.settings.volumes {
        let data =
            pool.volume_data_path(&VolumeRef { project: name.project.clone(), name: volume.volume.clone() });
        binds.push(bind(data, volume.path.as_str(), volume.read_only));
    }
    binds.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(binds)
}
