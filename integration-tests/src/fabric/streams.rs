//! Streams: ordered frames, within a limit of frames in flight, until finished or broken.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use wire::{Destination, StreamId};

use super::connections::ConnectionId;
use super::rules::TABLES;
use super::{Activity, EndpointId, Fabric, FabricEvent, MessageKind, Pending, Verdict};
use crate::trace::TraceEvent;

#[derive(Debug)]
pub(super) struct Stream {
    connection: ConnectionId,
    /// The opener first.
    ends: [End; 2],
    /// Whether it is about tables; its first frame decides.
    for_tables: bool,
}

#[derive(Debug)]
struct End {
    endpoint: EndpointId,
    /// Its number at this end; none before it was accepted.
    id: Option<StreamId>,
    /// Frames sent from here that have not been handled at the other end.
    in_flight: usize,
    /// It has a frame to send, and the limit of frames in flight is reached.
    waits_for_capacity: bool,
    has_sent: bool,
    last_arrival: Duration,
    finished: bool,
    /// The other end has received its finish.
    finish_seen: bool,
}

/// An event at one end of a stream.
#[derive(Debug)]
pub(super) enum StreamEvent {
    Opened,
    Connected,
    Frame {
        to: usize,
        sent: Duration,
        first: bool,
        bytes: Arc<[u8]>,
    },
    Finished {
        to: usize,
    },
    /// One end knows that both have finished.
    Over {
        endpoint: EndpointId,
        id: StreamId,
    },
    Writable {
        at: usize,
    },
    /// For one end only: the other may learn of it at another time.
    Broken {
        endpoint: EndpointId,
        id: StreamId,
    },
}

impl Fabric {
    /// Opens a stream; [`FabricEvent::StreamConnected`] reports that it is open,
    /// [`FabricEvent::StreamClosed`] that it failed.
    pub fn open_stream(&mut self, from: EndpointId, stream: StreamId, to: &Destination) {
        for traffic in [&mut self.traffic, &mut self.endpoints[from.0 as usize].traffic] {
            traffic.streams += 1;
        }
        let Some(receiver) = self.listeners.get(&to.address).copied() else {
            return self.open_after_dial(from, to, stream);
        };
        if self.notice_given_up(from, receiver) {
            return self.fail_open(from, stream);
        }
        let mut delay = Duration::ZERO;
        match self.decide(from, receiver, MessageKind::StreamOpening, false, &[]) {
            Verdict::Pass | Verdict::Hold => {}
            Verdict::Drop => return self.fail_open(from, stream),
            Verdict::Delay(by) => delay = by,
        }
        if self.connection_between(from, receiver).is_none() {
            return self.open_after_dial(from, to, stream);
        }
        if to.name.as_ref().is_some_and(|name| name != self.name(receiver)) {
            return self.fail_open(from, stream);
        }
        self.open_on_connection(from, receiver, stream, delay);
    }

    /// Registers the receiver's own number of a stream that [`FabricEvent::StreamOpened`]
    /// announced.
    pub fn accept_stream(&mut self, number: u64, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let end = &mut stream.ends[1];
        end.id = Some(id);
        let endpoint = end.endpoint;
        self.endpoint(endpoint).streams.insert(id, (number, 1));
    }

    /// Whether a frame may be sent now. If not, [`FabricEvent::StreamWritable`] reports when; a
    /// closed stream never has capacity again.
    pub fn has_capacity(&mut self, endpoint: EndpointId, stream: StreamId) -> bool {
        let limit = self.config.frames_in_flight;
        let Some((number, side)) = self.endpoint(endpoint).streams.get(&stream).copied() else {
            return false;
        };
        let Some(stream) = self.streams.get_mut(&number) else { return false };
        let end = &mut stream.ends[side];
        if end.finished {
            return false;
        }
        end.waits_for_capacity = end.in_flight >= limit;
        !end.waits_for_capacity
    }

    /// Sends a frame; there must be capacity.
    pub fn send_frame(&mut self, endpoint: EndpointId, stream: StreamId, bytes: Vec<u8>) {
        let Some((number, side)) = self.endpoint(endpoint).streams.get(&stream).copied() else { return };
        let bytes: Arc<[u8]> = bytes.into();
        let Some(state) = self.streams.get_mut(&number) else { return };
        let (connection, peer) = (state.connection, state.ends[1 - side].endpoint);
        let first = side == 0 && !state.ends[0].has_sent;
        state.for_tables |= first && bytes.starts_with(&TABLES);
        let for_tables = state.for_tables;
        for traffic in [&mut self.traffic, &mut self.endpoints[endpoint.0 as usize].traffic] {
            traffic.frames += 1;
            traffic.frame_bytes += bytes.len() as u64;
            traffic.load(for_tables).count(bytes.len());
        }
        let (here, there) = (self.location(endpoint), self.location(peer));
        let link = self.link(here, there).clone();
        let breaks = link.stream_breaks > 0.0 && self.rng.random_bool(link.stream_breaks.min(1.0));
        let mut delay = match self.decide(endpoint, peer, MessageKind::Frame, first, &bytes) {
            Verdict::Pass | Verdict::Hold => Duration::ZERO,
            Verdict::Drop => return self.break_stream(number, Duration::ZERO),
            Verdict::Delay(by) => by,
        };
        if breaks {
            return self.break_stream(number, Duration::ZERO);
        }
        let round_trip = self.round_trip(here, there);
        delay += link.retransmission_delay(bytes.len(), round_trip, &mut self.rng);
        self.note_sent(connection, endpoint);
        let departure = self.occupy_for_frame(connection, endpoint, &link, bytes.len());
        let (from, to) = (self.positions[here.0 as usize], self.positions[there.0 as usize]);
        let arrival = departure + delay + link.latency.draw(from, to, &mut self.rng);
        let sent = self.now;
        let Some(state) = self.streams.get_mut(&number) else { return };
        let end = &mut state.ends[side];
        end.in_flight += 1;
        end.has_sent = true;
        end.last_arrival = end.last_arrival.max(arrival);
        let arrival = end.last_arrival;
        let event = StreamEvent::Frame { to: 1 - side, sent, first, bytes };
        self.schedule.push(arrival, Pending::Stream { number, event });
    }

    /// Nothing more will be sent on the stream from this side.
    pub fn finish_stream(&mut self, endpoint: EndpointId, stream: StreamId) {
        let Some((number, side)) = self.endpoint(endpoint).streams.get(&stream).copied() else { return };
        let Some(state) = self.streams.get(&number) else { return };
        if state.ends[side].finished {
            return;
        }
        let peer = state.ends[1 - side].endpoint;
        let latency = self.round_trip(self.location(endpoint), self.location(peer)) / 2;
        let now = self.now;
        let Some(state) = self.streams.get_mut(&number) else { return };
        let end = &mut state.ends[side];
        end.finished = true;
        let arrival = end.last_arrival.max(now + latency);
        end.last_arrival = arrival;
        let event = StreamEvent::Finished { to: 1 - side };
        self.schedule.push(arrival, Pending::Stream { number, event });
        if state.ends[1 - side].finish_seen {
            let event = StreamEvent::Over { endpoint, id: stream };
            self.schedule.push(now, Pending::Stream { number, event });
        }
    }

    /// Gives the stream up in both directions; the other end sees it break one latency later, this
    /// end receives no event.
    pub fn reset_stream(&mut self, endpoint: EndpointId, stream: StreamId) {
        let Some((number, side)) = self.endpoint(endpoint).streams.get(&stream).copied() else {
            return self.forget_open(endpoint, stream);
        };
        let Some(state) = self.forget_stream(number) else { return };
        self.traffic.broken_streams += 1;
        let other = &state.ends[1 - side];
        let delay = self.round_trip(self.location(endpoint), self.location(other.endpoint)) / 2;
        if let Some(id) = other.id {
            let event = StreamEvent::Broken { endpoint: other.endpoint, id };
            self.schedule.push(self.now + delay, Pending::Stream { number, event });
        }
    }

    /// Breaks every stream between two locations; both ends are notified.
    pub fn break_streams_between(&mut self, a: super::Location, b: super::Location) -> usize {
        let between = |fabric: &Fabric, stream: &Stream| {
            let locations = stream.ends.each_ref().map(|end| fabric.location(end.endpoint));
            locations == [a, b] || locations == [b, a]
        };
        let numbers: Vec<u64> =
            self.streams.iter().filter(|(_, stream)| between(self, stream)).map(|(n, _)| *n).collect();
        for number in &numbers {
            self.break_stream(*number, Duration::ZERO);
        }
        numbers.len()
    }

    /// How many streams are open in the whole network.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// The streams that an endpoint has open in at least one direction, or has requested.
    pub fn streams_of(&self, endpoint: EndpointId) -> BTreeSet<StreamId> {
        let here = &self.endpoints[endpoint.0 as usize];
        let is_open = |number: u64, side: usize| {
            let stream = &self.streams[&number];
            !(stream.ends[side].finished && stream.ends[1 - side].finish_seen)
        };
        let open = here.streams.iter().filter(|(_, (number, side))| is_open(*number, *side));
        let waiting = here.connections.values().flat_map(|id| {
            let connection = &self.connections[id];
            connection.waiting[connection.direction(endpoint)].iter().copied()
        });
        open.map(|(id, _)| *id).chain(waiting).chain(self.opens_waiting_for_dials(endpoint)).collect()
    }

    pub(super) fn open_on_connection(
        &mut self,
        from: EndpointId,
        to: EndpointId,
        id: StreamId,
        delay: Duration,
    ) {
        let Some(connection) = self.connection_between(from, to) else { return self.fail_open(from, id) };
        if let Some(state) = self.connections.get_mut(&connection) {
            let side = state.direction(from);
            if state.opened[side] >= self.config.streams_per_connection {
                return state.waiting[side].push_back(id);
            }
            state.opened[side] += 1;
        }
        let number = self.next_stream;
        self.next_stream += 1;
        let (here, there) = (self.location(from), self.location(to));
        let link = self.link(here, there).clone();
        let round_trip = self.round_trip(here, there);
        let lost = link.retransmission_delay(1, round_trip, &mut self.rng);
        let (fp, tp) = (self.positions[here.0 as usize], self.positions[there.0 as usize]);
        let arrival = self.now + delay + lost + link.latency.draw(fp, tp, &mut self.rng);
        let end = |endpoint, id, last_arrival| End {
            endpoint,
            id,
            in_flight: 0,
            waits_for_capacity: false,
            has_sent: false,
            last_arrival,
            finished: false,
            finish_seen: false,
        };
        self.streams.insert(
            number,
            Stream {
                connection,
                ends: [end(from, Some(id), arrival), end(to, None, Duration::ZERO)],
                for_tables: false,
            },
        );
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.streams.insert(number);
        }
        self.endpoint(from).streams.insert(id, (number, 0));
        self.schedule.push(arrival, Pending::Stream { number, event: StreamEvent::Opened });
        self.schedule.push(self.now, Pending::Stream { number, event: StreamEvent::Connected });
    }

    /// Reports to the opener, as the next event, that its stream did not open.
    pub(super) fn fail_open(&mut self, from: EndpointId, id: StreamId) {
        self.traffic.broken_streams += 1;
        let event = StreamEvent::Broken { endpoint: from, id };
        self.schedule.push(self.now, Pending::Stream { number: u64::MAX, event });
    }

    pub(super) fn break_stream(&mut self, number: u64, delay: Duration) {
        let Some(stream) = self.forget_stream(number) else { return };
        self.traffic.broken_streams += 1;
        for end in stream.ends {
            if let Some(id) = end.id {
                let event = StreamEvent::Broken { endpoint: end.endpoint, id };
                self.schedule.push(self.now + delay, Pending::Stream { number, event });
            }
        }
    }

    fn forget_stream(&mut self, number: u64) -> Option<Stream> {
        let stream = self.streams.remove(&number)?;
        let [opener, acceptor] = stream.ends.each_ref().map(|end| end.endpoint);
        let mut next = None;
        if let Some(connection) = self.connections.get_mut(&stream.connection) {
            connection.streams.remove(&number);
            let side = connection.direction(opener);
            connection.opened[side] -= 1;
            next = connection.waiting[side].pop_front();
        }
        for end in &stream.ends {
            if let Some(id) = end.id {
                self.endpoint(end.endpoint).streams.remove(&id);
            }
        }
        if let Some(next) = next {
            // The peer must first announce that one more stream may be opened.
            let delay = self.round_trip(self.location(acceptor), self.location(opener)) / 2;
            self.open_on_connection(opener, acceptor, next, delay);
        }
        Some(stream)
    }

    pub(super) fn deliver_stream_event(
        &mut self,
        number: u64,
        event: StreamEvent,
    ) -> Option<(EndpointId, FabricEvent)> {
        match event {
            StreamEvent::Broken { endpoint, id } => return self.deliver_end(number, endpoint, id, false),
            StreamEvent::Over { endpoint, id } => return self.deliver_end(number, endpoint, id, true),
            _ => {}
        }
        let stream = self.streams.get(&number)?;
        let connection = self.connections.get_mut(&stream.connection)?;
        let (opener, acceptor) = (stream.ends[0].endpoint, stream.ends[1].endpoint);
        if connection.is_blocked() {
            connection.stalled.push(Pending::Stream { number, event });
            // What was on its way when the connection was blocked is unanswered too.
            let id = stream.connection;
            for end in [opener, acceptor] {
                self.note_sent(id, end);
            }
            return None;
        }
        match event {
            StreamEvent::Opened => {
                self.trace.record(self.now, TraceEvent::StreamOpened { number, from: opener, to: acceptor });
                Some((acceptor, FabricEvent::StreamOpened { from: opener, number }))
            }
            StreamEvent::Connected => {
                let stream = stream.ends[0].id?;
                Some((opener, FabricEvent::StreamConnected { stream, peer: acceptor }))
            }
            StreamEvent::Frame { to, sent, first, bytes } => {
                self.frame_arrived(number, to);
                let ends = [opener, acceptor];
                let stream = self.streams.get(&number)?.ends[to].id?;
                let record = TraceEvent::Frame {
                    number,
                    from: ends[1 - to],
                    to: ends[to],
                    sent,
                    bytes: bytes.clone(),
                };
                self.trace.record(self.now, record);
                Some((ends[to], FabricEvent::Frame { stream, first, bytes }))
            }
            StreamEvent::Finished { to } => {
                let state = self.streams.get_mut(&number)?;
                state.ends[1 - to].finish_seen = true;
                let (endpoint, id, over) =
                    (state.ends[to].endpoint, state.ends[to].id?, state.ends[to].finished);
                self.trace.record(self.now, TraceEvent::StreamFinished { number, to: endpoint });
                if over {
                    let event = StreamEvent::Over { endpoint, id };
                    self.schedule.push(self.now, Pending::Stream { number, event });
                }
                if self.streams[&number].ends.iter().all(|end| end.finish_seen) {
                    self.forget_stream(number);
                }
                Some((endpoint, FabricEvent::StreamFinished { stream: id }))
            }
            StreamEvent::Writable { at } => {
                let end = &stream.ends[at];
                Some((end.endpoint, FabricEvent::StreamWritable { stream: end.id? }))
            }
            StreamEvent::Broken { .. } | StreamEvent::Over { .. } => unreachable!("handled above"),
        }
    }

    /// Returns the capacity to the sender, and notifies it if it waits for that.
    fn frame_arrived(&mut self, number: u64, to: usize) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let sender = &mut stream.ends[1 - to];
        sender.in_flight -= 1;
        if !std::mem::take(&mut sender.waits_for_capacity) {
            return;
        }
        let (a, b) = (stream.ends[0].endpoint, stream.ends[1].endpoint);
        let latency = self.round_trip(self.location(a), self.location(b)) / 2;
        let event = StreamEvent::Writable { at: 1 - to };
        self.schedule.push(self.now + latency, Pending::Stream { number, event });
    }

    /// Reports an event that an end learns without any traffic.
    fn deliver_end(
        &mut self,
        number: u64,
        endpoint: EndpointId,
        id: StreamId,
        clean: bool,
    ) -> Option<(EndpointId, FabricEvent)> {
        match self.endpoint(endpoint).activity {
            Activity::Ended => None,
            Activity::Paused | Activity::Asleep => {
                let event = match clean {
                    true => StreamEvent::Over { endpoint, id },
                    false => StreamEvent::Broken { endpoint, id },
                };
                self.endpoint(endpoint).inbox.push_back(Pending::Stream { number, event });
                None
            }
            Activity::Running => {
                if !clean {
                    self.trace.record(self.now, TraceEvent::StreamBroken { number, to: endpoint });
                }
                Some((endpoint, FabricEvent::StreamClosed { stream: id, clean }))
            }
        }
    }
}
