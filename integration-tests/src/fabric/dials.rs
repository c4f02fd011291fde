//! Dials: begun when a connection is first needed, repeated and renewed, and what waits for them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use transport::{DialEnd, RENEWAL_INTERVAL, Turn};
use wire::{Destination, NodeName, StreamId};

use super::{Activity, DropReason, EndpointId, Fabric, Location, Pending};
use crate::trace::TraceEvent;

/// A dial, and the messages that wait for its connection.
#[derive(Debug)]
pub(super) struct Dial {
    /// The destination of the first of them.
    to: Destination,
    pub(super) number: u64,
    pub(super) deadline: Duration,
    /// One datagram may wait; the protocols' own retransmission does the rest.
    kept: Option<KeptDatagram>,
    opens: Vec<WaitingOpen>,
}

/// A datagram that waits for a connection, and the expected name of the peer.
type KeptDatagram = (Option<NodeName>, Arc<[u8]>);
/// A stream that waits for one.
type WaitingOpen = (Option<NodeName>, StreamId);

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

    pub(super) fn time_out_dial(&mut self, from: EndpointId, address: SocketAddr, number: u64) {
        if self.dials.get(&(from, address)).is_some_and(|dial| dial.number == number) {
            self.dial_failed(from, address, DropReason::NoListener);
        }
    }

    fn loses_flight(&mut self, from: Location, to: Location) -> bool {
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

    pub(super) fn connected(&mut self, from: EndpointId, to: EndpointId, address: SocketAddr) {
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
}
