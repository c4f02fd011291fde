//! The sending side of watches.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use wire::NodeName;

use super::watch_queue::{QueueLimits, WatchQueue};
use crate::{Change, ChangeKind, DeleteReason, Key, WatchFilter};

impl WatchFilter {
    fn wants_network(&self, network: &str) -> bool {
        self.network.as_deref().is_none_or(|wanted| wanted == network)
    }

    /// Whether this watcher, on the node `me`, wants changes of entries of `owner`.
    pub(crate) fn wants(&self, network: &str, table: &str, owner: &NodeName, me: &NodeName) -> bool {
        self.wants_network(network)
            && self.table.as_deref().is_none_or(|wanted| wanted == table)
            && !(self.exclude_own && owner == me)
    }
}

struct Watcher {
    filter: WatchFilter,
    queue: Arc<WatchQueue>,
}

/// The watchers of this replica. The replica never waits for any of them.
#[derive(Default)]
pub(crate) struct Watchers {
    watchers: Vec<Watcher>,
    /// The bytes that wait for all watchers.
    in_all: Arc<AtomicUsize>,
    limits: QueueLimits,
    lagged: u64,
    closed: bool,
    /// Tasks to wake as soon as the lock of the replica is released.
    wakers: Vec<Waker>,
}

impl fmt::Debug for Watchers {
    /// Without the waiting changes: they are not state of the replica.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filters = self.watchers.iter().map(|watcher| &watcher.filter).collect::<Vec<_>>();
        f.debug_struct("Watchers")
            .field("filters", &filters)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl std::hash::Hash for Watchers {
    /// Without the waiting changes, as in the debug form.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let Self { watchers, in_all: _, limits: _, lagged: _, closed, wakers: _ } = self;
        (watchers.len(), closed).hash(state);
        for Watcher { filter, queue: _ } in watchers {
            filter.hash(state);
        }
    }
}

impl Watchers {
    pub(crate) fn new(limits: QueueLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(crate) fn add(&mut self, filter: WatchFilter) -> Arc<WatchQueue> {
        self.remove_dropped();
        let queue = Arc::new(WatchQueue::new(self.in_all.clone()));
        if self.closed {
            queue.close(&mut self.wakers);
        } else {
            self.watchers.push(Watcher { filter, queue: queue.clone() });
        }
        queue
    }

    /// Closes all watchers, and those that are added later.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        let wakers = &mut self.wakers;
        self.watchers.drain(..).for_each(|watcher| watcher.queue.close(wakers));
    }

    /// The tasks to wake now that the lock of the replica is released.
    pub(crate) fn take_wakers(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers)
    }

    /// Whether the watchers have been closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The number of watchers.
    pub(crate) fn count(&self) -> usize {
        self.watchers.iter().filter(|watcher| Arc::strong_count(&watcher.queue) > 1).count()
    }

    /// The bytes of changes that wait for all watchers.
    pub(crate) fn bytes(&self) -> usize {
        self.in_all.load(Ordering::Relaxed)
    }

    /// How many times a watcher lagged.
    pub(crate) fn lagged(&self) -> u64 {
        self.lagged
    }

    /// Whether any watcher wants changes of `network`.
    pub(crate) fn wants(&self, network: &str) -> bool {
        self.watchers.iter().any(|watcher| watcher.filter.wants_network(network))
    }

    /// Sends a change to the watchers that want it. `former_owner` owned the entry before, if it existed: for
    /// a watcher that excludes our own entries, an entry that changes its owner appears or disappears.
    pub(crate) fn send(&mut self, change: Change, former_owner: Option<&NodeName>, me: &NodeName) {
        let limits = self.limits;
        for watcher in &mut self.watchers {
            let filter = &watcher.filter;
            let before =
                former_owner.is_some_and(|owner| filter.wants(&change.network, &change.table, owner, me));
            let after =
                change.value.is_some() && filter.wants(&change.network, &change.table, &change.owner, me);
            if watcher.queue.skips(&change) {
                continue;
            }
            let change = match (change.previous.is_some() && before, after) {
                (false, false) => continue,
                (true, true) => change.clone(),
                (false, true) => {
                    Change { kind: ChangeKind::Create, previous: None, reason: None, ..change.clone() }
                }
                (true, false) => {
                    let owner = former_owner.unwrap_or(&change.owner).clone();
                    let reason = change.reason.or(Some(DeleteReason::NowOwn));
                    Change {
                        kind: ChangeKind::Delete,
                        // A copy: the key of a change holds the record that it is in, here with a value that is neither
                        // sent nor counted.
                        key: Key::from(&*change.key),
                        value: None,
                        version: None,
                        owner,
                        reason,
                        ..change.clone()
                    }
                }
            };
            self.lagged += u64::from(!watcher.queue.push(change, limits, &mut self.wakers));
        }
        while self.bytes() > limits.bytes_in_all && self.lag_fullest_queue() {}
    }

    /// Makes the watcher with the most waiting bytes start over, unless only one change waits for it. The
    /// slowest watcher pays, not the one that receives the next change.
    fn lag_fullest_queue(&mut self) -> bool {
        let waiting = self.watchers.iter().map(|watcher| (watcher, watcher.queue.waiting()));
        let fullest = waiting.filter(|(_, (changes, _))| *changes > 1).max_by_key(|(_, (_, bytes))| *bytes);
        let Some((watcher, _)) = fullest else { return false };
        watcher.queue.lag(&mut self.wakers);
        self.lagged += 1;
        true
    }

    /// Removes watchers that were dropped, which no longer hold their end of the queue.
    pub(crate) fn remove_dropped(&mut self) {
        self.watchers.retain(|watcher| Arc::strong_count(&watcher.queue) > 1);
    }
}
