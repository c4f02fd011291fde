//! The composition of membership and tables into one state machine that owns no socket, clock or thread.
//!
//! The driver feeds it with tokio and QUIC; the simulator feeds the very same code with a heap of timed events.
//! Membership's events become the tables' input here, the tables' digests ride on membership's probes, and one deadline
//! drives both.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use membership::{Membership, Purpose};
use tabledb::{FinalSyncs, JoinError, LeaveError, ReplicaGuard, TableDb};
use wire::{Destination, FramePoll, NodeName, StreamId};

use crate::streams::{Owner, Streams};

/// The most a datagram has, in bytes: what every QUIC path is sure to carry, less a little.
pub const DATAGRAM_BUDGET: usize = 1150;

/// The first byte of a datagram, and of the first frame of a stream: whom it is for.
const FOR_MEMBERSHIP: u8 = 0;
const FOR_TABLES: u8 = 1;

/// The least time between two lives that are taken because of what others hold in this node's name.
const RENEW_INTERVAL: Duration = Duration::from_secs(1);

/// Something the node wants done on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeTransmit {
    /// Send one datagram; it may be lost.
    Datagram {
        /// To be given to [`NodeMachine::handle_unsent`] if it is known here already that it cannot be sent.
        id: Option<u64>,
        /// Where to.
        to: Destination,
        /// At most [`DATAGRAM_BUDGET`].
        bytes: Vec<u8>,
    },
    /// Open a bidirectional stream, say who answered with [`NodeMachine::handle_stream_connected`], then move frames.
    OpenStream {
        /// The machine's own number for it.
        stream: StreamId,
        /// Where to.
        to: Destination,
    },
    /// Break off the stream in both directions. Nothing more needs to be said about it.
    CloseStream {
        /// Which one.
        stream: StreamId,
    },
    /// Ask for the stream's frames, though nothing has arrived on it: what it was for is over.
    WakeStream {
        /// Which one.
        stream: StreamId,
    },
}

/// Something the owner of the node may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeEvent {
    /// What membership reported.
    Membership(membership::Event),
    /// The first sync of a network joined here is over, or nobody was there to sync with.
    NetworkReady(String),
    /// A network has been left: its tables are gone here.
    NetworkLeft {
        /// Which network.
        network: String,
        /// Whether what only this node knew has reached others.
        final_syncs: FinalSyncs,
    },
}

/// What arrived could not be used; it was dropped and counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// The bytes do not say whom they are for.
    #[error("{0} bytes are neither for membership nor for tables")]
    Unaddressed(usize),
    /// Membership did not understand it.
    #[error(transparent)]
    Membership(#[from] membership::MessageError),
    /// The tables did not understand it.
    #[error(transparent)]
    Tables(#[from] tabledb::MessageError),
    /// The stream is not, or no longer, open.
    #[error("stream {} is not open", .0.0)]
    UnknownStream(StreamId),
}

/// How far a graceful leave has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// The final syncs of the networks are under way.
    Networks,
    /// Membership says good-bye.
    Cluster,
}

/// One node without its sockets.
#[derive(Debug)]
pub struct NodeMachine {
    membership: Membership,
    tables: TableDb,
    streams: Streams,
    /// Streams that were dropped and are to be broken off.
    to_close: VecDeque<StreamId>,
    leaving: Leaving,
    /// When a later life was taken because somebody knew more of ours than we did.
    renewed_at: Option<Instant>,
    events: VecDeque<NodeEvent>,
}

impl NodeMachine {
    /// What the composition adds to a datagram of membership, in bytes.
    pub const MEMBERSHIP_OVERHEAD: usize = 3;

    /// Composes the two machines, of which both bear the same life.
    ///
    /// Writes are made on `tables`, whose owner has the machine polled afterwards.
    pub(crate) fn new(membership: Membership, tables: TableDb) -> Self {
        debug_assert_eq!(membership.me().record.id, tables.node());
        Self {
            membership,
            tables,
            streams: Streams::default(),
            to_close: VecDeque::new(),
            leaving: Leaving::No,
            renewed_at: None,
            events: VecDeque::new(),
        }
    }

    // What there is to know.

    /// The membership.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The tables.
    pub fn tables(&self) -> &TableDb {
        &self.tables
    }

    /// How many streams are open, in one direction at least.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// The streams that are open, ascending. Whoever moves their frames has exactly these.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.streams.ids()
    }

    // What happens to it.

    /// The wall clock showed `wall` since 1970. To be told before every other call that is given `now`: the monotonic clock stands
    /// still while a host sleeps.
    pub fn handle_wall_clock(&mut self, wall: Duration, now: Instant) {
        self.tables.replica().handle_wall_clock(wall, now);
    }

    /// A datagram arrived. `from` is the name the transport vouches for, `source` where it came from.
    pub fn handle_datagram(
        &mut self,
        from: &NodeName,
        source: SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(), MachineError> {
        let result = self.dispatch_datagram(from, source, bytes, now);
        self.settle(now);
        result
    }

    fn dispatch_datagram(
        &mut self,
        from: &NodeName,
        source: SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(), MachineError> {
        match bytes {
            [FOR_TABLES, news @ ..] => Ok(self.tables.replica().handle_datagram(from, news, now)?),
            [FOR_MEMBERSHIP, low, high, rest @ ..] => {
                let length = usize::from(u16::from_le_bytes([*low, *high]));
                let (message, digest) =
                    rest.split_at_checked(length).ok_or(MachineError::Unaddressed(bytes.len()))?;
                self.membership.handle_datagram(from, source, message, now)?;
                if !digest.is_empty() {
                    // What membership has just learned comes first: the digest may speak of it.
                    self.pass_membership_events(now);
                    self.tables.replica().handle_digest(from, digest, now)?;
                }
                Ok(())
            }
            _ => Err(MachineError::Unaddressed(bytes.len())),
        }
    }

    /// A datagram polled lately could not be sent, as is known here and now.
    pub fn handle_unsent(&mut self, datagram: u64, now: Instant) {
        self.membership.handle_unsent(datagram, now);
    }

    /// A peer opened a stream; the number is the machine's.
    pub fn handle_stream_opened(&mut self, from: &NodeName, source: SocketAddr, now: Instant) -> StreamId {
        self.streams.accept(from.clone(), source, now)
    }

    /// A stream this machine asked for is open, and `peer` answered.
    pub fn handle_stream_connected(&mut self, stream: StreamId, peer: &NodeName, now: Instant) {
        if let Some(Owner::Membership(inner)) = self.owner(stream) {
            self.membership.handle_stream_connected(inner, peer, now);
            self.settle(now);
        }
    }

    /// The next frame of a stream. After an error the stream is no longer open here, and is to be broken off.
    pub fn handle_frame(&mut self, stream: StreamId, bytes: &[u8], now: Instant) -> Result<(), MachineError> {
        let result = self.dispatch_frame(stream, bytes, now);
        if result.is_err() {
            self.drop_stream(stream, now);
        }
        self.settle(now);
        result
    }

    fn dispatch_frame(&mut self, stream: StreamId, bytes: &[u8], now: Instant) -> Result<(), MachineError> {
        let known = self.streams.get(stream).ok_or(MachineError::UnknownStream(stream))?;
        let has_sent_all = known.has_sent_all();
        let (owner, bytes) = match (known.owner.clone(), bytes) {
            (Owner::Unknown { from, source }, [FOR_MEMBERSHIP, first @ ..]) => {
                let inner = self.membership.handle_stream_opened(&from, source, now);
                (Owner::Membership(inner), first)
            }
            (Owner::Unknown { from, .. }, [FOR_TABLES, first @ ..]) => {
                (Owner::Tables(self.tables.replica().handle_stream_opened(&from, now)), first)
            }
            (Owner::Unknown { .. }, _) => return Err(MachineError::Unaddressed(bytes.len())),
            (owner, bytes) => (owner, bytes),
        };
        if self.owner(stream).as_ref() != Some(&owner) {
            self.streams.assign(stream, owner.clone());
        }
        match owner {
            Owner::Membership(inner) => {
                self.streams.note_frame(stream, now);
                Ok(self.membership.handle_frame(inner, bytes, now)?)
            }
            // What the peer had under way when we ended the exchange.
            Owner::Tables(_) if has_sent_all => Ok(()),
            Owner::Tables(inner) => Ok(self.tables.replica().handle_frame(inner, bytes, now)?),
            Owner::Unknown { .. } => Ok(()),
        }
    }

    /// The peer's half of a stream is over: no more frames come. Ours ends as soon as all is said: ask for its frames.
    pub fn handle_stream_finished(&mut self, stream: StreamId, now: Instant) {
        match self.owner(stream) {
            Some(Owner::Membership(inner)) => self.membership.handle_stream_finished(inner, now),
            Some(Owner::Tables(inner)) => self.tables.replica().handle_stream_finished(inner, now),
            Some(Owner::Unknown { .. }) | None => {}
        }
        self.streams.finish_receiving(stream);
        self.settle(now);
    }

    /// A stream is over in both directions, or broke, or could not be opened. Of no account if it is known to be over.
    pub fn handle_stream_closed(&mut self, stream: StreamId, now: Instant) {
        self.drop_stream(stream, now);
        self.settle(now);
    }

    /// Forgets a stream and tells whose it was.
    fn drop_stream(&mut self, stream: StreamId, now: Instant) {
        match self.streams.remove(stream) {
            Some(Owner::Membership(inner)) => self.membership.handle_stream_closed(inner, now),
            Some(Owner::Tables(inner)) => self.tables.replica().handle_stream_closed(inner, now),
            Some(Owner::Unknown { .. }) | None => {}
        }
    }

    fn owner(&self, stream: StreamId) -> Option<Owner> {
        self.streams.get(stream).map(|known| known.owner.clone())
    }

    /// The connection with a node broke: a hint to the failure detector, never a verdict.
    pub fn handle_connection_lost(&mut self, peer: &NodeName, now: Instant) {
        self.membership.handle_connection_lost(peer, now);
        self.settle(now);
    }

    /// There has come to be a connection with a node, or is none any more.
    pub fn handle_connection_changed(&mut self, peer: &NodeName, connected: bool) {
        self.membership.handle_connection_changed(peer, connected);
        self.tables.replica().handle_connection_changed(peer, connected);
    }

    /// There are no connections but those that [`Self::handle_connection_changed`] tells of from now on.
    pub fn forget_connections(&mut self) {
        self.membership.forget_connections();
        self.tables.replica().forget_connections();
    }

    /// How long nearly all handshakes take now.
    pub fn set_handshake_time(&mut self, time: Duration) {
        self.membership.set_handshake_time(time);
    }

    /// Does what is due. Early, late or twice is always legal. What has arrived is to be handled first.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.membership.poll_timeout().is_some_and(|due| due <= now) {
            self.membership.handle_timeout(now);
        }
        {
            let mut replica = self.tables.replica();
            if replica.poll_timeout().is_some_and(|due| due <= now) {
                replica.handle_timeout(now);
            }
        }
        while let Some(stream) = self.streams.next_overdue(now) {
            self.drop_stream(stream, now);
            self.to_close.push_back(stream);
        }
        self.settle(now);
    }

    // What its owner asks of it.

    /// Joins through these addresses, which replace all earlier ones. An event tells the outcome for each.
    pub fn join(&mut self, seeds: &[SocketAddr], now: Instant) {
        self.membership.join(seeds, now);
        self.settle(now);
    }

    /// Joins a network; [`NodeEvent::NetworkReady`] tells when it holds what the others hold.
    pub fn join_network(&mut self, network: &str, now: Instant) -> Result<(), JoinError> {
        let joined = self.tables.replica().join_network(network, now);
        self.settle(now);
        joined
    }

    /// Leaves a network; [`NodeEvent::NetworkLeft`] tells when, and whether anything is lost.
    pub fn leave_network(&mut self, network: &str, now: Instant) -> Result<(), LeaveError> {
        let left = self.tables.replica().leave_network(network, now);
        self.settle(now);
        left
    }

    /// Leaves the cluster: final syncs of all networks, then the farewell.
    /// [`membership::Event::LeaveCompleted`] tells when it is over.
    pub fn leave(&mut self, now: Instant) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Networks;
            // The tables go, but nobody deletes what is in them.
            self.tables.end_watches();
            for network in self.tables.networks() {
                let _ = self.tables.replica().leave_network(&network, now);
            }
        }
        self.settle(now);
    }

    /// Leaves the cluster without waiting for the final syncs any longer, because time is up.
    pub fn leave_at_once(&mut self, now: Instant) {
        self.leave(now);
        self.tables.replica().leave_networks_at_once(now);
        self.settle(now);
    }

    // What it wants.

    /// The next thing to do on the network.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<NodeTransmit> {
        if let Some(stream) = self.to_close.pop_front() {
            return Some(NodeTransmit::CloseStream { stream });
        }
        while let Some(transmit) = self.membership.poll_transmit() {
            match transmit {
                membership::Transmit::Datagram { id, to, bytes, purpose } => {
                    let bytes = self.with_digest(&to, &bytes, purpose, now);
                    return Some(NodeTransmit::Datagram { id: Some(id), to, bytes });
                }
                membership::Transmit::OpenStream { stream: inner, to } => {
                    let stream = self.streams.open(Owner::Membership(inner));
                    return Some(NodeTransmit::OpenStream { stream, to });
                }
                membership::Transmit::CloseStream { stream: inner } => {
                    if let Some(stream) = self.streams.of_membership(inner) {
                        self.streams.remove(stream);
                        return Some(NodeTransmit::CloseStream { stream });
                    }
                }
            }
        }
        loop {
            let transmit = self.tables.replica().poll_transmit(now)?;
            match transmit {
                tabledb::Transmit::Datagram { to, bytes } => {
                    let Some(to) = self.destination(&to) else { continue };
                    let mut datagram = Vec::with_capacity(bytes.len() + 1);
                    datagram.push(FOR_TABLES);
                    datagram.extend_from_slice(&bytes);
                    return Some(NodeTransmit::Datagram { id: None, to, bytes: datagram });
                }
                tabledb::Transmit::OpenStream { stream: inner, to } => match self.destination(&to) {
                    Some(to) => {
                        let stream = self.streams.open(Owner::Tables(inner));
                        return Some(NodeTransmit::OpenStream { stream, to });
                    }
                    None => self.tables.replica().handle_stream_closed(inner, now),
                },
                tabledb::Transmit::CloseStream { stream: inner } => {
                    if let Some(stream) = self.streams.of_tables(inner) {
                        self.streams.remove(stream);
                        return Some(NodeTransmit::CloseStream { stream });
                    }
                }
                tabledb::Transmit::WakeStream { stream: inner } => {
                    if let Some(stream) = self.streams.of_tables(inner) {
                        return Some(NodeTransmit::WakeStream { stream });
                    }
                }
            }
        }
    }

    /// What a stream has to say next; to be asked whenever it can take a frame: when it is open, after a frame was
    /// handled, after a frame was sent, after the peer's half ended, and when [`NodeTransmit::WakeStream`] says so.
    pub fn poll_frame(&mut self, stream: StreamId, now: Instant) -> FramePoll {
        let Some(known) = self.streams.get(stream) else { return FramePoll::Finish };
        if known.has_sent_all() {
            return FramePoll::Finish;
        }
        let has_received_all = known.has_received_all();
        let (poll, kind) = match known.owner {
            Owner::Unknown { .. } if has_received_all => (FramePoll::Finish, FOR_TABLES),
            Owner::Unknown { .. } => return FramePoll::Wait,
            Owner::Membership(inner) => (self.membership.poll_frame(inner, now), FOR_MEMBERSHIP),
            Owner::Tables(inner) => (self.tables.replica().poll_frame(inner, now), FOR_TABLES),
        };
        let poll = match poll {
            FramePoll::Frame(frame) if self.streams.take_announce(stream) => {
                let mut first = Vec::with_capacity(frame.len() + 1);
                first.push(kind);
                first.extend_from_slice(&frame);
                FramePoll::Frame(first)
            }
            other => other,
        };
        if poll == FramePoll::Finish {
            self.streams.finish_sending(stream, now);
        }
        self.settle(now);
        poll
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<NodeEvent> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let replica = self.tables.replica().poll_timeout();
        [self.membership.poll_timeout(), replica, self.streams.next_deadline()].into_iter().flatten().min()
    }

    // How the two are kept in step.

    /// Passes on what each has to tell the other.
    fn settle(&mut self, now: Instant) {
        self.pass_membership_events(now);
        loop {
            let event = self.tables.replica().poll_event();
            match event {
                None => break,
                Some(tabledb::Event::NetworkReady(network)) => {
                    self.events.push_back(NodeEvent::NetworkReady(network))
                }
                Some(tabledb::Event::NetworkLeft { network, final_syncs }) => {
                    if !final_syncs.saved() {
                        tracing::warn!(network, "network left: {final_syncs}");
                    }
                    self.events.push_back(NodeEvent::NetworkLeft { network, final_syncs })
                }
                // Told again of what has been seen to already.
                Some(tabledb::Event::GenerationTaken { generation })
                    if generation != self.membership.me().record.id.generation => {}
                // Each life writes all entries again: who forges in our name must not have us do that without end. While
                // the claim stands it will be told again.
                Some(tabledb::Event::GenerationTaken { .. })
                    if self.renewed_at.is_some_and(|at| now < at + RENEW_INTERVAL) => {}
                Some(tabledb::Event::GenerationTaken { generation }) => {
                    self.renewed_at = Some(now);
                    let life = self.membership.renew(generation, now);
                    self.tables.replica().renew(life.generation, now);
                    self.pass_membership_events(now);
                }
            }
        }
        if self.leaving == Leaving::Networks && self.tables.replica().is_off_all_networks() {
            self.leaving = Leaving::Cluster;
            self.membership.leave(now);
            self.pass_membership_events(now);
        }
    }

    fn pass_membership_events(&mut self, now: Instant) {
        while let Some(event) = self.membership.poll_event() {
            self.inform_tables(&event, self.tables.replica(), now);
            self.events.push_back(NodeEvent::Membership(event));
        }
    }

    fn inform_tables(&self, event: &membership::Event, mut replica: ReplicaGuard<'_>, now: Instant) {
        use membership::Event;
        match event {
            Event::Joined(record) | Event::Returned(record) => replica.handle_owner_alive(&record.id, now),
            Event::Replaced { new, .. } => replica.handle_owner_alive(&new.id, now),
            Event::Failed(life) => replica.handle_owner_failed(life, now),
            // Its entries are kept hidden, as those who knew it keep them: members that hold unequal amounts of the failed
            // would compare themselves for ever.
            Event::LearnedFailed(record) => {
                replica.handle_owner_alive(&record.id, now);
                replica.handle_owner_failed(&record.id, now);
            }
            Event::Left(life) => replica.handle_owner_gone(life, now),
            Event::Forgotten(life) => replica.handle_owner_forgotten(life, now),
            Event::SeedAnswered { id, .. } => replica.handle_cluster_joined(&id.name, now),
            Event::GenerationRaised(life) => replica.renew(life.generation, now),
            Event::Updated(_)
            | Event::Suspected(_)
            | Event::Refuted(_)
            | Event::SeedFailed { .. }
            | Event::SeedsMissing
            | Event::NameConflict(_)
            | Event::LeaveCompleted => {}
        }
    }

    /// A probe or its answer has room for the tables' digest: whoever is behind learns of it within a probe interval.
    fn with_digest(&mut self, to: &Destination, message: &[u8], purpose: Purpose, now: Instant) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(message.len() + 64);
        bytes.push(FOR_MEMBERSHIP);
        bytes.extend_from_slice(&(message.len() as u16).to_le_bytes());
        bytes.extend_from_slice(message);
        if let (Purpose::Probe | Purpose::Ack, Some(peer)) = (purpose, &to.name) {
            let room = DATAGRAM_BUDGET.saturating_sub(bytes.len());
            if let Some(digest) = self.tables.replica().digest_for(peer, room, now) {
                bytes.extend_from_slice(&digest);
            }
        }
        bytes
    }

    fn destination(&self, peer: &NodeName) -> Option<Destination> {
        let member = self.membership.member(peer.as_str())?;
        Some(Destination { name: Some(peer.clone()), address: member.record.address })
    }
}

#[cfg(test)]
mod tests {
    use wire::{NodeId, codec};

    use super::*;
    use crate::compose::{MachineSettings, compose};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only a starting point")]
    fn who_forges_in_a_nodes_name_makes_it_begin_again_once_a_second_at_most() {
        let (now, name) = (Instant::now(), NodeName::new("a").unwrap());
        let id = NodeId::new(name.clone(), 1);
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let wall = Duration::from_secs(1_000_000);
        let mut machine = compose(MachineSettings::new(id, address, now, wall, 1)).unwrap();
        let forger = NodeName::new("b").unwrap();
        machine.tables.replica().handle_owner_alive(&NodeId::new(forger.clone(), 1), now);
        // A list in its name that it never issued, of whatever life it is in.
        let mut forge = |now: Instant| {
            let life = machine.membership().me().record.id.clone();
            let lists = vec![(life, u64::MAX, Vec::<(String, u64)>::new())];
            let (of_lists, heads, relay) = (1u32, Vec::<(NodeId, u64)>::new(), false);
            let bytes = codec::encode(&(FOR_TABLES, of_lists, lists, heads, relay));
            machine.handle_datagram(&forger, address, &bytes, now).unwrap();
            machine.membership().me().record.id.generation
        };
        let second = forge(now);
        assert!(second > 1);
        for millisecond in 0..1000 {
            assert_eq!(forge(now + Duration::from_millis(millisecond)), second);
        }
        assert!(forge(now + RENEW_INTERVAL) > second);
    }
}
