//! Nodes to test with, by name, and what is asked of them again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use membership::State;
use networkdb::{Node, NodeConfig, StartError};
use transport::{BindError, ClusterName, KeySet};
use wire::NodeName;

use crate::links::{Cuts, Relay};
use crate::waiting::{TIMEOUT, eventually};

/// The network of most tests.
pub(crate) const NET: &str = "blue";

/// The table of most tests.
pub(crate) const TABLE: &str = "services";

/// The nodes of one test that are up.
#[derive(Debug)]
pub(crate) struct Cluster {
    name: ClusterName,
    nodes: BTreeMap<String, Node>,
    relays: BTreeMap<String, Relay>,
    cuts: Cuts,
}

impl Cluster {
    /// A cluster without nodes. Ports are used again by the next process, so the clusters of different tests must
    /// not take each other's nodes for their own.
    pub(crate) fn new() -> Self {
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let name = ClusterName::new(&format!("test {number} of process {}", std::process::id())).unwrap();
        Self { name, nodes: BTreeMap::new(), relays: BTreeMap::new(), cuts: Cuts::default() }
    }

    /// Nodes that know each other, joined through the first of them.
    pub(crate) async fn of(names: &[&str]) -> Self {
        let mut cluster = Self::new();
        for name in names {
            cluster.start_joined(cluster.config(name)).await;
        }
        cluster.know_each_other().await;
        cluster
    }

    /// Nodes that know each other and are all on [`NET`].
    pub(crate) async fn on_network(names: &[&str]) -> Self {
        let cluster = Self::of(names).await;
        cluster.join_network(NET).await;
        cluster
    }

    /// The same, with links that can be cut.
    pub(crate) async fn on_links(names: &[&str]) -> Self {
        let mut cluster = Self::new();
        for name in names {
            let mut relay = Relay::bind().await;
            let config = NodeConfig { advertise: Some(relay.address()), ..cluster.config(name) };
            let node = cluster.start_joined(config).await;
            relay.lead_to(node.local_address(), cluster.cuts.clone());
            cluster.relays.insert((*name).to_owned(), relay);
        }
        cluster.know_each_other().await;
        cluster.join_network(NET).await;
        cluster
    }

    /// Settings for a node of this cluster: alone, quick to notice failures.
    pub(crate) fn config(&self, name: &str) -> NodeConfig {
        let bind = "127.0.0.1:0".parse().unwrap();
        NodeConfig {
            cluster: self.name.clone(),
            membership: membership::Config::loopback(),
            ..NodeConfig::new(NodeName::new(name).unwrap(), bind, KeySet::development())
        }
    }

    /// Starts a node and takes it in. A port that was just given up may need a moment to be free.
    pub(crate) async fn start(&mut self, config: NodeConfig) -> Node {
        let mut started = Node::start(config.clone()).await;
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        while let Err(StartError::Bind(BindError::InUse(_))) = &started
            && tokio::time::Instant::now() < deadline
        {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            started = Node::start(config.clone()).await;
        }
        let node = started.expect("the node starts");
        self.nodes.insert(config.name.as_str().to_owned(), node.clone());
        node
    }

    /// Starts a node whose seed is the first that is up.
    pub(crate) async fn start_joined(&mut self, config: NodeConfig) -> Node {
        let seeds = self.nodes.values().take(1).map(|node| node.advertised_address().to_string());
        let config = NodeConfig { seeds: seeds.collect(), ..config };
        self.start(config).await
    }

    /// The node, which must be up.
    pub(crate) fn node(&self, name: &str) -> &Node {
        self.nodes.get(name).unwrap_or_else(|| panic!("{name} is not up"))
    }

    /// All that are up, in order of name.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> + Clone {
        self.nodes.iter().map(|(name, node)| (name.as_str(), node))
    }

    /// The node is no longer looked at; what becomes of it is up to the caller.
    pub(crate) fn take(&mut self, name: &str) -> Node {
        self.nodes.remove(name).unwrap_or_else(|| panic!("{name} is not up"))
    }

    /// Stops a node as a crash would. Gives the address where it was, free again.
    pub(crate) fn crash(&mut self, name: &str) -> SocketAddr {
        let node = self.take(name);
        node.abort();
        node.local_address()
    }

    /// Nothing passes between these nodes and the others any more.
    pub(crate) fn part(&self, names: &[&str]) {
        let (these, others): (Vec<_>, Vec<_>) = self.nodes().partition(|(name, _)| names.contains(name));
        for (_, one) in &these {
            for (_, other) in &others {
                self.cuts.part(one.local_address(), other.local_address());
            }
        }
    }

    /// Nothing passes between these two any more.
    pub(crate) fn part_two(&self, one: &str, other: &str) {
        self.cuts.part(self.node(one).local_address(), self.node(other).local_address());
    }

    /// All links are whole again.
    pub(crate) fn heal(&self) {
        self.cuts.heal();
    }

    /// Puts every node on the network, one after the other, and waits until each knows all others there.
    #[track_caller]
    pub(crate) fn join_network(&self, network: &str) -> impl Future<Output = ()> {
        let counted = eventually("all count all on the network", self, move || self.count_on(network));
        async move {
            for node in self.nodes.values() {
                node.join_network(network).await.expect("not joined before");
            }
            counted.await;
        }
    }

    fn count_on(&self, network: &str) -> bool {
        self.nodes.values().all(|node| node.tables().network_peers(network).len() == self.nodes.len())
    }

    /// Waits for `condition`; see [`eventually`].
    #[track_caller]
    pub(crate) fn eventually(
        &self,
        what: impl Into<String>,
        condition: impl FnMut() -> bool,
    ) -> impl Future<Output = ()> {
        eventually(what, self, condition)
    }

    /// Waits until the nodes that are up consider exactly each other alive, in their present instances.
    #[track_caller]
    pub(crate) fn know_each_other(&self) -> impl Future<Output = ()> {
        let instances = self.nodes.values().map(Node::id).collect::<BTreeSet<_>>();
        self.eventually("all know exactly each other", move || {
            self.nodes.values().all(|node| {
                let members = node.members();
                let alive = members.iter().filter(|member| member.state.is_active());
                alive.map(|member| &member.record.id).eq(&instances)
            })
        })
    }

    /// Waits until the node holds the other one for what `state` says.
    #[track_caller]
    pub(crate) fn holds(&self, name: &str, other: &str, state: State) -> impl Future<Output = ()> {
        self.eventually(format!("{name} holds {other} {state}"), move || {
            let members = self.node(name).members();
            members.iter().any(|member| member.name().as_str() == other && member.state == state)
        })
    }

    /// Waits until every node shows this under the key of [`TABLE`] in [`NET`]; `None` for nothing.
    #[track_caller]
    pub(crate) fn show(&self, key: &str, value: Option<&str>) -> impl Future<Output = ()> {
        self.eventually(format!("all show {value:?} under {key}"), move || {
            self.nodes.values().all(|node| shown(node, key).as_deref() == value)
        })
    }

    /// Waits until every node shows exactly these entries, and the same versions of them.
    #[track_caller]
    pub(crate) fn show_all(&self, wanted: &BTreeMap<String, String>) -> impl Future<Output = ()> {
        self.eventually(format!("all show the {} entries wanted", wanted.len()), move || {
            let digests = self.nodes.values().map(|node| node.tables().statistics(NET));
            let digests = digests.map(|counts| counts.map(|counts| (counts.entries, counts.digest)));
            let digests = digests.collect::<BTreeSet<_>>();
            // The digests are cheap; the tables are compared once those agree.
            digests.len() == 1
                && digests.iter().all(|digest| digest.is_some_and(|(count, _)| count == wanted.len()))
                && self.nodes.values().all(|node| table(node) == *wanted)
        })
    }
}

/// What the node shows under the key of [`TABLE`] in [`NET`].
pub(crate) fn shown(node: &Node, key: &str) -> Option<String> {
    let entry = node.tables().get(NET, TABLE, key)?;
    Some(String::from_utf8_lossy(entry.value()).into_owned())
}

/// Everything the node shows in [`TABLE`] of [`NET`].
pub(crate) fn table(node: &Node) -> BTreeMap<String, String> {
    let entries = node.tables().entries(NET, TABLE);
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    entries.iter().map(|entry| (entry.key().to_string(), text(entry.value()))).collect()
}

/// Creates an entry in [`TABLE`] of [`NET`].
#[track_caller]
pub(crate) fn create(node: &Node, key: &str, value: &str) {
    node.tables().create(NET, TABLE, key, value.as_bytes()).expect("the key is free");
}

/// Creates so many entries, whose keys begin with the node's name, and gives them.
#[track_caller]
pub(crate) fn create_many(node: &Node, count: usize) -> BTreeMap<String, String> {
    let name = node.id().name;
    let entries = (0..count).map(|i| (format!("{name}-{i:05}"), format!("value {i} of {name}")));
    let entries = entries.collect::<BTreeMap<_, _>>();
    entries.iter().for_each(|(key, value)| create(node, key, value));
    entries
}
