//! One PUT to a URL that allows it, with the length announced: stores that sign URLs take no chunked coding.

use super::{
    UploadRequest, Uploaded,
    content::{CHUNK, Content},
};
use crate::{
    error::{RemoteError, Result},
    location::Location,
    remote::Core,
    retry::{Fault, retrying},
    source::{excerpt, send_fault},
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use reqwest::{Body, Response, StatusCode, header};
use std::{sync::Arc, time::Duration};

pub(super) async fn put(
    core: &Arc<Core>,
    request: &UploadRequest<'_>,
    content: &Arc<Content>,
) -> Result<Uploaded> {
    let sent = retrying(&core.config, || attempt(core, request, content)).await;
    sent.map_err(|fault| fault.into_error(request.location))
}

async fn attempt(
    core: &Core,
    request: &UploadRequest<'_>,
    content: &Arc<Content>,
) -> Result<Uploaded, Fault> {
    content.sent_to(0);
    let sending = core
        .client_for(request.location.url())?
        .put(request.location.url().clone())
        .header(header::CONTENT_TYPE, request.content_type)
        .header(header::CONTENT_LENGTH, content.size())
        .body(Body::wrap_stream(chunks(Arc::clone(content))))
        .send();
    let answer = tokio::select! {
        answer = sending => answer,
        stalled = stall(core, request.location, content) => return Err(stalled),
    };
    let idle = core.config.idle_timeout;
    match answer {
        // whatever broke after bytes had gone is not tried again by itself: the server may have taken them
        Err(e) if content.sent() > 0 && !e.is_connect() => {
            Err(Fault::Final(send_fault(request.location, e).into_error(request.location)))
        }
        Err(e) => Err(send_fault(request.location, e)),
        Ok(answer) => judge(request.location, answer, content, idle).await,
    }
}

/// Only a success after everything was sent is one.
async fn judge(
    location: &Location,
    answer: Response,
    content: &Content,
    idle: Duration,
) -> Result<Uploaded, Fault> {
    let status = answer.status();
    if status.is_success() && content.sent() == content.size() {
        let etag = answer.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        return Ok(Uploaded { sent: content.size(), reused: 0, etag });
    }
    if status.is_success() {
        let (sent, size) = (content.sent(), content.size());
        let why = format!("the server answers {} after {sent} of {size} bytes", status.as_u16());
        return Err(RemoteError::refused(location, why).into());
    }
    let error = RemoteError::status(location, status.as_u16(), &excerpt(answer, idle).await);
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Err(Fault::passing(error)),
        _ => Err(Fault::Final(error)),
    }
}

fn chunks(content: Arc<Content>) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    stream::unfold(0, move |at| {
        let content = Arc::clone(&content);
        async move {
            // asked for the next chunk, the connection has taken what came before
            content.sent_to(at);
            if at >= content.size() {
                return None;
            }
            let part = content.part(at, CHUNK).await;
            let next = part.as_ref().map_or(content.size(), |part| at + part.len() as u64);
            if next == content.size() {
                content.sent_to(next);
            }
            Some((part, next))
        }
    })
}

/// Ends when the connection has taken nothing for the idle timeout, or there is no answer to all of it.
async fn stall(core: &Core, location: &Location, content: &Content) -> Fault {
    let (idle, answer) = (core.config.idle_timeout, core.config.answer_timeout);
    let mut before = None;
    loop {
        let sent = content.sent();
        let complete = sent == content.size();
        if before == Some(sent) {
            let error = RemoteError::unreachable(location, format!("stalled after {sent} bytes"));
            return Fault::Final(error);
        }
        before = Some(sent);
        tokio::time::sleep(if complete { answer } else { idle }).await;
    }
}
