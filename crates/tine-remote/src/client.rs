//! The one HTTP client: which certificates it trusts, which proxies it uses, which redirects it follows.

use crate::{
    config::RemoteConfig,
    error::{RemoteError, Result, chain},
    location::shown,
};
use reqwest::{
    NoProxy, Proxy,
    redirect::{Attempt, Policy},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use std::{path::Path, sync::Arc};

/// How many redirects are followed for one request.
const REDIRECTS_MAX: usize = 10;

/// A redirect that is not followed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct RedirectRefused(String);

/// A client as `config` wants it. Each stream has a connection of its own, which HTTP/2 would not give it.
pub(crate) fn build(config: &RemoteConfig) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls(config)?)
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
    builder.build().map_err(|e| RemoteError::Internal(format!("making an HTTP client: {}", chain(&e))))
}

fn tls(config: &RemoteConfig) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(config)?);
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| RemoteError::Internal(format!("setting TLS up: {e}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The authorities to trust: those of `SSL_CERT_FILE` and `SSL_CERT_DIR` alone where one is given, else the system's.
fn certificates(config: &RemoteConfig) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>> {
    let (file, dir) = (config.var("SSL_CERT_FILE"), config.var("SSL_CERT_DIR"));
    if file.is_none() && dir.is_none() {
        return Ok(rustls_native_certs::load_native_certs().certs);
    }
    let loaded = rustls_native_certs::load_certs_from_paths(file.map(Path::new), dir.map(Path::new));
    if loaded.certs.is_empty() {
        let why = loaded.errors.first().map_or("they hold no certificate".to_owned(), ToString::to_string);
        let named = [file, dir].into_iter().flatten().collect::<Vec<_>>().join(" and ");
        return Err(RemoteError::location(named, format!("as trusted certificates: {why}")));
    }
    Ok(loaded.certs)
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
