//! How long one change takes to reach every node, measured as NetworkDB's own measurement does it.
//!
//! A cluster is settled, so that every node agrees on the members and the networks; then one change
//! is made, the virtual clock is read before it, and every millisecond each node is polled whether
//! it has the change.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cluster::{Cluster, Deliveries, Key, MILLISECOND, Peer, SECOND, Settings};
use crate::fabric::Link;

/// One kind of change, under the name NetworkDB's measurement gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Perturbation {
    /// One node creates an entry.
    CreateEntry,
    /// One node updates an entry that all have.
    UpdateEntry,
    /// One node deletes an entry that all have.
    DeleteEntry,
    /// The last node joins the network; all others must know its attachment.
    JoinNetwork,
    /// The last node joins the network and creates an entry at once.
    WriteAfterJoin,
    /// The last node joins a network that holds a hundred entries, and must show them all.
    JoinPopulatedNetwork,
    /// The last node leaves the network; no other may know its attachment.
    LeaveNetwork,
    /// One node creates an entry while another writes junk and a third leaves and rejoins.
    CreateEntryUnderChurn,
}

impl Perturbation {
    /// All of them.
    pub const ALL: [Perturbation; 8] = [
        Perturbation::CreateEntry,
        Perturbation::UpdateEntry,
        Perturbation::DeleteEntry,
        Perturbation::JoinNetwork,
        Perturbation::WriteAfterJoin,
        Perturbation::JoinPopulatedNetwork,
        Perturbation::LeaveNetwork,
        Perturbation::CreateEntryUnderChurn,
    ];

    /// The name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Perturbation::CreateEntry => "create-entry",
            Perturbation::UpdateEntry => "update-entry",
            Perturbation::DeleteEntry => "delete-entry",
            Perturbation::JoinNetwork => "join-network",
            Perturbation::WriteAfterJoin => "write-after-join",
            Perturbation::JoinPopulatedNetwork => "join-populated-network",
            Perturbation::LeaveNetwork => "leave-network",
            Perturbation::CreateEntryUnderChurn => "create-entry-under-churn",
        }
    }

    /// The fewest nodes for which the change is meaningful.
    pub fn least_nodes(self) -> usize {
        match self {
            Perturbation::CreateEntry | Perturbation::UpdateEntry | Perturbation::DeleteEntry => 2,
            Perturbation::CreateEntryUnderChurn => 5,
            _ => 3,
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// How many nodes have the change.
    pub converged: usize,
    /// How many nodes must have it.
    pub wanted: usize,
    /// The time taken in virtual time, or until the timeout.
    pub taken: Duration,
    /// How often the nodes were polled.
    pub polls: u64,
    /// The messages delivered meanwhile.
    pub deliveries: Deliveries,
}

/// The conditions of a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    /// One way, for each packet.
    pub latency: Duration,
    /// The share of packets lost, 0 to 1.
    pub loss: f64,
}

/// After this long a change counts as not converged.
const GIVE_UP_AFTER: Duration = Duration::from_secs(120);
const NETWORK: &str = "net";
const CHANGED: Key<'static> = Key::new(NETWORK, "table", "changed");
const POPULATION: usize = 100;
const JUNK_A_STEP: usize = 8;
const JUNK_AT_MOST: usize = 2_000;
const CHURN_STEP: Duration = Duration::from_millis(20);

/// Measures one change once.
///
/// # Panics
/// If the cluster does not settle beforehand.
pub fn measure(perturbation: Perturbation, nodes: usize, conditions: Conditions, seed: u64) -> Sample {
    let link = Link { loss: conditions.loss, ..Link::with_latency(conditions.latency) };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut cluster = Cluster::new(Settings::measured(seed, link));
    let peers = cluster.start_many(nodes);
    let others = &peers[..nodes - 1];
    let joins_later = matches!(
        perturbation,
        Perturbation::JoinNetwork | Perturbation::WriteAfterJoin | Perturbation::JoinPopulatedNetwork
    );
    let at_first = if joins_later { others } else { &peers[..] };
    cluster.join_network(at_first.iter().copied(), NETWORK);
    cluster.settle();
    match perturbation {
        Perturbation::UpdateEntry | Perturbation::DeleteEntry => cluster.create(peers[0], CHANGED, "before"),
        Perturbation::JoinPopulatedNetwork => {
            for number in 0..POPULATION {
                let writer = others[number % others.len()];
                cluster.create(writer, Key::new(NETWORK, "table", &format!("key {number}")), "value");
            }
        }
        _ => {}
    }
    cluster.await_agreement(NETWORK, 60 * SECOND);
    // The change comes at any point of the periods of all tickers.
    cluster.run_for(Duration::from_millis(rng.random_range(2_000..32_000)));
    Measurement { cluster, perturbation, peers }.run()
}

struct Measurement {
    cluster: Cluster,
    perturbation: Perturbation,
    peers: Vec<Peer>,
}

impl Measurement {
    fn run(mut self) -> Sample {
        let last = self.peers[self.peers.len() - 1];
        let writer = self.peers[0];
        let (start, before) = (self.cluster.now(), self.cluster.deliveries());
        match self.perturbation {
            Perturbation::CreateEntry => self.cluster.create(writer, CHANGED, "after"),
            Perturbation::UpdateEntry => self.cluster.update(writer, CHANGED, "after"),
            Perturbation::DeleteEntry => self.cluster.delete(writer, CHANGED),
            Perturbation::JoinNetwork | Perturbation::JoinPopulatedNetwork => {
                self.cluster.join_network([last], NETWORK);
            }
            Perturbation::WriteAfterJoin => {
                self.cluster.join_network([last], NETWORK);
                self.cluster.create(last, CHANGED, "after");
            }
            Perturbation::LeaveNetwork => self.cluster.leave_network([last], NETWORK),
            Perturbation::CreateEntryUnderChurn => {
                let mut begun = Churn::new(&self.peers, self.cluster.now());
                // The change falls into churn that is going on, not into its first step.
                let until = self.cluster.now() + 25 * CHURN_STEP;
                while self.cluster.now() < until {
                    begun.continue_until(&mut self.cluster, until);
                }
                return self.run_churned(begun);
            }
        }
        self.wait(start, before, None)
    }

    fn run_churned(mut self, churn: Churn) -> Sample {
        let (start, before) = (self.cluster.now(), self.cluster.deliveries());
        self.cluster.create(self.peers[0], CHANGED, "after");
        self.wait(start, before, Some(churn))
    }

    fn wait(&mut self, start: Duration, before: Deliveries, mut churn: Option<Churn>) -> Sample {
        let wanted = match self.perturbation {
            Perturbation::CreateEntryUnderChurn => self.peers.len() - 1,
            _ => self.peers.len(),
        };
        let mut polls = 0;
        loop {
            polls += 1;
            let checked = &self.peers[..wanted];
            let converged = checked.iter().filter(|peer| self.has_caught_up(**peer)).count();
            let taken = self.cluster.now() - start;
            if converged == wanted || taken >= GIVE_UP_AFTER {
                let now = self.cluster.deliveries();
                let deliveries = Deliveries {
                    gossip: now.gossip - before.gossip,
                    table_streams: now.table_streams - before.table_streams,
                };
                return Sample { converged, wanted, taken, polls, deliveries };
            }
            let next = self.cluster.now() + MILLISECOND;
            match &mut churn {
                Some(churn) => churn.continue_until(&mut self.cluster, next),
                None => self.cluster.run_for(MILLISECOND),
            }
        }
    }

    fn has_caught_up(&self, peer: Peer) -> bool {
        let last = self.peers[self.peers.len() - 1];
        match self.perturbation {
            Perturbation::JoinNetwork => self.sees_attachment(peer, last),
            Perturbation::LeaveNetwork => peer == last || !self.sees_attachment(peer, last),
            Perturbation::JoinPopulatedNetwork => {
                let shown = self.cluster.machine(peer).tables().statistics(NETWORK);
                shown.is_some_and(|statistics| statistics.entries == POPULATION)
            }
            Perturbation::DeleteEntry => self.cluster.value(peer, CHANGED).is_none(),
            _ => self.cluster.shows(peer, CHANGED, "after"),
        }
    }

    fn sees_attachment(&self, peer: Peer, subject: Peer) -> bool {
        self.cluster.machine(peer).tables().network_peers(NETWORK).contains(self.cluster.name(subject))
    }
}

/// Every 20 ms eight junk entries from a rotating node other than the writer (the first) and the
/// flapper (the last), up to two thousand; every fifth step the flapper leaves or rejoins the
/// network.
struct Churn {
    junk_writers: Vec<Peer>,
    flapper: Peer,
    next: Duration,
    step: usize,
    junk: usize,
    flapper_is_on: bool,
}

impl Churn {
    fn new(peers: &[Peer], now: Duration) -> Self {
        Self {
            junk_writers: peers[1..peers.len() - 1].to_vec(),
            flapper: peers[peers.len() - 1],
            next: now,
            step: 0,
            junk: 0,
            flapper_is_on: true,
        }
    }

    fn continue_until(&mut self, cluster: &mut Cluster, until: Duration) {
        while self.next <= until {
            cluster.run_for(self.next - cluster.now());
            self.next += CHURN_STEP;
            self.one_step(cluster);
        }
        cluster.run_for(until - cluster.now());
    }

    fn one_step(&mut self, cluster: &mut Cluster) {
        let writer = self.junk_writers[self.step % self.junk_writers.len()];
        for _ in 0..JUNK_A_STEP {
            if self.junk < JUNK_AT_MOST {
                cluster.create(writer, Key::new(NETWORK, "junk", &format!("junk {}", self.junk)), "junk");
                self.junk += 1;
            }
        }
        self.step += 1;
        if self.step.is_multiple_of(5) {
            // A rejoin is refused while the leave is in progress; then it is tried again at the
            // next turn.
            let done = if self.flapper_is_on {
                cluster.try_leave_network(self.flapper, NETWORK).is_ok()
            } else {
                cluster.try_join_network(self.flapper, NETWORK).is_ok()
            };
            self.flapper_is_on ^= done;
        }
    }
}
