//! The nodes of the demonstration.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tabledb::NetworkStatistics;
use transport::KeySet;
use wire::NodeName;

use crate::failure::Failure;
use crate::settings::values::DEFAULT_HTTP_PORT;
use networkdb::{Node, NodeConfig};
use networkdb_http::{HttpConfig, HttpListener, HttpServer};

/// The network of the demonstration.
pub(super) const NETWORK: &str = "demo";

/// Its one table.
pub(super) const TABLE: &str = "services";

/// Timeout of a step.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(15);

/// The interval at which a condition is checked, and so the error of every displayed time.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Timeout for HTTP calls in progress when a node ends.
const HTTP_LEAVE_TIMEOUT: Duration = Duration::from_millis(200);

/// A node with its HTTP endpoints, and whether it runs.
#[derive(Debug)]
pub(super) struct DemoNode {
    pub(super) name: String,
    pub(super) node: Node,
    http: Option<HttpServer>,
    pub(super) url: String,
    pub(super) up: bool,
}

/// All nodes.
#[derive(Debug)]
pub(super) struct DemoCluster {
    pub(super) nodes: Vec<DemoNode>,
}

impl DemoCluster {
    /// Starts `count` nodes. The first one is the seed of the others.
    pub(super) async fn start(count: usize) -> Result<Self, Failure> {
        let mut cluster = Self { nodes: Vec::new() };
        for index in 0..count {
            let name = format!("node-{}", index + 1);
            let node = start_node(&name, cluster.seeds()).await?;
            let (http, url) = start_http(&node, index).await?;
            cluster.nodes.push(DemoNode { name, node, http: Some(http), url, up: true });
        }
        Ok(cluster)
    }

    /// Stops a node without leaving, like a crash.
    pub(super) async fn crash(&mut self, index: usize) {
        let demo_node = &mut self.nodes[index];
        demo_node.up = false;
        demo_node.node.abort();
        if let Some(http) = demo_node.http.take() {
            http.shutdown(Duration::ZERO).await;
        }
    }

    /// Starts a stopped node again under the same name.
    pub(super) async fn restart(&mut self, index: usize) -> Result<(), Failure> {
        let node = start_node(&self.nodes[index].name, self.seeds()).await?;
        let (http, url) = start_http(&node, index).await?;
        let demo_node = &mut self.nodes[index];
        (demo_node.node, demo_node.http, demo_node.url, demo_node.up) = (node, Some(http), url, true);
        Ok(())
    }

    /// Shuts down the running nodes one after the other, so that each can leave the cluster of the others.
    pub(super) async fn end(self, limit: Duration) {
        for demo_node in self.nodes.into_iter().filter(|demo_node| demo_node.up) {
            demo_node.node.shutdown(limit).await;
            if let Some(http) = demo_node.http {
                http.shutdown(HTTP_LEAVE_TIMEOUT).await;
            }
        }
    }

    /// The running nodes.
    pub(super) fn running(&self) -> impl Iterator<Item = &DemoNode> {
        self.nodes.iter().filter(|demo_node| demo_node.up)
    }

    /// The running nodes that are on the network.
    pub(super) fn attached(&self) -> impl Iterator<Item = (&DemoNode, NetworkStatistics)> {
        self.running().filter_map(|demo_node| Some((demo_node, demo_node.statistics()?)))
    }

    /// Whether the live members of every running node are exactly the running nodes.
    pub(super) fn know_each_other(&self) -> bool {
        let mut names = self.running().map(|demo_node| demo_node.name.as_str()).collect::<Vec<_>>();
        names.sort_unstable();
        self.running().all(|demo_node| {
            let members = demo_node.node.members();
            let active = members.iter().filter(|member| member.state.is_active());
            active.map(|member| member.name().as_str()).eq(names.iter().copied())
        })
    }

    /// Whether `count` nodes are on the network, and every one of them counts `count`.
    pub(super) fn network_has(&self, count: usize) -> bool {
        let mut attached = 0;
        let all = self.attached().all(|(_, statistics)| {
            attached += 1;
            statistics.peers == count
        });
        all && attached == count
    }

    /// Whether all nodes on the network have the same `expected` records.
    pub(super) fn agree(&self, expected: usize) -> bool {
        let mut digests = self.attached().map(|(_, statistics)| (statistics.entries, statistics.digest));
        let Some(first) = digests.next() else { return false };
        first.0 == expected && digests.all(|digest| digest == first)
    }

    /// The differences from `expected` on each node of the network, as sentences.
    pub(super) fn differences(&self, expected: &BTreeMap<String, String>) -> Vec<String> {
        self.attached().filter_map(|(demo_node, _)| difference(demo_node, expected)).collect()
    }

    fn seeds(&self) -> Vec<String> {
        self.running().take(1).map(|demo_node| demo_node.node.advertised_address().to_string()).collect()
    }
}

impl DemoNode {
    /// The network's statistics; `None` while the node is not on the network.
    pub(super) fn statistics(&self) -> Option<NetworkStatistics> {
        self.node.tables().statistics(NETWORK)
    }
}

fn difference(demo_node: &DemoNode, expected: &BTreeMap<String, String>) -> Option<String> {
    let found = demo_node.node.tables().entries(NETWORK, TABLE);
    let found = found
        .iter()
        .map(|entry| (entry.key().to_string(), String::from_utf8_lossy(entry.value()).into_owned()))
        .collect::<BTreeMap<_, _>>();
    let missing =
        expected.keys().find(|key| !found.contains_key(*key)).map(|key| format!("{key} is missing"));
    let extra =
        || found.keys().find(|key| !expected.contains_key(*key)).map(|key| format!("{key} should be gone"));
    let changed = || {
        let mut both = expected.iter().filter_map(|(key, value)| Some((key, value, found.get(key)?)));
        let (key, value, other) = both.find(|(_, value, other)| value != other)?;
        Some(format!("{key} is {other:?} and should be {value:?}"))
    };
    let first = missing.or_else(extra).or_else(changed)?;
    Some(format!(
        "{} shows {} records of {}; for example, {first}",
        demo_node.name,
        found.len(),
        expected.len()
    ))
}

async fn start_node(name: &str, seeds: Vec<String>) -> Result<Node, Failure> {
    let name = NodeName::new(name).map_err(Failure::unusable)?;
    let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = NodeConfig {
        seeds,
        membership: membership::Config::loopback(),
        ..NodeConfig::new(name, bind, KeySet::development())
    };
    Node::start(config).await.map_err(Failure::unusable)
}

/// Starts the HTTP endpoints. The first node gets the commands' default port, if that is free.
async fn start_http(node: &Node, index: usize) -> Result<(HttpServer, String), Failure> {
    let port = u16::try_from(index).map_or(0, |index| DEFAULT_HTTP_PORT + index);
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = match HttpListener::bind(address(port), HttpConfig::default()).await {
        Ok(listener) => listener,
        Err(_) => HttpListener::bind(address(0), HttpConfig::default()).await.map_err(Failure::unusable)?,
    };
    let server = listener.serve(node.clone());
    let url = server.url();
    Ok((server, url))
}

/// The time since its start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "the demonstration displays measured times")]
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Waits until `condition` is true, and returns the time since the start; `None` after the timeout of a
    /// step.
    pub(super) async fn until(self, mut condition: impl FnMut(Duration) -> bool) -> Option<Duration> {
        loop {
            let elapsed = self.elapsed();
            if condition(elapsed) {
                return Some(elapsed);
            }
            if elapsed > STEP_TIMEOUT {
                return None;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}
