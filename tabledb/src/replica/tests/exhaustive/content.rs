//! The content of a replica, as far as promises are made about it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::NODES;

/// The state of one owner's attachment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Held {
    pub(super) epoch: u64,
    pub(super) seen: Vec<(u64, u64)>,
    pub(super) live: Vec<u64>,
    pub(super) shown: bool,
}

impl Held {
    pub(super) fn has_seen(&self, number: u64) -> bool {
        self.seen.iter().any(|&(low, high)| low <= number && number <= high)
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.seen.iter().flat_map(|&(low, high)| low..=high)
    }
}

/// The record under a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct HeldRecord {
    pub(super) dot: Dot,
    pub(super) time: u64,
    /// The time until a tombstone is reaped; `None` for a value.
    pub(super) residual: Option<Duration>,
    pub(super) visible: bool,
}

/// A write: its owner, the owner's attachment to the network, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Dot {
    pub(super) owner: usize,
    pub(super) epoch: u64,
    pub(super) number: u64,
}

/// The observable state of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// What it holds, believes and has received: all that decides its future once everything on its way is
    /// lost and every stream is cut.
    pub(super) content: Content,
    /// The time until its next deadline.
    pub(super) wait: Option<Duration>,
    /// A digest of the content.
    pub(super) digest: u128,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Content {
    pub(super) me: usize,
    pub(super) joined: bool,
    pub(super) leaving: bool,
    pub(super) held: [Option<Held>; NODES],
    pub(super) records: BTreeMap<u8, HeldRecord>,
    /// Of every node's list: the version, and the epoch at which the node joined by it.
    pub(super) lists: [(u64, Option<u64>); NODES],
    pub(super) alive: [bool; NODES],
}
