//! Sending one file. It is there whole when this says so, and never before.

mod content;
mod local;
mod parts;
mod put;

pub(crate) use content::Content;

use crate::{
    error::{RemoteError, Result},
    location::{Location, Scheme},
    registry::{self, Pushed},
    remote::Remote,
};
use std::{fs::File, path::Path, sync::Arc, time::Duration};
use tine_model::{Reporter, Sha256Digest};

/// How often progress is told and the reporter asked whether to stop.
const LOOK: Duration = Duration::from_millis(100);

/// What to send, and where to.
#[derive(Debug, Clone, Copy)]
pub struct UploadRequest<'a> {
    /// The file, read from its beginning whatever its position; must not change meanwhile.
    pub file: &'a File,
    /// Its length in bytes.
    pub size: u64,
    /// Its digest, where the caller has it; registries need it, and it is found by reading the file otherwise.
    pub sha256: Option<Sha256Digest>,
    /// What it is called, for places that keep a title.
    pub name: &'a str,
    /// Its media type, for places that keep one.
    pub content_type: &'a str,
    /// Where it is to go.
    pub location: &'a Location,
    /// A file for what the store has already got, so that a broken upload goes on; without it, a broken one is withdrawn. Made
    /// where missing, and deleted at the end. Used for object stores only.
    pub journal: Option<&'a Path>,
    /// What belongs beside the file, for registries, which keep all of it in one artifact. Any other place gets each file by itself.
    pub beside: &'a [Beside<'a>],
}

/// A file that belongs beside another.
#[derive(Debug, Clone, Copy)]
pub struct Beside<'a> {
    /// As [`UploadRequest::file`].
    pub file: &'a File,
    /// Its length in bytes.
    pub size: u64,
    /// Its name.
    pub name: &'a str,
}

/// What an upload took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// Bytes that were sent.
    pub sent: u64,
    /// Bytes that were there already, of a broken upload or the same content.
    pub reused: u64,
    /// The version that the place gave it, where it tells; of an artifact its manifest's digest.
    pub etag: Option<String>,
}

impl Remote {
    /// Sends a file. Within 200 ms of the reporter's wish it stops.
    ///
    /// # Errors
    /// Whatever keeps the file from being there whole and acknowledged, with the server's status and the beginning of its text;
    /// [`RemoteError::Cancelled`].
    pub fn upload(&self, request: UploadRequest<'_>, reporter: &dyn Reporter) -> Result<Uploaded> {
        if request.location.scheme() == Scheme::Oci {
            return self.push(&request, reporter);
        }
        let content = Arc::new(opened(&request)?);
        self.watched(&request, &content, reporter, self.send(&request, &content))
    }

    /// Every file of an artifact, and then the artifact.
    fn push(&self, request: &UploadRequest<'_>, reporter: &dyn Reporter) -> Result<Uploaded> {
        let blob = |file: &UploadRequest<'_>| {
            let content = Arc::new(opened(file)?);
            let pushing = registry::push(&self.core, file.location, &content, file.name);
            self.watched(file, &content, reporter, pushing)
        };
        let beside = request.beside.iter().map(|Beside { file, size, name }| {
            blob(&UploadRequest { file, size: *size, name, sha256: None, ..*request })
        });
        let beside: Vec<Pushed> = beside.collect::<Result<_>>()?;
        let file = blob(request)?;
        let finishing = registry::finish(&self.core, request.location, &file, &beside);
        self.runtime.block_on(async {
            tokio::select! {
                done = finishing => done,
                stopped = wanted(reporter) => Err(stopped),
            }
        })
    }

    /// Tells what is sent, and stops it when the reporter wants that.
    fn watched<T>(
        &self,
        request: &UploadRequest<'_>,
        content: &Content,
        reporter: &dyn Reporter,
        sending: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        reporter.step(&format!("sending {} to {}", request.name, request.location), Some(request.size));
        self.runtime.block_on(async {
            tokio::select! {
                done = sending => {
                    reporter.advance(content.sent());
                    done
                }
                stopped = watch(content, reporter) => Err(stopped),
            }
        })
    }

    async fn send(&self, request: &UploadRequest<'_>, content: &Arc<Content>) -> Result<Uploaded> {
        let core = &self.core;
        match request.location.scheme() {
            Scheme::Http | Scheme::Https => put::put(core, request, content).await,
            Scheme::S3 | Scheme::Gs | Scheme::Az => parts::upload(core, request, content).await,
            Scheme::File => local::copy(request.location, content).await,
            Scheme::Oci => Err(RemoteError::Internal("a registry gets an artifact".to_owned())),
        }
    }
}

/// The content of a file that is as long as it was said to be.
fn opened(request: &UploadRequest<'_>) -> Result<Content> {
    let held = request.file.metadata().map_err(|e| RemoteError::io("reading", request.name, e))?;
    if held.len() != request.size {
        let why = format!("it has {} bytes instead of {}", held.len(), request.size);
        return Err(RemoteError::unexpected(request.name, why));
    }
    Content::of_file(request.file, request.size, request.sha256)
}

/// Ends when the reporter wants no more.
async fn wanted(reporter: &dyn Reporter) -> RemoteError {
    while !reporter.is_cancelled() {
        tokio::time::sleep(LOOK).await;
    }
    RemoteError::Cancelled
}

/// Tells progress; ends when the reporter wants it to end.
async fn watch(content: &Content, reporter: &dyn Reporter) -> RemoteError {
    let mut told = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        let sent = content.sent();
        if sent != told {
            told = sent;
            reporter.advance(sent);
        }
        if reporter.is_cancelled() {
            return RemoteError::Cancelled;
        }
    }
}
