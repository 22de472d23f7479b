//! Where a file is, far or near: a URL of a known scheme, shown without its secrets.

use crate::error::{RemoteError, Result};
use std::{fmt, path::PathBuf};
use url::Url;

/// The longest URL that is looked at; servers refuse longer ones.
const LONGEST: usize = 8192;

/// The schemes that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http://`
    Http,
    /// `https://`
    Https,
    /// `file:///path`
    File,
    /// `s3://bucket/key`
    S3,
    /// `gs://bucket/key`
    Gs,
    /// `az://container/key`
    Az,
    /// `oci://registry/repository:tag` or `…@sha256:digest`
    Oci,
}

impl Scheme {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "http" => Self::Http,
            "https" => Self::Https,
            "file" => Self::File,
            "s3" => Self::S3,
            "gs" => Self::Gs,
            "az" => Self::Az,
            "oci" => Self::Oci,
            _ => return None,
        })
    }
}

/// A file somewhere. `Display` and `Debug` leave out user, password and query, which may be a signature.
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    scheme: Scheme,
    url: Url,
}

impl Location {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`RemoteError::Location`] when it is none, of another scheme, or lacks a host or a path.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > LONGEST {
            return Err(RemoteError::location("the URL", format!("it is longer than {LONGEST} bytes")));
        }
        // the text is not shown: what can't be parsed can't be stripped of its password
        let url = Url::parse(text).map_err(|e| RemoteError::location("the URL", format!("{e}")))?;
        let Some(scheme) = Scheme::parse(url.scheme()) else {
            let why = format!("the scheme {:?} is not one of {KNOWN}", url.scheme());
            return Err(RemoteError::location("the URL", why));
        };
        let location = Self { scheme, url };
        location.check()?;
        Ok(location)
    }

    fn check(&self) -> Result<()> {
        let host = self.url.host_str().unwrap_or("");
        let bare = self.url.path().trim_matches('/').is_empty();
        let wrong = match self.scheme {
            Scheme::File if !(host.is_empty() || host == "localhost") => "a file has no host: file:///path",
            Scheme::File if bare => "it names no file",
            Scheme::S3 | Scheme::Gs | Scheme::Az if host.is_empty() || bare => "it needs a bucket and a key",
            Scheme::Oci if host.is_empty() || bare => "it needs a registry and a repository",
            Scheme::Oci if self.url.fragment().is_some() => "it has a fragment",
            _ => return Ok(()),
        };
        Err(RemoteError::location(self, wrong.to_owned()))
    }

    /// Its scheme.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether it names a folder, by a slash at its end.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.url.path().ends_with('/')
    }

    /// The last segment of its path, undecoded; none when that is empty.
    #[must_use]
    pub fn file_name(&self) -> Option<&str> {
        self.url.path().rsplit('/').next().filter(|name| !name.is_empty())
    }

    /// Another file in the same folder, or of the same artifact at a registry. The query goes, being a signature of this file
    /// alone where there is one.
    ///
    /// # Errors
    /// [`RemoteError::Location`] when `name` is no plain file name.
    pub fn sibling(&self, name: &str) -> Result<Self> {
        let folder = self.url.path().rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        let placed = self.placed(&folder, name)?;
        if self.scheme != Scheme::Oci {
            return Ok(placed);
        }
        let mut layer = self.clone();
        layer.url.set_fragment(Some(name));
        Ok(layer)
    }

    /// A file in the folder that this location is, its query kept.
    ///
    /// # Errors
    /// [`RemoteError::Location`] when `name` is no plain file name.
    pub fn child(&self, name: &str) -> Result<Self> {
        let folder = self.url.path().trim_end_matches('/').to_owned();
        let mut child = self.placed(&folder, name)?;
        child.url.set_query(self.url.query());
        Ok(child)
    }

    fn placed(&self, folder: &str, name: &str) -> Result<Self> {
        let odd = |c: char| c.is_control() || matches!(c, '/' | '\\' | '?' | '#' | '%' | ' ');
        if name.is_empty() || name == "." || name == ".." || name.contains(odd) {
            return Err(RemoteError::location(self, format!("{name:?} is no file name to look for there")));
        }
        let mut url = self.url.clone();
        url.set_path(&format!("{folder}/{name}"));
        url.set_query(None);
        url.set_fragment(None);
        Ok(Self { scheme: self.scheme, url })
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) fn to_file_path(&self) -> Result<PathBuf> {
        let mut url = self.url.clone();
        // only fails for schemes that have no host
        let _ = url.set_host(None);
        url.to_file_path().map_err(|()| RemoteError::location(self, "it is no path of a file".to_owned()))
    }
}

const KNOWN: &str = "https, http, file, s3, gs, az, oci";

/// A URL without user, password, query and fragment; that of a registry's is the name of a layer, set here.
pub(crate) fn shown(url: &Url) -> String {
    let mut plain = url.clone();
    // these fail for URLs that cannot have a user, which then have none to show
    let _ = plain.set_username("");
    let _ = plain.set_password(None);
    plain.set_query(None);
    if plain.scheme() != "oci" {
        plain.set_fragment(None);
    }
    plain.to_string()
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.url))
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_parses_and_others_are_refused_by_name() {
        for good in [
            "https://h/x",
            "http://h:81/x?q",
            "file:///x",
            "s3://b/k/l",
            "gs://b/k",
            "az://c/k",
            "oci://r:5000/a/b:t",
        ] {
            assert!(Location::parse(good).is_ok(), "{good}");
        }
        for (bad, says) in [
            ("ftp://h/x", "ftp"),
            ("data:,x", "data"),
            ("plain", "relative"),
            ("s3://bucket", "key"),
            ("oci://r/", "repository"),
            ("oci://r/a:b#c", "fragment"),
            ("file://far/x", "host"),
        ] {
            let error = Location::parse(bad).unwrap_err().to_string();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        let location = Location::parse("https://me:hidden@h/x?X-Amz-Signature=hidden#hidden").unwrap();
        assert_eq!(location.to_string(), "https://h/x");
        assert_eq!(format!("{location:?}"), "Location(https://h/x)");
        for bad in ["ftp://me:hidden@h/x", "https://me:hidden@h:99999/x", "file://me:hidden@h/x"] {
            let error = Location::parse(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hidden"), "{error:?}");
        }
    }

    #[test]
    fn siblings_and_children_stay_in_their_folder() {
        let pack = Location::parse("https://h/a/p.tar.zst?sig=1").unwrap();
        assert_eq!(pack.sibling("q.zst").unwrap().url().as_str(), "https://h/a/q.zst");
        let artifact = Location::parse("oci://h/a/b:v1").unwrap();
        assert_eq!(artifact.sibling("q.zst").unwrap().to_string(), "oci://h/a/b:v1#q.zst");
        assert!(artifact.sibling("a#b").is_err());
        let hub = Location::parse("https://h/hub/?t=1").unwrap();
        assert_eq!(hub.child("registry.json").unwrap().url().as_str(), "https://h/hub/registry.json?t=1");
        for bad in ["", "..", "a/b", "a?b", "%2e%2e", "a\nb"] {
            assert!(pack.sibling(bad).is_err(), "{bad:?}");
        }
    }
}
