//! Settings of a database, and their bounds.

use std::time::Duration;

use wire::NodeId;

/// How large things may get. Every limit has a defined behaviour when it is met: an error for the local caller, a
/// counted refusal for a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The longest network or table name, in bytes of UTF-8. Default 255.
    pub name_bytes: usize,
    /// The longest key, in bytes of UTF-8. Default 1,024.
    pub key_bytes: usize,
    /// The largest value, in bytes. Default 1 MiB, at most 3 MiB.
    pub value_bytes: usize,
    /// The most networks this node may be on. Default 4,096.
    pub networks: usize,
    /// The most entries, tombstones included, in one network. Default 10,000,000.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { name_bytes: 255, key_bytes: 1024, value_bytes: 1 << 20, networks: 4096, entries: 10_000_000 }
    }
}

/// Settings of a [`TableDb`](crate::TableDb).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The life of this node: its name, and a generation larger than that of any earlier life under that name.
    pub node: NodeId,
    /// Bounds on names, values and counts.
    pub limits: Limits,
    /// How long a tombstone is kept, over all nodes it visits together. Default 30 minutes, at least 1 second.
    pub reap_time: Duration,
}

impl Config {
    /// The defaults for the life `node`.
    pub fn new(node: NodeId) -> Self {
        Self { node, limits: Limits::default(), reap_time: Duration::from_secs(30 * 60) }
    }
}

/// A setting outside its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting {setting}: {found} is out of bounds; {allowed} is allowed")]
pub struct ConfigError {
    /// Which setting.
    pub setting: &'static str,
    /// What was found.
    pub found: String,
    /// What would be right.
    pub allowed: &'static str,
}
