//! HTTPS: requests over TLS, and clients that do not speak it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use http_client_for_tests::{Request, Response};
use networkdb_http::tls::{CertificateFiles, CertificateStore};
use networkdb_http::{HttpConfig, HttpLimits};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::host::{Host, TIMEOUT, off_the_runtime};

/// An authority, and a folder with the files of a certificate that it issues.
struct Issued {
    authority: CertificateDer<'static>,
    folder: tempfile::TempDir,
}

fn write_pem(path: &Path, label: &str, der: &[u8]) {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    std::fs::write(path, format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")).unwrap();
}

impl Issued {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let issued = Self { authority: authority.der().clone(), folder: tempfile::tempdir().unwrap() };
        write_pem(&issued.files().certificate, "CERTIFICATE", certificate.der());
        write_pem(&issued.files().key, "PRIVATE KEY", &key.serialize_der());
        issued
    }

    fn files(&self) -> CertificateFiles {
        let path = |name: &str| self.folder.path().join(name);
        CertificateFiles { certificate: path("certificate"), key: path("key") }
    }

    fn store(&self) -> Arc<CertificateStore> {
        Arc::new(CertificateStore::new(self.files().read().unwrap()))
    }

    /// A connection of a client that trusts the authority. The handshake is still to come.
    fn connect(&self, host: &Host) -> StreamOwned<ClientConnection, TcpStream> {
        let mut trusted = RootCertStore::empty();
        trusted.add(self.authority.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(trusted)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        StreamOwned::new(client, host.connect())
    }

    async fn get(&self, host: &Host, path: &str) -> std::io::Result<Response> {
        let (mut stream, request) = (self.connect(host), Request::new("GET", path));
        off_the_runtime(move || request.send_over(&mut stream, TIMEOUT)).await
    }

    async fn refused(&self, host: &Host, reason: &str) -> u64 {
        let metrics = self.get(host, "/metrics").await.unwrap().body;
        let sample = format!("networkdb_http_refused_total{{reason=\"{reason}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&sample)).unwrap().parse().unwrap()
    }
}

fn with_certificate(store: Arc<CertificateStore>, limits: HttpLimits) -> HttpConfig {
    HttpConfig { certificate: Some(store), limits, ..HttpConfig::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_certificate_is_that_of_new_connections_and_open_ones_go_on() {
    let (first, second) = (Issued::new(), Issued::new());
    let store = first.store();
    let host = Host::start(with_certificate(store.clone(), HttpLimits::default())).await;
    assert!(host.http.url().starts_with("https://127.0.0.1:"), "{}", host.http.url());
    assert_eq!(first.get(&host, "/v1/node").await.unwrap().status, 200);
    let mut open = first.connect(&host);
    let mut open = off_the_runtime(move || {
        while open.conn.is_handshaking() {
            open.conn.complete_io(&mut open.sock).unwrap();
        }
        open
    })
    .await;
    assert_eq!(open.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    store.replace(second.files().read().unwrap());
    assert_eq!(second.get(&host, "/v1/node").await.unwrap().status, 200);
    let error = first.get(&host, "/v1/node").await.unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    let answer = off_the_runtime(move || Request::new("GET", "/v1/node").send_over(&mut open, TIMEOUT)).await;
    assert_eq!(answer.unwrap().status, 200);
    // The client that did not trust the certificate said so.
    assert_eq!(second.refused(&host, "invalid_handshake").await, 1);
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_complete_a_handshake_is_closed_and_counted() {
    let issued = Issued::new();
    let limits = HttpLimits { head_time: Duration::from_millis(500), ..HttpLimits::default() };
    let host = Host::start(with_certificate(issued.store(), limits)).await;
    let mut plain = host.connect();
    let answer = off_the_runtime(move || {
        plain.write_all(b"GET /v1/node HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        plain.read_to_end(&mut answer).unwrap();
        answer
    })
    .await;
    // An alert of TLS, and nothing of HTTP.
    assert!(answer.first() == Some(&0x15) && answer.len() < 10, "{answer:?}");
    assert_eq!(issued.refused(&host, "invalid_handshake").await, 1);
    let mut silent = host.connect();
    assert_eq!(off_the_runtime(move || silent.read(&mut [0; 10]).unwrap()).await, 0);
    assert_eq!(issued.refused(&host, "handshake_too_slow").await, 1);
    assert_eq!(issued.refused(&host, "invalid_handshake").await, 1);
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_without_a_handshake_count_and_health_is_served_beside_them() {
    let issued = Issued::new();
    let limits = HttpLimits { connections: 1, ..HttpLimits::default() };
    let host = Host::start(with_certificate(issued.store(), limits)).await;
    let silent = host.connect();
    assert_eq!(issued.get(&host, "/livez").await.unwrap().status, 200);
    assert_eq!(issued.get(&host, "/v1/node").await.unwrap().status, 503);
    drop(silent);
    host.end().await;
}

#[test]
fn files_that_cannot_be_used_are_named_with_the_reason() {
    let (issued, other) = (Issued::new(), Issued::new());
    let CertificateFiles { certificate, key } = issued.files();
    let error = |certificate: &Path, key: &Path| {
        let files = CertificateFiles { certificate: certificate.to_owned(), key: key.to_owned() };
        files.read().unwrap_err().to_string()
    };
    let foreign = other.files().key;
    let text = error(&certificate, &foreign);
    assert!(text.contains(foreign.to_str().unwrap()) && text.contains("is not that of the certificate"));
    let text = error(&key, &key);
    assert!(text.contains("is not PEM with a certificate") && text.contains(key.to_str().unwrap()), "{text}");
    let text = error(&certificate, &certificate);
    assert!(text.contains("is not PEM with a key"), "{text}");
    let text = error(Path::new("/nowhere/c"), &key);
    assert!(text.starts_with("cannot read the HTTP certificate file /nowhere/c: "), "{text}");
    for (file, label, what) in [("c", "CERTIFICATE", "certificate"), ("k", "PRIVATE KEY", "key")] {
        let wrong = issued.folder.path().join(file);
        write_pem(&wrong, label, b"swordfish");
        let text = if what == "key" { error(&certificate, &wrong) } else { error(&wrong, &key) };
        assert!(text.starts_with(&format!("the {what} in the HTTP {what} file ")), "{text}");
    }
}
