//! The agent as an ordinary process, for tests: `agent ROOT FILES [CGROUP]`, the link on its standard input.

use std::{os::fd::AsFd, path::Path, process::ExitCode};
use tine_agent::{
    AgentError, AgentResult,
    agent::{Config, IdentityFiles, serve},
};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> AgentResult<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (root, files, cgroup) = match arguments.as_slice() {
        [root, files] => (root, files, None),
        [root, files, cgroup] => (root, files, Some(cgroup)),
        _ => return Err(AgentError::Boot("usage: agent ROOT FILES [CGROUP]".to_owned())),
    };
    let link = std::io::stdin().as_fd().try_clone_to_owned();
    serve(Config {
        link: link.map_err(|e| AgentError::io("use", "standard input", e))?,
        is_first: false,
        root: root.into(),
        cgroup: cgroup.map(Into::into),
        identity: IdentityFiles::create(Path::new(files))?,
    })
}
