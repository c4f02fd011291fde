//! Which streams of a connection are in use. A connection is drained and shut down only once none is.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio_util::task::TaskTracker;

/// The streams in use on a connection.
#[derive(Debug)]
pub(crate) struct StreamsInUse {
    count: AtomicUsize,
    idle: Notify,
    tracker: TaskTracker,
    runtime: Handle,
}

impl StreamsInUse {
    /// `tracker` and `runtime` run the tasks that wait for the last acknowledgements.
    pub(crate) fn new(tracker: TaskTracker, runtime: Handle) -> Arc<Self> {
        Arc::new(Self { count: AtomicUsize::new(0), idle: Notify::new(), tracker, runtime })
    }

    /// Counts one more stream, until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>, permit: Option<OwnedSemaphorePermit>) -> Arc<StreamGuard> {
        self.count.fetch_add(1, Ordering::AcqRel);
        Arc::new(StreamGuard { in_use: self.clone(), _permit: permit })
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Returns once no stream is in use.
    pub(crate) async fn finished(&self) {
        loop {
            let idle = self.idle.notified();
            if self.count() == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// Held by both directions of a stream. It keeps their connection open and their permit taken.
#[derive(Debug)]
pub(crate) struct StreamGuard {
    in_use: Arc<StreamsInUse>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl StreamGuard {
    /// Keeps the stream in use until the peer has acknowledged everything. May be called on any thread.
    pub(crate) fn hold_until<F>(self: Arc<Self>, acknowledged: F)
    where
        F: Future + Send + 'static,
    {
        let in_use = self.in_use.clone();
        let holding = async move {
            acknowledged.await;
            drop(self);
        };
        in_use.tracker.spawn_on(holding, &in_use.runtime);
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if self.in_use.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.in_use.idle.notify_waiters();
        }
    }
}
