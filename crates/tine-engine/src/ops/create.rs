//! `create`: a new box, and unless told otherwise a running one.

use super::{child, info, quiesced, start};
use crate::{LocalEngine, machine};
use tine_model::{
    BoxInfo, BoxKind, BoxSettings, BoxSource, Contract, CreateBox, Error, ErrorCode, ImageTag, NetworkMode,
    Reporter, Result, Silent,
};
use tine_store::Pool;

/// Makes the box durable first; if it then does not start, it is deleted again: a failed command leaves nothing.
pub fn run(engine: &LocalEngine, request: &CreateBox, reporter: &dyn Reporter) -> Result<BoxInfo> {
    check_settings(&request.settings)?;
    let pool = engine.pool()?;
    reporter.step(&format!("creating {}", request.name), None);
    let kind = if request.vm { BoxKind::Vm } else { pool.kind_of_source(&request.source)? };
    match (kind, &request.source) {
        (BoxKind::Vm, BoxSource::Image(tag)) if request.start && !request.cold => {
            go_on(engine, &pool, request, tag)?;
            return info::run(&pool, &request.name);
        }
        (BoxKind::Vm, _) => create_machine(&pool, request)?,
        (BoxKind::Container, _) => {
            refuse_machine_settings(&request.settings)?;
            pool.create_box(&request.name, &request.source, &request.settings)?;
        }
    }
    if request.start {
        let locked = engine.lock(&pool, &request.name)?;
        if let Err(error) = start::start(engine, &pool, &locked) {
            start::end(&pool, &locked, None)?;
            locked.delete()?;
            return Err(error);
        }
    }
    info::run(&pool, &request.name)
}

/// A box with a disk, which boots it when it is started.
fn create_machine(pool: &Pool, request: &CreateBox) -> Result<()> {
    let settings = machine::complete(&request.settings)?;
    let kernel = pool.default_kernel(&Silent)?;
    let (name, source) = (&request.name, &request.source);
    let create = || Ok(pool.create_vm_box(name, source, &settings, Some(kernel.name.clone()))?);
    match source {
        BoxSource::Box(source) => quiesced(pool, source, &Silent, create)?,
        _ => create()?,
    };
    Ok(())
}

/// A box that goes on from an image's instant.
fn go_on(engine: &LocalEngine, pool: &Pool, request: &CreateBox, tag: &ImageTag) -> Result<()> {
    pool.check_box_name(&request.name)?;
    let image = pool.open_image(tag)?;
    let (files, contract) =
        child::verified(engine, &image.state, &format!("image {tag}")).map_err(|error| {
            match image.state.files.disk() {
                Some(_) => error.hint(format!("tine create {} --image {tag} --cold", request.name)),
                None => error,
            }
        })?;
    refuse_other_hardware(&request.settings, contract, tag)?;
    let settings = child::settings_of(contract, &request.settings);
    let origin = image.root_origin()?;
    let from = machine::From::State { files, contract };
    child::make(engine, pool, &origin, &settings, &from, &request.name)?.publish()?;
    Ok(())
}

/// What a machine has is part of its state.
fn refuse_other_hardware(settings: &BoxSettings, contract: &Contract, tag: &ImageTag) -> Result<()> {
    let memory = settings.limits.memory_bytes.filter(|m| *m != contract.memory_bytes);
    let cpus = settings.cpus.filter(|n| *n != contract.cpus);
    let accel = settings.accel.filter(|a| *a != contract.accel);
    let wanted = memory
        .map(|m| format!("{m} of memory, not {}", contract.memory_bytes))
        .or(cpus.map(|n| format!("{n} processors, not {}", contract.cpus)))
        .or(accel.map(|a| format!("{a}, not {}", contract.accel)));
    match wanted {
        None => Ok(()),
        Some(wanted) => {
            let message = format!("a machine that goes on from image {tag} cannot have {wanted}");
            Err(Error::new(ErrorCode::Incompatible, message).hint("add --cold to boot its disk instead"))
        }
    }
}

fn refuse_machine_settings(settings: &BoxSettings) -> Result<()> {
    let flag = settings.cpus.map(|_| "--cpus").or(settings.accel.map(|_| "--accel"));
    match flag {
        None => Ok(()),
        Some(flag) => {
            let message = format!("{flag} is for boxes of kind vm");
            Err(Error::new(ErrorCode::Usage, message).hint("add --vm"))
        }
    }
}

/// Refuses settings that contradict each other before anything is made.
pub fn check_settings(settings: &BoxSettings) -> Result<()> {
    let usage = |message: String| Err(Error::new(ErrorCode::Usage, message));
    let ports = !settings.publish.is_empty() || !settings.host_ports.is_empty();
    if ports && settings.network != NetworkMode::Nat {
        return usage(format!("ports can only be opened with the network nat, not {}", settings.network));
    }
    let mut paths: Vec<&str> = settings.volumes.iter().map(|v| v.path.as_str()).collect();
    paths.sort_unstable();
    if let Some(pair) = paths.windows(2).find(|pair| pair[0] == pair[1]) {
        return usage(format!("two volumes are attached at {}", pair[0]));
    }
    if let Some(memory) = settings.limits.memory_bytes.filter(|m| m.bytes() < 4 << 20) {
        return usage(format!(
            "a memory limit of {memory} is too little to start anything; 4 MiB is the least"
        ));
    }
    if settings.limits.pids.is_some_and(|pids| pids < 4) {
        return usage("a limit of fewer than 4 processes is too little to run anything".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tine_model::Limits;

    #[test]
    fn contradicting_settings_are_refused() {
        let refused = |settings: BoxSettings| check_settings(&settings).unwrap_err().code == ErrorCode::Usage;
        let publish = vec!["80:80".parse().unwrap()];
        assert!(refused(BoxSettings {
            publish: publish.clone(),
            network: NetworkMode::None,
            ..Default::default()
        }));
        assert!(check_settings(&BoxSettings { publish, ..Default::default() }).is_ok());
        let volumes = vec!["a=/data".parse().unwrap(), "b=/data".parse().unwrap()];
        assert!(refused(BoxSettings { volumes, ..Default::default() }));
        let limits = Limits { memory_bytes: Some(tine_model::ByteSize(1)), ..Default::default() };
        assert!(refused(BoxSettings { limits, ..Default::default() }));
    }
}
