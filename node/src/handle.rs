//! A running node, as programs and the HTTP endpoints hold it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tabledb::TableDb;
use wire::{NodeId, NodeName};

/// What a node needs to start.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct NodeConfig {
    pub name: NodeName,
    /// Nodes of different clusters refuse each other. Default "default".
    pub cluster: String,
    /// Where to listen; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// What others are told; default the bound address.
    pub advertise: Option<SocketAddr>,
    /// host, host:port, address, address:port; without a port the node's own gossip port. Resolved again at each try.
    pub seeds: Vec<String>,
    pub networks: Vec<String>,
    pub labels: BTreeMap<String, String>,
    // plus: keys: transport::KeySet, membership: membership::Config, limits: tabledb::Limits, transport limits
    pub reap_time: Duration,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// To be split up.
    #[error("{0}")]
    Other(String),
}

/// Why joining a cluster failed.
#[derive(Debug, thiserror::Error)]
pub enum JoinClusterError {
    /// To be split up: unresolved names, no seed answered (with a reason each), name conflict.
    #[error("{0}")]
    Other(String),
}

/// A running node. Cloning copies a pointer.
#[derive(Debug, Clone)]
pub struct Node;

#[allow(missing_docs, unused_variables)]
impl Node {
    pub async fn start(config: NodeConfig) -> Result<Node, StartError> {
        todo!()
    }
    /// This node's current life.
    pub fn id(&self) -> NodeId {
        todo!()
    }
    pub fn advertised_address(&self) -> SocketAddr {
        todo!()
    }
    pub fn tables(&self) -> &TableDb {
        todo!()
    }
    /// Every member that is known, in order of name, this node included.
    pub fn members(&self) -> Vec<membership::Member> {
        todo!()
    }
    /// Replaces the seeds and joins through them; returns how many answered, at least one.
    pub async fn join(&self, seeds: &[String]) -> Result<usize, JoinClusterError> {
        todo!()
    }
    /// Joins a network, and returns once it was synchronised with another member of it, or none is reachable.
    pub async fn join_network(&self, network: &str) -> Result<(), tabledb::JoinError> {
        todo!()
    }
    /// Leaves a network after a final sync, bounded in time.
    pub async fn leave_network(&self, network: &str) -> Result<(), tabledb::LeaveError> {
        todo!()
    }
    /// Leaves the cluster gracefully and stops, within `limit`.
    pub async fn shutdown(&self, limit: Duration) {
        todo!()
    }
    /// Stops at once without a word, as a crash would.
    pub fn abort(&self) {
        todo!()
    }
}
