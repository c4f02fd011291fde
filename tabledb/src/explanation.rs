//! What a node knows about the entry under a key: its version, how it came here, and why readers see it or not.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::{NodeId, NodeName};

use crate::{HiddenReason, Version};

/// Whether readers of a node see an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum EntryState {
    /// Nothing is held under the key: it was never written, or its tombstone has been reaped.
    Absent,
    /// Readers see it.
    Visible,
    /// Readers do not see it.
    Hidden(HiddenReason),
    /// It is deleted, and its tombstone is still held.
    Deleted,
}

/// The path on which a write came to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ArrivalPath {
    /// The node wrote it.
    Local,
    /// In a datagram.
    Gossip,
    /// In a session in which the node asked for writes that it lacked.
    Pull,
    /// In a session in which a member brought more writes than datagrams carry.
    Push,
    /// In a full sync.
    Sync,
}

/// How a write came to a node. A node keeps it for its latest few thousand arrivals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Arrival {
    /// The path.
    pub path: ArrivalPath,
    /// The member that sent it, which need not be the writer; `None` for the node's own writes.
    pub from: Option<NodeName>,
    /// The time since then; `None` for an own write that replaced nothing, whose version has its time.
    pub age: Option<Duration>,
    /// The write in whose place it came: its version and its writer.
    pub replaced: Option<(Version, NodeName)>,
}

/// The write that a node holds under a key: a value or a delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HeldWrite {
    /// Its version, which contains its time by the writer's clock.
    pub version: Version,
    /// The instance that wrote it.
    pub owner: NodeId,
    /// The epoch of the owner's attachment to the network.
    pub epoch: u64,
    /// The length of the value in bytes; 0 for a delete.
    pub bytes: u64,
    /// A digest of time, table, key and value; 0 for a delete. It differs between two writes of one version, which
    /// only two processes with the same generation can make.
    pub digest: u32,
    /// For a delete: the time until its tombstone is reaped.
    pub residual: Option<Duration>,
    /// How it came here; `None` if that is not kept any more.
    pub arrival: Option<Arrival>,
}

/// Why a node refuses a write of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RefusedBecause {
    /// Its time is too far ahead of the node's wall clock.
    FutureTime,
    /// A name, the key or the value is longer than the node's limit.
    TooLong,
    /// The network holds as many entries as the node's limit allows.
    NetworkFull,
    /// The network has as many tables as the node's limit allows.
    TooManyTables,
    /// The network holds as many bytes as the node's limit allows.
    TooManyBytes,
    /// Too many gaps in what was seen of its writer.
    Fragmented,
}

/// The latest write under a key that a node refuses. What it would have replaced stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RefusedWrite {
    /// Its time since 1970, by its writer's clock.
    pub time: Duration,
    /// Its writer.
    pub owner: NodeName,
    /// Why it is refused.
    pub because: RefusedBecause,
}

/// What a node knows about the entry under a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EntryExplanation {
    /// Whether readers see it.
    pub state: EntryState,
    /// The write that is held; `None` if none is.
    pub held: Option<HeldWrite>,
    /// The write that is refused, if one is.
    pub refused: Option<RefusedWrite>,
    /// Whether the node has synchronised the network with another member. If not, it may lack writes.
    pub synchronised: bool,
}
