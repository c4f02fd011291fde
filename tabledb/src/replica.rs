//! The replication state machine: it has no socket, clock, thread or source of randomness of its own.
//!
//! Bytes, membership events and time are its input; bytes, events and the next deadline are its output. Calls
//! named `handle_*` give input, calls named `poll_*` take output, as in quinn-proto. ALGORITHM.md explains
//! the rules and why they hold.

mod arrivals;
mod attachment;
mod attachment_lists;
mod bundle;
mod clock;
mod connections;
mod counters;
mod datagrams;
mod expiries;
mod fingerprint;
mod forgotten_owners;
mod inquiries;
mod inspect;
mod instances;
mod joining;
mod list_gossip;
mod load;
mod message;
mod network;
mod node_state;
mod number_index;
mod owners;
mod ranges;
mod record_map;
mod requests;
mod resume;
mod resume_point;
mod session;
mod session_result;
mod skews;
mod store;
mod streams;
mod tables;
mod timing;
mod update_queue;
mod view;
mod watch_cursor;
mod watch_history;
mod watch_index;
mod watch_log;
mod watchers;
mod writes;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::{NodeId, NodeName, StreamId, codec};

pub use counters::Counters;
pub use inspect::{InspectedAttachment, InspectedEntry, InspectedNetwork};
pub use node_state::{Event, Transmit};
pub use ranges::Ranges;
pub(crate) use resume::{NotResumed, Resumed};
pub(crate) use resume_point::{ReceivedContext, ResumedFrom, encoded_point};
pub use resume_point::{ResumePoint, ResumePointError};
pub use skews::ClockSkew;
pub(crate) use view::{Map, Table, View};
pub(crate) use watch_cursor::{Present, Taken, WatchCursor};

use crate::change::RecordedChange;
use crate::{
    Config, ConfigError, HiddenReason, Latencies, NetworkStatistics, SleepingWatches, SyncProgress,
    WatchFilter,
};
use counters::RefusalReason;
use list_gossip::ListGossip;
use network::Network;
use node_state::NodeState;
use requests::SyncKind;
use session::Session;
use store::Visibility;
use timing::{MAX_LIST_SESSIONS, MAX_OPENED_SESSIONS};

#[cfg(test)]
mod disclosure_tests;
#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod tests;

/// The initial time and randomness of a replica.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// The monotonic time of the start.
    pub now: Instant,
    /// The wall time of the start, since 1970. Versions are never older than it.
    pub wall_clock: Duration,
    /// The seed of its random choices.
    pub seed: u64,
}

/// Bytes from a peer, or a call about a stream, that could not be used. They changed nothing, except what
/// earlier frames of the same session changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The bytes do not decode.
    #[error(transparent)]
    Malformed(#[from] codec::DecodeError),
    /// The stream does not belong to this replica, or no longer.
    #[error("stream {} is not open", .0.0)]
    UnknownStream(StreamId),
    /// The session cannot go on; reset the stream.
    #[error("the session was given up: {0}")]
    Exchange(String),
}

/// A datagram that names an instance which membership has not reported yet.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
struct Deferred {
    from: NodeName,
    bytes: Vec<u8>,
    until: Instant,
}

/// A stream of a peer: before its first frame, or with its session.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
enum Stream {
    Unopened { peer: NodeName, until: Instant },
    Session(Box<Session>),
}

/// The index of each network by name, looked up for each write and each frame. A fast hash, keyed at random.
type NetworkIndexes = HashMap<Arc<str>, usize, ahash::RandomState>;

/// The replicated state of one node. [`TableDb`](crate::TableDb) wraps it for threads; nodes and simulators
/// drive it.
#[derive(Debug)]
pub struct Replica {
    node: NodeState,
    networks: Vec<Option<Network>>,
    by_name: NetworkIndexes,
    /// Networks that were left while this node ends, in their last state, for readers.
    ended: BTreeMap<Arc<str>, Network>,
    /// The next deadline of each network.
    deadlines: BTreeSet<(Instant, usize)>,
    planned: Vec<Instant>,
    /// The tables that readers see, shared with them.
    views: Arc<Map<Arc<View>>>,
    streams: BTreeMap<StreamId, Stream>,
    next_stream: u64,
    list_gossip: ListGossip,
    list_peers: VecDeque<NodeName>,
    /// The exchange of attachment lists in progress that differing digests caused, and the completed ones.
    lists_comparing: Option<(NodeName, u64, u64)>,
    lists_compared: BTreeMap<NodeName, (u64, u64, Instant)>,
    lists_unchanged_since: (u64, Instant),
    /// When to ask for the missing attachment list of an alive node.
    unlisted_at: Option<Instant>,
    /// How many requests for lists were made since all lists were known.
    unlisted_asked: u32,
    deferred: VecDeque<Deferred>,
    now: Instant,
}

impl Replica {
    /// An empty replica, on no network.
    pub fn new(config: Config, origin: Origin) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            node: NodeState::new(config, origin),
            networks: Vec::new(),
            by_name: HashMap::default(),
            ended: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            planned: Vec::new(),
            views: Arc::default(),
            streams: BTreeMap::new(),
            next_stream: 0,
            list_gossip: ListGossip::default(),
            list_peers: VecDeque::new(),
            lists_comparing: None,
            lists_compared: BTreeMap::new(),
            lists_unchanged_since: (0, origin.now),
            unlisted_at: None,
            unlisted_asked: 0,
            deferred: VecDeque::new(),
            now: origin.now,
        })
    }

    // Queries.

    /// This node's current instance.
    pub fn node(&self) -> &NodeId {
        self.node.owners.me()
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.node.config
    }

    /// The networks this node is on, sorted; while the node ends, also those that it has left.
    pub fn networks(&self) -> Vec<String> {
        let ending = self.node.watchers.is_closed();
        let joined = self.networks.iter().flatten().filter(|network| ending || !network.is_leaving());
        let joined = joined.chain(self.ended.values());
        let mut names: Vec<String> = joined.map(|network| network.name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// Whether this node is on no network, and is not leaving one.
    pub fn is_off_all_networks(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The alive nodes on `network`, including this one, sorted. Known for every network of the cluster.
    pub fn network_peers(&self, network: &str) -> Vec<NodeName> {
        let mut peers: Vec<NodeName> = self.node.owners.members_of(network).cloned().collect();
        if self.by_name.contains_key(network) {
            peers.push(self.node().name.clone());
        }
        peers.sort_unstable();
        peers
    }

    /// Statistics of one network; `None` if it is not joined here.
    pub fn statistics(&self, network: &str) -> Option<NetworkStatistics> {
        let network = self.network(network).or_else(|| self.ended.get(network))?;
        let (entries, hidden, tombstones) = network.store.counts();
        Some(NetworkStatistics {
            entries,
            hidden,
            tombstones,
            tables: network.store.view().table_count(),
            bytes: network.store.bytes(),
            refused: network.refused(),
            queue_length: network.queue_length(),
            peers: self.network_peers(&network.name).len(),
            digest: network.store.visible_digest(),
            synchronised: network.is_synced(),
            disagreement: self.disagreement(network),
        })
    }

    /// The owners whose entries of `network` readers do not see, and why; none for a network not joined.
    pub(crate) fn hidden_owners(&self, network: &str) -> Vec<(NodeName, HiddenReason)> {
        let attachments = self.network(network).into_iter().flat_map(|network| network.store.attachments());
        let hidden = attachments.filter_map(|(_, attachment)| {
            let reason = match attachment.visibility() {
                Visibility::Shown => return None,
                Visibility::OwnerFailed => HiddenReason::OwnerFailed,
                Visibility::AwaitsComparison => HiddenReason::AwaitsComparison,
            };
            Some((attachment.tag.owner.name.clone(), reason))
        });
        hidden.collect()
    }

    /// Counters since the start.
    pub fn counters(&self) -> Counters {
        Counters { watchers_lagged: self.node.watchers.lagged(), ..self.node.counters }
    }

    /// How long things took since the start.
    pub fn latencies(&self) -> &Latencies {
        &self.node.latencies
    }

    /// How far the initial syncs of the joined networks are.
    pub fn sync_progress(&mut self) -> SyncProgress {
        let mut progress = SyncProgress::default();
        let may_have_members = self.node.owners.unlisted().next().is_some();
        for network in self.networks.iter_mut().flatten().filter(|network| !network.is_leaving()) {
            if network.is_synced() {
                progress.synchronised += 1;
            } else if may_have_members || !network.members(&self.node).is_empty() {
                progress.awaiting.push(network.name.to_string());
            } else {
                progress.alone += 1;
            }
        }
        progress.awaiting.sort_unstable();
        progress
    }

    /// The differences between the wall clocks of peers and ours, as reported in the last session with each.
    pub fn clock_skew(&self) -> ClockSkew {
        self.node.skews.summary()
    }

    pub(crate) fn views(&self) -> Arc<Map<Arc<View>>> {
        self.views.clone()
    }

    fn network(&self, name: &str) -> Option<&Network> {
        self.networks[*self.by_name.get(name)?].as_ref()
    }

    // Input.

    /// Whether the caller should read the wall clock before its next call with the time `now`: the last
    /// reading is a millisecond old.
    pub fn wants_wall_clock(&self, now: Instant) -> bool {
        self.node.clock.is_due(now)
    }

    /// The wall clock showed `wall` since 1970. Call it whenever [`Self::wants_wall_clock`] returns true.
    /// Between calls only the monotonic clock advances, which stops while the host sleeps.
    pub fn handle_wall_clock(&mut self, wall: Duration, now: Instant) {
        self.now = now;
        self.node.clock.read(wall, now);
    }

    /// A connection with a node was established, or its last connection closed, by either side. Until the
    /// first such call all nodes are treated alike.
    pub fn handle_connection_changed(&mut self, peer: &NodeName, connected: bool) {
        self.node.connections.change(peer, connected);
    }

    /// There are no connections except those that [`Self::handle_connection_changed`] reports from now on.
    pub fn forget_connections(&mut self) {
        self.node.connections.forget();
    }

    /// Does what is due. Calls that come early, late or twice are allowed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.node.requests.handle_timeout(now);
        while let Some(&(deadline, at)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_first();
            if let Some(network) = &mut self.networks[at] {
                network.handle_timeout(&mut self.node, now);
                if network.left(now) {
                    self.finish_leaving(at, now);
                    continue;
                }
                self.plan(at, now);
            }
        }
        let stale: Vec<StreamId> =
            self.streams.iter().filter(|(_, s)| deadline_of(s) <= now).map(|(&id, _)| id).collect();
        for stream in stale {
            self.give_up_stream(stream, now);
        }
        while self.deferred.front().is_some_and(|deferred| deferred.until <= now) {
            self.deferred.pop_front();
            self.node.counters.refuse(RefusalReason::UnknownInstance);
        }
        self.list_gossip.flush(&mut self.node, now);
        if self.unlisted_at.is_some_and(|at| at <= now) {
            self.ask_for_lists(now);
        }
    }

    // Calls of the application.

    /// Starts a watch: returns the first chunk of the visible entries, and the cursor from which the rest and
    /// every later change come, without a gap.
    pub(crate) fn watch(&mut self, filter: &WatchFilter) -> (VecDeque<RecordedChange>, WatchCursor) {
        let mut cursor = WatchCursor::new(self.node.watchers.log_for(filter), false);
        (cursor.read(self, filter), cursor)
    }

    /// A table of a network of this node.
    pub(crate) fn table(&self, network: &str, table: &str) -> Option<Arc<Table>> {
        self.network(network)?.store.view().table(table)
    }

    /// The first table after `after` that the watcher wants, in the order of networks and tables.
    pub(crate) fn next_table(
        &self,
        after: Option<(&str, &str)>,
        filter: &WatchFilter,
    ) -> Option<(Arc<str>, Arc<Table>)> {
        let next_in = |network: &Network, after: Option<&str>| {
            let view = network.store.view();
            let table = match filter.table.as_deref() {
                None => view.table_after(after),
                Some(wanted) if after.is_none_or(|after| after < wanted) => view.table(wanted),
                Some(_) => None,
            };
            Some((network.name.clone(), table?))
        };
        let present = after.and_then(|(network, table)| next_in(self.network(network)?, Some(table)));
        if present.is_some() {
            return present;
        }
        let mut last = after.map(|(network, _)| network);
        loop {
            let behind = self.networks.iter().flatten().filter(|network| {
                filter.network.as_deref().is_none_or(|wanted| wanted == &*network.name)
                    && last.is_none_or(|last| *network.name > *last)
            });
            let network = behind.min_by(|a, b| a.name.cmp(&b.name))?;
            if let found @ Some(_) = next_in(network, None) {
                return found;
            }
            last = Some(&network.name);
        }
    }

    /// This node ends: all watches end, including those opened later, so that no watcher sees what is dropped
    /// from now on as a delete. Networks left from now on stay readable in their last state.
    pub fn end_watches(&mut self) {
        self.node.watchers.close();
    }

    pub(crate) fn watch_statistics(&self) -> crate::WatchStatistics {
        crate::WatchStatistics { watches: self.node.watchers.count(), bytes: self.node.watchers.bytes() }
    }

    // Output.

    /// The next datagram to send, or stream to open, close or wake.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        self.now = now;
        if let Some(transmit) = self.node.outbox.pop_front() {
            return Some(transmit);
        }
        if self.node.requests.open() < MAX_OPENED_SESSIONS
            && !self.list_peers.is_empty()
            && self.open_list_sessions() < MAX_LIST_SESSIONS
            && let Some(peer) = self.list_peers.pop_front()
        {
            let stream = self.new_stream();
            let session = Session::open_lists(stream, peer.clone(), &mut self.node, now);
            return Some(self.opened_session(stream, session, peer));
        }
        while let Some(request) = self.node.requests.next() {
            let stream = StreamId(self.next_stream);
            let Some(&at) = self.by_name.get(&request.network) else { continue };
            let Some(network) = &mut self.networks[at] else { continue };
            if !self.node.owners.is_member(request.peer.as_str(), &request.network) {
                // The peer has left the network since the request was made.
                if request.kind == SyncKind::Full {
                    network.scheduler.full_sync_not_begun(now);
                    self.plan(at, now);
                }
                continue;
            }
            if !network.scheduler.session_opened(stream, request.kind, &request.peer, now) {
                continue;
            }
            let peer = request.peer.clone();
            let session = Session::open(stream, request, network, &mut self.node, now);
            self.next_stream += 1;
            self.plan(at, now);
            return Some(self.opened_session(stream, session, peer));
        }
        None
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.node.events.pop_front()
    }

    /// The latest time for the next call of [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let networks = self.deadlines.first().map(|&(at, _)| at);
        let streams = self.streams.values().map(deadline_of).min();
        let deferred = self.deferred.front().map(|deferred| deferred.until);
        let requests = self.node.requests.next_deadline();
        [networks, streams, deferred, requests, self.list_gossip.next_deadline(), self.unlisted_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// The watches to wake. To be called last before the lock is released.
    pub(crate) fn take_woken_watches(&mut self) -> SleepingWatches {
        self.node.watchers.take_woken()
    }

    /// Whether a call other than the driver's own has moved a deadline forward since the last call of this
    /// function.
    pub fn take_wake(&mut self) -> bool {
        std::mem::take(&mut self.node.wake)
    }

    // Internals.

    fn plan(&mut self, at: usize, now: Instant) {
        let Some(network) = &self.networks[at] else { return };
        let next = if network.left(now) { now } else { network.next_deadline() };
        if self.planned[at] != next || !self.deadlines.contains(&(next, at)) {
            self.deadlines.remove(&(self.planned[at], at));
            self.planned[at] = next;
            self.deadlines.insert((next, at));
        }
    }

    fn replan_all(&mut self) {
        for at in 0..self.networks.len() {
            self.plan(at, self.now);
        }
    }

    fn decoded<T>(&mut self, result: Result<T, codec::DecodeError>) -> Result<T, MessageError> {
        result.map_err(|error| {
            self.node.counters.refuse(RefusalReason::Malformed);
            error.into()
        })
    }
}

fn find<'a>(
    networks: &'a mut [Option<Network>],
    by_name: &NetworkIndexes,
    name: &str,
) -> Option<&'a mut Network> {
    networks[*by_name.get(name)?].as_mut()
}

fn deadline_of(stream: &Stream) -> Instant {
    match stream {
        Stream::Unopened { until, .. } => *until,
        Stream::Session(session) => session.deadline(),
    }
}
