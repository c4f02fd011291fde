//! Secrets of running processes: commands show their fingerprints, commands and SIGHUP change them, and no
//! output shows them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::program::networkdb;
use tempfile::TempDir;
use transport::{Fingerprint, SECRET_PREFIX, Secret, generate_secret};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A node with a secret file, its output, and the commands that call it.
struct Process {
    child: Child,
    api: String,
    output: Arc<Mutex<String>>,
    folder: TempDir,
}

impl Process {
    fn start(secrets: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, secrets).unwrap();
        Self::run(folder, &[&["--secret-file", file.to_str().unwrap()], more].concat())
    }

    fn run(folder: TempDir, more: &[&str]) -> Self {
        let fixed = ["run", "--http", "127.0.0.1:0", "--preset", "loopback", "--bind", "127.0.0.1:0"];
        let mut child = networkdb(&[&fixed[..], &["--log-level", "trace"], more].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut banner = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut banner).unwrap();
        let output = Arc::new(Mutex::new(banner.clone()));
        let collected = output.clone();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                *collected.lock().unwrap() += &(line + "\n");
            }
        });
        let (_, url) = banner.split_once("diagnostics: ").unwrap_or_else(|| panic!("it starts: {banner}"));
        let api = url.trim().trim_end_matches("/help").to_owned();
        Self { child, api, output, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    /// Runs a command for this node. Returns its status and its output.
    fn keys(&self, arguments: &[&str], input: Option<&str>) -> (i32, String) {
        let mut child = networkdb(&[&["keys"], arguments, &["--api", &self.api]].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let _ = stdin.write_all(input.unwrap_or_default().as_bytes());
        drop(stdin);
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let text = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
        (status.code().unwrap(), text)
    }

    #[track_caller]
    fn lists(&self, wanted: &[(Fingerprint, bool)]) {
        let (status, json) = self.keys(&["list", "--json"], None);
        assert_eq!(status, 0, "{json}");
        let found: serde_json::Value = serde_json::from_str(&json).unwrap();
        let found = found["keys"].as_array().unwrap().iter();
        let found =
            found.map(|key| (key["fingerprint"].as_str().unwrap(), key["primary"].as_bool().unwrap()));
        let wanted = wanted.iter().map(|(fingerprint, primary)| (fingerprint.to_string(), *primary));
        assert_eq!(
            found.map(|(text, primary)| (text.to_owned(), primary)).collect::<Vec<_>>(),
            wanted.collect::<Vec<_>>()
        );
    }

    fn send_hangup(&self) {
        let sent = Command::new("kill").args(["-s", "HUP", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    #[track_caller]
    fn await_log(&self, wanted: &str) {
        for _ in 0..TIMEOUT.as_millis() / 10 {
            if self.output.lock().unwrap().contains(wanted) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{wanted:?} is not in {}", self.output.lock().unwrap());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn secret() -> (String, Fingerprint) {
    let text = generate_secret().to_string();
    let fingerprint = Secret::parse(&text).unwrap().fingerprint();
    (text, fingerprint)
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn commands_change_secrets_in_use_and_in_the_file() {
    let ((old, of_old), (new, of_new)) = (secret(), secret());
    let node = Process::start(&old, &["--name", "a"]);
    let mut seen = String::new();
    let mut done = |arguments: &[&str], input: Option<&str>| {
        let (status, text) = node.keys(arguments, input);
        assert_eq!(status, 0, "{arguments:?}: {text}");
        seen += &text;
    };
    node.lists(&[(of_old, true)]);
    done(&["add"], Some(&new));
    done(&["add", "-"], Some(&new));
    node.lists(&[(of_old, true), (of_new, false)]);
    done(&["use", &of_new.to_string()], None);
    node.lists(&[(of_new, true), (of_old, false)]);
    done(&["remove", &of_old.to_string()], None);
    node.lists(&[(of_new, true)]);
    assert_eq!(std::fs::read_to_string(node.file()).unwrap(), format!("{new}\n"));
    assert_eq!(mode(&node.file()), 0o600);
    // A whole set, from a file.
    let other = node.folder.path().join("other");
    std::fs::write(&other, format!("{old}\n{new}\n")).unwrap();
    done(&["apply", other.to_str().unwrap()], None);
    node.lists(&[(of_old, true), (of_new, false)]);

    let (status, text) = node.keys(&["remove", &of_old.to_string()], None);
    assert!(status == 1 && text.contains("use another one before"), "{text}");
    let (status, text) = node.keys(&["use", "0123456789abcdef"], None);
    assert!(status == 1 && text.contains("0123456789abcdef"), "{text}");
    let (status, text) = node.keys(&["add"], Some("swordfish"));
    assert!(status == 2 && text.contains("no secret is sent") && !text.contains("swordfish"), "{text}");

    // Neither the node, which logs at level trace, nor any command has printed a secret.
    seen += &text;
    seen += &node.output.lock().unwrap();
    for secret in [&old, &new] {
        assert!(!seen.contains(&secret[SECRET_PREFIX.len()..]), "{seen}");
    }
    assert!(seen.contains(&of_new.to_string()));
}

#[test]
fn a_signal_reloads_the_secret_file() {
    let ((old, of_old), (new, of_new)) = (secret(), secret());
    let node = Process::start(&old, &["--name", "a"]);
    std::fs::write(node.file(), format!("{new}\n{old}\n")).unwrap();
    node.send_hangup();
    node.await_log("secrets reloaded");
    node.lists(&[(of_new, true), (of_old, false)]);
    std::fs::write(node.file(), "swordfish").unwrap();
    node.send_hangup();
    node.await_log("the previous one stays in use");
    node.lists(&[(of_new, true), (of_old, false)]);
    assert!(!node.output.lock().unwrap().contains("swordfish"));
}

#[test]
fn a_node_with_the_development_secret_survives_the_signal_and_has_nothing_to_change() {
    let node = Process::run(tempfile::tempdir().unwrap(), &["--name", "a"]);
    node.send_hangup();
    let (status, text) = node.keys(&["add"], Some(&secret().0));
    assert!(status == 1 && text.contains("--secret-file"), "{text}");
    let (status, text) = node.keys(&["list"], None);
    assert!(status == 0 && text.contains("primary"), "{text}");
}

#[test]
fn a_secret_given_in_place_of_its_fingerprint_is_not_printed() {
    let secret = secret().0;
    for what in ["use", "remove"] {
        let Output { status, stdout, stderr } = networkdb(&["keys", what, secret.trim()]).output().unwrap();
        let text = String::from_utf8([stdout, stderr].concat()).unwrap();
        assert_eq!(status.code(), Some(2), "{text}");
        assert!(text.contains("sixteen hexadecimal digits") && !text.contains(secret.trim()), "{text}");
    }
}

#[test]
fn a_secret_file_that_others_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, secret().0).unwrap();
    for mode in [0o620, 0o602, 0o666] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let Output { status, stderr, .. } =
            networkdb(&["run", "--check", "--secret-file", file.to_str().unwrap()]).output().unwrap();
        let text = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(2), "{mode:o}: {text}");
        assert!(
            text.contains("other users of this host can write it") && text.contains("chmod 600"),
            "{text}"
        );
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let checked = networkdb(&["run", "--check", "--secret-file", file.to_str().unwrap()]).output().unwrap();
    assert!(checked.status.success());
    let made = folder.path().join("made");
    assert!(networkdb(&["keygen", "--out", made.to_str().unwrap()]).output().unwrap().status.success());
    assert_eq!(std::fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_secret_is_not_sent_to_another_host() {
    let mut command = networkdb(&["keys", "add", "--api", "http://192.0.2.1:2000"]);
    let Output { status, stderr, .. } = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{text}");
    assert!(text.contains("secrets are not sent") && text.contains("SIGHUP"), "{text}");
}

/// PEM (RFC 7468) of DER.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let lines = text.as_bytes().chunks(64).map(|line| format!("{}\n", std::str::from_utf8(line).unwrap()));
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", lines.collect::<String>())
}

/// Writes the three files of a node with a certificate of a new authority. Returns the PEM of the private
/// key.
fn certificate(folder: &Path, name: &str) -> String {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let secret = pem("PRIVATE KEY", &key.serialize_der());
    std::fs::write(folder.join("certificate"), pem("CERTIFICATE", certificate.der())).unwrap();
    std::fs::write(folder.join("key"), &secret).unwrap();
    std::fs::write(folder.join("authority"), pem("CERTIFICATE", authority.der())).unwrap();
    secret
}

#[test]
fn a_signal_reloads_a_certificate_of_an_operators_authority() {
    let folder = tempfile::tempdir().unwrap();
    let first = certificate(folder.path(), "node-a");
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let files = [path("certificate"), path("key"), path("authority")];
    let flags = ["--certificate-file", &files[0], "--key-file", &files[1], "--authority-file", &files[2]];
    let wrong = networkdb(&[&["run", "--check", "--name", "node-b"], &flags[..]].concat()).output().unwrap();
    let error = String::from_utf8(wrong.stderr).unwrap();
    assert!(error.contains("\"node-a\"") && error.contains("\"node-b\""), "{error}");

    let (more, folder) = (flags.map(str::to_owned), folder);
    let more = [&["--name", "node-a"][..], &more.each_ref().map(String::as_str)].concat();
    let node = Process::run(folder, &more);
    let authorities = || {
        let (status, json) = node.keys(&["list", "--json"], None);
        assert_eq!(status, 0, "{json}");
        let found: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(found["kind"], "certificates");
        found["keys"].as_array().unwrap().iter().map(|key| key["fingerprint"].to_string()).collect::<Vec<_>>()
    };
    let before = authorities();
    let second = certificate(node.folder.path(), "node-a");
    node.send_hangup();
    node.await_log("certificates reloaded");
    let after = authorities();
    assert!(after.len() == 1 && before.len() == 1 && after != before, "{before:?} {after:?}");
    // A certificate with another name is refused.
    certificate(node.folder.path(), "node-b");
    node.send_hangup();
    node.await_log("the previous one stays in use");
    assert_eq!(authorities(), after);
    let (status, text) = node.keys(&["add"], Some(&secret().0));
    assert!(status == 1 && text.contains("SIGHUP"), "{text}");
    let output = node.output.lock().unwrap();
    for key in [&first, &second] {
        let line = key.lines().nth(1).unwrap();
        assert!(!output.contains(line), "{output}");
    }
}
