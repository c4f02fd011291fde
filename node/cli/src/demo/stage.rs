//! The nodes of the demonstration, and what their table should hold.

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

/// No step may take longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// How often a condition is looked at: the error of every time that is shown.
const LOOK: Duration = Duration::from_millis(1);

/// A call under way when a node ends gets this long.
const HTTP_LEAVE_TIME: Duration = Duration::from_millis(200);

/// One node, its endpoints, and whether it is up.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) name: String,
    pub(super) node: Node,
    http: Option<HttpServer>,
    pub(super) url: String,
    pub(super) up: bool,
}

/// All nodes.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) actors: Vec<Actor>,
}

impl Stage {
    /// Starts `count` nodes; all but the first know the first as their seed.
    pub(super) async fn start(count: usize) -> Result<Self, Failure> {
        let mut stage = Self { actors: Vec::new() };
        for index in 0..count {
            let name = format!("node-{}", index + 1);
            let node = start_node(&name, stage.seeds()).await?;
            let (http, url) = start_http(&node, index).await?;
            stage.actors.push(Actor { name, node, http: Some(http), url, up: true });
        }
        Ok(stage)
    }

    /// Stops a node without a word.
    pub(super) async fn crash(&mut self, index: usize) {
        let actor = &mut self.actors[index];
        actor.up = false;
        actor.node.abort();
        if let Some(http) = actor.http.take() {
            http.shutdown(Duration::ZERO).await;
        }
    }

    /// Starts a stopped node again under its name.
    pub(super) async fn restart(&mut self, index: usize) -> Result<(), Failure> {
        let node = start_node(&self.actors[index].name, self.seeds()).await?;
        let (http, url) = start_http(&node, index).await?;
        let actor = &mut self.actors[index];
        (actor.node, actor.http, actor.url, actor.up) = (node, Some(http), url, true);
        Ok(())
    }

    /// The running nodes leave, one after the other, so that each has others to say good-bye to.
    pub(super) async fn end(self, limit: Duration) {
        for actor in self.actors.into_iter().filter(|actor| actor.up) {
            actor.node.shutdown(limit).await;
            if let Some(http) = actor.http {
                http.shutdown(HTTP_LEAVE_TIME).await;
            }
        }
    }

    /// The nodes that run.
    pub(super) fn running(&self) -> impl Iterator<Item = &Actor> {
        self.actors.iter().filter(|actor| actor.up)
    }

    /// Those of them that are on the network.
    pub(super) fn attached(&self) -> impl Iterator<Item = (&Actor, NetworkStatistics)> {
        self.running().filter_map(|actor| Some((actor, actor.statistics()?)))
    }

    /// Whether every running node knows exactly `names` as living members.
    pub(super) fn know_each_other(&self) -> bool {
        let mut names = self.running().map(|actor| actor.name.as_str()).collect::<Vec<_>>();
        names.sort_unstable();
        self.running().all(|actor| {
            let members = actor.node.members();
            let active = members.iter().filter(|member| member.state.is_active());
            active.map(|member| member.name().as_str()).eq(names.iter().copied())
        })
    }

    /// Whether every node on the network counts `count` on it.
    pub(super) fn network_has(&self, count: usize) -> bool {
        let mut attached = 0;
        let all = self.attached().all(|(_, statistics)| {
            attached += 1;
            statistics.peers == count
        });
        all && attached == count
    }

    /// Whether all nodes on the network show `expected` records, and the same ones.
    pub(super) fn agree(&self, expected: usize) -> bool {
        let mut digests = self.attached().map(|(_, statistics)| (statistics.entries, statistics.digest));
        let Some(first) = digests.next() else { return false };
        first.0 == expected && digests.all(|digest| digest == first)
    }

    /// What is different from `expected` on each node of the network, in words; empty if nothing is.
    pub(super) fn differences(&self, expected: &BTreeMap<String, String>) -> Vec<String> {
        self.attached().filter_map(|(actor, _)| difference(actor, expected)).collect()
    }

    fn seeds(&self) -> Vec<String> {
        self.running().take(1).map(|actor| actor.node.advertised_address().to_string()).collect()
    }
}

impl Actor {
    /// `None` while it is not on the network.
    pub(super) fn statistics(&self) -> Option<NetworkStatistics> {
        self.node.tables().statistics(NETWORK)
    }
}

fn difference(actor: &Actor, expected: &BTreeMap<String, String>) -> Option<String> {
    let found = actor.node.tables().entries(NETWORK, TABLE);
    let found = found
        .iter()
        .map(|entry| (entry.key.to_string(), String::from_utf8_lossy(&entry.value).into_owned()))
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
    Some(format!("{} shows {} records of {}; for example, {first}", actor.name, found.len(), expected.len()))
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

/// The first node's endpoints are where the commands look for them, if nobody else is there.
async fn start_http(node: &Node, index: usize) -> Result<(HttpServer, String), Failure> {
    let port = u16::try_from(index).map_or(0, |index| DEFAULT_HTTP_PORT + index);
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = match HttpListener::bind(address(port), HttpConfig::default()).await {
        Ok(listener) => listener,
        Err(_) => HttpListener::bind(address(0), HttpConfig::default()).await.map_err(Failure::unusable)?,
    };
    let server = listener.serve(node.clone());
    let url = format!("http://{}", server.local_address());
    Ok((server, url))
}

/// Time since something began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch(Instant);

impl Watch {
    #[expect(clippy::disallowed_methods, reason = "this is a shell that measures what it shows")]
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Waits until `come_true`, and tells how long it was since the start; `None` if that takes too long.
    pub(super) async fn until(self, mut come_true: impl FnMut(Duration) -> bool) -> Option<Duration> {
        loop {
            let elapsed = self.elapsed();
            if come_true(elapsed) {
                return Some(elapsed);
            }
            if elapsed > PATIENCE {
                return None;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
