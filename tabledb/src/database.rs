//! The thread-safe handle that programs embed.

use std::ops::ControlFlow;

use wire::{NodeId, NodeName};

use crate::{Config, ConfigError, Entry, JoinError, LeaveError, Value, Watch, WatchFilter, WriteError};

/// Counts of one joined network on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkStatistics {
    /// Visible entries.
    pub entries: usize,
    /// Entries of failed or not yet compared owners.
    pub hidden: usize,
    /// Deletes still remembered.
    pub tombstones: usize,
    /// News waiting to be sent for the first time or again.
    pub queue_length: usize,
    /// Nodes on the network, this one included.
    pub peers: usize,
    /// A digest of the visible entries: equal on two nodes if and only if they show the same.
    pub digest: u64,
}

/// Replicated per-network tables; cloning copies a pointer.
#[derive(Debug, Clone)]
pub struct TableDb;

#[allow(unused_variables, missing_docs)]
impl TableDb {
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        todo!()
    }
    pub fn node(&self) -> NodeId {
        todo!()
    }
    pub fn join_network(&self, network: &str) -> Result<(), JoinError> {
        todo!()
    }
    pub fn leave_network(&self, network: &str) -> Result<(), LeaveError> {
        todo!()
    }
    /// Joined networks, sorted.
    pub fn networks(&self) -> Vec<String> {
        todo!()
    }
    /// The nodes on `network`, this one included, sorted; empty for a network nobody known is on. Works for networks not joined, too.
    pub fn network_peers(&self, network: &str) -> Vec<NodeName> {
        todo!()
    }
    /// `None` for a network not joined.
    pub fn statistics(&self, network: &str) -> Option<NetworkStatistics> {
        todo!()
    }
    /// Tables of `network` with at least one visible entry, sorted.
    pub fn tables(&self, network: &str) -> Vec<String> {
        todo!()
    }
    pub fn create(
        &self,
        network: &str,
        table: &str,
        key: &str,
        value: impl Into<Value>,
    ) -> Result<(), WriteError> {
        let _ = value.into();
        todo!()
    }
    pub fn update(
        &self,
        network: &str,
        table: &str,
        key: &str,
        value: impl Into<Value>,
    ) -> Result<(), WriteError> {
        let _ = value.into();
        todo!()
    }
    pub fn delete(&self, network: &str, table: &str, key: &str) -> Result<(), WriteError> {
        todo!()
    }
    /// The visible entry under `key`, if any.
    pub fn get(&self, network: &str, table: &str, key: &str) -> Option<Entry> {
        todo!()
    }
    /// The visible entries of a table, sorted by key; empty for a network not joined.
    pub fn entries(&self, network: &str, table: &str) -> Vec<Entry> {
        todo!()
    }
    /// Calls `visit` for each visible entry of a table, in no particular order, without copying the table.
    pub fn walk(&self, network: &str, table: &str, visit: impl FnMut(&Entry) -> ControlFlow<()>) {
        todo!()
    }
    /// Starts following changes: first a create for each existing entry, then each change.
    pub fn watch(&self, filter: WatchFilter) -> Watch {
        todo!()
    }
}
