//! The simulated network and its clock: carries datagrams and streams between endpoints, in virtual
//! time.
//!
//! It does not interpret the bytes. Towards a state machine it behaves like the production
//! transport: one authenticated connection for each pair of processes, dialled when first needed;
//! datagrams over it may be lost, streams keep their order; every message carries the authenticated
//! name of its sender; a connection without traffic for the idle timeout is lost, with its streams.

mod conditions;
mod connections;
mod datagrams;
mod dials;
mod drop_reason;
mod handshakes;
mod link;
mod processes;
pub(crate) mod rules;
mod schedule;
mod settings;
mod streams;
#[cfg(test)]
mod tests;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wire::{Destination, NodeName, StreamId};

use connections::{Connection, ConnectionId};
use dials::Dial;
pub use drop_reason::DropReason;
use handshakes::Handshake;
use link::Position;
pub use link::{Latency, Link};
pub use processes::Ending;
use processes::{Activity, Endpoint};
use rules::Rule;
pub use rules::{HeldDatagram, Message, MessageKind, RuleId, Verdict};
use schedule::Schedule;
pub use settings::{FabricConfig, HandshakePrice};
use streams::{Stream, StreamEvent};
pub use traffic::{Load, Traffic};

use crate::trace::{Trace, TraceEvent};

/// One process at one address: an instance. A restarted node is another endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub(crate) u32);

/// An address in the network, at which one process at a time may listen. Links and cuts are between
/// locations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location(pub(crate) u32);

/// What happens to an endpoint next; the driver passes it to the endpoint's state machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FabricEvent {
    /// A datagram arrived.
    Datagram {
        /// The process that sent it.
        from: EndpointId,
        /// Its bytes.
        bytes: Arc<[u8]>,
    },
    /// A peer opened a stream; answer with [`Fabric::accept_stream`] before anything else.
    StreamOpened {
        /// The process that opened it.
        from: EndpointId,
        /// The fabric's number for it.
        number: u64,
    },
    /// A frame arrived on a stream.
    Frame {
        /// The receiver's number of the stream.
        stream: StreamId,
        /// Whether it is the first that the stream's opener sent.
        first: bool,
        /// Its bytes.
        bytes: Arc<[u8]>,
    },
    /// A stream opened here is established, and can take frames.
    StreamConnected {
        /// The opener's number of the stream.
        stream: StreamId,
        /// The process that answers.
        peer: EndpointId,
    },
    /// The stream can take a frame again after it was full.
    StreamWritable {
        /// The sender's number of the stream.
        stream: StreamId,
    },
    /// The other side has finished its half of the stream, and all its frames have arrived. This
    /// side's half goes on.
    StreamFinished {
        /// This side's number of the stream.
        stream: StreamId,
    },
    /// Both sides have finished and all has arrived (`clean`), or the stream broke or did not open.
    StreamClosed {
        /// This side's number of the stream.
        stream: StreamId,
        /// Whether both sides finished it.
        clean: bool,
    },
    /// Nothing arrived over the connection for the idle timeout, or the peer closed it.
    ConnectionLost {
        /// The other end.
        peer: EndpointId,
    },
    /// The time set with [`Fabric::set_timer`] has passed, possibly long ago.
    Timer,
}

/// An entry of the schedule.
#[derive(Debug)]
enum Pending {
    Datagram { from: EndpointId, to: EndpointId, sent: Duration, bytes: Arc<[u8]> },
    Stream { number: u64, event: StreamEvent },
    DialAttempt { from: EndpointId, address: SocketAddr, number: u64, attempt: u32 },
    DialTimeout { from: EndpointId, address: SocketAddr, number: u64 },
    DialRenewal { from: EndpointId, address: SocketAddr, number: u64 },
    Handshake(Handshake),
    OpenInTurn { from: EndpointId, to: Destination, stream: StreamId, deadline: Duration },
    IdleCheck { connection: ConnectionId, since: Duration },
    AnswerCheck { connection: ConnectionId, end: EndpointId, since: Duration },
    ConnectionLost { at: EndpointId, peer: EndpointId },
    Timer { at: EndpointId },
}

/// The network.
#[derive(Debug)]
pub struct Fabric {
    config: FabricConfig,
    now: Duration,
    schedule: Schedule<Pending>,
    rng: ChaCha8Rng,
    trace: Trace,
    addresses: Vec<SocketAddr>,
    positions: Vec<Position>,
    locations: BTreeMap<SocketAddr, Location>,
    listeners: BTreeMap<SocketAddr, EndpointId>,
    endpoints: Vec<Endpoint>,
    links: BTreeMap<(Location, Location), Link>,
    cuts: BTreeSet<(Location, Location)>,
    rules: Vec<Rule>,
    next_rule: u64,
    held: Vec<HeldDatagram>,
    connections: BTreeMap<ConnectionId, Connection>,
    next_connection: u64,
    next_dial: u64,
    dials: BTreeMap<(EndpointId, SocketAddr), Dial>,
    /// Streams that are opened as soon as the dial policy permits a dial for them.
    opens_in_turn: BTreeSet<(EndpointId, StreamId)>,
    /// Connections that began (`true`) or ended (`false`) since the last call of
    /// [`Fabric::take_connection_changes`]: the process, its peer, and which.
    connection_changes: Vec<(EndpointId, EndpointId, bool)>,
    /// When each of the shared processors is free.
    cores_free: Vec<Duration>,
    streams: BTreeMap<u64, Stream>,
    next_stream: u64,
    traffic: Traffic,
    at_this_instant: u64,
}

/// More events than this at one instant are an endless loop between machines.
const EVENTS_PER_INSTANT: u64 = 5_000_000;

impl Fabric {
    /// An empty network at time zero.
    pub fn new(config: FabricConfig) -> Self {
        Self {
            now: Duration::ZERO,
            schedule: Schedule::new(),
            rng: ChaCha8Rng::seed_from_u64(config.seed),
            trace: Trace::new(config.trace_lines, config.describe),
            config,
            addresses: Vec::new(),
            positions: Vec::new(),
            locations: BTreeMap::new(),
            listeners: BTreeMap::new(),
            endpoints: Vec::new(),
            links: BTreeMap::new(),
            cuts: BTreeSet::new(),
            rules: Vec::new(),
            next_rule: 0,
            held: Vec::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            next_dial: 0,
            dials: BTreeMap::new(),
            opens_in_turn: BTreeSet::new(),
            connection_changes: Vec::new(),
            cores_free: Vec::new(),
            streams: BTreeMap::new(),
            next_stream: 0,
            traffic: Traffic::default(),
            at_this_instant: 0,
        }
    }

    // Getters

    /// Virtual time since the start.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// The trace of events.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The traffic of all endpoints.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The traffic of one process.
    pub fn traffic_of(&self, endpoint: EndpointId) -> &Traffic {
        &self.endpoints[endpoint.0 as usize].traffic
    }

    /// The name of a process.
    pub fn name(&self, endpoint: EndpointId) -> &NodeName {
        &self.endpoints[endpoint.0 as usize].name
    }

    /// The location of a process.
    pub fn location(&self, endpoint: EndpointId) -> Location {
        self.endpoints[endpoint.0 as usize].location
    }

    /// The address of a location.
    pub fn address(&self, location: Location) -> SocketAddr {
        self.addresses[location.0 as usize]
    }

    /// When the next event is due, if any is scheduled.
    pub fn next_at(&self) -> Option<Duration> {
        self.schedule.next_at()
    }

    /// How many entries are scheduled.
    pub fn scheduled(&self) -> usize {
        self.schedule.len()
    }

    // Locations and processes

    /// The location at `address`, created if there was none.
    pub fn location_at(&mut self, address: SocketAddr) -> Location {
        if let Some(location) = self.locations.get(&address) {
            return *location;
        }
        let location = Location(self.addresses.len() as u32);
        self.addresses.push(address);
        self.positions.push(Position { x: self.rng.random(), y: self.rng.random() });
        self.locations.insert(address, location);
        location
    }

    /// Connections that began (`true`) or ended (`false`), in order, since the last call.
    pub fn take_connection_changes(&mut self) -> Vec<(EndpointId, EndpointId, bool)> {
        std::mem::take(&mut self.connection_changes)
    }

    /// Whether a process has a connection with a peer of this name.
    pub fn is_connected(&self, endpoint: EndpointId, name: &NodeName) -> bool {
        self.endpoints[endpoint.0 as usize].connections.keys().any(|peer| self.name(*peer) == name)
    }

    /// An upper estimate of the time that a process's successful dials take now; zero if unknown.
    pub fn dial_time(&self, endpoint: EndpointId) -> Duration {
        let policy = self.endpoints[endpoint.0 as usize].dialling.as_ref();
        policy.and_then(|policy| policy.expected(self.now)).unwrap_or_default()
    }

    pub(crate) fn record_change(&mut self, at: EndpointId, change: tabledb::Change) {
        self.trace.record(self.now, TraceEvent::Seen { at, change: Box::new(change) });
    }

    /// Writes a line into the trace.
    pub fn note(&mut self, at: Option<EndpointId>, text: String) {
        self.trace.record(self.now, TraceEvent::Note { at, text: text.into() });
    }

    // Events

    /// The next event at `until` or before, with its endpoint; `None` if there is none, and then
    /// the clock is at `until`.
    ///
    /// # Panics
    ///
    /// If millions of events occur without the clock moving.
    pub fn next(&mut self, until: Duration) -> Option<(EndpointId, FabricEvent)> {
        loop {
            let Some((at, pending)) = self.schedule.pop_until(until) else {
                self.now = self.now.max(until);
                self.at_this_instant = 0;
                return None;
            };
            if at > self.now {
                self.now = at;
                self.at_this_instant = 0;
            }
            self.at_this_instant += 1;
            assert!(
                self.at_this_instant < EVENTS_PER_INSTANT,
                "an endless loop: {EVENTS_PER_INSTANT} events at {:?}",
                self.now
            );
            let event = match pending {
                Pending::Datagram { from, to, sent, bytes } => self.deliver_datagram(from, to, sent, bytes),
                Pending::Stream { number, event } => self.deliver_stream_event(number, event),
                Pending::DialAttempt { from, address, number, attempt } => {
                    self.attempt_dial(from, address, number, attempt);
                    None
                }
                Pending::DialTimeout { from, address, number } => {
                    self.time_out_dial(from, address, number);
                    None
                }
                Pending::DialRenewal { from, address, number } => {
                    self.renew_dial(from, address, number);
                    None
                }
                Pending::Handshake(handshake) => {
                    self.continue_handshake(handshake);
                    None
                }
                Pending::OpenInTurn { from, to, stream, deadline } => {
                    if self.endpoint(from).activity != Activity::Ended {
                        self.open_again(from, to, stream, deadline);
                    }
                    None
                }
                Pending::IdleCheck { connection, since } => {
                    self.check_idle(connection, since);
                    None
                }
                Pending::AnswerCheck { connection, end, since } => {
                    self.check_answer(connection, end, since);
                    None
                }
                Pending::ConnectionLost { at, peer } => self.deliver_connection_lost(at, peer),
                Pending::Timer { at } => self.deliver_timer(at),
            };
            if event.is_some() {
                return event;
            }
        }
    }

    fn endpoint(&mut self, id: EndpointId) -> &mut Endpoint {
        &mut self.endpoints[id.0 as usize]
    }
}
