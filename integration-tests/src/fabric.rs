//! The simulated network and its clock: carries datagrams and streams between endpoints, in virtual
//! time.
//!
//! It does not interpret the bytes. Towards a state machine it behaves like the production
//! transport: one authenticated connection for each pair of processes, dialled when first needed;
//! datagrams over it may be lost, streams keep their order; every message carries the authenticated
//! name of its sender; a connection without traffic for the idle timeout is lost, with its streams.

mod connections;
mod datagrams;
mod link;
pub(crate) mod rules;
mod schedule;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use transport::{DialPolicy, DialSettings};
use wire::{Destination, NodeName, StreamId};

use connections::{Connection, ConnectionId, Dial};
use link::Position;
pub use link::{Latency, Link};
use rules::Rule;
pub use rules::{Message, MessageKind, RuleId, Verdict};
use schedule::Schedule;
use streams::{Stream, StreamEvent};

use crate::trace::{Describe, Trace, TraceEvent};

/// One process at one address: an instance. A restarted node is another endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub(crate) u32);

/// An address in the network, at which one process at a time may listen. Links and cuts are between
/// locations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location(pub(crate) u32);

/// Why something was not delivered, or a connection not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// The link lost it.
    Lost,
    /// The link is cut.
    Cut,
    /// It is larger than the link's datagram limit.
    TooLarge,
    /// The link's bandwidth is used up.
    Congested,
    /// No process listens at the address, or the addressed process has ended.
    NoListener,
    /// The process at the address has another name.
    WrongName,
    /// There is no connection yet; one is being dialled.
    NotConnected,
    /// The receiver is paused and its buffer full.
    BufferFull,
    /// The receiver's host is asleep.
    Asleep,
    /// A rule of the scenario dropped it.
    Rule,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DropReason::Lost => "lost",
            DropReason::Cut => "link cut",
            DropReason::TooLarge => "larger than the path allows",
            DropReason::Congested => "link congested",
            DropReason::NoListener => "no process there",
            DropReason::WrongName => "another node answers there",
            DropReason::NotConnected => "not connected yet",
            DropReason::BufferFull => "receiver's buffer full",
            DropReason::Asleep => "receiver asleep",
            DropReason::Rule => "dropped by a rule",
        })
    }
}

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

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Without notice: the peers detect it by timeouts.
    Crash,
    /// Its connections are closed or reset; the peers learn of it one latency later.
    Reset,
}

/// Settings of the network as a whole.
#[derive(Debug, Clone)]
pub struct FabricConfig {
    /// The seed of all random draws.
    pub seed: u64,
    /// The conditions of links without conditions of their own.
    pub link: Link,
    /// A connection without traffic for this long is lost.
    pub idle_timeout: Duration,
    /// A dial without an answer for this long has failed, unless `dialling` sets another limit.
    pub connect_timeout: Duration,
    /// The bounds of production's dial policy; without it, every process may dial any peer at any
    /// time.
    pub dialling: Option<DialSettings>,
    /// The price of handshakes; by default they are free.
    pub handshakes: Option<HandshakePrice>,
    /// How many frames of one stream may be under way or unread, each way.
    pub frames_in_flight: usize,
    /// How many streams an end of a connection may have opened at a time; further ones wait.
    pub streams_per_connection: usize,
    /// The size of a paused process's receive buffer for datagrams, in bytes.
    pub receive_buffer: usize,
    /// How many events the trace keeps.
    pub trace_lines: usize,
    /// How the trace names messages.
    pub describe: Describe,
}

/// The price of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandshakePrice {
    /// The processor time of each side. Handshakes are processed one after the other.
    pub work: Duration,
    /// The number of processors that all hosts share; zero if each host has its own.
    pub shared_cores: usize,
    /// Limit of half-open handshakes begun by peers; a host refuses further ones.
    pub most_half_open: usize,
}

impl Default for FabricConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            link: Link::default(),
            idle_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            dialling: None,
            handshakes: None,
            frames_in_flight: 8,
            streams_per_connection: 64,
            receive_buffer: 212_992,
            trace_lines: 400,
            describe: Describe::default(),
        }
    }
}

/// The traffic of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Datagrams, and frames of streams.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Load {
    fn count(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

/// The traffic of an endpoint, or of all of them, and its fate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams handed to the network.
    pub datagrams: u64,
    /// Their bytes.
    pub datagram_bytes: u64,
    /// Streams opened.
    pub streams: u64,
    /// Frames handed to the network.
    pub frames: u64,
    /// Their bytes.
    pub frame_bytes: u64,
    /// Of datagrams and frames, those about members: probes and their answers with the table
    /// digests piggybacked on them, updates and member lists.
    pub membership: Load,
    /// Of datagrams and frames, those about tables.
    pub tables: Load,
    /// Datagrams that were not delivered, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
    /// Datagrams delivered twice.
    pub duplicated: u64,
    /// Datagrams delayed.
    pub reordered: u64,
    /// Streams that broke or did not open.
    pub broken_streams: u64,
    /// Dials begun. Counted for all endpoints together only, like the next five.
    pub dials: u64,
    /// Dials that led to a connection.
    pub dials_connected: u64,
    /// Dials that were begun anew because other dials of the node had been answered meanwhile.
    pub dials_renewed: u64,
    /// Dials without an answer in time.
    pub dials_unanswered: u64,
    /// Handshakes that were processed after their dial had been given up.
    pub dials_in_vain: u64,
    /// Processor time spent on handshakes.
    pub handshake_work: Duration,
}

impl Traffic {
    fn load(&mut self, for_tables: bool) -> &mut Load {
        match for_tables {
            true => &mut self.tables,
            false => &mut self.membership,
        }
    }

    /// Datagrams dropped for any reason.
    pub fn dropped_datagrams(&self) -> u64 {
        self.dropped.values().sum()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    Running,
    Paused,
    /// Its host is asleep.
    Asleep,
    Ended,
}

#[derive(Debug)]
struct Endpoint {
    name: NodeName,
    location: Location,
    activity: Activity,
    /// Messages that arrived during a pause.
    inbox: VecDeque<Pending>,
    inbox_bytes: usize,
    connections: BTreeMap<EndpointId, ConnectionId>,
    /// With more connections than this, the endpoint checks which of them are idle.
    connections_before_tidying: usize,
    streams: BTreeMap<StreamId, (u64, usize)>,
    /// The earliest schedule entry for its timer, which may be stale, and the time that is wanted.
    timer_scheduled: Option<Duration>,
    timer_wanted: Option<Duration>,
    traffic: Traffic,
    dialling: Option<DialPolicy>,
    /// Handshakes begun by peers and not finished.
    half_open: usize,
    processor_free: Duration,
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
    ConnectionLost { at: EndpointId, peer: EndpointId },
    Timer { at: EndpointId },
}

/// A handshake that one side or both have processed.
#[derive(Debug, Clone, Copy)]
struct Handshake {
    from: EndpointId,
    to: EndpointId,
    address: SocketAddr,
    number: u64,
    done: bool,
}

/// A datagram that a rule withheld.
#[derive(Debug, Clone)]
pub struct HeldDatagram {
    from: EndpointId,
    to: EndpointId,
    bytes: Arc<[u8]>,
}

impl HeldDatagram {
    /// The process that sent it.
    pub fn from(&self) -> EndpointId {
        self.from
    }

    /// The process it is for.
    pub fn to(&self) -> EndpointId {
        self.to
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
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

    /// A process by the name of `name` starts listening at `location`.
    ///
    /// # Panics
    /// If another one listens there.
    pub fn start(&mut self, location: Location, name: &NodeName, instance: &str) -> EndpointId {
        let id = EndpointId(self.endpoints.len() as u32);
        let before = self.listeners.insert(self.address(location), id);
        assert!(
            before.is_none(),
            "{} is taken by {:?}",
            self.address(location),
            before.map(|b| self.name(b))
        );
        self.trace.add_endpoint(instance.to_owned());
        let seed = self.config.seed ^ u64::from(id.0) << 32;
        let dialling = self.config.dialling.clone().map(|settings| DialPolicy::new(settings, seed));
        self.endpoints.push(Endpoint {
            name: name.clone(),
            location,
            activity: Activity::Running,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            connections: BTreeMap::new(),
            connections_before_tidying: connections::CONNECTIONS_KEPT_IDLE,
            streams: BTreeMap::new(),
            timer_scheduled: None,
            timer_wanted: None,
            traffic: Traffic::default(),
            dialling,
            half_open: 0,
            processor_free: Duration::ZERO,
        });
        self.note(Some(id), format!("starts at {}", self.address(location)));
        id
    }

    /// A process ends; nothing is delivered to it any more, and its address is free.
    pub fn end(&mut self, endpoint: EndpointId, ending: Ending) {
        self.note(Some(endpoint), format!("ends ({ending:?})"));
        let here = &mut self.endpoints[endpoint.0 as usize];
        here.activity = Activity::Ended;
        here.inbox.clear();
        here.inbox_bytes = 0;
        here.timer_wanted = None;
        let address = self.addresses[here.location.0 as usize];
        if self.listeners.get(&address) == Some(&endpoint) {
            self.listeners.remove(&address);
        }
        self.dials.retain(|(from, _), _| *from != endpoint);
        self.opens_in_turn.retain(|(from, _)| *from != endpoint);
        match ending {
            Ending::Crash => self.refresh_connections_of(endpoint),
            Ending::Reset => self.break_connections_of(endpoint),
        }
    }

    /// The process is paused: arriving messages wait, within the limits of buffers.
    pub fn pause(&mut self, endpoint: EndpointId) {
        let here = &mut self.endpoints[endpoint.0 as usize];
        if here.activity == Activity::Running {
            here.activity = Activity::Paused;
            self.note(Some(endpoint), "pauses".into());
            self.refresh_connections_of(endpoint);
        }
    }

    /// The host sleeps: its process is paused, and messages sent to it are lost.
    pub fn sleep(&mut self, endpoint: EndpointId) {
        let here = &mut self.endpoints[endpoint.0 as usize];
        if matches!(here.activity, Activity::Running | Activity::Paused) {
            here.activity = Activity::Asleep;
            self.note(Some(endpoint), "falls asleep".into());
            self.refresh_connections_of(endpoint);
        }
    }

    /// Resumes the process: waiting messages arrive now, overdue timers fire.
    pub fn resume(&mut self, endpoint: EndpointId) {
        let here = &mut self.endpoints[endpoint.0 as usize];
        if !matches!(here.activity, Activity::Paused | Activity::Asleep) {
            return;
        }
        here.activity = Activity::Running;
        here.inbox_bytes = 0;
        // Messages that arrived before the timers expired are handled first, as the production
        // driver does.
        for pending in std::mem::take(&mut here.inbox) {
            self.schedule.push(self.now, pending);
        }
        let here = &mut self.endpoints[endpoint.0 as usize];
        here.timer_scheduled = None;
        let wanted = here.timer_wanted;
        self.note(Some(endpoint), "resumes".into());
        self.set_timer(endpoint, wanted);
        self.refresh_connections_of(endpoint);
    }

    /// Whether the process is running, not paused, asleep or ended.
    pub fn is_running(&self, endpoint: EndpointId) -> bool {
        self.endpoints[endpoint.0 as usize].activity == Activity::Running
    }

    /// Wakes the process at `at`, or not at all; replaces what was set before.
    pub fn set_timer(&mut self, endpoint: EndpointId, at: Option<Duration>) {
        let here = &mut self.endpoints[endpoint.0 as usize];
        here.timer_wanted = at;
        let Some(at) = at else { return };
        let at = at.max(self.now);
        // An entry that is too early is rescheduled when it comes: most deadlines move away, few
        // come nearer.
        if here.timer_scheduled.is_none_or(|scheduled| scheduled > at) {
            here.timer_scheduled = Some(at);
            self.schedule.push(at, Pending::Timer { at: endpoint });
        }
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

    // Conditions

    /// The conditions in the direction from one location to another.
    pub fn link(&self, from: Location, to: Location) -> &Link {
        self.links.get(&(from, to)).unwrap_or(&self.config.link)
    }

    /// The conditions of links without conditions of their own.
    pub fn default_link(&self) -> &Link {
        &self.config.link
    }

    /// Sets the conditions for one direction of one pair.
    pub fn set_link(&mut self, from: Location, to: Location, link: Link) {
        self.links.insert((from, to), link);
    }

    /// Sets the conditions of all links, and removes those of single pairs.
    pub fn set_all_links(&mut self, link: Link) {
        self.links.clear();
        self.config.link = link;
    }

    /// Cuts one direction of each of the pairs.
    pub fn cut(&mut self, pairs: impl IntoIterator<Item = (Location, Location)>) {
        self.cuts.extend(pairs);
        self.refresh_all_connections();
    }

    /// Mends one direction of each of the pairs.
    pub fn mend(&mut self, pairs: impl IntoIterator<Item = (Location, Location)>) {
        for pair in pairs {
            self.cuts.remove(&pair);
        }
        self.refresh_all_connections();
    }

    /// Mends every cut.
    pub fn mend_all(&mut self) {
        self.cuts.clear();
        self.refresh_all_connections();
    }

    /// Whether that direction is cut.
    pub fn is_cut(&self, from: Location, to: Location) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// Asks `decide` about every message from now on.
    pub fn add_rule(&mut self, decide: impl FnMut(&Message<'_>) -> Verdict + 'static) -> RuleId {
        let id = RuleId(self.next_rule);
        self.next_rule += 1;
        self.rules.push(Rule { id, decide: Box::new(decide) });
        id
    }

    /// Removes a rule. Messages it withheld stay withheld.
    pub fn remove_rule(&mut self, id: RuleId) {
        self.rules.retain(|rule| rule.id != id);
    }

    /// The datagrams that rules withheld, oldest first. The fabric forgets them: deliver those that
    /// are to arrive.
    pub fn take_held(&mut self) -> Vec<HeldDatagram> {
        std::mem::take(&mut self.held)
    }

    /// Delivers a withheld datagram now, in the order of calls, once for each call.
    pub fn deliver(&mut self, held: &HeldDatagram) {
        let HeldDatagram { from, to, bytes } = held.clone();
        self.schedule.push(self.now, Pending::Datagram { from, to, sent: self.now, bytes });
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
                Pending::ConnectionLost { at, peer } => self.deliver_connection_lost(at, peer),
                Pending::Timer { at } => self.deliver_timer(at),
            };
            if event.is_some() {
                return event;
            }
        }
    }

    fn deliver_timer(&mut self, at: EndpointId) -> Option<(EndpointId, FabricEvent)> {
        let here = &mut self.endpoints[at.0 as usize];
        // An entry that a nearer deadline has overtaken is stale.
        if here.timer_scheduled != Some(self.now) {
            return None;
        }
        here.timer_scheduled = None;
        if here.activity != Activity::Running {
            return None;
        }
        let wanted = here.timer_wanted?;
        if wanted > self.now {
            self.set_timer(at, Some(wanted));
            return None;
        }
        here.timer_wanted = None;
        self.trace.record(self.now, TraceEvent::Timer { at });
        Some((at, FabricEvent::Timer))
    }

    /// Applies the rules in order.
    fn decide(
        &mut self,
        from: EndpointId,
        to: EndpointId,
        kind: MessageKind,
        first: bool,
        bytes: &[u8],
    ) -> Verdict {
        if self.rules.is_empty() {
            return Verdict::Pass;
        }
        let (sender, receiver) = (&self.endpoints[from.0 as usize], &self.endpoints[to.0 as usize]);
        let message = Message {
            now: self.now,
            from: sender.location,
            sender: &sender.name,
            to: receiver.location,
            receiver: &receiver.name,
            kind,
            first,
            bytes,
        };
        for rule in &mut self.rules {
            let verdict = (rule.decide)(&message);
            if verdict != Verdict::Pass {
                return verdict;
            }
        }
        Verdict::Pass
    }

    fn endpoint(&mut self, id: EndpointId) -> &mut Endpoint {
        &mut self.endpoints[id.0 as usize]
    }
}
