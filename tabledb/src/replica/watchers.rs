//! The sending side of watches.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wire::NodeName;

use super::ranges::Ranges;
use super::watch_history::History;
use super::watch_index::{Concerned, WatchIndex, watchers_of};
use super::watch_log::{LogLimits, WatchLog};
use crate::WatchFilter;
use crate::change::RecordedChange;
use crate::sleeping_watches::SleepingWatches;

/// The watchers of this replica. The replica never waits for any of them, and what it does for a change does not
/// depend on their number: watchers with the same filter share a log.
#[derive(Default)]
pub(crate) struct Watchers {
    index: WatchIndex,
    history: History,
    /// The bytes in all logs.
    in_all: Arc<AtomicUsize>,
    limits: LogLimits,
    lagged: u64,
    closed: bool,
    /// The logs to which the step that is being made has sent changes, if one is being made.
    held: Option<Vec<Arc<WatchLog>>>,
    /// Those to wake as soon as the lock of the replica is released.
    woken: SleepingWatches,
}

impl fmt::Debug for Watchers {
    /// Without the waiting changes: they are not state of the replica.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers")
            .field("count", &self.count())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl std::hash::Hash for Watchers {
    /// Without the waiting changes, as in the debug form.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let Self { index, history: _, in_all: _, limits: _, lagged: _, closed, held: _, woken: _ } = self;
        (index, closed).hash(state);
    }
}

impl Watchers {
    pub(crate) fn new(limits: LogLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The log for a watcher with this filter.
    pub(crate) fn log_for(&mut self, filter: &WatchFilter) -> Arc<WatchLog> {
        self.index.remove_abandoned();
        let new = || Arc::new(WatchLog::new(self.in_all.clone()));
        if self.closed {
            let log = new();
            log.close(&mut self.woken);
            return log;
        }
        self.index.place_for(filter).get_or_insert_with(new).clone()
    }

    /// Closes all watchers, and those that are added later.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        for log in std::mem::take(&mut self.index).logs() {
            log.close(&mut self.woken);
        }
    }

    /// The watches to wake now that the lock of the replica is released.
    pub(crate) fn take_woken(&mut self) -> SleepingWatches {
        std::mem::take(&mut self.woken)
    }

    /// Whether the watchers have been closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The number of watchers.
    pub(crate) fn count(&self) -> usize {
        self.index.logs().map(watchers_of).sum()
    }

    /// The bytes of changes that wait in all logs.
    pub(crate) fn bytes(&self) -> usize {
        self.in_all.load(Ordering::Relaxed)
    }

    /// How many times a watcher lagged.
    pub(crate) fn lagged(&self) -> u64 {
        self.lagged
    }

    pub(super) fn limits(&self) -> LogLimits {
        self.limits
    }

    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// An attachment of a network has ended.
    pub(super) fn note_end(&mut self, network: &Arc<str>, writer: u64, seen: &Ranges) {
        self.history.note_end(network, writer, seen);
    }

    /// Whether a history is kept.
    pub(super) fn keeps_history(&self) -> bool {
        self.history.is_started()
    }

    /// Keeps a history of changes from now on. `id` tells it from all others. Returns its id.
    pub(super) fn start_history(&mut self, id: impl FnOnce() -> u64) -> u64 {
        self.history.start(id)
    }

    /// Whether changes of `network` have to be sent here.
    pub(crate) fn wants(&self, network: &str) -> bool {
        self.history.is_started() || self.index.wants(network)
    }

    /// Passes over so many changes of a network, if nobody watches it and they are more than the history keeps: what
    /// happens to all entries of an owner then costs nothing for each of them. False if they have to be sent.
    pub(crate) fn pass_over(&mut self, network: &str, changes: usize) -> bool {
        let nobody_receives_all = changes > self.limits.changes && !self.index.wants(network);
        if nobody_receives_all {
            self.history.pass_over(changes);
        }
        nobody_receives_all
    }

    /// What is sent from now on, until [`Self::end_step`], is seen by each watcher at once: it finds all of it, or
    /// nothing.
    pub(crate) fn begin_step(&mut self) {
        self.held = Some(Vec::new());
    }

    /// The step is over: watchers see what it has sent.
    pub(crate) fn end_step(&mut self) {
        for log in self.held.take().into_iter().flatten() {
            log.release(&mut self.woken);
        }
    }

    /// Sends a change to the watchers of the node `me` that want it: for those that want the entries of some owners
    /// only, an entry that changes its owner appears or disappears.
    pub(crate) fn send(&mut self, mut recorded: RecordedChange, me: &NodeName) {
        recorded.position = self.history.end();
        let recorded = Arc::new(recorded);
        let (mut lagged, mut is_abandoned) = (0, false);
        // Of one that changed nothing here, the history alone has to know.
        let is_seen = recorded.previous.is_some() || recorded.change.value.is_some();
        let concerned = self.index.concerned(&recorded);
        for Concerned { log, owner, exclude_own } in concerned.take_while(|_| is_seen) {
            is_abandoned |= watchers_of(log) == 0;
            let wants = |of: &NodeName| owner.is_none_or(|owner| owner == of) && !(exclude_own && of == me);
            let seen = if owner.is_none() && !exclude_own {
                Some(recorded.clone())
            } else {
                recorded.of_owners(wants).map(|seen| match seen {
                    Cow::Borrowed(_) => recorded.clone(),
                    Cow::Owned(seen) => Arc::new(seen),
                })
            };
            if let Some(seen) = seen {
                if let Some(held) = &mut self.held
                    && log.hold()
                {
                    held.push(log.clone());
                }
                lagged += log.append(&seen, self.limits, &mut self.woken);
            }
        }
        self.lagged += lagged as u64;
        if is_abandoned {
            self.index.remove_abandoned();
        }
        while self.bytes() > self.limits.bytes_in_all && self.shorten_longest_log() {}
        if self.history.is_started() {
            self.history.append(recorded, self.limits);
        }
    }

    /// Drops the older half of the log with the most waiting bytes, unless it has only one change. The slowest
    /// watchers pay, not those that receive the next change.
    fn shorten_longest_log(&mut self) -> bool {
        let waiting = self.index.logs().map(|log| (log, log.waiting()));
        let longest = waiting.filter(|(_, (changes, _))| *changes > 1).max_by_key(|(_, (_, bytes))| *bytes);
        let Some((log, _)) = longest else { return false };
        self.lagged += log.drop_older_half() as u64;
        true
    }
}
