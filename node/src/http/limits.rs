//! How much is served at a time and how long callers may take, and what was turned away.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::metrics::Counts;

/// Bounds on what callers can take of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections at a time; further ones are answered 503 and closed. Of one other host at most a quarter.
    pub connections: usize,
    /// Requests at a time, watches not among them; further ones are answered 503. At most a quarter are imports.
    pub requests: usize,
    /// Watches at a time, a thread each; further ones are answered 503.
    pub watches: usize,
    /// The most bytes of a request's head, values in the query string included; longer ones are answered 431.
    pub head_bytes: usize,
    /// The most bytes of a request's body; longer ones are answered 413. An import may be longer: it is read in lines.
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
    /// Connections of one other host at a time: no single one can keep all others out.
    pub(super) fn connections_of_a_host(&self) -> usize {
        (self.connections / 4).max(1)
    }

    /// Imports at a time: they may take long, and must leave room for what is short.
    pub(super) fn imports(&self) -> usize {
        (self.requests / 4).max(1)
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
    /// Imports beyond the limit.
    imports_refused,
    /// Watches beyond the limit.
    watches_refused,
    /// Bodies beyond the limit.
    bodies_too_large,
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
