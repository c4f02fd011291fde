//! Settings of a database, and their allowed ranges.

use std::time::Duration;

use wire::{NodeId, NodeName};

use crate::host_clock::wall_clock;

/// Limits on sizes and counts. Each has a defined behaviour when it is reached: an error for the local
/// caller, a counted refusal for a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
// Exhaustive: other crates build it as a literal, from the defaults.
pub struct Limits {
    /// The longest network or table name, in bytes of UTF-8. Default 255.
    pub name_bytes: usize,
    /// The longest key, in bytes of UTF-8. Default 1,024.
    pub key_bytes: usize,
    /// The largest value, in bytes. Default 1 MiB, at most 3 MiB.
    pub value_bytes: usize,
    /// The most networks that one node may be on, this node or any other by its attachment list. Must be the
    /// same on all nodes of a cluster. Default 4,096.
    pub networks: usize,
    /// The most known attachments, of all nodes to all networks. Default 1,000,000.
    pub attachments: usize,
    /// The most tables in one network. Default 65,536.
    pub tables: usize,
    /// The most entries, tombstones included, in one network. Default 10,000,000.
    pub entries: usize,
    /// The most bytes of keys and values in one network. Default 4 GiB.
    pub bytes: usize,
    /// The most ranges into which the version vector of one attachment may be fragmented: it has one range if
    /// no number is missing. Default 65,536.
    pub ranges: usize,
    /// The most datagrams that are deferred until membership reports the instances they name. Default 256.
    pub deferred: usize,
    /// The most sessions that peers may have open at a time; one peer may have a quarter of them. Default
    /// 128.
    pub sessions: usize,
    /// The most changes that wait for the watchers with one filter. Beyond it, those that still had to receive the
    /// oldest lag and start over. Default 8,192.
    pub watch_queue: usize,
    /// The most bytes of changes, with their values before and after, that wait for the watchers with one filter.
    /// Beyond it, those that still had to receive the oldest lag and start over. A single change may be larger.
    /// Default 8 MiB.
    pub watch_bytes: usize,
    /// The most bytes of changes that wait for all watchers together; a change counts once for each filter.
    /// Beyond it, the slowest watchers with the filter for which most waits lag and start over. Default 64 MiB.
    pub watch_bytes_total: usize,
}

impl Limits {
    /// Whether the names and the key have allowed lengths. A name must not be empty; a key may be.
    pub(crate) fn allow_names(&self, network: &str, table: &str, key: &str) -> bool {
        let name = 1..=self.name_bytes;
        name.contains(&network.len()) && name.contains(&table.len()) && key.len() <= self.key_bytes
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            name_bytes: 255,
            key_bytes: 1024,
            value_bytes: 1 << 20,
            networks: 4096,
            attachments: 1_000_000,
            tables: 65_536,
            entries: 10_000_000,
            bytes: 4 << 30,
            ranges: 65_536,
            deferred: 256,
            sessions: 128,
            watch_queue: 8192,
            watch_bytes: 8 << 20,
            watch_bytes_total: 64 << 20,
        }
    }
}

/// Settings of a [`TableDb`](crate::TableDb).
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
// Exhaustive: other crates build it as a literal, from the defaults.
pub struct Config {
    /// The instance of this node: its name, and a generation larger than that of any earlier instance of that
    /// name.
    pub node: NodeId,
    /// Limits on names, values and counts.
    pub limits: Limits,
    /// How long a tombstone is kept, summed over the nodes that it visits. Default 30 minutes, at least 1
    /// second.
    pub reap_time: Duration,
    /// The interval, varied by up to a quarter, of the anti-entropy comparison of a network with a random
    /// member. It is the safety net: it runs although no difference is known. Default 30 seconds, at least 1
    /// second.
    pub anti_entropy_interval: Duration,
}

impl Config {
    /// The default settings for a new instance of the node `name`: its generation is the wall time in
    /// microseconds, as in a running node.
    pub fn starting_now(name: NodeName) -> Self {
        Self::new(NodeId::new(name, wall_clock().as_micros() as u64))
    }

    /// The default settings for the instance `node`.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            limits: Limits::default(),
            reap_time: Duration::from_secs(30 * 60),
            anti_entropy_interval: Duration::from_secs(30),
        }
    }

    /// Checks that every setting is within its allowed range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = |setting, found: String, allowed, ok: bool| match ok {
            true => Ok(()),
            false => Err(ConfigError { setting, found, allowed }),
        };
        let limits = &self.limits;
        let day = Duration::from_secs(24 * 3600);
        let times = Duration::from_secs(1)..=365 * day;
        check(
            "reap_time",
            format!("{:?}", self.reap_time),
            "1 s to 365 days",
            times.contains(&self.reap_time),
        )?;
        let interval = self.anti_entropy_interval;
        check(
            "anti_entropy_interval",
            format!("{interval:?}"),
            "1 s to 1 day",
            (times.start()..=&day).contains(&&interval),
        )?;
        let names = limits.name_bytes;
        check("limits.name_bytes", names.to_string(), "1 to 400", (1..=400).contains(&names))?;
        let keys = limits.key_bytes;
        check("limits.key_bytes", keys.to_string(), "1 to 65,536", (1..=65_536).contains(&keys))?;
        let values = limits.value_bytes;
        check("limits.value_bytes", values.to_string(), "0 to 3 MiB", values <= MAX_VALUE_BYTES)?;
        for (setting, found, least, allowed) in [
            ("limits.networks", limits.networks, 1, "1 or more"),
            ("limits.attachments", limits.attachments, 1, "1 or more"),
            ("limits.tables", limits.tables, 1, "1 or more"),
            ("limits.entries", limits.entries, 1, "1 or more"),
            ("limits.bytes", limits.bytes, 1, "1 or more"),
            ("limits.ranges", limits.ranges, 16, "16 or more"),
            ("limits.deferred", limits.deferred, 1, "1 or more"),
            ("limits.sessions", limits.sessions, 4, "4 or more"),
            ("limits.watch_bytes", limits.watch_bytes, 1, "1 or more"),
            ("limits.watch_bytes_total", limits.watch_bytes_total, 1, "1 or more"),
        ] {
            check(setting, found.to_string(), allowed, found >= least)?;
        }
        let queue = limits.watch_queue;
        check("limits.watch_queue", queue.to_string(), "1 to 16,777,216", (1..=1 << 24).contains(&queue))
    }
}

/// The largest value that any setting may allow: 3 MiB. It has to fit a frame with its key and version.
pub const MAX_VALUE_BYTES: usize = 3 << 20;

/// A setting outside its allowed range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting {setting}: {found} is out of bounds; {allowed} is allowed")]
pub struct ConfigError {
    /// Which setting.
    pub setting: &'static str,
    /// The value of the setting.
    pub found: String,
    /// The allowed values.
    pub allowed: &'static str,
}
