//! What lives as long as a command does: the runtime, the HTTP client, and the small questions to a server.

use crate::{
    client,
    config::RemoteConfig,
    error::{RemoteError, Result},
    location::{Location, Scheme},
    retry::{Fault, retrying},
    source::{Part, Source},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use std::sync::{Arc, OnceLock};
use tokio::runtime::Runtime;

/// Connections to servers. Cheap to clone. Blocks its caller; never to be called from asynchronous code.
#[derive(Clone)]
pub struct Remote {
    pub(crate) core: Arc<Core>,
    pub(crate) runtime: Arc<Runtime>,
}

/// The part of a [`Remote`] that tasks of its runtime hold.
pub(crate) struct Core {
    pub(crate) config: RemoteConfig,
    client: OnceLock<client::Client>,
}

/// What a server says of a file without sending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its length in bytes, where the server tells.
    pub size: Option<u64>,
    /// What tells one version from the next; of an OCI artifact its digest.
    pub etag: Option<String>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("config", &self.core.config).finish_non_exhaustive()
    }
}

impl Core {
    /// The HTTP client, for whatever it is asked.
    pub(crate) fn client(&self) -> Result<reqwest::Client> {
        let client = self.made_client()?;
        client.authorities.read()?;
        Ok(client.http.clone())
    }

    /// The HTTP client, for this URL: without TLS no certificates are read.
    pub(crate) fn client_for(&self, url: &reqwest::Url) -> Result<reqwest::Client> {
        if url.scheme() == "http" { Ok(self.made_client()?.http.clone()) } else { self.client() }
    }

    /// Made when it is first wanted.
    fn made_client(&self) -> Result<&client::Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let made = client::build(&self.config)?;
        Ok(self.client.get_or_init(|| made))
    }
}

impl Remote {
    /// Makes the runtime. Nothing is connected yet.
    ///
    /// # Errors
    /// [`RemoteError::Internal`] when no threads can be made.
    pub fn new(config: RemoteConfig) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.streams().min(4))
            .thread_name("tine-remote")
            .enable_all()
            .build()
            .map_err(|e| RemoteError::Internal(format!("starting threads for transfers: {e}")))?;
        let core = Arc::new(Core { config, client: OnceLock::new() });
        Ok(Self { core, runtime: Arc::new(runtime) })
    }

    /// Fetches a small file whole; none when it does not exist.
    ///
    /// # Errors
    /// [`RemoteError::TooLarge`] beyond `max_bytes`, whatever length the server announces; those of the server and the network
    /// otherwise, after the configured retries or deadline.
    pub fn fetch_small(&self, location: &Location, max_bytes: u64) -> Result<Option<Bytes>> {
        let core = &self.core;
        let work = retrying(&core.config, || small(core, location, max_bytes));
        self.in_time(location, work).map_or_else(absent, |bytes| Ok(Some(bytes)))
    }

    /// Asks for a file's length and version; none when it does not exist.
    ///
    /// # Errors
    /// Those of the server and the network, after the configured retries or deadline.
    pub fn head(&self, location: &Location) -> Result<Option<Head>> {
        let core = &self.core;
        let work = retrying(&core.config, || async { Source::connect(core, location).await?.0.head().await });
        self.in_time(location, work).map_or_else(absent, |head| Ok(Some(head)))
    }

    pub(crate) fn in_time<T>(
        &self,
        location: &Location,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T> {
        let limit = self.core.config.small_deadline;
        let ended = self.runtime.block_on(async { tokio::time::timeout(limit, work).await });
        match ended {
            Ok(result) => result.map_err(|fault| fault.into_error(location)),
            Err(_) => {
                Err(RemoteError::unreachable(location, format!("no answer within {} s", limit.as_secs())))
            }
        }
    }
}

pub(crate) fn absent<T>(error: RemoteError) -> Result<Option<T>> {
    match error {
        RemoteError::NotFound { .. } => Ok(None),
        other => Err(other),
    }
}

async fn small(core: &Arc<Core>, location: &Location, max: u64) -> Result<Bytes, Fault> {
    let (source, _) = Source::connect(core, location).await?;
    let mut reply = source.get(None, None).await?;
    if matches!(reply.part, Part::Whole { length: Some(length) } if length > max) {
        return Err(RemoteError::too_large(location, max).into());
    }
    let mut all = BytesMut::new();
    while let Some(chunk) = reply.body.next().await {
        let chunk = chunk?;
        if (all.len() as u64).saturating_add(chunk.len() as u64) > max {
            return Err(RemoteError::too_large(location, max).into());
        }
        all.extend_from_slice(&chunk);
    }
    match reply.part {
        Part::Whole { length: Some(length) } if length != all.len() as u64 => {
            Err(Fault::passing(RemoteError::unreachable(location, "the server broke off")))
        }
        _ => Ok(all.freeze()),
    }
}

impl Location {
    /// True when the place can only be reached over the network.
    #[must_use]
    pub fn is_far(&self) -> bool {
        self.scheme() != Scheme::File
    }
}
