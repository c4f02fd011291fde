//! A cluster of real processes on the hosts of a lab.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::task::JoinHandle;

use super::api::{Answer, Metrics, ask};
use super::clocks::WallClock;
use super::faults::Faults;
use super::follower::{Seen, follow};
use super::lab::Lab;
use super::ledger::Ledger;
use super::process::Process;
use super::{Failure, namespace};

/// The network and the table that scenarios write to.
pub(super) const NETWORK: &str = "blue";
pub(super) const TABLE: &str = "services";

/// Timeout of all waits; far more than any of them needs, also on a busy machine.
pub(super) const TIMEOUT: Duration = Duration::from_secs(90);

/// How many of the hosts are the seeds of all nodes.
pub(super) const SEEDS: usize = 3;

/// The parameters of a cluster.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The binary that runs on each host.
    pub binary: PathBuf,
    /// How many hosts.
    pub hosts: usize,
    /// Further flags of `networkdb run`.
    pub flags: Vec<String>,
    /// Hosts that have a namespace but run no node yet; the last ones.
    pub spare: usize,
    /// Whether the wall clock of each host can be set.
    pub wall_clocks: bool,
    /// Whether the logs are kept even after success.
    pub keep_logs: bool,
}

/// Builds the release binary if cargo started this program, and returns its path.
pub fn binary() -> Result<PathBuf, Failure> {
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args([
            "build",
            "--release",
            "--quiet",
            "--locked",
            "--package",
            "networkdb-cli",
            "--bin",
            "networkdb",
        ]);
        // Variables that cargo sets for this program's package: ring would take them for changed
        // settings and be rebuilt with all its dependents, now and again by the next call of cargo.
        for (name, _) in std::env::vars_os() {
            let of_package = name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_"));
            if of_package || name == "CARGO_MANIFEST_DIR" {
                build.env_remove(name);
            }
        }
        let status =
            build.status().map_err(|error| format!("cannot call cargo to build networkdb: {error}"))?;
        if !status.success() {
            return Err(format!("networkdb could not be built: cargo ended with {status}"));
        }
    }
    let own =
        std::env::current_exe().map_err(|error| format!("cannot find the path of this program: {error}"))?;
    // Whatever profile this program was built with, the hosts run the release build, like
    // operators.
    let beside = |profile: &str| Some(own.parent()?.parent()?.join(profile).join("networkdb"));
    let found = beside("release").filter(|path| path.is_file());
    found.ok_or_else(|| {
        "there is no release build of networkdb beside this program: run \
         `cargo build --release`, or name one with --binary"
            .to_owned()
    })
}

/// The nodes of a scenario, their ledger and their observations. Dropping it ends all nodes.
#[derive(Debug)]
pub struct Cluster {
    pub(super) nodes: Vec<Node>,
    pub(super) lab: Lab,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) seen: Arc<Mutex<Seen>>,
    plan: Plan,
    files: tempfile::TempDir,
}

/// One host and its node, if one runs.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) process: Option<Process>,
    clock: Option<WallClock>,
    follower: Option<JoinHandle<Result<(), Failure>>>,
}

impl Cluster {
    /// Makes the hosts, starts a node on each, and waits until all agree on the members and show
    /// the same.
    pub async fn start(plan: &Plan) -> Result<Self, Failure> {
        let lab = Lab::new(plan.hosts + plan.spare)?;
        let files = tempfile::Builder::new()
            .prefix("networkdb-hosts-")
            .tempdir()
            .map_err(|error| format!("cannot make a directory for logs: {error}"))?;
        let nodes = (0..lab.hosts()).map(|host| Node {
            name: format!("h{}", host + 1),
            process: None,
            clock: None,
            follower: None,
        });
        let mut cluster = Self {
            nodes: nodes.collect(),
            lab,
            ledger: Arc::default(),
            seen: Arc::default(),
            plan: plan.clone(),
            files,
        };
        cluster.keygen(&cluster.secret_file())?;
        for host in 0..cluster.nodes.len() {
            // As on real hosts, each host has its own copy. The mode is copied too.
            std::fs::copy(cluster.secret_file(), cluster.secret_of(host))
                .map_err(|error| format!("cannot copy the secret: {error}"))?;
        }
        if plan.wall_clocks {
            for node in &mut cluster.nodes {
                let file = cluster.files.path().join(format!("clock-{}", node.name));
                node.clock = Some(WallClock::new(file)?);
            }
        }
        cluster.lab.set_faults(&Faults::default())?;
        for host in 0..plan.hosts {
            cluster.start_node(host).await?;
        }
        cluster.await_members("all agree on the members").await?;
        cluster.await_agreement("all show the same").await?;
        Ok(cluster)
    }

    /// Writes a new secret to a new file, with the binary itself.
    pub fn keygen(&self, to: &Path) -> Result<(), Failure> {
        let output = Command::new(&self.plan.binary)
            .arg("keygen")
            .arg("--out")
            .arg(to)
            .output()
            .map_err(|error| format!("cannot run {}: {error}", self.plan.binary.display()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("networkdb keygen: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// The file with the secret that all nodes begin with.
    pub fn secret_file(&self) -> PathBuf {
        self.files.path().join("secret")
    }

    /// Where the files of this cluster are: secrets and logs.
    pub fn directory(&self) -> &Path {
        self.files.path()
    }

    /// Keeps the logs for a person to read, and returns their directory.
    pub fn keep_logs(&mut self) -> PathBuf {
        self.files.disable_cleanup(true);
        self.files.path().to_owned()
    }

    /// The network between the hosts.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The name of a host's node.
    pub fn name(&self, host: usize) -> &str {
        &self.nodes[host].name
    }

    /// The hosts with a running node.
    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|host| self.nodes[*host].process.is_some()).collect()
    }

    /// The arguments of a node.
    fn arguments(&self, host: usize) -> Vec<String> {
        let seeds = (0..SEEDS.min(self.plan.hosts)).map(|seed| seed_address(seed).to_string());
        let mut arguments = vec![
            "--name".to_owned(),
            self.nodes[host].name.clone(),
            "--bind".to_owned(),
            self.lab.address(host).to_string(),
            "--seed".to_owned(),
            seeds.collect::<Vec<_>>().join(","),
            "--network".to_owned(),
            NETWORK.to_owned(),
            "--secret-file".to_owned(),
            self.secret_of(host).display().to_string(),
        ];
        arguments.extend(self.plan.flags.iter().cloned());
        arguments
    }

    /// The file with the secrets of one host.
    pub fn secret_of(&self, host: usize) -> PathBuf {
        self.files.path().join(format!("secret-{}", self.nodes[host].name))
    }

    /// Starts a node on a host that has none, and waits until it is ready.
    pub async fn start_node(&mut self, host: usize) -> Result<(), Failure> {
        let mut command = Command::new(&self.plan.binary);
        command.arg("run").args(self.arguments(host));
        if let Some(clock) = &self.nodes[host].clock {
            clock.apply_to(&mut command);
        }
        let process = Process::start(self.lab.inside(host), command, self.log_file(host)).await?;
        self.nodes[host].process = Some(process);
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        loop {
            match self.ask(host, Method::GET, "/ready", Bytes::new()).await {
                Ok(answer) if answer.status.is_success() => break,
                tried => {
                    let late = tokio::time::Instant::now() >= deadline;
                    let process = self.nodes[host].process.as_mut().expect("it was just started");
                    if late || process.ended().is_some() {
                        let tail = process.log_tail(10);
                        return Err(format!("{} did not start ({tried:?}): {tail}", self.name(host)));
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        let instance =
            format!("{}#{}", self.nodes[host].name, self.ledger.lock().instance(&self.nodes[host].name));
        let following = follow(instance, (NETWORK, TABLE), self.seen.clone(), self.ledger.clone());
        self.nodes[host].follower = Some(self.lab.inside(host).spawn(following));
        Ok(())
    }

    fn log_file(&self, host: usize) -> PathBuf {
        self.files.path().join(format!("{}.log", self.nodes[host].name))
    }

    /// The log of a node, over all its instances.
    pub fn log(&self, host: usize) -> Result<String, Failure> {
        let file = self.log_file(host);
        std::fs::read_to_string(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))
    }

    /// Sets the wall clock of a host ahead of this machine's by this much.
    pub fn set_wall_clock(&self, host: usize, ahead: Duration) -> Result<(), Failure> {
        let clock = self.nodes[host].clock.as_ref();
        clock.ok_or("the plan has no wall clocks that can be set")?.set_ahead(ahead)
    }

    fn process(&self, host: usize) -> Result<&Process, Failure> {
        self.nodes[host].process.as_ref().ok_or_else(|| format!("{} does not run", self.nodes[host].name))
    }

    /// Ends a process as `kill -9` does.
    pub fn kill(&mut self, host: usize) {
        // Waits for the process to end, so that its port is free.
        self.nodes[host].process = None;
        self.instance_ended(host);
    }

    /// Makes a node leave and waits until its process has ended.
    pub async fn terminate(&mut self, host: usize) -> Result<(), Failure> {
        self.process(host)?.signal(Signal::TERM)?;
        let mut process = self.nodes[host].process.take().expect("it was there a line ago");
        let status = process.wait(TIMEOUT).await?;
        self.instance_ended(host);
        if status.success() {
            return Ok(());
        }
        Err(format!("{} left with {status}: {}", self.name(host), process.log_tail(5)))
    }

    #[expect(clippy::disallowed_methods, reason = "real processes end in real time")]
    fn instance_ended(&mut self, host: usize) {
        self.ledger.lock().end_instance(&self.nodes[host].name, std::time::Instant::now());
        if let Some(follower) = self.nodes[host].follower.take() {
            follower.abort();
        }
    }

    /// Stops a process; it keeps its memory and its sockets.
    pub fn freeze(&self, host: usize) -> Result<(), Failure> {
        self.process(host)?.signal(Signal::STOP)
    }

    /// Resumes a frozen process.
    pub fn thaw(&self, host: usize) -> Result<(), Failure> {
        self.process(host)?.signal(Signal::CONT)
    }

    /// Signals a process that its files have changed.
    pub fn reload(&self, host: usize) -> Result<(), Failure> {
        self.process(host)?.signal(Signal::HUP)
    }

    /// How much memory a node has in use now, in bytes.
    pub fn resident_bytes(&self, host: usize) -> Result<u64, Failure> {
        self.process(host)?.resident_bytes()
    }

    /// Gives a host another address. Its node must not run.
    pub fn readdress(&mut self, host: usize, address: Ipv4Addr) -> Result<(), Failure> {
        self.lab.readdress(host, address)
    }

    /// Sends a request to a node.
    pub async fn ask(&self, host: usize, method: Method, path: &str, body: Bytes) -> Result<Answer, Failure> {
        // A node's secrets can be changed only by its own user.
        let socket =
            (path == "/v1/keys" && method != Method::GET).then(|| self.process(host).map(Process::socket));
        let asking = ask(socket.transpose()?, method, path.to_owned(), body, TIMEOUT);
        self.lab
            .inside(host)
            .run(asking)
            .await?
            .map_err(|error| format!("{}: {error}", self.nodes[host].name))
    }

    /// The metrics of a node.
    pub async fn metrics(&self, host: usize) -> Result<Metrics, Failure> {
        Ok(Metrics::parse(&self.ask(host, Method::GET, "/metrics", Bytes::new()).await?.text()))
    }

    /// One counter of each running node, by host.
    pub async fn counts(&self, part: &str, what: &str) -> Result<Vec<(usize, u64)>, Failure> {
        let mut counts = Vec::new();
        for host in self.running() {
            counts.push((host, self.metrics(host).await?.count(part, what)?));
        }
        Ok(counts)
    }

    /// Fails if any node has declared another one failed.
    pub async fn no_failure_was_declared(&self) -> Result<(), Failure> {
        for (host, declared) in self.counts("membership", "failures_declared").await? {
            if declared > 0 {
                return Err(format!("{} declared {declared} running nodes failed", self.name(host)));
            }
        }
        Ok(())
    }

    /// Returns the number of changes seen, or the first violation found by followers.
    pub(super) fn seen_so_far(&self) -> Result<u64, Failure> {
        let seen = self.seen.lock();
        match seen.wrong.as_slice() {
            [] => Ok(seen.changes),
            wrong => Err(format!("{} values were shown that must not be: {}", wrong.len(), wrong[0])),
        }
    }

    /// The last lines of every node's log.
    pub fn log_tail(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let tail = node.process.as_ref().map_or("(does not run)".to_owned(), |node| node.log_tail(8));
            let _ = writeln!(text, "--- {}\n{tail}", node.name);
        }
        text
    }
}

/// The initial address of a seed. Seeds are configured by address, and keep it.
fn seed_address(seed: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, seed as u8 + 1)
}

/// Removes what killed runs have left, before a new one begins.
pub(super) fn remove_leftovers() -> Result<Vec<String>, Failure> {
    namespace::sweep()
}
