//! The box's process 1: this program's own code inside the container, never executed from a file of the box.
//!
//! It gives up what it does not need, then serves. Whatever it says outside is taken there for an attacker's word.

mod agent;
mod confine;

use agent::Agent;
use libcontainer::{
    oci_spec::runtime::Spec,
    workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError},
};
use std::{cell::RefCell, collections::HashMap, os::fd::OwnedFd, rc::Rc};
use tine_sys::process::{BpfInstruction, exit_immediately};

/// What the init keeps of what the monitor has prepared.
pub(crate) struct InitParts {
    /// Where clients ask for programs to be started.
    pub(crate) listener: OwnedFd,
    /// Where the output of background programs goes.
    pub(crate) log: OwnedFd,
    /// Hangs up when the monitor is dead.
    pub(crate) life: OwnedFd,
    /// The other end of `life`: the monitor's to hold, the init's to close.
    pub(crate) lives: RefCell<Option<OwnedFd>>,
    /// To be installed for everything in the box.
    pub(crate) filters: Vec<Vec<BpfInstruction>>,
}

/// The workload that the OCI runtime library is given in place of a program.
#[derive(Clone)]
pub(crate) struct BoxInit(Rc<InitParts>);

impl BoxInit {
    pub(crate) fn new(parts: InitParts) -> Self {
        Self(Rc::new(parts))
    }

    /// What the monitor must hold as long as it lives.
    pub(crate) fn take_life_line(&self) -> Option<OwnedFd> {
        self.0.lives.take()
    }

    fn run(&self) -> Result<(), ExecutorError> {
        let parts = &self.0;
        confine::confine(parts).map_err(|e| ExecutorError::Other(e.to_string()))?;
        let code = match Agent::new(parts) {
            Ok(agent) => agent.serve(),
            Err(_) => 1,
        };
        exit_immediately(code)
    }
}

impl Executor for BoxInit {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        self.run()
    }

    /// Called before the init reports that it is ready: from here on a dead monitor takes it along, and no signal is
    /// lost.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        drop(self.take_life_line());
        confine::die_with_monitor(&self.0.life)
            .and_then(|()| agent::hold_signals().map(drop))
            .map_err(|e| ExecutorValidationError::ArgValidationError(e.to_string()))
    }

    /// The monitor has no environment, and each program gets its own.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}
