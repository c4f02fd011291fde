//! Counts of one network.

use std::time::Duration;

/// Statistics of one joined network on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkStatistics {
    /// Visible entries.
    pub entries: usize,
    /// Entries of owners that have failed, or have returned and are not compared yet.
    pub hidden: usize,
    /// Tombstones held.
    pub tombstones: usize,
    /// Tables with entries, counting hidden entries and tombstones.
    pub tables: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
    /// Writes of other nodes that this node refuses, because of a limit or of their time. The values that
    /// they replaced stay. They are retried, and succeed within about two minutes after the cause has gone.
    pub refused: usize,
    /// Updates that wait to be sent for the first time.
    pub queue_length: usize,
    /// Alive nodes on the network, including this one.
    pub peers: usize,
    /// A digest of the visible entries: equal on two nodes if and only if they show the same versions, but
    /// for chance (2⁻⁶⁴).
    pub digest: u64,
    /// Whether the network has been synchronised with another member since it was joined.
    pub synchronised: bool,
    /// How long this node has known that a member holds other entries, at most; zero if it knows of none. Known from
    /// the digests that members exchange while the network is quiescent.
    pub disagreement: Duration,
}
