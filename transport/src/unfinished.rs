//! How much of frames that are not complete yet may lie about.
//!
//! A frame may be megabytes, a peer may open many streams, and there may be many peers: each within its bounds, together
//! they could hold more than a host has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::Limits;

/// So much of each stream is not counted, in bytes: the frames that keep a cluster going are about this large, and go on
/// while somebody else has taken up all there is.
pub(crate) const FREE: usize = 64 << 10;

/// What is held of one connection's frames, and of all together.
#[derive(Debug, Clone)]
pub(crate) struct Unfinished {
    connection: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
    most_of_connection: usize,
    most: usize,
}

impl Unfinished {
    /// For all connections of an endpoint.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            connection: Arc::default(),
            all: Arc::default(),
            most_of_connection: limits.unfinished_bytes_per_connection,
            most: limits.unfinished_bytes,
        }
    }

    /// For another connection.
    pub(crate) fn of_connection(&self) -> Self {
        Self { connection: Arc::default(), ..self.clone() }
    }

    /// For another stream of this connection.
    pub(crate) fn of_stream(&self) -> Held {
        Held { unfinished: self.clone(), held: 0 }
    }
}

/// What one stream holds.
#[derive(Debug)]
pub(crate) struct Held {
    unfinished: Unfinished,
    held: usize,
}

impl Held {
    /// The stream holds so many bytes now. False if that is more than may be.
    pub(crate) fn set(&mut self, bytes: usize) -> bool {
        let (before, now) = (self.held, bytes.saturating_sub(FREE));
        self.held = now;
        let unfinished = &self.unfinished;
        if now <= before {
            let less = before - now;
            unfinished.connection.fetch_sub(less, Ordering::Relaxed);
            unfinished.all.fetch_sub(less, Ordering::Relaxed);
            return true;
        }
        let more = now - before;
        let of_connection = unfinished.connection.fetch_add(more, Ordering::Relaxed) + more;
        let all = unfinished.all.fetch_add(more, Ordering::Relaxed) + more;
        of_connection <= unfinished.most_of_connection && all <= unfinished.most
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(unfinished: &Unfinished) -> usize {
        unfinished.all.load(Ordering::Relaxed)
    }

    #[test]
    fn what_streams_connections_and_all_together_hold_is_bounded_and_given_back() {
        let limits =
            Limits { unfinished_bytes_per_connection: 100, unfinished_bytes: 150, ..Limits::default() };
        let endpoint = Unfinished::new(&limits);
        let (one, other) = (endpoint.of_connection(), endpoint.of_connection());
        let [mut a, mut b, mut c] = [one.of_stream(), one.of_stream(), other.of_stream()];
        assert!(a.set(FREE + 60) && b.set(FREE + 40));
        assert!(!b.set(FREE + 41), "the connection is full");
        assert!(b.set(FREE + 40));
        assert!(c.set(FREE + 50));
        assert!(!c.set(FREE + 51), "all of it is taken");
        // Small frames go on whatever others hold.
        assert!(one.of_stream().set(FREE) && other.of_stream().set(FREE));
        drop(a);
        assert!(c.set(FREE + 51));
        drop((b, c));
        assert_eq!(all(&endpoint), 0);
    }
}
