//! What peers have sent and the owner has not taken yet. Queues are bounded for each peer, so that a
//! peer that floods does not starve the others.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use wire::NodeName;

use crate::config::Limits;
use crate::error::{Loss, RefusalReason};
use crate::frames::{FrameReceiver, FrameSender};
use crate::peer::Peer;
use crate::statistics::Counters;

/// Something received from a peer, or a change of the connection with one.
#[derive(Debug)]
#[non_exhaustive]
pub enum Arrival {
    /// A datagram. It may be a duplicate or late, and others may have been lost.
    Datagram {
        /// The sender.
        from: Peer,
        /// The payload; never empty.
        bytes: Bytes,
    },
    /// A peer opened a stream.
    Stream {
        /// The peer that opened it.
        from: Peer,
        /// Our direction of the stream.
        sender: FrameSender,
        /// The peer's direction of the stream.
        receiver: FrameReceiver,
    },
    /// The last connection with a peer ended, and this node did not close it. This is a hint to probe
    /// the peer, not proof of a failure.
    Lost {
        /// The peer at the other end.
        peer: Peer,
        /// How the connection ended.
        loss: Loss,
    },
    /// This node refused a peer, or a peer refused this node. Reported at most once a second for each
    /// address.
    Refused {
        /// The address of the peer.
        address: SocketAddr,
        /// Its name, if it proved one, or else the name that was dialled.
        name: Option<NodeName>,
        /// Why the connection was refused.
        refusal: RefusalReason,
    },
}

/// The most notices (lost connections and refusals) in the queue. Further ones are dropped and counted.
const MAX_NOTICES: usize = 1024;

/// The most datagrams taken from one peer before the next peer's turn.
const MAX_PER_TURN: usize = 256;

/// The queued datagrams of one connection.
#[derive(Debug)]
pub(crate) struct Inbox {
    from: Peer,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    datagrams: VecDeque<Bytes>,
    bytes: usize,
}

impl Inbox {
    pub(crate) fn new(from: Peer) -> Arc<Self> {
        Arc::new(Self { from, queue: Mutex::default() })
    }
}

/// Everything that the owner has not taken yet, shared between the tasks of connections and the owner.
#[derive(Debug)]
pub(crate) struct Arrivals {
    waiting: Mutex<Waiting>,
    wake: Notify,
    datagram_bytes: AtomicUsize,
    max_bytes: usize,
    max_count: usize,
    max_bytes_total: usize,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Streams and notices. Streams are bounded by their permits.
    others: VecDeque<Arrival>,
    notices: usize,
    /// Inboxes that are not empty, each once, in the order in which they are served.
    inboxes: VecDeque<Arc<Inbox>>,
    closed: bool,
}

impl Arrivals {
    pub(crate) fn new(limits: &Limits, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            wake: Notify::new(),
            datagram_bytes: AtomicUsize::new(0),
            max_bytes: limits.datagram_receive_bytes,
            max_count: limits.datagram_receive_count,
            max_bytes_total: limits.datagram_receive_bytes_total,
            counters,
        })
    }

    pub(crate) fn push_datagram(&self, inbox: &Arc<Inbox>, bytes: Bytes) {
        if bytes.is_empty() {
            return self.counters.datagrams_dropped_empty.increment();
        }
        let size = bytes.len();
        let first = {
            let mut queue = inbox.queue.lock();
            if queue.datagrams.len() >= self.max_count
                || queue.bytes + size > self.max_bytes
                || self.datagram_bytes.load(Ordering::Relaxed) + size > self.max_bytes_total
            {
                return self.counters.datagrams_dropped_untaken.increment();
            }
            queue.bytes += size;
            queue.datagrams.push_back(bytes);
            // Added while the lock is held: once it is released, the owner may take the datagram and
            // subtract its size.
            self.datagram_bytes.fetch_add(size, Ordering::Relaxed);
            queue.datagrams.len() == 1
        };
        self.counters.datagrams_received.increment();
        self.counters.datagram_received_bytes.add(size as u64);
        if first {
            self.waiting.lock().inboxes.push_back(inbox.clone());
            self.wake.notify_one();
        }
    }

    pub(crate) fn push_stream(&self, from: Peer, sender: FrameSender, receiver: FrameReceiver) {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return;
        }
        self.counters.streams_accepted.increment();
        waiting.others.push_back(Arrival::Stream { from, sender, receiver });
        drop(waiting);
        self.wake.notify_one();
    }

    pub(crate) fn push_notice(&self, notice: Arrival) {
        let mut waiting = self.waiting.lock();
        if waiting.notices >= MAX_NOTICES || waiting.closed {
            return self.counters.notices_dropped.increment();
        }
        waiting.notices += 1;
        waiting.others.push_back(notice);
        drop(waiting);
        self.wake.notify_one();
    }

    /// Nothing is queued any more. What is queued can still be taken.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.wake.notify_one();
    }

    /// Moves up to `limit` arrivals to the end of `batch`. Returns whether more may follow.
    fn take(&self, batch: &mut Vec<Arrival>, limit: usize) -> bool {
        let mut waiting = self.waiting.lock();
        let mut remaining = limit;
        while remaining > 0
            && let Some(arrival) = waiting.others.pop_front()
        {
            if matches!(arrival, Arrival::Lost { .. } | Arrival::Refused { .. }) {
                waiting.notices -= 1;
            }
            batch.push(arrival);
            remaining -= 1;
        }
        while remaining > 0
            && let Some(inbox) = waiting.inboxes.pop_front()
        {
            let mut queue = inbox.queue.lock();
            let count = queue.datagrams.len().min(remaining).min(MAX_PER_TURN);
            let mut bytes = 0;
            batch.extend(queue.datagrams.drain(..count).map(|datagram| {
                bytes += datagram.len();
                Arrival::Datagram { from: inbox.from.clone(), bytes: datagram }
            }));
            queue.bytes -= bytes;
            remaining -= count;
            self.datagram_bytes.fetch_sub(bytes, Ordering::Relaxed);
            let more = !queue.datagrams.is_empty();
            drop(queue);
            if more {
                waiting.inboxes.push_back(inbox);
            }
        }
        remaining < limit || !waiting.closed
    }
}

/// The receiving end of a transport. Once it is dropped, everything that arrives is dropped.
#[derive(Debug)]
pub struct Incoming {
    arrivals: Arc<Arrivals>,
    batch: Vec<Arrival>,
}

impl Incoming {
    /// The most arrivals that one call of [`Incoming::next_batch`] adds.
    pub const MAX_BATCH: usize = 1024;

    pub(crate) fn new(arrivals: Arc<Arrivals>) -> Self {
        Self { arrivals, batch: Vec::new() }
    }

    /// The next arrival, or `None` once the transport is shut down and the queue is empty. Cancel safe.
    pub async fn next(&mut self) -> Option<Arrival> {
        loop {
            if let Some(arrival) = self.batch.pop() {
                return Some(arrival);
            }
            let mut batch = std::mem::take(&mut self.batch);
            let more = self.arrivals.take(&mut batch, 1);
            self.batch = batch;
            if self.batch.is_empty() {
                if !more {
                    return None;
                }
                self.arrivals.wake.notified().await;
            }
        }
    }

    /// Waits for at least one arrival, and moves all queued ones, at most [`Incoming::MAX_BATCH`], to
    /// the end of `batch`. Returns false once the transport is shut down and the queue is empty. Cancel
    /// safe.
    pub async fn next_batch(&mut self, batch: &mut Vec<Arrival>) -> bool {
        let before = batch.len();
        loop {
            let more = self.arrivals.take(batch, Self::MAX_BATCH);
            if batch.len() > before {
                return true;
            }
            if !more {
                return false;
            }
            self.arrivals.wake.notified().await;
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.arrivals.close();
        // Dropping these streams tells their peers that no node will read them.
        let others = std::mem::take(&mut self.arrivals.waiting.lock().others);
        drop(others);
    }
}
