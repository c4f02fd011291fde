//! The queue of changes for one watcher, bounded in number and in bytes, per watcher and for all watchers
//! together.
//!
//! A change that does not fit is dropped: the watcher starts over, and reads the missed changes from the
//! store. The initial snapshot is read from the store too, one chunk at a time, so that a stalled watcher
//! holds little memory.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{self, AtomicUsize};
use std::task::Waker;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

use super::Replica;
use super::view::Table;
use crate::record::Record;
use crate::{Change, ChangeKind, Key, Limits, Value, WatchFilter};

/// The size of a change without its key and values, in bytes.
const BESIDE_A_CHANGE: usize = 160;
const _: () = assert!(size_of::<Change>() <= BESIDE_A_CHANGE);

/// The size of a chunk of the snapshot, in bytes, plus the change that exceeds it. Small in tests, so that
/// they cover the boundaries.
const CHUNK_BYTES: usize = if cfg!(test) { 1 << 10 } else { 256 << 10 };

/// The limit on remembered keys that are still to be read, in bytes with their pointers.
const LISTED_BYTES: usize = if cfg!(test) { 256 } else { 1 << 20 };

/// The accounted size of a change.
pub(crate) fn weight(change: &Change) -> usize {
    let value = |value: &Option<crate::Value>| value.as_ref().map_or(0, |value| value.len());
    BESIDE_A_CHANGE + change.key.len() + value(&change.value) + value(&change.previous)
}

/// Limits on waiting changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueLimits {
    /// Changes of one watcher.
    pub(crate) changes: usize,
    /// Bytes of one watcher.
    pub(crate) bytes: usize,
    /// Bytes of all watchers.
    pub(crate) bytes_in_all: usize,
}

impl From<&Limits> for QueueLimits {
    fn from(limits: &Limits) -> Self {
        let Limits { watch_queue, watch_bytes, watch_bytes_total, .. } = *limits;
        Self { changes: watch_queue, bytes: watch_bytes, bytes_in_all: watch_bytes_total }
    }
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self::from(&Limits::default())
    }
}

/// The queue between the replica and one watcher.
#[derive(Debug)]
pub(crate) struct WatchQueue {
    state: Mutex<State>,
    /// Holds a token while the watcher may not have looked at the latest event.
    arrived: (Sender<()>, Receiver<()>),
    /// The task that waits for the queue, if the watcher is awaited.
    waker: Mutex<Option<Waker>>,
    /// The bytes in all queues of the database.
    in_all: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    changes: VecDeque<Change>,
    bytes: usize,
    /// A change did not fit: nothing is queued until the watcher starts over.
    lagged: bool,
    /// No more events follow.
    closed: bool,
    unread: Unread,
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
    /// Whether a key is still to be read: its changes until then need not be queued.
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

    /// Lists the next keys of `table`.
    fn list(&mut self, table: &Table) {
        let after = self.listed_to.take();
        let mut smallest = BinaryHeap::<Arc<str>>::new();
        let mut bytes = 0;
        let weight = |key: &Arc<str>| key.len() + size_of::<Arc<str>>();
        for record in table.records.iter().filter(Record::is_visible) {
            let key = record.key();
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

impl WatchQueue {
    pub(crate) fn new(in_all: Arc<AtomicUsize>) -> Self {
        Self {
            state: Mutex::default(),
            arrived: crossbeam_channel::bounded(1),
            waker: Mutex::default(),
            in_all,
        }
    }

    /// Queues a change, unless the watcher has to start over anyway. False if it has to from now on.
    pub(super) fn push(&self, change: Change, limits: QueueLimits, wakers: &mut Vec<Waker>) -> bool {
        let mut state = self.state.lock();
        let weight = weight(&change);
        let fits = state.changes.is_empty()
            || (state.changes.len() < limits.changes && state.bytes + weight <= limits.bytes);
        if !fits {
            drop(state);
            self.lag(wakers);
            return false;
        }
        state.bytes += weight;
        self.in_all.fetch_add(weight, atomic::Ordering::Relaxed);
        state.changes.push_back(change);
        drop(state);
        self.wake(wakers);
        true
    }

    /// Whether a change of this key is not queued: the watcher will read the key, or everything, from the
    /// store.
    pub(super) fn skips(&self, change: &Change) -> bool {
        let state = self.state.lock();
        state.lagged || state.closed || state.unread.contains(&change.network, &change.table, &change.key)
    }

    /// Drops the waiting changes, and makes the watcher start over.
    pub(super) fn lag(&self, wakers: &mut Vec<Waker>) {
        let mut state = self.state.lock();
        self.forget(&mut state);
        state.lagged = true;
        drop(state);
        self.wake(wakers);
    }

    /// The number and the bytes of the waiting changes.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.changes.len(), state.bytes)
    }

    /// Marks the end: no more events follow.
    pub(super) fn close(&self, wakers: &mut Vec<Waker>) {
        self.state.lock().closed = true;
        self.wake(wakers);
    }

    /// Drops everything, for a watcher that no longer exists.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        self.forget(&mut state);
        state.closed = true;
    }

    fn forget(&self, state: &mut State) {
        self.in_all.fetch_sub(state.bytes, atomic::Ordering::Relaxed);
        *state = State {
            closed: state.closed,
            unread: Unread { nothing: true, ..Unread::default() },
            ..State::default()
        };
    }

    /// The next result for the watcher.
    pub(crate) fn take(&self) -> Taken {
        let mut state = self.state.lock();
        if state.lagged && !state.closed {
            return Taken::Lagged;
        }
        if !state.unread.nothing && !state.closed {
            return Taken::Unread;
        }
        match state.changes.pop_front() {
            Some(change) => {
                let weight = weight(&change);
                state.bytes -= weight;
                self.in_all.fetch_sub(weight, atomic::Ordering::Relaxed);
                Taken::Change(change)
            }
            None if state.closed => Taken::Closed,
            None => Taken::Nothing,
        }
    }

    /// Blocks until there is a result, at most for `timeout` if there is one. There is one watcher per queue, so
    /// no other takes its token.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        // A token of an event that the watcher has already seen.
        let _ = self.arrived.1.try_recv();
        let nothing = {
            let state = self.state.lock();
            state.changes.is_empty() && !state.closed && !state.lagged && state.unread.nothing
        };
        if nothing {
            let _ = match timeout {
                Some(timeout) => self.arrived.1.recv_timeout(timeout).map_err(drop),
                None => self.arrived.1.recv().map_err(drop),
            };
        }
    }

    /// Wakes this task at the next event. To be called before the last look at the queue.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut registered = self.waker.lock();
        match &mut *registered {
            Some(registered) => registered.clone_from(waker),
            None => *registered = Some(waker.clone()),
        }
    }

    /// Signals an event. A waker runs an executor's code, so the caller gets it, to wake it without locks.
    fn wake(&self, wakers: &mut Vec<Waker>) {
        let _ = self.arrived.0.try_send(());
        wakers.extend(self.waker.lock().take());
    }

    /// Restarts the snapshot. The caller holds the lock of the replica.
    pub(crate) fn start_over(&self) {
        let mut state = self.state.lock();
        self.forget(&mut state);
        state.unread = Unread::default();
    }

    /// The next chunk of the snapshot, as creates; empty after the last. The caller holds the lock of the
    /// replica.
    pub(crate) fn read(&self, replica: &Replica, filter: &WatchFilter) -> VecDeque<Change> {
        let mut state = self.state.lock();
        let unread = &mut state.unread;
        let me = &replica.node().name;
        let (mut changes, mut bytes) = (VecDeque::new(), 0);
        let mut table = unread.at.as_ref().and_then(|(network, table)| replica.table(network, table));
        while bytes < CHUNK_BYTES && !unread.nothing {
            if let Some(key) = unread.keys.pop_front() {
                let (Some((network, name)), Some(table)) = (&unread.at, &table) else { continue };
                let Some(entry) = table.get(&key) else { continue };
                if !filter.wants(network, name, entry.owner(), me) {
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
                changes.push_back(change);
                continue;
            }
            if unread.listed_to.is_none() {
                let after = unread.at.as_ref().map(|(network, table)| (&**network, &**table));
                let Some((network, next)) = replica.next_table(after, filter) else {
                    *unread = Unread { nothing: true, ..Unread::default() };
                    break;
                };
                unread.at = Some((network, next.name.clone()));
                table = Some(next);
            }
            match &table {
                Some(table) => unread.list(table),
                None => unread.listed_to = None,
            }
        }
        changes
    }
}

/// The result of taking from the queue.
#[derive(Debug)]
pub(crate) enum Taken {
    /// A change.
    Change(Change),
    /// The snapshot is not completely read.
    Unread,
    /// The watcher has to start over.
    Lagged,
    /// No event now.
    Nothing,
    /// No more events.
    Closed,
}
