//! Following changes: an atomic snapshot, then every change, in order, bounded.

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
    /// It is visible no longer.
    Delete,
}

/// Why a key is visible no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeleteReason {
    /// Somebody deleted it, or overwrote it with what is not visible here.
    Deleted,
    /// Its owner is held for failed. What it owns is kept, and becomes visible again should it return.
    OwnerFailed,
    /// Its owner has left the network or the cluster, has started anew, or has been forgotten.
    OwnerGone,
    /// This node has left the network: nothing is known of what became of the entry.
    NetworkLeft,
    /// This node owns it now, and the watcher leaves out what this node owns.
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
    /// Whose entry it is now, or was before a delete.
    pub owner: NodeName,
    /// Why it is deleted; `None` for what is not.
    pub reason: Option<DeleteReason>,
}

/// What a watcher receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// One change.
    Change(Change),
    /// The watcher fell behind and changes were dropped: forget everything; a fresh snapshot follows as creates.
    Lagged,
    /// The database has ended: there are no more changes, and nothing is known of the entries from now on. Every further call
    /// returns this again.
    Closed,
}

/// A subscription: first a create for each entry that is visible, then each change, in order, without a gap between.
///
/// What is visible is read from the store when it is asked for, so a watch that stands still holds little. Of changes at most
/// [`Limits::watch_queue`](crate::Limits::watch_queue) wait for it, and at most
/// [`Limits::watch_bytes`](crate::Limits::watch_bytes) bytes. Beyond that they are dropped, the watcher is told so once by
/// [`WatchEvent::Lagged`], and what is visible then follows. Dropping it ends the subscription; when the database ends it is told by
/// [`WatchEvent::Closed`], and of no deletes.
#[derive(Debug)]
pub struct Watch {
    database: TableDb,
    filter: WatchFilter,
    /// What has been read of the beginning.
    begun: VecDeque<Change>,
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
        begun: VecDeque<Change>,
        queue: Arc<WatchQueue>,
    ) -> Self {
        Self { database, filter, begun, queue }
    }

    /// The next event; waits up to `timeout`, and returns `None` when nothing came.
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
            if let Some(change) = self.begun.pop_front() {
                return Some(WatchEvent::Change(change));
            }
            match self.queue.take() {
                Taken::Change(change) => return Some(WatchEvent::Change(change)),
                Taken::Closed => return Some(WatchEvent::Closed),
                Taken::Nothing => return None,
                Taken::Unread => self.begun = self.queue.read(&self.database.replica(), &self.filter),
                Taken::Lagged => {
                    // Nothing is queued for a watcher that lags, so between here and there nothing is lost or seen twice.
                    let replica = self.database.replica();
                    self.queue.start_over();
                    self.begun = self.queue.read(&replica, &self.filter);
                    return Some(WatchEvent::Lagged);
                }
            }
        }
    }
}
