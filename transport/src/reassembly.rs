//! The budget for reassembling frames: how many bytes of incomplete frames the endpoint buffers.
//!
//! A frame may be megabytes, a peer may open many streams, and there may be many peers. Each may stay
//! within its own bounds and all together still exceed the memory of the host.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::Limits;

/// This many bytes of each stream are not counted. Ordinary frames of a cluster are about this large, so
/// they still arrive after another peer has used up the budget.
pub(crate) const UNCOUNTED_BYTES: usize = 64 << 10;

/// Bytes buffered for the incomplete frames of one connection, and of all connections.
#[derive(Debug, Clone)]
pub(crate) struct ReassemblyBudget {
    connection_bytes: Arc<AtomicUsize>,
    total: Arc<AtomicUsize>,
    connection_limit: usize,
    total_limit: usize,
}

impl ReassemblyBudget {
    /// The budget of an endpoint.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            connection_bytes: Arc::default(),
            total: Arc::default(),
            connection_limit: limits.unfinished_bytes_per_connection,
            total_limit: limits.unfinished_bytes,
        }
    }

    /// The budget of another connection. It shares the total of the endpoint.
    pub(crate) fn for_connection(&self) -> Self {
        Self { connection_bytes: Arc::default(), ..self.clone() }
    }

    /// The reservation of another stream of this connection.
    pub(crate) fn for_stream(&self) -> StreamReservation {
        StreamReservation { budget: self.clone(), reserved: 0 }
    }
}

/// The bytes that one stream has reserved. Dropping it releases them.
#[derive(Debug)]
pub(crate) struct StreamReservation {
    budget: ReassemblyBudget,
    reserved: usize,
}

impl StreamReservation {
    /// Sets the number of bytes that the stream buffers now. Returns false if that exceeds a limit.
    pub(crate) fn set(&mut self, bytes: usize) -> bool {
        let (before, now) = (self.reserved, bytes.saturating_sub(UNCOUNTED_BYTES));
        self.reserved = now;
        let budget = &self.budget;
        if now <= before {
            let less = before - now;
            budget.connection_bytes.fetch_sub(less, Ordering::Relaxed);
            budget.total.fetch_sub(less, Ordering::Relaxed);
            return true;
        }
        let more = now - before;
        let connection_bytes = budget.connection_bytes.fetch_add(more, Ordering::Relaxed) + more;
        let total = budget.total.fetch_add(more, Ordering::Relaxed) + more;
        connection_bytes <= budget.connection_limit && total <= budget.total_limit
    }
}

impl Drop for StreamReservation {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(budget: &ReassemblyBudget) -> usize {
        budget.total.load(Ordering::Relaxed)
    }

    #[test]
    fn streams_connections_and_the_endpoint_are_bounded_and_released() {
        let limits =
            Limits { unfinished_bytes_per_connection: 100, unfinished_bytes: 150, ..Limits::default() };
        let endpoint = ReassemblyBudget::new(&limits);
        let (one, other) = (endpoint.for_connection(), endpoint.for_connection());
        let [mut a, mut b, mut c] = [one.for_stream(), one.for_stream(), other.for_stream()];
        assert!(a.set(UNCOUNTED_BYTES + 60) && b.set(UNCOUNTED_BYTES + 40));
        assert!(!b.set(UNCOUNTED_BYTES + 41), "the connection is full");
        assert!(b.set(UNCOUNTED_BYTES + 40));
        assert!(c.set(UNCOUNTED_BYTES + 50));
        assert!(!c.set(UNCOUNTED_BYTES + 51), "the total is used up");
        // Small frames still pass, whatever other streams have reserved.
        assert!(one.for_stream().set(UNCOUNTED_BYTES) && other.for_stream().set(UNCOUNTED_BYTES));
        drop(a);
        assert!(c.set(UNCOUNTED_BYTES + 51));
        drop((b, c));
        assert_eq!(total(&endpoint), 0);
    }
}
