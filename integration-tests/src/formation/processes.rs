//! Processes of the real binary on loopback, started at once.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Counted, Formation, POLL_INTERVAL};
use crate::hosts::{Failure, Metrics};

/// Timeout of an HTTP request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The system's unit of processor time for programs: hundredths of a second, on all machines.
const TICK: Duration = Duration::from_millis(10);

/// Names, addresses and the secret of a cluster of processes on this host.
#[derive(Debug)]
pub struct Processes {
    binary: PathBuf,
    directory: tempfile::TempDir,
    flags: Vec<String>,
    /// The addresses of each, for nodes and for HTTP.
    addresses: Vec<(SocketAddr, SocketAddr)>,
    running: Vec<Running>,
}

/// A process. Dropping it kills it.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Processes {
    /// Chooses addresses for `count` nodes, and makes their secret. `flags` are given to each.
    ///
    /// # Errors
    ///
    /// If the system has no ports, or no space for files.
    pub fn new(binary: PathBuf, count: usize, flags: Vec<String>) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| format!("cannot prepare {count} processes: {error}");
        let directory = tempfile::tempdir().map_err(failed)?;
        // All sockets are kept open until the last is bound, so that no port is assigned twice.
        let mut held = Vec::new();
        for _ in 0..count {
            held.push((UdpSocket::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.1:0")));
        }
        let mut addresses = Vec::new();
        for (udp, tcp) in held {
            let udp = udp.and_then(|socket| socket.local_addr()).map_err(failed)?;
            let tcp = tcp.and_then(|socket| socket.local_addr()).map_err(failed)?;
            addresses.push((udp, tcp));
        }
        let secret = directory.path().join("secret");
        let status = Command::new(&binary)
            .arg("keygen")
            .arg("--out")
            .arg(&secret)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(|error| format!("cannot run {}: {error}", binary.display()))?;
        if !status.success() {
            return Err(format!("{} keygen ended with {status}", binary.display()));
        }
        Ok(Self { binary, directory, flags, addresses, running: Vec::new() })
    }

    /// Starts all, one right after the other, and waits until they have formed a cluster.
    ///
    /// # Errors
    /// If one cannot be started, or ends.
    #[expect(clippy::disallowed_methods, reason = "this measures real time")]
    pub fn start(&mut self, deadline: Duration) -> Result<Formation, Failure> {
        let begun = Instant::now();
        for number in 0..self.addresses.len() {
            let process = self.spawn(number)?;
            self.running.push(process);
        }
        let started = Instant::now();
        let count = self.addresses.len();
        let mut waiting = 0;
        let formed = loop {
            waiting = self.first_incomplete(waiting)?;
            if waiting == count {
                // The nodes that were complete first must be so now.
                waiting = self.first_incomplete(0)?;
            }
            if waiting == count {
                break Some(started.elapsed());
            }
            if started.elapsed() >= deadline {
                break None;
            }
            std::thread::sleep(POLL_INTERVAL);
        };
        let load = load();
        let processor = self.processor()?;
        let mut counted = Counted::default();
        for number in 0..count {
            let Ok(metrics) = self.metrics(number) else { continue };
            counted.add(|part, what| metrics.count(part, what))?;
        }
        let starting = started - begun;
        let incomplete = count - waiting;
        Ok(Formation { nodes: count, starting, formed, incomplete, processor, counted, load })
    }

    /// Kills all at once, as a power cut would.
    pub fn kill(&mut self) {
        for process in &mut self.running {
            let _ = process.0.kill();
        }
        self.running.clear();
    }

    fn spawn(&self, number: usize) -> Result<Running, Failure> {
        let log = self.directory.path().join(format!("{number}.log"));
        let unusable = |error: std::io::Error| format!("cannot write {}: {error}", log.display());
        let output = File::options().create(true).append(true).open(&log).map_err(unusable)?;
        let errors = output.try_clone().map_err(unusable)?;
        let (nodes, http) = self.addresses[number];
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("NETWORKDB_") {
                command.env_remove(name);
            }
        }
        command.arg("run").arg("--name").arg(format!("n{number}"));
        command.arg("--bind").arg(nodes.to_string()).arg("--http").arg(http.to_string());
        command.args(["--admin-socket", "off"]);
        command.arg("--secret-file").arg(self.directory.path().join("secret"));
        command.arg("--seed").arg(self.addresses[0].0.to_string()).args(&self.flags);
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        child.map(Running).map_err(|error| format!("cannot run {}: {error}", self.binary.display()))
    }

    /// The first node from `from` on that does not hold all alive.
    fn first_incomplete(&mut self, from: usize) -> Result<usize, Failure> {
        for number in from..self.addresses.len() {
            if let Ok(Some(status)) = self.running[number].0.try_wait() {
                let log = self.directory.path().join(format!("{number}.log"));
                let log_text = std::fs::read_to_string(log).unwrap_or_default();
                return Err(format!("process {number} ended with {status}: {log_text}"));
            }
            // A process that has just been started does not answer yet.
            let alive = self.metrics(number).ok().and_then(|metrics| metrics.members("alive"));
            if alive != Some(self.addresses.len()) {
                return Ok(number);
            }
        }
        Ok(self.addresses.len())
    }

    /// A node's HTTP address.
    pub fn http(&self, number: usize) -> SocketAddr {
        self.addresses[number].1
    }

    /// How much memory a node has in use now, in bytes.
    ///
    /// # Errors
    /// If it has ended.
    pub fn resident_bytes(&self, number: usize) -> Result<u64, Failure> {
        let path = format!("/proc/{}/statm", self.running[number].0.id());
        let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        pages
            .map(|pages| pages * 4096)
            .ok_or_else(|| format!("{path} does not contain the memory in use: {text}"))
    }

    /// The counters of a node.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub fn metrics(&self, number: usize) -> Result<Metrics, Failure> {
        let address = self.addresses[number].1;
        let failed = |error: std::io::Error| format!("{address} does not answer: {error}");
        let answer = http_client_for_tests::get(address, "/metrics", TIMEOUT).map_err(failed)?;
        Ok(Metrics::parse(&answer.body))
    }

    /// The processor time of all of them so far.
    fn processor(&self) -> Result<Duration, Failure> {
        self.running.iter().map(|process| processor_time(&process.0.id().to_string())).sum()
    }
}

/// The processor time of a process so far; `self` is this one.
pub(super) fn processor_time(process: &str) -> Result<Duration, Failure> {
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    // The second field is a name in parentheses that may contain anything.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace().collect::<Vec<_>>());
    let field = |number: usize| fields.as_ref()?.get(number)?.parse::<u32>().ok();
    let (Some(user), Some(system)) = (field(11), field(12)) else {
        return Err(format!("{path} does not contain the processor time"));
    };
    Ok(TICK * (user + system))
}

/// The system's load average of the last minute.
pub(super) fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}
