//! What a node holds, visible or not: the only module that inspects a store.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use tabledb::{InspectedEntry, Replica, Value};
use wire::NodeId;

use super::knowledge::{VersionVector, contains, dots};

/// One write: its owner, the epoch of the owner's attachment to the network, and the number of the
/// write.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dot {
    /// The instance that wrote.
    pub owner: NodeId,
    /// The epoch of its attachment.
    pub epoch: u64,
    /// Counting from 1, without holes.
    pub number: u64,
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.owner, self.epoch, self.number)
    }
}

/// Orders the writes to one key: a total order, the same on all nodes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The Lamport time.
    pub time: u64,
    /// Ties are resolved by name, generation, epoch and number.
    pub dot: Dot,
}

/// The entry held under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldEntry {
    /// Its version.
    pub version: Version,
    /// The value; `None` for a tombstone.
    pub value: Option<Value>,
    /// For a tombstone, the remaining time.
    pub residual: Option<Duration>,
    /// Whether readers see it.
    pub shown: bool,
}

/// Everything a node holds of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkState {
    /// By table and key.
    pub entries: BTreeMap<(String, String), HeldEntry>,
    /// By owner and epoch, the numbers that have been seen, as inclusive ranges, ascending.
    pub version_vector: VersionVector,
    /// The same of refused writes that have been neither accepted nor superseded since.
    pub refused: VersionVector,
}

impl From<InspectedEntry> for HeldEntry {
    fn from(entry: InspectedEntry) -> Self {
        let dot = Dot { owner: entry.owner, epoch: entry.epoch, number: entry.number };
        Self {
            version: Version { time: entry.time, dot },
            value: entry.value,
            residual: entry.residual,
            shown: entry.visible,
        }
    }
}

impl NetworkState {
    pub(crate) fn of(replica: &Replica, network: &str, now: Instant) -> Option<Self> {
        let state = replica.inspect(network, now)?;
        let entries = state.entries.into_iter().map(|(table_key, entry)| (table_key, HeldEntry::from(entry)));
        let (mut version_vector, mut refused) = (VersionVector::new(), VersionVector::new());
        for attachment in state.attachments.into_values() {
            let of = (attachment.owner, attachment.epoch);
            if !attachment.refused.is_empty() {
                refused.insert(of.clone(), attachment.refused.as_slice().to_vec());
            }
            version_vector.insert(of, attachment.seen.as_slice().to_vec());
        }
        Some(Self { entries: entries.collect(), version_vector, refused })
    }

    /// Each write that is refused.
    pub(crate) fn refused(&self) -> impl Iterator<Item = Dot> {
        dots(&self.refused)
    }

    /// Whether the node has seen a write.
    pub fn has_seen(&self, dot: &Dot) -> bool {
        contains(&self.version_vector, dot)
    }

    /// The dots that were seen and are not held: superseded or deleted.
    pub(crate) fn superseded(&self) -> impl Iterator<Item = Dot> {
        let held: BTreeSet<&Dot> = self.entries.values().map(|entry| &entry.version.dot).collect();
        dots(&self.version_vector).filter(move |dot| !held.contains(&dot))
    }

    /// The counts that the node must report, from the entries themselves: shown, hidden,
    /// tombstones, bytes of keys and values.
    pub(crate) fn recount(&self) -> [usize; 4] {
        self.entries.iter().fold([0; 4], |[shown, hidden, tombstones, bytes], ((_, key), entry)| {
            let (live, value) = (entry.value.is_some(), entry.value.as_ref().map_or(0, |value| value.len()));
            [
                shown + usize::from(live && entry.shown),
                hidden + usize::from(live && !entry.shown),
                tombstones + usize::from(!live),
                bytes + key.len() + value,
            ]
        })
    }
}
