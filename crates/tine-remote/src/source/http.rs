//! A file behind HTTP. Believes nothing that an answer says without checking it against what was asked.

use super::{Part, Reply, Version};
use crate::{
    client::refused_redirect,
    error::{RemoteError, Result, chain},
    location::Location,
    registry::Access,
    remote::{Core, Head},
    retry::Fault,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{self, HeaderMap, HeaderName},
};
use std::{fmt::Display, ops::Range, sync::Arc, time::Duration};

/// How much of an error's text is read, in bytes.
const EXCERPT_MAX: usize = 4096;

/// A file at an HTTP server.
#[derive(Clone)]
pub(crate) struct HttpSource {
    client: reqwest::Client,
    url: Url,
    location: Location,
    idle: Duration,
    /// Credentials of a registry.
    access: Option<Arc<Access>>,
    /// The version that whatever comes is of, where the place is named by its content.
    fixed: Option<Version>,
}

impl HttpSource {
    pub(crate) fn new(core: &Core, location: &Location) -> Result<Self> {
        Ok(Self {
            client: core.client_for(location.url())?,
            url: location.url().clone(),
            location: location.clone(),
            idle: core.config.idle_timeout,
            access: None,
            fixed: None,
        })
    }

    /// A registry's blob: another URL than the location's own, and content that its name fixes.
    pub(crate) fn blob(mut self, url: Url, access: Arc<Access>, digest: &str) -> Self {
        self.url = url;
        self.access = Some(access);
        self.fixed = Some(Version { etag: Some(format!("\"{digest}\"")), modified: None });
        self
    }

    pub(crate) async fn get(
        &self,
        range: Option<Range<u64>>,
        known: Option<&Version>,
    ) -> Result<Reply, Fault> {
        let response = self.ask(Method::GET, range.as_ref(), known).await?;
        let status = response.status();
        let part = match (status, &range) {
            (StatusCode::OK, _) => Part::Whole { length: length(response.headers()) },
            (StatusCode::PARTIAL_CONTENT, Some(asked)) => partial(response.headers(), asked)?,
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => return Err(Fault::NoRanges),
            (StatusCode::PRECONDITION_FAILED, _) => return Err(Fault::Changed),
            _ => return Err(self.failed(response).await),
        };
        refuse_encoded(&self.location, response.headers())?;
        let version = self.fixed.clone().unwrap_or_else(|| version(response.headers()));
        Ok(Reply { part, version, body: self.body(response).boxed() })
    }

    pub(crate) async fn head(&self) -> Result<Head, Fault> {
        let mut response = self.ask(Method::HEAD, None, None).await?;
        if !response.status().is_success() && response.status() != StatusCode::NOT_FOUND {
            // a URL signed for GET refuses HEAD
            response = self.ask(Method::GET, Some(&(0..1)), None).await?;
        }
        let size = match response.status() {
            StatusCode::OK => length(response.headers()),
            StatusCode::PARTIAL_CONTENT => match partial(response.headers(), &(0..1)) {
                Ok(Part::Range { total, .. }) => Some(total),
                _ => None,
            },
            // what an empty file answers to a range
            StatusCode::RANGE_NOT_SATISFIABLE => None,
            _ => return Err(self.failed(response).await),
        };
        let version = self.fixed.clone().unwrap_or_else(|| version(response.headers()));
        Ok(Head { size, etag: version.etag })
    }

    async fn ask(
        &self,
        method: Method,
        range: Option<&Range<u64>>,
        known: Option<&Version>,
    ) -> Result<Response, Fault> {
        let request = |client: &reqwest::Client| {
            let mut request =
                client.request(method.clone(), self.url.clone()).header(header::ACCEPT_ENCODING, "identity");
            if let Some(range) = range {
                let last = range.end.saturating_sub(1);
                request = request.header(header::RANGE, format!("bytes={}-{last}", range.start));
                // a registry's blob is named by its content, and the tag is ours
                let condition = known.filter(|_| self.fixed.is_none()).and_then(Version::condition);
                if let Some(condition) = condition {
                    request = request.header(header::IF_RANGE, condition);
                }
            }
            request
        };
        match &self.access {
            None => within(self.idle, &self.location, request(&self.client).send()).await,
            Some(access) => access.send(&request).await,
        }
    }

    async fn failed(&self, response: Response) -> Fault {
        answer_fault(&self.location, response, self.idle).await
    }

    fn body(&self, response: Response) -> impl Stream<Item = Result<Bytes, Fault>> + Send + use<> {
        let (location, idle) = (self.location.clone(), self.idle);
        stream::unfold(Some(response.bytes_stream()), move |stream| {
            let location = location.clone();
            async move {
                let mut stream = stream?;
                match tokio::time::timeout(idle, stream.next()).await {
                    Ok(None) => None,
                    Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some(stream))),
                    Ok(Some(Err(e))) => Some((
                        Err(Fault::passing(RemoteError::unreachable(&location, chain(&e.without_url())))),
                        None,
                    )),
                    Err(_) => Some((Err(silent(&location, idle)), None)),
                }
            }
        })
    }
}

fn silent(shown: &(dyn Display + Sync), idle: Duration) -> Fault {
    Fault::passing(RemoteError::unreachable(shown, format!("silent for {:.0} s", idle.as_secs_f64())))
}

/// Sends a request and waits for the answer's head, at most `idle`.
pub(crate) async fn within(
    idle: Duration,
    shown: &(dyn Display + Sync),
    sending: impl Future<Output = reqwest::Result<Response>>,
) -> Result<Response, Fault> {
    match tokio::time::timeout(idle, sending).await {
        Ok(answer) => answer.map_err(|e| send_fault(shown, e)),
        Err(_) => Err(silent(shown, idle)),
    }
}

/// What a request that got no answer means.
pub(crate) fn send_fault(shown: &(dyn Display + Sync), error: reqwest::Error) -> Fault {
    if let Some(why) = refused_redirect(&error) {
        return RemoteError::refused(shown, why).into();
    }
    let (is_final, error) = (error.is_builder() || error.is_redirect(), error.without_url());
    let error = RemoteError::unreachable(shown, chain(&error));
    if is_final { Fault::Final(error) } else { Fault::passing(error) }
}

/// What an answer means that is not the one hoped for.
pub(crate) async fn answer_fault(shown: &(dyn Display + Sync), response: Response, idle: Duration) -> Fault {
    let status = response.status().as_u16();
    let wait = retry_after(response.headers());
    let error = RemoteError::status(shown, status, &excerpt(response, idle).await);
    match status {
        408 | 429 | 500..=599 => Fault::Passing { error, wait },
        _ => Fault::Final(error),
    }
}

/// The beginning of an answer's text.
pub(crate) async fn excerpt(response: Response, idle: Duration) -> String {
    let mut text = Vec::new();
    let mut stream = response.bytes_stream();
    let reading = async {
        while let Some(Ok(chunk)) = stream.next().await {
            text.extend_from_slice(chunk.get(..EXCERPT_MAX.min(chunk.len())).unwrap_or_default());
            if text.len() >= EXCERPT_MAX {
                break;
            }
        }
    };
    // what came until then is shown
    let _ = tokio::time::timeout(idle.min(Duration::from_secs(5)), reading).await;
    String::from_utf8_lossy(&text).into_owned()
}

/// Seconds only: the form with a date needs the server's clock to be right.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    text(headers, header::RETRY_AFTER)?.trim().parse().ok().map(Duration::from_secs)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn length(headers: &HeaderMap) -> Option<u64> {
    text(headers, header::CONTENT_LENGTH)?.parse().ok()
}

/// Longer ones are not kept: they are written to the journal and sent back.
const VERSION_MAX: usize = 512;

fn version(headers: &HeaderMap) -> Version {
    let get = |name| text(headers, name).filter(|v| v.len() <= VERSION_MAX).map(str::to_owned);
    Version { etag: get(header::ETAG), modified: get(header::LAST_MODIFIED) }
}

/// What is asked for is the file's own bytes: another coding would have other lengths, and may be a bomb.
fn refuse_encoded(location: &Location, headers: &HeaderMap) -> Result<()> {
    match text(headers, header::CONTENT_ENCODING) {
        None | Some("" | "identity") => Ok(()),
        Some(coding) => Err(RemoteError::refused(
            location,
            format!(
                "the server encodes the content ({}) though it was asked not to",
                crate::error::cleaned(coding)
            ),
        )),
    }
}

/// The part that an answer with status 206 holds, if it is the one asked for.
fn partial(headers: &HeaderMap, asked: &Range<u64>) -> Result<Part, Fault> {
    let said = text(headers, header::CONTENT_RANGE).and_then(content_range).ok_or(Fault::NoRanges)?;
    let (range, total) = said;
    let right = range.start == asked.start && range.end == asked.end.min(total);
    let fits = length(headers).is_none_or(|length| length == range.end - range.start);
    if right && fits { Ok(Part::Range { range, total }) } else { Err(Fault::NoRanges) }
}

/// `bytes 0-9/100`, as a half-open range and the total.
fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let (end, total): (u64, u64) = (last.checked_add(1)?, total.trim().parse().ok()?);
    (first < end && end <= total).then_some((first..end, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sound_content_range_is_believed() {
        assert_eq!(content_range("bytes 0-9/100"), Some((0..10, 100)));
        let max = format!("bytes 0-{}/{}", u64::MAX, u64::MAX);
        for bad in [
            "bytes 5-4/10",
            "bytes 0-10/10",
            "bytes 0-9/*",
            "bytes */10",
            "items 0-9/10",
            "",
            "bytes -5/10",
            &max,
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
