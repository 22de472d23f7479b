//! What lets programs in a box reach other hosts as this one does: its proxies, and certificate authorities of its network's own.
//!
//! Both last as long as a base is built. Whom a host trusts is no part of a base, which may travel.

use crate::{io_error, script::Script};
use std::{fs::File, path::Path};
use tine_model::{EnvVar, Error, ErrorCode, Reporter, Result};

/// Where the certificates lie in the box while it builds.
const BUNDLE: &str = "/run/tine-certificates.pem";
/// A bundle of all public authorities has a quarter of a megabyte.
const LARGEST_BUNDLE: u64 = 4 * 1024 * 1024;
/// What is set to the bundle: for OpenSSL and what uses it, curl, git, pip, Python's requests, Node.js.
const READERS: [&str; 6] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
];
/// Handed on as they are, in capitals or not.
const PROXIES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

/// What a build's programs are told about the network.
#[derive(Debug)]
pub struct Reach {
    bundle: Option<File>,
    env: Vec<EnvVar>,
}

impl Reach {
    /// What `host`, the variables that the engine was given, says: proxies, and the file that `SSL_CERT_FILE` names.
    ///
    /// # Errors
    /// `not_found` and the like when that file can't be read, `too_large` when it is no bundle by its size.
    pub fn of(host: &[(String, String)]) -> Result<Self> {
        let is_proxy = |name: &str| PROXIES.contains(&name.to_ascii_uppercase().as_str());
        let var = |key: &str, value: &str| EnvVar { key: key.to_owned(), value: value.to_owned() };
        let mut env: Vec<EnvVar> =
            host.iter().filter(|(name, _)| is_proxy(name)).map(|(name, value)| var(name, value)).collect();
        let named = host.iter().find(|(name, value)| name == "SSL_CERT_FILE" && !value.is_empty());
        let bundle = named.map(|(_, path)| open(Path::new(path))).transpose()?;
        if bundle.is_some() {
            env.extend(READERS.map(|name| var(name, BUNDLE)));
        }
        Ok(Self { bundle, env })
    }

    /// What the build's script finds in its environment.
    pub fn env(&self) -> &[EnvVar] {
        &self.env
    }

    /// Puts the certificates into the box that `script` is about, whose own text is not run.
    ///
    /// # Errors
    /// `tool_failed`, `cancelled`, and what the box says.
    pub fn arrive(&self, script: &Script<'_>, reporter: &dyn Reporter) -> Result<()> {
        let Some(bundle) = &self.bundle else { return Ok(()) };
        let text = format!("cat > {BUNDLE}");
        let copy = Script { text: &text, input: Some(bundle), ..*script };
        copy.succeed("hand the host's certificates to the build", reporter)
    }

    /// Takes them away again.
    ///
    /// # Errors
    /// As [`Reach::arrive`].
    pub fn leave(&self, script: &Script<'_>, reporter: &dyn Reporter) -> Result<()> {
        if self.bundle.is_none() {
            return Ok(());
        }
        let text = format!("rm -f {BUNDLE}");
        Script { text: &text, ..*script }.succeed("take the host's certificates from the build", reporter)
    }
}

fn open(path: &Path) -> Result<File> {
    let doing = "read the certificates that SSL_CERT_FILE names:";
    let file = File::open(path).map_err(|e| io_error(doing, path, &e))?;
    let about = file.metadata().map_err(|e| io_error(doing, path, &e))?;
    if !about.is_file() || about.len() > LARGEST_BUNDLE {
        let message = format!("{doing} {} is no file of certificates", path.display());
        return Err(Error::new(ErrorCode::InvalidInput, message));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(reach: &Reach) -> Vec<String> {
        reach.env().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn proxies_and_certificates_are_handed_on_and_credentials_are_not() {
        // any small file will do
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let host = [
            ("https_proxy", "http://proxy:3128"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("HOME", "/root"),
            ("SSL_CERT_FILE", path),
        ];
        let host = host.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut expected = vec!["https_proxy=http://proxy:3128".to_owned()];
        expected.extend(READERS.map(|name| format!("{name}=/run/tine-certificates.pem")));
        assert_eq!(said(&Reach::of(&host).unwrap()), expected);
        assert_eq!(said(&Reach::of(&host[..3]).unwrap()), expected[..1]);
    }

    #[test]
    fn what_is_no_bundle_is_told_before_anything_is_built() {
        for path in ["/nonexistent/authorities.pem", "/", "/dev/zero"] {
            let error = Reach::of(&[("SSL_CERT_FILE".into(), path.into())]).unwrap_err();
            assert!(error.message.contains("SSL_CERT_FILE") && error.message.contains(path), "{error}");
        }
    }
}
