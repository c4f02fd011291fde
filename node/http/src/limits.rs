//! Limits on concurrent work and on the time of clients, and counters of refused requests.

use std::time::Duration;

use super::permits::{Caller, share};

/// Bounds on the resources that HTTP clients can use.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: other crates build it as a literal, from the defaults.
pub struct HttpLimits {
    /// The most concurrent connections. Another host can have at most a quarter of them, and this host three
    /// quarters. Up to 32 further connections get health and metrics only, and 503 for everything else.
    pub connections: usize,
    /// The most concurrent requests whose bodies have arrived. Further ones get 503, except for four that
    /// request health or metrics. One caller can have at most three quarters. The limit of concurrent
    /// responses that grow with the data is an eighth of this one; that of concurrent imports is a quarter.
    /// Imports and watches do not count as requests.
    pub requests: usize,
    /// The most concurrent watches. Further ones get 503. One caller can have at most three quarters.
    pub watches: usize,
    /// The most bytes of a request's head, with the values in the query string. Longer ones get 431.
    pub head_bytes: usize,
    /// The most bytes of a request's body. Longer ones get 413. An import may be longer: the node reads it
    /// line by line. All bodies that are being received can use sixteen times as much memory, those of one
    /// caller three quarters of that.
    pub body_bytes: usize,
    /// The timeout for a request's head, answered with 408; also the idle timeout of a connection, and the
    /// timeout of a TLS handshake.
    pub head_time: Duration,
    /// The timeout for a request's body, answered with 408; also the timeout for the next part of an import,
    /// and for the client to read the response.
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
    /// The most concurrent connections of one caller, so that no single one can block all others.
    pub(super) fn connections_of(&self, caller: Caller) -> usize {
        match caller {
            Caller::Host(address) if !address.is_loopback() => (self.connections / 4).max(1),
            _ => share(self.connections),
        }
    }

    /// The most concurrent imports.
    pub(super) fn imports(&self) -> usize {
        (self.requests / 4).max(1)
    }

    /// The most concurrent responses that grow with the data: each holds pointers to a whole table.
    pub(super) fn large_responses(&self) -> usize {
        (self.requests / 8).max(1)
    }

    /// The most concurrent requests for health and metrics beyond the limit of requests.
    pub(super) fn health_requests(&self) -> usize {
        4
    }

    /// The most bytes of all bodies that are being received or processed.
    pub(super) fn bodies_bytes(&self) -> usize {
        self.body_bytes.saturating_mul(16)
    }
}

wire::atomic_counters! {
    /// Counters of events since the server started.
    #[non_exhaustive]
    pub struct HttpStatistics, counted by HttpCounters {
    }
    /// Requests and connections that the server refused or gave up.
    refused by reason {
        /// Requests without a token, or with one that is not known.
        refused_unauthorized,
        /// Requests that need a higher role than the caller has, or are beyond the limits of its token.
        refused_forbidden,
        /// Requests for a host name that is not this node's.
        refused_foreign_host,
        /// Requests from pages of another origin.
        refused_foreign_page,
        /// Connections beyond the limit.
        refused_too_many_connections,
        /// Requests beyond the limit.
        refused_too_many_requests,
        /// Responses that grow with the data, beyond the limit.
        refused_too_many_large_responses,
        /// Imports beyond the limit.
        refused_too_many_imports,
        /// Watches beyond the limit.
        refused_too_many_watches,
        /// Bodies beyond the limit.
        refused_body_too_large,
        /// Bodies beyond the memory for bodies.
        refused_too_many_bodies,
        /// Heads that are invalid or too long.
        refused_invalid_head,
        /// Heads that did not arrive in time.
        refused_head_too_slow,
        /// TLS handshakes that failed, or plain HTTP in their place.
        refused_invalid_handshake,
        /// TLS handshakes that did not complete in time.
        refused_handshake_too_slow,
        /// Bodies that did not arrive in time.
        refused_body_too_slow,
        /// Clients that did not read their response in time.
        refused_reader_too_slow,
    }
}
