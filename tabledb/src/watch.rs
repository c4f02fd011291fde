//! Watching changes: an atomic snapshot, then every change, in order, in bounded memory.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::change::{Change, RecordedChange, WatchFilter};
use crate::host_clock::monotonic_now;
use crate::replica::{Present, Taken, WatchCursor};
use crate::shared::Shared;

/// What a watcher receives.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: a watcher that ignored one would hold a wrong table.
pub enum WatchEvent {
    /// One change.
    Change(Change),
    /// The watcher lagged and changes were dropped: discard everything; a fresh snapshot follows as creates.
    Lagged,
    /// The database has ended: no more changes follow, and the state of the entries is unknown from now on.
    /// Every further call returns this again.
    Closed,
}

/// An event, and the end of the past for those who want to know it.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most are changes, and a box would be an allocation for each")]
pub(crate) enum Step {
    Change(RecordedChange),
    Present(Present),
    Lagged,
    Closed,
}

impl Step {
    /// The event, if a [`Watch`] reports it.
    fn event(self) -> Option<WatchEvent> {
        match self {
            Self::Change(recorded) => Some(WatchEvent::Change(recorded.change)),
            Self::Present(_) => None,
            Self::Lagged => Some(WatchEvent::Lagged),
            Self::Closed => Some(WatchEvent::Closed),
        }
    }
}

/// A subscription: first a create for each visible entry, then each change, in order and without a gap.
///
/// Watches with the same filter read one log, each at its own pace, and a change is in it once: a write costs the
/// same for one of them and for a thousand. At most [`Limits::watch_queue`](crate::Limits::watch_queue)
/// changes and [`Limits::watch_bytes`](crate::Limits::watch_bytes) bytes are in the log, from the oldest one
/// that any of them has not taken. Beyond that, the oldest are dropped; a watcher that has not taken one of them
/// receives [`WatchEvent::Lagged`] once, and a fresh snapshot follows. The others notice nothing.
///
/// The snapshot is read from the store as the caller takes it, a chunk of 256 KiB at a time, so a watch that nobody
/// reads holds no more than a chunk and the log. Changes of keys that it has still to read stay in the log until
/// its next chunk. Dropping the watch ends the subscription. When the database ends, the watcher receives
/// [`WatchEvent::Closed`] and no deletes.
#[derive(Debug)]
pub struct Watch {
    database: Weak<Shared>,
    filter: WatchFilter,
    /// The chunk of the snapshot that has been read.
    snapshot: VecDeque<RecordedChange>,
    cursor: WatchCursor,
    /// For a thread that waits.
    waiting: Option<WaitingThread>,
}

/// How a thread waits for a watch.
#[derive(Debug)]
struct WaitingThread {
    waker: Waker,
    woken: Receiver<()>,
}

/// Wakes a thread that waits for the other end.
struct Token(Sender<()>);

impl Wake for Token {
    fn wake(self: Arc<Self>) {
        // A token that is still there does the same.
        let _ = self.0.try_send(());
    }
}

impl WaitingThread {
    fn new() -> Self {
        let (sender, woken) = crossbeam_channel::bounded(1);
        Self { waker: Arc::new(Token(sender)).into(), woken }
    }
}

impl Watch {
    pub(crate) fn new(
        database: Weak<Shared>,
        filter: WatchFilter,
        snapshot: VecDeque<RecordedChange>,
        cursor: WatchCursor,
    ) -> Self {
        Self { database, filter, snapshot, cursor, waiting: None }
    }

    /// The next event. Waits up to `timeout`, and returns `None` when no event came.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<WatchEvent> {
        let deadline = monotonic_now().checked_add(timeout);
        loop {
            match self.try_next() {
                None if self.wait(deadline) => {}
                event => return event,
            }
        }
    }

    /// Blocks until there may be an event. False if the deadline passed before.
    fn wait(&mut self, deadline: Option<Instant>) -> bool {
        let thread = self.waiting.get_or_insert_with(WaitingThread::new);
        // A token of an event that has been taken already.
        let _ = thread.woken.try_recv();
        if !self.cursor.sleep(&thread.waker) {
            return true;
        }
        match deadline {
            Some(deadline) => thread.woken.recv_deadline(deadline).is_ok(),
            None => thread.woken.recv().is_ok(),
        }
    }

    /// The next event if there is one now.
    pub fn try_next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(event) = self.try_step()?.event() {
                return Some(event);
            }
        }
    }

    pub(crate) fn try_step(&mut self) -> Option<Step> {
        loop {
            if let Some(change) = self.snapshot.pop_front() {
                return Some(Step::Change(change));
            }
            match self.cursor.take() {
                Taken::Change(change) => return Some(Step::Change(Arc::unwrap_or_clone(change))),
                Taken::Present(present) => return Some(Step::Present(present)),
                Taken::Closed => return Some(Step::Closed),
                Taken::Nothing => return None,
                Taken::Unread => {
                    let Some(database) = self.database.upgrade() else { return Some(Step::Closed) };
                    self.snapshot = self.cursor.read(&database.replica(), &self.filter);
                }
                Taken::Lagged => {
                    // The snapshot is read by later calls: a task that awaits this event can leave them to a
                    // thread that may block.
                    self.cursor.start_over();
                    return Some(Step::Lagged);
                }
            }
        }
    }

    /// The next event, as soon as there is one, on any async runtime: nothing polls and no thread waits. Cancel
    /// safe: a `select!` loop loses no event.
    pub async fn recv(&mut self) -> WatchEvent {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    /// [`Self::recv`] for futures and streams that are written by hand.
    ///
    /// A call reads a chunk of a snapshot from the store while there is one to read: after the start of the watch, and
    /// after [`WatchEvent::Lagged`], which itself reads nothing. Of a large table, that takes milliseconds. A task
    /// that may not take so long calls [`Self::try_next`] on a thread that may block, from the start and after each
    /// [`WatchEvent::Lagged`], until it returns `None`.
    ///
    /// The waker is called by the thread that makes the change, without a lock of the database, or, if more than eight
    /// watches sleep, by whom the driver has set ([`Driver::set_watch_notifier`](crate::Driver::set_watch_notifier)): in
    /// a node, a task. In a node the thread that makes the change may hold the node's own lock: a waker schedules its
    /// task, as those of all runtimes do, and does not call the node.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<WatchEvent> {
        loop {
            match self.poll_step(context).map(Step::event) {
                Poll::Ready(None) => {}
                Poll::Ready(Some(event)) => return Poll::Ready(event),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    pub(crate) fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        loop {
            if let Some(step) = self.try_step() {
                return Poll::Ready(step);
            }
            if self.cursor.sleep(context.waker()) {
                return Poll::Pending;
            }
        }
    }
}

/// Blocks until the next event; ends when the database ends.
impl Iterator for Watch {
    type Item = WatchEvent;

    fn next(&mut self) -> Option<WatchEvent> {
        loop {
            match self.try_next() {
                Some(WatchEvent::Closed) => return None,
                Some(event) => return Some(event),
                None => {
                    self.wait(None);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use wire::NodeName;

    use crate::{Config, NodeId, TableDb};

    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn database() -> TableDb {
        let database = TableDb::new(Config::new(NodeId::new(NodeName::new("n").unwrap(), 1))).unwrap();
        database.join_network("net").unwrap();
        database
    }

    /// The result of `work`, which must not take for ever.
    fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        thread::spawn(move || sender.send(work()));
        receiver.recv_timeout(Duration::from_secs(20)).expect("still at work after 20 s")
    }

    fn key_of(event: Poll<WatchEvent>) -> Option<String> {
        match event {
            Poll::Ready(WatchEvent::Change(change)) => Some(change.key.to_string()),
            _ => None,
        }
    }

    #[test]
    fn an_awaited_watch_is_woken_once_for_each_wait() {
        let database = database();
        let mut watch = database.watch(WatchFilter::default());
        let woken = Arc::new(Counted(AtomicUsize::new(0)));
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        assert_eq!(watch.poll_recv(&mut context), Poll::Pending);
        database.create("net", "t", "a", *b"1").unwrap();
        database.create("net", "t", "b", *b"2").unwrap();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(key_of(watch.poll_recv(&mut context)).as_deref(), Some("a"));
        assert_eq!(key_of(watch.poll_recv(&mut context)).as_deref(), Some("b"));
        assert_eq!(watch.poll_recv(&mut context), Poll::Pending);
        database.end_watches();
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
        assert_eq!(watch.poll_recv(&mut context), Poll::Ready(WatchEvent::Closed));
    }

    /// A thousand watchers must not cost the one who writes a thousand wake-ups, and a notifier that is late must not
    /// hold more than one for each.
    #[test]
    fn many_sleeping_watches_are_woken_once_each_by_the_notifier() {
        let database = database();
        let handed_over = Arc::<parking_lot::Mutex<Vec<crate::SleepingWatches>>>::default();
        let notifier = handed_over.clone();
        database.driver().unwrap().set_watch_notifier(move |watches| notifier.lock().push(watches));
        let woken = Arc::new(Counted(AtomicUsize::new(0)));
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        let mut watches: Vec<Watch> = (0..20).map(|_| database.watch(WatchFilter::default())).collect();
        for key in ["a", "b"] {
            // The second time they wait again before they are woken.
            assert!(watches.iter_mut().all(|watch| watch.poll_recv(&mut context).is_pending()));
            database.create("net", "t", key, *b"1").unwrap();
            for watch in &mut watches {
                assert_eq!(key_of(watch.poll_recv(&mut context)).as_deref(), Some(key));
            }
        }
        let mut batches = std::mem::take(&mut *handed_over.lock());
        assert_eq!(batches.iter().map(crate::SleepingWatches::len).collect::<Vec<_>>(), [20]);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0, "by the one who writes");
        assert!(batches[0].wake(5));
        assert_eq!(woken.0.load(Ordering::Relaxed), 5);
        drop(batches);
        assert_eq!(woken.0.load(Ordering::Relaxed), 20, "none is forgotten");
    }

    /// A search through a large table would delay the other tasks of the executor.
    #[test]
    fn a_lagged_watch_says_so_before_it_reads_the_store() {
        let mut config = Config::new(NodeId::new(NodeName::new("n").unwrap(), 1));
        config.limits.watch_queue = 2;
        let database = TableDb::new(config).unwrap();
        database.join_network("net").unwrap();
        let mut watch = database.watch(WatchFilter::default());
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(watch.poll_recv(&mut context), Poll::Pending);
        for key in ["a", "b", "c"] {
            database.create("net", "t", key, *b"1").unwrap();
        }
        assert_eq!(watch.poll_recv(&mut context), Poll::Ready(WatchEvent::Lagged));
        assert!(watch.snapshot.is_empty(), "{:?}", watch.snapshot);
        database.create("net", "t", "d", *b"1").unwrap();
        let keys = std::iter::from_fn(|| key_of(watch.poll_recv(&mut context))).collect::<Vec<_>>();
        assert_eq!(keys, ["a", "b", "c", "d"]);
        assert_eq!(watch.poll_recv(&mut context), Poll::Pending);
    }

    /// A waker that uses the database would wait for ever for a lock that its own thread holds.
    #[test]
    fn no_lock_is_held_when_a_task_is_woken() {
        struct Reader(TableDb);
        impl Wake for Reader {
            fn wake(self: Arc<Self>) {
                assert!(self.0.replica().node().generation > 0);
            }
        }
        let database = database();
        let mut watch = database.watch(WatchFilter::default());
        let waker = Waker::from(Arc::new(Reader(database.clone())));
        assert_eq!(watch.poll_recv(&mut Context::from_waker(&waker)), Poll::Pending);
        in_time(move || database.create("net", "t", "a", *b"1").unwrap());
        assert!(watch.try_next().is_some());
    }

    #[test]
    fn a_watch_ends_with_the_last_handle_of_its_database() {
        let database = database();
        let mut watch = database.watch(WatchFilter::default());
        database.create("net", "t", "a", *b"1").unwrap();
        thread::spawn(move || drop(database));
        let read = in_time(move || (watch.by_ref().count(), watch.try_next()));
        assert_eq!(read, (1, Some(WatchEvent::Closed)));
    }
}
