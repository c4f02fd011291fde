//! The settings of a node.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use transport::{ClusterName, Identity};
use wire::{NodeId, NodeName};

use crate::identity::IdentitySource;

/// Settings of a node.
///
/// # Examples
/// ```
/// use networkdb::{KeySet, NodeConfig, NodeName};
///
/// let config = NodeConfig::new(NodeName::new("proxy-1")?, "127.0.0.1:0".parse()?, KeySet::generate())
///     .with_seeds(["10.0.0.1:7946"])
///     .with_networks(["blue"])
///     .with_label("zone", "a");
/// assert_eq!(config.labels["zone"], "a");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
// Exhaustive: other crates build it as a literal, from the defaults.
pub struct NodeConfig {
    /// The node's name, unique among the live nodes of the cluster.
    pub name: NodeName,
    /// The cluster's name. Nodes of different clusters refuse each other.
    pub cluster: ClusterName,
    /// The address on which to listen; port 0 lets the system choose a port.
    pub bind: SocketAddr,
    /// The address that the node announces to its peers; by default the bound address.
    pub advertise: Option<SocketAddr>,
    /// The secrets of the cluster, or certificates of an operator's own authority. The development secret is
    /// accepted on loopback addresses only.
    pub identity: Identity,
    /// The files of the identity: the node rereads them on request, and writes changes of secrets there.
    pub identity_source: IdentitySource,
    /// Nodes to join through: a host or an address, with or without a port; the default is this node's own
    /// port. The node joins in the background and retries as long as none of them is a member. It resolves
    /// names anew for each attempt.
    pub seeds: Vec<String>,
    /// Networks to join at the start.
    pub networks: Vec<String>,
    /// Labels that the operator gives the node.
    pub labels: BTreeMap<String, String>,
    /// Timers and bounds of membership.
    pub membership: membership::Config,
    /// Bounds of the tables.
    pub limits: tabledb::Limits,
    /// How long a tombstone of a delete is kept.
    pub reap_time: Duration,
    /// The interval of anti-entropy: how often a network is compared with a peer when no difference is known.
    pub anti_entropy_interval: Duration,
    /// Bounds on the resources that peers can use.
    pub transport: transport::Limits,
}

impl NodeConfig {
    /// Settings of a node `name` that listens on `bind`, with defaults for the rest: no seeds and no
    /// networks.
    pub fn new(name: NodeName, bind: SocketAddr, identity: impl Into<Identity>) -> Self {
        let tables = tabledb::Config::new(NodeId::new(name.clone(), 1));
        Self {
            name,
            cluster: ClusterName::default(),
            bind,
            advertise: None,
            identity: identity.into(),
            identity_source: IdentitySource::Program,
            seeds: Vec::new(),
            networks: Vec::new(),
            labels: BTreeMap::new(),
            membership: membership::Config::lan(),
            limits: tables.limits,
            reap_time: tables.reap_time,
            anti_entropy_interval: tables.anti_entropy_interval,
            transport: transport::Limits::default(),
        }
    }

    /// The same with these seeds, such as `10.0.0.1:7946`.
    pub fn with_seeds(mut self, seeds: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.seeds = seeds.into_iter().map(Into::into).collect();
        self
    }

    /// The same with networks that the node joins when it starts.
    pub fn with_networks(mut self, networks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.networks = networks.into_iter().map(Into::into).collect();
        self
    }

    /// The same with one more label.
    pub fn with_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// The same with the address at which peers reach the node, if they cannot reach `bind`.
    pub fn with_advertise(mut self, address: SocketAddr) -> Self {
        self.advertise = Some(address);
        self
    }
}
