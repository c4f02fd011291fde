//! The sending side of watches.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wire::NodeName;

use super::watch_log::{LogLimits, WatchLog};
use crate::sleeping_watches::SleepingWatches;
use crate::{Change, ChangeKind, DeleteReason, Key, WatchFilter};

impl WatchFilter {
    /// Whether this watcher, on the node `me`, wants changes of entries of `owner`.
    pub(crate) fn wants(&self, network: &str, table: &str, owner: &NodeName, me: &NodeName) -> bool {
        self.network.as_deref().is_none_or(|wanted| wanted == network)
            && self.table.as_deref().is_none_or(|wanted| wanted == table)
            && !(self.exclude_own && owner == me)
    }
}

/// What belongs to every name, and what belongs to one.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
struct ByName<T> {
    every: T,
    one: BTreeMap<String, T>,
}

impl<T: Default> ByName<T> {
    fn of(&mut self, name: Option<&str>) -> &mut T {
        match name {
            None => &mut self.every,
            Some(name) => self.one.entry(name.to_owned()).or_default(),
        }
    }

    /// What an event with this name concerns.
    fn concerned(&self, name: &str) -> impl Iterator<Item = &T> {
        std::iter::once(&self.every).chain(self.one.get(name))
    }

    fn values(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.every).chain(self.one.values())
    }

    /// Removes the names for which `keep` returns false. Returns whether anything is left.
    fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) -> bool {
        self.one.retain(|_, value| keep(value));
        keep(&mut self.every) || !self.one.is_empty()
    }
}

/// The logs of the watchers of a table: of those that receive all changes, and of those that exclude our own
/// entries. `None` without such watchers.
#[derive(Debug, Default)]
struct Logs {
    with_own: Option<Arc<WatchLog>>,
    without_own: Option<Arc<WatchLog>>,
}

impl Logs {
    fn iter(&self) -> impl Iterator<Item = &Arc<WatchLog>> {
        self.with_own.iter().chain(&self.without_own)
    }
}

#[cfg(test)]
impl std::hash::Hash for Logs {
    /// Without the waiting changes, as in the debug form.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let Self { with_own, without_own } = self;
        [with_own, without_own].map(|log| log.as_ref().map(watchers_of)).hash(state);
    }
}

/// The watchers that read a log: each holds it, and so does the index.
fn watchers_of(log: &Arc<WatchLog>) -> usize {
    Arc::strong_count(log) - 1
}

/// The watchers of this replica, by network and table. The replica never waits for any of them, and what it does for a
/// change does not depend on their number: watchers with the same filter share a log.
#[derive(Default)]
pub(crate) struct Watchers {
    logs: ByName<ByName<Logs>>,
    /// The bytes in all logs.
    in_all: Arc<AtomicUsize>,
    limits: LogLimits,
    lagged: u64,
    closed: bool,
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
        let Self { logs, in_all: _, limits: _, lagged: _, closed, woken: _ } = self;
        (logs, closed).hash(state);
    }
}

impl Watchers {
    pub(crate) fn new(limits: LogLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The log for a watcher with this filter.
    pub(crate) fn log_for(&mut self, filter: &WatchFilter) -> Arc<WatchLog> {
        self.remove_abandoned();
        let new = || Arc::new(WatchLog::new(self.in_all.clone()));
        if self.closed {
            let log = new();
            log.close(&mut self.woken);
            return log;
        }
        let logs = self.logs.of(filter.network.as_deref()).of(filter.table.as_deref());
        let log = if filter.exclude_own { &mut logs.without_own } else { &mut logs.with_own };
        log.get_or_insert_with(new).clone()
    }

    /// Closes all watchers, and those that are added later.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        for log in std::mem::take(&mut self.logs).values().flat_map(ByName::values).flat_map(Logs::iter) {
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

    fn logs(&self) -> impl Iterator<Item = &Arc<WatchLog>> {
        self.logs.values().flat_map(ByName::values).flat_map(Logs::iter)
    }

    /// The number of watchers.
    pub(crate) fn count(&self) -> usize {
        self.logs().map(watchers_of).sum()
    }

    /// The bytes of changes that wait in all logs.
    pub(crate) fn bytes(&self) -> usize {
        self.in_all.load(Ordering::Relaxed)
    }

    /// How many times a watcher lagged.
    pub(crate) fn lagged(&self) -> u64 {
        self.lagged
    }

    /// Whether any watcher wants changes of `network`.
    pub(crate) fn wants(&self, network: &str) -> bool {
        let tables = |network: &ByName<Logs>| network.values().flat_map(Logs::iter).next().is_some();
        self.logs.concerned(network).any(tables)
    }

    /// Sends a change to the watchers that want it. `former_owner` owned the entry before, if it existed: for
    /// a watcher that excludes our own entries, an entry that changes its owner appears or disappears.
    pub(crate) fn send(&mut self, change: Change, former_owner: Option<&NodeName>, me: &NodeName) {
        let (network, table) = (change.network.clone(), change.table.clone());
        let concerned = self.logs.concerned(&network).flat_map(|tables| tables.concerned(&table));
        let mut concerned = concerned.filter(|logs| logs.iter().next().is_some()).peekable();
        if concerned.peek().is_none() {
            return;
        }
        let change = Arc::new(change);
        let mut of_others = None;
        let (mut lagged, mut is_abandoned) = (0, false);
        for logs in concerned {
            if let Some(log) = &logs.with_own {
                is_abandoned |= watchers_of(log) == 0;
                lagged += log.append(&change, self.limits, &mut self.woken);
            }
            if let Some(log) = &logs.without_own {
                is_abandoned |= watchers_of(log) == 0;
                let of_others =
                    of_others.get_or_insert_with(|| without_own(&change, former_owner, me).map(Arc::new));
                if let Some(change) = of_others {
                    lagged += log.append(change, self.limits, &mut self.woken);
                }
            }
        }
        self.lagged += lagged as u64;
        if is_abandoned {
            self.remove_abandoned();
        }
        while self.bytes() > self.limits.bytes_in_all && self.shorten_longest_log() {}
    }

    /// Drops the older half of the log with the most waiting bytes, unless it has only one change. The slowest
    /// watchers pay, not those that receive the next change.
    fn shorten_longest_log(&mut self) -> bool {
        let waiting = self.logs().map(|log| (log, log.waiting()));
        let longest = waiting.filter(|(_, (changes, _))| *changes > 1).max_by_key(|(_, (_, bytes))| *bytes);
        let Some((log, _)) = longest else { return false };
        self.lagged += log.drop_older_half() as u64;
        true
    }

    /// Removes the logs that no watcher reads any more.
    fn remove_abandoned(&mut self) {
        let is_read = |log: &mut Arc<WatchLog>| watchers_of(log) > 0;
        self.logs.retain(|network| {
            network.retain(|Logs { with_own, without_own }| {
                with_own.take_if(|log| !is_read(log));
                without_own.take_if(|log| !is_read(log));
                with_own.is_some() || without_own.is_some()
            })
        });
    }
}

/// The change as a watcher sees it that excludes the entries of the node `me`; `None` if it sees none.
fn without_own(change: &Change, former_owner: Option<&NodeName>, me: &NodeName) -> Option<Change> {
    let before = change.previous.is_some() && former_owner.is_some_and(|owner| owner != me);
    let after = change.value.is_some() && change.owner != *me;
    match (before, after) {
        (false, false) => None,
        (true, true) => Some(change.clone()),
        (false, true) => {
            Some(Change { kind: ChangeKind::Create, previous: None, reason: None, ..change.clone() })
        }
        (true, false) => Some(Change {
            kind: ChangeKind::Delete,
            // A copy: the key of a change holds the record that it is in, here with a value that is neither sent nor
            // counted.
            key: Key::from(&*change.key),
            value: None,
            version: None,
            owner: former_owner.unwrap_or(&change.owner).clone(),
            reason: change.reason.or(Some(DeleteReason::NowOwn)),
            ..change.clone()
        }),
    }
}
