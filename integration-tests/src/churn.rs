//! Churn over real sockets: nodes in one process that create entries, leave and join a network
//! without a pause, and the cost of that: streams given up, slow calls, memory and streams that are
//! not released.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use networkdb::{Node, NodeConfig};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use transport::{ClusterName, KeySet};
use wire::NodeName;

use crate::waiting::becomes_true;

/// The network that is joined and left.
const NETWORK: &str = "churned";
const TABLE: &str = "services";

/// The parameters of a run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many nodes.
    pub nodes: usize,
    /// For how long they join and leave.
    pub duration: Duration,
}

/// Goals. Those for speed apply to an idle machine; the counts must be zero on any machine.
#[derive(Debug, Clone, Copy)]
pub struct Goals {
    /// Joins and leaves a minute, all nodes together.
    pub changes_a_minute: f64,
    /// The longest that a join or leave may take.
    pub slowest: Duration,
    /// The longest from the last change until all show the same.
    pub agreement: Duration,
    /// By how many bytes the memory may have grown since the warm-up.
    pub growth: u64,
}

/// The number and duration of calls of one kind.
#[derive(Debug, Clone, Copy, Default)]
pub struct Calls {
    /// How many.
    pub count: u64,
    /// The time of the slowest.
    pub slowest: Duration,
    /// The time of all of them together.
    pub total: Duration,
}

impl Calls {
    fn add(&mut self, taken: Duration) {
        self.count += 1;
        self.total += taken;
        self.slowest = self.slowest.max(taken);
    }

    fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.total += other.total;
        self.slowest = self.slowest.max(other.slowest);
    }

    fn mean(&self) -> Duration {
        self.total.checked_div(self.count as u32).unwrap_or_default()
    }
}

/// The measurements.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// For how long there was churn.
    pub duration: Duration,
    /// Joins of the network.
    pub joins: Calls,
    /// Leaves of the network.
    pub leaves: Calls,
    /// Counters of streams that did not end properly, by name; of all nodes together.
    pub given_up: Vec<(&'static str, u64)>,
    /// Streams in use some time after the last change.
    pub open_streams: usize,
    /// How long it took until none was in use.
    pub streams_closed_after: Duration,
    /// From the last change until all showed the same; `None` if that did not come.
    pub agreement: Option<Duration>,
    /// Resident memory after the warm-up and at the end, in bytes.
    pub memory: (u64, u64),
}

impl Report {
    /// Joins and leaves a minute.
    pub fn changes_a_minute(&self) -> f64 {
        (self.joins.count + self.leaves.count) as f64 * 60.0 / self.duration.as_secs_f64().max(1e-9)
    }

    /// The goals for speed that were missed, as on a busy machine.
    pub fn slow(&self, goals: &Goals) -> Vec<String> {
        let mut missed = Vec::new();
        let rate = self.changes_a_minute();
        if rate < goals.changes_a_minute {
            missed.push(format!("{rate:.0} joins and leaves a minute, not {:.0}", goals.changes_a_minute));
        }
        for (what, calls) in [("join", &self.joins), ("leave", &self.leaves)] {
            if calls.slowest > goals.slowest {
                missed.push(format!("a {what} took {:.3?}, more than {:?}", calls.slowest, goals.slowest));
            }
        }
        missed
    }

    /// Speed in proportion to these goals; one or more meets them.
    pub fn speed(&self, goals: &Goals) -> String {
        let rate = self.changes_a_minute() / goals.changes_a_minute.max(1e-9);
        let slowest = self.joins.slowest.max(self.leaves.slowest).as_secs_f64();
        let quickness = goals.slowest.as_secs_f64() / slowest.max(1e-9);
        format!(
            "{rate:.2} of the joins and leaves wanted; the slowest {quickness:.2} times as quick as wanted"
        )
    }

    /// The goals that were missed, except those for speed.
    pub fn missed(&self, goals: &Goals) -> Vec<String> {
        let mut missed = Vec::new();
        for (name, count) in self.given_up.iter().filter(|(_, count)| *count > 0) {
            missed.push(format!("{name} is {count}"));
        }
        if self.open_streams > 0 {
            missed.push(format!("{} streams were open long after the last change", self.open_streams));
        }
        match self.agreement {
            None => missed.push("the tables never agreed".to_owned()),
            Some(taken) if taken > goals.agreement => {
                missed.push(format!("the tables agreed after {taken:.3?}, later than {:?}", goals.agreement));
            }
            Some(_) => {}
        }
        let (before, after) = self.memory;
        if after > before + goals.growth {
            missed.push(format!("memory went from {} to {} bytes", before, after));
        }
        missed
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:.0} joins and leaves a minute for {:.0?}", self.changes_a_minute(), self.duration)?;
        for (what, calls) in [("joins", &self.joins), ("leaves", &self.leaves)] {
            let (mean, slowest) = (calls.mean(), calls.slowest);
            writeln!(f, "{what}: {}, {mean:.2?} on average, {slowest:.2?} at most", calls.count)?;
        }
        for (name, count) in &self.given_up {
            writeln!(f, "{name}: {count}")?;
        }
        writeln!(f, "open streams: {}, after {:.2?}", self.open_streams, self.streams_closed_after)?;
        match self.agreement {
            Some(taken) => writeln!(f, "agreement {taken:.3?} after the last change")?,
            None => writeln!(f, "no agreement")?,
        }
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "memory: {:.1} MiB after warm-up, {:.1} MiB at the end",
            mebibytes(self.memory.0),
            mebibytes(self.memory.1)
        )
    }
}

/// Runs the churn.
///
/// # Errors
///
/// If the nodes do not start or do not find each other, or a call fails.
pub async fn run(plan: Plan) -> Result<Report, String> {
    let nodes = start(plan.nodes).await?;
    let begin = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = JoinSet::new();
    for node in &nodes {
        workers.spawn(churn(node.clone(), stop.clone()));
    }
    // One-time allocations, such as queues and windows, are complete after a while.
    sleep(plan.duration / 5).await;
    let warm = resident();
    sleep(plan.duration.saturating_sub(begin.elapsed())).await;
    let mut report = Report { duration: begin.elapsed(), ..Report::default() };
    stop.store(true, Ordering::Relaxed);
    while let Some(worker) = workers.join_next().await {
        let (joins, leaves) = worker.map_err(|error| error.to_string())??;
        report.joins.join(&joins);
        report.leaves.join(&leaves);
    }
    let stopped = Instant::now();
    report.agreement = becomes_true(|| agree(&nodes)).await.then(|| stopped.elapsed());
    let none_open = || open_streams(&nodes) == 0;
    becomes_true(none_open).await;
    report.open_streams = open_streams(&nodes);
    report.streams_closed_after = stopped.elapsed();
    report.given_up = given_up(&nodes);
    report.memory = (warm, resident());
    for node in &nodes {
        node.abort();
    }
    Ok(report)
}

async fn start(count: usize) -> Result<Vec<Node>, String> {
    let cluster = ClusterName::new(&format!("churn of process {}", std::process::id()))
        .map_err(|error| error.to_string())?;
    let mut nodes: Vec<Node> = Vec::new();
    for number in 1..=count {
        let name = NodeName::new(&format!("n{number}")).map_err(|error| error.to_string())?;
        let bind = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let seeds = nodes.first().map(|first| first.advertised_address().to_string());
        let config = NodeConfig {
            cluster: cluster.clone(),
            membership: membership::Config::loopback(),
            seeds: seeds.into_iter().collect(),
            ..NodeConfig::new(name, bind, KeySet::development())
        };
        nodes.push(Node::start(config).await.map_err(|error| error.to_string())?);
    }
    let all = || nodes.iter().all(|node| node.members().len() == count);
    if !becomes_true(all).await {
        return Err(format!("{count} nodes did not find each other"));
    }
    for node in &nodes {
        node.join_network(NETWORK).await.map_err(|error| error.to_string())?;
    }
    Ok(nodes)
}

/// Creates an entry, leaves and joins until it is stopped; ends on the network.
async fn churn(node: Node, stop: Arc<AtomicBool>) -> Result<(Calls, Calls), String> {
    let (mut joins, mut leaves) = (Calls::default(), Calls::default());
    let name = node.id().name;
    let mut written = 0u64;
    let mut create = |node: &Node| {
        written += 1;
        let value = written.to_string().into_bytes();
        node.tables().create(NETWORK, TABLE, name.as_str(), value).map_err(|error| error.to_string())
    };
    while !stop.load(Ordering::Relaxed) {
        create(&node)?;
        let begin = Instant::now();
        node.leave_network(NETWORK).await.map_err(|error| error.to_string())?;
        leaves.add(begin.elapsed());
        let begin = Instant::now();
        node.join_network(NETWORK).await.map_err(|error| error.to_string())?;
        joins.add(begin.elapsed());
    }
    create(&node)?;
    Ok((joins, leaves))
}

/// Whether every node shows the last entry of each, and the same versions.
fn agree(nodes: &[Node]) -> bool {
    let seen = nodes.iter().map(|node| {
        let counts = node.tables().statistics(NETWORK)?;
        Some((counts.entries, counts.peers, counts.digest))
    });
    let seen: BTreeSet<_> = seen.collect();
    seen.len() == 1
        && seen.iter().all(|seen| {
            seen.is_some_and(|(entries, peers, _)| entries == nodes.len() && peers == nodes.len())
        })
}

fn open_streams(nodes: &[Node]) -> usize {
    let connections = nodes.iter().flat_map(|node| node.transport().connections());
    connections.map(|connection| connection.streams).sum()
}

fn given_up(nodes: &[Node]) -> Vec<(&'static str, u64)> {
    let mut sums = [
        "streams_failed",
        "streams_refused",
        "streams_broken",
        "frames_dropped_timed_out",
        "frames_dropped_unfinished",
        "connections_closed_lost",
    ]
    .map(|name| (name, 0));
    for node in nodes {
        for count in node.transport().statistics().iter() {
            for (_, sum) in sums.iter_mut().filter(|(summed, _)| *summed == count.name) {
                *sum += count.value;
            }
        }
    }
    sums.into()
}

/// The resident memory of this process, in bytes; zero where it is unknown.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}
