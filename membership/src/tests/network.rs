//! A simulated network for the tests of this crate: virtual time, real bytes, seeded latency, loss and cuts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wire::{FramePoll, NodeName, StreamId};

use super::{address, record, start};
use crate::{Config, Event, Membership, NodeRecord, State, Transmit};

/// One process and the events it reported.
pub(crate) struct Process {
    pub(crate) record: NodeRecord,
    machine: Option<Membership>,
    /// Distinguishes successive processes of this node.
    run: u64,
    /// When it wakes up next.
    wake: Option<Instant>,
    pub(crate) events: Vec<(Instant, Event)>,
    paused_until: Option<Instant>,
    inbox: VecDeque<SimEvent>,
}

/// One end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    node: usize,
    run: u64,
    stream: StreamId,
}

struct StreamHalf {
    other: Option<End>,
    /// When the last frame sent from this end arrives: streams keep their order.
    arrives: Instant,
    finished: bool,
    other_finished: bool,
}

#[derive(Debug, Clone)]
enum SimEvent {
    Wake { run: u64, at: Instant },
    Datagram { from: usize, wanted: Option<NodeName>, bytes: Vec<u8> },
    Open { from: End, wanted: Option<NodeName> },
    Connected { stream: StreamId, run: u64, peer: NodeName },
    Frame { stream: StreamId, run: u64, bytes: Vec<u8> },
    Finished { stream: StreamId, run: u64 },
    Broken { stream: StreamId, run: u64 },
    Resume,
}

pub(crate) struct Network {
    pub(crate) now: Instant,
    rng: ChaCha8Rng,
    queue: BTreeMap<(Instant, u64), (usize, SimEvent)>,
    next: u64,
    pub(crate) processes: Vec<Process>,
    streams: BTreeMap<End, StreamHalf>,
    pub(crate) config: Config,
    pub(crate) latency: (Duration, Duration),
    /// The fraction of datagrams that are lost.
    pub(crate) loss: f64,
    /// Whether no stream can be opened.
    pub(crate) streams_fail: bool,
    cut: BTreeSet<(usize, usize)>,
    seed: u64,
    /// Counts of what happened, so that a run without events does not count as evidence.
    pub(crate) datagrams: u64,
    pub(crate) datagrams_lost: u64,
    pub(crate) streams_opened: u64,
    pub(crate) frames: u64,
    pub(crate) largest_frame: usize,
    pub(crate) largest_datagram: usize,
    /// A hash of everything that was sent, with destination and time.
    pub(crate) trace: u64,
}

impl Network {
    pub(crate) fn new(seed: u64, config: Config) -> Self {
        Self {
            now: start(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            queue: BTreeMap::new(),
            next: 0,
            processes: Vec::new(),
            streams: BTreeMap::new(),
            config,
            latency: (Duration::from_micros(200), Duration::from_millis(2)),
            loss: 0.0,
            streams_fail: false,
            cut: BTreeSet::new(),
            seed,
            datagrams: 0,
            datagrams_lost: 0,
            streams_opened: 0,
            frames: 0,
            largest_frame: 0,
            largest_datagram: 0,
            trace: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// A network of `count` nodes n0, n1 … of generation 1, each of which joins through n0.
    pub(crate) fn joined(seed: u64, config: Config, count: usize) -> Self {
        let mut network = Self::new(seed, config);
        for node in 0..count {
            network.start(&format!("n{node}"), 1);
        }
        for node in 1..count {
            network.join(node, &[0]);
        }
        network.until("all have joined", Duration::from_secs(5), |network| network.converged());
        network
    }

    // ---- Processes

    /// Starts the process of a new node.
    pub(crate) fn start(&mut self, name: &str, generation: u64) -> usize {
        let node = self.processes.len();
        self.start_at(name, generation, address(node as u16 + 1))
    }

    pub(crate) fn start_at(&mut self, name: &str, generation: u64, at: SocketAddr) -> usize {
        let node = self.processes.len();
        self.processes.push(Process {
            record: record(name, generation, at),
            machine: None,
            run: 0,
            wake: None,
            events: Vec::new(),
            paused_until: None,
            inbox: VecDeque::new(),
        });
        self.restart(node, generation);
        node
    }

    /// Restarts the process of a node without any state.
    pub(crate) fn restart(&mut self, node: usize, generation: u64) {
        self.crash(node);
        let process = &mut self.processes[node];
        process.run += 1;
        process.wake = None;
        process.record.id.generation = generation;
        let seed = self.seed ^ ((node as u64) << 32) ^ (process.run << 48);
        let rng = ChaCha8Rng::seed_from_u64(seed);
        process.machine = Some(
            Membership::new(self.config.clone(), process.record.clone(), self.now, rng)
                .expect("valid settings"),
        );
        self.drive(node);
    }

    /// Crashes a process.
    pub(crate) fn crash(&mut self, node: usize) {
        self.processes[node].machine = None;
        self.processes[node].paused_until = None;
        self.processes[node].inbox.clear();
        let ends = self.streams.keys().filter(|end| end.node == node).copied().collect::<Vec<_>>();
        for end in ends {
            self.break_stream(end);
        }
    }

    /// Pauses a process; input to it waits.
    pub(crate) fn pause(&mut self, node: usize, time: Duration) {
        let until = self.now + time;
        self.processes[node].paused_until = Some(until);
        self.schedule(until, node, SimEvent::Resume);
    }

    pub(crate) fn machine(&self, node: usize) -> &Membership {
        self.processes[node].machine.as_ref().expect("the process runs")
    }

    pub(crate) fn runs(&self, node: usize) -> bool {
        self.processes[node].machine.is_some()
    }

    /// Calls a method of a machine and processes its output.
    pub(crate) fn call<R>(&mut self, node: usize, call: impl FnOnce(&mut Membership, Instant) -> R) -> R {
        let now = self.now;
        let machine = self.processes[node].machine.as_mut().expect("the process runs");
        let result = call(machine, now);
        self.drive(node);
        result
    }

    pub(crate) fn join(&mut self, node: usize, seeds: &[usize]) {
        let seeds = seeds.iter().map(|seed| self.processes[*seed].record.address).collect::<Vec<_>>();
        self.call(node, |machine, now| machine.join(&seeds, now));
    }

    // ---- Links

    /// Cuts every link between the two groups, or only from the first to the second.
    pub(crate) fn cut(&mut self, some: &[usize], others: &[usize], both_ways: bool) {
        for one in some {
            for other in others {
                self.cut.insert((*one, *other));
                if both_ways {
                    self.cut.insert((*other, *one));
                }
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    // ---- State of the nodes

    pub(crate) fn state(&self, node: usize, of: &str) -> Option<State> {
        self.machine(node).member(of).map(|member| member.state)
    }

    /// Whether every running process knows exactly the running ones, in their current instances, as
    /// alive.
    pub(crate) fn converged(&self) -> bool {
        let running = self.processes.iter().filter_map(|process| process.machine.as_ref());
        let running = running.filter(|machine| !machine.is_leaving()).collect::<Vec<_>>();
        let truth = running.iter().map(|machine| machine.me().record.id.clone()).collect::<BTreeSet<_>>();
        running.iter().all(|machine| {
            let known = machine.members().filter(|member| member.state == State::Alive);
            machine.alive_count() == truth.len()
                && known.map(|member| member.record.id.clone()).collect::<BTreeSet<_>>() == truth
        })
    }

    /// All events of all processes, with the index of the node.
    pub(crate) fn events(&self) -> impl Iterator<Item = (usize, &Event)> {
        self.processes
            .iter()
            .enumerate()
            .flat_map(|(node, process)| process.events.iter().map(move |(_, event)| (node, event)))
    }

    pub(crate) fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events().filter(|(_, event)| wanted(event)).count()
    }

    pub(crate) fn forget_events(&mut self) {
        self.processes.iter_mut().for_each(|process| process.events.clear());
    }

    // ---- Time

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until the condition holds, and returns how long that took.
    pub(crate) fn until(
        &mut self,
        what: &str,
        limit: Duration,
        holds: impl Fn(&Network) -> bool,
    ) -> Duration {
        let begin = self.now;
        while !holds(self) {
            if !self.step(begin + limit) {
                let beliefs = (0..self.processes.len())
                    .filter(|node| self.runs(*node))
                    .map(|node| {
                        let members =
                            self.machine(node).members().map(|member| (&member.record.id, member.state));
                        format!("\n  {}: {:?}", self.processes[node].record.id, members.collect::<Vec<_>>())
                    })
                    .collect::<String>();
                panic!("not within {limit:?} (seed {}): {what}{beliefs}", self.seed);
            }
        }
        self.now.duration_since(begin)
    }

    /// Executes the next event if it is due by `end`.
    fn step(&mut self, end: Instant) -> bool {
        let Some((at, _)) = self.queue.keys().next().copied() else { return false };
        if at > end {
            return false;
        }
        let (_, (node, sim_event)) = self.queue.pop_first().expect("just seen");
        self.now = self.now.max(at);
        self.handle(node, sim_event);
        true
    }

    fn schedule(&mut self, at: Instant, node: usize, sim_event: SimEvent) {
        self.queue.insert((at, self.next), (node, sim_event));
        self.next += 1;
    }

    fn delay(&mut self) -> Duration {
        let (least, most) = self.latency;
        least + (most - least).mul_f64(self.rng.random::<f64>())
    }

    fn handle(&mut self, node: usize, sim_event: SimEvent) {
        let now = self.now;
        if self.processes[node].paused_until.is_some_and(|until| now < until) {
            self.processes[node].inbox.push_back(sim_event);
            return;
        }
        let run = self.processes[node].run;
        let Some(machine) = self.processes[node].machine.as_mut() else {
            return self.refuse_unreachable(sim_event);
        };
        match sim_event {
            SimEvent::Wake { run: woken, at } => {
                if woken != run || self.processes[node].wake != Some(at) {
                    return;
                }
                self.processes[node].wake = None;
                let machine = self.processes[node].machine.as_mut().expect("just seen");
                machine.handle_timeout(now);
                if self.rng.random_bool(0.05) {
                    machine.handle_timeout(now);
                }
            }
            SimEvent::Datagram { from, wanted, bytes } => {
                if wanted.is_some_and(|wanted| wanted != *machine.me().name()) {
                    return;
                }
                let sender = &self.processes[from];
                let (name, source) = (sender.record.id.name.clone(), sender.record.address);
                let machine = self.processes[node].machine.as_mut().expect("just seen");
                machine.handle_datagram(&name, source, &bytes, now).expect("our own bytes decode");
            }
            SimEvent::Open { from, wanted } => {
                if wanted.is_some_and(|wanted| wanted != *machine.me().name()) {
                    return self.broken_later(from);
                }
                let peer = machine.me().name().clone();
                let sender = &self.processes[from.node];
                let (name, source) = (sender.record.id.name.clone(), sender.record.address);
                let machine = self.processes[node].machine.as_mut().expect("just seen");
                let stream = machine.handle_stream_opened(&name, source, now);
                let here = End { node, run, stream };
                let delay = self.delay();
                // No frame from here arrives before the notice that the stream is open.
                let half = |other| {
                    let arrives = now + delay;
                    StreamHalf { other: Some(other), arrives, finished: false, other_finished: false }
                };
                self.streams.insert(here, half(from));
                self.streams.insert(from, half(here));
                self.streams_opened += 1;
                let connected = SimEvent::Connected { stream: from.stream, run: from.run, peer };
                self.schedule(now + delay, from.node, connected);
            }
            SimEvent::Connected { stream, run: opened, peer } => {
                if opened != run || !self.streams.contains_key(&End { node, run, stream }) {
                    return;
                }
                machine.handle_stream_connected(stream, &peer, now);
            }
            SimEvent::Frame { stream, run: opened, bytes } => {
                if opened != run {
                    return;
                }
                machine.handle_frame(stream, &bytes, now).expect("our own frames are in order");
            }
            SimEvent::Finished { stream, run: opened } => {
                if opened != run {
                    return;
                }
                let end = End { node, run, stream };
                if let Some(half) = self.streams.get_mut(&end) {
                    half.other_finished = true;
                    if half.finished {
                        self.streams.remove(&end);
                        self.call(node, |machine, now| machine.handle_stream_closed(stream, now));
                        return;
                    }
                }
            }
            SimEvent::Broken { stream, run: opened } => {
                if opened != run {
                    return;
                }
                self.streams.remove(&End { node, run, stream });
                machine.handle_stream_closed(stream, now);
            }
            SimEvent::Resume => {
                // The worst order: timers run before it reads its input.
                machine.handle_timeout(now);
                self.processes[node].paused_until = None;
                self.drive(node);
                while let Some(waiting) = self.processes[node].inbox.pop_front() {
                    self.handle(node, waiting);
                }
            }
        }
        self.drive(node);
    }

    fn refuse_unreachable(&mut self, sim_event: SimEvent) {
        if let SimEvent::Open { from, .. } = sim_event {
            self.broken_later(from);
        }
    }

    fn broken_later(&mut self, end: End) {
        let at = self.now + Duration::from_millis(100);
        self.schedule(at, end.node, SimEvent::Broken { stream: end.stream, run: end.run });
    }

    fn break_stream(&mut self, end: End) {
        if let Some(half) = self.streams.remove(&end)
            && let Some(other) = half.other
        {
            self.streams.remove(&other);
            self.broken_later(other);
        }
    }

    // ---- Output of the machines

    fn drive(&mut self, node: usize) {
        let now = self.now;
        let run = self.processes[node].run;
        loop {
            let mut idle = true;
            while let Some(transmit) =
                self.processes[node].machine.as_mut().and_then(|machine| machine.poll_transmit())
            {
                idle = false;
                self.transmit(node, transmit);
            }
            let from = End { node, run, stream: StreamId(0) };
            let to = End { node, run, stream: StreamId(u64::MAX) };
            let ends = self.streams.range(from..=to).map(|(end, _)| *end).collect::<Vec<_>>();
            for end in ends {
                // An outbound stream accepts frames only after it is open; here that is when its
                // half exists.
                while self.frame(end) {
                    idle = false;
                }
            }
            let process = &mut self.processes[node];
            let Some(machine) = process.machine.as_mut() else { return };
            while let Some(event) = machine.poll_event() {
                process.events.push((now, event));
            }
            if idle {
                break;
            }
        }
        let Some(machine) = self.processes[node].machine.as_ref() else { return };
        // A deadline that was earlier and no longer exists wakes it early, which is allowed.
        if let Some(at) = machine.poll_timeout()
            && self.processes[node].wake.is_none_or(|wake| at < wake)
        {
            // A driver is slightly late.
            let late = Duration::from_micros(self.rng.random_range(0..500));
            let at = at.max(now) + late;
            self.processes[node].wake = Some(at);
            self.schedule(at, node, SimEvent::Wake { run, at });
        }
    }

    fn note(&mut self, node: usize, to: usize, bytes: &[u8]) {
        let time = self.now.duration_since(start()).as_nanos() as u64;
        let numbers = [node as u64, to as u64, time].map(u64::to_le_bytes).concat();
        for byte in numbers.iter().chain(bytes) {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn node_at(&self, address: SocketAddr, name: Option<&NodeName>) -> Option<usize> {
        let here = |process: &Process| process.record.address == address;
        let named =
            |process: &Process| here(process) && name.is_none_or(|name| *name == process.record.id.name);
        let processes = &self.processes;
        let running = processes.iter().position(|process| named(process) && process.machine.is_some());
        running.or_else(|| processes.iter().position(here))
    }

    fn transmit(&mut self, node: usize, transmit: Transmit) {
        match transmit {
            Transmit::Datagram { to, bytes, purpose, .. } => {
                let reserve = match purpose {
                    crate::Purpose::Gossip => 0,
                    crate::Purpose::Probe | crate::Purpose::Ack => self.config.piggyback_reserve,
                };
                assert!(
                    bytes.len() <= self.config.datagram_budget - reserve,
                    "{} bytes for {purpose:?}",
                    bytes.len()
                );
                self.datagrams += 1;
                self.largest_datagram = self.largest_datagram.max(bytes.len());
                let Some(target) = self.node_at(to.address, to.name.as_ref()) else { return };
                self.note(node, target, &bytes);
                let lost = self.loss > 0.0 && self.rng.random_bool(self.loss);
                if lost || self.cut.contains(&(node, target)) {
                    self.datagrams_lost += 1;
                    return;
                }
                let delay = self.delay();
                let datagram = SimEvent::Datagram { from: node, wanted: to.name, bytes };
                self.schedule(self.now + delay, target, datagram);
            }
            Transmit::OpenStream { stream, to } => {
                let end = End { node, run: self.processes[node].run, stream };
                let target = self.node_at(to.address, to.name.as_ref());
                let reachable = target.filter(|target| {
                    !self.cut.contains(&(node, *target)) && !self.cut.contains(&(*target, node))
                });
                match reachable {
                    Some(target) if !self.streams_fail => {
                        let delay = self.delay();
                        self.schedule(
                            self.now + delay,
                            target,
                            SimEvent::Open { from: end, wanted: to.name },
                        );
                    }
                    _ => self.broken_later(end),
                }
            }
            Transmit::CloseStream { stream } => {
                let end = End { node, run: self.processes[node].run, stream };
                if let Some(half) = self.streams.remove(&end)
                    && let Some(other) = half.other
                {
                    let at = half.arrives.max(self.now) + Duration::from_micros(1);
                    let broken = SimEvent::Broken { stream: other.stream, run: other.run };
                    self.schedule(at, other.node, broken);
                }
            }
        }
    }

    /// Takes one frame from a machine; false if it has none at present.
    fn frame(&mut self, end: End) -> bool {
        let now = self.now;
        let Some(half) = self.streams.get(&end) else { return false };
        let (Some(other), false) = (half.other, half.finished) else { return false };
        if self.cut.contains(&(end.node, other.node)) || self.cut.contains(&(other.node, end.node)) {
            self.streams.remove(&end);
            self.streams.remove(&other);
            self.broken_later(end);
            self.broken_later(other);
            return false;
        }
        let Some(machine) = self.processes[end.node].machine.as_mut() else { return false };
        let poll = machine.poll_frame(end.stream, now);
        let delay = self.delay();
        let Some(half) = self.streams.get_mut(&end) else { return false };
        let at = half.arrives.max(now + delay) + Duration::from_nanos(1);
        match poll {
            FramePoll::Frame(bytes) => {
                half.arrives = at;
                self.frames += 1;
                self.largest_frame = self.largest_frame.max(bytes.len());
                self.note(end.node, other.node, &bytes);
                self.schedule(
                    at,
                    other.node,
                    SimEvent::Frame { stream: other.stream, run: other.run, bytes },
                );
                true
            }
            FramePoll::Finish => {
                half.arrives = at;
                half.finished = true;
                let closed = half.other_finished;
                self.schedule(at, other.node, SimEvent::Finished { stream: other.stream, run: other.run });
                if closed {
                    self.streams.remove(&end);
                    let stream = end.stream;
                    self.processes[end.node]
                        .machine
                        .as_mut()
                        .expect("just seen")
                        .handle_stream_closed(stream, now);
                }
                true
            }
            FramePoll::Wait => false,
        }
    }
}
