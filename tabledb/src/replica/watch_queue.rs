//! The queue of changes for one watcher: bounded in number and in bytes, for it and for all watchers together.
//!
//! A change that does not fit is dropped: the watcher starts over, and reads what it missed from the store. The initial snapshot is
//! read from the store too, a chunk at a time, so that a stalled watcher holds next to nothing.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{self, AtomicUsize};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

use super::Replica;
use super::view::Table;
use crate::{Change, ChangeKind, Limits, WatchFilter};

/// What a change takes beside its key and values, in bytes.
const BESIDE_A_CHANGE: usize = 128;

/// Of what is there at the beginning, so many bytes are read from the store at a time, and the change that exceeds them. Few in
/// tests, so that they meet the seams.
const CHUNK_BYTES: usize = if cfg!(test) { 1 << 10 } else { 256 << 10 };

/// So many bytes of keys, with their pointers, are remembered that are still to be read.
const LISTED_BYTES: usize = if cfg!(test) { 256 } else { 1 << 20 };

/// What a change counts for.
pub(crate) fn weight(change: &Change) -> usize {
    let value = |value: &Option<crate::Value>| value.as_ref().map_or(0, |value| value.len());
    BESIDE_A_CHANGE + change.key.len() + value(&change.value) + value(&change.previous)
}

/// How much may wait.
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
    /// Full while there may be something that the watcher has not looked at.
    arrived: (Sender<()>, Receiver<()>),
    /// The bytes in all queues of the database.
    in_all: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    changes: VecDeque<Change>,
    bytes: usize,
    /// Something did not fit: nothing more is queued until the watcher starts over.
    lagged: bool,
    /// Nothing follows any more.
    closed: bool,
    unread: Unread,
}

/// What of the beginning is still to be read from the store, in the order of networks, tables and keys.
#[derive(Debug, Default)]
struct Unread {
    /// Where reading has come to: a network and a table. Everything in later ones is unread; all, if there is none.
    at: Option<(Arc<str>, Arc<str>)>,
    /// Of that table, the keys that have been listed and are unread, in order.
    keys: VecDeque<Arc<str>>,
    /// Of that table, the key behind which nothing has been listed yet.
    listed_to: Option<Arc<str>>,
    nothing: bool,
}

impl Unread {
    /// Whether a key will be read: then its changes until then need not be told.
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
        for record in &table.records {
            let key = record.key();
            if after.as_ref().is_some_and(|after| key <= after)
                || record.visible().is_none()
                || (self.listed_to.is_some() && smallest.peek().is_some_and(|largest| key > largest))
            {
                continue;
            }
            bytes += weight(key);
            smallest.push(key.clone());
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
        Self { state: Mutex::default(), arrived: crossbeam_channel::bounded(1), in_all }
    }

    /// Puts a change in, unless the watcher has to start over anyway. False if it has to from now on.
    pub(super) fn push(&self, change: Change, limits: QueueLimits) -> bool {
        let mut state = self.state.lock();
        let weight = weight(&change);
        let fits = state.changes.is_empty()
            || (state.changes.len() < limits.changes && state.bytes + weight <= limits.bytes);
        if !fits {
            drop(state);
            self.lag();
            return false;
        }
        state.bytes += weight;
        self.in_all.fetch_add(weight, atomic::Ordering::Relaxed);
        state.changes.push_back(change);
        drop(state);
        self.wake();
        true
    }

    /// Whether a change of this key is not to be told: the watcher will read the key, or everything, from the store.
    pub(super) fn skips(&self, change: &Change) -> bool {
        let state = self.state.lock();
        state.lagged || state.closed || state.unread.contains(&change.network, &change.table, &change.key)
    }

    /// Forgets what waits, and has the watcher start over.
    pub(super) fn lag(&self) {
        let mut state = self.state.lock();
        self.forget(&mut state);
        state.lagged = true;
        drop(state);
        self.wake();
    }

    /// The number and the bytes of the changes that wait.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.changes.len(), state.bytes)
    }

    /// Says that nothing follows any more.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.wake();
    }

    /// Forgets everything, for a watcher that is gone.
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

    /// What there is for the watcher now.
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

    /// Waits for something to take, no longer than `timeout`. There is one watcher, so nobody else takes its signal.
    pub(crate) fn wait(&self, timeout: Duration) {
        // Of what it has looked at already.
        let _ = self.arrived.1.try_recv();
        let nothing = {
            let state = self.state.lock();
            state.changes.is_empty() && !state.closed && !state.lagged && state.unread.nothing
        };
        if nothing {
            let _ = self.arrived.1.recv_timeout(timeout);
        }
    }

    fn wake(&self) {
        let _ = self.arrived.0.try_send(());
    }

    /// Begins at the beginning. The replica is locked, so nothing happens meanwhile.
    pub(crate) fn start_over(&self) {
        let mut state = self.state.lock();
        self.forget(&mut state);
        state.unread = Unread::default();
    }

    /// The next chunk of what was there at the beginning, as creates; empty after the last. The replica is locked, so nothing
    /// happens meanwhile.
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
                if !filter.wants(network, name, &entry.owner, me) {
                    continue;
                }
                let change = Change {
                    kind: ChangeKind::Create,
                    network: network.clone(),
                    table: name.clone(),
                    key: entry.key,
                    value: Some(entry.value),
                    previous: None,
                    owner: entry.owner,
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

/// What a watcher finds.
#[derive(Debug)]
pub(crate) enum Taken {
    /// A change.
    Change(Change),
    /// The beginning is not read to its end.
    Unread,
    /// It has to start over.
    Lagged,
    /// Nothing now.
    Nothing,
    /// Nothing any more.
    Closed,
}
