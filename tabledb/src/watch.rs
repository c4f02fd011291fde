//! Watching changes: an atomic snapshot, then every change, in order, in bounded memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use wire::NodeName;

use crate::replica::{Taken, WatchQueue};
use crate::{TableDb, Value};

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
    /// It is no longer visible.
    Delete,
}

/// Why a key is no longer visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    pub key: Arc<str>,
    /// The value now; `None` after a delete.
    pub value: Option<Value>,
    /// The value before; `None` before a create.
    pub previous: Option<Value>,
    /// The owner of the entry, or its last owner after a delete.
    pub owner: NodeName,
    /// Why it is deleted; `None` for other changes.
    pub reason: Option<DeleteReason>,
}

/// What a watcher receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// One change.
    Change(Change),
    /// The watcher lagged and changes were dropped: discard everything; a fresh snapshot follows as creates.
    Lagged,
    /// The database has ended: no more changes follow, and the state of the entries is unknown from now on.
    /// Every further call returns this again.
    Closed,
}

/// A subscription: first a create for each visible entry, then each change, in order and without a gap.
///
/// The snapshot is read from the store as the caller takes it, so a watch that nobody reads holds little
/// memory. At most [`Limits::watch_queue`](crate::Limits::watch_queue) changes and
/// [`Limits::watch_bytes`](crate::Limits::watch_bytes) bytes wait for it. Beyond that, changes are dropped,
/// the watcher receives [`WatchEvent::Lagged`] once, and a fresh snapshot follows. Dropping the watch ends
/// the subscription. When the database ends, the watcher receives [`WatchEvent::Closed`] and no deletes.
#[derive(Debug)]
pub struct Watch {
    database: TableDb,
    filter: WatchFilter,
    /// The chunk of the snapshot that has been read.
    snapshot: VecDeque<Change>,
    queue: Arc<WatchQueue>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.queue.abandon();
    }
}

impl Watch {
    pub(crate) fn new(
        database: TableDb,
        filter: WatchFilter,
        snapshot: VecDeque<Change>,
        queue: Arc<WatchQueue>,
    ) -> Self {
        Self { database, filter, snapshot, queue }
    }

    /// The next event. Waits up to `timeout`, and returns `None` when no event came.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<WatchEvent> {
        if let Some(event) = self.try_next() {
            return Some(event);
        }
        self.queue.wait(timeout);
        self.try_next()
    }

    /// The next event if there is one now.
    pub fn try_next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(change) = self.snapshot.pop_front() {
                return Some(WatchEvent::Change(change));
            }
            match self.queue.take() {
                Taken::Change(change) => return Some(WatchEvent::Change(change)),
                Taken::Closed => return Some(WatchEvent::Closed),
                Taken::Nothing => return None,
                Taken::Unread => self.snapshot = self.queue.read(&self.database.replica(), &self.filter),
                Taken::Lagged => {
                    // Nothing is queued for a lagging watcher, so no change is lost or seen twice between the
                    // two calls.
                    let replica = self.database.replica();
                    self.queue.start_over();
                    self.snapshot = self.queue.read(&replica, &self.filter);
                    return Some(WatchEvent::Lagged);
                }
            }
        }
    }
}
