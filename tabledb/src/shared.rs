//! The state behind the handles of a database, and the lock of its replica.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};

use crate::replica::{Map, Replica, Table, View};

/// What all handles of a database share.
pub(crate) struct Shared {
    replica: Mutex<Replica>,
    pub(crate) views: Arc<Map<Arc<View>>>,
    pub(crate) waker: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Whether the driver has been handed out.
    pub(crate) driven: AtomicBool,
}

impl Shared {
    pub(crate) fn new(replica: Replica) -> Arc<Self> {
        let views = replica.views();
        let (waker, driven) = (OnceLock::new(), AtomicBool::new(false));
        Arc::new(Self { replica: Mutex::new(replica), views, waker, driven })
    }

    /// The table, if it exists.
    pub(crate) fn table(&self, network: &str, table: &str) -> Option<Arc<Table>> {
        self.views.get(network)?.table(table)
    }

    pub(crate) fn replica(&self) -> ReplicaGuard<'_> {
        ReplicaGuard(Some(self.replica.lock()))
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
        replica.take_watch_wakers().into_iter().for_each(Waker::wake);
    }
}

/// The replica behind a database, locked: for driving the replication. Hold it briefly.
#[derive(Debug)]
pub struct ReplicaGuard<'a>(Option<MutexGuard<'a, Replica>>);

const LOCKED: &str = "locked until it is dropped";

impl Deref for ReplicaGuard<'_> {
    type Target = Replica;
    fn deref(&self) -> &Replica {
        self.0.as_ref().expect(LOCKED)
    }
}

impl DerefMut for ReplicaGuard<'_> {
    fn deref_mut(&mut self) -> &mut Replica {
        self.0.as_mut().expect(LOCKED)
    }
}

impl Drop for ReplicaGuard<'_> {
    fn drop(&mut self) {
        let wakers = self.take_watch_wakers();
        self.0 = None;
        // Not under the lock: a waker runs an executor's code.
        wakers.into_iter().for_each(Waker::wake);
    }
}
