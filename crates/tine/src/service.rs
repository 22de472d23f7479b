//! Chooses the service that does the work: the pool of this machine. Holds the engine's only mention.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};
use tine_engine::{EngineConfig, LocalEngine};
use tine_model::{Error, ErrorCode, Result, Service};

/// Where a pool lies unless something else is said.
const DEFAULT_ROOT: &str = "/var/lib/tine";

/// Whom the commands talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The pool in this folder.
    Pool(PathBuf),
    /// A server.
    Server(String),
}

/// What was said about the target, by flag or environment.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// The pool's folder.
    pub root: Option<PathBuf>,
    /// The server's URL.
    pub host: Option<String>,
}

impl Target {
    /// A flag beats the environment, and in each a server beats a folder.
    pub fn choose(flags: Said, environment: Said) -> Self {
        let of = |said: Said| said.host.map(Self::Server).or(said.root.map(Self::Pool));
        of(flags).or_else(|| of(environment)).unwrap_or_else(|| Self::Pool(DEFAULT_ROOT.into()))
    }
}

/// The service at `target`; operations on a busy box wait up to `wait`.
pub fn connect(target: &Target, wait: Duration) -> Result<Box<dyn Service>> {
    match target {
        Target::Pool(root) => open(root.clone(), wait),
        Target::Server(_) => Err(Error::new(ErrorCode::Unsupported, "this build has no HTTP client")
            .hint("tine --root /var/lib/tine list")),
    }
}

fn open(root: PathBuf, wait: Duration) -> Result<Box<dyn Service>> {
    let mut config = EngineConfig::new(root);
    config.wait = wait;
    config.hub = std::env::var("TINE_HUB_URL").ok().filter(|hub| !hub.is_empty());
    config.env = std::env::vars_os().filter_map(for_transfers).collect();
    Ok(Box::new(LocalEngine::new(config)))
}

/// A variable that is about reaching other hosts. What is no text is none.
fn for_transfers((name, value): (OsString, OsString)) -> Option<(String, String)> {
    const PREFIXES: [&str; 4] = ["AWS_", "GOOGLE_", "AZURE_", "SSL_CERT_"];
    const NAMES: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "DOCKER_CONFIG", "HOME"];
    let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
    let upper = name.to_ascii_uppercase();
    let is_one = PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || NAMES.contains(&upper.as_str());
    is_one.then_some((name, value))
}

/// Runs the engine's monitor of one box; `args` follow its hidden name.
pub fn monitor(args: &[OsString]) -> ExitCode {
    let args: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    ExitCode::from(tine_engine::monitor_main(&args))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_beats_the_environment_and_a_server_a_folder() {
        let said = |root: Option<&str>, host: Option<&str>| Said {
            root: root.map(PathBuf::from),
            host: host.map(str::to_owned),
        };
        let pool = |root: &str| Target::Pool(root.into());
        assert_eq!(Target::choose(said(None, None), said(None, None)), pool(DEFAULT_ROOT));
        assert_eq!(Target::choose(said(Some("/a"), None), said(Some("/b"), Some("http://c"))), pool("/a"));
        assert_eq!(
            Target::choose(said(None, None), said(Some("/b"), Some("http://c"))),
            Target::Server("http://c".into())
        );
        let refused = connect(&Target::Server("http://c".into()), Duration::ZERO).err().unwrap();
        assert_eq!(refused.code, ErrorCode::Unsupported);
    }
}
