//! Following changes: an atomic snapshot, then every change, in order, bounded.

use std::sync::Arc;
use std::time::Duration;

use wire::NodeName;

use crate::Value;

/// Which changes a watcher wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
pub enum ChangeKind {
    /// It became visible.
    Create,
    /// Its value or owner changed.
    Update,
    /// It is visible no longer.
    Delete,
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
    pub key: Arc<str>,
    /// The value now; `None` after a delete.
    pub value: Option<Value>,
    /// The value before; `None` before a create.
    pub previous: Option<Value>,
    /// Whose entry it is now, or was before a delete.
    pub owner: NodeName,
}

/// What a watcher receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// One change.
    Change(Change),
    /// The watcher fell behind and changes were dropped: forget everything; a fresh snapshot follows as creates.
    Lagged,
}

/// A subscription. Dropping it ends it.
#[derive(Debug)]
pub struct Watch;

impl Watch {
    /// The next event; waits up to `timeout`, and returns `None` when nothing came.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<WatchEvent> {
        let _ = timeout;
        todo!()
    }

    /// The next event if there is one now.
    pub fn try_next(&mut self) -> Option<WatchEvent> {
        todo!()
    }
}
