//! How much is served at a time and how long callers may take, and what was turned away.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::metrics::Counts;
use super::permits::{Caller, share};

/// Bounds on what callers can take of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections at a time; of one other host at most a quarter, of this one at most three quarters. On up to 32 further ones
    /// health and metrics are answered, everything else with 503.
    pub connections: usize,
    /// Requests at a time whose bodies have arrived; further ones are answered 503, but for four that ask for health or metrics.
    /// Of one caller at most three quarters. An eighth of as many answers that grow with the data may be under way, and
    /// a quarter of as many imports, which are not among them, nor are watches.
    pub requests: usize,
    /// Watches at a time, a thread each; further ones are answered 503. Of one caller at most three quarters.
    pub watches: usize,
    /// The most bytes of a request's head, values in the query string included; longer ones are answered 431.
    pub head_bytes: usize,
    /// The most bytes of a request's body; longer ones are answered 413. An import may be longer: it is read in lines. All bodies
    /// that have begun to arrive hold sixteen times as much, those of one caller three quarters of that.
    pub body_bytes: usize,
    /// The head of a request must have arrived within this time, or it is answered 408; so long may a connection idle.
    pub head_time: Duration,
    /// A request's body must have arrived within this time, or it is answered 408. So long an import may stall, and a
    /// caller who does not take the answer.
    pub body_time: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections: 256,
            requests: 64,
            watches: 64,
            head_bytes: 128 << 10,
            body_bytes: 4 << 20,
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
        }
    }
}

impl HttpLimits {
    /// Connections of one caller at a time: no single one can keep all others out.
    pub(super) fn connections_of(&self, caller: Caller) -> usize {
        match caller {
            Caller::Host(address) if !address.is_loopback() => (self.connections / 4).max(1),
            _ => share(self.connections),
        }
    }

    /// Imports at a time.
    pub(super) fn imports(&self) -> usize {
        (self.requests / 4).max(1)
    }

    /// Answers at a time that grow with the data: each holds pointers to a whole table.
    pub(super) fn large_answers(&self) -> usize {
        (self.requests / 8).max(1)
    }

    /// Requests for health and metrics beyond all others.
    pub(super) fn health_requests(&self) -> usize {
        4
    }

    /// The bytes of all bodies that are being read or worked on.
    pub(super) fn bodies_bytes(&self) -> usize {
        self.body_bytes.saturating_mul(16)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened so often since the server started.
        #[derive(Debug, Default)]
        pub(super) struct HttpCounters {
            $($(#[$doc])* pub(super) $name: AtomicU64,)*
        }

        impl HttpCounters {
            /// All of them by name.
            pub(super) fn iter(&self) -> Counts {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed))),*]
            }
        }
    };
}

counters! {
    /// Requests whose head arrived.
    requests,
    /// Requests without a token, or with one that is not known.
    unauthorized,
    /// Requests to change something with a token for reading.
    forbidden,
    /// Requests by a name that is not this node's.
    foreign_host,
    /// Requests from pages of another origin.
    foreign_page,
    /// Connections beyond the limit.
    connections_refused,
    /// Requests beyond the limit.
    requests_refused,
    /// Answers that grow with the data, beyond the limit.
    large_answers_refused,
    /// Imports beyond the limit.
    imports_refused,
    /// Watches beyond the limit.
    watches_refused,
    /// Bodies beyond the limit.
    bodies_too_large,
    /// Bodies for which there was no memory.
    bodies_refused,
    /// Heads that make no sense, or are too long.
    heads_refused,
    /// Heads that did not arrive in time.
    heads_too_slow,
    /// Bodies that did not arrive in time.
    bodies_too_slow,
    /// Callers who did not take their answer in time.
    readers_too_slow,
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
