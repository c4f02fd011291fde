//! A client that is moved between real nodes while they write, delete, crash, leave and return: it must end with exactly
//! their table, and be reset only where no node could know what it has.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use networkdb::{Node, NodeConfig};
use networkdb_http::access::Access;
use networkdb_http::v1::model::{ChangeRecord, WatchRecord};
use networkdb_http::{HttpConfig, HttpListener, HttpServer};
use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use transport::KeySet;
use wire::NodeName;

use crate::waiting::{TIMEOUT, becomes_true};

const NETWORK: &str = "blue";
const TABLE: &str = "t";
const NODES: usize = 3;
const KEYS: u32 = 40;

/// Between two writes of a node.
const WRITE_PAUSE: Duration = Duration::from_millis(5);

/// Between two crashes or leaves.
const FAULT_PAUSE: Duration = Duration::from_secs(2);

/// After a fault, a node may not know what a client has: it has started anew, learned of it late, or has not received
/// what was replaced meanwhile.
const UNREST: Duration = Duration::from_millis(1500);

/// The longest that a client stays with a node, in milliseconds.
const LONGEST_STAY: u64 = 120;

/// The parameters of a run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How often the client is moved.
    pub moves: usize,
    /// Whether nodes crash, leave and return.
    pub faults: bool,
    /// The seed of all choices. What happens depends on real time as well.
    pub seed: u64,
}

/// In what circumstances a client was reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
// Exhaustive: a run either allows a reset or it does not.
pub enum Circumstances {
    /// Nothing had happened to a node for a while.
    Calm,
    /// Another node had crashed, left or returned.
    FaultElsewhere,
    /// The node had just started.
    JustStarted,
}

/// What happened.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Connections that a node answered.
    pub moves: usize,
    /// Connections that failed, because the node was not there.
    pub unanswered: usize,
    /// Changes that were received.
    pub changes: usize,
    /// Those with a value before.
    pub with_previous: usize,
    /// Crashes, leaves and returns.
    pub faults: usize,
    /// Writes and deletes.
    pub writes: usize,
    /// Resets by their reason and circumstances.
    pub resets: BTreeMap<(String, Circumstances), usize>,
    /// What must not happen.
    pub wrong: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { moves, unanswered, changes, with_previous, faults, writes, resets, wrong } = self;
        writeln!(
            f,
            "{moves} moves, {unanswered} connections without an answer, {writes} writes, {faults} faults"
        )?;
        writeln!(f, "{changes} changes received, {with_previous} of them with the value before")?;
        for ((reason, circumstances), count) in resets {
            let when = match circumstances {
                Circumstances::Calm => "",
                Circumstances::FaultElsewhere => " soon after a fault of another node",
                Circumstances::JustStarted => " by a node that had just started",
            };
            writeln!(f, "{count} times reset{when}: {reason}")?;
        }
        wrong.iter().try_for_each(|what| writeln!(f, "WRONG: {what}"))
    }
}

/// A node with its HTTP server.
struct Host {
    node: Node,
    http: HttpServer,
    started: Instant,
}

/// The nodes that are there.
struct Cluster {
    hosts: [Mutex<Option<Host>>; NODES],
    /// When the last fault or return was.
    fault_at: Mutex<Option<Instant>>,
}

impl Cluster {
    async fn start(&self, at: usize) -> Result<(), String> {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let name = NodeName::new(&format!("n{at}")).expect("a valid name");
        let seeds = self.hosts.iter().filter_map(|host| Some(host.lock().as_ref()?.node.local_address()));
        let seeds: Vec<String> = seeds.map(|seed| seed.to_string()).collect();
        let config = NodeConfig {
            membership: membership::Config::loopback(),
            ..NodeConfig::new(name, loopback, KeySet::development())
        };
        let node = Node::start(config.with_seeds(seeds)).await.map_err(|error| error.to_string())?;
        // Every client may call, as from this host.
        let config = HttpConfig { access: Access::Open, ..HttpConfig::default() };
        let http = HttpListener::bind(loopback, config).await.map_err(|error| error.to_string())?;
        let http = http.serve(node.clone());
        node.join_network(NETWORK).await.map_err(|error| error.to_string())?;
        *self.hosts[at].lock() = Some(Host { node, http, started: Instant::now() });
        Ok(())
    }

    fn node(&self, at: usize) -> Option<Node> {
        self.hosts[at].lock().as_ref().map(|host| host.node.clone())
    }

    fn address(&self, at: usize) -> Option<SocketAddr> {
        self.hosts[at].lock().as_ref().map(|host| host.http.local_address())
    }

    fn note_fault(&self) {
        *self.fault_at.lock() = Some(Instant::now());
    }

    /// The circumstances for a client of a node.
    fn circumstances(&self, at: usize) -> Circumstances {
        let is_fresh = |host: &Host| host.started.elapsed() < UNREST;
        if self.hosts[at].lock().as_ref().is_none_or(is_fresh) {
            return Circumstances::JustStarted;
        }
        let is_missing = self.hosts.iter().any(|host| host.lock().is_none());
        match is_missing || self.fault_at.lock().is_some_and(|at| at.elapsed() < UNREST) {
            true => Circumstances::FaultElsewhere,
            false => Circumstances::Calm,
        }
    }

    /// The table of a node.
    fn table(&self, at: usize) -> BTreeMap<String, String> {
        let entries = self.node(at).map(|node| node.tables().entries(NETWORK, TABLE)).unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        entries.iter().map(|entry| (entry.key().to_owned(), text(entry.value()))).collect()
    }
}

/// The client: its table, and its cursor.
#[derive(Default)]
struct Client {
    table: BTreeMap<String, String>,
    cursor: Option<String>,
}

/// A response that is being read.
struct Stream {
    body: Incoming,
    rest: Vec<u8>,
}

impl Stream {
    async fn open(address: SocketAddr, cursor: Option<&str>) -> Option<Self> {
        let stream = timeout(TIMEOUT, TcpStream::connect(address)).await.ok()?.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let cursor = cursor.map_or(String::new(), |cursor| format!("&cursor={cursor}"));
        let request = Request::get(format!("/v1/watch?network={NETWORK}&table={TABLE}{cursor}"));
        let request = request.header("host", "localhost").body(Empty::<Bytes>::new()).ok()?;
        let response = timeout(TIMEOUT, sender.send_request(request)).await.ok()?.ok()?;
        response.status().is_success().then(|| Self { body: response.into_body(), rest: Vec::new() })
    }

    /// The next events that arrived together; `None` at the end.
    async fn next(&mut self) -> Option<Vec<WatchRecord>> {
        let data = self.body.frame().await?.ok()?.into_data().ok()?;
        self.rest.extend_from_slice(&data);
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.rest.drain(..end).collect();
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Some(lines.map(|line| serde_json::from_slice(line).expect("a line is an event")).collect())
    }
}

impl Client {
    /// Takes an event. Each change must fit the table.
    fn take(&mut self, record: WatchRecord, circumstances: Circumstances, report: &mut Report) {
        let cursor = match record {
            WatchRecord::Put(ChangeRecord { key, value, previous, cursor, .. }) => {
                let former = self.table.insert(key.clone(), value.unwrap_or_default());
                report.changes += 1;
                report.with_previous += usize::from(previous.is_some());
                if previous.is_some() && previous != former {
                    report.wrong.push(format!("{key} was {former:?}, and the event says {previous:?}"));
                }
                cursor
            }
            WatchRecord::Delete(ChangeRecord { key, previous, cursor, .. }) => {
                let former = self.table.remove(&key);
                report.changes += 1;
                if former.is_none() || previous.is_some() && previous != former {
                    report.wrong.push(format!("{key} was {former:?}, and is deleted as {previous:?}"));
                }
                cursor
            }
            WatchRecord::Reset { reason, cursor } => {
                self.table.clear();
                // A client that was moved in the middle of a snapshot has no table.
                if reason != "incomplete" && circumstances == Circumstances::Calm {
                    report.wrong.push(format!("reset, long after the last fault: {reason}"));
                }
                *report.resets.entry((reason, circumstances)).or_default() += 1;
                cursor
            }
            WatchRecord::Synchronised { cursor, .. } | WatchRecord::Closing { cursor } => cursor,
        };
        self.cursor = Some(cursor);
    }
}

/// Writes and deletes on a node until the task ends.
async fn write(cluster: Arc<Cluster>, at: usize, seed: u64, writes: Arc<Mutex<usize>>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ at as u64);
    for number in 0u64.. {
        sleep(WRITE_PAUSE).await;
        let Some(node) = cluster.node(at) else { continue };
        let key = format!("k{}", random.random_range(0..KEYS));
        let tables = node.tables();
        let written = match random.random_range(0..3) {
            0 => tables.delete(NETWORK, TABLE, &key).is_ok(),
            _ => tables.upsert(NETWORK, TABLE, &key, format!("n{at}-{number}")).is_ok(),
        };
        *writes.lock() += usize::from(written);
    }
}

/// Lets one node after the other crash or leave, and return, until the task ends.
async fn disturb(cluster: Arc<Cluster>, seed: u64, faults: Arc<Mutex<usize>>) -> Result<(), String> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    loop {
        sleep(FAULT_PAUSE).await;
        let at = random.random_range(0..NODES);
        cluster.note_fault();
        let host = cluster.hosts[at].lock().take();
        if let Some(Host { node, http, .. }) = host {
            if random.random() {
                node.abort();
                drop(http);
            } else {
                node.tables().end_watches();
                node.shutdown(Duration::from_secs(2)).await;
                http.shutdown(Duration::from_secs(2)).await;
            }
        }
        // Long enough that a crash is noticed, or not.
        sleep(Duration::from_millis(random.random_range(50..1000))).await;
        cluster.start(at).await?;
        cluster.note_fault();
        *faults.lock() += 1;
    }
}

/// Moves a client between nodes.
///
/// # Errors
/// If nodes cannot be started, or do not agree in the end.
pub async fn run(plan: Plan) -> Result<Report, String> {
    let cluster = Arc::new(Cluster { hosts: Default::default(), fault_at: Mutex::default() });
    for at in 0..NODES {
        cluster.start(at).await?;
    }
    let (writes, faults) = (Arc::<Mutex<usize>>::default(), Arc::<Mutex<usize>>::default());
    let mut tasks = JoinSet::new();
    for at in 0..NODES {
        tasks.spawn(write(cluster.clone(), at, plan.seed, writes.clone()));
    }
    let disturbing = plan.faults.then(|| tokio::spawn(disturb(cluster.clone(), plan.seed, faults.clone())));
    let mut random = ChaCha8Rng::seed_from_u64(plan.seed + 1);
    let (mut client, mut report) = (Client::default(), Report::default());
    while report.moves < plan.moves && report.wrong.is_empty() {
        if disturbing.as_ref().is_some_and(tokio::task::JoinHandle::is_finished) {
            return Err("a node could not be started again".to_owned());
        }
        let at = random.random_range(0..NODES);
        let Some(address) = cluster.address(at) else { continue };
        let before = cluster.circumstances(at);
        let Some(mut stream) = Stream::open(address, client.cursor.as_deref()).await else {
            report.unanswered += 1;
            sleep(WRITE_PAUSE).await;
            continue;
        };
        report.moves += 1;
        let stay = sleep(Duration::from_millis(random.random_range(0..LONGEST_STAY)));
        tokio::pin!(stay);
        loop {
            tokio::select! {
                records = stream.next() => {
                    let Some(records) = records else { break };
                    // A client may be cut off in the middle of what arrived.
                    let most = if random.random_range(0..4) == 0 { random.random_range(0..=records.len()) } else { records.len() };
                    let is_cut = most < records.len();
                    for record in records.into_iter().take(most) {
                        client.take(record, before.max(cluster.circumstances(at)), &mut report);
                    }
                    if is_cut {
                        break;
                    }
                }
                () = &mut stay => break,
            }
        }
    }
    tasks.shutdown().await;
    if let Some(disturbing) = disturbing {
        disturbing.abort();
        let _ = disturbing.await;
    }
    for at in 0..NODES {
        if cluster.node(at).is_none() {
            cluster.start(at).await?;
        }
    }
    (report.writes, report.faults) = (*writes.lock(), *faults.lock());
    compare(&cluster, &mut client, &mut report).await?;
    Ok(report)
}

/// Waits until the nodes agree. Then the client, on each of them, must have their table.
async fn compare(cluster: &Cluster, client: &mut Client, report: &mut Report) -> Result<(), String> {
    let agree = || (1..NODES).all(|at| cluster.table(at) == cluster.table(0));
    if !becomes_true(agree).await {
        return Err("the nodes do not agree".to_owned());
    }
    for at in 0..NODES {
        let address = cluster.address(at).ok_or("a node is missing")?;
        let mut stream =
            Stream::open(address, client.cursor.as_deref()).await.ok_or("a node does not answer")?;
        let reading = async {
            while client.table != cluster.table(at) || at == 0 && client.cursor.is_none() {
                for record in stream.next().await? {
                    let circumstances =
                        if at == 0 { Circumstances::FaultElsewhere } else { Circumstances::Calm };
                    client.take(record, circumstances, report);
                }
            }
            Some(())
        };
        if timeout(TIMEOUT, reading).await.ok().flatten().is_none() {
            let (has, wanted) = (&client.table, cluster.table(at));
            report.wrong.push(format!("in the end the client has {has:?}, and n{at} shows {wanted:?}"));
        }
    }
    Ok(())
}
