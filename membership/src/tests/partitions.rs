//! Partitions and their healing.

use std::time::Duration;

use super::network::Network;
use crate::{Config, Event, State};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

/// Two halves of ten nodes each, separated for this long.
fn halves(seed: u64, apart: Duration) -> Network {
    let mut network = Network::joined(seed, Config::lan(), 20);
    network.run(SECOND * 5);
    network.forget_events();
    network.cut(&(0..10).collect::<Vec<_>>(), &(10..20).collect::<Vec<_>>(), true);
    network.run(apart);
    network.heal();
    network
}

/// Failures of nodes that a node of the same half declared failed.
fn failures_within_halves(network: &Network) -> usize {
    let half = |node: usize| node < 10;
    let number = |name: &str| name.strip_prefix('n').and_then(|number| number.parse::<usize>().ok());
    let failures = network.events().filter(|(node, event)| match event {
        Event::Failed(id) => number(id.name.as_str()).is_some_and(|failed| half(failed) == half(*node)),
        _ => false,
    });
    failures.count()
}

#[test]
fn a_heal_during_failure_claims_fails_no_member_of_the_same_side() {
    let mut found = Vec::new();
    for tick in 0..24u32 {
        let apart = SECOND * 3 + MILLI * 300 * tick;
        let mut network = halves(u64::from(tick), apart);
        network.run(SECOND * 20);
        let failures = failures_within_halves(&network);
        if failures > 0 {
            found.push((apart, failures));
        }
        assert!(network.converged(), "after {apart:?}");
    }
    assert_eq!(found, [], "failures within a half, by the length of the partition");
}

#[test]
fn a_node_that_missed_a_failure_learns_of_it_within_a_few_seconds() {
    for seed in 0..10 {
        let mut network = Network::joined(seed, Config::lan(), 10);
        network.run(SECOND * 5);
        network.cut(&[0], &(1..10).collect::<Vec<_>>(), true);
        network.crash(9);
        network.until("the others know", SECOND * 40, |network| {
            (1..9).all(|node| network.state(node, "n9") == Some(State::Failed))
        });
        network.heal();
        let took = network
            .until("the last knows", SECOND * 40, |network| network.state(0, "n9") == Some(State::Failed));
        assert!(took < SECOND * 6, "seed {seed}: {took:?}");
    }
}

#[test]
fn a_crashed_node_that_only_one_member_knows_does_not_stay_alive_there() {
    for seed in 0..10 {
        let mut network = Network::joined(seed, Config::lan(), 10);
        network.run(SECOND * 5);
        // It joins through one member that is cut off from the others, and crashes before they
        // learn of it.
        network.cut(&[0], &(1..10).collect::<Vec<_>>(), true);
        let newcomer = network.start("newcomer", 1);
        network.join(newcomer, &[0]);
        network.until("it is known there", SECOND * 2, |network| {
            network.state(0, "newcomer") == Some(State::Alive)
        });
        network.crash(newcomer);
        network.run(MILLI * 300);
        network.heal();
        let took = network.until("it has failed there", SECOND * 40, |network| {
            network.state(0, "newcomer") == Some(State::Failed)
        });
        assert!(took < SECOND * 8, "seed {seed}: {took:?}");
    }
}

#[test]
fn sides_that_know_different_instances_of_a_failed_node_agree_on_the_later() {
    for seed in 0..5 {
        let mut network = Network::joined(seed, Config::lan(), 5);
        network.run(SECOND * 3);
        network.crash(4);
        let gone = |network: &Network, nodes: &[usize]| {
            nodes.iter().all(|node| network.state(*node, "n4") == Some(State::Failed))
        };
        network.until("all know of the first", SECOND * 20, |network| gone(network, &[0, 1, 2, 3]));
        network.cut(&[0, 1], &[2, 3, 4], true);
        network.restart(4, 2);
        network.join(4, &[2]);
        network.until("the second is a member", SECOND * 10, |network| {
            [2, 3].iter().all(|node| network.state(*node, "n4") == Some(State::Alive))
        });
        network.crash(4);
        network.until("one side knows of the second", SECOND * 40, |network| gone(network, &[2, 3]));
        network.forget_events();
        network.heal();
        network.until("all know the second", SECOND * 30, |network| {
            (0..4).all(|node| {
                network
                    .machine(node)
                    .member("n4")
                    .is_some_and(|known| known.record.id.generation == 2 && known.state == State::Failed)
            })
        });
        for node in [0, 1] {
            let learned = network.processes[node].events.iter().filter(|(_, event)| match event {
                Event::LearnedFailed(record) => record.id.name.as_str() == "n4" && record.id.generation == 2,
                _ => false,
            });
            assert_eq!(learned.count(), 1, "seed {seed}: n{node} reports it");
        }
        network.run(SECOND * 60);
        let syncs =
            |network: &Network| (0..4).map(|node| network.machine(node).statistics().repairs).sum::<u64>();
        let before = syncs(&network);
        network.run(SECOND * 300);
        assert_eq!(syncs(&network), before, "seed {seed}: nothing differs any more");
    }
}
