//! `start`: what a box is started with, and how it is ended again.

use super::{for_box, info, status};
use crate::{LocalEngine, machine, pool_id};
use std::path::PathBuf;
use tine_machine::{
    Bind, ContainerSpec, MachineSpec, StartSpec,
    net::{Device, NetworkSpec},
};
use tine_model::{BoxInfo, BoxKind, BoxRef, BoxStatus, Error, ErrorCode, Result, VolumeRef};
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
    start_from(engine, pool, locked, &machine::From::Disk)
}

/// As [`start`]; a vm box starts from its disk or goes on from a saved state.
pub fn start_from(
    engine: &LocalEngine,
    pool: &Pool,
    locked: &LockedBox<'_>,
    from: &machine::From<'_>,
) -> Result<()> {
    let name = locked.name();
    let meta = locked.meta()?;
    let spec = match meta.kind {
        BoxKind::Container => container_spec(engine, pool, name, &meta)?,
        BoxKind::Vm => {
            let place = machine::Place {
                run_dir: pool.box_run_path(name),
                root: pool.box_root_path(name),
                name: name.clone(),
            };
            machine::start_spec(engine, pool, &place, &meta, from)?
        }
    };
    tine_machine::start(&spec, &machine::monitor_program(engine, pool, name))
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

fn container_spec(engine: &LocalEngine, pool: &Pool, name: &BoxRef, meta: &BoxMeta) -> Result<StartSpec> {
    let run_dir = pool.box_run_path(name);
    let log_dir = run_dir.parent().map_or_else(|| run_dir.clone(), PathBuf::from);
    Ok(StartSpec {
        id: meta.id.clone(),
        hostname: name.name.clone(),
        log_dir,
        machine: MachineSpec::Container(ContainerSpec {
            root: pool.box_root_path(name),
            binds: binds(pool, name, meta)?,
        }),
        tied: false,
        limits: meta.settings.limits,
        network: NetworkSpec {
            mode: meta.settings.network,
            device: Device::Veth,
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
