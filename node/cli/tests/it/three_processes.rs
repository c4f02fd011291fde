//! Three nodes as processes at three addresses with the default ports: called over HTTP, killed, started
//! again, and ended by a signal.
//!
//! On Linux, every address in 127.0.0.0/8 belongs to this host; elsewhere only 127.0.0.1 does.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::program::networkdb;
use tempfile::NamedTempFile;

/// Timeout of every condition, long enough for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

const ENTRIES: usize = 300;

/// Addresses that no other process of this test uses at the same time: they contain the process ID.
fn addresses() -> [Ipv4Addr; 3] {
    let process = std::process::id();
    let [_, high, middle, low] = (process << 2).to_be_bytes();
    [1, 2, 3].map(|host| Ipv4Addr::new(127, 64 | (high & 63), middle, low | host))
}

struct Process {
    name: String,
    address: Ipv4Addr,
    child: Child,
    log: NamedTempFile,
}

impl Process {
    fn start(name: &str, address: Ipv4Addr, seed: Option<Ipv4Addr>) -> Self {
        let text = address.to_string();
        let mut command = networkdb(&[
            "run",
            "--name",
            name,
            "--bind",
            &text,
            "--http",
            &text,
            "--network",
            "blue",
            "--http-open",
        ]);
        if let Some(seed) = seed {
            command.args(["--seed", &seed.to_string()]);
        }
        let log = NamedTempFile::new().expect("a file for the log");
        let stderr = log.reopen().expect("it was just made");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn();
        let process = Self { name: name.to_owned(), address, child: child.expect("the binary runs"), log };
        eventually(&format!("{name} responds"), &[&process], || {
            process.ask("/ready") == Some("OK\nOK".into())
        });
        process
    }

    /// The body of the node's response, if there is one.
    fn ask(&self, path: &str) -> Option<String> {
        let response = http_client_for_tests::get((self.address, 2000).into(), path, TIMEOUT);
        response.ok().map(|response| response.body)
    }

    fn peers(&self) -> String {
        self.ask("/clusterpeers").unwrap_or_default()
    }

    fn table(&self) -> String {
        self.ask("/gettable?nid=blue&tname=services&unsafe").unwrap_or_default()
    }

    fn shows(&self, entries: usize) -> bool {
        self.table().starts_with(&format!("OK\ntotal entries: {entries}\n"))
    }

    fn terminate(mut self) -> ExitStatus {
        let number = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &number]).status().unwrap().success());
        let mut status = None;
        eventually(&format!("{} ends", self.name), &[], || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL; it fails if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `condition` is true, and prints the time.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "a test waits in real time")]
fn eventually(what: &str, nodes: &[&Process], mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < TIMEOUT, "after {TIMEOUT:?} still not so: {what}\n{}", report(nodes));
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("{what}: after {:?}", start.elapsed());
}

fn report(nodes: &[&Process]) -> String {
    let mut text = String::new();
    for node in nodes {
        let table = node.table();
        let table = table.lines().take(8).collect::<Vec<_>>().join("\n");
        let log = std::fs::read_to_string(node.log.path()).unwrap_or_default();
        let _ = writeln!(text, "{} at {}\npeers: {}\ntable: {table}", node.name, node.address, node.peers());
        let _ = writeln!(text, "log:\n{log}");
    }
    text
}

#[test]
fn three_processes_share_entries_survive_a_crash_and_leave_gracefully() {
    let [first, second, third] = addresses();
    let a = Process::start("a", first, None);
    let b = Process::start("b", second, None);
    let c = Process::start("c", third, None);
    assert_eq!(a.ask(&format!("/join?members={second},{third}")).as_deref(), Some("OK"));
    let three = format!("OK\ntotal entries: 3\n0) a -> {first}\n1) b -> {second}\n2) c -> {third}\n");
    eventually("each lists all three", &[&a, &b, &c], || {
        [&a, &b, &c].iter().all(|node| node.peers() == three)
    });

    for (number, node) in (0..ENTRIES).zip([&a, &b, &c].into_iter().cycle()) {
        let path = format!("/createentry?nid=blue&tname=services&key=k{number}&value=v{number}&unsafe");
        assert_eq!(node.ask(&path).as_deref(), Some("OK"), "{path}");
    }
    eventually("each shows all entries", &[&a, &b, &c], || {
        [&a, &b, &c].iter().all(|node| node.shows(ENTRIES))
    });
    let table = a.table();
    assert_eq!([b.table(), c.table()], [table.clone(), table.clone()]);
    assert!(table.contains("k:`k299` -> v:`v299` owner:`c`"), "{table}");

    drop(c);
    let two = format!("OK\ntotal entries: 2\n0) a -> {first}\n1) b -> {second}\n");
    eventually("the entries of the one that was killed are hidden", &[&a, &b], || {
        [&a, &b].iter().all(|node| node.shows(ENTRIES / 3 * 2) && node.peers() == two)
    });

    let c = Process::start("c", third, Some(first));
    eventually("the cluster is back to three", &[&a, &b, &c], || {
        [&a, &b, &c].iter().all(|node| node.peers() == three && node.shows(ENTRIES / 3 * 2))
    });

    assert_eq!(b.terminate().code(), Some(0));
    let two = format!("OK\ntotal entries: 2\n0) a -> {first}\n1) c -> {third}\n");
    eventually("the entries of the one that left are gone", &[&a, &c], || {
        [&a, &c].iter().all(|node| node.shows(ENTRIES / 3) && node.peers() == two)
    });
    assert_eq!((c.terminate().code(), a.terminate().code()), (Some(0), Some(0)));
}
