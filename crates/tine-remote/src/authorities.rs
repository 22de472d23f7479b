//! The certificate authorities that servers are checked by.

use crate::{
    config::RemoteConfig,
    error::{RemoteError, Result},
};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

/// Those of `SSL_CERT_FILE` and `SSL_CERT_DIR` alone where one is given, else the system's. They are read when the first is
/// wanted: there may be hundreds of files, which a transfer without TLS needs none of. Everything else is rustls' own check.
#[derive(Debug)]
pub(crate) struct Authorities {
    file: Option<String>,
    dir: Option<String>,
    provider: Arc<CryptoProvider>,
    verifier: OnceLock<Arc<WebPkiServerVerifier>>,
}

impl Authorities {
    pub(crate) fn new(config: &RemoteConfig, provider: Arc<CryptoProvider>) -> Self {
        let var = |name| config.var(name).map(str::to_owned);
        Self { file: var("SSL_CERT_FILE"), dir: var("SSL_CERT_DIR"), provider, verifier: OnceLock::new() }
    }

    /// Reads them now. A host that has none of its own can talk to nobody over TLS, which is said when somebody tries.
    ///
    /// # Errors
    /// [`RemoteError::Location`] when what the environment names holds none.
    pub(crate) fn read(&self) -> Result<()> {
        if self.verifier.get().is_some() {
            return Ok(());
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.certificates()?);
        let provider = Arc::clone(&self.provider);
        if let Ok(made) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() {
            self.verifier.get_or_init(|| made);
        }
        Ok(())
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        let (file, dir) = (self.file.as_deref(), self.dir.as_deref());
        if file.is_none() && dir.is_none() {
            return Ok(rustls_native_certs::load_native_certs().certs);
        }
        let loaded = rustls_native_certs::load_certs_from_paths(file.map(Path::new), dir.map(Path::new));
        if loaded.certs.is_empty() {
            let why =
                loaded.errors.first().map_or("they hold no certificate".to_owned(), ToString::to_string);
            let named = [file, dir].into_iter().flatten().collect::<Vec<_>>().join(" and ");
            return Err(RemoteError::location(named, format!("as trusted certificates: {why}")));
        }
        Ok(loaded.certs)
    }

    fn verifier(&self) -> Result<&WebPkiServerVerifier, Error> {
        self.read().map_err(|error| Error::General(error.to_string()))?;
        self.verifier.get().map(AsRef::as_ref).ok_or(CertificateError::UnknownIssuer.into())
    }
}

impl ServerCertVerifier for Authorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier()?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier()?.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier()?.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
