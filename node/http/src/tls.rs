//! TLS of the HTTP port: a certificate from two files, which can be replaced while the server runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, InconsistentKeys, ServerConfig};
use zeroize::{Zeroize as _, Zeroizing};

/// The files with a certificate and its private key, both in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: other crates build it.
pub struct CertificateFiles {
    /// The certificate of this server, followed by those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Why the files cannot be used. The texts never show the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateFileError {
    /// A file cannot be read.
    #[error("cannot read the HTTP {what} file {}: {error}", path.display())]
    Unreadable {
        /// The kind of file.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// A file is not PEM with what is wanted.
    #[error("the HTTP {what} file {} is not PEM with a {what}: {error}", path.display())]
    Pem {
        /// The kind of file.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        error: pem::Error,
    },
    /// A certificate or key does not decode, or is of an unknown kind.
    #[error("the {what} in the HTTP {what} file {} cannot be used: {error}", path.display())]
    Unusable {
        /// The kind of file.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        error: rustls::Error,
    },
    /// The key is that of another certificate.
    #[error(
        "the key in the HTTP key file {} is not that of the certificate in {}",
        .0.key.display(), .0.certificate.display()
    )]
    Mismatch(CertificateFiles),
}

/// What a server needs for TLS: a certificate with its key.
#[derive(Debug, Clone)]
pub struct HttpCertificate(Arc<ServerConfig>);

impl CertificateFiles {
    /// Reads both files. Neither the names nor the validity of the certificate are checked: clients do that.
    ///
    /// # Errors
    /// If one of them cannot be read or used, or they do not belong together.
    pub fn read(&self) -> Result<HttpCertificate, CertificateFileError> {
        let (what, path) = ("certificate", &self.certificate);
        let chain = CertificateDer::pem_slice_iter(&read(what, path)?)
            .collect::<Result<Vec<_>, _>>()
            .and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) })
            .map_err(|error| CertificateFileError::Pem { what, path: path.clone(), error })?;
        let key = self.read_key()?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => Ok(HttpCertificate::new(certified)),
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(CertificateFileError::Mismatch(self.clone()))
            }
            Err(error) => Err(CertificateFileError::Unusable { what, path: path.clone(), error }),
        }
    }

    fn read_key(&self) -> Result<Arc<dyn rustls::sign::SigningKey>, CertificateFileError> {
        let (what, path) = ("key", &self.key);
        let mut key = PrivateKeyDer::from_pem_slice(&read(what, path)?)
            .map_err(|error| CertificateFileError::Pem { what, path: path.clone(), error })?;
        let signing = ring::sign::any_supported_type(&key);
        key.zeroize();
        signing.map_err(|error| CertificateFileError::Unusable { what, path: path.clone(), error })
    }
}

fn read(what: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, CertificateFileError> {
    let unreadable = |error| CertificateFileError::Unreadable { what, path: path.to_owned(), error };
    std::fs::read(path).map(Zeroizing::new).map_err(unreadable)
}

impl HttpCertificate {
    fn new(certified: CertifiedKey) -> Self {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("ring has cipher suites for both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }
}

/// A certificate that can be replaced while the server runs.
#[derive(Debug)]
pub struct CertificateStore(RwLock<HttpCertificate>);

impl CertificateStore {
    /// Serves with `certificate`.
    pub fn new(certificate: HttpCertificate) -> Self {
        Self(RwLock::new(certificate))
    }

    /// Uses only `certificate` for connections from now on. Sessions of the previous one are not resumed.
    pub fn replace(&self, certificate: HttpCertificate) {
        *self.0.write() = certificate;
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.read().0.clone())
    }
}
