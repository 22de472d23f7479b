//! The one HTTP client: which certificates it trusts, which proxies it uses, which redirects it follows.

use crate::{
    authorities::Authorities,
    config::RemoteConfig,
    error::{RemoteError, Result, chain},
    location::shown,
};
use reqwest::{
    NoProxy, Proxy,
    redirect::{Attempt, Policy},
};
use rustls::{
    ClientConfig,
    crypto::{CryptoProvider, ring},
};
use std::sync::Arc;

/// How many redirects are followed for one request.
const REDIRECTS_MAX: usize = 10;

/// A redirect that is not followed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct RedirectRefused(String);

/// The client, and by whom it has servers checked.
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) authorities: Arc<Authorities>,
}

/// A client as `config` wants it. Each stream has a connection of its own, which HTTP/2 would not give it.
pub(crate) fn build(config: &RemoteConfig) -> Result<Client> {
    let provider = Arc::new(ring::default_provider());
    let authorities = Arc::new(Authorities::new(config, Arc::clone(&provider)));
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls(Arc::clone(&authorities), provider)?)
        .no_proxy()
        .http1_only()
        .connect_timeout(config.connect_timeout)
        .redirect(Policy::custom(redirect))
        .retry(reqwest::retry::never())
        .referer(false)
        .user_agent(concat!("tine/", env!("CARGO_PKG_VERSION")));
    for proxy in proxies(config)? {
        builder = builder.proxy(proxy);
    }
    let failed = |e| RemoteError::Internal(format!("making an HTTP client: {}", chain(&e)));
    Ok(Client { http: builder.build().map_err(failed)?, authorities })
}

fn tls(authorities: Arc<Authorities>, provider: Arc<CryptoProvider>) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| RemoteError::Internal(format!("setting TLS up: {e}")))?;
    // what is dangerous is a verifier that accepts what it should not; this one is rustls' own, made later
    Ok(builder.dangerous().with_custom_certificate_verifier(authorities).with_no_client_auth())
}

fn proxies(config: &RemoteConfig) -> Result<Vec<Proxy>> {
    let except = config.var_any_case("NO_PROXY").and_then(NoProxy::from_string);
    type Make = fn(String) -> reqwest::Result<Proxy>;
    let kinds: [(&str, Make); 3] = [
        ("HTTPS_PROXY", |url| Proxy::https(url)),
        ("HTTP_PROXY", |url| Proxy::http(url)),
        ("ALL_PROXY", |url| Proxy::all(url)),
    ];
    let given = kinds.into_iter().filter_map(|(name, make)| Some((name, make, config.var_any_case(name)?)));
    given
        .map(|(name, make, url)| {
            let proxy = make(url.to_owned())
                .map_err(|_| RemoteError::location(name, "it is no URL of a proxy".to_owned()))?;
            Ok(proxy.no_proxy(except.clone()))
        })
        .collect()
}

fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let from = attempt.previous().last().map_or("", |url| url.scheme());
    let to = attempt.url();
    let why = match (from, to.scheme()) {
        _ if attempt.previous().len() > REDIRECTS_MAX => format!("more than {REDIRECTS_MAX} redirects"),
        ("https", "https") | ("http", "http" | "https") => return attempt.follow(),
        ("https", "http") => format!("a redirect from https to http is refused: {}", shown(to)),
        (_, other) => format!("a redirect to another scheme is refused: {other}"),
    };
    attempt.error(RedirectRefused(why))
}

/// The refused redirect in an error's causes, if that is what ended the request.
pub(crate) fn refused_redirect(error: &reqwest::Error) -> Option<String> {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(refused) = cause.downcast_ref::<RedirectRefused>() {
            return Some(refused.0.clone());
        }
        next = cause.source();
    }
    None
}
