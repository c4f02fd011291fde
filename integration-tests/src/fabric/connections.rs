//! Connections: kept while packets are answered, lost to an end whose packets are not, and after the idle timeout.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use wire::StreamId;

use super::link::Link;
use super::{Activity, EndpointId, Fabric, FabricEvent, Location, Pending};
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
    /// Which end has sent something since then.
    unanswered: [bool; 2],
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

/// Beyond this many connections a process closes idle ones.
pub(super) const CONNECTIONS_KEPT_IDLE: usize = 256;

impl Fabric {
    pub(super) fn connect(&mut self, from: EndpointId, to: EndpointId) {
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
                unanswered: [false; 2],
                free_for_frames: [Duration::ZERO; 2],
                free_for_datagrams: [Duration::ZERO; 2],
                last_used: self.now,
                since: self.now,
            },
        );
        for (end, peer) in [(from, to), (to, from)] {
            self.endpoint(end).given_up_by.remove(&peer);
            self.forget_ended_at(self.location(peer), end);
        }
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

    /// Ends the connections of a process with earlier ones at a location: as in production, a new one that answers
    /// there shows that they no longer exist.
    fn forget_ended_at(&mut self, location: Location, end: EndpointId) {
        let here = self.endpoint(end).connections.clone();
        for (peer, id) in here {
            if self.location(peer) == location && self.endpoint(peer).activity == Activity::Ended {
                let connection = self.forget_connection(id);
                for number in connection.into_iter().flat_map(|connection| connection.streams) {
                    self.break_stream(number, Duration::ZERO);
                }
            }
        }
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

    pub(super) fn round_trip(&self, a: Location, b: Location) -> Duration {
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
                connection.unanswered = [false; 2];
                for pending in std::mem::take(&mut connection.stalled) {
                    self.schedule.push(now + round_trip, pending);
                }
            }
            _ => {}
        }
    }

    /// An end sends something over a connection.
    pub(super) fn note_sent(&mut self, id: ConnectionId, end: EndpointId) {
        let at = self.now + self.config.unanswered;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let direction = connection.direction(end);
        if let Some(since) = connection.blocked_since
            && !std::mem::replace(&mut connection.unanswered[direction], true)
        {
            self.schedule.push(at, Pending::AnswerCheck { connection: id, end, since });
        }
    }

    /// A process sends something to an address where nobody listens any more.
    pub(super) fn note_sent_to_nobody(&mut self, from: EndpointId, address: SocketAddr) {
        for (peer, id) in self.endpoint(from).connections.clone() {
            if self.address(self.location(peer)) == address {
                self.note_sent(id, from);
            }
        }
    }

    /// Loses a connection to the ends whose packets are not answered. The other end learns of that when it sends
    /// something.
    pub(super) fn check_answer(&mut self, id: ConnectionId, end: EndpointId, since: Duration) {
        let Some(connection) = self.connections.get(&id) else { return };
        if connection.blocked_since != Some(since) || !connection.unanswered[connection.direction(end)] {
            return;
        }
        let (ends, unanswered) = (connection.ends, connection.unanswered);
        let waits = |index: usize| {
            !unanswered[index] && self.endpoints[ends[index].0 as usize].activity != Activity::Ended
        };
        let unaware = (0..2).find(|index| waits(*index)).map(|index| (ends[index], ends[1 - index]));
        self.break_connection(id, Duration::ZERO, unaware);
    }

    /// Whether the peer has given up the connection that this process sends something over. If so, what was sent is
    /// lost, and the process learns of it: at once if a reset can reach it, else by want of an answer.
    pub(super) fn notice_given_up(&mut self, from: EndpointId, to: EndpointId) -> bool {
        if !self.endpoint(from).given_up_by.remove(&to) {
            return false;
        }
        let (here, there) = (self.location(from), self.location(to));
        let passes = self.is_running(to) && !self.is_cut(here, there) && !self.is_cut(there, here);
        let delay = if passes { self.round_trip(here, there) } else { self.config.unanswered };
        self.connection_changes.push((from, to, false));
        self.schedule.push(self.now + delay, Pending::ConnectionLost { at: from, peer: to });
        true
    }

    pub(super) fn check_idle(&mut self, id: ConnectionId, since: Duration) {
        if self.connections.get(&id).is_some_and(|connection| connection.blocked_since == Some(since)) {
            self.break_connection(id, Duration::ZERO, None);
        }
    }

    pub(super) fn break_connections_of(&mut self, endpoint: EndpointId) {
        for (peer, id) in self.endpoint(endpoint).connections.clone() {
            let delay = self.round_trip(self.location(endpoint), self.location(peer)) / 2;
            self.break_connection(id, delay, None);
        }
    }

    /// Loses a connection with its streams; both ends learn of it after `delay`, except for an `unaware` one, of which
    /// the other end comes second.
    pub(super) fn break_connection(
        &mut self,
        id: ConnectionId,
        delay: Duration,
        unaware: Option<(EndpointId, EndpointId)>,
    ) {
        let Some(connection) = self.forget_connection(id) else { return };
        if let Some((end, peer)) = unaware {
            self.connection_changes.retain(|change| *change != (end, peer, false));
            self.endpoint(end).given_up_by.insert(peer);
        }
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
            if Some((at, peer)) != unaware {
                self.schedule.push(self.now + delay, Pending::ConnectionLost { at, peer });
            }
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
