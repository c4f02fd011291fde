//! Connections: dialled when first needed, kept while there is traffic, lost after the idle
//! timeout.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use transport::{DialEnd, RENEWAL_INTERVAL, Turn};
use wire::{Destination, NodeName, StreamId};

use super::link::Link;
use super::{Activity, DropReason, EndpointId, Fabric, FabricEvent, Handshake, Pending};
use crate::trace::TraceEvent;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnectionId(u64);

/// The connection of two processes, after one has dialled the other.
#[derive(Debug)]
pub(super) struct Connection {
    /// The lesser first.
    pub(super) ends: [EndpointId; 2],
    pub(super) streams: BTreeSet<u64>,
    /// How many of them each end has opened, and which further ones wait for the limit.
    pub(super) opened: [usize; 2],
    pub(super) waiting: [VecDeque<StreamId>; 2],
    /// Stream events that cannot be delivered while the connection is blocked, in order.
    pub(super) stalled: Vec<Pending>,
    /// Since when no packet and answer can pass.
    blocked_since: Option<Duration>,
    /// When each direction's link is free again for stream frames and for datagrams, if its
    /// bandwidth is limited.
    free_for_frames: [Duration; 2],
    free_for_datagrams: [Duration; 2],
    last_used: Duration,
    since: Duration,
}

impl Connection {
    pub(super) fn direction(&self, from: EndpointId) -> usize {
        usize::from(self.ends[0] != from)
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked_since.is_some()
    }
}

/// A dial, and the messages that wait for its connection.
#[derive(Debug)]
pub(super) struct Dial {
    /// The destination of the first of them.
    to: Destination,
    number: u64,
    deadline: Duration,
    /// One datagram may wait; the protocols' own retransmission does the rest.
    kept: Option<KeptDatagram>,
    opens: Vec<WaitingOpen>,
}

/// A datagram that waits for a connection, and the expected name of the peer.
type KeptDatagram = (Option<NodeName>, Arc<[u8]>);
/// A stream that waits for one.
type WaitingOpen = (Option<NodeName>, StreamId);

/// Beyond this many connections a process closes idle ones.
pub(super) const CONNECTIONS_KEPT_IDLE: usize = 256;

impl Fabric {
    /// Keeps a datagram until the connection is established, and dials if necessary; returns it if
    /// one waits already, or the policy does not permit a dial now.
    pub(super) fn keep_for_dial(
        &mut self,
        from: EndpointId,
        to: &Destination,
        bytes: Arc<[u8]>,
    ) -> Option<Arc<[u8]>> {
        match self.dial(from, to) {
            Ok(Dial { kept: kept @ None, .. }) => {
                *kept = Some((to.name.clone(), bytes));
                None
            }
            _ => Some(bytes),
        }
    }

    /// Opens a stream as soon as the connection is established.
    pub(super) fn open_after_dial(&mut self, from: EndpointId, to: &Destination, stream: StreamId) {
        let deadline = self.now + self.dial_timeout(from);
        self.open_in_turn(from, to.clone(), stream, deadline);
    }

    /// The streams that wait for a connection.
    pub(super) fn opens_waiting_for_dials(&self, from: EndpointId) -> impl Iterator<Item = StreamId> + '_ {
        let of_endpoint = self.dials.iter().filter(move |((dialler, _), _)| *dialler == from);
        let of_dials = of_endpoint.flat_map(|(_, dial)| dial.opens.iter().map(|(_, stream)| *stream));
        let in_turn = self.opens_in_turn.iter().filter(move |(opener, _)| *opener == from);
        of_dials.chain(in_turn.map(|(_, stream)| *stream))
    }

    /// Cancels a stream that waits for a connection, or for its turn on one.
    pub(super) fn forget_open(&mut self, from: EndpointId, stream: StreamId) {
        self.opens_in_turn.remove(&(from, stream));
        for (_, dial) in self.dials.iter_mut().filter(|((dialler, _), _)| *dialler == from) {
            dial.opens.retain(|(_, waiting)| *waiting != stream);
        }
        for id in self.endpoint(from).connections.values().copied().collect::<Vec<_>>() {
            if let Some(connection) = self.connections.get_mut(&id) {
                let side = connection.direction(from);
                connection.waiting[side].retain(|waiting| *waiting != stream);
            }
        }
    }

    /// Tries again to open a stream that waited for the dials of others.
    pub(super) fn open_again(
        &mut self,
        from: EndpointId,
        to: Destination,
        stream: StreamId,
        deadline: Duration,
    ) {
        if !self.opens_in_turn.remove(&(from, stream)) {
            return;
        }
        let Some(receiver) = self.listeners.get(&to.address).copied() else {
            return self.open_in_turn(from, to, stream, deadline);
        };
        if self.connection_between(from, receiver).is_none() {
            return self.open_in_turn(from, to, stream, deadline);
        }
        match to.name.is_none_or(|name| name == *self.name(receiver)) {
            true => self.open_on_connection(from, receiver, stream, Duration::ZERO),
            false => self.fail_open(from, stream),
        }
    }

    fn open_in_turn(&mut self, from: EndpointId, to: Destination, stream: StreamId, deadline: Duration) {
        let over = self.now >= deadline;
        match self.dial(from, &to) {
            Ok(dial) => dial.opens.push((to.name.clone(), stream)),
            Err(Turn::NotBefore(_)) => self.fail_open(from, stream),
            Err(_) if over => self.fail_open(from, stream),
            Err(_) => {
                // As in production: tried again when a dial ends, or has lasted too long to hold a
                // permit.
                let again = self.now + Duration::from_millis(50);
                self.opens_in_turn.insert((from, stream));
                let pending = Pending::OpenInTurn { from, to, stream, deadline };
                self.schedule.push(again.min(deadline), pending);
            }
        }
    }

    fn dial_timeout(&self, from: EndpointId) -> Duration {
        let policy = self.endpoints[from.0 as usize].dialling.as_ref();
        policy.map_or(self.config.connect_timeout, |policy| policy.timeout(self.now))
    }

    fn dial(&mut self, from: EndpointId, to: &Destination) -> Result<&mut Dial, Turn> {
        let key = (from, to.address);
        if !self.dials.contains_key(&key) {
            let now = self.now;
            let timeout = match &mut self.endpoint(from).dialling {
                None => self.config.connect_timeout,
                Some(policy) => match policy.begin(to, now) {
                    Turn::Dial { timeout } => timeout,
                    turn => return Err(turn),
                },
            };
            self.traffic.dials += 1;
            self.next_dial += 1;
            let number = self.next_dial;
            self.send_first_packet(from, to.address, number);
            let deadline = now + timeout;
            if self.endpoint(from).dialling.is_some() {
                let renewal = Pending::DialRenewal { from, address: to.address, number };
                self.schedule.push(now + RENEWAL_INTERVAL, renewal);
            }
            let dial = Dial { to: to.clone(), number, deadline, kept: None, opens: Vec::new() };
            self.dials.insert(key, dial);
        }
        Ok(self.dials.get_mut(&key).expect("it is there, or was just put there"))
    }

    pub(super) fn attempt_dial(&mut self, from: EndpointId, address: SocketAddr, number: u64, attempt: u32) {
        let Some(dial) = self.dials.get(&(from, address)).filter(|dial| dial.number == number) else {
            return;
        };
        let deadline = dial.deadline;
        let failure = match self.listeners.get(&address).copied() {
            None => Some(DropReason::NoListener),
            Some(to) if self.endpoint(to).activity != Activity::Running => Some(DropReason::NoListener),
            Some(to) => {
                let (here, there) = (self.location(from), self.location(to));
                if self.is_cut(here, there) || self.is_cut(there, here) {
                    Some(DropReason::Cut)
                } else if self.loses_flight(here, there) || self.loses_flight(there, here) {
                    Some(DropReason::Lost)
                } else {
                    return self.answer_dial(from, to, address, number);
                }
            }
        };
        let Some(reason) = failure else { return };
        if self.now >= deadline {
            return self.dial_failed(from, address, reason);
        }
        // A handshake packet without an answer is sent again after three times the initial round
        // trip estimate, then twice as late each time.
        let next = self.now + transport::Timeouts::default().initial_rtt * 3 * 2u32.pow(attempt.min(8));
        let again = Pending::DialAttempt { from, address, number, attempt: attempt + 1 };
        self.schedule.push(next.min(deadline), again);
    }

    /// Begins a dial again if that is due, and else looks again later.
    pub(super) fn renew_dial(&mut self, from: EndpointId, address: SocketAddr, number: u64) {
        let now = self.now;
        let Some(dial) = self.dials.get_mut(&(from, address)).filter(|dial| dial.number == number) else {
            return;
        };
        let Some(policy) = &mut self.endpoints[from.0 as usize].dialling else { return };
        let Some(timeout) = policy.renew(&dial.to, now) else {
            let at = policy.renewal_due(&dial.to, now).unwrap_or(now + RENEWAL_INTERVAL);
            self.schedule.push(at, Pending::DialRenewal { from, address, number });
            return;
        };
        self.traffic.dials_renewed += 1;
        self.next_dial += 1;
        dial.number = self.next_dial;
        dial.deadline = now + timeout;
        let number = dial.number;
        self.send_first_packet(from, address, number);
    }

    /// Sends the first packet of a handshake.
    fn send_first_packet(&mut self, from: EndpointId, address: SocketAddr, number: u64) {
        let round_trip = match self.locations.get(&address) {
            Some(location) => self.round_trip(self.location(from), *location),
            None => Duration::ZERO,
        };
        let attempt = Pending::DialAttempt { from, address, number, attempt: 0 };
        self.schedule.push(self.now + round_trip, attempt);
    }

    /// The first packet of a handshake has arrived: both sides process it, one after the other.
    fn answer_dial(&mut self, from: EndpointId, to: EndpointId, address: SocketAddr, number: u64) {
        let Some(price) = self.config.handshakes else { return self.connected(from, to, address) };
        let deadline = self.dials[&(from, address)].deadline;
        let there = self.endpoint(to);
        if there.half_open >= price.most_half_open {
            self.schedule.push(self.now, Pending::DialTimeout { from, address, number });
            return;
        }
        there.half_open += 1;
        let answered = self.occupy_processor(to, price.work);
        let work = Handshake { from, to, address, number, done: false };
        self.schedule.push(answered, Pending::Handshake(work));
        self.schedule.push(deadline, Pending::DialTimeout { from, address, number });
    }

    /// One side has processed a handshake.
    pub(super) fn continue_handshake(&mut self, handshake: Handshake) {
        let Handshake { from, to, address, number, done } = handshake;
        let wanted = self.dials.get(&(from, address)).is_some_and(|dial| dial.number == number);
        if wanted
            && !done
            && let Some(price) = self.config.handshakes
        {
            let finished = self.occupy_processor(from, price.work);
            self.schedule.push(finished, Pending::Handshake(Handshake { done: true, ..handshake }));
            return;
        }
        let there = self.endpoint(to);
        there.half_open = there.half_open.saturating_sub(1);
        match wanted {
            true if self.is_running(to) => self.connected(from, to, address),
            true => {}
            // The work done for it was wasted.
            false => self.traffic.dials_in_vain += 1,
        }
    }

    pub(super) fn time_out_dial(&mut self, from: EndpointId, address: SocketAddr, number: u64) {
        if self.dials.get(&(from, address)).is_some_and(|dial| dial.number == number) {
            self.dial_failed(from, address, DropReason::NoListener);
        }
    }

    /// When the processor of an endpoint's host has done this, after its earlier work.
    fn occupy_processor(&mut self, endpoint: EndpointId, work: Duration) -> Duration {
        self.traffic.handshake_work += work;
        let cores = self.config.handshakes.map_or(0, |price| price.shared_cores);
        if cores == 0 {
            let now = self.now;
            let here = self.endpoint(endpoint);
            here.processor_free = here.processor_free.max(now) + work;
            return here.processor_free;
        }
        self.cores_free.resize(cores, Duration::ZERO);
        let now = self.now;
        let Some(first) = self.cores_free.iter_mut().min() else { return now };
        *first = (*first).max(now) + work;
        *first
    }

    fn loses_flight(&mut self, from: super::Location, to: super::Location) -> bool {
        let loss = self.link(from, to).loss;
        loss > 0.0 && self.rng.random_bool(loss.min(1.0))
    }

    fn dial_failed(&mut self, from: EndpointId, address: SocketAddr, reason: DropReason) {
        let Some(dial) = self.dials.remove(&(from, address)) else { return };
        self.traffic.dials_unanswered += 1;
        self.report_end_of_dial(from, &dial.to, DialEnd::Unanswered);
        let to = self.listeners.get(&address).copied();
        if to.is_some_and(|to| self.connection_between(from, to).is_some()) {
            self.forget_failure(from, &dial.to);
        }
        self.trace.record(self.now, TraceEvent::DialFailed { from, reason });
        if let Some((_, bytes)) = dial.kept {
            self.drop_datagram(from, to, reason, bytes);
        }
        for (_, stream) in dial.opens {
            self.fail_open(from, stream);
        }
    }

    fn connected(&mut self, from: EndpointId, to: EndpointId, address: SocketAddr) {
        let Some(dial) = self.dials.remove(&(from, address)) else { return };
        self.traffic.dials_connected += 1;
        self.report_end_of_dial(from, &dial.to, DialEnd::Connected);
        self.connect(from, to);
        self.send_waiting(from, to, dial.opens, dial.kept);
        self.use_connection_of_peer(to, from);
    }

    /// Sends what waits for a dial over the connection that the peer dialled first. As in
    /// production the dial itself goes on.
    fn use_connection_of_peer(&mut self, from: EndpointId, to: EndpointId) {
        let address = self.address(self.location(to));
        let name = self.name(to).clone();
        let Some(dial) = self.dials.get_mut(&(from, address)) else { return };
        let fits = |expected: &Option<NodeName>| expected.as_ref().is_none_or(|expected| *expected == name);
        let opens: Vec<_> = dial.opens.extract_if(.., |(expected, _)| fits(expected)).collect();
        let kept = dial.kept.take_if(|(expected, _)| fits(expected));
        let to_dial = dial.to.clone();
        self.send_waiting(from, to, opens, kept);
        self.forget_failure(from, &to_dial);
    }

    /// Sends what waited for a connection over it, except messages for a node of another name.
    fn send_waiting(
        &mut self,
        from: EndpointId,
        to: EndpointId,
        opens: Vec<WaitingOpen>,
        kept: Option<KeptDatagram>,
    ) {
        let name = self.name(to).clone();
        let fits = |expected: &Option<NodeName>| expected.as_ref().is_none_or(|expected| *expected == name);
        for (expected, stream) in opens {
            if fits(&expected) {
                self.open_on_connection(from, to, stream, Duration::ZERO);
            } else {
                self.fail_open(from, stream);
            }
        }
        if let Some((expected, bytes)) = kept {
            if fits(&expected) {
                // A datagram that waited for the connection belongs to the network: the sender does
                // not learn its fate.
                let _ = self.transmit_datagram(from, to, bytes, Duration::ZERO);
            } else {
                self.drop_datagram(from, Some(to), DropReason::WrongName, bytes);
            }
        }
    }

    /// There is a connection after all: the failure must not delay the next dial.
    fn forget_failure(&mut self, from: EndpointId, to: &Destination) {
        if let Some(policy) = &mut self.endpoint(from).dialling {
            policy.clear_failure(to);
        }
    }

    fn report_end_of_dial(&mut self, from: EndpointId, to: &Destination, end: DialEnd) {
        let now = self.now;
        if let Some(policy) = &mut self.endpoint(from).dialling {
            policy.end(to, end, now);
        }
    }

    fn connect(&mut self, from: EndpointId, to: EndpointId) {
        if self.endpoint(from).connections.contains_key(&to) {
            return;
        }
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.trace.record(self.now, TraceEvent::Dialled { from, to });
        self.connections.insert(
            id,
            Connection {
                ends: [from.min(to), from.max(to)],
                streams: BTreeSet::new(),
                opened: [0; 2],
                waiting: [const { VecDeque::new() }; 2],
                stalled: Vec::new(),
                blocked_since: None,
                free_for_frames: [Duration::ZERO; 2],
                free_for_datagrams: [Duration::ZERO; 2],
                last_used: self.now,
                since: self.now,
            },
        );
        self.endpoint(from).connections.insert(to, id);
        self.endpoint(to).connections.insert(from, id);
        self.connection_changes.extend([(from, to, true), (to, from, true)]);
        let (dialler_address, now) = (self.address(self.location(from)), self.now);
        if let Some(policy) = &mut self.endpoint(to).dialling {
            policy.handshake_succeeded(|other| other.address == dialler_address, now);
        }
        for end in [from, to] {
            let here = self.endpoint(end);
            if here.connections.len() > here.connections_before_tidying {
                self.close_idle_connections(end);
            }
        }
        self.refresh(id);
    }

    fn close_idle_connections(&mut self, endpoint: EndpointId) {
        let horizon = self.now.saturating_sub(self.config.idle_timeout);
        let idle = self.endpoint(endpoint).connections.values().copied().collect::<Vec<_>>();
        for id in idle {
            let connection = &self.connections[&id];
            if connection.streams.is_empty() && connection.last_used < horizon {
                self.forget_connection(id);
            }
        }
        // If most are in use, checking again at the next connection would be useless.
        let here = self.endpoint(endpoint);
        here.connections_before_tidying = CONNECTIONS_KEPT_IDLE.max(here.connections.len() * 5 / 4);
    }

    fn forget_connection(&mut self, id: ConnectionId) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        let [a, b] = connection.ends;
        self.endpoint(a).connections.remove(&b);
        self.endpoint(b).connections.remove(&a);
        self.connection_changes.extend([(a, b, false), (b, a, false)]);
        Some(connection)
    }

    /// Since when two processes have had their present connection.
    pub fn connected_since(&self, a: EndpointId, b: EndpointId) -> Option<Duration> {
        Some(self.connections.get(&self.connection_between(a, b)?)?.since)
    }

    pub(super) fn connection_between(&self, a: EndpointId, b: EndpointId) -> Option<ConnectionId> {
        self.endpoints[a.0 as usize].connections.get(&b).copied()
    }

    /// When a datagram leaves the link's queue, or `None` if too much is waiting in it.
    pub(super) fn occupy_for_datagram(
        &mut self,
        from: EndpointId,
        to: EndpointId,
        link: &Link,
        bytes: usize,
    ) -> Option<Duration> {
        let now = self.now;
        let id = self.connection_between(from, to)?;
        let connection = self.connections.get_mut(&id)?;
        connection.last_used = now;
        if link.bandwidth.is_none() {
            return Some(now);
        }
        let direction = connection.direction(from);
        let taken = link.occupation(bytes);
        let start = connection.free_for_datagrams[direction].max(now);
        if start - now > Duration::from_millis(100) {
            return None;
        }
        connection.free_for_datagrams[direction] = start + taken;
        // Datagrams go first: frames wait for them.
        connection.free_for_frames[direction] = connection.free_for_frames[direction].max(now) + taken;
        Some(start + taken)
    }

    /// When a frame has left the link's queue.
    pub(super) fn occupy_for_frame(
        &mut self,
        id: ConnectionId,
        from: EndpointId,
        link: &Link,
        bytes: usize,
    ) -> Duration {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&id) else { return now };
        connection.last_used = now;
        if link.bandwidth.is_none() {
            return now;
        }
        let direction = connection.direction(from);
        let end = connection.free_for_frames[direction].max(now) + link.occupation(bytes);
        connection.free_for_frames[direction] = end;
        end
    }

    pub(super) fn round_trip(&self, a: super::Location, b: super::Location) -> Duration {
        let (at, bt) = (self.positions[a.0 as usize], self.positions[b.0 as usize]);
        self.link(a, b).latency.typical(at, bt) + self.link(b, a).latency.typical(bt, at)
    }

    pub(super) fn refresh_all_connections(&mut self) {
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            self.refresh(id);
        }
    }

    pub(super) fn refresh_connections_of(&mut self, endpoint: EndpointId) {
        for id in self.endpoint(endpoint).connections.values().copied().collect::<Vec<_>>() {
            self.refresh(id);
        }
    }

    /// Checks whether packets and answers can pass. If not, starts the idle timer; if so, releases
    /// the stalled events.
    fn refresh(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else { return };
        let [a, b] = connection.ends;
        let (at, bt) = (self.location(a), self.location(b));
        let blocked =
            !self.is_running(a) || !self.is_running(b) || self.is_cut(at, bt) || self.is_cut(bt, at);
        let (now, idle_timeout) = (self.now, self.config.idle_timeout);
        let round_trip = self.round_trip(at, bt);
        let connection = self.connections.get_mut(&id).expect("looked up above");
        match (connection.blocked_since, blocked) {
            (None, true) => {
                connection.blocked_since = Some(now);
                self.schedule.push(now + idle_timeout, Pending::IdleCheck { connection: id, since: now });
            }
            (Some(_), false) => {
                connection.blocked_since = None;
                for pending in std::mem::take(&mut connection.stalled) {
                    self.schedule.push(now + round_trip, pending);
                }
            }
            _ => {}
        }
    }

    pub(super) fn check_idle(&mut self, id: ConnectionId, since: Duration) {
        if self.connections.get(&id).is_some_and(|connection| connection.blocked_since == Some(since)) {
            self.break_connection(id, Duration::ZERO);
        }
    }

    pub(super) fn break_connections_of(&mut self, endpoint: EndpointId) {
        for (peer, id) in self.endpoint(endpoint).connections.clone() {
            let delay = self.round_trip(self.location(endpoint), self.location(peer)) / 2;
            self.break_connection(id, delay);
        }
    }

    /// Loses a connection with its streams; both ends learn of it after `delay`.
    pub(super) fn break_connection(&mut self, id: ConnectionId, delay: Duration) {
        let Some(connection) = self.forget_connection(id) else { return };
        for number in connection.streams {
            self.break_stream(number, delay);
        }
        for (end, waiting) in connection.ends.into_iter().zip(connection.waiting) {
            for stream in waiting {
                self.fail_open(end, stream);
            }
        }
        let [a, b] = connection.ends;
        for (at, peer) in [(a, b), (b, a)] {
            self.schedule.push(self.now + delay, Pending::ConnectionLost { at, peer });
        }
    }

    pub(super) fn deliver_connection_lost(
        &mut self,
        at: EndpointId,
        peer: EndpointId,
    ) -> Option<(EndpointId, FabricEvent)> {
        match self.endpoint(at).activity {
            Activity::Ended => None,
            Activity::Paused | Activity::Asleep => {
                self.endpoint(at).inbox.push_back(Pending::ConnectionLost { at, peer });
                None
            }
            Activity::Running => {
                self.trace.record(self.now, TraceEvent::ConnectionLost { at, peer });
                Some((at, FabricEvent::ConnectionLost { peer }))
            }
        }
    }
}
