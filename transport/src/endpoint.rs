//! The endpoint of a node: what its owner holds, and what all its tasks share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};
use wire::{Destination, NodeName};

use crate::accept::accept;
use crate::arrivals::{Incoming, Peer};
use crate::config::Config;
use crate::dial;
use crate::error::{BindError, CloseCode, OpenError, SendError};
use crate::frames::{FrameReceiver, FrameSender};
use crate::identity::{Identity, IdentityError};
use crate::link::DatagramFailure;
use crate::shared::{ConnectionChanges, Shared};
use crate::socket::canonical;
use crate::statistics::{ConnectionStatistics, Statistics};
use crate::upkeep::upkeep;

/// What became of a datagram that was accepted for sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// QUIC has it.
    Now,
    /// It goes out when the dial that is under way succeeds, and is lost otherwise.
    Kept,
}

/// The endpoint of a node. Cloning copies a pointer; dropping the last copy closes it without waiting for anything.
#[derive(Debug, Clone)]
pub struct Transport {
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.stop();
        self.0.endpoint.close(CloseCode::ShuttingDown.code(), b"");
    }
}

impl Transport {
    /// Binds the socket and begins to accept peers. Must be called within a tokio runtime.
    ///
    /// An identity with the development secret is refused unless `config.bind` is a loopback address.
    pub fn bind(config: Config) -> Result<(Self, Incoming), BindError> {
        let bind = config.bind;
        if config.identity.is_development() && !canonical(bind).ip().is_loopback() {
            return Err(BindError::NoSecret(bind));
        }
        config.identity.check(&config.name, &config.cluster)?;
        let shared = Shared::new(config)?;
        shared.tracker.spawn(accept(shared.clone()));
        shared.tracker.spawn(upkeep(shared.clone()));
        tracing::debug!(name = %shared.subject.name, address = %shared.local, "listening");
        let incoming = Incoming::new(shared.arrivals.clone());
        Ok((Self { owner: Arc::new(Owner(shared)) }, incoming))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.owner.0
    }

    /// How many handshakes of peers are not complete.
    #[cfg(test)]
    pub(crate) fn half_open(&self) -> usize {
        self.shared().half_open.lock().total()
    }

    /// Where the socket is bound, with the port that the system chose if it was to choose.
    pub fn local_address(&self) -> SocketAddr {
        self.shared().local
    }

    /// Where the node tells others that it can be reached; `None` if it listens on all addresses and was not told.
    pub fn advertised_address(&self) -> Option<SocketAddr> {
        self.shared().subject.introduction.advertised
    }

    /// What happened so far.
    pub fn statistics(&self) -> Statistics {
        self.shared().counters.snapshot()
    }

    /// Every connection, in the order of names, then of age.
    pub fn connections(&self) -> Vec<ConnectionStatistics> {
        let table = self.shared().table.read();
        let mut links: Vec<_> =
            table.links.values().map(|link| (link.clone(), table.routes.is_current(link.id))).collect();
        drop(table);
        links.sort_unstable_by(|(a, _), (b, _)| (&a.peer, a.id).cmp(&(&b.peer, b.id)));
        links.iter().map(|(link, current)| link.statistics(*current)).collect()
    }

    /// With whom there has come to be a connection, or is none any more, since this was asked last.
    /// [`Self::connections_changed`] returns when it is worth asking.
    pub fn take_connection_changes(&self) -> ConnectionChanges {
        let table = &self.shared().table;
        // Asked for with each batch of arrivals, and seldom the case.
        if !table.read().has_changes() {
            return ConnectionChanges::default();
        }
        table.write().take_changes()
    }

    /// Returns once [`Self::take_connection_changes`] may have something to tell. Cancelling loses nothing.
    pub async fn connections_changed(&self) {
        self.shared().connections_changed.notified().await;
    }

    /// How long nearly all dials take that succeed, as far as that was measured lately; zero if it was not.
    pub fn dial_time(&self) -> Duration {
        self.shared().table.read().dials.expected(Instant::now())
    }

    /// Sends one datagram, or says why not. Never waits.
    ///
    /// Without a connection the destination is dialled, and one datagram is kept for it. Nothing that was accepted
    /// earlier is dropped for it. Datagrams up to [`crate::DATAGRAM_BYTES`] fit every path.
    pub fn send_datagram(&self, to: &Destination, bytes: Bytes) -> Result<Sent, SendError> {
        let shared = self.shared();
        if shared.is_stopping() {
            return Err(SendError::ShutDown);
        }
        let canonical_to;
        let to = if to.address.is_ipv6() {
            canonical_to = Destination { name: to.name.clone(), address: canonical(to.address) };
            &canonical_to
        } else {
            to
        };
        while let Some(link) = shared.find(to) {
            let size = bytes.len();
            match link.send_datagram(bytes.clone()) {
                Ok(()) => {
                    shared.counters.datagrams_sent.increment();
                    shared.counters.datagram_bytes_sent.add(size as u64);
                    return Ok(Sent::Now);
                }
                Err(DatagramFailure::Send(error)) => {
                    shared.count_unsent(&error);
                    return Err(error);
                }
                // Its end is not known to the table yet: there may be another one, or a new one is needed.
                Err(DatagramFailure::Ended) => shared.ended(&link),
            }
        }
        dial::for_datagram(shared, to, bytes)
    }

    /// Opens a stream, dialling the destination if there is no connection. Takes as long as a dial may take now,
    /// at least [`crate::Timeouts::dial`].
    ///
    /// The peer sees the stream once something was sent on it.
    pub async fn open_stream(
        &self,
        to: &Destination,
    ) -> Result<(FrameSender, FrameReceiver, Peer), OpenError> {
        let shared = self.shared();
        let opened = shared.open_stream(to).await;
        match &opened {
            Ok(_) => shared.counters.streams_opened.increment(),
            Err(_) => shared.counters.streams_failed.increment(),
        }
        opened
    }

    /// Closes the connections with nodes called `name`, at this address if one is given. They are told `reason`, which
    /// they see as [`crate::Loss::ClosedByPeer`]. They may connect again.
    pub fn disconnect(&self, name: &NodeName, address: Option<SocketAddr>, reason: &str) {
        let shared = self.shared();
        let table = shared.table.read();
        let links: Vec<_> = table
            .routes
            .of(name, address.map(canonical))
            .into_iter()
            .filter_map(|id| table.links.get(&id).cloned())
            .collect();
        drop(table);
        for link in links {
            link.close(CloseCode::Disconnected, reason);
            shared.ended(&link);
        }
    }

    /// What the node proves itself with, and accepts from others, now.
    pub fn identity(&self) -> Identity {
        self.shared().credentials().identity.clone()
    }

    /// Works with another identity from now on. The same one again changes nothing.
    ///
    /// New handshakes use it at once. Connections with peers that proved themselves by what is no longer accepted are
    /// replaced: new things go over a new connection, and the old one is closed within seconds.
    ///
    /// # Errors
    /// If this node cannot have it; the former one stays in use.
    pub fn set_identity(&self, identity: impl Into<Identity>) -> Result<(), IdentityError> {
        let (shared, identity) = (self.shared(), identity.into());
        if identity.is_development() && !shared.local.ip().is_loopback() {
            return Err(IdentityError::NoSecret(shared.local));
        }
        identity.check(&shared.subject.name, &shared.subject.introduction.cluster)?;
        shared.replace_credentials(identity);
        Ok(())
    }

    /// Says goodbye and stops, within `limit`: what was sent and finished arrives if there is time for it.
    ///
    /// Streams that are still in use when half of the time is over are cut. Afterwards the port is free.
    pub async fn shutdown(&self, limit: Duration) {
        let shared = self.shared();
        let start = Instant::now();
        shared.stop_accepting_work();
        let links = shared.links();
        let unsent = async {
            for link in &links {
                link.streams_finished().await;
            }
            // quinn has no event for an empty buffer, and closing would drop what is in it.
            let buffer = shared.config.limits.datagram_send_bytes;
            while !links.iter().all(|link| link.all_datagrams_sent(buffer)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = timeout_at(start + limit / 2, unsent).await;
        shared.stop();
        let reason = format!("the node {:?} is shutting down", shared.subject.name);
        shared.endpoint.close(CloseCode::ShuttingDown.code(), reason.as_bytes());
        let _ = timeout_at(start + limit, shared.endpoint.wait_idle()).await;
        shared.detach_socket();
        let _ = timeout_at(start + limit, shared.tracker.wait()).await;
    }

    /// Stops at once, as a crash would: peers get no goodbye, what was not sent is lost, the port is free.
    pub fn abort(&self) {
        let shared = self.shared();
        shared.detach_socket();
        shared.stop();
        shared.endpoint.close(CloseCode::ShuttingDown.code(), b"");
    }
}
