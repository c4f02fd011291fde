//! A cluster of production state machines on a simulated network, and the operations of scenarios.
//!
//! A scenario starts peers, acts on them, and states what must hold within which (virtual) time.
//! Everything random comes from one seed; when an assertion fails, the cluster prints the seed, the
//! command that repeats the run, and the last events.

mod checking;
mod clocks;
mod driving;
mod fault_free;
mod faults;
mod inquiring;
mod refusals;
mod reporting;
mod tables;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use networkdb::{MachineSettings, NodeEvent, NodeMachine, compose};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tabledb::{Counters, Limits, TableDb};
use wire::{NodeId, NodeName};

use crate::check::{Follower, Ledger, Watchdog};
use crate::fabric::rules::describe_datagram;
use crate::fabric::{Ending, EndpointId, Fabric, FabricConfig, Link, Location, Traffic};
use crate::trace::Describe;
use clocks::HostClock;
pub use fault_free::{Checked, READY_WITHIN};
pub(crate) use fault_free::{EnabledChecks, JoinBaseline};
pub(crate) use refusals::Refusals;
pub use tables::{Key, Visible};

/// One second of virtual time; `5 * SECOND` reads well.
pub const SECOND: Duration = Duration::from_secs(1);
/// One millisecond of virtual time.
pub const MILLISECOND: Duration = Duration::from_millis(1);

/// A node of the cluster; it stays the same over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer(pub(crate) usize);

/// Settings of a whole cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The network; its seed is the seed of the whole simulation.
    pub fabric: FabricConfig,
    /// Of every node.
    pub membership: membership::Config,
    /// Of every node.
    pub reap_time: Duration,
    /// Whether every node has a watcher, whose events are checked against the tables one by one.
    pub watched: bool,
    /// How often the tables of all nodes are inspected, in virtual time, besides after every change
    /// of small tables; `None` for at the end only.
    pub inspection: Option<Duration>,
    /// The command that repeats the run; without it, the test's own name is used.
    pub replay: Option<String>,
    /// Whether the nodes' events are kept, for [`Cluster::events`]. In a cluster of thousands they
    /// would take most of the memory.
    pub record_events: bool,
}

impl Settings {
    /// A perfect network, the LAN preset, everything watched, from `seed`, or from `SIM_SEED` if that is set.
    pub fn seeded(seed: u64) -> Self {
        let seed = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(seed);
        Self {
            fabric: FabricConfig { seed, describe: DESCRIBE, ..FabricConfig::default() },
            membership: membership::Config::lan(),
            reap_time: Duration::from_secs(30 * 60),
            watched: true,
            inspection: Some(Duration::from_millis(250)),
            replay: None,
            record_events: true,
        }
    }

    /// For measuring a large cluster: the LAN preset, `link` everywhere, and nothing watched,
    /// checked, traced or recorded.
    pub fn measured(seed: u64, link: Link) -> Self {
        Self {
            fabric: FabricConfig { seed, link, trace_lines: 0, ..FabricConfig::default() },
            membership: membership::Config::lan(),
            reap_time: Duration::from_secs(30 * 60),
            watched: false,
            inspection: None,
            replay: None,
            record_events: false,
        }
    }
}

/// One process of a node.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) endpoint: EndpointId,
    /// The instance as its tables last reported it.
    pub(crate) id: NodeId,
    pub(crate) machine: NodeMachine,
    pub(crate) tables: TableDb,
    pub(crate) follower: Option<Follower>,
    pub(crate) events: Vec<(Duration, NodeEvent)>,
    /// Networks this process joined and did not begin to leave.
    pub(crate) joined: BTreeSet<String>,
    /// Networks it is leaving, and since when.
    pub(crate) departing: BTreeMap<String, Duration>,
    /// Networks whose initial sync has completed.
    pub(crate) ready: BTreeSet<String>,
    /// What the settled members of each network knew when this process joined it, if that is
    /// checked.
    pub(crate) join_baseline: BTreeMap<String, JoinBaseline>,
    /// Since when it holds each failed owner for alive again.
    pub(crate) returned: BTreeMap<NodeId, Duration>,
    /// It began to leave the cluster.
    pub(crate) leaving: bool,
    /// It has announced that it leaves.
    pub(crate) left: bool,
    /// Counters of changes to its tables, as of the last inspection.
    pub(crate) changes: [u64; 5],
    /// The version of each node's attachment list that it knew at the last inspection.
    pub(crate) list_versions: BTreeMap<NodeId, u64>,
    pub(crate) refused_datagrams: u64,
    pub(crate) refused_frames: u64,
}

#[derive(Debug)]
pub(crate) struct SimulatedNode {
    pub(crate) name: NodeName,
    pub(crate) location: Location,
    pub(crate) instance: Option<Instance>,
    /// How many processes it has had.
    pub(crate) instances: u64,
    pub(crate) last_generation: u64,
    /// What its host's clocks show.
    clock: HostClock,
    /// Of its tables, from its next process on.
    pub(crate) limits: Limits,
    /// Since when its process is paused.
    pub(crate) paused_at: Option<Duration>,
    /// For how long its processes were paused before that, in all.
    pub(crate) total_pause: Duration,
}

/// The simulated cluster.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) settings: Settings,
    pub(crate) fabric: Fabric,
    base: Instant,
    pub(crate) nodes: Vec<SimulatedNode>,
    owners: BTreeMap<EndpointId, Peer>,
    pub(crate) ledger: Ledger,
    pub(crate) watchdog: Watchdog,
    next_inspection: Duration,
    deliveries: Deliveries,
    /// How long a message may have been under way so far, not counting the pauses of processes.
    pub(crate) under_way: Duration,
    /// Since when there are no faults: no cut, no loss, no pause. From then on, more is promised.
    pub(crate) fault_free_since: Option<Duration>,
    pub(crate) checked: Checked,
    pub(crate) enabled_checks: EnabledChecks,
    /// The events and counters of processes that have ended.
    pub(crate) ended: Vec<(Vec<NodeEvent>, Counters)>,
}

/// Messages delivered to machines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// Datagrams with writes to tables, or high watermarks.
    pub gossip: u64,
    /// Streams about tables.
    pub table_streams: u64,
}

/// The names of messages in traces of clusters.
pub(crate) const DESCRIBE: Describe = Describe { datagram: describe_datagram, frame: |_| String::new() };

/// The wall time at which every simulation starts, in microseconds since 1970: some day in 2026.
const WALL_AT_START: u64 = 1_790_000_000_000_000;

impl Cluster {
    /// A network without nodes.
    pub fn new(settings: Settings) -> Self {
        #[expect(clippy::disallowed_methods, reason = "only a starting point: differences alone matter")]
        let base = Instant::now();
        Self {
            fabric: Fabric::new(settings.fabric.clone()),
            next_inspection: settings.inspection.unwrap_or(Duration::MAX),
            under_way: faults::under_way_over(&settings.fabric.link),
            settings,
            base,
            nodes: Vec::new(),
            owners: BTreeMap::new(),
            ledger: Ledger::default(),
            watchdog: Watchdog::default(),
            deliveries: Deliveries::default(),
            fault_free_since: None,
            checked: Checked::default(),
            enabled_checks: EnabledChecks::default(),
            ended: Vec::new(),
        }
    }

    // Getters

    /// Virtual time since the start.
    pub fn now(&self) -> Duration {
        self.fabric.now()
    }

    /// The network under the nodes.
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// The network under the nodes, to add rules or change its links.
    pub fn fabric_mut(&mut self) -> &mut Fabric {
        &mut self.fabric
    }

    /// A hash over all events.
    pub fn trace_hash(&self) -> u64 {
        self.fabric.trace().hash()
    }

    /// Messages delivered to all nodes.
    pub fn deliveries(&self) -> Deliveries {
        self.deliveries
    }

    /// The traffic sent by a node's present process.
    pub fn traffic(&self, peer: Peer) -> &Traffic {
        self.fabric.traffic_of(self.instance(peer).endpoint)
    }

    /// Every node there ever was.
    pub fn peers(&self) -> Vec<Peer> {
        (0..self.nodes.len()).map(Peer).collect()
    }

    /// The nodes that have a process, paused ones included.
    pub fn running(&self) -> Vec<Peer> {
        self.peers().into_iter().filter(|peer| self.is_running(*peer)).collect()
    }

    /// Whether the node has a process.
    pub fn is_running(&self, peer: Peer) -> bool {
        self.nodes[peer.0].instance.is_some()
    }

    /// Whether this instance is that of a running process.
    pub fn is_alive(&self, id: &NodeId) -> bool {
        self.nodes.iter().any(|node| node.instance.as_ref().is_some_and(|instance| instance.id == *id))
    }

    /// Whether the node began to leave the cluster and its process has not ended yet.
    pub fn is_leaving(&self, peer: Peer) -> bool {
        self.instance(peer).leaving
    }

    /// Whether the node's process is paused.
    pub fn is_paused(&self, peer: Peer) -> bool {
        !self.fabric.is_running(self.instance(peer).endpoint)
    }

    /// The networks that the node joined and did not begin to leave, sorted.
    pub fn networks_of(&self, peer: Peer) -> Vec<String> {
        self.instance(peer).joined.iter().cloned().collect()
    }

    /// The node's name.
    pub fn name(&self, peer: Peer) -> &NodeName {
        &self.nodes[peer.0].name
    }

    /// The node's location in the network.
    pub fn location(&self, peer: Peer) -> Location {
        self.nodes[peer.0].location
    }

    /// The node's address.
    pub fn address(&self, peer: Peer) -> SocketAddr {
        self.fabric.address(self.location(peer))
    }

    /// The present instance of a running node, as its tables know it.
    pub fn id(&self, peer: Peer) -> NodeId {
        self.instance(peer).tables.node()
    }

    /// The machine of a running node.
    pub fn machine(&self, peer: Peer) -> &NodeMachine {
        &self.instance(peer).machine
    }

    /// The events of the node's present process, with their times; empty if they are not recorded.
    pub fn events(&self, peer: Peer) -> &[(Duration, NodeEvent)] {
        &self.instance(peer).events
    }

    /// The watcher of a node.
    ///
    /// # Panics
    ///
    /// If nodes are not watched.
    pub fn follower(&self, peer: Peer) -> &Follower {
        self.instance(peer).follower.as_ref().expect("the nodes of this cluster are not watched")
    }

    #[track_caller]
    pub(crate) fn instance(&self, peer: Peer) -> &Instance {
        let node = &self.nodes[peer.0];
        node.instance.as_ref().unwrap_or_else(|| panic!("{} is not running", node.name))
    }

    #[track_caller]
    pub(crate) fn instance_mut(&mut self, peer: Peer) -> &mut Instance {
        let node = &mut self.nodes[peer.0];
        node.instance.as_mut().unwrap_or_else(|| panic!("{} is not running", node.name))
    }

    // Starting

    /// A settled cluster of nodes of these names, all on `network`, after the updates about joins
    /// have been spread.
    pub fn settled<const N: usize>(settings: Settings, names: [&str; N], network: &str) -> (Self, [Peer; N]) {
        let mut cluster = Self::new(settings);
        let peers = cluster.start(names);
        cluster.join_network(peers, network);
        cluster.settle();
        cluster.run_for(6 * SECOND);
        (cluster, peers)
    }

    /// Starts nodes of these names; the first is the seed of the others.
    pub fn start<const N: usize>(&mut self, names: [&str; N]) -> [Peer; N] {
        let peers = names.map(|name| self.add(name));
        for peer in peers {
            self.start_instance(peer, &peers[..1]);
        }
        peers
    }

    /// Starts `count` nodes n1, n2 …; the first is the seed of the others.
    pub fn start_many(&mut self, count: usize) -> Vec<Peer> {
        let first = self.nodes.len();
        let peers: Vec<Peer> = (1..=count).map(|number| self.add(&format!("n{}", first + number))).collect();
        for &peer in &peers {
            self.start_instance(peer, &peers[..1]);
        }
        peers
    }

    /// Starts a node with these seeds.
    pub fn start_with_seeds(&mut self, name: &str, seeds: &[Peer]) -> Peer {
        let peer = self.add(name);
        self.start_instance(peer, seeds);
        peer
    }

    /// Adds a node, at an address of its own, without starting it.
    pub fn add(&mut self, name: &str) -> Peer {
        let number = self.nodes.len() as u32 + 1;
        let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number);
        self.add_at(name, SocketAddr::new(IpAddr::V4(ip), 7946))
    }

    /// Adds a node at the address of another, which must have ended before this one starts.
    pub fn add_at(&mut self, name: &str, address: SocketAddr) -> Peer {
        let name = NodeName::new(name).expect("names in scenarios are valid");
        let location = self.fabric.location_at(address);
        let clock = HostClock::new(self.fabric.now());
        self.nodes.push(SimulatedNode {
            name,
            location,
            instance: None,
            instances: 0,
            last_generation: 0,
            clock,
            limits: Limits::default(),
            paused_at: None,
            total_pause: Duration::ZERO,
        });
        Peer(self.nodes.len() - 1)
    }

    /// Starts a process for a node that has none, with these seeds except the node itself.
    pub fn start_instance(&mut self, peer: Peer, seeds: &[Peer]) {
        assert!(!self.is_running(peer), "{} is running", self.name(peer));
        // Two processes of a node never start in the same microsecond.
        let wall = self.wall(peer);
        let generation = wall + u64::from(wall == self.nodes[peer.0].last_generation);
        self.start_instance_as(peer, generation, seeds);
    }

    /// The same with a given generation.
    pub fn start_instance_as(&mut self, peer: Peer, generation: u64, seeds: &[Peer]) {
        let now = self.instant(peer);
        let wall_clock = Duration::from_micros(self.wall(peer));
        let name = self.name(peer).clone();
        let id = NodeId::new(name.clone(), generation);
        let address = self.address(peer);
        let node = &mut self.nodes[peer.0];
        node.instances += 1;
        node.last_generation = generation;
        let mut rng = ChaCha8Rng::seed_from_u64(self.settings.fabric.seed);
        rng.set_stream((peer.0 as u64) << 32 | node.instances);
        let settings = MachineSettings {
            membership: self.settings.membership.clone(),
            reap_time: self.settings.reap_time,
            limits: node.limits.clone(),
            ..MachineSettings::new(id.clone(), address, now, wall_clock, rng.next_u64())
        };
        let machine = compose(settings).expect("the settings of scenarios are valid");
        let tables = machine.tables().clone();
        let follower = self.settings.watched.then(|| Follower::new(&tables));
        let instances = self.nodes[peer.0].instances;
        let endpoint = self.fabric.start(self.location(peer), &name, &format!("{name}#{instances}"));
        self.owners.insert(endpoint, peer);
        self.nodes[peer.0].instance = Some(Instance {
            endpoint,
            id,
            machine,
            tables,
            follower,
            events: Vec::new(),
            joined: BTreeSet::new(),
            departing: BTreeMap::new(),
            ready: BTreeSet::new(),
            join_baseline: BTreeMap::new(),
            returned: BTreeMap::new(),
            leaving: false,
            left: false,
            changes: [0; 5],
            list_versions: BTreeMap::new(),
            refused_datagrams: 0,
            refused_frames: 0,
        });
        self.watchdog.forget_instance(peer);
        self.join(peer, seeds);
    }

    /// Replaces the seeds of a running node by these, except the node itself.
    pub fn join(&mut self, peer: Peer, seeds: &[Peer]) {
        let seeds: Vec<SocketAddr> =
            seeds.iter().filter(|seed| **seed != peer).map(|seed| self.address(*seed)).collect();
        self.drive(peer, |machine, now| {
            if !seeds.is_empty() {
                machine.join(&seeds, now);
            }
        });
    }

    fn end_instance(&mut self, peer: Peer, ending: Ending) {
        if !self.is_running(peer) {
            return;
        }
        self.learn_before_end(peer, None);
        self.end_pause(peer);
        let Some(instance) = self.nodes[peer.0].instance.take() else { return };
        self.ledger.instance_ended(&instance.tables.node());
        let events = instance.events.into_iter().map(|(_, event)| event).collect();
        self.ended.push((events, instance.tables.counters()));
        self.fabric.end(instance.endpoint, ending);
        self.owners.remove(&instance.endpoint);
    }
}
