//! A file in an object store: S3 and what speaks it, Google's and Azure's.
//!
//! Credentials are the usual variables of each, as [`crate::RemoteConfig`] hands them in. The stores' requests go through
//! the crate's own HTTP client, so that certificates, proxies and redirects are those of everything else.

use super::{Part, Reply, Version};
use crate::{
    config::RemoteConfig,
    error::{RemoteError, Result, chain},
    location::{Location, Scheme},
    remote::{Core, Head},
    retry::Fault,
};
use futures_util::{StreamExt, stream};
use object_store::{
    BackoffConfig, ClientOptions, Error as StoreError, GetOptions, GetRange, ObjectStore, ObjectStoreExt,
    RetryConfig,
    aws::AmazonS3Builder,
    azure::MicrosoftAzureBuilder,
    client::{HttpClient, HttpConnector},
    gcp::GoogleCloudStorageBuilder,
    multipart::MultipartStore,
    path::Path,
};
use std::{fmt::Display, ops::Range, str::FromStr, sync::Arc, time::Duration};

/// What an object store must do to be read and written here.
pub(crate) trait Bucket: ObjectStore + MultipartStore {}
impl<T: ObjectStore + MultipartStore> Bucket for T {}

/// An object in a bucket.
#[derive(Clone)]
pub(crate) struct StoreSource {
    bucket: Arc<dyn Bucket>,
    path: Path,
    location: Location,
    idle: Duration,
}

/// Gives the stores our client.
#[derive(Debug)]
struct OwnClient(reqwest::Client);

impl HttpConnector for OwnClient {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

/// The bucket that a location is in, and its key there.
pub(crate) fn bucket(core: &Core, location: &Location) -> Result<(Arc<dyn Bucket>, Path)> {
    let wrong = |e: object_store::Error| RemoteError::location(location, chain(&e));
    let path = Path::from_url_path(location.url().path())
        .map_err(|e| RemoteError::location(location, e.to_string()))?;
    let bucket: Arc<dyn Bucket> = match location.scheme() {
        Scheme::S3 => Arc::new(s3(core, location)?.build().map_err(wrong)?),
        Scheme::Gs => Arc::new(gcs(core, location)?.build().map_err(wrong)?),
        _ => Arc::new(azure(core, location)?.build().map_err(wrong)?),
    };
    Ok((bucket, path))
}

/// The variables with a prefix that a store knows, as its keys.
fn keys<'a, K: FromStr>(config: &'a RemoteConfig, prefix: &'a str) -> impl Iterator<Item = (K, &'a str)> {
    let ours = config.env.iter().filter(move |(name, value)| name.starts_with(prefix) && !value.is_empty());
    ours.filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value.as_str())))
}

/// Few and quick: what lasts longer is tried again by this crate, which knows what came already.
fn retry(config: &RemoteConfig) -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: config.backoff, ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries: 1, retry_timeout: config.idle_timeout }
}

fn s3(core: &Core, location: &Location) -> Result<AmazonS3Builder> {
    refuse_plain_endpoint(&core.config, location)?;
    let builder = keys(&core.config, "AWS_")
        .fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value));
    Ok(builder
        .with_bucket_name(host(location))
        .with_retry(retry(&core.config))
        .with_http_connector(OwnClient(core.client()?)))
}

/// Credentials over plain HTTP must be wanted.
fn refuse_plain_endpoint(config: &RemoteConfig, location: &Location) -> Result<()> {
    let names = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    let plain = names.into_iter().filter_map(|name| config.var(name)).any(|url| url.starts_with("http:"));
    if plain && config.var("AWS_ALLOW_HTTP") != Some("true") {
        let why = "its endpoint is http, which AWS_ALLOW_HTTP=true would allow".to_owned();
        return Err(RemoteError::location(location, why));
    }
    Ok(())
}

fn gcs(core: &Core, location: &Location) -> Result<GoogleCloudStorageBuilder> {
    let builder = keys(&core.config, "GOOGLE_")
        .fold(GoogleCloudStorageBuilder::new(), |builder, (key, value)| builder.with_config(key, value));
    Ok(builder
        .with_bucket_name(host(location))
        .with_retry(retry(&core.config))
        .with_http_connector(OwnClient(core.client()?)))
}

fn azure(core: &Core, location: &Location) -> Result<MicrosoftAzureBuilder> {
    let builder = keys(&core.config, "AZURE_")
        .fold(MicrosoftAzureBuilder::new(), |builder, (key, value)| builder.with_config(key, value));
    Ok(builder
        .with_container_name(host(location))
        .with_retry(retry(&core.config))
        .with_http_connector(OwnClient(core.client()?)))
}

fn host(location: &Location) -> &str {
    location.url().host_str().unwrap_or_default()
}

impl StoreSource {
    pub(crate) fn new(core: &Core, location: &Location) -> Result<Self> {
        let (bucket, path) = bucket(core, location)?;
        Ok(Self { bucket, path, location: location.clone(), idle: core.config.idle_timeout })
    }

    pub(crate) async fn get(
        &self,
        range: Option<Range<u64>>,
        known: Option<&Version>,
    ) -> Result<Reply, Fault> {
        let tag = known.and_then(|version| version.etag.clone()).filter(|tag| !tag.starts_with("W/"));
        let options = GetOptions::new().with_if_match(tag).with_range(range.clone().map(GetRange::Bounded));
        let asked = self.patiently(self.bucket.get_opts(&self.path, options)).await;
        let got = match asked {
            Err(fault) => return Err(self.beyond_the_end(range, fault).await),
            Ok(got) => got,
        };
        let version =
            Version { etag: got.meta.e_tag.clone(), modified: Some(got.meta.last_modified.to_rfc3339()) };
        let part = match range {
            Some(_) => Part::Range { range: got.range.clone(), total: got.meta.size },
            None => Part::Whole { length: Some(got.meta.size) },
        };
        let (location, idle) = (self.location.clone(), self.idle);
        let body = stream::unfold(Some(got.into_stream()), move |body| {
            let location = location.clone();
            async move {
                let mut body = body?;
                match tokio::time::timeout(idle, body.next()).await {
                    Ok(None) => None,
                    Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some(body))),
                    Ok(Some(Err(e))) => Some((Err(store_fault(&location, e)), None)),
                    Err(_) => Some((Err(silent(&location)), None)),
                }
            }
        });
        Ok(Reply { part, version, body: body.boxed() })
    }

    /// A range that begins at or after the end is an error of no special kind.
    async fn beyond_the_end(&self, range: Option<Range<u64>>, fault: Fault) -> Fault {
        let (Some(range), Fault::Final(RemoteError::Refused { .. })) = (range, &fault) else { return fault };
        match self.head().await {
            Ok(Head { size: Some(size), .. }) if size <= range.start => Fault::NoRanges,
            _ => fault,
        }
    }

    pub(crate) async fn head(&self) -> Result<Head, Fault> {
        let meta = self.patiently(self.bucket.head(&self.path)).await?;
        Ok(Head { size: Some(meta.size), etag: meta.e_tag })
    }

    async fn patiently<T>(&self, asking: impl Future<Output = object_store::Result<T>>) -> Result<T, Fault> {
        // the store tries twice by itself
        match tokio::time::timeout(self.idle * 2, asking).await {
            Ok(answer) => answer.map_err(|e| store_fault(&self.location, e)),
            Err(_) => Err(silent(&self.location)),
        }
    }
}

fn silent(shown: &(dyn Display + Sync)) -> Fault {
    Fault::passing(RemoteError::unreachable(shown, "the store is silent"))
}

/// What a store's error means.
pub(crate) fn store_fault(location: &Location, error: StoreError) -> Fault {
    let (shown, detail) = (location.to_string(), format!(": {}", crate::error::cleaned(&chain(&error))));
    match error {
        StoreError::NotFound { .. } => Fault::Final(RemoteError::NotFound { shown, detail }),
        StoreError::Unauthenticated { .. } => Fault::Final(RemoteError::Unauthorized { shown, detail }),
        StoreError::PermissionDenied { .. } => Fault::Final(RemoteError::Forbidden { shown, detail }),
        StoreError::Precondition { .. } | StoreError::NotModified { .. } => Fault::Changed,
        StoreError::Generic { .. } => generic(shown, detail),
        _ => Fault::Final(RemoteError::Refused { shown, why: detail.trim_start_matches(": ").to_owned() }),
    }
}

/// The address that a cloud's machines ask for credentials, where none were given.
const METADATA_HOSTS: [&str; 2] = ["169.254.169.254", "metadata.google.internal"];

/// The status is only in the text: the library keeps its type to itself.
fn generic(shown: String, detail: String) -> Fault {
    let status = detail.split("status code: ").nth(1).and_then(|rest| rest.get(..3)?.parse().ok());
    if METADATA_HOSTS.iter().any(|host| detail.contains(host)) {
        let detail = ": none were given, and this host has none of its own".to_owned();
        return Fault::Final(RemoteError::Unauthorized { shown, detail });
    }
    match status {
        Some(400..=407 | 409..=428 | 430..=499) => {
            Fault::Final(RemoteError::Refused { shown, why: detail.trim_start_matches(": ").to_owned() })
        }
        _ => Fault::passing(RemoteError::unreachable(shown, detail.trim_start_matches(": "))),
    }
}
