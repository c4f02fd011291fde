//! Streams: the reliable path of probes, and the comparison of member lists in frames of bounded
//! size.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use wire::codec;
use wire::{Destination, FramePoll, NodeName, StreamId};

use crate::event::{SeedFailure, Transmit};
use crate::member::State;
use crate::message::{Frame, Hello, HelloRefusal, MessageError, Occasion};
use crate::timers::Timer;

use super::Membership;
use super::claims::{AliveOutcome, Origin};
use super::list_sync::Cursor;

/// State of one stream.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The peer; unknown until it answers if a seed was contacted.
    peer: Option<NodeName>,
    address: SocketAddr,
    role: Role,
    inbound: bool,
    started: Instant,
    /// Frames to be sent before the list.
    outgoing: VecDeque<Vec<u8>>,
    list: Option<Cursor>,
    /// Whether nothing follows after `outgoing` and `list`.
    last: bool,
    /// Whether the peer has sent everything.
    received_all: bool,
    /// Number of entries received of the peer's list.
    entries_received: usize,
    /// Whether changes learned from the peer's list are gossiped.
    relay: bool,
}

/// The role of this node on the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    /// This node sent a packet and waits for the answer.
    PacketSent,
    /// This node requested a comparison of lists and waits for the welcome.
    HelloSent { occasion: Occasion, seed: Option<SocketAddr>, compared: Option<(u64, u64)> },
    /// This node was welcomed and waits for the rest of the peer's list.
    Welcomed { seed: Option<SocketAddr>, id: wire::NodeId },
    /// A peer opened the stream and has sent nothing yet.
    Opened,
    /// This node answered a peer's packet.
    PacketAnswered,
    /// This node welcomed a peer and waits for the rest of its list.
    WelcomeSent,
    /// This node refused a peer.
    RefusalSent,
}

impl Membership {
    // ---- Opening

    fn open_stream(
        &mut self,
        to: Destination,
        role: Role,
        relay: bool,
        first: Frame,
        now: Instant,
    ) -> StreamId {
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        let exchange = Exchange {
            peer: to.name.clone(),
            address: to.address,
            role,
            inbound: false,
            started: now,
            outgoing: VecDeque::from([codec::encode(&first)]),
            list: None,
            last: false,
            received_all: false,
            entries_received: 0,
            relay,
        };
        self.exchanges.insert(stream, exchange);
        self.timers.set(Timer::Exchange(stream), now + self.config.exchange_timeout);
        self.urgent.push_back(Transmit::OpenStream { stream, to });
        stream
    }

    /// Sends a packet over a stream.
    pub(super) fn open_packet(
        &mut self,
        name: NodeName,
        address: SocketAddr,
        packet: Vec<u8>,
        now: Instant,
    ) -> StreamId {
        let to = Destination { name: Some(name), address };
        let stream = self.open_stream(to, Role::PacketSent, false, Frame::Packet(packet), now);
        if let Some(exchange) = self.exchanges.get_mut(&stream) {
            exchange.last = true;
        }
        stream
    }

    /// Requests a comparison of member lists from a node.
    pub(super) fn send_hello(
        &mut self,
        to: Destination,
        occasion: Occasion,
        seed: Option<SocketAddr>,
        compared: Option<(u64, u64)>,
        now: Instant,
    ) -> StreamId {
        // The peers of a joining node know what they send it already: it does not gossip it.
        let relay = occasion != Occasion::Join || self.roster.active().len() > 0;
        let hello = Frame::Hello(self.hello(occasion, to.name.as_ref()));
        self.statistics.syncs += 1;
        let stream = self.open_stream(to, Role::HelloSent { occasion, seed, compared }, relay, hello, now);
        if occasion == Occasion::Join
            && let Some(exchange) = self.exchanges.get_mut(&stream)
        {
            exchange.list = Some(Cursor::Start);
        }
        stream
    }

    fn hello(&self, occasion: Occasion, to: Option<&NodeName>) -> Hello {
        let known = to.and_then(|name| self.roster.get(name.as_str())).map(|entry| &entry.member);
        let known = known.filter(|member| member.state != State::Alive);
        Hello {
            occasion,
            record: self.me.record.clone(),
            incarnation: self.me.incarnation,
            digest: self.digest(),
            about_receiver: known.map(|member| (member.state, member.record.id.clone(), member.incarnation)),
        }
    }

    pub(super) fn accept_stream(&mut self, from: &NodeName, source: SocketAddr, now: Instant) -> StreamId {
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        if self.inbound_streams >= self.config.max_inbound_streams {
            self.statistics.streams_refused += 1;
            self.urgent.push_back(Transmit::CloseStream { stream });
            return stream;
        }
        self.inbound_streams += 1;
        let exchange = Exchange {
            peer: Some(from.clone()),
            address: source,
            role: Role::Opened,
            inbound: true,
            started: now,
            outgoing: VecDeque::new(),
            list: None,
            last: false,
            received_all: false,
            entries_received: 0,
            relay: true,
        };
        self.exchanges.insert(stream, exchange);
        self.timers.set(Timer::Exchange(stream), now + self.config.exchange_timeout);
        stream
    }

    pub(super) fn stream_connected(&mut self, stream: StreamId, peer: &NodeName, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return };
        match &exchange.peer {
            None => exchange.peer = Some(peer.clone()),
            Some(wanted) if wanted == peer => {}
            Some(_) => {
                // Another node uses this address now.
                self.statistics.ignored_wrong_name += 1;
                return self.break_off(stream, SeedFailure::Unreachable, now);
            }
        }
        self.progress(stream, now);
    }

    // ---- Frames in

    pub(super) fn process_frame(
        &mut self,
        stream: StreamId,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(), MessageError> {
        let Some(exchange) = self.exchanges.get(&stream) else { return Ok(()) };
        let Some(peer) = exchange.peer.clone() else {
            self.break_off(stream, SeedFailure::Misunderstood, now);
            return Err(MessageError::UnknownPeer);
        };
        let source = exchange.address;
        let result = match codec::decode::<Frame>(bytes) {
            Ok(frame) => self.act_on_frame(stream, &peer, source, frame, now),
            Err(error) => Err(self.malformed(error)),
        };
        match &result {
            Ok(()) => {
                self.progress(stream, now);
                self.finish_if_done(stream, now);
            }
            Err(_) => self.break_off(stream, SeedFailure::Misunderstood, now),
        }
        result
    }

    fn act_on_frame(
        &mut self,
        stream: StreamId,
        peer: &NodeName,
        source: SocketAddr,
        frame: Frame,
        now: Instant,
    ) -> Result<(), MessageError> {
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return Ok(()) };
        let wanted = match (&exchange.role, frame) {
            (Role::Opened, Frame::Packet(packet)) => {
                return self.answer_packet(stream, peer, source, &packet, now);
            }
            (Role::PacketSent, Frame::Packet(packet)) => {
                exchange.received_all = true;
                let mut replies = Vec::new();
                let result = self.process_packet(peer, source, &packet, now, &mut replies);
                if !replies.is_empty() {
                    self.send_replies(peer, source, replies);
                }
                return result;
            }
            (Role::Opened, Frame::Hello(hello)) => {
                return self.answer_hello(stream, peer, source, hello, now);
            }
            (Role::HelloSent { .. }, Frame::Welcome { hello, equal }) => {
                return self.welcomed(stream, peer, source, hello, equal, now);
            }
            (Role::HelloSent { .. }, Frame::Refused(refusal)) => {
                self.refused(stream, refusal, now);
                return Ok(());
            }
            (Role::Welcomed { .. } | Role::WelcomeSent, Frame::Members(entries))
                if !exchange.received_all =>
            {
                exchange.entries_received += entries.len();
                let most = 2 * self.config.max_members;
                if exchange.entries_received > most {
                    self.statistics.ignored_malformed += 1;
                    return Err(MessageError::ListTooLong { peer: peer.clone(), most });
                }
                let relay = exchange.relay;
                let origin = Origin { from: peer, source, list: true, relay, announce: false };
                for entry in entries {
                    self.merge(entry, origin, now);
                }
                return Ok(());
            }
            (Role::Welcomed { .. } | Role::WelcomeSent, Frame::End) if !exchange.received_all => {
                exchange.received_all = true;
                return Ok(());
            }
            // The rest of the list of a peer that was refused before it had sent all of it.
            (Role::RefusalSent, Frame::Members(_)) => return Ok(()),
            (Role::RefusalSent, Frame::End) => {
                exchange.received_all = true;
                return Ok(());
            }
            (role, frame) => {
                let wanted = match role {
                    Role::PacketSent => "the answer to a packet",
                    Role::HelloSent { .. } => "a welcome or a refusal",
                    Role::Opened => "a packet or a hello",
                    Role::Welcomed { .. } | Role::WelcomeSent => "members or the end of the list",
                    Role::PacketAnswered | Role::RefusalSent => "nothing",
                };
                (wanted, frame.name())
            }
        };
        self.statistics.ignored_malformed += 1;
        Err(MessageError::Unexpected { peer: peer.clone(), found: wanted.1, wanted: wanted.0 })
    }

    fn answer_packet(
        &mut self,
        stream: StreamId,
        peer: &NodeName,
        source: SocketAddr,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), MessageError> {
        let mut replies = Vec::new();
        let result = self.process_packet(peer, source, packet, now, &mut replies);
        let packet = self.packet_of(replies);
        if let Some(exchange) = self.exchanges.get_mut(&stream) {
            exchange.role = Role::PacketAnswered;
            exchange.outgoing.push_back(codec::encode(&Frame::Packet(packet)));
            exchange.last = true;
            exchange.received_all = true;
        }
        result
    }

    fn wrong_name(&mut self, claimed: &NodeName, peer: &NodeName) -> MessageError {
        self.statistics.ignored_wrong_name += 1;
        MessageError::WrongName { claimed: claimed.clone(), authenticated: peer.clone() }
    }

    fn answer_hello(
        &mut self,
        stream: StreamId,
        peer: &NodeName,
        source: SocketAddr,
        hello: Hello,
        now: Instant,
    ) -> Result<(), MessageError> {
        if hello.record.id.name != *peer {
            return Err(self.wrong_name(&hello.record.id.name, peer));
        }
        let Hello { occasion, record, incarnation, digest, about_receiver } = hello;
        // Whether this node has members before it accepts the peer decides whether the peer's list
        // is gossiped.
        let relay = self.roster.active().len() > 0;
        let mut known_claim = None;
        let refusal = match () {
            () if self.leaving.is_some() => Some(HelloRefusal::Leaving),
            () if record.id.name == *self.me.name() => Some(self.refuse_own_name(record, now)),
            () => {
                let origin = Origin { from: peer, source, list: false, relay: true, announce: true };
                match self.consider_alive(record, incarnation, origin, now) {
                    AliveOutcome::Accepted | AliveOutcome::Known => None,
                    AliveOutcome::Stale(known) => {
                        known_claim = known.standing();
                        None
                    }
                    AliveOutcome::Outdated(outdated) => Some(HelloRefusal::Outdated(outdated)),
                    AliveOutcome::Pending => {
                        let wait = self.health.scale(self.config.probe_interval);
                        Some(HelloRefusal::Pending(u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)))
                    }
                    AliveOutcome::Taken(in_use) => Some(HelloRefusal::NameInUse(in_use)),
                    AliveOutcome::Full => Some(HelloRefusal::Full),
                    AliveOutcome::Invalid => Some(HelloRefusal::Invalid),
                }
            }
        };
        self.refute_claim(peer, about_receiver, now);
        let mut hello = self.hello(occasion, Some(peer));
        hello.about_receiver = known_claim.or(hello.about_receiver);
        let equal = occasion != Occasion::Join && digest == hello.digest;
        let welcome = Frame::Welcome { hello, equal };
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return Ok(()) };
        if let Some(refusal) = refusal {
            exchange.role = Role::RefusalSent;
            exchange.outgoing.push_back(codec::encode(&Frame::Refused(refusal)));
            exchange.last = true;
            // Only a joining node sends its list without waiting for the welcome.
            exchange.received_all = occasion != Occasion::Join;
            return Ok(());
        }
        exchange.role = Role::WelcomeSent;
        exchange.relay = relay;
        exchange.outgoing.push_back(codec::encode(&welcome));
        if equal {
            self.statistics.syncs_equal += 1;
            exchange.outgoing.push_back(codec::encode(&Frame::End));
            exchange.last = true;
        } else {
            exchange.list = Some(Cursor::Start);
        }
        Ok(())
    }

    /// A node of this node's name opened the stream: it is this node itself, or it must use another
    /// name.
    fn refuse_own_name(&mut self, record: crate::NodeRecord, now: Instant) -> HelloRefusal {
        if record.id == self.me.record.id && record.address == self.me.record.address {
            return HelloRefusal::Yourself;
        }
        let in_use = self.owned_by_us(record.id, record.address);
        self.report_conflict(in_use.clone(), now);
        HelloRefusal::NameInUse(in_use)
    }

    /// Refutes the peer's claim about this node before this node sends its own state.
    fn refute_claim(
        &mut self,
        peer: &NodeName,
        about_receiver: Option<(State, wire::NodeId, u64)>,
        now: Instant,
    ) {
        if let Some((state, id, incarnation)) = about_receiver
            && id.name == *self.me.name()
            && *peer != id.name
        {
            self.consider_own_state(&id, incarnation, state, now, &mut Vec::new());
        }
    }

    fn welcomed(
        &mut self,
        stream: StreamId,
        peer: &NodeName,
        source: SocketAddr,
        hello: Hello,
        equal: bool,
        now: Instant,
    ) -> Result<(), MessageError> {
        let Hello { record, incarnation, about_receiver, .. } = hello;
        if record.id.name != *peer {
            return Err(self.wrong_name(&record.id.name, peer));
        }
        let id = record.id.clone();
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return Ok(()) };
        let relay = exchange.relay;
        let seed = match &exchange.role {
            Role::HelloSent { seed, .. } => *seed,
            _ => None,
        };
        exchange.role = Role::Welcomed { seed, id };
        if equal {
            exchange.outgoing.push_back(codec::encode(&Frame::End));
            exchange.last = true;
        } else if exchange.list.is_none() && !exchange.last {
            exchange.list = Some(Cursor::Start);
        }
        let origin = Origin { from: peer, source, list: false, relay, announce: false };
        self.consider_alive(record, incarnation, origin, now);
        self.refute_claim(peer, about_receiver, now);
        Ok(())
    }

    fn refused(&mut self, stream: StreamId, refusal: HelloRefusal, now: Instant) {
        let failure = match refusal {
            HelloRefusal::Pending(millis) => {
                if let Some(seed) = self.seed_of(stream) {
                    self.seed_pending(seed, millis, now);
                }
                SeedFailure::Pending
            }
            HelloRefusal::NameInUse(in_use) => {
                let owner = in_use.owner_address;
                self.receive_conflict_report(in_use, now);
                SeedFailure::NameInUse { owner }
            }
            HelloRefusal::Outdated(outdated) => {
                self.outdated(outdated, now);
                SeedFailure::Outdated
            }
            HelloRefusal::Yourself => SeedFailure::Ourselves,
            HelloRefusal::Full => SeedFailure::Full,
            HelloRefusal::Leaving => SeedFailure::Leaving,
            HelloRefusal::Invalid => SeedFailure::Invalid,
        };
        self.break_off(stream, failure, now);
    }

    fn seed_of(&self, stream: StreamId) -> Option<SocketAddr> {
        match &self.exchanges.get(&stream)?.role {
            Role::HelloSent { seed, .. } | Role::Welcomed { seed, .. } => *seed,
            _ => None,
        }
    }

    // ---- Frames out

    pub(super) fn next_frame(&mut self, stream: StreamId, now: Instant) -> FramePoll {
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return FramePoll::Finish };
        if let Some(frame) = exchange.outgoing.pop_front() {
            self.sent(stream, now);
            return FramePoll::Frame(frame);
        }
        if let Some(cursor) = exchange.list.take() {
            let (frame, next) = self.list_frame(cursor, now);
            if let Some(exchange) = self.exchanges.get_mut(&stream) {
                exchange.last = next.is_none();
                exchange.list = next;
            }
            self.sent(stream, now);
            return FramePoll::Frame(codec::encode(&frame));
        }
        match exchange.last {
            true => FramePoll::Finish,
            false => FramePoll::Wait,
        }
    }

    fn sent(&mut self, stream: StreamId, now: Instant) {
        self.progress(stream, now);
        self.finish_if_done(stream, now);
        if self.broadcasts.has_fresh() {
            // The end of a join queues an update. Polling must not create datagrams, so a timer
            // does.
            self.timers.set(Timer::Flush, now);
        }
    }

    // ---- Ends

    /// Each step extends the deadline, up to the limit for the whole exchange.
    fn progress(&mut self, stream: StreamId, now: Instant) {
        let Some(exchange) = self.exchanges.get(&stream) else { return };
        let limit = exchange.started + self.config.exchange_limit;
        self.timers.set(Timer::Exchange(stream), limit.min(now + self.config.exchange_timeout));
    }

    fn finish_if_done(&mut self, stream: StreamId, now: Instant) {
        let Some(exchange) = self.exchanges.get(&stream) else { return };
        let sent_all = exchange.last && exchange.outgoing.is_empty() && exchange.list.is_none();
        if !sent_all || !exchange.received_all {
            return;
        }
        let Some(exchange) = self.take_exchange(stream) else { return };
        if let Role::Welcomed { seed, id } = exchange.role
            && let Some(seed) = seed
        {
            self.seed_answered(seed, id, now);
        }
    }

    fn take_exchange(&mut self, stream: StreamId) -> Option<Exchange> {
        let exchange = self.exchanges.remove(&stream)?;
        self.timers.cancel(&Timer::Exchange(stream));
        self.inbound_streams -= usize::from(exchange.inbound);
        Some(exchange)
    }

    /// Ends a failed exchange without closing the stream.
    fn fail(&mut self, stream: StreamId, failure: SeedFailure, now: Instant) {
        let Some(exchange) = self.take_exchange(stream) else { return };
        match exchange.role {
            Role::HelloSent { seed, compared, .. } => {
                if let Some(pair) = compared {
                    // The comparison did not take place.
                    self.compared.remove(&pair);
                }
                if let Some(seed) = seed {
                    self.seed_failed(seed, stream, failure, now);
                }
            }
            Role::Welcomed { seed: Some(seed), .. } => self.seed_failed(seed, stream, failure, now),
            _ => {}
        }
    }

    fn break_off(&mut self, stream: StreamId, failure: SeedFailure, now: Instant) {
        if self.exchanges.contains_key(&stream) {
            self.urgent.push_back(Transmit::CloseStream { stream });
            self.fail(stream, failure, now);
        }
    }

    pub(super) fn stream_finished(&mut self, stream: StreamId, now: Instant) {
        if self.exchanges.get(&stream).is_some_and(|exchange| !exchange.received_all) {
            self.fail(stream, SeedFailure::Unreachable, now);
        }
    }

    pub(super) fn stream_closed(&mut self, stream: StreamId, now: Instant) {
        self.fail(stream, SeedFailure::Unreachable, now);
    }

    pub(super) fn exchange_timed_out(&mut self, stream: StreamId, now: Instant) {
        self.statistics.streams_timed_out += 1;
        self.break_off(stream, SeedFailure::TimedOut, now);
    }

    /// Aborts a stream whose answer is no longer needed, unless the answer arrived on this stream,
    /// which then ends by itself.
    pub(super) fn drop_stream(&mut self, stream: StreamId) {
        if self.exchanges.get(&stream).is_some_and(|exchange| !exchange.received_all) {
            self.take_exchange(stream);
            self.urgent.push_back(Transmit::CloseStream { stream });
        }
    }

    pub(super) fn drop_all_streams(&mut self) {
        for stream in self.exchanges.keys().copied().collect::<Vec<_>>() {
            self.take_exchange(stream);
            self.urgent.push_back(Transmit::CloseStream { stream });
        }
    }

    /// Whether a comparison of lists with this node is in progress.
    pub(super) fn is_comparing_with(&self, name: &NodeName) -> bool {
        self.exchanges.values().any(|exchange| {
            exchange.peer.as_ref() == Some(name)
                && matches!(exchange.role, Role::HelloSent { .. } | Role::Welcomed { .. })
        })
    }
}
