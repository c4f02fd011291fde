//! Watching changes: an atomic snapshot, then every change, in order, in bounded memory.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::change::{Change, WatchFilter};
use crate::replica::{Taken, WatchQueue};
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

/// A subscription: first a create for each visible entry, then each change, in order and without a gap.
///
/// The snapshot is read from the store as the caller takes it, so a watch that nobody reads holds little
/// memory. At most [`Limits::watch_queue`](crate::Limits::watch_queue) changes and
/// [`Limits::watch_bytes`](crate::Limits::watch_bytes) bytes wait for it. Beyond that, changes are dropped,
/// the watcher receives [`WatchEvent::Lagged`] once, and a fresh snapshot follows. Dropping the watch ends
/// the subscription. When the database ends, the watcher receives [`WatchEvent::Closed`] and no deletes.
#[derive(Debug)]
pub struct Watch {
    database: Weak<Shared>,
    filter: WatchFilter,
    /// The chunk of the snapshot that has been read.
    snapshot: VecDeque<Change>,
    queue: Arc<WatchQueue>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.queue.abandon();
    }
}

impl Watch {
    pub(crate) fn new(
        database: Weak<Shared>,
        filter: WatchFilter,
        snapshot: VecDeque<Change>,
        queue: Arc<WatchQueue>,
    ) -> Self {
        Self { database, filter, snapshot, queue }
    }

    /// The next event. Waits up to `timeout`, and returns `None` when no event came.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<WatchEvent> {
        if let Some(event) = self.try_next() {
            return Some(event);
        }
        self.queue.wait(Some(timeout));
        self.try_next()
    }

    /// The next event if there is one now.
    pub fn try_next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(change) = self.snapshot.pop_front() {
                return Some(WatchEvent::Change(change));
            }
            match self.queue.take() {
                Taken::Change(change) => return Some(WatchEvent::Change(change)),
                Taken::Closed => return Some(WatchEvent::Closed),
                Taken::Nothing => return None,
                Taken::Unread => {
                    let Some(database) = self.database.upgrade() else { return Some(WatchEvent::Closed) };
                    self.snapshot = self.queue.read(&database.replica(), &self.filter);
                }
                Taken::Lagged => {
                    // The snapshot is read by later calls: a task that awaits this event can leave them to a
                    // thread that may block.
                    let Some(database) = self.database.upgrade() else { return Some(WatchEvent::Closed) };
                    // No write is between its look at this queue and its push: what it pushed now would be
                    // read from the store too.
                    let _replica = database.replica();
                    self.queue.start_over();
                    return Some(WatchEvent::Lagged);
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
    /// The waker is called by the thread that makes the change, without a lock of the database. In a node that thread
    /// may hold the node's own lock: a waker schedules its task, as those of all runtimes do, and does not call the node.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<WatchEvent> {
        if let Some(event) = self.try_next() {
            return Poll::Ready(event);
        }
        // Registered before the last look, so that an event in between wakes the task.
        self.queue.register(context.waker());
        self.try_next().map_or(Poll::Pending, Poll::Ready)
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
                None => self.queue.wait(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};
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

    fn key(event: Poll<WatchEvent>) -> Option<String> {
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
        assert_eq!(key(watch.poll_recv(&mut context)).as_deref(), Some("a"));
        assert_eq!(key(watch.poll_recv(&mut context)).as_deref(), Some("b"));
        assert_eq!(watch.poll_recv(&mut context), Poll::Pending);
        database.end_watches();
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
        assert_eq!(watch.poll_recv(&mut context), Poll::Ready(WatchEvent::Closed));
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
        let keys = std::iter::from_fn(|| key(watch.poll_recv(&mut context))).collect::<Vec<_>>();
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
