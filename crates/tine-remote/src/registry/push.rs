//! Pushing files as an artifact: their blobs in chunks, an empty configuration, and last the manifest that makes it visible.

use super::{ARTIFACT, Access, BESIDE, LAYER, MANIFEST, Place, TITLE, access::Make};
use crate::{
    error::{RemoteError, Result},
    location::Location,
    remote::Core,
    retry::{Fault, Tries, retrying},
    source::answer_fault,
    upload::{Content, Uploaded},
};
use bytes::Bytes;
use reqwest::{Response, StatusCode, Url, header};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tine_model::Sha256Digest;

/// The configuration of an artifact that has none (OCI image specification, "Guidance for an Empty Descriptor").
const EMPTY: (&str, &[u8]) = ("application/vnd.oci.empty.v1+json", b"{}");

/// A push under way.
struct Push<'a> {
    core: &'a Core,
    place: Place,
    access: Access,
}

/// A file that is at the registry, and not yet in an artifact.
pub(crate) struct Pushed {
    title: String,
    digest: Sha256Digest,
    size: u64,
    reused: bool,
}

/// Pushes `content`, which nobody sees before [`finish`].
pub(crate) async fn push(
    core: &Core,
    location: &Location,
    content: &Arc<Content>,
    title: &str,
) -> Result<Pushed> {
    let push = Push::new(core, location)?;
    let blob = async {
        let digest = content.digest().await?;
        let reused = push.has(&digest).await?;
        if !reused {
            push.blob(content, &digest).await?;
        }
        Ok(Pushed { title: title.to_owned(), digest, size: content.size(), reused })
    };
    blob.await.map_err(|fault: Fault| fault.into_error(location))
}

/// Makes the artifact of a file and of those that belong beside it.
pub(crate) async fn finish(
    core: &Core,
    location: &Location,
    file: &Pushed,
    beside: &[Pushed],
) -> Result<Uploaded> {
    let done = Push::new(core, location)?.finish(file, beside).await;
    done.map_err(|fault| fault.into_error(location))
}

impl<'a> Push<'a> {
    fn new(core: &'a Core, location: &Location) -> Result<Self> {
        let place = Place::parse(location)?;
        if place.reference.starts_with("sha256:") {
            return Err(RemoteError::location(location, "one pushes to a tag".to_owned()));
        }
        let access = Access::new(core, &place, "pull,push")?;
        Ok(Self { core, place, access })
    }

    async fn finish(&self, file: &Pushed, beside: &[Pushed]) -> Result<Uploaded, Fault> {
        let empty = Sha256Digest(Sha256::digest(EMPTY.1).into());
        if !self.has(&empty).await? {
            let small = Content::of_bytes(EMPTY.1);
            self.blob(&Arc::new(small), &empty).await?;
        }
        let manifest = manifest(&empty, file, beside);
        let etag = Some(format!("sha256:{}", Sha256Digest(Sha256::digest(&manifest).into())));
        self.manifest(manifest).await?;
        let bytes = |reused: bool| {
            let all = std::iter::once(file).chain(beside).filter(|pushed| pushed.reused == reused);
            all.map(|pushed| pushed.size).sum()
        };
        Ok(Uploaded { sent: bytes(false), reused: bytes(true), etag })
    }

    async fn has(&self, digest: &Sha256Digest) -> Result<bool, Fault> {
        let url = self.place.url(&format!("blobs/sha256:{digest}"))?;
        let response = self.retried(&|client| client.head(url.clone())).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.failed(response).await),
        }
    }

    async fn blob(&self, content: &Arc<Content>, digest: &Sha256Digest) -> Result<(), Fault> {
        let start = self.place.url("blobs/uploads/")?;
        let begun =
            self.retried(&|client| client.post(start.clone()).header(header::CONTENT_LENGTH, 0)).await?;
        if begun.status() != StatusCode::ACCEPTED {
            return Err(self.failed(begun).await);
        }
        let mut session = self.next(&begun)?;
        let (mut at, mut tries) = (0, Tries::new(&self.core.config));
        while at < content.size() {
            let part = content.part(at, self.core.config.part).await?;
            let length = part.len() as u64;
            match self.chunk(&session, at, part).await {
                Ok(next) => {
                    (session, at) = (next, at + length);
                    content.sent_to(at);
                    tries.gained();
                }
                Err(fault) => {
                    tries.again(fault).await?;
                    (session, at) = self.stand(session, at).await?;
                }
            }
        }
        self.close(session, digest).await
    }

    async fn chunk(&self, session: &Url, at: u64, part: Bytes) -> Result<Url, Fault> {
        let range = format!("{at}-{}", at + part.len() as u64 - 1);
        let patience = self.core.config.idle_timeout + Content::patience(part.len() as u64);
        let make = |client: &reqwest::Client| {
            client
                .patch(session.clone())
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .header(header::CONTENT_RANGE, &range)
                .header(header::CONTENT_LENGTH, part.len())
                .body(part.clone())
        };
        let response = self.access.send_within(patience, &make).await?;
        match response.status() {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT => Ok(self.next(&response)?),
            _ => Err(self.failed(response).await),
        }
    }

    /// Where a broken session stands at the registry.
    async fn stand(&self, session: Url, at: u64) -> Result<(Url, u64), Fault> {
        let response = self.retried(&|client| client.get(session.clone())).await?;
        if response.status() != StatusCode::NO_CONTENT {
            return Err(self.failed(response).await);
        }
        let range = response.headers().get(header::RANGE).and_then(|value| value.to_str().ok()).unwrap_or("");
        // "0-0" is said of nothing as well as of one byte
        let last: u64 = range.rsplit('-').next().and_then(|last| last.parse().ok()).unwrap_or(0);
        let stands = if last == 0 { 0 } else { last.saturating_add(1) };
        let possible = stands <= at.saturating_add(self.core.config.part);
        let stands =
            if possible { stands } else { return Err(self.refused("its session is ahead of us").into()) };
        Ok((self.next(&response)?, stands))
    }

    async fn close(&self, mut session: Url, digest: &Sha256Digest) -> Result<(), Fault> {
        session.query_pairs_mut().append_pair("digest", &format!("sha256:{digest}"));
        let make = |client: &reqwest::Client| client.put(session.clone()).header(header::CONTENT_LENGTH, 0);
        let response = self.access.send_within(self.core.config.answer_timeout, &make).await?;
        match response.status() {
            StatusCode::CREATED => Ok(()),
            _ => Err(self.failed(response).await),
        }
    }

    async fn manifest(&self, text: Vec<u8>) -> Result<(), Fault> {
        let url = self.place.url(&format!("manifests/{}", self.place.reference))?;
        let make = |client: &reqwest::Client| {
            client.put(url.clone()).header(header::CONTENT_TYPE, MANIFEST).body(text.clone())
        };
        let response = self.retried(&make).await?;
        match response.status() {
            StatusCode::CREATED => Ok(()),
            _ => Err(self.failed(response).await),
        }
    }

    /// Where the session goes on; never at another host's plain door.
    fn next(&self, response: &Response) -> Result<Url> {
        let text = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let url = text.and_then(|text| response.url().join(text).ok());
        let url = url.ok_or_else(|| self.refused("it names no place to upload to"))?;
        let same = url.host_str() == self.place.base.host_str() && url.scheme() == self.place.base.scheme();
        if same || url.scheme() == "https" {
            Ok(url)
        } else {
            Err(self.refused("its place to upload to is not safe"))
        }
    }

    fn refused(&self, why: &str) -> RemoteError {
        RemoteError::refused(&self.place.location, why)
    }

    async fn retried(&self, make: Make<'_>) -> Result<Response, Fault> {
        retrying(&self.core.config, || async {
            let response = self.access.send(make).await?;
            let status = response.status();
            let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            if passes { Err(self.failed(response).await) } else { Ok(response) }
        })
        .await
    }

    async fn failed(&self, response: Response) -> Fault {
        answer_fault(&self.place.location, response, self.core.config.idle_timeout).await
    }
}

impl Pushed {
    fn layer(&self, kind: &str) -> serde_json::Value {
        serde_json::json!({
            "mediaType": kind, "digest": format!("sha256:{}", self.digest), "size": self.size,
            "annotations": { TITLE: self.title },
        })
    }
}

fn manifest(config: &Sha256Digest, file: &Pushed, beside: &[Pushed]) -> Vec<u8> {
    let beside = beside.iter().map(|pushed| pushed.layer(BESIDE));
    let layers: Vec<_> = std::iter::once(file.layer(LAYER)).chain(beside).collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": ARTIFACT,
        "config": {
            "mediaType": EMPTY.0, "digest": format!("sha256:{config}"), "size": EMPTY.1.len(),
        },
        "layers": layers,
        "annotations": { TITLE: file.title },
    });
    manifest.to_string().into_bytes()
}
