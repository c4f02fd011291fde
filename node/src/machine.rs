//! The composition of membership and tables into one state machine that owns no socket, clock or thread.
//!
//! The driver runs it with tokio and QUIC; the simulator runs the same code with a heap of timed events. This
//! module passes membership's events to the tables, piggybacks the tables' digests on membership's probes,
//! and merges both deadlines.

mod inquiring;
mod interface;
mod streaming;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use membership::{Membership, Purpose, RecordError};
use tabledb::{Driver, JoinError, LeaveError, ReplicaGuard, SleepingWatches, TableDb};
use wire::{Destination, NodeName, StreamId};

use crate::inquiries::{Inquiries, StreamRequest};
use crate::inquiry_report::InquiryId;
use crate::streams::{Owner, Streams};
use inquiring::Subject;
pub use interface::{MachineError, NodeEvent, NodeTransmit};

/// The largest datagram, in bytes: a little less than what every QUIC path carries.
pub const DATAGRAM_BUDGET: usize = 1150;

/// The first byte of a datagram, and of the first frame of a stream: the part of the node that it is for.
const FOR_MEMBERSHIP: u8 = 0;
const FOR_TABLES: u8 = 1;
const FOR_INQUIRIES: u8 = 2;

/// The minimum interval between two new generations that are taken because of peers' updates in this node's
/// name.
const RENEW_INTERVAL: Duration = Duration::from_secs(1);

/// The progress of a graceful leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// The final syncs of the networks are under way.
    Networks,
    /// Membership sends its leave messages.
    Cluster,
}

/// One node without its sockets.
#[derive(Debug)]
pub struct NodeMachine {
    membership: Membership,
    driver: Driver,
    inquiries: Inquiries,
    /// What the inquiries of this node are about.
    subjects: BTreeMap<InquiryId, Subject>,
    streams: Streams,
    /// Streams that were dropped and have to be reset.
    to_close: VecDeque<StreamId>,
    leaving: Leaving,
    /// When the node last took a new generation because a peer had updates in this node's name that the node
    /// never issued.
    renewed_at: Option<Instant>,
    events: VecDeque<NodeEvent>,
}

impl NodeMachine {
    /// The header that the composition adds to a datagram of membership, in bytes.
    pub const MEMBERSHIP_OVERHEAD: usize = 3;

    /// Composes the two machines, which must have the same instance.
    ///
    /// A program that writes to the tables has to poll this machine afterwards.
    pub(crate) fn new(membership: Membership, driver: Driver) -> Self {
        debug_assert_eq!(membership.me().record.id, driver.tables().node());
        Self {
            membership,
            driver,
            inquiries: Inquiries::default(),
            subjects: BTreeMap::new(),
            streams: Streams::default(),
            to_close: VecDeque::new(),
            leaving: Leaving::No,
            renewed_at: None,
            events: VecDeque::new(),
        }
    }

    // Queries.

    /// The membership.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The tables.
    pub fn tables(&self) -> &TableDb {
        self.driver.tables()
    }

    /// The replication state machine of the tables, locked. A program that has the node's machine may do anything to
    /// it; a running [`Node`](crate::Node) gives nobody its machine.
    pub fn replica(&self) -> ReplicaGuard<'_> {
        self.driver.replica()
    }

    /// Sets a callback for writes that need this machine to be polled, see [`Driver::set_waker`].
    pub fn set_waker(&self, waker: impl Fn() + Send + Sync + 'static) {
        self.driver.set_waker(waker);
    }

    /// Sets who wakes many watches, see [`Driver::set_watch_notifier`].
    pub fn set_watch_notifier(&self, notifier: impl Fn(SleepingWatches) + Send + Sync + 'static) {
        self.driver.set_watch_notifier(notifier);
    }

    /// Whether it leaves the cluster, or has left it.
    pub fn is_leaving(&self) -> bool {
        self.leaving != Leaving::No
    }

    /// The number of streams that are open in at least one direction.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// The open streams, ascending. The driver moves the frames of exactly these.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.streams.ids()
    }

    // Inputs.

    /// The wall clock shows `wall` since 1970. Call it before every other call with `now`: the monotonic
    /// clock stops while a host is suspended.
    pub fn handle_wall_clock(&mut self, wall: Duration, now: Instant) {
        self.driver.replica().handle_wall_clock(wall, now);
    }

    /// A datagram arrived from the address `source`. The transport has authenticated `from` as the sender's
    /// name.
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
            [FOR_TABLES, update @ ..] => Ok(self.driver.replica().handle_datagram(from, update, now)?),
            [FOR_MEMBERSHIP, low, high, rest @ ..] => {
                let length = usize::from(u16::from_le_bytes([*low, *high]));
                let (message, digest) =
                    rest.split_at_checked(length).ok_or(MachineError::Unaddressed(bytes.len()))?;
                self.membership.handle_datagram(from, source, message, now)?;
                if !digest.is_empty() {
                    // Membership's events come first: the digest may refer to a member that the message
                    // announced.
                    self.pass_membership_events(now);
                    self.driver.replica().handle_digest(from, digest, now)?;
                }
                Ok(())
            }
            _ => Err(MachineError::Unaddressed(bytes.len())),
        }
    }

    /// A datagram that was just polled could not be sent.
    pub fn handle_unsent(&mut self, datagram: u64, now: Instant) {
        self.membership.handle_unsent(datagram, now);
    }

    /// The connection with a peer broke. For the failure detector this is a hint, not a proof.
    pub fn handle_connection_lost(&mut self, peer: &NodeName, now: Instant) {
        self.membership.handle_connection_lost(peer, now);
        self.settle(now);
    }

    /// A connection with a peer was opened, or the last one closed.
    pub fn handle_connection_changed(&mut self, peer: &NodeName, connected: bool) {
        self.membership.handle_connection_changed(peer, connected);
        self.driver.replica().handle_connection_changed(peer, connected);
    }

    /// Marks all peers as not connected. [`Self::handle_connection_changed`] reports those that are.
    pub fn forget_connections(&mut self) {
        self.membership.forget_connections();
        self.driver.replica().forget_connections();
    }

    /// Sets a high percentile of the present handshake times.
    pub fn set_handshake_time(&mut self, time: Duration) {
        self.membership.set_handshake_time(time);
    }

    /// Handles due deadlines. It may be called early, late or twice. Pass arrivals to the machine first.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.membership.poll_timeout().is_some_and(|due| due <= now) {
            self.membership.handle_timeout(now);
        }
        {
            let mut replica = self.driver.replica();
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

    // Requests of the program.

    /// Joins through these addresses, which replace all earlier ones. An event reports the outcome of each.
    pub fn join(&mut self, seeds: &[SocketAddr], now: Instant) {
        self.membership.join(seeds, now);
        self.settle(now);
    }

    /// Changes this node's labels and announces them.
    ///
    /// # Errors
    /// If they are too long; nothing has changed.
    pub fn update_labels(
        &mut self,
        labels: BTreeMap<String, String>,
        now: Instant,
    ) -> Result<(), RecordError> {
        let updated = self.membership.update_labels(labels, now);
        self.settle(now);
        updated
    }

    /// Joins a network. [`NodeEvent::NetworkReady`] reports the end of the initial sync.
    pub fn join_network(&mut self, network: &str, now: Instant) -> Result<(), JoinError> {
        let joined = self.driver.replica().join_network(network, now);
        self.settle(now);
        joined
    }

    /// Leaves a network. [`NodeEvent::NetworkLeft`] reports the end, and whether entries are lost.
    pub fn leave_network(&mut self, network: &str, now: Instant) -> Result<(), LeaveError> {
        let left = self.driver.replica().leave_network(network, now);
        self.settle(now);
        left
    }

    /// Leaves the cluster: first the final syncs of all networks, then membership's leave messages.
    /// [`membership::Event::LeaveCompleted`] reports the end.
    pub fn leave(&mut self, now: Instant) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Networks;
            // Watches end first: dropping the tables deletes no entries of other owners.
            self.tables().end_watches();
            for network in self.tables().networks() {
                let _ = self.driver.replica().leave_network(&network, now);
            }
        }
        self.settle(now);
    }

    /// Leaves the cluster at once, without waiting for the final syncs.
    pub fn leave_at_once(&mut self, now: Instant) {
        self.leave(now);
        self.driver.replica().leave_networks_at_once(now);
        self.settle(now);
    }

    // Outputs.

    /// The next action on the network.
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
                    if let Some(stream) = self.streams.of(&Owner::Membership(inner)) {
                        self.streams.remove(stream);
                        return Some(NodeTransmit::CloseStream { stream });
                    }
                }
            }
        }
        while let Some(request) = self.inquiries.next_request() {
            match request {
                StreamRequest::Open(inner, to) => match self.destination(&to) {
                    Some(to) => {
                        let stream = self.streams.open(Owner::Inquiry(inner));
                        return Some(NodeTransmit::OpenStream { stream, to });
                    }
                    None => {
                        self.inquiries.handle_closed(inner);
                        self.settle(now);
                    }
                },
                StreamRequest::Close(inner) => {
                    if let Some(stream) = self.streams.of(&Owner::Inquiry(inner)) {
                        self.streams.remove(stream);
                        return Some(NodeTransmit::CloseStream { stream });
                    }
                }
                StreamRequest::Wake(inner) => {
                    if let Some(stream) = self.streams.of(&Owner::Inquiry(inner)) {
                        return Some(NodeTransmit::WakeStream { stream });
                    }
                }
            }
        }
        loop {
            let transmit = self.driver.replica().poll_transmit(now)?;
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
                    None => self.driver.replica().handle_stream_closed(inner, now),
                },
                tabledb::Transmit::CloseStream { stream: inner } => {
                    if let Some(stream) = self.streams.of(&Owner::Tables(inner)) {
                        self.streams.remove(stream);
                        return Some(NodeTransmit::CloseStream { stream });
                    }
                }
                tabledb::Transmit::WakeStream { stream: inner } => {
                    if let Some(stream) = self.streams.of(&Owner::Tables(inner)) {
                        return Some(NodeTransmit::WakeStream { stream });
                    }
                }
            }
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<NodeEvent> {
        self.events.pop_front()
    }

    /// The deadline for the next call of [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let replica = self.driver.replica().poll_timeout();
        let (streams, inquiries) = (self.streams.next_deadline(), self.inquiries.next_deadline());
        [self.membership.poll_timeout(), replica, streams, inquiries].into_iter().flatten().min()
    }

    // Events between membership and the tables.

    /// Passes events between membership and the tables until there are none.
    fn settle(&mut self, now: Instant) {
        self.pass_membership_events(now);
        loop {
            let event = self.driver.replica().poll_event();
            match event {
                None => break,
                Some(tabledb::Event::NetworkReady { network, outcome }) => {
                    self.events.push_back(NodeEvent::NetworkReady { network, outcome })
                }
                Some(tabledb::Event::NetworkLeft { network, final_syncs }) => {
                    if !final_syncs.saved() {
                        tracing::warn!(network, "network left: {final_syncs}");
                    }
                    self.events.push_back(NodeEvent::NetworkLeft { network, final_syncs })
                }
                // A repeated report: the node has taken a new generation already.
                Some(tabledb::Event::GenerationTaken { generation })
                    if generation != self.membership.me().record.id.generation => {}
                // A new instance writes all entries again. The interval bounds the work that forged updates
                // can cause. The tables report again while the claim stands.
                Some(tabledb::Event::GenerationTaken { .. })
                    if self.renewed_at.is_some_and(|at| now < at + RENEW_INTERVAL) => {}
                Some(tabledb::Event::GenerationTaken { generation }) => {
                    self.renewed_at = Some(now);
                    let id = self.membership.renew(generation, now);
                    self.driver.replica().renew(id.generation, now);
                    self.pass_membership_events(now);
                }
            }
        }
        if self.leaving == Leaving::Networks && self.driver.replica().is_off_all_networks() {
            self.leaving = Leaving::Cluster;
            self.membership.leave(now);
            self.pass_membership_events(now);
        }
        self.settle_inquiries(now);
    }

    fn pass_membership_events(&mut self, now: Instant) {
        while let Some(event) = self.membership.poll_event() {
            self.inform_tables(&event, self.driver.replica(), now);
            self.events.push_back(NodeEvent::Membership(event));
        }
    }

    fn inform_tables(&self, event: &membership::Event, mut replica: ReplicaGuard<'_>, now: Instant) {
        use membership::Event;
        match event {
            Event::Joined(record) | Event::Returned(record) => replica.handle_owner_alive(&record.id, now),
            Event::Replaced { new, .. } => replica.handle_owner_alive(&new.id, now),
            Event::Failed(id) => replica.handle_owner_failed(id, now),
            // Its entries are kept but hidden, as on members that saw it fail. Members that kept different
            // entries of failed owners would never agree, and would sync for ever.
            Event::LearnedFailed(record) => {
                replica.handle_owner_alive(&record.id, now);
                replica.handle_owner_failed(&record.id, now);
            }
            Event::Left(id) => replica.handle_owner_gone(id, now),
            Event::Forgotten(id) => replica.handle_owner_forgotten(id, now),
            Event::SeedAnswered { id, .. } => replica.handle_cluster_joined(&id.name, now),
            Event::GenerationRaised(id) => replica.renew(id.generation, now),
            // These change nothing about the owners of entries.
            Event::Updated(_)
            | Event::Suspected(_)
            | Event::Refuted(_)
            | Event::SeedFailed { .. }
            | Event::SeedsMissing
            | Event::NameConflict(_)
            | Event::LeaveCompleted => {}
        }
    }

    /// Adds the tables' digest to a probe or an ack, so that a peer that misses updates detects it within a
    /// probe interval.
    fn with_digest(&mut self, to: &Destination, message: &[u8], purpose: Purpose, now: Instant) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(message.len() + 64);
        bytes.push(FOR_MEMBERSHIP);
        bytes.extend_from_slice(&(message.len() as u16).to_le_bytes());
        bytes.extend_from_slice(message);
        if let (Purpose::Probe | Purpose::Ack, Some(peer)) = (purpose, &to.name) {
            let capacity = DATAGRAM_BUDGET.saturating_sub(bytes.len());
            if let Some(digest) = self.driver.replica().digest_for(peer, capacity, now) {
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
