//! The endpoint of a node, as its owner uses it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};
use wire::{Destination, NodeName};

use crate::accept::accept;
use crate::arrivals::Incoming;
use crate::cluster_name::ClusterName;
use crate::config::Config;
use crate::dial;
use crate::dials::describe;
use crate::error::{BindError, CloseCode, Loss, OpenError, SendError};
use crate::frames::{FrameReceiver, FrameSender};
use crate::identity::{Identity, IdentityError};
use crate::link::DatagramFailure;
use crate::peer::Peer;
use crate::shared::{ConnectionChanges, Shared};
use crate::socket::canonical;
use crate::statistics::{ConnectionStatistics, Statistics};
use crate::upkeep::{close_unanswered, upkeep};

/// What happened to a datagram that was accepted for sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
// Exhaustive: a datagram is sent now or when the dial is over.
pub enum Sent {
    /// It was handed to QUIC.
    Now,
    /// It is sent when the running dial succeeds, and lost otherwise.
    Kept,
}

/// The endpoint of a node. Cloning copies a pointer. Dropping the last copy closes it without waiting.
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
        shared.tracker.spawn(close_unanswered(shared.clone()));
        tracing::debug!(name = %shared.subject.name, address = %shared.local, "listening");
        let incoming = Incoming::new(shared.arrivals.clone());
        Ok((Self { owner: Arc::new(Owner(shared)) }, incoming))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.owner.0
    }

    /// The number of half-open handshakes of peers.
    #[cfg(test)]
    pub(crate) fn half_open(&self) -> usize {
        self.shared().half_open.lock().total()
    }

    /// The bound address of the socket, with the actual port if the system chose it.
    pub fn local_address(&self) -> SocketAddr {
        self.shared().local
    }

    /// The address that the node announces to its peers; `None` if it listens on all addresses and none
    /// was configured.
    pub fn advertised_address(&self) -> Option<SocketAddr> {
        self.shared().subject.introduction.advertised
    }

    /// The name of the cluster.
    pub fn cluster(&self) -> &ClusterName {
        &self.shared().subject.introduction.cluster
    }

    /// The counters at this moment.
    pub fn statistics(&self) -> Statistics {
        self.shared().counters.snapshot()
    }

    /// Every connection, ordered by name, then by age.
    pub fn connections(&self) -> Vec<ConnectionStatistics> {
        let table = self.shared().table.read();
        let mut links: Vec<_> =
            table.links.values().map(|link| (link.clone(), table.routes.is_current(link.id))).collect();
        drop(table);
        links.sort_unstable_by(|(a, _), (b, _)| (&a.peer, a.id).cmp(&(&b.peer, b.id)));
        links.iter().map(|(link, current)| link.statistics(*current)).collect()
    }

    /// The peers with which a connection was established or has ended since the last call.
    /// [`Self::connections_changed`] returns when there may be changes.
    pub fn take_connection_changes(&self) -> ConnectionChanges {
        let table = &self.shared().table;
        // Called for each batch of arrivals, and changes are rare.
        if !table.read().has_changes() {
            return ConnectionChanges::default();
        }
        table.write().take_changes()
    }

    /// Returns once [`Self::take_connection_changes`] may report changes. Cancel safe.
    pub async fn connections_changed(&self) {
        self.shared().connections_changed.notified().await;
    }

    /// How long nearly all successful dials take, as far as was measured recently; zero if nothing was.
    pub fn dial_time(&self) -> Duration {
        self.shared().table.read().dials.expected(Instant::now())
    }

    /// Sends one datagram, or returns why it was not sent. Never waits.
    ///
    /// Without a connection the destination is dialled, and one datagram is kept until the dial ends. No
    /// datagram that was accepted earlier is dropped in its favour. Datagrams up to
    /// [`crate::DATAGRAM_BYTES`] fit every path.
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
                    shared.counters.datagram_sent_bytes.add(size as u64);
                    return Ok(Sent::Now);
                }
                Err(DatagramFailure::Send(error)) => {
                    shared.count_unsent(&error);
                    return Err(error);
                }
                // The table does not know yet that it has ended: there may be another connection, or a
                // new one is needed.
                Err(DatagramFailure::Ended) => shared.ended(&link),
            }
        }
        dial::for_datagram(shared, to, bytes).map(|()| Sent::Kept)
    }

    /// Opens a stream, and dials the destination if there is no connection. Takes at most as long as a
    /// dial may take now, which is at least [`crate::Timeouts::dial`].
    ///
    /// The peer sees the stream once something was sent on it.
    pub async fn open_stream(
        &self,
        to: &Destination,
    ) -> Result<(FrameSender, FrameReceiver, Peer), OpenError> {
        let shared = self.shared();
        let opened = open_stream(shared, to).await;
        match &opened {
            Ok(_) => shared.counters.streams_opened.increment(),
            Err(_) => shared.counters.streams_failed.increment(),
        }
        opened
    }

    /// Closes the connections with nodes called `name`, at this address if one is given. The peer
    /// receives `reason` as [`crate::Loss::ClosedByPeer`]. It may connect again.
    pub fn disconnect(&self, name: &NodeName, address: Option<SocketAddr>, reason: &str) {
        let shared = self.shared();
        let table = shared.table.read();
        let links: Vec<_> = table
            .routes
            .links_with(name, address.map(canonical))
            .into_iter()
            .filter_map(|id| table.links.get(&id).cloned())
            .collect();
        drop(table);
        for link in links {
            link.close(CloseCode::Disconnected, reason);
            shared.ended(&link);
        }
    }

    /// The identity in use.
    pub fn identity(&self) -> Identity {
        self.shared().credentials().identity.clone()
    }

    /// Replaces the identity. Setting the same one again changes nothing.
    ///
    /// New handshakes use it at once. Connections whose peers are no longer accepted are replaced: new
    /// datagrams and streams use a new connection, and the old one is closed within seconds.
    ///
    /// # Errors
    /// If this node cannot use the identity. It keeps the current one.
    pub fn set_identity(&self, identity: impl Into<Identity>) -> Result<(), IdentityError> {
        let (shared, identity) = (self.shared(), identity.into());
        if identity.is_development() && !shared.local.ip().is_loopback() {
            return Err(IdentityError::NoSecret(shared.local));
        }
        identity.check(&shared.subject.name, &shared.subject.introduction.cluster)?;
        shared.replace_credentials(identity);
        Ok(())
    }

    /// Announces the shutdown to all peers and stops, within `limit`. Data that was sent and finished
    /// arrives if there is time for it.
    ///
    /// Streams that are still in use after half of the time are cut. Afterwards the port is free.
    pub async fn shutdown(&self, limit: Duration) {
        let shared = self.shared();
        let start = Instant::now();
        shared.stop_accepting_work();
        let links = shared.links();
        let unsent = async {
            for link in &links {
                link.streams_finished().await;
            }
            // quinn has no event for an empty buffer, and closing would drop the buffered datagrams.
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

    /// Stops at once, as a crash would: peers receive no close, unsent data is lost, the port is free.
    pub fn abort(&self) {
        let shared = self.shared();
        shared.detach_socket();
        shared.stop();
        shared.endpoint.close(CloseCode::ShuttingDown.code(), b"");
    }
}

async fn open_stream(
    shared: &Arc<Shared>,
    to: &Destination,
) -> Result<(FrameSender, FrameReceiver, Peer), OpenError> {
    let to = &Destination { name: to.name.clone(), address: canonical(to.address) };
    let begun = Instant::now();
    let deadline = begun + shared.handshake_timeout();
    loop {
        if shared.is_stopping() {
            return Err(OpenError::ShutDown);
        }
        let link = dial::connect(shared, to, begun, deadline).await?;
        match timeout_at(deadline, link.connection.open_bi()).await {
            Ok(Ok(stream)) => {
                let (sender, receiver) = link.frames(stream, None);
                return Ok((sender, receiver, link.peer.clone()));
            }
            // It had ended before the table knew: the next iteration finds another one, or dials.
            Ok(Err(_)) if Instant::now() < deadline => shared.ended(&link),
            Ok(Err(error)) => return Err(OpenError::Lost { to: describe(to), loss: Loss::of(&error) }),
            Err(_) => return Err(OpenError::Busy { to: describe(to), after: begun.elapsed() }),
        }
    }
}
