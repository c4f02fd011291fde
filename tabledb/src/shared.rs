//! The state behind the handles of a database, and the lock of its replica.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};

use crate::SleepingWatches;
use crate::replica::{Map, Replica, Table, View};

/// Called with the watches to wake.
type WatchNotifier = Box<dyn Fn(SleepingWatches) + Send + Sync>;

/// As many watches are woken at once. More of them go to the notifier, which itself has to be woken.
const WOKEN_AT_ONCE: usize = 8;

/// What all handles of a database share.
pub(crate) struct Shared {
    replica: Mutex<Replica>,
    pub(crate) views: Arc<Map<Arc<View>>>,
    pub(crate) waker: OnceLock<Box<dyn Fn() + Send + Sync>>,
    pub(crate) watch_notifier: OnceLock<WatchNotifier>,
    /// Whether the driver has been handed out.
    pub(crate) driven: AtomicBool,
}

impl Shared {
    pub(crate) fn new(replica: Replica) -> Arc<Self> {
        let views = replica.views();
        let (waker, watch_notifier, driven) = (OnceLock::new(), OnceLock::new(), AtomicBool::new(false));
        Arc::new(Self { replica: Mutex::new(replica), views, waker, watch_notifier, driven })
    }

    /// The table, if it exists.
    pub(crate) fn table(&self, network: &str, table: &str) -> Option<Arc<Table>> {
        self.views.get(network)?.table(table)
    }

    pub(crate) fn replica(&self) -> ReplicaGuard<'_> {
        ReplicaGuard { replica: Some(self.replica.lock()), shared: self }
    }

    /// Wakes these watches, or has them woken. Not under a lock: a waker runs an executor's code.
    fn wake(&self, watches: SleepingWatches) {
        if watches.len() > WOKEN_AT_ONCE
            && let Some(notifier) = self.watch_notifier.get()
        {
            notifier(watches);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("networks", &self.views.len()).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A watch does not keep the database; it ends with it.
        let replica = self.replica.get_mut();
        replica.end_watches();
        drop(replica.take_woken_watches());
    }
}

/// The replica behind a database, locked: for driving the replication. Hold it briefly.
#[derive(Debug)]
pub struct ReplicaGuard<'a> {
    replica: Option<MutexGuard<'a, Replica>>,
    shared: &'a Shared,
}

const LOCKED: &str = "locked until it is dropped";

impl Deref for ReplicaGuard<'_> {
    type Target = Replica;
    fn deref(&self) -> &Replica {
        self.replica.as_ref().expect(LOCKED)
    }
}

impl DerefMut for ReplicaGuard<'_> {
    fn deref_mut(&mut self) -> &mut Replica {
        self.replica.as_mut().expect(LOCKED)
    }
}

impl Drop for ReplicaGuard<'_> {
    fn drop(&mut self) {
        let watches = self.take_woken_watches();
        self.replica = None;
        self.shared.wake(watches);
    }
}
