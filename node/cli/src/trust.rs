//! Which nodes the client commands trust over HTTPS, and why they do not trust another one.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore, crypto::ring};

use super::failure::Failure;

/// The authorities whose certificates are accepted.
#[derive(Debug, Clone)]
pub(super) enum Trust {
    /// Those that the system trusts.
    System,
    /// Those of a file.
    File(Arc<ClientConfig>),
}

impl Trust {
    /// The authorities in `file`, else those of the system.
    pub(super) fn find(file: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = file else { return Ok(Self::System) };
        let unusable = |why: &dyn std::fmt::Display| {
            Failure::unusable(format_args!("the HTTP authority file {} {why}", path.display()))
        };
        let text = std::fs::read(path).map_err(|error| unusable(&format_args!("cannot be read: {error}")))?;
        let mut trusted = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.map_err(|error| unusable(&format_args!("is not PEM: {error}")))?;
            trusted
                .add(certificate)
                .map_err(|error| unusable(&format_args!("has a certificate that cannot be used: {error}")))?;
        }
        if trusted.is_empty() {
            return Err(unusable(&"has no certificate; expected those of authorities, in PEM"));
        }
        Ok(Self::File(accepting(trusted)))
    }

    /// Has the server prove that it is `host`. The error is a clause about the server.
    pub(super) async fn handshake(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            format!("cannot prove its name: {host:?} is neither a DNS name nor an IP address")
        })?;
        let config = match self {
            Self::File(config) => config.clone(),
            Self::System => of_the_system()?,
        };
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| distrust(&error, host))
    }
}

fn of_the_system() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut trusted = RootCertStore::empty();
    // Systems have some that no library reads.
    trusted.add_parsable_certificates(found.certs);
    if trusted.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "cannot be trusted: this system has no certificates of authorities{why}; give those that you \
             trust with --http-authority-file FILE"
        ));
    }
    Ok(accepting(trusted))
}

fn accepting(trusted: RootCertStore) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("ring has cipher suites for both versions")
        .with_root_certificates(trusted)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Why the handshake failed.
fn distrust(error: &io::Error, host: &str) -> String {
    let date = |time: &UnixTime| {
        humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_secs(time.as_secs()))
    };
    let why = match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(why)) => why,
        Some(rustls::Error::InvalidMessage(_)) => {
            return "does not speak TLS; call it with http:// if it has no certificate".to_owned();
        }
        _ => return format!("broke the TLS handshake off: {error}"),
    };
    match why {
        // The signature is bad if an authority of the same name is trusted, for example the previous one.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is not trusted: its certificate is not of an authority that is trusted here; if the authority \
             is your own, give its certificate with --http-authority-file FILE"
                .to_owned()
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names = if presented.is_empty() { "no name".to_owned() } else { presented.join(", ") };
            format!("is not trusted: its certificate is not for {host}, but for {names}")
        }
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("is not trusted: its certificate expired at {}", date(not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            let since = date(not_before);
            format!("is not trusted: its certificate is valid from {since} on; is the clock right?")
        }
        // The verifier has no variant for this one.
        CertificateError::Other(error) if error.to_string().contains("CaUsedAsEndEntity") => {
            "is not trusted: its certificate is one of an authority (CA:TRUE); it needs one that an authority \
             issued to it (CA:FALSE)"
                .to_owned()
        }
        why => format!("is not trusted: its certificate cannot be used ({why})"),
    }
}
