//! What a node holds, visible or not: the one place that reads the insides of a store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tabledb::{InspectedEntry, TableDb};
use wire::NodeId;

/// One write: who made it, in which epoch of its attachment to the network, and as which of its writes there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dot {
    /// The life that wrote.
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

/// What decides between writes to one key: the same total order everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The Lamport time.
    pub time: u64,
    /// Ties go by name, generation, epoch and number.
    pub dot: Dot,
}

/// What is held under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldEntry {
    /// Its version.
    pub version: Version,
    /// The value; `None` for a tombstone.
    pub value: Option<Arc<[u8]>>,
    /// For a tombstone, how much longer it is kept.
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
    pub contexts: BTreeMap<(NodeId, u64), Vec<(u64, u64)>>,
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
    pub(crate) fn of(tables: &TableDb, network: &str, now: Instant) -> Option<Self> {
        let state = tables.replica().inspect(network, now)?;
        let entries = state.entries.into_iter().map(|(place, entry)| (place, HeldEntry::from(entry)));
        let contexts = state
            .attachments
            .into_values()
            .map(|attachment| ((attachment.owner, attachment.epoch), attachment.context.as_slice().to_vec()));
        Some(Self { entries: entries.collect(), contexts: contexts.collect() })
    }

    /// Whether the node has seen a write.
    pub fn has_seen(&self, dot: &Dot) -> bool {
        self.contexts
            .get(&(dot.owner.clone(), dot.epoch))
            .is_some_and(|ranges| ranges.iter().any(|(low, high)| (*low..=*high).contains(&dot.number)))
    }
}
