//! The log of changes that all watchers with one filter read, bounded in number and in bytes, for itself and for
//! all logs together.
//!
//! A change is in the log once, until the last watcher has taken it. Each watcher has a position: that of the
//! oldest change that it still has to receive. If the log grows beyond a limit it drops its oldest changes,
//! and the watchers whose position was among them have lagged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use crate::change::RecordedChange;
use crate::sleeping_watches::{Sleeper, SleepingWatches};
use crate::{Change, Limits};

/// The size of a change without its key and values, in bytes, with its counters and its place in the log.
const BESIDE_A_CHANGE: usize = 320;
const _: () = assert!(size_of::<RecordedChange>() + 16 + size_of::<Waiting>() <= BESIDE_A_CHANGE);

/// The accounted size of a change.
pub(super) fn weight(change: &Change) -> usize {
    let value = |value: &Option<crate::Value>| value.as_ref().map_or(0, |value| value.len());
    BESIDE_A_CHANGE + change.key.len() + value(&change.value) + value(&change.previous)
}

/// Limits on waiting changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogLimits {
    /// Changes of one log.
    pub(crate) changes: usize,
    /// Bytes of one log.
    pub(crate) bytes: usize,
    /// Bytes of all logs.
    pub(crate) bytes_in_all: usize,
}

impl From<&Limits> for LogLimits {
    fn from(limits: &Limits) -> Self {
        let Limits { watch_queue, watch_bytes, watch_bytes_total, .. } = *limits;
        Self { changes: watch_queue, bytes: watch_bytes, bytes_in_all: watch_bytes_total }
    }
}

impl Default for LogLimits {
    fn default() -> Self {
        Self::from(&Limits::default())
    }
}

/// The log between the replica and the watchers with one filter.
#[derive(Debug)]
pub(crate) struct WatchLog {
    state: Mutex<State>,
    /// The bytes in all logs of the database.
    in_all: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    /// Ascending, without a gap. The first one is the position of a watcher.
    changes: VecDeque<Waiting>,
    /// The position of the first change; of the next one, if there is none.
    first: u64,
    bytes: usize,
    /// How many watchers have taken all changes.
    at_end: usize,
    /// No more changes follow.
    closed: bool,
    /// Those that wait for the next change.
    sleeping: Vec<Arc<Sleeper>>,
    /// The position of the first change that watchers do not see yet: those of one step are seen together.
    held_from: Option<u64>,
}

/// A change that waits for watchers.
#[derive(Debug)]
struct Waiting {
    change: Arc<RecordedChange>,
    /// How many watchers have this position.
    watchers: usize,
}

/// What is at a watcher's position.
#[derive(Debug)]
pub(super) enum Found {
    /// The change that was taken.
    Change(Arc<RecordedChange>),
    /// Nothing yet.
    Nothing,
    /// Nothing, and nothing follows.
    Closed,
    /// The watcher has lagged: changes that it had to receive were dropped.
    Dropped,
}

impl State {
    fn end(&self) -> u64 {
        self.first + self.changes.len() as u64
    }

    fn is_dropped(&self, position: u64) -> bool {
        position < self.first
    }

    /// The position behind the last change that watchers see.
    fn end_of_visible(&self) -> u64 {
        self.held_from.unwrap_or(self.end())
    }

    fn get(&self, position: u64) -> Option<&Waiting> {
        self.changes.get(position.checked_sub(self.first)? as usize)
    }

    /// How many watchers are at a position that has not been dropped.
    fn watchers_at(&mut self, position: u64) -> &mut usize {
        match self.changes.get_mut((position - self.first) as usize) {
            Some(waiting) => &mut waiting.watchers,
            None => &mut self.at_end,
        }
    }

    /// Drops the oldest change, and all up to the next position of a watcher. Returns how many watchers have lagged.
    fn drop_oldest(&mut self) -> usize {
        let watchers = self.changes.front_mut().map_or(0, |oldest| std::mem::take(&mut oldest.watchers));
        self.trim();
        watchers
    }

    /// Drops what all watchers have taken.
    fn trim(&mut self) {
        while let Some(taken) = self.changes.pop_front_if(|oldest| oldest.watchers == 0) {
            self.first += 1;
            self.bytes -= weight(&taken.change.change);
        }
    }

    fn leave(&mut self, position: u64) {
        *self.watchers_at(position) -= 1;
        self.trim();
    }
}

impl WatchLog {
    /// An empty log, whose bytes are added to `in_all`.
    pub(super) fn new(in_all: Arc<AtomicUsize>) -> Self {
        Self { state: Mutex::default(), in_all }
    }

    /// Changes the state, and accounts for the bytes that this adds or frees.
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let before = state.bytes;
        let result = change(&mut state);
        // Wraps where bytes were freed, as the counter does.
        self.in_all.fetch_add(state.bytes.wrapping_sub(before), Ordering::Relaxed);
        result
    }

    // The replica's end.

    /// Appends a change, unless no watcher would receive it, and adds those that wait for it to `woken`. Returns how
    /// many watchers have lagged.
    pub(super) fn append(
        &self,
        change: &Arc<RecordedChange>,
        limits: LogLimits,
        woken: &mut SleepingWatches,
    ) -> usize {
        self.with(|state| {
            if state.changes.is_empty() && state.at_end == 0 {
                return 0;
            }
            state.bytes += weight(&change.change);
            let watchers = std::mem::take(&mut state.at_end);
            state.changes.push_back(Waiting { change: change.clone(), watchers });
            woken.add(std::mem::take(&mut state.sleeping));
            let mut lagged = 0;
            while state.changes.len() > 1
                && (state.changes.len() > limits.changes || state.bytes > limits.bytes)
            {
                lagged += state.drop_oldest();
            }
            lagged
        })
    }

    /// Watchers do not see what is appended from now on, until [`Self::release`]. False if that was so already.
    pub(super) fn hold(&self) -> bool {
        let mut state = self.state.lock();
        let is_first = state.held_from.is_none();
        state.held_from = Some(state.end_of_visible());
        is_first
    }

    /// Watchers see all changes again.
    pub(super) fn release(&self, woken: &mut SleepingWatches) {
        let mut state = self.state.lock();
        state.held_from = None;
        // Those that have begun to wait meanwhile.
        woken.add(std::mem::take(&mut state.sleeping));
    }

    /// Drops the older half of the changes, but not the last. Returns how many watchers have lagged.
    pub(super) fn drop_older_half(&self) -> usize {
        self.with(|state| {
            let (goal, mut lagged) = (state.bytes / 2, 0);
            while state.changes.len() > 1 && state.bytes > goal {
                lagged += state.drop_oldest();
            }
            lagged
        })
    }

    /// The number and the bytes of the waiting changes.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.changes.len(), state.bytes)
    }

    /// Marks the end: no more changes follow.
    pub(super) fn close(&self, woken: &mut SleepingWatches) {
        let mut state = self.state.lock();
        state.closed = true;
        woken.add(std::mem::take(&mut state.sleeping));
    }

    // A watcher's end.

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// The position of a watcher that receives what is appended from now on.
    pub(super) fn enter(&self) -> u64 {
        let mut state = self.state.lock();
        state.at_end += 1;
        state.end()
    }

    /// The watcher at this position needs no more changes.
    pub(super) fn leave(&self, position: u64) {
        self.with(|state| {
            if !state.is_dropped(position) {
                state.leave(position);
            }
        });
    }

    /// Takes the change at a watcher's position, which is then `next`.
    pub(super) fn take(&self, position: u64, next: u64) -> Found {
        self.with(|state| {
            let visible = state.get(position).filter(|_| position < state.end_of_visible());
            let Some(waiting) = visible else {
                return match state.is_dropped(position) {
                    _ if state.closed => Found::Closed,
                    true => Found::Dropped,
                    false => Found::Nothing,
                };
            };
            let change = waiting.change.clone();
            *state.watchers_at(next) += 1;
            state.leave(position);
            Found::Change(change)
        })
    }

    /// Moves a watcher to a later position. False if it has lagged.
    pub(super) fn skip(&self, position: u64, next: u64) -> bool {
        self.with(|state| {
            if state.is_dropped(position) {
                return false;
            }
            *state.watchers_at(next) += 1;
            state.leave(position);
            true
        })
    }

    /// Calls `visit` for up to `most` changes from a position on. Returns whether there are more.
    pub(super) fn visit(&self, from: u64, most: usize, mut visit: impl FnMut(&Change)) -> bool {
        let state = self.state.lock();
        let Some(at) = from.checked_sub(state.first) else { return false };
        let at = at as usize;
        state
            .changes
            .range(at..state.changes.len().min(at + most))
            .for_each(|waiting| visit(&waiting.change.change));
        at + most < state.changes.len()
    }

    /// Wakes this task at the next event, if there is nothing for the watcher at this position now.
    pub(super) fn sleep(&self, position: u64, sleeper: &Arc<Sleeper>, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if state.closed || position < state.end_of_visible() {
            return false;
        }
        let (to_list, former) = sleeper.register(waker);
        if to_list {
            state.sleeping.push(sleeper.clone());
        }
        drop(state);
        // Not under the lock: an executor's code.
        drop(former);
        true
    }

    /// The sleeper no longer exists.
    pub(super) fn forget(&self, sleeper: &Arc<Sleeper>) {
        self.state.lock().sleeping.retain(|listed| !Arc::ptr_eq(listed, sleeper));
    }
}
