//! OCI registries: which blob an artifact is, and pushing one (OCI distribution specification 1.1).
//!
//! An artifact has the type [`ARTIFACT`] and one layer of the type [`LAYER`], which is the file. What belongs beside the file is in layers
//! of the type [`BESIDE`], each with its name as its title. A registry on a loopback address is spoken to in plain HTTP, any other over TLS.
//! Credentials are those of `docker login`.

mod access;
mod push;

pub(crate) use access::Access;
pub(crate) use push::{Pushed, finish, push};

use crate::{
    download::Expected,
    error::{RemoteError, Result},
    location::Location,
    remote::Core,
    retry::Fault,
    source::{HttpSource, answer_fault},
};
use futures_util::StreamExt;
use oci_spec::distribution::Reference;
use reqwest::{Response, Url, header};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::Arc};
use tine_model::Sha256Digest;

/// What the artifact is.
const ARTIFACT: &str = "application/vnd.tine.pack.v1";
/// What its one layer is.
const LAYER: &str = "application/vnd.tine.pack.v1.tar+zstd";
/// What a file beside it is.
const BESIDE: &str = "application/vnd.tine.beside.v1";
/// The annotation with a file's name (OCI image specification, "Pre-Defined Annotation Keys").
const TITLE: &str = "org.opencontainers.image.title";
/// What its manifest is (OCI image specification, `manifest.md`).
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Registries themselves refuse longer manifests (OCI distribution specification, "Pushing Manifests").
const MANIFEST_MAX: usize = 4 << 20;

/// A repository at a registry, and what of it is meant.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) base: Url,
    pub(crate) registry: String,
    pub(crate) repository: String,
    /// A tag or a digest.
    pub(crate) reference: String,
    /// The name of a file beside the artifact's own, when that is meant.
    beside: Option<String>,
    pub(crate) location: Location,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Layer {
    fn title(&self) -> Option<&str> {
        Some(self.annotations.as_ref()?.get(TITLE)?.as_str())
    }
}

impl Place {
    pub(crate) fn parse(location: &Location) -> Result<Self> {
        let wrong = |why: String| RemoteError::location(location, why);
        let url = location.url();
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        let reference: Reference =
            format!("{host}{port}{}", url.path()).parse().map_err(|e| wrong(format!("{e}")))?;
        let scheme = if is_loopback(host) { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{}", reference.resolve_registry()))
            .map_err(|e| wrong(e.to_string()))?;
        let named = reference.digest().or(reference.tag()).unwrap_or("latest").to_owned();
        Ok(Self {
            base,
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            reference: named,
            beside: url.fragment().map(str::to_owned),
            location: location.clone(),
        })
    }

    /// A URL of the repository: `blobs/…`, `manifests/…`.
    pub(crate) fn url(&self, rest: &str) -> Result<Url> {
        let path = format!("/v2/{}/{rest}", self.repository);
        self.base.join(&path).map_err(|e| RemoteError::location(&self.location, e.to_string()))
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// The blob that an artifact is, and what its manifest says of it.
pub(crate) async fn layer(core: &Arc<Core>, location: &Location) -> Result<(HttpSource, Expected), Fault> {
    let place = Place::parse(location)?;
    let access = Arc::new(Access::new(core, &place, "pull")?);
    let text = manifest(&place, &access, core.config.idle_timeout).await?;
    let layer = layer_of(&place, &text)?;
    let digest = layer.digest.strip_prefix("sha256:").and_then(|hex| hex.parse::<Sha256Digest>().ok());
    let Some(sha256) = digest else {
        return Err(RemoteError::refused(location, "its layer's digest is no SHA-256").into());
    };
    let url = place.url(&format!("blobs/sha256:{sha256}"))?;
    let source = HttpSource::new(core, location)?.blob(url, access, &layer.digest);
    Ok((source, Expected { size: Some(layer.size), sha256: Some(sha256) }))
}

async fn manifest(place: &Place, access: &Access, idle: std::time::Duration) -> Result<Vec<u8>, Fault> {
    let url = place.url(&format!("manifests/{}", place.reference))?;
    let response = access.send(&|client| client.get(url.clone()).header(header::ACCEPT, MANIFEST)).await?;
    if !response.status().is_success() {
        return Err(answer_fault(&place.location, response, idle).await);
    }
    let text = bounded(&place.location, response, MANIFEST_MAX, idle).await?;
    if let Some(digest) = place.reference.strip_prefix("sha256:")
        && Sha256Digest(Sha256::digest(&text).into()).to_string() != digest
    {
        return Err(RemoteError::unexpected(&place.location, "the manifest's SHA-256 is another one").into());
    }
    Ok(text)
}

/// The layer that is meant: the artifact's own, or one beside it.
fn layer_of(place: &Place, text: &[u8]) -> Result<Layer> {
    let refused = |why: String| RemoteError::refused(&place.location, why);
    let manifest: Manifest =
        serde_json::from_slice(text).map_err(|e| refused(format!("its manifest can't be read: {e}")))?;
    let mut layers = manifest.layers.into_iter();
    if let Some(name) = &place.beside {
        let found = layers.find(|layer| layer.media_type == BESIDE && layer.title() == Some(name));
        let (shown, detail) = (place.location.to_string(), ": the artifact has no such layer".to_owned());
        return found.ok_or(RemoteError::NotFound { shown, detail });
    }
    let mut ours = layers.filter(|layer| layer.media_type == LAYER);
    match (ours.next(), ours.next()) {
        (Some(layer), None) => Ok(layer),
        (None, _) => Err(refused(format!("it is no pack: it has no layer of the type {LAYER}"))),
        (Some(_), Some(_)) => Err(refused(format!("it has several layers of the type {LAYER}"))),
    }
}

/// An answer's content, if it is no longer than `max`.
async fn bounded(
    location: &Location,
    response: Response,
    max: usize,
    idle: std::time::Duration,
) -> Result<Vec<u8>, Fault> {
    let mut text = Vec::new();
    let mut stream = response.bytes_stream();
    loop {
        match tokio::time::timeout(idle, stream.next()).await {
            Ok(None) => return Ok(text),
            Ok(Some(Ok(chunk))) if text.len() + chunk.len() <= max => text.extend_from_slice(&chunk),
            Ok(Some(Ok(_))) => return Err(RemoteError::too_large(location, max as u64).into()),
            Ok(Some(Err(_))) | Err(_) => {
                return Err(Fault::passing(RemoteError::unreachable(location, "the server broke off")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_and_only_loopback_is_plain() {
        for (text, base, repository, reference) in [
            ("oci://ghcr.io/a/b:1.0", "https://ghcr.io/", "a/b", "1.0"),
            ("oci://127.0.0.1:5000/a", "http://127.0.0.1:5000/", "a", "latest"),
            ("oci://localhost:5000/a:x", "http://localhost:5000/", "a", "x"),
            ("oci://10.0.0.1/a/b:x", "https://10.0.0.1/", "a/b", "x"),
        ] {
            let place = Place::parse(&Location::parse(text).unwrap()).unwrap();
            assert_eq!(
                (place.base.as_str(), &*place.repository, &*place.reference),
                (base, repository, reference)
            );
        }
        assert!(Place::parse(&Location::parse("oci://h.io/A B").unwrap()).is_err());
    }

    #[test]
    fn a_manifest_must_name_one_pack() {
        let place = Place::parse(&Location::parse("oci://h.io/a").unwrap()).unwrap();
        let layer = format!(r#"{{"mediaType":"{LAYER}","digest":"sha256:0","size":1}}"#);
        assert_eq!(layer_of(&place, format!(r#"{{"layers":[{layer}]}}"#).as_bytes()).unwrap().size, 1);
        let beside = place.location.sibling("d.zst").unwrap();
        let beside = Place::parse(&beside).unwrap();
        assert_eq!((&beside.repository, &beside.reference), (&place.repository, &place.reference));
        let disk = format!(
            r#"{{"mediaType":"{BESIDE}","digest":"sha256:1","size":2,"annotations":{{"{TITLE}":"d.zst"}}}}"#
        );
        let both = format!(r#"{{"layers":[{layer},{disk}]}}"#);
        assert_eq!(layer_of(&place, both.as_bytes()).unwrap().size, 1);
        assert_eq!(layer_of(&beside, both.as_bytes()).unwrap().size, 2);
        let none = layer_of(&beside, format!(r#"{{"layers":[{layer}]}}"#).as_bytes());
        assert!(matches!(none, Err(RemoteError::NotFound { .. })));
        for bad in ["{}".to_owned(), format!(r#"{{"layers":[{layer},{layer}]}}"#), "[".to_owned()] {
            assert!(layer_of(&place, bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
