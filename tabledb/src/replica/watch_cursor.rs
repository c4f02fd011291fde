//! A watcher's place in the snapshot, which it reads from the store, and then in the log of changes.
//!
//! The snapshot is read one chunk at a time, so that a stalled watcher holds little memory. The changes of keys that have
//! been read meanwhile come after it. A watcher that has lagged starts over, and reads the missed changes from the
//! store.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use super::Replica;
use super::ranges::Ranges;
use super::view::Table;
use super::watch_log::{Found, WatchLog, weight};
use crate::change::RecordedChange;
use crate::record::Record;
use crate::sleeping_watches::Sleeper;
use crate::{Change, ChangeKind, Key, Value, WatchFilter};

/// The size of a chunk of the snapshot, in bytes, plus the change that exceeds it. Small in tests, so that
/// they cover the boundaries.
const CHUNK_BYTES: usize = if cfg!(test) { 1 << 10 } else { 256 << 10 };

/// The limit on remembered keys that are still to be read, in bytes with their pointers.
const LISTED_BYTES: usize = if cfg!(test) { 256 } else { 1 << 20 };

/// How many changes are looked at in one hold of a log's lock, for which the writer may wait.
const LOOKED_AT_ONCE: usize = 64;

/// The receiving end of a watch: its place in the snapshot, then in the log of its filter.
#[derive(Debug)]
pub(crate) struct WatchCursor {
    log: Arc<WatchLog>,
    /// The position in the log; `None` while nothing of the snapshot has been read: no change has to be received.
    position: Option<u64>,
    /// The positions of changes to receive among those before `looked_to`. More than one only while the snapshot is
    /// read: it comes first.
    wanted: VecDeque<u64>,
    /// The position of the first change that has not been compared with the unread part of the snapshot.
    looked_to: u64,
    unread: Unread,
    /// The position in the history from which changes are read before the log is entered.
    replay: Option<u64>,
    /// A change to replay was dropped.
    lost: bool,
    /// Whether the watcher wants to know where the past ends.
    wants_present: bool,
    /// To be reported once what precedes it has been taken.
    present: Option<Present>,
    sleeper: Arc<Sleeper>,
}

/// The end of the past: the watcher has received all that had happened when this was made.
#[derive(Debug, Clone)]
pub(crate) struct Present {
    /// Whether this node has compared the networks of the watch with another member since it joined them.
    pub(crate) compared: bool,
    /// The position of the next change in the history.
    pub(crate) position: u64,
    /// The seen numbers of each attachment of the watched networks, by its digest. `None` if the watcher received
    /// every change since a point at which it knew them.
    pub(crate) seen: Option<Vec<(u64, Ranges)>>,
}

/// The part of the snapshot that is still to be read from the store, in the order of networks, tables and
/// keys.
#[derive(Debug, Default)]
struct Unread {
    /// The network and table that are being read. All later ones are unread; everything is, if there is none.
    at: Option<(Arc<str>, Arc<str>)>,
    /// The keys of that table that have been listed and are unread, in order.
    keys: VecDeque<Arc<str>>,
    /// The key of that table after which nothing has been listed yet.
    listed_to: Option<Arc<str>>,
    nothing: bool,
}

impl Unread {
    /// Nothing is left to read.
    fn read() -> Self {
        Self { nothing: true, ..Self::default() }
    }

    /// Whether a key is still to be read: its changes until then need not be received.
    fn contains(&self, network: &str, table: &str, key: &str) -> bool {
        if self.nothing {
            return false;
        }
        let Some((at_network, at_table)) = &self.at else { return true };
        match (network, table).cmp(&(&**at_network, &**at_table)) {
            Ordering::Less => false,
            Ordering::Greater => true,
            Ordering::Equal => {
                self.listed_to.as_deref().is_some_and(|to| key > to)
                    || self.keys.binary_search_by(|listed| (**listed).cmp(key)).is_ok()
            }
        }
    }

    /// Lists the next keys of `table` that begin with `prefix`.
    fn list(&mut self, table: &Table, prefix: &str) {
        let after = self.listed_to.take();
        let mut smallest = BinaryHeap::<Arc<str>>::new();
        let mut bytes = 0;
        let weight = |key: &Arc<str>| key.len() + size_of::<Arc<str>>();
        for record in table.records.iter().filter(Record::is_visible) {
            let key = record.key();
            if !key.starts_with(prefix) {
                continue;
            }
            if after.as_deref().is_some_and(|after| key <= after)
                || (self.listed_to.is_some() && smallest.peek().is_some_and(|largest| key > &**largest))
            {
                continue;
            }
            // A copy: the record may be replaced before the key is read, and would be kept until then.
            let key: Arc<str> = key.into();
            bytes += weight(&key);
            smallest.push(key);
            while bytes > LISTED_BYTES && smallest.len() > 1 {
                bytes -= smallest.pop().as_ref().map_or(0, weight);
                self.listed_to = smallest.peek().cloned();
            }
        }
        self.keys = smallest.into_sorted_vec().into();
        if self.listed_to.is_some() {
            self.listed_to = self.keys.back().cloned();
        }
    }
}

impl Drop for WatchCursor {
    fn drop(&mut self) {
        self.leave();
        self.log.forget(&self.sleeper);
    }
}

impl WatchCursor {
    pub(super) fn new(log: Arc<WatchLog>, wants_present: bool) -> Self {
        Self {
            log,
            position: None,
            wanted: VecDeque::new(),
            looked_to: 0,
            unread: Unread::default(),
            replay: None,
            lost: false,
            wants_present,
            present: None,
            sleeper: Arc::default(),
        }
    }

    /// Reads the changes from this position of the history on, in place of a snapshot.
    pub(super) fn replay_from(&mut self, position: u64) {
        self.unread = Unread::read();
        self.replay = Some(position);
    }

    /// Reads what happens from now on, in place of a snapshot. The caller holds the lock of the replica.
    pub(super) fn follow_from_now(&mut self, present: Present) {
        self.unread = Unread::read();
        self.looked_to = self.log.enter();
        self.position = Some(self.looked_to);
        self.present = Some(present);
    }

    fn leave(&mut self) {
        if let Some(position) = self.position.take() {
            self.log.leave(position);
        }
        self.wanted = VecDeque::new();
    }

    /// The next result for the watcher.
    pub(crate) fn take(&mut self) -> Taken {
        if self.lost {
            return Taken::Lagged;
        }
        let Some(position) = self.position else {
            return if self.log.is_closed() { Taken::Closed } else { Taken::Unread };
        };
        if !self.unread.nothing {
            // Before the look: all changes are in the log of one that is closed.
            let closed = self.log.is_closed();
            if !self.look_at_changes(position) {
                return if closed { Taken::Closed } else { Taken::Lagged };
            }
            if !closed {
                return Taken::Unread;
            }
            self.unread = Unread::read();
        }
        let Some(position) = self.position else { return Taken::Closed };
        if self.wanted.is_empty()
            && let Some(present) = self.present.take()
        {
            return Taken::Present(present);
        }
        let next = self.wanted.get(1).copied();
        let next = next.unwrap_or(self.looked_to + u64::from(self.wanted.is_empty()));
        match self.log.take(position, next) {
            Found::Change(change) => {
                if self.wanted.pop_front().is_none() {
                    self.looked_to = next;
                } else if self.wanted.is_empty() {
                    self.wanted = VecDeque::new();
                }
                self.position = Some(next);
                Taken::Change(change)
            }
            Found::Nothing => Taken::Nothing,
            Found::Closed => Taken::Closed,
            Found::Dropped => Taken::Lagged,
        }
    }

    /// Compares the latest changes with the unread part of the snapshot: a change of a key that is still to be read is
    /// not received. False if the watcher has lagged.
    fn look_at_changes(&mut self, position: u64) -> bool {
        let Self { log, wanted, looked_to, unread, .. } = self;
        while log.visit(*looked_to, LOOKED_AT_ONCE, |change| {
            if !unread.contains(&change.network, &change.table, &change.key) {
                wanted.push_back(*looked_to);
            }
            *looked_to += 1;
        }) {}
        let next = wanted.front().copied().unwrap_or(*looked_to);
        let kept = log.skip(position, next);
        if kept {
            self.position = Some(next);
        }
        kept
    }

    /// Wakes this task at the next event. False if there is one now.
    pub(crate) fn sleep(&self, waker: &Waker) -> bool {
        let Some(position) = self.position.filter(|_| self.unread.nothing && self.present.is_none()) else {
            return false;
        };
        self.log.sleep(position, &self.sleeper, waker)
    }

    /// Restarts the snapshot.
    pub(crate) fn start_over(&mut self) {
        self.leave();
        self.unread = Unread::default();
        (self.replay, self.lost, self.present) = (None, false, None);
    }

    /// The next chunk of the changes to replay; empty after the last, and if one was dropped.
    fn read_history(
        &mut self,
        from: u64,
        replica: &Replica,
        filter: &WatchFilter,
    ) -> VecDeque<RecordedChange> {
        let (history, me) = (replica.node.watchers.history(), &replica.node().name);
        self.lost = !history.reaches_back_to(from);
        let (mut changes, mut bytes, mut next) = (VecDeque::new(), 0, from);
        for recorded in history.from(from).take_while(|_| !self.lost) {
            if bytes >= CHUNK_BYTES {
                self.replay = Some(next);
                return changes;
            }
            next = recorded.position + 1;
            let Change { network, table, key, .. } = &recorded.change;
            let wanted = filter.wants_key(network, table, key);
            if let Some(seen) =
                wanted.then(|| recorded.of_owners(|owner| filter.wants_owner(owner, me))).flatten()
            {
                bytes += weight(&seen.change);
                changes.push_back(seen.into_owned());
            }
        }
        self.replay = None;
        if !self.lost {
            let present = replica.present(filter, false);
            self.follow_from_now(present);
        }
        changes
    }

    /// The next chunk of the snapshot, as creates; empty after the last, and for a watcher that has lagged. The
    /// caller holds the lock of the replica, so nothing is appended meanwhile.
    pub(crate) fn read(&mut self, replica: &Replica, filter: &WatchFilter) -> VecDeque<RecordedChange> {
        if let Some(from) = self.replay {
            return self.read_history(from, replica, filter);
        }
        if let Some(position) = self.position {
            if !self.look_at_changes(position) {
                return VecDeque::new();
            }
        } else {
            self.looked_to = self.log.enter();
            self.position = Some(self.looked_to);
        }
        let unread = &mut self.unread;
        let me = &replica.node().name;
        let (mut changes, mut bytes) = (VecDeque::new(), 0);
        let mut table = unread.at.as_ref().and_then(|(network, table)| replica.table(network, table));
        while bytes < CHUNK_BYTES && !unread.nothing {
            if let Some(key) = unread.keys.pop_front() {
                let (Some((network, name)), Some(table)) = (&unread.at, &table) else { continue };
                let Some(entry) = table.get(&key) else { continue };
                if !filter.wants_owner(entry.owner(), me) {
                    continue;
                }
                let record = entry.into_record();
                let change = Change {
                    kind: ChangeKind::Create,
                    network: network.clone(),
                    table: name.clone(),
                    key: Key::of(&record),
                    value: Some(Value::of(&record)),
                    previous: None,
                    version: Some(record.version()),
                    owner: record.tag().owner.name.clone(),
                    reason: None,
                };
                bytes += weight(&change);
                changes.push_back(RecordedChange::of_snapshot(change));
                continue;
            }
            if unread.listed_to.is_none() {
                let after = unread.at.as_ref().map(|(network, table)| (&**network, &**table));
                let Some((network, next)) = replica.next_table(after, filter) else {
                    *unread = Unread::read();
                    // All changes until now are before this position of the log.
                    self.present = self.wants_present.then(|| replica.present(filter, true));
                    break;
                };
                unread.at = Some((network, next.name.clone()));
                table = Some(next);
            }
            match &table {
                Some(table) => unread.list(table, &filter.prefix),
                None => unread.listed_to = None,
            }
        }
        changes
    }
}

/// The result of taking from a watch.
#[derive(Debug)]
pub(crate) enum Taken {
    /// A change.
    Change(Arc<RecordedChange>),
    /// The watcher knows all that had happened when this was made.
    Present(Present),
    /// The snapshot, or the history, is not completely read.
    Unread,
    /// The watcher has to start over.
    Lagged,
    /// No event now.
    Nothing,
    /// No more events.
    Closed,
}
