//! How long the replication takes, as histograms.

use std::time::Duration;

use wire::Histogram;

/// Bounds for the way of a write: some milliseconds in a LAN; minutes after a partition.
const PROPAGATION: [Duration; 16] = [
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(300),
];

/// Bounds for a full sync: from a comparison that finds nothing to a large network over a slow link.
const FULL_SYNC: [Duration; 11] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(300),
    Duration::from_secs(900),
];

/// How long things took since the database was made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latencies {
    /// From a write on another node to its arrival here, of every write not seen here before but those of an initial
    /// sync. By the time of the version and this node's wall clock: a writer's clock that is ahead makes it shorter
    /// (0 at least), one that is behind makes it longer.
    pub propagation: Histogram,
    /// Full syncs that this node opened and that completed, from the opening of the stream on.
    pub full_sync: Histogram,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { propagation: Histogram::new(&PROPAGATION), full_sync: Histogram::new(&FULL_SYNC) }
    }
}
