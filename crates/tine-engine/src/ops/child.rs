//! A running box that goes on from a saved state, or boots a disk that was cloned for it: made where nobody sees it,
//! and shown when it is ready.

use crate::{LocalEngine, machine};
use std::time::Instant;
use tine_machine::{StartClocks, Tied};
use tine_model::{Accel, BoxRef, BoxSettings, Contract, Error, ErrorCode, Result, Silent};
use tine_store::{OpenState, Pool, RootOrigin, StagedBox, StateFiles};

/// A box that runs and is not shown yet. Dropped without being published, nothing of it stays.
pub struct Child<'p> {
    name: BoxRef,
    staged: Option<StagedBox<'p>>,
    tied: Option<Tied>,
    begun: Instant,
}

/// The files of a saved machine that is what was saved, and what it needs, which this host has.
pub fn verified<'s>(
    engine: &LocalEngine,
    state: &'s OpenState,
    what: &str,
) -> Result<(&'s StateFiles, &'s Contract)> {
    let contract = state.saved.contract.as_ref().ok_or_else(|| foreign(what))?;
    // whether kvm works is found out by running a guest, which takes a kernel
    let kernel = match contract.accel {
        Accel::Kvm => engine.pool()?.default_kernel(&Silent).ok(),
        Accel::Tcg => None,
    };
    machine::Runner::find(engine, kernel.as_ref())?.require(contract, what)?;
    state.verify()?;
    Ok((&state.files, contract))
}

fn foreign(what: &str) -> Error {
    let message = format!(
        "{what} cannot go on here: it was made by a program whose machines QEMU does not run; it can be packed again"
    );
    Error::new(ErrorCode::Incompatible, message)
}

/// A box's settings with what the machine has by its state.
pub fn settings_of(contract: &Contract, wanted: &BoxSettings) -> BoxSettings {
    let mut settings = wanted.clone();
    settings.limits.memory_bytes = Some(contract.memory_bytes);
    settings.cpus = Some(contract.cpus);
    settings
}

/// Makes one. When this process dies before it is published, its machine ends.
pub fn make<'p>(
    engine: &LocalEngine,
    pool: &'p Pool,
    origin: &RootOrigin<'_>,
    settings: &BoxSettings,
    from: &machine::From<'_>,
    name: &BoxRef,
) -> Result<Child<'p>> {
    let begun = Instant::now();
    let staged = pool.stage_box(origin, settings, None)?;
    let place = machine::Place { run_dir: staged.run_path(), root: staged.root_path(), name: name.clone() };
    let spec = machine::start_spec(engine, pool, &place, staged.meta(), from)?;
    let mut child = Child { name: name.clone(), staged: Some(staged), tied: None, begun };
    let program = machine::monitor_program(engine, pool, name);
    let mut tied = tine_machine::start_tied(&spec, &program)
        .map_err(|error| tine_model::Error::from(error).context(format!("start {name}")))?;
    tied.started.clocks = tied.started.clocks.map(|clocks| since(begun, clocks));
    child.tied = Some(tied);
    Ok(child)
}

/// A monitor's clocks, which have just come, counted from this beginning instead of the monitor's own: as if its
/// word of the last of them had taken no time.
fn since(begun: Instant, clocks: StartClocks) -> StartClocks {
    let now = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let before = now.saturating_sub(clocks.agent_acknowledged_us);
    // a machine that boots loads no state
    let shifted = |us: u64| if us == 0 { 0 } else { us.saturating_add(before) };
    StartClocks {
        process_started_us: shifted(clocks.process_started_us),
        state_loaded_us: shifted(clocks.state_loaded_us),
        resumed_us: shifted(clocks.resumed_us),
        agent_acknowledged_us: shifted(clocks.agent_acknowledged_us),
    }
}

impl Child<'_> {
    /// Its run directory, as long as it is not published.
    pub fn run_dir(&self) -> std::path::PathBuf {
        self.staged.as_ref().map(StagedBox::run_path).unwrap_or_default()
    }

    /// Where its root lies, as long as it is not published.
    pub fn root_path(&self) -> std::path::PathBuf {
        self.staged.as_ref().map(StagedBox::root_path).unwrap_or_default()
    }

    /// When its making began.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Shows it; from then on it outlives this process. The clocks count from when its making began.
    pub fn publish(mut self) -> Result<StartClocks> {
        let clocks = self.tied.as_ref().and_then(|tied| tied.started.clocks).unwrap_or_default();
        if let Some(staged) = self.staged.take()
            && let Err(error) = staged.publish(&self.name)
        {
            // what was staged is gone already, and its machine ends by itself
            return Err(error.into());
        }
        match self.tied.take() {
            Some(tied) => tied.release().map_err(tine_model::Error::from).map(|_| clocks),
            None => Ok(clocks),
        }
    }
}

impl Drop for Child<'_> {
    fn drop(&mut self) {
        if let Some(staged) = &self.staged {
            // waits for the end, so that nothing runs in what is removed next
            let _ = tine_machine::kill(&staged.run_path());
            // what a monitor that was killed could not remove
            let _ = tine_machine::cgroup::reap_leftovers(&staged.meta().id);
        }
    }
}
