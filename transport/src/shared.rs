//! The state that all tasks of an endpoint share: its identity, its connections and dials, and its
//! counters.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, TransportConfig};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire::{Destination, NodeName};

use crate::arrivals::{Arrival, Arrivals};
use crate::certificate::{Credentials, Subject, Validity, VerifiedPeer, wall_clock};
use crate::config::{Config, Limits};
use crate::dials::{Dials, LastHeard};
use crate::error::{BindError, Loss, RefusalReason, SendError, is_orderly, refusal_of};
use crate::frames::FrameSettings;
use crate::half_open::HalfOpen;
use crate::identity::Identity;
use crate::introduction::{InstanceId, Introduction};
use crate::link::{DatagramFailure, Link, Retirement};
use crate::log_limiter::LogLimiter;
use crate::peer::Peer;
use crate::quic;
use crate::reassembly::ReassemblyBudget;
use crate::routes::{Instance, LinkId, Removed, Route, Routes};
use crate::socket::{self, NullSocket, canonical};
use crate::statistics::Counters;
use crate::stream_guard::StreamsInUse;

/// The state that all tasks of an endpoint share.
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
    pub(crate) last_heard: Arc<LastHeard>,
    pub(crate) connections_changed: Notify,
    credentials: RwLock<Arc<Credentials>>,
    quic: Arc<TransportConfig>,
    server: quinn::ServerConfig,
    log_limiter: Mutex<LogLimiter>,
    reassembly: ReassemblyBudget,
    links_made: AtomicU64,
    /// Set when the shutdown begins: no new work is accepted.
    stopping: AtomicBool,
}

/// Connections and dials. The lock is held for look-ups and changes only, never during a call of QUIC
/// that may wait.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) routes: Routes,
    pub(crate) links: HashMap<LinkId, Arc<Link>>,
    pub(crate) dials: Dials,
    changed: Changed,
}

/// The peers whose connection state may have changed since the owner last asked.
#[derive(Debug, Default)]
struct Changed {
    peers: BTreeSet<NodeName>,
    /// More changes than are recorded one by one.
    all: bool,
}

/// Changes of connection state, see [`crate::Transport::take_connection_changes`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionChanges {
    /// Whether `peers` is the complete list of connected peers, and not only the changes.
    pub whole: bool,
    /// Each peer once, and whether there is a connection with it.
    pub peers: Vec<(NodeName, bool)>,
}

impl Table {
    fn note_change(&mut self, peer: &NodeName, limits: &Limits) {
        if self.changed.all {
            return;
        }
        self.changed.peers.insert(peer.clone());
        if self.changed.peers.len() > limits.connections {
            self.changed = Changed { peers: BTreeSet::new(), all: true };
        }
    }

    pub(crate) fn has_changes(&self) -> bool {
        self.changed.all || !self.changed.peers.is_empty()
    }

    pub(crate) fn take_changes(&mut self) -> ConnectionChanges {
        let Changed { peers, all } = std::mem::take(&mut self.changed);
        if all {
            let peers = self.routes.connected().into_iter().map(|peer| (peer, true)).collect();
            return ConnectionChanges { whole: true, peers };
        }
        let peers = peers.into_iter().map(|peer| {
            let connected = self.routes.is_connected(&peer);
            (peer, connected)
        });
        ConnectionChanges { whole: false, peers: peers.collect() }
    }

    fn is_full(&self, limits: &Limits, address: SocketAddr) -> bool {
        self.routes.len() >= limits.connections
            || self.routes.count_at_host(address.ip()) >= limits.connections_per_address
    }
}

impl Shared {
    /// Binds the socket. Starts no tasks.
    pub(crate) fn new(config: Config) -> Result<Arc<Self>, BindError> {
        let bind = config.bind;
        let quic = Arc::new(quic::transport_config(&config)?);
        let failed = |error| BindError::Socket { address: bind, error };
        let socket = socket::bind(bind, config.limits.socket_buffer_bytes)?;
        let local = canonical(socket.local_addr().map_err(failed)?);
        let advertised = config.advertise.or_else(|| (!local.ip().is_unspecified()).then_some(local));
        let subject = Subject::new(config.name.clone(), config.cluster.clone(), advertised);
        let credentials = Arc::new(Credentials::mint(
            &subject,
            config.identity.clone(),
            Validity::of(&config.timeouts),
            wall_clock(),
        ));
        let counters = Arc::<Counters>::default();
        counters.certificates_minted.increment();
        let server = quic::server_config(&credentials, quic.clone());
        let endpoint = quinn::Endpoint::new(
            quic::endpoint_config(&config, advertised.unwrap_or(local)),
            Some(server.clone()),
            socket,
            Arc::new(quinn::TokioRuntime),
        )
        .map_err(failed)?;
        let reassembly = ReassemblyBudget::new(&config.limits);
        let routes = Routes::new(Instance { name: subject.name.clone(), id: subject.instance() });
        let dials = Dials::new(&config.limits, &config.timeouts, subject.instance().number());
        Ok(Arc::new(Self {
            arrivals: Arrivals::new(&config.limits, counters.clone()),
            streams: Arc::new(Semaphore::new(config.limits.streams)),
            last_heard: dials.last_heard(),
            config,
            subject,
            local,
            endpoint,
            runtime: Handle::current(),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            counters,
            half_open: Mutex::default(),
            table: RwLock::new(Table { routes, links: HashMap::new(), dials, changed: Changed::default() }),
            dial_ended: Notify::new(),
            connections_changed: Notify::new(),
            credentials: RwLock::new(credentials),
            quic,
            server,
            log_limiter: Mutex::default(),
            reassembly,
            links_made: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        }))
    }

    /// Rejects new sends, streams and connections from now on.
    pub(crate) fn stop_accepting_work(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Ends all tasks, and closes the queue of arrivals.
    pub(crate) fn stop(&self) {
        self.stop_accepting_work();
        self.stop.cancel();
        self.tracker.close();
        self.arrivals.close();
    }

    /// Replaces the socket under all connections, so that nothing more is sent and the port is free.
    pub(crate) fn detach_socket(&self) {
        let null = Arc::new(NullSocket(self.local));
        // quinn keeps the previous socket for packets on their way. The second call replaces that too.
        for _ in 0..2 {
            let _ = self.endpoint.rebind_abstract(null.clone());
        }
    }

    /// Starts a task that ends when the transport stops. May be called on any thread.
    pub(crate) fn spawn<F>(self: &Arc<Self>, task: impl FnOnce(Arc<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn_on(task(self.clone()), &self.runtime);
    }

    pub(crate) fn credentials(&self) -> Arc<Credentials> {
        self.credentials.read().clone()
    }

    pub(crate) fn replace_credentials(&self, identity: Identity) {
        let mut current = self.credentials.write();
        let now = wall_clock();
        if current.identity == identity && !current.is_renewal_due(now) {
            return;
        }
        let validity = Validity::of(&self.config.timeouts);
        let minted = Arc::new(Credentials::mint(&self.subject, identity, validity, now));
        self.counters.certificates_minted.increment();
        *current = minted.clone();
        drop(current);

        let mut table = self.table.write();
        table.dials.clear_failures();
        let unaccepted: Vec<_> = table
            .links
            .values()
            .filter(|link| minted.check(link.authority, &link.connection).is_err())
            .cloned()
            .collect();
        for link in unaccepted {
            self.counters.connections_closed_keys.increment();
            if let Removed::Succeeded(id) = table.routes.retire(link.id)
                && let Some(successor) = table.links.get(&id)
            {
                successor.set_retirement(None);
            }
            table.note_change(&link.peer.name, &self.config.limits);
            self.connections_changed.notify_one();
            link.set_retirement(Some(Retirement::keys(Instant::now())));
        }
    }

    fn frame_settings(&self, reassembly: ReassemblyBudget) -> FrameSettings {
        FrameSettings {
            reassembly,
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

    /// How long a handshake may take now, dialled or accepted.
    pub(crate) fn handshake_timeout(&self) -> Duration {
        self.table.read().dials.timeout(Instant::now())
    }

    /// Whether the limits allow no further connection with a peer at this address.
    pub(crate) fn is_full(&self, address: SocketAddr) -> bool {
        self.table.read().is_full(&self.config.limits, address)
    }

    pub(crate) fn may_log(&self, address: SocketAddr) -> bool {
        self.log_limiter.lock().allows(address, Instant::now())
    }

    pub(crate) fn find(&self, to: &Destination) -> Option<Arc<Link>> {
        let table = self.table.read();
        table.links.get(&table.routes.find(to)?).cloned()
    }

    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.table.read().links.values().cloned().collect()
    }

    /// Describes a connection whose two sides have accepted each other. It is not in the table yet.
    pub(crate) fn new_link(
        &self,
        connection: quinn::Connection,
        verified: VerifiedPeer,
        introduction: &Introduction,
        dialled: bool,
    ) -> Arc<Link> {
        let address = canonical(connection.remote_address());
        let peer = Peer { name: verified.name, address, advertised: introduction.advertised };
        let id = LinkId(self.links_made.fetch_add(1, Ordering::Relaxed));
        let frames = self.frame_settings(self.reassembly.for_connection());
        let in_use = StreamsInUse::new(self.tracker.clone(), self.runtime.clone());
        Link::new(id, peer, verified.authority, dialled, connection, frames, in_use)
    }

    /// Adds a connection to the table, and retires those that it replaces. Returns the connection to use
    /// for the peer, and the datagrams that waited for it.
    pub(crate) fn add(
        &self,
        link: &Arc<Link>,
        instance: InstanceId,
    ) -> Result<(Arc<Link>, Vec<Bytes>), RefusalReason> {
        let (id, address, dialled) = (link.id, link.peer.address, link.dialled);
        let instance = Instance { name: link.peer.name.clone(), id: instance };
        let now = Instant::now();

        let mut table = self.table.write();
        if self.is_stopping() || table.is_full(&self.config.limits, address) {
            return Err(RefusalReason::AtCapacity);
        }
        // The identity may have changed during the handshake. From here on such a change finds the
        // connection in the table.
        self.credentials().check(link.authority, &link.connection)?;
        let added = table.routes.add(Route { id, instance, dialled, address });
        table.links.insert(id, link.clone());
        table.note_change(&link.peer.name, &self.config.limits);
        for replaced in added.replaced.iter().filter_map(|id| table.links.get(id)) {
            self.counters.connections_closed_replaced.increment();
            replaced.set_retirement(Some(Retirement::replaced(replaced, now, self.config.timeouts.drain)));
        }
        for stale in added.stale.iter().filter_map(|id| table.links.get(id).cloned()).collect::<Vec<_>>() {
            table.note_change(&stale.peer.name, &self.config.limits);
            stale.set_retirement(Some(Retirement::stale(now)));
        }
        let Table { routes, links, dials, .. } = &mut *table;
        // A connection that is drained from the start takes nothing new.
        let waiting = match routes.is_current(id) {
            true => dials.resolve(link, |to| routes.find(to) == Some(id), now),
            false => Vec::new(),
        };
        let best = routes
            .find(&Destination { name: Some(link.peer.name.clone()), address })
            .and_then(|id| links.get(&id).cloned())
            .unwrap_or_else(|| link.clone());
        drop(table);
        self.connections_changed.notify_one();
        self.dial_ended.notify_waiters();

        Ok((best, waiting))
    }

    /// Sends a datagram that waited for the end of a dial.
    pub(crate) fn send_kept(&self, link: &Link, bytes: Bytes) {
        let size = bytes.len();
        match link.send_datagram(bytes) {
            Ok(()) => {
                self.counters.datagrams_sent.increment();
                self.counters.datagram_sent_bytes.add(size as u64);
            }
            Err(DatagramFailure::Send(error)) => self.count_unsent(&error),
            Err(DatagramFailure::Ended) => self.counters.datagrams_dropped_unreachable.increment(),
        }
    }

    /// Removes a connection that has ended. The task that notices first calls this; later calls have no
    /// effect.
    pub(crate) fn ended(&self, link: &Link) {
        let mut table = self.table.write();
        let removed = table.routes.remove(link.id);
        table.links.remove(&link.id);
        if removed != Removed::Unknown {
            table.note_change(&link.peer.name, &self.config.limits);
            self.connections_changed.notify_one();
        }
        if let Removed::Succeeded(id) = removed
            && let Some(successor) = table.links.get(&id)
        {
            successor.set_retirement(None);
        }
        drop(table);
        let Some(error) = link.end() else { return };
        if removed == Removed::Unknown || error == ConnectionError::LocallyClosed || is_orderly(&error) {
            return;
        }
        self.counters.connections_closed_lost.increment();
        if let Some(refusal) = refusal_of(&error)
            && matches!(refusal, RefusalReason::ByPeer(_))
        {
            // The peer completed the handshake and then refused us.
            return self.refuse(link.peer.address, Some(link.peer.name.clone()), refusal);
        }
        let loss = Loss::of(&error);
        tracing::debug!(peer = %link.peer.name, address = %link.peer.address, %loss, "a connection ended");
        if removed == Removed::Lost && !self.is_stopping() {
            self.arrivals.push_notice(Arrival::Lost { peer: link.peer.clone(), loss });
        }
    }

    pub(crate) fn count_unsent(&self, error: &SendError) {
        match error {
            SendError::NotReady => self.counters.datagrams_dropped_not_ready.increment(),
            SendError::Unreachable => self.counters.datagrams_dropped_unreachable.increment(),
            SendError::Full => self.counters.datagrams_dropped_full.increment(),
            SendError::TooLarge { .. } => self.counters.datagrams_dropped_too_large.increment(),
            SendError::ShutDown => {}
        }
    }

    /// Counts a refusal, and logs and reports it, at most once a second for each address.
    pub(crate) fn refuse(&self, address: SocketAddr, name: Option<NodeName>, refusal: RefusalReason) {
        self.count_refusal(&refusal);
        if refusal != RefusalReason::Myself && self.may_log(SocketAddr::new(address.ip(), 0)) {
            let peer = name.as_ref().map(tracing::field::display);
            tracing::warn!(%address, peer, reason = %refusal, "refused a peer that dialled, or refused by it");
            self.arrivals.push_notice(Arrival::Refused { address, name, refusal });
        }
    }

    pub(crate) fn count_refusal(&self, refusal: &RefusalReason) {
        let counters = &self.counters;
        match refusal {
            RefusalReason::UnknownSecret { .. } => counters.refused_unknown_secret.increment(),
            RefusalReason::UnknownAuthority { .. } => counters.refused_unknown_authority.increment(),
            RefusalReason::Introduction(_) => counters.refused_introduction.increment(),
            RefusalReason::Expired { .. }
            | RefusalReason::NotYetValid { .. }
            | RefusalReason::Certificate(_) => {
                counters.refused_certificate.increment();
            }
            RefusalReason::Cluster { .. } => counters.refused_cluster.increment(),
            RefusalReason::Name { .. } => counters.refused_name.increment(),
            RefusalReason::Myself => counters.refused_myself.increment(),
            RefusalReason::Protocol => counters.refused_protocol.increment(),
            RefusalReason::AtCapacity => counters.refused_capacity.increment(),
            RefusalReason::ByPeer(_) => counters.refused_by_peer.increment(),
        }
    }
}
