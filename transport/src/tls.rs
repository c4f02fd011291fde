//! Mutual TLS: both sides send a certificate and verify the other's. The result is kept for the
//! connection.

use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};
use webpki::KeyUsage;

use crate::certificate::{Credentials, VerifiedPeer};
use crate::error::{PROTOCOL, RefusalReason};

/// The result of verifying the peer's certificate; `None` until it was received.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict(Arc<Mutex<Option<Result<VerifiedPeer, RefusalReason>>>>);

impl Verdict {
    pub(crate) fn take(&self) -> Option<Result<VerifiedPeer, RefusalReason>> {
        self.0.lock().take()
    }
}

/// The cryptography provider of all handshakes.
static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

/// The TLS settings of one dial with the current credentials.
pub(crate) fn client_config(credentials: &Arc<Credentials>, verdict: &Verdict) -> QuicClientConfig {
    QuicClientConfig::try_from(client_tls(credentials, verdict))
        .expect("ring has the suite that QUIC begins with")
}

pub(crate) fn client_tls(credentials: &Arc<Credentials>, verdict: &Verdict) -> rustls::ClientConfig {
    let verifier = Verifier { credentials: credentials.clone(), verdict: verdict.clone() };
    let mut config = rustls::ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring knows TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.own.clone())));
    config.alpn_protocols = vec![PROTOCOL.into()];
    // A resumed session would outlive the secret it was made with, and early data can be replayed.
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    // No server name on the wire: the identity of the dialled node stays hidden.
    config.enable_sni = false;
    config
}

/// The TLS settings of one accepted handshake with the current credentials.
pub(crate) fn server_config(credentials: &Arc<Credentials>, verdict: &Verdict) -> QuicServerConfig {
    QuicServerConfig::try_from(server_tls(credentials, verdict))
        .expect("ring has the suite that QUIC begins with")
}

pub(crate) fn server_tls(credentials: &Arc<Credentials>, verdict: &Verdict) -> rustls::ServerConfig {
    let verifier = Verifier { credentials: credentials.clone(), verdict: verdict.clone() };
    let mut config = rustls::ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring knows TLS 1.3")
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.own.clone())));
    config.alpn_protocols = vec![PROTOCOL.into()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

/// The reason that TLS reports to a refused peer.
#[derive(thiserror::Error)]
#[error("{0}")]
struct PeerMessage(String);

/// TLS transmits the debug form, and people read it.
impl std::fmt::Debug for PeerMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Verifies the certificate of one peer.
#[derive(Debug)]
struct Verifier {
    credentials: Arc<Credentials>,
    verdict: Verdict,
}

impl Verifier {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let found = self.credentials.verify(certificate, intermediates, usage, now);
        let answer = match &found {
            Ok(_) => Ok(()),
            // TLS sends this text to the peer, so that both sides can log the reason.
            Err(refusal) => {
                Err(CertificateError::Other(OtherError(Arc::new(PeerMessage(refusal.message_to_peer()))))
                    .into())
            }
        };
        *self.verdict.0.lock() = Some(found);
        answer
    }

    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn no_tls12() -> rustls::Error {
        rustls::Error::General("QUIC has no TLS 1.2".to_owned())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        // The expected name is compared after the handshake, so that both sides learn the reason.
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, KeyUsage::server_auth(), now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(Self::no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, KeyUsage::client_auth(), now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(Self::no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}
