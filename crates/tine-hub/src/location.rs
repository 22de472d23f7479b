//! Where a hub's documents lie, and where an entry of its registry points.
//!
//! Opens nothing. A registry is an attacker's: it may not turn a reader of the web to files of its own host, nor an
//! encrypted connection to a plain one.

use crate::error::{HubError, Result};
use std::{fmt, str::FromStr};
use url::Url;

const REGISTRY: &str = "registry.json";
/// Schemes that a hub can have. What moves the bytes decides which of them it speaks.
const SCHEMES: [&str; 6] = ["https", "http", "file", "s3", "gs", "az"];
/// Longer than any URL that a server takes.
pub(crate) const MAX_URL: usize = 2048;

/// A hub, by the URL of its registry. Two ways of writing one URL give equal values; what is known of a hub is kept
/// by this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubUrl(Url);

impl FromStr for HubUrl {
    type Err = HubError;

    /// Reads the URL of a registry, or of the folder it lies in. The scheme is one of https, http, file, s3, gs
    /// and az.
    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| HubError::Usage(format!("{} is no URL of a hub: {why}", shown(text)));
        if text.len() > MAX_URL {
            return Err(bad("too long"));
        }
        let mut url = Url::parse(text).map_err(|e| bad(&e.to_string()))?;
        check_form(&url).map_err(|why| bad(&why))?;
        if url.query().is_some() {
            return Err(bad("it has a query"));
        }
        if !url.path().ends_with(".json") {
            let path = format!("{}/{REGISTRY}", url.path().trim_end_matches('/'));
            url.set_path(&path);
        }
        Ok(Self(url))
    }
}

impl fmt::Display for HubUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.as_str())
    }
}

impl HubUrl {
    /// The URL of the registry.
    #[must_use]
    pub fn registry(&self) -> &str {
        self.0.as_str()
    }

    /// The URL of the registry's signature, `registry.json.minisig` beside it.
    #[must_use]
    pub fn signature(&self) -> String {
        format!("{}.minisig", self.0)
    }

    /// Where an entry's `url` points: a relative one lies below the registry's own folder.
    ///
    /// # Errors
    /// `invalid_input` for another scheme than https, http and file, for `file:` in a registry that is not a file,
    /// for `http:` in one that came by another way than `http:` or a file, for credentials in the URL, and for a
    /// relative one that leads out of the folder.
    pub fn resolve(&self, entry: &str) -> Result<String> {
        let bad =
            |why: &str| HubError::invalid(format!("the registry {self} points to {}: {why}", shown(entry)));
        check_entry(entry).map_err(|why| bad(&why))?;
        let url = match Url::parse(entry) {
            Ok(url) => self.absolute(url).map_err(|why| bad(&why))?,
            Err(url::ParseError::RelativeUrlWithoutBase) => self.relative(entry).map_err(|why| bad(&why))?,
            Err(e) => return Err(bad(&e.to_string())),
        };
        Ok(url.into())
    }

    fn absolute(&self, url: Url) -> Result<Url, String> {
        check_form(&url)?;
        match (url.scheme(), self.0.scheme()) {
            ("https", _) | ("http", "http" | "file") | ("file", "file") => Ok(url),
            ("http", _) => Err("a plain http: URL, while the registry did not come that way".to_owned()),
            ("file", _) => {
                Err("a file of this host, which a registry from elsewhere may not name".to_owned())
            }
            (scheme, _) => Err(format!("the scheme {scheme} is none of https, http and file")),
        }
    }

    fn relative(&self, entry: &str) -> Result<Url, String> {
        let url = self.0.join(entry).map_err(|e| e.to_string())?;
        let folder = self.0.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
        let below = url.as_str().strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        if below { Ok(url) } else { Err("it leads out of the registry's folder".to_owned()) }
    }
}

/// The rules for every `url` of a registry, before anything is known of where the registry came from.
pub(crate) fn check_entry(entry: &str) -> Result<(), String> {
    if entry.is_empty() {
        return Err("it is empty".to_owned());
    }
    if entry.len() > MAX_URL {
        return Err(format!("it is longer than {MAX_URL} bytes"));
    }
    // what the parser would drop without a word is not what was signed
    let odd = |c: char| c.is_control() || c.is_whitespace() || c == '\\';
    if entry.contains(odd) {
        Err("it has blanks, backslashes or control characters".to_owned())
    } else {
        Ok(())
    }
}

fn check_form(url: &Url) -> Result<(), String> {
    if !SCHEMES.contains(&url.scheme()) {
        return Err(format!("the scheme {} is none of {}", url.scheme(), SCHEMES.join(", ")));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it has a user or password in it".to_owned());
    }
    if url.fragment().is_some() {
        return Err("it has a fragment".to_owned());
    }
    match (url.scheme(), url.host_str()) {
        ("file", None | Some("")) => Ok(()),
        ("file", Some(_)) => Err("a file: URL names no host".to_owned()),
        (_, None | Some("")) => Err("it names no host".to_owned()),
        _ => Ok(()),
    }
}

/// A URL as it is shown: without what stands before an `@`, which may be a password, and cut where absurdly long.
pub(crate) fn shown(url: &str) -> String {
    let visible = match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => url.to_owned(),
    };
    let cut: String = visible.chars().take(200).collect();
    let dots = if cut.len() < visible.len() { "…" } else { "" };
    format!("{:?}{dots}", cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hub(text: &str) -> HubUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_folder_and_its_registry_are_one_hub() {
        let all = ["https://h/a", "https://h/a/", "https://h/a/registry.json", "HTTPS://H:443/a//"];
        assert!(all.iter().all(|t| hub(t) == hub(all[0])), "{:?}", all.map(hub));
        assert_eq!(hub("https://h").registry(), "https://h/registry.json");
        assert_eq!(hub("file:///srv/hub").signature(), "file:///srv/hub/registry.json.minisig");
        assert_eq!(hub("s3://bucket/hub").registry(), "s3://bucket/hub/registry.json");
        for bad in [
            "",
            "h/a",
            "ftp://h/a",
            "https://u:p@h/a",
            "javascript:1",
            "file://host/a",
            "https://h/#x",
            "https://h/?q",
            "s3:///a",
        ] {
            assert!(bad.parse::<HubUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_in_urls_are_not_shown() {
        let error = "https://user:secret@h/a".parse::<HubUrl>().unwrap_err().to_string();
        assert!(!error.contains("secret") && error.contains("@h/a"), "{error}");
    }

    #[test]
    fn entries_are_relative_or_of_a_scheme_that_the_registry_may_name() {
        let web = hub("https://h/hub");
        assert_eq!(web.resolve("packs/a/b/v1/x.tar.zst").unwrap(), "https://h/hub/packs/a/b/v1/x.tar.zst");
        assert_eq!(web.resolve("https://other/x").unwrap(), "https://other/x");
        let file = hub("file:///srv/hub");
        assert_eq!(file.resolve("packs/x").unwrap(), "file:///srv/hub/packs/x");
        assert_eq!(file.resolve("http://h/x").unwrap(), "http://h/x");
        assert_eq!(hub("s3://b/hub").resolve("packs/x").unwrap(), "s3://b/hub/packs/x");
    }

    #[test]
    fn another_scheme_a_downgrade_and_a_way_out_are_refused() {
        let web = hub("https://h/hub");
        for bad in [
            "http://h/x",
            "file:///etc/passwd",
            "ftp://h/x",
            "data:,x",
            "s3://b/x",
            "../x",
            "/etc/x",
            "//other/x",
            "packs/../../x",
            "packs/%2e%2e/%2e%2e/x",
            "https://u:p@h/x",
            "",
            " packs/x",
            "packs\\x",
            "a\nb",
            "https://h/x#y",
        ] {
            assert!(matches!(web.resolve(bad), Err(HubError::Invalid(_))), "{bad:?}");
        }
        assert!(hub("http://h/hub").resolve("file:///etc/passwd").is_err());
        assert!(hub("file:///srv/hub").resolve("../../etc/passwd").is_err());
        assert!(web.resolve(&"a".repeat(MAX_URL + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics_or_leaves_the_allowed_schemes(text in "\\PC{0,80}") {
            let _ = text.parse::<HubUrl>();
            if let Ok(url) = hub("https://h/hub").resolve(&text) {
                prop_assert!(url.starts_with("https://"), "{}", url);
            }
        }
    }
}
