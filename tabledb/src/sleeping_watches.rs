//! Tasks and threads that wait for a watch.

use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

/// The one who waits for a watch.
#[derive(Debug, Default)]
pub(crate) struct Sleeper(Mutex<Sleep>);

#[derive(Debug, Default)]
struct Sleep {
    waker: Option<Waker>,
    /// It is in a list of those to wake. It is in one at most, so all lists together are no longer than the
    /// number of watches, however late they are worked off.
    listed: bool,
}

impl Sleeper {
    /// Wakes this task at the next event. Returns whether the caller has to list the sleeper, and the former waker: to
    /// be dropped without a lock, because it is an executor's code.
    pub(crate) fn register(&self, waker: &Waker) -> (bool, Option<Waker>) {
        let mut sleep = self.0.lock();
        let is_same = sleep.waker.as_ref().is_some_and(|registered| registered.will_wake(waker));
        let former = if is_same { None } else { sleep.waker.replace(waker.clone()) };
        (!std::mem::replace(&mut sleep.listed, true), former)
    }

    fn wake(&self) {
        let mut sleep = self.0.lock();
        sleep.listed = false;
        let waker = sleep.waker.take();
        drop(sleep);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// The tasks and threads to wake after a change, see
/// [`Driver::set_watch_notifier`](crate::Driver::set_watch_notifier). Dropping it wakes those that are left, so no
/// watcher misses an event.
#[derive(Debug, Default)]
#[must_use = "dropping it wakes all of them at once"]
pub struct SleepingWatches(Vec<Vec<Arc<Sleeper>>>);

impl SleepingWatches {
    pub(crate) fn add(&mut self, list: Vec<Arc<Sleeper>>) {
        if !list.is_empty() {
            self.0.push(list);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Wakes up to `most` of them. Returns whether any are left.
    pub fn wake(&mut self, most: usize) -> bool {
        for _ in 0..most {
            let Some(list) = self.0.last_mut() else { break };
            if let Some(sleeper) = list.pop() {
                sleeper.wake();
            }
            if list.is_empty() {
                self.0.pop();
            }
        }
        !self.is_empty()
    }
}

impl Drop for SleepingWatches {
    fn drop(&mut self) {
        self.wake(usize::MAX);
    }
}
