//! `create`: a new box, and unless told otherwise a running one.

use super::{info, start};
use crate::LocalEngine;
use tine_model::{BoxInfo, BoxSettings, CreateBox, Error, ErrorCode, NetworkMode, Reporter, Result};

/// Makes the box durable first; if it then does not start, it is deleted again: a failed command leaves nothing.
pub fn run(engine: &LocalEngine, request: &CreateBox, reporter: &dyn Reporter) -> Result<BoxInfo> {
    check_settings(&request.settings)?;
    let pool = engine.pool()?;
    reporter.step(&format!("creating {}", request.name), None);
    pool.create_box(&request.name, &request.source, &request.settings)?;
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
