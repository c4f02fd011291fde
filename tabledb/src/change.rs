//! Changes of the visible state.

use std::sync::Arc;

use wire::NodeName;

use crate::{Key, Value, Version};

/// Which changes a watcher wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
// Exhaustive: other crates build it as a literal, from the defaults.
pub struct WatchFilter {
    /// Only this network; `None` for all.
    pub network: Option<String>,
    /// Only this table; `None` for all.
    pub table: Option<String>,
    /// Leave out entries this node owns itself.
    pub exclude_own: bool,
}

/// What happened to the visible state of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
// Exhaustive: an entry appears, changes or disappears.
pub enum ChangeKind {
    /// It became visible.
    Create,
    /// Its value or owner changed.
    Update,
    /// It is no longer visible.
    Delete,
}

/// Why a key is no longer visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
// Exhaustive: a driver that deletes real things decides for each.
pub enum DeleteReason {
    /// A node deleted it, or overwrote it with a value that is not visible here.
    Deleted,
    /// Its owner has failed. The entry is kept, and becomes visible again if the owner returns.
    OwnerFailed,
    /// Its owner has left the network or the cluster, was replaced by a later instance, or was forgotten.
    OwnerGone,
    /// This node has left the network. What happened to the entry is unknown.
    NetworkLeft,
    /// This node owns it now, and the watcher excludes entries of this node.
    NowOwn,
}

/// One change of the visible state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// In which network.
    pub network: Arc<str>,
    /// In which table.
    pub table: Arc<str>,
    /// To which key.
    pub key: Key,
    /// The value now; `None` after a delete.
    pub value: Option<Value>,
    /// The value before; `None` before a create.
    pub previous: Option<Value>,
    /// The version of the entry now, as [`Entry::version`](crate::Entry::version); `None` after a delete.
    pub version: Option<Version>,
    /// The owner of the entry, or its last owner after a delete.
    pub owner: NodeName,
    /// Why it is deleted; `None` for other changes.
    pub reason: Option<DeleteReason>,
}
