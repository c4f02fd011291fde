//! Scenarios of whole clusters on the simulated network.

use std::time::Duration;

use super::network::Network;
use crate::{Config, Event, State};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

fn failures(network: &Network) -> usize {
    network.count(|event| matches!(event, Event::Failed(_)))
}

#[test]
fn nodes_join_through_one_seed_and_soon_know_each_other() {
    for count in [2, 3, 10, 25, 50] {
        let mut network = Network::new(count as u64, Config::lan());
        for node in 0..count {
            network.start(&format!("n{node}"), 1);
        }
        for node in 1..count {
            network.join(node, &[0]);
        }
        let took = network.until("the cluster has converged", SECOND, |network| network.converged());
        network.run(SECOND);
        let answered = network.count(|event| matches!(event, Event::SeedAnswered { .. }));
        assert_eq!(answered, count - 1, "one answer for each node that joined");
        let joined = network.count(|event| matches!(event, Event::Joined(_)));
        assert_eq!(joined, count * (count - 1), "each node reports each other node once");
        println!("{count} nodes know each other after {took:?}");
    }
}

#[test]
fn unconnected_nodes_meet_at_once_through_a_node_that_joins_them_all() {
    for seed in 0..10 {
        let mut network = Network::new(seed, Config::lan());
        network.latency = (Duration::from_micros(1), Duration::from_micros(500));
        for node in 0..4 {
            network.start(&format!("n{node}"), 1);
        }
        network.join(0, &[1, 2, 3]);
        let took = network.until("the cluster has converged", SECOND * 5, |network| network.converged());
        assert!(took < MILLI * 50, "seed {seed}: {took:?}");
    }
}

#[test]
fn a_newcomer_is_known_everywhere_within_some_tens_of_milliseconds() {
    let mut network = Network::joined(1, Config::lan(), 25);
    network.latency = (Duration::from_micros(1), Duration::from_micros(50));
    network.run(SECOND * 3);
    let newcomer = network.start("newcomer", 1);
    network.join(newcomer, &[7]);
    let took = network.until("all know the new node", SECOND, |network| network.converged());
    assert!(took < MILLI * 30, "{took:?}");
}

#[test]
fn a_crash_is_known_everywhere_within_ten_seconds() {
    for (seed, count) in [(1, 2), (2, 3), (3, 4), (4, 5), (5, 10), (6, 25), (7, 50)] {
        let mut network = Network::joined(seed, Config::lan(), count);
        network.run(SECOND * 3);
        network.crash(count - 1);
        let gone = format!("n{}", count - 1);
        let took = network.until("all know of the crash", SECOND * 10, |network| {
            (0..count - 1).all(|node| network.state(node, &gone) == Some(State::Failed))
        });
        assert_eq!(failures(&network), count - 1, "no other node failed");
        println!("a crash among {count} was known everywhere after {took:?}");
    }
}

#[test]
fn the_last_member_does_not_wait_for_failed_members_to_confirm_each_other() {
    for count in [3, 4, 5, 7] {
        for seed in 0..10 {
            let mut network = Network::joined(seed, Config::lan(), count);
            network.run(SECOND * 3);
            (1..count).for_each(|node| network.crash(node));
            let took = network.until("it knows that it is alone", SECOND * 15, |network| {
                network.machine(0).alive_count() == 1
            });
            assert!(took < SECOND * 11, "{count} nodes, seed {seed}: {took:?}");
        }
    }
}

#[test]
fn loss_and_short_pauses_fail_no_member() {
    for seed in 0..4 {
        let mut network = Network::joined(seed, Config::lan(), 12);
        network.loss = 0.1;
        for round in 0..20 {
            network.pause((round * 5 + seed as usize) % 12, MILLI * 1500);
            network.run(SECOND * 6);
        }
        assert!(network.datagrams_lost > 500, "datagrams were lost: {}", network.datagrams_lost);
        assert_eq!(failures(&network), 0, "seed {seed}");
        network.loss = 0.0;
        network.until("the cluster has converged", SECOND * 15, |network| network.converged());
    }
}

#[test]
fn a_stalled_process_suspects_no_member_and_returns() {
    for seed in 0..4 {
        let mut network = Network::joined(seed, Config::lan(), 8);
        network.run(SECOND * 2);
        network.forget_events();
        network.pause(3, SECOND * 60);
        network.run(SECOND * 59);
        let others = (0..8).filter(|node| *node != 3).collect::<Vec<_>>();
        assert!(others.iter().all(|node| network.state(*node, "n3") == Some(State::Failed)));
        network.until("it is back", SECOND * 10, |network| network.converged());
        let accused = network.events().filter(|(_, event)| match event {
            Event::Failed(id) => id.name.as_str() != "n3",
            _ => false,
        });
        assert_eq!(accused.count(), 0, "seed {seed}");
        assert!(network.machine(3).statistics().stalls > 0);
        let returned = network.count(|event| matches!(event, Event::Returned(_)));
        assert_eq!(returned, 7, "the same instance returned, once for each of the others");
    }
}

#[test]
fn a_starved_process_fails_no_other_member() {
    for seed in 0..4 {
        let mut network = Network::joined(seed, Config::lan(), 10);
        network.run(SECOND * 2);
        network.forget_events();
        for _ in 0..40 {
            network.pause(3, SECOND * 3);
            network.run(SECOND * 3 + MILLI * 200);
        }
        let others = network.events().filter(|(_, event)| match event {
            Event::Failed(id) => id.name.as_str() != "n3",
            _ => false,
        });
        assert_eq!(others.count(), 0, "seed {seed}");
        let accusations = network.machine(3).statistics().probes_failed;
        assert!(
            accusations <= 40,
            "it accuses no more often than it probes, and it probes rarely: {accusations}"
        );
        assert!(network.machine(3).health_score() > 0);
        network.until("the cluster has converged", SECOND * 15, |network| network.converged());
    }
}

#[test]
fn a_partition_heals_by_itself() {
    for seed in 0..3 {
        let mut network = Network::joined(seed, Config::lan(), 10);
        network.run(SECOND * 2);
        network.cut(&[0, 1, 2, 3], &[4, 5, 6, 7, 8, 9], true);
        network.until("both sides consider each other failed", SECOND * 40, |network| {
            network.machine(0).alive_count() == 4 && network.machine(9).alive_count() == 6
        });
        network.run(SECOND * 30);
        assert!((0..4).all(|node| network.machine(node).alive_count() == 4));
        network.forget_events();
        network.heal();
        let took = network.until("one cluster again", SECOND * 15, |network| network.converged());
        network.run(SECOND * 10);
        assert_eq!(failures(&network), 0, "healing fails no node");
        let joined = network.count(|event| matches!(event, Event::Joined(_) | Event::Replaced { .. }));
        assert_eq!(joined, 0, "they are the same instances");
        println!("the partition was healed after {took:?}");
    }
}

#[test]
fn a_one_way_cut_fails_no_member() {
    let mut network = Network::joined(5, Config::lan(), 8);
    network.cut(&[1], &[2], false);
    network.run(SECOND * 60);
    assert!(network.datagrams_lost > 0);
    assert_eq!(failures(&network), 0, "indirect probes reach both");
}

#[test]
fn leaving_is_known_at_once_and_the_name_is_free_at_once() {
    for (seed, count) in [(1, 2), (2, 3), (3, 12), (4, 40)] {
        let mut network = Network::joined(seed, Config::lan(), count);
        network.run(SECOND * 2);
        network.forget_events();
        let leaver = count - 1;
        let name = format!("n{leaver}");
        network.call(leaver, |machine, now| machine.leave(now));
        let took = network.until("the leave is known", SECOND, |network| {
            (0..leaver).all(|node| network.state(node, &name) == Some(State::Left))
                && network.processes[leaver].events.iter().any(|(_, event)| *event == Event::LeaveCompleted)
        });
        network.restart(leaver, 2);
        network.join(leaver, &[0]);
        let back = network.until("the name is in use again", SECOND, |network| network.converged());
        network.run(SECOND * 20);
        assert!(network.converged(), "and stays so");
        assert_eq!(failures(&network), 0);
        let left = network.count(|event| matches!(event, Event::Left(_)));
        let joined = network.count(|event| match event {
            Event::Joined(record) => record.id.generation == 2 && record.id.name.as_str() == name,
            _ => false,
        });
        assert_eq!((left, joined), (count - 1, count - 1));
        println!("{count} nodes: the leave took {took:?}, the return {back:?}");
    }
}

#[test]
fn joining_again_after_leaving_starts_a_later_instance() {
    let mut network = Network::joined(3, Config::lan(), 4);
    network.call(2, |machine, now| machine.leave(now));
    network.run(SECOND);
    network.join(2, &[0]);
    network.until("it is back", SECOND, |network| network.converged());
    assert!(network.machine(2).me().record.id.generation > 1);
    assert_eq!(network.count(|event| matches!(event, Event::GenerationRaised(_))), 1);
}

#[test]
fn a_restart_is_a_new_instance_and_replaces_the_old_one_at_once() {
    for seed in 0..5 {
        let mut network = Network::joined(seed, Config::lan(), 6);
        network.run(SECOND * 2);
        network.forget_events();
        network.restart(4, 2);
        network.join(4, &[1]);
        let took = network.until("the new instance is known", SECOND, |network| network.converged());
        network.run(SECOND * 30);
        assert!(network.converged());
        assert_eq!(failures(&network), 0);
        let replaced = network.count(|event| matches!(event, Event::Replaced { .. }));
        assert_eq!(replaced, 5, "each of the others, once");
        println!("the restart was known after {took:?}");
    }
}

#[test]
fn a_restart_with_a_clock_set_back_exceeds_the_known_generation() {
    for seed in 0..5 {
        let mut network = Network::new(seed, Config::lan());
        for node in 0..5 {
            network.start(&format!("n{node}"), 1000);
        }
        for node in 1..5 {
            network.join(node, &[0]);
        }
        network.run(SECOND * 3);
        // At once, or after it was declared failed.
        let wait = SECOND * if seed % 2 == 0 { 0 } else { 20 };
        network.crash(3);
        network.run(wait);
        network.restart(3, 7);
        network.join(3, &[0]);
        network.until("it is a member", SECOND * 5, |network| network.converged());
        assert!(network.machine(3).me().record.id.generation > 1000);
        let raised = network.count(|event| matches!(event, Event::GenerationRaised(_)));
        assert_eq!(raised, 1, "it was reported once");
    }
}

#[test]
fn a_whole_cluster_that_restarts_at_once_is_whole_again() {
    let mut network = Network::joined(4, Config::lan(), 12);
    network.run(SECOND * 5);
    for node in 0..12 {
        network.restart(node, 2);
    }
    for node in 0..12 {
        network.join(node, &[0, 1, 2]);
    }
    let took = network.until("all are back", SECOND * 5, |network| network.converged());
    println!("twelve restarted nodes know each other after {took:?}");
    network.run(SECOND * 20);
    assert!(network.converged());
}

#[test]
fn seeds_that_all_restart_are_found_again_and_then_there_are_no_more_joins() {
    let mut network = Network::new(9, Config::lan());
    for node in 0..6 {
        network.start(&format!("n{node}"), 1);
    }
    for node in 0..6 {
        network.join(node, &[0, 1, 2]);
    }
    network.until("the cluster has converged", SECOND * 5, |network| network.converged());
    (0..3).for_each(|seed| network.crash(seed));
    network.until("the seeds have failed", SECOND * 60, |network| {
        (3..6).all(|node| network.machine(node).alive_count() == 3)
    });
    // New instances without members; each side of a partition contains one of them.
    network.cut(&[0, 3], &[1, 4, 2, 5], true);
    (0..3).for_each(|seed| network.restart(seed, 2));
    network.run(SECOND * 20);
    network.heal();
    let took = network.until("one cluster", SECOND * 60, |network| network.converged());
    println!("one cluster after {took:?}");
    let syncs = |network: &Network| (0..6).map(|node| network.machine(node).statistics().syncs).sum::<u64>();
    network.run(SECOND * 120);
    let before = syncs(&network);
    network.forget_events();
    network.run(SECOND * 300);
    assert_eq!(syncs(&network) - before, 60, "one comparison a node every 30 s, and nothing else");
    assert!(network.events().next().is_none(), "and no events");
}

#[test]
fn isolated_groups_of_restarted_nodes_merge() {
    for seed in 0..10 {
        let mut network = Network::joined(seed, Config::lan(), 4);
        network.cut(&[0, 1], &[2, 3], true);
        for node in 0..4 {
            network.restart(node, 2);
            network.join(node, &[0, 1, 2, 3]);
        }
        network.run(SECOND * 30);
        assert!((0..4).all(|node| network.machine(node).alive_count() == 2), "each side has a seed");
        network.heal();
        let took = network.until("one cluster", SECOND * 60, |network| network.converged());
        assert!(took < SECOND * 10, "seed {seed}: {took:?}");
    }
}

#[test]
fn a_node_that_loses_its_last_member_contacts_its_seeds_at_once() {
    let mut network = Network::joined(1, Config::lan(), 2);
    network.run(SECOND * 3);
    network.call(0, |machine, now| machine.leave(now));
    network.until("it has left", SECOND * 3, |network| network.machine(1).alive_count() == 1);
    // An instance without members that no node knows.
    network.restart(0, 2);
    let took = network.until("they know each other", SECOND * 60, |network| network.converged());
    assert!(took < SECOND, "{took:?}");
}

#[test]
fn a_second_node_of_a_name_in_use_is_refused_and_both_are_notified() {
    for (seed, generation) in [(1, 2), (2, 1), (3, 0)] {
        let mut network = Network::joined(seed, Config::lan(), 5);
        network.run(SECOND * 2);
        network.forget_events();
        let twin = network.start("n3", generation);
        network.join(twin, &[0]);
        network.run(SECOND * 12);
        for node in 0..5 {
            let known = network.machine(node).member("n3").expect("known");
            assert_eq!(
                (known.record.id.generation, known.state),
                (1, State::Alive),
                "the first is not affected"
            );
            assert_eq!(known.record.address, network.processes[3].record.address);
        }
        assert_eq!(network.machine(twin).alive_count(), 1, "the second has not joined");
        let addresses = (network.processes[3].record.address, network.processes[twin].record.address);
        for node in [3, twin] {
            let reported = network.processes[node].events.iter().filter_map(|(_, event)| match event {
                Event::NameConflict(conflict) => Some((conflict.owner, conflict.claimant)),
                _ => None,
            });
            let reported = reported.collect::<Vec<_>>();
            assert!(
                !reported.is_empty() && reported.iter().all(|reported| *reported == addresses),
                "{reported:?}"
            );
            assert!(reported.len() <= 2, "at most every ten seconds");
        }
        let other = |event: &Event| {
            matches!(event, Event::Failed(_) | Event::Replaced { .. } | Event::Joined(_) | Event::Left(_))
        };
        assert_eq!(network.count(other), 0);
        // The first one ends: the second one joins by itself.
        network.crash(3);
        network.until("the second is a member", SECOND * 30, |network| network.converged());
    }
}

#[test]
fn a_node_that_moved_is_accepted_after_the_old_address_did_not_answer() {
    let mut network = Network::joined(2, Config::lan(), 5);
    network.run(SECOND * 2);
    network.crash(3);
    let moved = network.start("n3", 2);
    network.join(moved, &[0]);
    let took = network.until("it is known at its new address", SECOND * 5, |network| network.converged());
    assert!(took >= MILLI * 500, "the old address was given time to answer: {took:?}");
}

#[test]
fn a_node_at_the_address_of_a_failed_one_affects_no_other() {
    let mut network = Network::joined(2, Config::lan(), 5);
    network.run(SECOND * 2);
    network.crash(3);
    let at = network.processes[3].record.address;
    let other = network.start_at("other", 1, at);
    network.join(other, &[0]);
    network.until("it is known, and the old one has failed", SECOND * 15, |network| network.converged());
    assert_eq!(network.state(0, "n3"), Some(State::Failed));
}

#[test]
fn with_all_datagrams_lost_no_member_fails_and_updates_spread() {
    let mut network = Network::joined(6, Config::lan(), 6);
    network.run(SECOND * 2);
    network.loss = 1.0;
    network.run(SECOND * 30);
    assert_eq!(failures(&network), 0);
    network.crash(5);
    network.until("the crash is known", SECOND * 60, |network| {
        (0..5).all(|node| network.state(node, "n5") == Some(State::Failed))
    });
    let newcomer = network.start("newcomer", 1);
    network.join(newcomer, &[0]);
    let took = network.until("the new node is known", SECOND * 20, |network| network.converged());
    println!("without datagrams a newcomer is known after {took:?}");
    assert_eq!(failures(&network), 5, "only the node that crashed");
}

#[test]
fn without_streams_no_member_fails_and_crashes_are_detected() {
    let mut network = Network::joined(6, Config::lan(), 6);
    network.run(SECOND * 2);
    network.streams_fail = true;
    network.loss = 0.05;
    network.run(SECOND * 60);
    assert_eq!(failures(&network), 0);
    network.crash(5);
    network.until("the crash is known", SECOND * 12, |network| {
        (0..5).all(|node| network.state(node, "n5") == Some(State::Failed))
    });
    network.restart(5, 2);
    network.streams_fail = false;
    network.join(5, &[0]);
    network.until("all are back", SECOND * 5, |network| network.converged());
}

#[test]
fn a_seed_that_starts_late_is_found() {
    let mut network = Network::new(3, Config::lan());
    for node in 0..3 {
        network.start(&format!("n{node}"), 1);
    }
    network.crash(0);
    network.join(1, &[0]);
    network.join(2, &[0]);
    network.run(SECOND * 25);
    let failed = network.count(|event| matches!(event, Event::SeedFailed { retrying: true, .. }));
    assert!((4..=8).contains(&failed), "reported now and then: {failed}");
    network.restart(0, 1);
    network.until("the cluster has converged", SECOND * 6, |network| network.converged());
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let story = |seed| {
        let mut network = Network::joined(seed, Config::lan(), 12);
        network.loss = 0.1;
        network.run(SECOND * 10);
        network.crash(4);
        network.pause(5, SECOND * 4);
        network.run(SECOND * 20);
        network.restart(4, 2);
        network.join(4, &[1]);
        network.run(SECOND * 20);
        assert!(network.datagrams_lost > 100 && network.frames > 100);
        network.trace
    };
    assert_eq!(story(1), story(1));
    assert_ne!(story(1), story(2));
}

#[test]
fn an_idle_cluster_sends_only_probes_and_their_answers() {
    let mut network = Network::joined(8, Config::lan(), 10);
    network.run(SECOND * 30);
    let (datagrams, frames) = (network.datagrams, network.frames);
    network.run(SECOND * 60);
    let (datagrams, frames) = (network.datagrams - datagrams, network.frames - frames);
    // Ten nodes send a probe and an answer each second, and compare lists twice in 60 s: two
    // hellos, two ends.
    assert!((1180..=1220).contains(&datagrams), "{datagrams} datagrams");
    assert!((70..=90).contains(&frames), "{frames} frames");
}
