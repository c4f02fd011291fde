//! How long it takes until a crash is known everywhere, and whether running nodes are declared
//! failed.
//!
//! Two measurements of the membership protocol on virtual time. [`crashes`] crashes one node after
//! another and measures until every other node holds it failed. [`false_alarms`] runs a cluster on
//! a network that loses datagrams, pauses one random node after another, and counts suspicions and
//! failures.

use std::collections::BTreeMap;
use std::time::Duration;

use membership::{Config, Event, State};
use networkdb::NodeEvent;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wire::NodeId;

use crate::cluster::{Cluster, Peer, SECOND, Settings};
use crate::fabric::{Latency, Link};

/// The conditions of a cluster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conditions {
    /// The share of datagrams lost, 0 to 1; packets of streams are lost alike, and retransmitted.
    pub loss: f64,
    /// For how long a random node is paused, once every [`PAUSE_EVERY`]. Zero for never.
    pub pause: Duration,
}

/// How often a random node is paused.
pub const PAUSE_EVERY: Duration = Duration::from_secs(10);
/// After this long a crash counts as undetected.
const GIVE_UP_AFTER: Duration = Duration::from_secs(120);

/// A settled cluster of `nodes` nodes on a LAN, after the updates about joins have been spread.
fn settled(nodes: usize, membership: &Config, seed: u64) -> (Cluster, Vec<Peer>) {
    let latency = Latency::Uniform(Duration::from_micros(100), Duration::from_millis(1));
    let link = Link { latency, ..Link::default() };
    let settings =
        Settings { membership: membership.clone(), record_events: true, ..Settings::measured(seed, link) };
    let mut cluster = Cluster::new(settings);
    let peers = cluster.start_many(nodes);
    cluster.settle();
    cluster.run_for(10 * SECOND);
    (cluster, peers)
}

/// Sets the loss of all links, and leaves the rest of their conditions.
fn set_loss(cluster: &mut Cluster, loss: f64) {
    let link = Link { loss, ..cluster.fabric().default_link().clone() };
    cluster.set_links(link);
}

/// Crashes `count` random nodes, one after the other; returns for each how long it took until all
/// others held it failed. Between two crashes the node returns as a new instance. `progress` is
/// called after each.
///
/// # Panics
///
/// If a crash is not detected within two minutes, or the cluster does not settle.
pub fn crashes(
    nodes: usize,
    count: usize,
    loss: f64,
    membership: &Config,
    seed: u64,
    progress: impl Fn(),
) -> Vec<Duration> {
    let (mut cluster, peers) = settled(nodes, membership, seed);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut times = Vec::new();
    for _ in 0..count {
        set_loss(&mut cluster, loss);
        // At any point of the periods of all tickers.
        cluster.run_for(Duration::from_millis(rng.random_range(2_000..4_000)));
        let crashed = *peers.choose(&mut rng).expect("there are nodes");
        let others: Vec<Peer> = peers.iter().copied().filter(|peer| *peer != crashed).collect();
        cluster.crash(crashed);
        let mut unaware = others.clone();
        let taken = cluster.run_until("all others know of the crash", GIVE_UP_AFTER, |cluster| {
            // A node that knows it once does not forget it.
            unaware.retain(|peer| cluster.state_of(*peer, crashed) != Some(State::Failed));
            unaware.is_empty()
        });
        times.push(taken);
        set_loss(&mut cluster, 0.0);
        let seed = *others.choose(&mut rng).expect("there are others");
        cluster.restart(crashed, &[seed]);
        cluster.settle();
        forget_events(&mut cluster, &peers);
        progress();
    }
    times
}

/// Suspicions and failures in a cluster in which no node crashed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alarms {
    /// Datagrams lost.
    pub lost: u64,
    /// Times a node was paused.
    pub pauses: u64,
    /// Probes without an answer, which cause suspicions.
    pub accusations: u64,
    /// Nodes declared failed by a node's own verdict. Each of these verdicts was wrong.
    pub false_failures: u64,
    /// How often a node held another failed, by its own verdict or a received one.
    pub held_failed: u64,
    /// The longest time from a suspicion to its refutation on a node.
    pub longest_suspicion: Duration,
}

/// Runs a cluster under these conditions for `time`, and counts suspicions and failures. `progress`
/// is called after every minute.
///
/// # Panics
///
/// If the cluster does not settle beforehand.
pub fn false_alarms(
    nodes: usize,
    time: Duration,
    conditions: Conditions,
    membership: &Config,
    seed: u64,
    progress: impl Fn(),
) -> Alarms {
    let (mut cluster, peers) = settled(nodes, membership, seed);
    forget_events(&mut cluster, &peers);
    let before = total(&cluster, &peers);
    let lost = cluster.fabric().traffic().dropped_datagrams();
    set_loss(&mut cluster, conditions.loss);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut alarms = Alarms::default();
    let mut suspected = BTreeMap::new();
    let end = cluster.now() + time;
    while cluster.now() < end {
        let round = cluster.now();
        if !conditions.pause.is_zero() {
            let paused = *peers.iter().choose(&mut rng).expect("there are nodes");
            cluster.run_for(Duration::from_millis(rng.random_range(0..1_000)));
            cluster.pause(paused);
            cluster.run_for(conditions.pause);
            cluster.resume(paused);
            alarms.pauses += 1;
        }
        cluster.run_for((round + PAUSE_EVERY).saturating_sub(cluster.now()));
        for peer in &peers {
            for (at, event) in std::mem::take(&mut cluster.instance_mut(*peer).events) {
                if let NodeEvent::Membership(event) = event {
                    note(&mut alarms, &mut suspected, *peer, at, event);
                }
            }
        }
        if round.as_secs() / 60 != cluster.now().as_secs() / 60 {
            progress();
        }
    }
    let after = total(&cluster, &peers);
    alarms.accusations = after.0 - before.0;
    alarms.false_failures = after.1 - before.1;
    alarms.lost = cluster.fabric().traffic().dropped_datagrams() - lost;
    alarms
}

fn note(
    alarms: &mut Alarms,
    suspected: &mut BTreeMap<(Peer, NodeId), Duration>,
    peer: Peer,
    at: Duration,
    event: Event,
) {
    match event {
        Event::Suspected(id) => drop(suspected.insert((peer, id), at)),
        Event::Failed(id) => {
            alarms.held_failed += 1;
            suspected.remove(&(peer, id));
        }
        Event::Refuted(id) => {
            if let Some(since) = suspected.remove(&(peer, id)) {
                alarms.longest_suspicion = alarms.longest_suspicion.max(at - since);
            }
        }
        _ => {}
    }
}

/// Failed probes, and failures declared.
fn total(cluster: &Cluster, peers: &[Peer]) -> (u64, u64) {
    let statistics = peers.iter().map(|peer| cluster.machine(*peer).membership().statistics());
    statistics.fold((0, 0), |(probes, verdicts), counted| {
        (probes + counted.probes_failed, verdicts + counted.failures_declared)
    })
}

fn forget_events(cluster: &mut Cluster, peers: &[Peer]) {
    for peer in peers {
        if cluster.is_running(*peer) {
            cluster.instance_mut(*peer).events.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_is_known_everywhere_within_eight_seconds() {
        for nodes in [3, 10, 40] {
            // A node probes it within two seconds and suspects it a second later; a suspicion lasts
            // four at most.
            let times = crashes(nodes, 40, 0.1, &Config::lan(), 1, || ());
            assert!(times.iter().all(|time| *time < 8 * SECOND), "{nodes} nodes: {times:?}");
            // The shortest suspicion alone takes three.
            assert!(times.iter().all(|time| *time > 3 * SECOND), "{nodes} nodes: {times:?}");
        }
    }

    #[test]
    fn loss_and_pauses_cause_suspicions_but_no_failures() {
        let conditions = Conditions { loss: 0.2, pause: 2 * SECOND };
        let alarms = false_alarms(12, 240 * SECOND, conditions, &Config::lan(), 1, || ());
        assert!(alarms.accusations > 5 && alarms.lost > 500 && alarms.pauses == 24, "{alarms:?}");
        assert_eq!((alarms.false_failures, alarms.held_failed), (0, 0), "{alarms:?}");
        assert!(alarms.longest_suspicion > Duration::ZERO, "{alarms:?}");
    }

    #[test]
    fn a_detector_with_short_timeouts_fails_running_nodes() {
        // Otherwise the test above could not fail.
        let mut hasty = Config::lan();
        hasty.suspicion_multiplier = 1;
        hasty.suspicion_max_multiplier = 1;
        hasty.probe_interval = Duration::from_millis(300);
        hasty.probe_timeout = Duration::from_millis(100);
        hasty.gossip_interval = Duration::from_millis(50);
        let conditions = Conditions { loss: 0.2, pause: 2 * SECOND };
        let alarms = false_alarms(12, 240 * SECOND, conditions, &hasty, 1, || ());
        assert!(alarms.false_failures > 0, "{alarms:?}");
    }
}
