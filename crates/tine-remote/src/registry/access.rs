//! Being let in to a registry: the credentials of `docker login`, and tokens for them.

use super::{Place, bounded, is_loopback};
use crate::{
    config::RemoteConfig,
    error::{RemoteError, Result, cleaned},
    remote::Core,
    retry::Fault,
    source::{answer_fault, within},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{RequestBuilder, Response, StatusCode, Url, header};
use serde::Deserialize;
use std::{collections::BTreeMap, io::Read, path::PathBuf, sync::Mutex, sync::PoisonError, time::Duration};

/// The longest answer of a token server, and the longest `config.json`.
const SHORT_MAX: usize = 1 << 20;

/// Makes a request, as often as it has to be sent.
pub(crate) type Make<'a> = &'a (dyn Fn(&reqwest::Client) -> RequestBuilder + Sync);

/// A way in to one repository.
pub(crate) struct Access {
    client: reqwest::Client,
    place: Place,
    /// What is wanted: `pull` or `pull,push`.
    actions: &'static str,
    credentials: Option<Credentials>,
    idle: Duration,
    /// The header that let the last request in.
    current: Mutex<Option<String>>,
}

struct Credentials {
    user: String,
    password: String,
}

/// What a registry asks for.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Access {
    pub(crate) fn new(core: &Core, place: &Place, actions: &'static str) -> Result<Self> {
        Ok(Self {
            client: core.client()?,
            place: place.clone(),
            actions,
            credentials: credentials(&core.config, place),
            idle: core.config.idle_timeout,
            current: Mutex::new(None),
        })
    }

    /// Sends a request; a second time with credentials when the registry asks for them.
    pub(crate) async fn send(&self, make: Make<'_>) -> Result<Response, Fault> {
        self.send_within(self.idle, make).await
    }

    /// The same for what takes longer than an answer without content.
    pub(crate) async fn send_within(&self, wait: Duration, make: Make<'_>) -> Result<Response, Fault> {
        let answer = self.once(wait, make).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let asked = answer.headers().get_all(header::WWW_AUTHENTICATE).iter();
        let Some(challenge) = asked.filter_map(|value| challenge(value.to_str().ok()?)).next() else {
            return Ok(answer);
        };
        let Some(allowed) = self.answer(&challenge).await? else { return Ok(answer) };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(allowed);
        self.once(wait, make).await
    }

    async fn once(&self, wait: Duration, make: Make<'_>) -> Result<Response, Fault> {
        let mut request = make(&self.client);
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(current) = current {
            request = request.header(header::AUTHORIZATION, current);
        }
        within(wait, &self.place.location, request.send()).await
    }

    async fn answer(&self, challenge: &Challenge) -> Result<Option<String>, Fault> {
        match challenge {
            Challenge::Basic => Ok(self.credentials.as_ref().map(Credentials::basic)),
            Challenge::Bearer { realm, service, scope } => {
                let url = self.token_url(realm, service.as_deref(), scope.as_deref())?;
                Ok(Some(format!("Bearer {}", self.token(url).await?)))
            }
        }
    }

    fn token_url(&self, realm: &str, service: Option<&str>, scope: Option<&str>) -> Result<Url> {
        let refused = |why: &str| RemoteError::refused(&self.place.location, why);
        let mut url = Url::parse(realm).map_err(|_| refused("its token server's URL can't be read"))?;
        let plain = url.scheme() == "http"
            && self.place.base.scheme() == "http"
            && is_loopback(url.host_str().unwrap_or_default());
        if url.scheme() != "https" && !plain {
            return Err(refused("its token server is not reached over https"));
        }
        let own = format!("repository:{}:{}", self.place.repository, self.actions);
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", scope.unwrap_or(&own));
        drop(query);
        Ok(url)
    }

    async fn token(&self, url: Url) -> Result<String, Fault> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let mut request = self.client.get(url);
        if let Some(credentials) = &self.credentials {
            request = request.header(header::AUTHORIZATION, credentials.basic());
        }
        let location = &self.place.location;
        let response = within(self.idle, location, request.send()).await?;
        if !response.status().is_success() {
            return Err(answer_fault(location, response, self.idle).await);
        }
        let text = bounded(location, response, SHORT_MAX, self.idle).await?;
        let token = serde_json::from_slice(&text).ok().and_then(|a: Answer| a.token.or(a.access_token));
        let sound = token.filter(|token| token.bytes().all(|b| b.is_ascii_graphic()));
        sound.ok_or_else(|| RemoteError::refused(location, "its token server gives no token").into())
    }
}

impl Credentials {
    fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password)))
    }
}

/// Those in the URL, else those that `docker login` keeps.
fn credentials(config: &RemoteConfig, place: &Place) -> Option<Credentials> {
    let url = place.location.url();
    if let (user, Some(password)) = (url.username(), url.password()) {
        return Some(Credentials { user: user.to_owned(), password: password.to_owned() });
    }
    let folder = match config.var("DOCKER_CONFIG") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(config.var("HOME")?).join(".docker"),
    };
    let mut text = String::new();
    let file = std::fs::File::open(folder.join("config.json")).ok()?;
    file.take(SHORT_MAX as u64).read_to_string(&mut text).ok()?;
    kept(&text, &place.registry)
}

/// The entry of a registry in docker's `config.json`.
fn kept(text: &str, registry: &str) -> Option<Credentials> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        auths: BTreeMap<String, Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        auth: Option<String>,
    }
    let config: Config = serde_json::from_str(text).ok()?;
    let hub = (registry == "docker.io").then_some("https://index.docker.io/v1/");
    let names = [Some(registry), hub].into_iter().flatten();
    let auth = names.filter_map(|name| config.auths.get(name)?.auth.as_ref()).next()?;
    let pair = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some(Credentials { user: user.to_owned(), password: password.to_owned() })
}

/// `Bearer realm="…",service="…",scope="…"` or `Basic …` (RFC 9110, section 11.6.1).
fn challenge(text: &str) -> Option<Challenge> {
    let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            let pairs = parameters(rest);
            let get = |name: &str| pairs.get(name).cloned();
            Some(Challenge::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") })
        }
        _ => None,
    }
}

fn parameters(mut text: &str) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    while let Some((name, rest)) = text.split_once('=') {
        let (value, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        let name = name.trim_matches([',', ' ']).to_ascii_lowercase();
        pairs.insert(name, cleaned(value));
        text = after;
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_with_commas_in_their_values() {
        let text = r#"Bearer realm="https://a/t",service="r",scope="repository:a/b:pull,push""#;
        let Some(Challenge::Bearer { realm, service, scope }) = challenge(text) else { panic!() };
        assert_eq!((realm.as_str(), service.as_deref()), ("https://a/t", Some("r")));
        assert_eq!(scope.as_deref(), Some("repository:a/b:pull,push"));
        assert_eq!(challenge("Basic realm=\"x\""), Some(Challenge::Basic));
        for bad in ["", "Bearer", "Negotiate", "Bearer realm", "Bearer =", "Bearer \"\"\"\"==,,"] {
            assert_eq!(challenge(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_docker_login_keeps_is_found() {
        let text = r#"{"auths":{"r.io:5000":{"auth":"bWU6cHc6eA=="},"other":{}}}"#;
        let found = kept(text, "r.io:5000").unwrap();
        assert_eq!((found.user.as_str(), found.password.as_str()), ("me", "pw:x"));
        assert!(kept(text, "other").is_none() && kept("{", "x").is_none());
    }
}
