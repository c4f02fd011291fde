//! How the cost of one change, and of an idle cluster, grows with the number of nodes.
//!
//! A cluster on one network is settled and left alone until it is quiescent; what it sends then is
//! idle traffic. Then single entries are created on random nodes. The clock is read when every node
//! shows the entry; what was sent from the change until long after, less the idle traffic, is the
//! traffic of the change.

use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cluster::{Cluster, Key, MILLISECOND, Peer, SECOND, Settings};
use crate::fabric::{Link, Load};

/// How long each packet takes, one way.
pub const LATENCY: Duration = Duration::from_millis(1);
/// How long idle traffic is counted: two periods of all periodic messages.
const IDLE_FOR: Duration = Duration::from_secs(60);
/// How long after a change its traffic is counted; the change is quiescent after half of that.
const AFTERMATH: Duration = Duration::from_secs(10);
/// How long a cluster may take to settle, or a change to reach all.
const GIVE_UP_AFTER: Duration = Duration::from_secs(300);
const NETWORK: &str = "net";

/// Messages and bytes a node.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rate {
    /// Datagrams, and frames of streams.
    pub messages: f64,
    /// Their bytes.
    pub bytes: f64,
}

/// The cost of one change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// Until every node showed it.
    pub taken: Duration,
    /// The traffic that it caused on a node, on average.
    pub traffic: Rate,
}

/// The measurements of a cluster of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    /// How many nodes.
    pub nodes: usize,
    /// What a node sends in an idle second: probes, answers with piggybacked digests, member lists.
    pub idle_membership: Rate,
    /// What a node sends in an idle second about tables.
    pub idle_tables: Rate,
    /// The changes, one after the other.
    pub changes: Vec<Change>,
}

/// Measures a cluster of `nodes` nodes, and `changes` changes in it. `progress` is called after the
/// cluster has formed, after the idle time and after each change.
///
/// # Panics
/// If the cluster does not settle, or a change does not reach all.
pub fn measure(nodes: usize, changes: usize, seed: u64, progress: impl Fn()) -> Growth {
    let settings = Settings::measured(seed, Link::with_latency(LATENCY));
    let mut cluster = Cluster::new(settings);
    let peers = cluster.start_many(nodes);
    cluster.join_network(peers.iter().copied(), NETWORK);
    cluster.run_until("all know each other", GIVE_UP_AFTER, |cluster| cluster.all_agree_on_members(&peers));
    cluster.run_until("all know the attachments of all", GIVE_UP_AFTER, |cluster| {
        peers.iter().all(|peer| cluster.machine(*peer).tables().network_peers(NETWORK).len() == nodes)
    });
    // Updates are repeated for a while; then the cluster is quiescent.
    cluster.run_for(45 * SECOND);
    progress();
    let before = sent(&cluster);
    cluster.run_for(IDLE_FOR);
    let after = sent(&cluster);
    let a_second = |before: Load, after: Load| rate(before, after, nodes, IDLE_FOR.as_secs_f64());
    let idle_membership = a_second(before.0, after.0);
    let idle_tables = a_second(before.1, after.1);
    progress();
    let idle = Rate {
        messages: idle_membership.messages + idle_tables.messages,
        bytes: idle_membership.bytes + idle_tables.bytes,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let changes = (0..changes).map(|number| {
        let pause = Duration::from_millis(rng.random_range(0..1_000));
        cluster.run_for(pause);
        let writer = *peers.choose(&mut rng).expect("there are nodes");
        let change = measure_change(&mut cluster, &peers, writer, number, idle);
        progress();
        change
    });
    Growth { nodes, idle_membership, idle_tables, changes: changes.collect() }
}

fn measure_change(cluster: &mut Cluster, peers: &[Peer], writer: Peer, number: usize, idle: Rate) -> Change {
    let (start, before) = (cluster.now(), sent(cluster));
    let name = format!("change {number}");
    let key = Key::new(NETWORK, "table", &name);
    cluster.create(writer, key, "a value of some thirty-odd bytes");
    let mut waiting = peers.to_vec();
    let taken = loop {
        // A node that shows it once goes on showing it.
        waiting.retain(|peer| cluster.value(*peer, key).is_none());
        let taken = cluster.now() - start;
        if waiting.is_empty() {
            break taken;
        }
        assert!(taken < GIVE_UP_AFTER, "{} nodes have not seen the change after {taken:?}", waiting.len());
        cluster.run_for(MILLISECOND);
    };
    cluster.run_for((start + AFTERMATH).saturating_sub(cluster.now()));
    let seconds = (cluster.now() - start).as_secs_f64();
    let after = sent(cluster);
    let all = rate(both(before), both(after), peers.len(), 1.0);
    let traffic =
        Rate { messages: all.messages - idle.messages * seconds, bytes: all.bytes - idle.bytes * seconds };
    Change { taken, traffic }
}

/// The traffic of all nodes: about members, and about tables.
fn sent(cluster: &Cluster) -> (Load, Load) {
    let traffic = cluster.fabric().traffic();
    (traffic.membership, traffic.tables)
}

fn both((a, b): (Load, Load)) -> Load {
    Load { messages: a.messages + b.messages, bytes: a.bytes + b.bytes }
}

fn rate(before: Load, after: Load, nodes: usize, seconds: f64) -> Rate {
    let share = nodes as f64 * seconds;
    Rate {
        messages: (after.messages - before.messages) as f64 / share,
        bytes: (after.bytes - before.bytes) as f64 / share,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_costs_grow_at_most_logarithmically_and_idle_traffic_not_at_all() {
        let (small, large) = (measure(20, 3, 1, || ()), measure(80, 3, 1, || ()));
        let worst =
            |growth: &Growth| growth.changes.iter().map(|change| change.taken).max().expect("changes");
        // A node that the first round missed learns of it from high watermarks, which are sent
        // after some 50 ms.
        assert!(worst(&large) < 500 * MILLISECOND, "{large:?}");
        let bytes = |growth: &Growth| {
            growth.changes.iter().map(|change| change.traffic.bytes).sum::<f64>()
                / growth.changes.len() as f64
        };
        assert!(bytes(&small) > 50.0, "the change itself is counted: {small:?}");
        assert!(bytes(&large) < bytes(&small) * 80f64.ln() / 20f64.ln(), "{small:?} {large:?}");
        let idle = |growth: &Growth| growth.idle_membership.bytes + growth.idle_tables.bytes;
        assert!(idle(&small) > 50.0, "probes are sent: {small:?}");
        assert!(idle(&large) < idle(&small) * 1.1, "{small:?} {large:?}");
    }
}
