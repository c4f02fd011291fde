//! The replication state machine: no socket, no clock, no thread, no randomness of its own.
//!
//! Bytes, membership's news and time go in; bytes, events and the next deadline come out. `handle_*` is what happens to
//! it, `poll_*` what it wants, in the manner of quinn-proto. ALGORITHM.md tells the rules and why they hold.

mod bundle;
mod clock;
mod common;
mod comparison;
mod connections;
mod counters;
mod fingerprint;
mod inspect;
mod list_exchange;
mod list_news;
mod lists;
mod message;
mod network;
mod news;
mod numbers;
mod owners;
mod ranges;
mod remembered;
mod requests;
mod session;
mod skews;
mod store;
mod streams;
mod timing;
mod transfer;
mod view;
mod watch_queue;
mod watchers;
mod writes;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use wire::{NodeId, NodeName, StreamId, codec};

pub use common::{Event, Transmit};
pub use counters::Counters;
pub use inspect::{InspectedAttachment, InspectedEntry, InspectedNetwork};
pub use ranges::Ranges;
pub use skews::ClockSkew;
pub(crate) use view::{Map, View};
pub(crate) use watch_queue::{Taken, WatchQueue};

use crate::{Change, Config, ConfigError, JoinError, LeaveError, NetworkStatistics, WatchFilter};
use clock::Clock;
use common::Common;
use connections::Connections;
use counters::Refusal;
use list_news::ListNews;
use message::{Bundle, Datagram, Digest, SessionKind};
use network::{Arrival, Network, Syncing};
use owners::Owners;
use ranges::digest_bytes;
use remembered::Remembered;
use requests::Requests;
use session::Session;
use skews::Skews;
use timing::{MAX_LIST_SESSIONS, MAX_OPENED_SESSIONS, PARKED_FOR, UNLISTED_GRACE};
use view::Table;
use watchers::Watchers;

#[cfg(test)]
mod disclosure_tests;
#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod tests;

/// What a replica starts from.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// The monotonic time of the start.
    pub now: Instant,
    /// The wall time of the start, since 1970. Versions are never older than it.
    pub wall_clock: Duration,
    /// Where its random choices start from.
    pub seed: u64,
}

/// Bytes from a peer, or a call about a stream, that could not be used. Nothing has changed, but for what earlier parts
/// of the same exchange changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The bytes do not decode.
    #[error(transparent)]
    Malformed(#[from] codec::DecodeError),
    /// The stream is not, or no longer, one of this replica's.
    #[error("stream {} is not open", .0.0)]
    UnknownStream(StreamId),
    /// The exchange cannot go on; give the stream up.
    #[error("the exchange was given up: {0}")]
    Exchange(String),
}

/// A datagram about a life that membership has not told of yet.
#[derive(Debug)]
struct Parked {
    from: NodeName,
    bytes: Vec<u8>,
    until: Instant,
}

/// A stream that a peer has opened and not yet said what for.
#[derive(Debug)]
enum Stream {
    Unopened { peer: NodeName, until: Instant },
    Session(Box<Session>),
}

/// Where each network is, by name. Each write looks here, and each frame; a quick hash, keyed at random.
type Places = HashMap<Arc<str>, usize, ahash::RandomState>;

/// The replicated state of one node: what [`TableDb`](crate::TableDb) wraps for threads, and nodes and simulators drive.
#[derive(Debug)]
pub struct Replica {
    common: Common,
    networks: Vec<Option<Network>>,
    by_name: Places,
    /// Networks as they were when they were left, once this node is ending: readers go on seeing that.
    ended: BTreeMap<Arc<str>, Network>,
    /// When each network wants to be looked at.
    deadlines: BTreeSet<(Instant, usize)>,
    planned: Vec<Instant>,
    /// What readers see, shared with them.
    views: Arc<Map<Arc<View>>>,
    streams: BTreeMap<StreamId, Stream>,
    next_stream: u64,
    list_news: ListNews,
    list_peers: VecDeque<NodeName>,
    /// The exchange of lists under way that differing digests asked for, and those that are over.
    lists_comparing: Option<(NodeName, u64, u64)>,
    lists_compared: BTreeMap<NodeName, (u64, u64, Instant)>,
    lists_still: (u64, Instant),
    /// When somebody alive whose list has not come is asked for it.
    unlisted_at: Option<Instant>,
    /// How often somebody was asked since all lists were there.
    unlisted_asked: u32,
    parked: VecDeque<Parked>,
    now: Instant,
}

impl Replica {
    /// An empty replica, on no network.
    pub fn new(config: Config, origin: Origin) -> Result<Self, ConfigError> {
        config.validate()?;
        let owners = Owners::new(config.node.clone(), &config.limits);
        let common = Common {
            clock: Clock::new(origin.now, origin.wall_clock),
            rng: ChaCha8Rng::seed_from_u64(origin.seed),
            owners,
            connections: Connections::default(),
            remembered: Remembered::default(),
            watchers: Watchers::new((&config.limits).into()),
            outbox: VecDeque::new(),
            requests: Requests::default(),
            events: VecDeque::new(),
            counters: Counters::default(),
            skews: Skews::default(),
            wake: false,
            config,
        };
        Ok(Self {
            common,
            networks: Vec::new(),
            by_name: HashMap::default(),
            ended: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            planned: Vec::new(),
            views: Arc::default(),
            streams: BTreeMap::new(),
            next_stream: 0,
            list_news: ListNews::default(),
            list_peers: VecDeque::new(),
            lists_comparing: None,
            lists_compared: BTreeMap::new(),
            lists_still: (0, origin.now),
            unlisted_at: None,
            unlisted_asked: 0,
            parked: VecDeque::new(),
            now: origin.now,
        })
    }

    // What there is to know.

    /// This node's present life.
    pub fn node(&self) -> &NodeId {
        self.common.owners.me()
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.common.config
    }

    /// The networks this node is on, sorted; once it is ending, those that it was on.
    pub fn networks(&self) -> Vec<String> {
        let ending = self.common.watchers.is_closed();
        let joined = self.networks.iter().flatten().filter(|network| ending || !network.is_leaving());
        let joined = joined.chain(self.ended.values());
        let mut names: Vec<String> = joined.map(|network| network.name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// Whether this node is on no network, not even one that it is leaving.
    pub fn is_off_all_networks(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The nodes on `network`, this one included, that are alive; sorted. Known for every network of the cluster.
    pub fn network_peers(&self, network: &str) -> Vec<NodeName> {
        let mut peers: Vec<NodeName> = self.common.owners.members_of(network).cloned().collect();
        if self.by_name.contains_key(network) {
            peers.push(self.node().name.clone());
        }
        peers.sort_unstable();
        peers
    }

    /// Counts of one network; `None` if it is not joined here.
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
        })
    }

    /// Counts of what happened.
    pub fn counters(&self) -> Counters {
        Counters { watchers_lagged: self.common.watchers.lagged(), ..self.common.counters }
    }

    /// How far the wall clocks of peers are from ours, by their own word at their last exchange with us.
    pub fn clock_skew(&self) -> ClockSkew {
        self.common.skews.summary()
    }

    pub(crate) fn views(&self) -> Arc<Map<Arc<View>>> {
        self.views.clone()
    }

    fn network(&self, name: &str) -> Option<&Network> {
        self.networks[*self.by_name.get(name)?].as_ref()
    }

    // What happens to it.

    /// Whether the wall clock is to be read before the next call that is given `now`: its last reading is a millisecond old.
    pub fn wants_wall_clock(&self, now: Instant) -> bool {
        self.common.clock.is_due(now)
    }

    /// The wall clock showed `wall` since 1970. To be told whenever [`Self::wants_wall_clock`] says so: in between, the monotonic
    /// clock alone goes on, which stands still while a host sleeps.
    pub fn handle_wall_clock(&mut self, wall: Duration, now: Instant) {
        self.now = now;
        self.common.clock.read(wall, now);
    }

    /// A connection with a node was established, or the last one ended, by either side. Without any such call all nodes are
    /// treated alike.
    pub fn handle_connection_changed(&mut self, peer: &NodeName, connected: bool) {
        self.common.connections.change(peer, connected);
    }

    /// No connections exist but those that [`Self::handle_connection_changed`] reports from now on.
    pub fn forget_connections(&mut self) {
        self.common.connections.forget();
    }

    /// Membership says that this life is alive: for the first time, again after a failure, or in place of an earlier
    /// life, whose entries go.
    pub fn handle_owner_alive(&mut self, life: &NodeId, now: Instant) {
        self.now = now;
        let owners = &mut self.common.owners;
        match owners.get(life.name.as_str()).map(|owner| (owner.generation, owner.alive)) {
            Some((generation, _)) if generation > life.generation => return,
            Some((generation, true)) if generation == life.generation => return,
            Some((generation, false)) if generation == life.generation => {
                owners.set_alive(life.name.as_str(), true);
                for network in self.networks.iter_mut().flatten() {
                    network.owner_returned(&life.name, &mut self.common, now);
                }
                self.want_lists(&life.name);
            }
            former => {
                if former.is_some() {
                    self.end_owner(life.name.as_str(), now);
                }
                match self.common.owners.admit(life) {
                    Some(list) => {
                        self.handle_list(&list, now);
                    }
                    // Its news is on the way, or a list of lists. If not, somebody has to ask.
                    None => {
                        self.unlisted_at.get_or_insert(now + UNLISTED_GRACE);
                    }
                }
                self.replay_parked(None, now);
            }
        }
        self.replan_all();
    }

    /// Membership says that this life has failed: its entries are hidden, and kept.
    pub fn handle_owner_failed(&mut self, life: &NodeId, now: Instant) {
        self.now = now;
        let owners = &mut self.common.owners;
        if !owners
            .get(life.name.as_str())
            .is_some_and(|owner| owner.generation == life.generation && owner.alive)
        {
            return;
        }
        owners.set_alive(life.name.as_str(), false);
        self.common.requests.forget_peer(life.name.as_str());
        for network in self.networks.iter_mut().flatten() {
            network.owner_failed(life.name.as_str(), &mut self.common, now);
        }
        self.replan_all();
    }

    /// Membership has forgotten this instance, after it had failed long ago: everything it owned goes. It may return all the
    /// same, so what is dead of it is remembered.
    pub fn handle_owner_forgotten(&mut self, life: &NodeId, now: Instant) {
        let known = self.common.owners.get(life.name.as_str());
        if known.is_some_and(|owner| owner.generation == life.generation) {
            for network in self.networks.iter_mut().flatten() {
                network.remember_dead(life.name.as_str(), &mut self.common);
            }
        }
        self.handle_owner_gone(life, now);
    }

    /// Membership says that this instance has left, for ever: everything it owned goes.
    pub fn handle_owner_gone(&mut self, life: &NodeId, now: Instant) {
        self.now = now;
        let known = self.common.owners.get(life.name.as_str());
        if known.is_some_and(|owner| owner.generation == life.generation) {
            self.end_owner(life.name.as_str(), now);
            self.replan_all();
        }
    }

    /// We have joined a cluster through `peer`: it is told our list, and asked for everybody's.
    pub fn handle_cluster_joined(&mut self, peer: &NodeName, now: Instant) {
        self.now = now;
        self.want_lists(peer);
        let me = self.node().name.clone();
        self.list_news.add(me, now);
    }

    /// A datagram's content from an authenticated peer.
    pub fn handle_datagram(
        &mut self,
        from: &NodeName,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(), MessageError> {
        self.now = now;
        let datagram = self.decoded(codec::decode::<Datagram<'_>>(bytes))?;
        match datagram {
            Datagram::Gossip(bundle) => {
                if self.handle_bundle(from, &bundle, now) {
                    self.park(from, bytes, now);
                }
            }
            // An attachment list comes from its author, or from another node of the cluster that passes it on.
            Datagram::Lists { .. } if !self.common.owners.knows(from) => {
                self.common.counters.refuse(Refusal::UnknownLife);
            }
            Datagram::Lists { lists, heads, relay } => {
                for list in &lists {
                    if self.handle_list(list, now) && relay {
                        self.list_news.add(list.owner.name.clone(), now);
                    }
                }
                if heads.iter().any(|head| self.common.owners.is_behind(head)) {
                    self.want_lists(from);
                }
                for head in heads {
                    self.check_author(&head.owner, head.version);
                }
            }
            Datagram::Settled { network, settled } => {
                if let Some(&at) = self.by_name.get(network)
                    && let Some(network) = &mut self.networks[at]
                    && network.members(&self.common).binary_search(from).is_ok()
                {
                    network.note_settled(from, &settled, &mut self.common, now);
                    // What is missing is pulled at a time that nothing else may be planned for.
                    self.plan(at, now);
                }
            }
        }
        Ok(())
    }

    /// The digest that rode along with a peer's probe or acknowledgement; made by [`Self::digest_for`].
    pub fn handle_digest(&mut self, from: &NodeName, bytes: &[u8], now: Instant) -> Result<(), MessageError> {
        self.now = now;
        let digest = self.decoded(codec::decode::<Digest>(bytes))?;
        let head = message::ListHead {
            owner: NodeId::new(from.clone(), digest.generation),
            version: digest.version,
        };
        if self.common.owners.is_behind(&head) || self.lists_differ(from, digest.lists, now) {
            self.want_lists(from);
        }
        let theirs: BTreeMap<u64, u64> = digest.fingerprints.into_iter().collect();
        for at in 0..self.networks.len() {
            let Some(network) = &mut self.networks[at] else { continue };
            let Some(&theirs) = theirs.get(&digest_bytes(network.name.as_bytes())) else { continue };
            if network.members(&self.common).binary_search(from).is_ok() {
                network.note_fingerprint(from, theirs, &mut self.common, now);
            }
        }
        Ok(())
    }

    /// Does what is due. Early, late or twice is always legal.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.common.requests.handle_timeout(now);
        while let Some(&(deadline, at)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_first();
            if let Some(network) = &mut self.networks[at] {
                network.handle_timeout(&mut self.common, now);
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
        while self.parked.front().is_some_and(|parked| parked.until <= now) {
            self.parked.pop_front();
            self.common.counters.refuse(Refusal::UnknownLife);
        }
        self.list_news.flush(&mut self.common, now);
        if self.unlisted_at.is_some_and(|at| at <= now) {
            self.ask_for_lists(now);
        }
    }

    // What its owner asks of it.

    /// Puts this node on a network. It is usable at once; [`Event::NetworkReady`] tells when it holds what the others
    /// hold.
    pub fn join_network(&mut self, network: &str, now: Instant) -> Result<(), JoinError> {
        self.now = now;
        let limits = &self.common.config.limits;
        if !(1..=limits.name_bytes).contains(&network.len()) {
            return Err(JoinError::Length {
                found: network.len(),
                allowed: format!("1 to {}", limits.name_bytes),
            });
        }
        if self.by_name.contains_key(network) {
            return Err(JoinError::AlreadyJoined { network: network.to_owned() });
        }
        if self.by_name.len() >= limits.networks {
            return Err(JoinError::TooManyNetworks { limit: limits.networks });
        }
        let name: Arc<str> = network.into();
        let epoch = self.common.owners.join(name.clone());
        let network = Network::new(name.clone(), epoch, &mut self.common, now);
        self.ended.remove(&name);
        self.views.insert(name.clone(), network.store.view().clone());
        let at = self.networks.iter().position(Option::is_none).unwrap_or(self.networks.len());
        if at == self.networks.len() {
            self.networks.push(None);
            self.planned.push(now);
        }
        self.networks[at] = Some(network);
        self.by_name.insert(name, at);
        self.plan(at, now);
        self.announce_own_list(now);
        Ok(())
    }

    /// Starts leaving a network: no more writes, a final sync with two members, then its tables go and
    /// [`Event::NetworkLeft`] tells whether the final syncs came to their end. Bounded to two seconds from when there is
    /// capacity for them, and to thirty in any case.
    pub fn leave_network(&mut self, network: &str, now: Instant) -> Result<(), LeaveError> {
        self.now = now;
        let not_joined = || LeaveError::NotJoined { network: network.to_owned() };
        let &at = self.by_name.get(network).ok_or_else(not_joined)?;
        let others = self.networks.iter().flatten().filter(|network| network.is_leaving()).count();
        let leaving =
            self.networks[at].as_mut().filter(|network| !network.is_leaving()).ok_or_else(not_joined)?;
        leaving.start_leaving(others, &mut self.common, now);
        if leaving.left(now) {
            self.finish_leaving(at, now);
        } else {
            self.plan(at, now);
        }
        self.common.wake = true;
        Ok(())
    }

    /// Leaves all networks without waiting for final syncs any longer: what only this node knows is lost.
    pub fn leave_networks_at_once(&mut self, now: Instant) {
        self.now = now;
        for at in 0..self.networks.len() {
            if let Some(network) = &mut self.networks[at] {
                if !network.is_leaving() {
                    network.start_leaving(0, &mut self.common, now);
                }
                self.finish_leaving(at, now);
            }
        }
    }

    /// Takes up a new life under the same name: our entries are written again in it. For when an earlier process has
    /// borne our generation.
    pub fn renew(&mut self, generation: u64, now: Instant) {
        self.now = now;
        if generation <= self.node().generation {
            return;
        }
        self.common.owners.renew(generation);
        let me = self.node().clone();
        for network in self.networks.iter_mut().flatten() {
            network.renew(me.clone(), &mut self.common, now);
        }
        self.announce_own_list(now);
        self.replan_all();
    }

    /// Follows changes: the first chunk of what is visible now, and where the rest and every change from then on come from, without
    /// a gap between.
    pub(crate) fn watch(&mut self, filter: &WatchFilter) -> (VecDeque<Change>, Arc<WatchQueue>) {
        let queue = self.common.watchers.add(filter.clone());
        (queue.read(self, filter), queue)
    }

    /// A table of a network of this node.
    pub(crate) fn table(&self, network: &str, table: &str) -> Option<Arc<Table>> {
        self.network(network)?.store.view().table(table)
    }

    /// The first table that a watcher wants behind `after`, in the order of networks and tables.
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

    /// This node is ending: every watch ends, and those that are begun later, so that nothing that goes from the tables now is
    /// reported to anybody; and what is left from now on stays readable as it was last.
    pub fn end_watches(&mut self) {
        self.common.watchers.close();
    }

    /// How many watchers follow.
    pub fn watcher_count(&self) -> usize {
        self.common.watchers.count()
    }

    /// The bytes of changes that wait for watchers.
    pub fn watcher_bytes(&self) -> usize {
        self.common.watchers.bytes()
    }

    // What it wants.

    /// The next datagram to send, stream to open, or stream to see to.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        self.now = now;
        if let Some(transmit) = self.common.outbox.pop_front() {
            return Some(transmit);
        }
        if self.common.requests.open() < MAX_OPENED_SESSIONS
            && !self.list_peers.is_empty()
            && self.open_list_sessions() < MAX_LIST_SESSIONS
            && let Some(peer) = self.list_peers.pop_front()
        {
            let stream = self.new_stream();
            let session = Session::open_lists(stream, peer.clone(), &mut self.common, now);
            return Some(self.opened_session(stream, session, peer));
        }
        while let Some(request) = self.common.requests.next() {
            let stream = StreamId(self.next_stream);
            let Some(&at) = self.by_name.get(&request.network) else { continue };
            let Some(network) = &mut self.networks[at] else { continue };
            if !self.common.owners.is_member(request.peer.as_str(), &request.network) {
                // It has left the network since.
                if request.kind == SessionKind::Full {
                    network.comparison_not_begun(now);
                    self.plan(at, now);
                }
                continue;
            }
            match request.kind {
                SessionKind::Full => {
                    network.syncing.insert(stream, Syncing::new(request.peer.clone(), now));
                    network.final_sync_opened(stream, &request.peer, now);
                }
                SessionKind::Pull if network.pulling.is_some() => continue,
                SessionKind::Pull => {
                    network.pulling = Some((stream, Syncing::new(request.peer.clone(), now)))
                }
                SessionKind::Push { .. } if network.pushing.contains_key(&request.peer) => continue,
                SessionKind::Push { .. } => {
                    network.pushing.insert(request.peer.clone(), stream);
                }
                SessionKind::Lists => continue,
            }
            let peer = request.peer.clone();
            let session = Session::open(stream, request, network, &mut self.common, now);
            self.next_stream += 1;
            self.plan(at, now);
            return Some(self.opened_session(stream, session, peer));
        }
        None
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.common.events.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let networks = self.deadlines.first().map(|&(at, _)| at);
        let streams = self.streams.values().map(deadline_of).min();
        let parked = self.parked.front().map(|parked| parked.until);
        let requests = self.common.requests.next_deadline();
        [networks, streams, parked, requests, self.list_news.next_deadline(), self.unlisted_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether a call other than the driver's own has brought a deadline nearer since this was last asked.
    pub fn take_wake(&mut self) -> bool {
        std::mem::take(&mut self.common.wake)
    }

    /// What is to ride along with a probe or acknowledgement to `peer`, in at most `room` bytes: the version of our
    /// list, and the fingerprints of networks we share that have been still of late. `None` if there is no room.
    pub fn digest_for(&mut self, peer: &NodeName, room: usize, now: Instant) -> Option<Vec<u8>> {
        self.now = now;
        const FIXED: usize = 32;
        const EACH: usize = 18;
        let most = room.checked_sub(FIXED)? / EACH;
        let lists = self.common.owners.lists_digest();
        let mut fingerprints = Vec::new();
        for network in self.networks.iter_mut().flatten() {
            if fingerprints.len() == most {
                break;
            }
            if network.members(&self.common).binary_search(peer).is_ok()
                && let Some(fingerprint) = network.offered_fingerprint(now)
            {
                fingerprints.push((digest_bytes(network.name.as_bytes()), fingerprint));
            }
        }
        let digest = Digest {
            generation: self.node().generation,
            version: self.common.owners.own_version(),
            lists,
            fingerprints,
        };
        Some(codec::encode(&digest))
    }

    // How it works inside.

    /// Applies gossip. True if a life in it, or its sender, is not known yet.
    fn handle_bundle(&mut self, from: &NodeName, bundle: &Bundle<'_>, now: Instant) -> bool {
        let Some(&at) = self.by_name.get(bundle.network) else {
            self.common.counters.refuse(Refusal::NotMember);
            return false;
        };
        let Some(network) = &mut self.networks[at] else { return false };
        match network.judge_sender(from, bundle, &mut self.common, now) {
            Ok(()) => {}
            Err(Refusal::UnknownLife) => return true,
            Err(why) => {
                self.common.counters.refuse(why);
                return false;
            }
        }
        let applied = network.apply(bundle, from, Arrival::Gossip, &mut self.common, now);
        self.common.counters.news += applied.news;
        if applied.impostor {
            self.common.report_taken_generation();
        }
        if let Some(theirs) = bundle.fingerprint
            && network.members(&self.common).binary_search(from).is_ok()
        {
            network.note_fingerprint(from, theirs, &mut self.common, now);
        }
        self.plan(at, now);
        applied.unknown_life
    }

    fn park(&mut self, from: &NodeName, bytes: &[u8], now: Instant) {
        if self.parked.len() >= self.common.config.limits.parked {
            self.parked.pop_front();
            self.common.counters.refuse(Refusal::UnknownLife);
        }
        self.common.counters.parked += 1;
        self.parked.push_back(Parked { from: from.clone(), bytes: bytes.to_vec(), until: now + PARKED_FOR });
    }

    /// Applies what was kept until more was known of its sender, or of whom it is about: all of it, or that of one sender.
    fn replay_parked(&mut self, sender: Option<&NodeName>, now: Instant) {
        for parked in std::mem::take(&mut self.parked) {
            if sender.is_some_and(|sender| parked.from != *sender) {
                self.parked.push_back(parked);
            } else if let Ok(Datagram::Gossip(bundle)) = codec::decode::<Datagram<'_>>(&parked.bytes)
                && self.handle_bundle(&parked.from, &bundle, now)
            {
                self.parked.push_back(parked);
            }
        }
    }

    fn end_owner(&mut self, name: &str, now: Instant) {
        self.common.owners.remove(name);
        for network in self.networks.iter_mut().flatten() {
            network.owner_gone(name, &mut self.common, now);
        }
        self.common.requests.forget_peer(name);
        self.lists_compared.remove(name);
        self.common.skews.forget(name);
    }

    /// The tables of a network go; everybody is told by the shorter list. No deletes are written for our entries: the
    /// list ends them, and deletes would only kill more.
    fn finish_leaving(&mut self, at: usize, now: Instant) {
        let Some(mut network) = self.networks[at].take() else { return };
        self.deadlines.remove(&(self.planned[at], at));
        self.by_name.remove(&network.name);
        self.common.owners.leave(&network.name);
        self.common.remembered.drop_network(&network.name);
        // What is still said in its sessions is about this stay, and its places in this store. Another stay may begin before
        // they end.
        for (&stream, state) in &mut self.streams {
            if let Stream::Session(session) = state
                && session.network == network.name
                && session.abandon(&self.common.owners)
            {
                // Nothing else makes it say that it is over.
                self.common.outbox.push_back(Transmit::WakeStream { stream });
            }
        }
        self.common.requests.forget_network(&network.name);
        let (name, final_syncs) = (network.name.to_string(), network.final_syncs());
        self.common.events.push_back(Event::NetworkLeft { network: name, final_syncs });
        if self.common.watchers.is_closed() {
            // A proxy may be reading: an empty table would make it drop every backend.
            self.ended.insert(network.name.clone(), network);
        } else {
            network.store.clear(&mut self.common.watchers);
            self.views.remove(&network.name);
        }
        self.announce_own_list(now);
    }

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
            self.common.counters.refuse(Refusal::Malformed);
            error.into()
        })
    }
}

fn find<'a>(networks: &'a mut [Option<Network>], by_name: &Places, name: &str) -> Option<&'a mut Network> {
    networks[*by_name.get(name)?].as_mut()
}

fn deadline_of(stream: &Stream) -> Instant {
    match stream {
        Stream::Unopened { until, .. } => *until,
        Stream::Session(session) => session.deadline(),
    }
}
