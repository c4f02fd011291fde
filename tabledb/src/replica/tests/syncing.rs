//! Syncs, comparisons and pulls, with peers that are silent, leave or come back, and in many networks at once.

mod comparisons;
mod final_syncs;
mod initial_syncs;
mod pulls;

use super::*;

fn network(number: usize) -> String {
    format!("net-{number:03}")
}

fn join_all(cluster: &mut Cluster, at: usize, networks: usize) {
    let now = cluster.now;
    for number in 0..networks {
        cluster.replicas[at].join_network(&network(number), now).unwrap();
    }
}

fn entries(cluster: &Cluster, at: usize, network: &str) -> usize {
    cluster.replicas[at].statistics(network).map_or(0, |counts| counts.entries)
}

/// How the join of a network ended, if that has been reported.
fn join_outcome(cluster: &Cluster, at: usize, name: &str) -> Option<JoinOutcome> {
    cluster.events[at].iter().find_map(|event| match event {
        Event::NetworkReady { network, outcome } if network == name => Some(*outcome),
        _ => None,
    })
}

fn is_ready(cluster: &Cluster, at: usize, name: &str) -> bool {
    join_outcome(cluster, at, name).is_some()
}

/// Ends the network on `at` in the middle of its sessions, as the last of its final syncs does.
fn leave_at_once(cluster: &mut Cluster, at: usize) {
    let now = cluster.now;
    let replica = &mut cluster.replicas[at];
    let network = replica.by_name[NET];
    replica.finish_leaving(network, now);
}
