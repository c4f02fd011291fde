//! Nodes as processes: their start, their output, their end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::program::networkdb;
use http_client_for_tests::Request;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A running node, killed if the test ends before it does.
pub(crate) struct Process {
    child: Child,
    banner: String,
    errors: Receiver<String>,
}

impl Process {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let http = if arguments.contains(&"--http") { &[][..] } else { &["--http", "127.0.0.1:0"] };
        let arguments = [&["run", "--preset", "loopback"], http, arguments].concat();
        let mut child = networkdb(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut banner = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut banner).unwrap();
        let (sender, errors) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, banner, errors }
    }

    fn http(&self) -> SocketAddr {
        self.url().strip_prefix("http://").expect("it serves plain HTTP").parse().unwrap()
    }

    /// The URL of its HTTP endpoints.
    pub(crate) fn url(&self) -> &str {
        let (_, rest) = self.banner.split_once("diagnostics: ").expect("the banner has the URL");
        rest.trim().trim_end_matches("/help")
    }

    fn get(&self, path: &str) -> String {
        http_client_for_tests::get(self.http(), path, TIMEOUT).unwrap().body
    }

    #[track_caller]
    pub(crate) fn await_error(&self, wanted: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.errors.recv_timeout(TIMEOUT) {
                Ok(line) if line.contains(wanted) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("{wanted:?} is not in {seen:#?}"),
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    #[track_caller]
    #[expect(clippy::disallowed_methods, reason = "a deadline of a test")]
    fn await_end(&mut self) -> i32 {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().expect("it ends by itself, not by the signal");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it does not end");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback address that was free a moment ago, for a node whose address others need before it starts.
fn free_address() -> String {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn a_watch_of_a_node_that_ends_shows_no_deletes() {
    let bind = free_address();
    let a = Process::start(&["--name", "a", "--bind", &bind, "--network", "net"]);
    let mut b =
        Process::start(&["--name", "b", "--bind", "127.0.0.1:0", "--seed", &bind, "--network", "net"]);
    assert_eq!(a.get("/createentry?unsafe&nid=net&tname=t&key=k&value=v"), "OK");
    let mut watch = TcpStream::connect(b.http()).unwrap();
    watch.set_read_timeout(Some(TIMEOUT)).unwrap();
    write!(watch, "GET /v1/watch?network=net HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut lines = BufReader::new(watch).lines().map(|line| line.expect("the stream ends as it should"));
    let mut seen = Vec::new();
    while !seen.iter().any(|line: &String| line.contains(r#""event":"put""#)) {
        seen.push(lines.next().expect("the entry comes"));
    }
    b.signal("TERM");
    // The last chunk of the response is empty.
    seen.extend(lines.by_ref().take_while(|line| line != "0"));
    assert_eq!(b.await_end(), 0);
    assert!(seen.iter().any(|line| line.contains(r#"{"event":"closing""#)), "{seen:#?}");
    assert!(
        !seen.iter().any(|line| line.contains(r#""event":"delete""#)),
        "a still has the entry: {seen:#?}"
    );
}

#[test]
fn a_node_prints_its_name_warns_of_the_development_secret_and_leaves_at_a_signal() {
    for signal in ["TERM", "INT"] {
        let mut node = Process::start(&["--name", "alone", "--bind", "127.0.0.1:0", "--network", "net"]);
        assert!(node.banner.contains("node alone of cluster default at 127.0.0.1:"), "{}", node.banner);
        assert!(node.banner.contains("seeds: none"), "{}", node.banner);
        node.await_error("networkdb keygen");
        assert_eq!(node.get("/ready"), "OK\nOK");
        assert!(node.get("/networkstats?nid=net").starts_with("OK\nentries: 0"));
        node.signal(signal);
        assert_eq!(node.await_end(), 0, "SIG{signal}");
    }
}

#[test]
fn a_seed_that_does_not_respond_is_logged_and_retried() {
    let seed = free_address();
    let node = Process::start(&["--name", "eager", "--bind", "127.0.0.1:0", "--seed", &seed]);
    let line = node.await_error("none of the seeds answered");
    assert!(line.contains(&seed) && line.contains("trying again in 1 s"), "{line}");
    assert_eq!(node.get("/ready"), "OK\nOK");
    let _seed = Process::start(&["--name", "seed", "--bind", &seed]);
    node.await_error("joined the cluster");
    assert!(node.get("/clusterpeers").contains("total entries: 2"));
}

#[test]
fn a_seed_that_does_not_resolve_is_logged() {
    let node = Process::start(&["--name", "lost", "--bind", "127.0.0.1:0", "--seed", "no-such-host.invalid"]);
    let line = node.await_error("no-such-host.invalid");
    assert!(line.contains("trying again in 1 s"), "{line}");
    assert_eq!(node.get("/ready"), "OK\nOK");
}

#[track_caller]
pub(crate) fn assert_refused(arguments: &[&str], sentence: &str) {
    let Output { status, stderr, .. } = networkdb(arguments).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{arguments:?}: {stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("networkdb: ") && last.contains(sentence), "{arguments:?}: {stderr}");
    assert!(
        !stderr.contains("panicked") && !stderr.contains("os error") || last.contains("(os error"),
        "{stderr}"
    );
}

#[test]
fn a_port_in_use_ends_the_node_with_status_2() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert_refused(
        &["run", "--bind", "127.0.0.1:0", "--http", &address],
        &format!(
            "the HTTP address {address} is in use by another program; choose another one with --http, or port 0"
        ),
    );
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert_refused(&["run", "--bind", &address, "--http", "off"], &address);
}

#[test]
fn an_address_of_another_host_ends_the_node_with_status_2() {
    assert_refused(&["run", "--bind", "127.0.0.1:0", "--http", "203.0.113.1:2000"], "203.0.113.1:2000");
    assert_refused(
        &["run", "--bind", "127.0.0.1:0", "--http", "203.0.113.1:2000", "--http-open"],
        "; choose an address of this host with --http",
    );
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, &*transport::generate_secret()).unwrap();
    let secret = secret.to_str().unwrap();
    assert_refused(
        &["run", "--secret-file", secret, "--bind", "203.0.113.1", "--http", "off"],
        "203.0.113.1:7946",
    );
}

#[test]
fn an_admin_socket_that_cannot_be_created_ends_the_node_with_status_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("taken");
    std::fs::write(&path, "precious").unwrap();
    for (path, sentence) in [
        (path.as_path(), "exists already, and is not a socket; choose another path with --admin-socket"),
        (&path.join("a.sock"), "; choose another path with --admin-socket, or --admin-socket off"),
    ] {
        let socket = ["--admin-socket", path.to_str().unwrap()];
        let node = ["run", "--bind", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        assert_refused(&[&node[..], &socket].concat(), sentence);
    }
}

#[test]
fn refusals_over_http_name_the_flags_of_the_node_and_of_its_client_commands() {
    let node = Process::start(&["--name", "a", "--bind", "127.0.0.1:0", "--admin-socket", "off"]);
    let foreign = Request::new("GET", "/ready").headers("host: evil.example\r\n");
    let response = foreign.send(node.http(), TIMEOUT).unwrap();
    assert!(response.status == 403 && response.body.contains("with --http-name"), "{response:?}");
    let joined = node.get("/join?members=127.0.0.1:1");
    assert!(joined.contains("as root with --api unix:PATH"), "{joined}");
    assert!(joined.contains("give the node tokens with --http-token-file FILE"), "{joined}");
}

#[test]
fn logs_can_be_json_for_programs() {
    let arguments = ["--name", "json", "--bind", "127.0.0.1:0", "--log-format", "json"];
    let mut command = networkdb(&[&["run", "--http", "127.0.0.1:0"], &arguments[..]].concat());
    let mut node = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut lines = BufReader::new(node.stderr.take().unwrap());
    let started = loop {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the log ended");
        let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
        if entry["message"] == "node started" {
            break entry;
        }
    };
    node.kill().unwrap();
    let output = node.wait_with_output().unwrap();
    assert_eq!(started["name"], "json");
    assert!(started["diagnostics"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert_eq!(output.stdout, b"");
}

#[test]
fn the_demonstration_ends_with_status_0_because_everything_agreed() {
    let Output { status, stdout, stderr } =
        networkdb(&["demo", "--once", "--nodes", "2"]).env("NO_COLOR", "1").output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(0), "{stdout}{stderr}");
    assert_eq!(stderr, "");
    assert!(stdout.contains("✓ everything agreed"), "{stdout}");
    assert!(!stdout.contains('\u{1b}'), "{stdout}");
}

const READ: &str = "read-0123456789abcdefghij";
const CHANGE: &str = "change-0123456789abcdefghij";

/// Runs a client command. Returns its exit status and its standard error.
pub(crate) fn ask(api: &str, token: Option<(&str, &str)>, arguments: &[&str]) -> (i32, String) {
    let mut command = networkdb(arguments);
    command.env("NETWORKDB_API", api).stdin(Stdio::null());
    if let Some((variable, value)) = token {
        command.env(variable, value);
    }
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn client_commands_send_the_token_of_a_file_or_of_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (both, read) =
        (path("both", format!("read {READ}\nchange {CHANGE}\n")), path("read", format!("{READ}\n")));
    let node = Process::start(&["--name", "asking", "--bind", "127.0.0.1:0", "--http-token-file", &both]);
    let api = format!("http://{}", node.http());
    let refused = |response: (i32, String), sentence: &str| {
        assert!(response.0 == 1 && response.1.contains(sentence), "{response:?}");
    };
    refused(ask(&api, None, &["peers"]), "--token-file FILE");
    refused(
        ask(&api, Some(("NETWORKDB_TOKEN", "not-0123456789abcdefghij")), &["peers"]),
        "this token is unknown",
    );
    for (variable, value) in [("NETWORKDB_TOKEN", READ), ("NETWORKDB_TOKEN_FILE", &read)] {
        assert_eq!(ask(&api, Some((variable, value)), &["peers"]), (0, String::new()), "{variable}");
        let response = ask(&api, Some((variable, value)), &["network", "join", "net"]);
        refused(response, "this token is for reading");
    }
    assert_eq!(ask(&api, None, &["network", "join", "net", "--token-file", &both]), (0, String::new()));
    assert_eq!(
        ask(&api, Some(("NETWORKDB_TOKEN", CHANGE)), &["network", "leave", "net"]),
        (0, String::new())
    );
    // There is no flag for a token: all users of the host can see the arguments of a process.
    assert_eq!(ask(&api, None, &["peers", "--token", READ]).0, 2);
}

#[test]
fn every_change_over_http_is_logged_without_values_and_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, format!("read {READ}\nchange {CHANGE} Ada Example\n")).unwrap();
    let path = file.to_str().unwrap();
    let node = Process::start(&["--name", "audited", "--bind", "127.0.0.1:0", "--http-token-file", path]);
    let api = format!("http://{}", node.http());
    let change = |arguments: &[&str]| {
        assert_eq!(
            ask(&api, Some(("NETWORKDB_TOKEN", CHANGE)), arguments),
            (0, String::new()),
            "{arguments:?}"
        );
        node.await_error("changed over HTTP")
    };
    let line = change(&["network", "join", "net"]);
    assert!(line.contains("Ada Example (change)") && line.contains("network=\"net\""), "{line}");
    let line = change(&["entry", "create", "net", "tab", "the-key", "swordfish"]);
    assert!(line.contains("key=\"the-key\"") && line.contains("/entries/{key}"), "{line}");
    assert!(!line.contains("swordfish") && !line.contains("0123456789"), "{line}");
    let headers =
        format!("authorization: Bearer {CHANGE}\r\ncontent-type: application/x-www-form-urlencoded\r\n");
    let form = "unsafe&nid=net&tname=tab&key=the-form&value=swordfish";
    let create = Request::new("POST", "/createentry").headers(&headers).body(form);
    assert_eq!(create.send(node.http(), TIMEOUT).unwrap().body, "OK");
    let line = node.await_error("the-form");
    assert!(line.contains("call=\"/createentry\"") && line.contains("table=\"tab\""), "{line}");
    assert!(!line.contains("swordfish") && !line.contains("0123456789"), "{line}");
}

#[test]
fn a_signal_reloads_the_tokens_and_an_invalid_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, format!("read {READ}\n")).unwrap();
    let path = file.to_str().unwrap();
    let node = Process::start(&["--name", "again", "--bind", "127.0.0.1:0", "--http-token-file", path]);
    node.await_error("other users of this host can read the HTTP tokens");
    let api = format!("http://{}", node.http());
    let status = |token| ask(&api, Some(("NETWORKDB_TOKEN", token)), &["peers"]).0;
    assert_eq!((status(READ), status(CHANGE)), (0, 1));
    std::fs::write(&file, format!("change {CHANGE}\n")).unwrap();
    node.signal("HUP");
    node.await_error("HTTP tokens reloaded");
    assert_eq!((status(READ), status(CHANGE)), (1, 0));
    std::fs::write(&file, "swordfish\n").unwrap();
    node.signal("HUP");
    let line = node.await_error("HTTP tokens not reloaded, the previous ones stay in use");
    assert!(line.contains(path) && !line.contains("swordfish"), "{line}");
    assert_eq!((status(READ), status(CHANGE)), (1, 0));
}

#[test]
fn a_node_serves_http_to_other_hosts_only_with_tokens_or_as_open() {
    let both_ways = "--http-token-file FILE (`networkdb tokengen --out FILE` makes one), or declare it open \
                     with --http-open";
    assert_refused(&["run", "--http", "0.0.0.0:0"], both_ways);
    let node =
        Process::start(&["--name", "open", "--bind", "127.0.0.1:0", "--http", "0.0.0.0:0", "--http-open"]);
    node.await_error("HTTP is open");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let path = path.to_str().unwrap();
    let Output { status, stdout, stderr } = networkdb(&["tokengen", "--out", path]).output().unwrap();
    let tokens = std::fs::read_to_string(path).unwrap();
    let output = String::from_utf8([stdout, stderr].concat()).unwrap();
    assert!(
        status.success() && tokens.lines().all(|line| !output.contains(line.split(' ').nth(1).unwrap())),
        "{output}"
    );
    assert_refused(&["tokengen", "--out", path], "exists already");
    let arguments =
        ["--name", "asking", "--bind", "127.0.0.1:0", "--http", "0.0.0.0:0", "--http-token-file", path];
    let node = Process::start(&arguments);
    let api = format!("http://127.0.0.1:{}", node.http().port());
    assert_eq!(
        ask(&api, Some(("NETWORKDB_TOKEN_FILE", path)), &["network", "join", "net"]),
        (0, String::new())
    );
    assert_eq!(ask(&api, None, &["peers"]).0, 1);
}

#[test]
fn an_operator_follows_the_log_writes_a_report_and_has_the_node_leave() {
    let mut node = Process::start(&["--name", "host/1", "--bind", "127.0.0.1:0", "--log-level", "error"]);
    let api = format!("http://{}", node.http());
    let mut monitor = networkdb(&["monitor", "--api", &api, "--level", "debug"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(monitor.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(
        lines.any(|line| line.contains(" WARN no secret: this node uses")),
        "the latest lines come first"
    );
    // The node logs no such line to its standard error.
    node.get("/networkstats?nid=other");
    assert!(lines.any(|line| line.contains("DEBUG diagnostic call path=/networkstats")));

    let folder = tempfile::tempdir().unwrap();
    let report = || networkdb(&["debug", "--api", &api]).current_dir(folder.path()).output().unwrap();
    assert!(report().status.success());
    let text = std::fs::read_to_string(folder.path().join("networkdb-debug-host_1.json")).unwrap();
    let parts: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parts["node"]["name"], "host/1");
    assert!(parts["log"][0]["message"].as_str().is_some(), "{text}");
    assert!(parts["metrics"].as_array().is_some_and(|lines| lines.len() > 50), "{text}");
    assert!(!report().status.success(), "no report is written over another");

    let Output { status, stdout, stderr } = networkdb(&["leave", "--api", &api]).output().unwrap();
    assert_eq!(String::from_utf8(stdout).unwrap(), "Node host/1 has left the cluster.\n", "{stderr:?}");
    assert_eq!((status.code(), node.await_end()), (Some(0), 0));
    assert!(monitor.wait().unwrap().code() == Some(2), "it says that the log has ended");
}
