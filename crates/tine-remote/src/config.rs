//! What a caller decides about transfers: the environment to heed, patience, and how much at a time.

use std::time::Duration;

const MIB: u64 = 1 << 20;

/// How transfers are done.
#[derive(Clone)]
pub struct RemoteConfig {
    /// The variables to heed, as the caller found them: `AWS_…`, `GOOGLE_…`, `AZURE_…`, `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`,
    /// `NO_PROXY` (also in lower case), `SSL_CERT_FILE`, `SSL_CERT_DIR`, `DOCKER_CONFIG`, `HOME` (for `.docker/config.json`).
    pub env: Vec<(String, String)>,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// How long a server may stay silent in the middle of something.
    pub idle_timeout: Duration,
    /// How long a server may take to answer once it has all that was uploaded.
    pub answer_timeout: Duration,
    /// How long [`crate::Remote::fetch_small`] and [`crate::Remote::head`] may take in all.
    pub small_deadline: Duration,
    /// How often something that may pass is tried again without anything having been gained between.
    pub retries: u32,
    /// The first pause before trying again; doubled each time, up to ten seconds.
    pub backoff: Duration,
    /// The longest pause that a server's `Retry-After` can ask for.
    pub retry_after_max: Duration,
    /// How many ranges or parts are under way at once.
    pub streams: usize,
    /// The length of a range, in bytes.
    pub block: u64,
    /// The smallest file that is fetched by several streams, in bytes.
    pub parallel_from: u64,
    /// After how many new bytes they are made durable and written down as had.
    pub sync_every: u64,
    /// The least length of a part of an upload, in bytes; object stores want 5 MiB or more.
    pub part: u64,
}

impl Default for RemoteConfig {
    fn default() -> Self {
        Self {
            env: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(300),
            small_deadline: Duration::from_secs(60),
            retries: 5,
            backoff: Duration::from_millis(250),
            retry_after_max: Duration::from_secs(60),
            streams: 4,
            block: 8 * MIB,
            parallel_from: 16 * MIB,
            sync_every: 256 * MIB,
            part: 8 * MIB,
        }
    }
}

/// Names of the variables only: their values are secrets.
impl std::fmt::Debug for RemoteConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("RemoteConfig")
            .field("env", &names)
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

impl RemoteConfig {
    /// The value of a variable; an empty one counts as unset.
    pub(crate) fn var(&self, name: &str) -> Option<&str> {
        let found = self.env.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The value of a variable that is spelt in lower case as often.
    pub(crate) fn var_any_case(&self, name: &str) -> Option<&str> {
        self.var(&name.to_ascii_lowercase()).or_else(|| self.var(name))
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.clamp(1, 32)
    }

    pub(crate) fn block(&self) -> u64 {
        self.block.max(4096)
    }
}
