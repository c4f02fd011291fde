//! Random histories: operations and faults drawn from a seed, then no faults, then every check.

mod coverage;
mod draws;
mod duplicate_instance;
mod faults;
mod final_checks;
mod hard;
mod without_comparisons;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cluster::{Cluster, DESCRIBE, Key, MILLISECOND, Peer, SECOND, Settings};
use crate::fabric::{FabricConfig, Latency, Link};
pub use coverage::Coverage;
pub use draws::{Draw, Kind};

/// The parameters of random histories.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The kind of world.
    pub kind: Kind,
    /// The enabled draws of that world.
    pub draws: BTreeSet<Draw>,
    /// How many nodes; drawn from this range for each seed.
    pub nodes: RangeInclusive<usize>,
    /// How many operations and faults.
    pub steps: RangeInclusive<usize>,
    /// The command that repeats a seed.
    pub replay: String,
}

impl Default for Plan {
    fn default() -> Self {
        Self::of(Kind::Old)
    }
}

impl Plan {
    /// The usual sizes of histories of a kind, with all draws.
    pub fn of(kind: Kind) -> Self {
        let (nodes, steps) = match kind {
            Kind::Old => (2..=7, 30..=150),
            Kind::Hard => (8..=30, 20..=60),
        };
        Self { kind, draws: Draw::all(), nodes, steps, replay: String::new() }
    }
}

/// The reap time in random histories: short, so that partitions can be longer.
const REAP_TIME: Duration = Duration::from_secs(40);
/// Limit from the mending of all links until the running nodes hold exactly each other for alive.
const MEMBERS_WITHIN: Duration = Duration::from_secs(180);
/// Limit from then on until they show the same.
const AGREEMENT_WITHIN: Duration = Duration::from_secs(25);

const TABLES: [&str; 2] = ["services", "hosts"];
const KEYS: [&str; 4] = ["k1", "k2", "k3", "k4"];

struct History {
    cluster: Cluster,
    rng: ChaCha8Rng,
    peers: Vec<Peer>,
    networks: Vec<String>,
    /// The probability that a starting node joins a network.
    joins: f64,
    draws: BTreeSet<Draw>,
    /// Values are unique, so that each identifies its write.
    writes: u64,
    coverage: Coverage,
}

/// The result of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its coverage.
    pub coverage: Coverage,
    /// A hash over all events.
    pub trace_hash: u64,
}

/// Runs the history of one seed.
///
/// # Panics
///
/// If a promise is broken: the cluster then prints its report.
pub fn run(seed: u64, plan: &Plan) -> Outcome {
    match plan.kind {
        Kind::Old => run_old(seed, plan),
        Kind::Hard => hard::run(seed, plan),
    }
}

fn run_old(seed: u64, plan: &Plan) -> Outcome {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::MAX);
    let count = rng.random_range(plan.nodes.clone());
    let steps = rng.random_range(plan.steps.clone());
    let fabric = FabricConfig {
        seed,
        link: random_link(&mut rng),
        trace_lines: 600,
        describe: DESCRIBE,
        ..FabricConfig::default()
    };
    let settings = Settings {
        fabric,
        membership: membership::Config::lan(),
        reap_time: REAP_TIME,
        watched: true,
        inspection: Some(500 * MILLISECOND),
        replay: Some(plan.replay.replace("{seed}", &seed.to_string())),
        record_events: true,
    };
    let mut cluster = Cluster::new(settings);
    let peers: Vec<Peer> = (1..=count).map(|number| cluster.add(&format!("n{number}"))).collect();
    for &peer in &peers {
        cluster.start_instance(peer, &peers);
    }
    let mut history = History {
        cluster,
        rng,
        peers,
        networks: vec!["blue".to_owned(), "green".to_owned()],
        joins: 0.7,
        draws: BTreeSet::new(),
        writes: 0,
        coverage: Coverage::default(),
    };
    history.begin();
    for _ in 0..steps {
        history.step();
    }
    history.end_faults();
    history.end();
    Outcome { coverage: history.coverage, trace_hash: history.cluster.trace_hash() }
}

/// Conditions of a network that is still usable.
fn random_link(rng: &mut ChaCha8Rng) -> Link {
    let latency = match rng.random_range(0..4) {
        0 => Latency::Fixed(Duration::ZERO),
        1 => Latency::Fixed(Duration::from_millis(rng.random_range(1..40))),
        2 => Latency::Uniform(Duration::ZERO, Duration::from_millis(rng.random_range(1..80))),
        _ => Latency::Distance {
            base: Duration::from_millis(1),
            across: Duration::from_millis(rng.random_range(1..60)),
        },
    };
    Link {
        latency,
        loss: if rng.random_bool(0.5) { f64::from(rng.random_range(0..=40)) / 100.0 } else { 0.0 },
        duplication: if rng.random_bool(0.3) { 0.1 } else { 0.0 },
        reordering: if rng.random_bool(0.3) { 0.2 } else { 0.0 },
        reordering_delay: Duration::from_millis(200),
        bandwidth: rng.random_bool(0.2).then(|| rng.random_range(50_000..2_000_000)),
        datagram_limit: if rng.random_bool(0.15) { rng.random_range(80..400) } else { 1162 },
        stream_breaks: if rng.random_bool(0.3) { 0.05 } else { 0.0 },
    }
}

impl History {
    fn begin(&mut self) {
        for peer in self.peers.clone() {
            self.join_networks(peer);
        }
        // Often a history begins before the nodes have found each other.
        if self.rng.random_bool(0.5) {
            self.cluster.run_for(5 * SECOND);
        }
    }

    fn join_networks(&mut self, peer: Peer) {
        for network in self.networks.clone() {
            if self.rng.random_bool(self.joins) {
                self.cluster.join_network([peer], &network);
            }
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..60 => self.write(),
            60..68 => self.join_or_leave_network(),
            68..70 => self.burst(),
            _ => self.fault(),
        }
        let pause = match self.rng.random_range(0..10) {
            0..3 => 0,
            3..7 => self.rng.random_range(0..50),
            7..9 => self.rng.random_range(0..1_000),
            _ => self.rng.random_range(0..8_000),
        };
        self.cluster.run_for(Duration::from_millis(pause));
    }

    fn random_running(&mut self) -> Option<Peer> {
        let mut running = self.cluster.running();
        running.retain(|peer| !self.cluster.is_leaving(*peer) && !self.cluster.is_paused(*peer));
        running.choose(&mut self.rng).copied()
    }

    fn write(&mut self) {
        let Some(peer) = self.random_running() else { return };
        let joined = self.cluster.networks_of(peer);
        let Some(network) = joined.choose(&mut self.rng) else { return };
        let table = TABLES[self.rng.random_range(0..TABLES.len())];
        let key = Key::new(network, table, KEYS[self.rng.random_range(0..KEYS.len())]);
        self.write_at(peer, key);
    }

    fn write_at(&mut self, peer: Peer, key: Key<'_>) {
        self.writes += 1;
        let mut value = format!("{} {}", self.cluster.name(peer), self.writes).into_bytes();
        if self.rng.random_bool(0.02) {
            // Larger than any datagram.
            value.resize(self.rng.random_range(1_200..20_000), b'.');
        }
        let result = if self.cluster.value(peer, key).is_none() {
            self.cluster.try_create(peer, key, &value)
        } else if self.rng.random_bool(0.55) {
            self.cluster.try_update(peer, key, &value)
        } else {
            self.cluster.try_delete(peer, key)
        };
        match result {
            Ok(()) => self.coverage.writes += 1,
            // A node about to leave the network refuses; any other error is a bug.
            Err(tabledb::WriteError::NotJoined { .. }) => {}
            Err(error) if self.cluster.has_limits(peer) && is_of_limits(&error) => {
                self.coverage.refused_writes += 1
            }
            Err(error) => panic!("{} refused a write to {key}: {error}", self.cluster.name(peer)),
        }
    }

    /// More writes at once than datagrams can carry, under keys of their own.
    fn burst(&mut self) {
        let Some(peer) = self.random_running() else { return };
        let joined = self.cluster.networks_of(peer);
        let Some(network) = joined.choose(&mut self.rng) else { return };
        for _ in 0..self.rng.random_range(20..300) {
            let number = self.rng.random_range(0..400);
            self.write_at(peer, Key::new(network, "burst", &format!("b{number}")));
        }
        self.coverage.bursts += 1;
    }

    fn join_or_leave_network(&mut self) {
        let Some(peer) = self.random_running() else { return };
        let network = self.networks[self.rng.random_range(0..self.networks.len())].clone();
        if self.cluster.networks_of(peer).contains(&network) {
            if self.rng.random_bool(0.5) && self.cluster.try_leave_network(peer, &network).is_ok() {
                self.coverage.network_leaves += 1;
            }
        } else if self.cluster.try_join_network(peer, &network).is_ok() {
            // Refused while the node is still leaving the network.
            self.coverage.network_joins += 1;
        }
    }
}

/// Whether a write was refused because of a limit.
fn is_of_limits(error: &tabledb::WriteError) -> bool {
    use tabledb::WriteError;
    !matches!(
        error,
        WriteError::NotJoined { .. } | WriteError::AlreadyExists { .. } | WriteError::NotFound { .. }
    )
}
