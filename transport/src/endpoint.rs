//! The endpoint of a node: what its owner holds, and what all its tasks share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use rustls::pki_types::UnixTime;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire::{Destination, NodeName};

use crate::accept::{HalfOpen, accept};
use crate::arrivals::{Arrival, Arrivals, Incoming, Peer};
use crate::certificate::{Bearer, Credentials, Subject};
use crate::config::{Config, Limits};
use crate::dial::{self, Dials, describe};
use crate::frames::{FrameReceiver, FrameSender, FrameSettings};
use crate::keys::KeySet;
use crate::link::{DatagramFailure, Link, Retirement};
use crate::quiet::Quiet;
use crate::refusal::{BindError, CloseCode, KeysError, Loss, OpenError, Refusal, SendError, is_orderly};
use crate::routes::{LinkId, Removed, Route, Routes, Who};
use crate::socket::{self, Nowhere, canonical};
use crate::statistics::{ConnectionStatistics, Counters, Statistics};

/// How often certificates, failed dials and unused connections are looked after.
const UPKEEP: Duration = Duration::from_secs(1);

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

/// What all tasks of an endpoint share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) subject: Subject,
    pub(crate) local: SocketAddr,
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) runtime: Handle,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) counters: Arc<Counters>,
    /// Permits for streams that peers open.
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) half_open: Mutex<HalfOpen>,
    pub(crate) table: RwLock<Table>,
    pub(crate) dial_ended: Notify,
    credentials: RwLock<Arc<Credentials>>,
    quic: Arc<TransportConfig>,
    server: quinn::ServerConfig,
    quiet: Mutex<Quiet>,
    links_made: AtomicU64,
    /// Nothing new begins any more.
    stopping: AtomicBool,
}

/// Who can be reached how. Its lock is held for look-ups and changes only, never across a call of QUIC that may wait.
#[derive(Debug)]
pub(crate) struct Table {
    routes: Routes,
    links: HashMap<LinkId, Arc<Link>>,
    pub(crate) dials: Dials,
}

impl Table {
    fn is_full(&self, limits: &Limits, address: SocketAddr) -> bool {
        self.routes.len() >= limits.connections
            || self.routes.from(address.ip()) >= limits.connections_per_address
    }
}

impl Transport {
    /// Binds the socket and begins to accept peers. Must be called within a tokio runtime.
    ///
    /// A key set with the development secret is refused unless `config.bind` is a loopback address.
    pub fn bind(config: Config) -> Result<(Self, Incoming), BindError> {
        let bind = config.bind;
        if config.keys.is_development() && !canonical(bind).ip().is_loopback() {
            return Err(BindError::NoSecret(bind));
        }
        let quic = Arc::new(transport_config(&config)?);
        let failed = |error| BindError::Socket { address: bind, error };
        let socket = socket::bind(bind, config.limits.socket_buffer_bytes)?;
        let local = canonical(socket.local_addr().map_err(failed)?);
        let advertised = config.advertise.or_else(|| (!local.ip().is_unspecified()).then_some(local));
        let subject = Subject::new(config.name.clone(), config.cluster.clone(), advertised);
        let credentials = Arc::new(Credentials::mint(&subject, config.keys.clone(), wall_clock()));
        let counters = Arc::<Counters>::default();
        counters.certificates_minted.increment();
        let arrivals = Arrivals::new(&config.limits, counters.clone());
        let server = server_config(&credentials, quic.clone());

        let forgotten = ForgottenKeys::derive(&config, advertised.unwrap_or(local));
        let mut endpoint_config = EndpointConfig::new(Arc::new(forgotten.resets));
        // Peers' packets for a connection of an earlier life must look like ours, to be answered by a reset at once.
        let ids = u64::from_le_bytes(forgotten.ids);
        endpoint_config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
        let endpoint = quinn::Endpoint::new(
            endpoint_config,
            Some(server.clone()),
            socket,
            Arc::new(quinn::TokioRuntime),
        )
        .map_err(failed)?;

        let routes = Routes::new(Who { name: subject.name.clone(), life: subject.life() });
        let shared = Arc::new(Shared {
            streams: Arc::new(Semaphore::new(config.limits.streams)),
            config,
            subject,
            local,
            endpoint,
            runtime: Handle::current(),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            arrivals: arrivals.clone(),
            counters,
            half_open: Mutex::default(),
            table: RwLock::new(Table { routes, links: HashMap::new(), dials: Dials::default() }),
            dial_ended: Notify::new(),
            credentials: RwLock::new(credentials),
            quic,
            server,
            quiet: Mutex::default(),
            links_made: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        });
        shared.tracker.spawn(accept(shared.clone()));
        shared.tracker.spawn(upkeep(shared.clone()));
        tracing::debug!(name = %shared.subject.name, address = %local, "listening");
        Ok((Self { owner: Arc::new(Owner(shared)) }, Incoming::new(arrivals)))
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

    /// What the node's certificate says where it can be reached; `None` if it listens on all addresses and was not told.
    pub fn advertised_address(&self) -> Option<SocketAddr> {
        self.shared().subject.advertised
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

    /// Opens a stream, dialling the destination if there is no connection. Takes at most [`crate::Timeouts::dial`].
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
    /// they see as [`Loss::ClosedByPeer`]. They may connect again.
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

    /// The secrets in use now.
    pub fn keys(&self) -> KeySet {
        self.shared().credentials().keys.clone()
    }

    /// Works with another key set from now on. The same one again changes nothing.
    ///
    /// New handshakes use it at once. Connections with peers that proved themselves with a secret that is no longer in
    /// it are replaced: new things go over a new connection, and the old one is closed within seconds.
    pub fn set_keys(&self, keys: KeySet) -> Result<(), KeysError> {
        let shared = self.shared();
        if keys.is_development() && !shared.local.ip().is_loopback() {
            return Err(KeysError::NoSecret(shared.local));
        }
        shared.replace_credentials(keys);
        Ok(())
    }

    /// Says goodbye and stops, within `limit`: what was sent and finished arrives if there is time for it.
    ///
    /// Streams that are still in use when half of the time is over are cut. Afterwards the port is free.
    pub async fn shutdown(&self, limit: Duration) {
        let shared = self.shared();
        let start = Instant::now();
        shared.stopping.store(true, Ordering::Release);
        let links = shared.links();
        let unsent = async {
            for link in &links {
                link.streams_over().await;
            }
            // quinn has no event for an empty buffer, and closing would drop what is in it.
            let buffer = shared.config.limits.datagram_send_bytes;
            while !links.iter().all(|link| link.datagrams_gone(buffer)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = timeout_at(start + limit / 2, unsent).await;
        shared.stop();
        let reason = format!("the node {:?} is shutting down", shared.subject.name);
        shared.endpoint.close(CloseCode::ShuttingDown.code(), reason.as_bytes());
        let _ = timeout_at(start + limit, shared.endpoint.wait_idle()).await;
        shared.vanish();
        let _ = timeout_at(start + limit, shared.tracker.wait()).await;
    }

    /// Stops at once, as a crash would: peers get no goodbye, what was not sent is lost, the port is free.
    pub fn abort(&self) {
        let shared = self.shared();
        shared.vanish();
        shared.stop();
        shared.endpoint.close(CloseCode::ShuttingDown.code(), b"");
    }
}

impl Shared {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.stop.cancel();
        self.tracker.close();
        self.arrivals.close();
    }

    /// Takes the socket away from under all connections, so that nothing is sent any more and the port is free.
    fn vanish(&self) {
        let nowhere = Arc::new(Nowhere(self.local));
        // The endpoint keeps its last socket for packets that are still on their way: after the second time that is
        // nowhere too.
        for _ in 0..2 {
            let _ = self.endpoint.rebind_abstract(nowhere.clone());
        }
    }

    /// Starts a task that ends when the transport stops, from wherever this is called.
    pub(crate) fn spawn<F>(self: &Arc<Self>, task: impl FnOnce(Arc<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn_on(task(self.clone()), &self.runtime);
    }

    pub(crate) fn credentials(&self) -> Arc<Credentials> {
        self.credentials.read().clone()
    }

    fn replace_credentials(&self, keys: KeySet) {
        let mut current = self.credentials.write();
        let now = wall_clock();
        if current.keys == keys && !current.is_due(now) {
            return;
        }
        let minted = Arc::new(Credentials::mint(&self.subject, keys, now));
        self.counters.certificates_minted.increment();
        *current = minted.clone();
        drop(current);

        let mut table = self.table.write();
        let unaccepted: Vec<_> =
            table.links.values().filter(|link| !minted.accepts(link.secret)).cloned().collect();
        for link in unaccepted {
            self.counters.connections_retired_by_keys.increment();
            if let Removed::Succeeded(id) = table.routes.retire(link.id)
                && let Some(successor) = table.links.get(&id)
            {
                successor.set_retirement(None);
            }
            link.set_retirement(Some(Retirement::keys(Instant::now())));
        }
    }

    pub(crate) fn frame_settings(&self) -> FrameSettings {
        FrameSettings {
            limit: self.config.limits.frame_bytes,
            timeout: self.config.timeouts.frame,
            counters: self.counters.clone(),
        }
    }

    pub(crate) fn client_config(&self, crypto: QuicClientConfig) -> quinn::ClientConfig {
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(self.quic.clone());
        config
    }

    pub(crate) fn server_config(&self, crypto: QuicServerConfig) -> quinn::ServerConfig {
        let mut config = self.server.clone();
        config.crypto = Arc::new(crypto);
        config
    }

    /// Whether there may not be another connection with a peer at this address.
    pub(crate) fn is_full(&self, address: SocketAddr) -> bool {
        self.table.read().is_full(&self.config.limits, address)
    }

    pub(crate) fn may_mention(&self, address: SocketAddr) -> bool {
        self.quiet.lock().allows(address, Instant::now())
    }

    pub(crate) fn find(&self, to: &Destination) -> Option<Arc<Link>> {
        let table = self.table.read();
        table.links.get(&table.routes.find(to)?).cloned()
    }

    fn links(&self) -> Vec<Arc<Link>> {
        self.table.read().links.values().cloned().collect()
    }

    /// Takes up a connection whose two sides have accepted each other.
    pub(crate) fn adopt(
        self: &Arc<Self>,
        connection: quinn::Connection,
        bearer: Bearer,
        dialled: bool,
    ) -> Result<Arc<Link>, Refusal> {
        let address = canonical(connection.remote_address());
        let who = Who { name: bearer.name.clone(), life: bearer.life };
        let peer = Peer { name: bearer.name, address, advertised: bearer.advertised };
        let id = LinkId(self.links_made.fetch_add(1, Ordering::Relaxed));
        let link = Link::new(id, peer, bearer.secret, dialled, connection);
        let now = Instant::now();

        let mut table = self.table.write();
        if self.is_stopping() || table.is_full(&self.config.limits, address) {
            return Err(Refusal::NoRoom);
        }
        let added = table.routes.add(Route { id, who, dialled, address });
        table.links.insert(id, link.clone());
        for replaced in added.replaced.iter().filter_map(|id| table.links.get(id)) {
            self.counters.connections_replaced.increment();
            replaced.set_retirement(Some(Retirement::replaced(replaced, now, self.config.timeouts.drain)));
        }
        for stale in added.stale.iter().filter_map(|id| table.links.get(id)) {
            stale.set_retirement(Some(Retirement::stale(now)));
        }
        let Table { routes, links, dials } = &mut *table;
        // A connection that is being used up from the start takes nothing new.
        let waiting = match routes.is_current(id) {
            true => dials.satisfy(&link, |to| routes.find(to) == Some(id)),
            false => Vec::new(),
        };
        let best = routes
            .find(&Destination { name: Some(link.peer.name.clone()), address })
            .and_then(|id| links.get(&id).cloned())
            .unwrap_or_else(|| link.clone());
        drop(table);

        let served = link.clone();
        self.spawn(|shared| async move { served.serve_datagrams(&shared).await });
        self.spawn(|shared| async move {
            link.serve_streams(&shared).await;
            shared.ended(&link);
        });
        for bytes in waiting {
            self.send_kept(&best, bytes);
        }
        Ok(best)
    }

    /// Sends a datagram that waited for its dial.
    pub(crate) fn send_kept(&self, link: &Link, bytes: Bytes) {
        let size = bytes.len();
        match link.send_datagram(bytes) {
            Ok(()) => {
                self.counters.datagrams_sent.increment();
                self.counters.datagram_bytes_sent.add(size as u64);
            }
            Err(DatagramFailure::Send(error)) => self.count_unsent(&error),
            Err(DatagramFailure::Ended) => self.counters.datagrams_dropped_unreachable.increment(),
        }
    }

    async fn open_stream(
        self: &Arc<Self>,
        to: &Destination,
    ) -> Result<(FrameSender, FrameReceiver, Peer), OpenError> {
        let to = &Destination { name: to.name.clone(), address: canonical(to.address) };
        let after = self.config.timeouts.dial;
        let deadline = Instant::now() + after;
        loop {
            if self.is_stopping() {
                return Err(OpenError::ShutDown);
            }
            let link = dial::connect(self, to, deadline).await?;
            match timeout_at(deadline, link.connection.open_bi()).await {
                Ok(Ok(stream)) => {
                    let (sender, receiver) = link.frames(stream, self, None);
                    return Ok((sender, receiver, link.peer.clone()));
                }
                // It had ended without the table knowing: the next look finds another one, or dials.
                Ok(Err(_)) if Instant::now() < deadline => self.ended(&link),
                Ok(Err(error)) => return Err(OpenError::Lost { to: describe(to), loss: Loss::of(&error) }),
                Err(_) => return Err(OpenError::Busy { to: describe(to), after }),
            }
        }
    }

    /// Forgets a connection that has ended. Called by whoever notices first; later calls change nothing.
    pub(crate) fn ended(&self, link: &Link) {
        let mut table = self.table.write();
        let removed = table.routes.remove(link.id);
        table.links.remove(&link.id);
        if let Removed::Succeeded(id) = removed
            && let Some(successor) = table.links.get(&id)
        {
            successor.set_retirement(None);
        }
        drop(table);
        let Some(error) = link.connection.close_reason() else { return };
        if removed == Removed::Unknown || error == quinn::ConnectionError::LocallyClosed || is_orderly(&error)
        {
            return;
        }
        self.counters.connections_lost.increment();
        if let Some(refusal) = crate::refusal::refusal_of(&error)
            && matches!(refusal, Refusal::ByPeer(_))
        {
            // The peer finished the handshake and then found that it does not want us.
            return crate::accept::refuse(self, link.peer.address, Some(link.peer.name.clone()), refusal);
        }
        let loss = Loss::of(&error);
        tracing::debug!(peer = %link.peer.name, address = %link.peer.address, %loss, "a connection ended");
        if removed == Removed::Lost && !self.is_stopping() {
            self.arrivals.push_notice(Arrival::Lost { peer: link.peer.clone(), loss });
        }
    }

    fn count_unsent(&self, error: &SendError) {
        match error {
            SendError::NotReady => self.counters.datagrams_dropped_not_ready.increment(),
            SendError::Unreachable => self.counters.datagrams_dropped_unreachable.increment(),
            SendError::Full => self.counters.datagrams_dropped_full.increment(),
            SendError::TooLarge { .. } => self.counters.datagrams_dropped_too_large.increment(),
            SendError::ShutDown => {}
        }
    }

    pub(crate) fn count_refusal(&self, refusal: &Refusal) {
        let counters = &self.counters;
        match refusal {
            Refusal::UnknownSecret { .. } => counters.refused_unknown_secret.increment(),
            Refusal::Expired { .. } | Refusal::NotYetValid { .. } | Refusal::Certificate(_) => {
                counters.refused_certificate.increment();
            }
            Refusal::Cluster { .. } => counters.refused_cluster.increment(),
            Refusal::Name { .. } => counters.refused_name.increment(),
            Refusal::Myself => counters.refused_myself.increment(),
            Refusal::Protocol => counters.refused_protocol.increment(),
            Refusal::NoRoom => counters.refused_no_room.increment(),
            Refusal::ByPeer(_) => counters.refused_by_peer.increment(),
        }
    }
}

/// Renews the certificate, forgets failed dials, and closes what nobody uses, until the transport stops.
async fn upkeep(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(UPKEEP) => {}
            () = shared.stop.cancelled() => return,
        }
        let now = Instant::now();
        shared.table.write().dials.purge(now);
        let credentials = shared.credentials();
        if credentials.is_due(wall_clock()) {
            shared.replace_credentials(credentials.keys.clone());
        }
        close_unused(&shared, now);
    }
}

fn close_unused(shared: &Shared, now: Instant) {
    let links = shared.links();
    let surplus = links.len().saturating_sub(shared.config.limits.warm_connections);
    if surplus == 0 {
        return;
    }
    let mut unused: Vec<_> = links.iter().map(|link| (link.unused_for(now), link)).collect();
    unused.sort_unstable_by_key(|(time, link)| (std::cmp::Reverse(*time), link.id));
    for (time, link) in unused.into_iter().take(surplus) {
        if time < shared.config.timeouts.unused {
            break;
        }
        shared.counters.connections_unused.increment();
        link.close(CloseCode::Unused, "nobody used the connection");
    }
}

fn transport_config(config: &Config) -> Result<TransportConfig, BindError> {
    let (limits, timeouts) = (&config.limits, &config.timeouts);
    let idle = IdleTimeout::try_from(timeouts.idle).map_err(|_| {
        BindError::Setting(format!("an idle time-out of {:?} is longer than QUIC allows", timeouts.idle))
    })?;
    if timeouts.keep_alive >= timeouts.idle {
        return Err(BindError::Setting(format!(
            "connections would be lost before they are kept alive: the keep-alive interval is {:?}, the idle time-out \
             {:?}; make the first well below the second",
            timeouts.keep_alive, timeouts.idle
        )));
    }
    let mut quic = TransportConfig::default();
    quic.max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(timeouts.keep_alive))
        .initial_rtt(timeouts.initial_rtt)
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.streams_per_connection))
        // The one of the welcome.
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .stream_receive_window(VarInt::from_u32(limits.stream_window))
        .receive_window(VarInt::from_u32(limits.connection_window))
        .send_window(u64::from(limits.connection_window))
        .datagram_receive_buffer_size(Some(limits.datagram_receive_bytes))
        .datagram_send_buffer_size(limits.datagram_send_bytes);
    Ok(quic)
}

fn server_config(credentials: &Arc<Credentials>, quic: Arc<TransportConfig>) -> quinn::ServerConfig {
    let crypto = crate::tls::server_config(credentials, &crate::tls::Verdict::default());
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(quic);
    server.migration(false);
    // Handshakes are admitted or refused as soon as they arrive, see accept.rs; nothing piles up before.
    server.max_incoming(1024);
    server
}

/// How a node answers packets of connections that it does not know (stateless reset, RFC 9000, section 10.3).
///
/// Both keys are the same for every life of the node at its address, so that a restarted node can tell its peers at once
/// that it has forgotten their connections. No other node has the same, or it could be made to end connections that are
/// not its own.
struct ForgottenKeys {
    resets: ring::hmac::Key,
    ids: [u8; 8],
}

impl ForgottenKeys {
    fn derive(config: &Config, address: SocketAddr) -> Self {
        let (name, address) = (config.name.as_str(), address.to_string());
        let length = (name.len() as u64).to_le_bytes();
        let derive = |purpose: &[u8], key: &mut [u8]| {
            config.keys.primary().derive(&[purpose, &length, name.as_bytes(), address.as_bytes()], key);
        };
        let mut resets = zeroize::Zeroizing::new([0; 32]);
        derive(b"networkdb stateless reset v1", &mut *resets);
        let mut ids = [0; 8];
        derive(b"networkdb connection ids v1", &mut ids);
        Self { resets: ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &*resets), ids }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "certificates are valid by the wall clock, and this is the shell"
)]
pub(crate) fn wall_clock() -> UnixTime {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixTime::since_unix_epoch(now)
}
