//! HTTPS between a node and the client commands, as processes.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

use crate::keys::pem;
use crate::processes::{Process, ask, assert_refused};
use crate::program::networkdb;

/// The paths of a certificate for 127.0.0.1, its key, and the authority that issued it.
struct Files([String; 3]);

impl Files {
    fn new(folder: &Path) -> Self {
        Self(["certificate", "key", "authority"].map(|name| folder.join(name).to_str().unwrap().to_owned()))
    }

    /// Writes new ones. The certificate is valid until the end of the year before `end`.
    fn issue(&self, end: i32) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_after = date_time_ymd(end, 1, 1);
        let certificate = params.signed_by(&key, &authority).unwrap();
        let Self([certificate_file, key_file, authority_file]) = self;
        std::fs::write(certificate_file, pem("CERTIFICATE", certificate.der())).unwrap();
        std::fs::write(key_file, pem("PRIVATE KEY", &key.serialize_der())).unwrap();
        std::fs::write(authority_file, pem("CERTIFICATE", authority.der())).unwrap();
    }

    /// Writes a certificate that signs itself, as that of an authority.
    fn issue_as_authority(&self) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = pem("CERTIFICATE", params.self_signed(&key).unwrap().der());
        let Self([certificate_file, key_file, authority_file]) = self;
        std::fs::write(certificate_file, &certificate).unwrap();
        std::fs::write(key_file, pem("PRIVATE KEY", &key.serialize_der())).unwrap();
        std::fs::write(authority_file, &certificate).unwrap();
    }

    fn start_node(&self, name: &str) -> Process {
        let Self([certificate, key, _]) = self;
        let files = ["--http-certificate-file", certificate, "--http-key-file", key];
        Process::start(&[&["--name", name, "--bind", "127.0.0.1:0"], &files[..]].concat())
    }

    fn authority(&self) -> &str {
        &self.0[2]
    }
}

#[track_caller]
fn assert_fails(response: (i32, String), sentence: &str) {
    assert!(response.0 == 2 && response.1.contains(sentence), "{response:?}");
}

#[test]
fn client_commands_call_a_node_over_https_if_they_trust_its_authority() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (files, foreign) = (Files::new(folder.path()), Files::new(other.path()));
    files.issue(4000);
    foreign.issue(4000);
    let node = files.start_node("tls");
    node.await_error("other users of this host can read the key of the HTTP certificate");
    let port = node.url().strip_prefix("https://127.0.0.1:").expect("the banner has the URL").to_owned();

    let peers = |api: &str, variable, file: &str| ask(api, Some((variable, file)), &["peers"]);
    let fine = (0, String::new());
    assert_eq!(peers(node.url(), "NETWORKDB_HTTP_AUTHORITY_FILE", files.authority()), fine);
    let flag = ["peers", "--http-authority-file", files.authority()];
    assert_eq!(ask(node.url(), None, &flag), fine);
    // The authorities of the system are in this file.
    assert_eq!(peers(node.url(), "SSL_CERT_FILE", files.authority()), fine);
    let distrusted = "is not trusted: its certificate is not of an authority that is trusted here";
    assert_fails(peers(node.url(), "SSL_CERT_FILE", foreign.authority()), distrusted);
    assert_fails(peers(node.url(), "SSL_CERT_FILE", &files.0[1]), "give those that you trust with");
    assert_fails(
        peers(&format!("https://localhost:{port}"), "NETWORKDB_HTTP_AUTHORITY_FILE", files.authority()),
        "its certificate is not for localhost, but for IpAddress(127.0.0.1)",
    );
    assert_fails(ask(&format!("http://127.0.0.1:{port}"), None, &["peers"]), "call it with https://");
    let plain = Process::start(&["--name", "plain", "--bind", "127.0.0.1:0"]);
    let api = plain.url().replace("http://", "https://");
    assert_fails(peers(&api, "NETWORKDB_HTTP_AUTHORITY_FILE", files.authority()), "does not speak TLS");
    assert_fails(peers(&api, "NETWORKDB_HTTP_AUTHORITY_FILE", &files.0[1]), "has no certificate; expected");
}

#[test]
fn a_signal_reloads_the_certificate_and_files_that_cannot_be_used_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::new(folder.path());
    files.issue(4000);
    let node = files.start_node("renewed");
    let peers = || ask(node.url(), Some(("NETWORKDB_HTTP_AUTHORITY_FILE", files.authority())), &["peers"]);
    assert_eq!(peers().0, 0);
    files.issue(4000);
    assert_fails(peers(), "is not trusted");
    node.signal("HUP");
    node.await_error("HTTP certificate reloaded");
    assert_eq!(peers(), (0, String::new()));
    std::fs::write(&files.0[1], pem("PRIVATE KEY", &KeyPair::generate().unwrap().serialize_der())).unwrap();
    node.signal("HUP");
    let line = node.await_error("HTTP certificate not reloaded, the previous one stays in use");
    assert!(line.contains("WARN") && line.contains(&files.0[1]), "{line}");
    assert!(line.contains("is not that of the certificate"), "{line}");
    assert_eq!(peers(), (0, String::new()));
    files.issue(2020);
    node.signal("HUP");
    node.await_error("HTTP certificate reloaded");
    assert_fails(peers(), "its certificate expired at 2020-01-01T00:00:00Z");
    files.issue_as_authority();
    node.signal("HUP");
    node.await_error("HTTP certificate reloaded");
    assert_fails(peers(), "its certificate is one of an authority (CA:TRUE)");
}

#[test]
fn a_certificate_without_its_key_is_refused_with_the_origin_of_the_setting() {
    let mut command = networkdb(&["run", "--http", "127.0.0.1:0"]);
    let output = command.env("NETWORKDB_HTTP_CERTIFICATE_FILE", "c").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let wanted =
        "--http-certificate-file is c (from the environment variable NETWORKDB_HTTP_CERTIFICATE_FILE)";
    assert!(error.contains(wanted) && error.contains("--http-key-file is missing"), "{error}");
    assert_refused(&["run", "--http-key-file", "k"], "--http-certificate-file is missing");
}
