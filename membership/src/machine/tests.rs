//! Tests of one machine in isolation: the test passes messages to it and inspects its output.

mod claims;
mod connections;
mod detection;
mod digest;
mod limits;
mod streams;
mod updates;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use wire::codec;
use wire::{Destination, FramePoll, NodeId, StreamId};

use crate::message::{Claim, Frame, Hello, Message, Occasion, Outdated, PacketBuilder, split_packet};
use crate::tests::{address, name, record, start};
use crate::{Config, Event, Membership, MessageError, NodeRecord, Purpose, State, Transmit};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

/// A datagram that the machine sent.
struct Sent {
    to: Destination,
    messages: Vec<Message>,
    purpose: Purpose,
    id: u64,
}

/// One machine named "me" with generation 100 at address(0); the test acts as its peers.
struct Node {
    machine: Membership,
    now: Instant,
    opened: Vec<(StreamId, Destination)>,
    closed: Vec<StreamId>,
}

impl Node {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        Self::alone(1, change)
    }

    fn alone(seed: u64, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::lan();
        change(&mut config);
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let machine =
            Membership::new(config, record("me", 100, address(0)), start(), rng).expect("valid settings");
        Self { machine, now: start(), opened: Vec::new(), closed: Vec::new() }
    }

    /// With members a, b, c … of generation 10 at address(1), address(2) …, and nothing pending.
    fn among(count: u8, change: impl FnOnce(&mut Config)) -> Self {
        Self::seeded(1, count, change)
    }

    fn seeded(seed: u64, count: u8, change: impl FnOnce(&mut Config)) -> Self {
        let mut node = Self::alone(seed, change);
        for number in 0..count {
            let (peer, at) = (Self::peer(number), address(u16::from(number) + 1));
            node.receive(&peer, Message::Alive { record: record(&peer, 10, at), incarnation: 0 });
        }
        node.events();
        node.settle();
        node
    }

    fn peer(number: u8) -> String {
        char::from(b'a' + number).to_string()
    }

    /// The address of the peer with this one-letter name.
    fn at(peer: &str) -> SocketAddr {
        address(u16::from(peer.as_bytes()[0] - b'a') + 1)
    }

    fn receive(&mut self, from: &str, message: Message) {
        self.receive_from(from, Self::at(from), message);
    }

    fn receive_from(&mut self, from: &str, source: SocketAddr, message: Message) {
        self.machine
            .handle_datagram(&name(from), source, &packet(&[message]), self.now)
            .expect("a valid packet");
    }

    /// All datagrams it has sent since the last call.
    fn sent(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        while let Some(transmit) = self.machine.poll_transmit() {
            match transmit {
                Transmit::Datagram { id, to, bytes, purpose } => {
                    let messages = split_packet(&bytes).expect("own packet").into_iter();
                    let messages = messages.map(|bytes| codec::decode(bytes).expect("own message")).collect();
                    sent.push(Sent { to, messages, purpose, id });
                }
                Transmit::OpenStream { stream, to } => self.opened.push((stream, to)),
                Transmit::CloseStream { stream } => self.closed.push(stream),
            }
        }
        sent
    }

    /// All messages it has sent to this peer since the last call.
    fn sent_to(&mut self, peer: &str) -> Vec<Message> {
        let sent = self.sent().into_iter().filter(|sent| sent.to.name == Some(name(peer)));
        sent.flat_map(|sent| sent.messages).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.machine.poll_event()).collect()
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
        }
        self.now = end;
    }

    /// Advances time and answers every probe until no updates are queued.
    fn settle(&mut self) {
        for _ in 0..1000 {
            if self.machine.broadcast_count() == 0 && self.machine.probes.is_empty() {
                break;
            }
            self.pass(MILLI * 20);
            self.answer_probes();
        }
        assert_eq!(self.machine.broadcast_count(), 0);
        // So that the next update is sent at once and is not delayed.
        self.pass_answering(MILLI * 20);
        self.sent();
        self.events();
    }

    /// Advances time and answers every probe at once.
    fn pass_answering(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.pass(MILLI * 20);
            self.answer_probes();
        }
    }

    fn answer_probes(&mut self) {
        self.answer_probes_but(None);
    }

    fn answer_probes_but(&mut self, silent: Option<&str>) {
        for sent in self.sent() {
            for message in sent.messages {
                if let Message::Ping { sequence, target, .. } = message
                    && silent != Some(target.name.as_str())
                {
                    self.answer_probe(sequence, target);
                }
            }
        }
    }

    /// Makes this member fail: it is suspected, does not answer, and `from` reports it as failed.
    fn fail(&mut self, from: &str, peer: &str, incarnation: u64) {
        self.receive(from, suspect(peer, incarnation, "z"));
        let end = self.now + self.machine.config().probe_interval;
        while self.now < end {
            self.pass(MILLI * 20);
            self.answer_probes_but(Some(peer));
        }
        self.receive(from, failed(peer, incarnation));
        assert_eq!(self.state(peer), Some(State::Failed));
    }

    fn state(&self, peer: &str) -> Option<State> {
        self.machine.member(peer).map(|member| member.state)
    }

    fn me(&self) -> NodeRecord {
        self.machine.me().record.clone()
    }

    /// The sequence number of the next probe of this member; probes of others are answered.
    fn await_probe(&mut self, of: &str) -> u64 {
        for _ in 0..20_000 {
            self.pass(MILLI);
            for sent in self.sent() {
                for message in sent.messages {
                    if let Message::Ping { sequence, target, .. } = message {
                        if target.name == name(of) {
                            return sequence;
                        }
                        self.answer_probe(sequence, target);
                    }
                }
            }
        }
        panic!("no probe of {of} within twenty seconds");
    }

    fn answer_probe(&mut self, sequence: u64, target: NodeId) {
        let peer = target.name.to_string();
        let incarnation = self.machine.member(&peer).map_or(0, |member| member.incarnation);
        let digest = Some(self.machine.digest());
        self.receive(&peer, Message::Ack { sequence, id: target, incarnation, digest });
    }

    // ---- Streams

    fn frames(&mut self, stream: StreamId) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let FramePoll::Frame(bytes) = self.machine.poll_frame(stream, self.now) {
            assert!(bytes.len() <= 64 << 10);
            frames.push(codec::decode(&bytes).expect("own frame"));
        }
        frames
    }

    fn frame(&mut self, stream: StreamId, frame: &Frame) -> Result<(), MessageError> {
        self.machine.handle_frame(stream, &codec::encode(frame), self.now)
    }

    /// A member compares lists with it and sends these entries.
    fn list_from(&mut self, peer: &str, entries: Vec<Claim>) {
        let stream = self.machine.handle_stream_opened(&name(peer), Self::at(peer), self.now);
        let known = self.machine.member(peer).expect("a member");
        let (record, incarnation) = (known.record.clone(), known.incarnation);
        let hello = Hello { occasion: Occasion::Sync, record, incarnation, digest: 0, about_receiver: None };
        self.frame(stream, &Frame::Hello(hello)).expect("a valid hello");
        self.frames(stream);
        self.frame(stream, &Frame::Members(entries)).expect("valid entries");
        self.frame(stream, &Frame::End).expect("the end");
        self.frames(stream);
    }

    /// Its answer to the hello of a joining node.
    fn hello_from(&mut self, peer: NodeRecord, incarnation: u64) -> (StreamId, Frame) {
        let (from, source) = (peer.id.name.clone(), peer.address);
        let stream = self.machine.handle_stream_opened(&from, source, self.now);
        let hello =
            Hello { occasion: Occasion::Join, record: peer, incarnation, digest: 0, about_receiver: None };
        self.frame(stream, &Frame::Hello(hello)).expect("a valid hello");
        let first = match self.machine.poll_frame(stream, self.now) {
            FramePoll::Frame(bytes) => codec::decode(&bytes).expect("own frame"),
            other => panic!("expected an answer, not {other:?}"),
        };
        (stream, first)
    }
}

fn packet(messages: &[Message]) -> Vec<u8> {
    let mut packet = PacketBuilder::new(60_000);
    for message in messages {
        assert!(packet.add(codec::encode(message).into()));
    }
    packet.finish()
}

fn id(node: &str, generation: u64) -> NodeId {
    NodeId::new(name(node), generation)
}

fn alive(peer: &str, generation: u64, incarnation: u64) -> Message {
    Message::Alive { record: record(peer, generation, Node::at(peer)), incarnation }
}

fn suspect(peer: &str, incarnation: u64, accuser: &str) -> Message {
    Message::Suspect { id: id(peer, 10), incarnation, accuser: name(accuser) }
}

fn failed(peer: &str, incarnation: u64) -> Message {
    Message::Failed { id: id(peer, 10), incarnation, accuser: name("z") }
}

/// A list entry of a node that departed this many seconds ago.
fn departed(peer: &str, generation: u64, incarnation: u64, state: State, departed_for: u32) -> Claim {
    let record = record(peer, generation, address(u16::from(peer.as_bytes()[0]) + 1000));
    Claim { record, incarnation, state, departed_for }
}
