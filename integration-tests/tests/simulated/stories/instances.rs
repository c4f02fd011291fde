//! Stories 7 to 9: new instances, lost state, and clusters in pieces.

use std::time::Duration;

use integration_tests::cluster::{Cluster, Key, MILLISECOND, Peer, SECOND, Settings};
use integration_tests::fabric::{Latency, Link, MessageKind, Verdict};
use membership::State;
use networkdb::NodeEvent;

use super::{K, K1, K2, NET, cluster};

#[test]
fn story_07_new_identity_same_address() {
    // The order in which B hears alive A2, stale alive A1 and dead A1 is the network's: tried in many.
    for seed in 700..720 {
        let (mut cluster, [b, c, a1]) = cluster(seed, ["b", "c", "a1"]);
        cluster.create(a1, K1, "of a1");
        cluster.await_agreement(NET, SECOND);
        cluster.set_links(Link {
            latency: Latency::Uniform(Duration::ZERO, 300 * MILLISECOND),
            reordering: 0.5,
            reordering_delay: 2 * SECOND,
            duplication: 0.2,
            ..Link::default()
        });
        cluster.crash(a1);
        let a2 = cluster.add_at("a2", cluster.address(a1));
        cluster.start_instance(a2, &[b, c]);
        cluster.join_network([a2], NET);
        cluster.create(a2, K2, "of a2");
        cluster.await_shown(&[b, c], K2, "of a2", 10 * SECOND);
        cluster.await_absent(&[b, c, a2], K1, 30 * SECOND);
        cluster.await_members(&[a2, b, c], 30 * SECOND);
        for peer in [b, c] {
            let shown = cluster.shown_so_far(peer, K2);
            assert_eq!(shown, [Some("of a2".to_owned())], "A2's entry stays once it is there");
        }
        cluster.assert_promises();
    }
}

#[test]
fn story_07_b_hears_of_it_in_each_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut cluster = Cluster::new(Settings::seeded(707));
        let [b, c] = cluster.start(["b", "c"]);
        cluster.join_network([b, c], NET);
        cluster.settle();
        let a1 = cluster.add("a1");
        let (place, to_b) = (cluster.location(a1), cluster.location(b));
        // Messages to B about members are withheld, whichever node sends them.
        let keep = |cluster: &mut Cluster| {
            cluster.rule(move |message| {
                let about_members =
                    message.kind == MessageKind::Datagram && !message.is_for_tables() && message.to == to_b;
                if about_members { Verdict::Hold } else { Verdict::Pass }
            })
        };
        let rule = keep(&mut cluster);
        cluster.start_instance(a1, &[c]);
        cluster.run_for(300 * MILLISECOND);
        let alive_a1 = cluster.take_held();
        cluster.remove_rule(rule);
        cluster.join_network([a1], NET);
        cluster.create(a1, K1, "of a1");
        cluster.await_members(&[a1, b, c], 10 * SECOND);
        cluster.await_agreement(NET, 5 * SECOND);
        cluster.run_for(6 * SECOND);
        // B stands still while A1 crashes and A2 starts in its place.
        cluster.pause(b);
        let rule = keep(&mut cluster);
        cluster.crash(a1);
        let a2 = cluster.add_at("a2", cluster.address(a1));
        assert_eq!(cluster.location(a2), place);
        cluster.start_instance(a2, &[c]);
        cluster.join_network([a2], NET);
        cluster.create(a2, K2, "of a2");
        cluster.run_for(SECOND);
        let alive_a2 = cluster.take_held();
        cluster.run_until("C holds A1 for failed", 60 * SECOND, |cluster| {
            cluster.state_of(c, a1) == Some(State::Failed)
        });
        let dead_a1 = cluster.take_held();
        assert!(![&alive_a1, &alive_a2, &dead_a1].iter().any(|held| held.is_empty()), "something was said");
        cluster.remove_rule(rule);
        cluster.resume(b);
        let updates = [alive_a2, alive_a1, dead_a1];
        for held in order.iter().flat_map(|index| &updates[*index]) {
            cluster.deliver(held);
            cluster.run_for(MILLISECOND);
        }
        cluster.await_shown(&[b, c], K2, "of a2", 10 * SECOND);
        cluster.await_absent(&[b, c, a2], K1, 30 * SECOND);
        cluster.await_members(&[a2, b, c], 60 * SECOND);
        cluster.run_for(40 * SECOND);
        assert_eq!(cluster.state_of(b, a1), Some(State::Failed), "in the order {order:?}");
        for peer in [b, c] {
            assert_eq!(cluster.shown_so_far(peer, K2), [Some("of a2".to_owned())], "in the order {order:?}");
        }
        cluster.assert_promises();
    }
}

/// One node after the other ends and starts again, under its own name or, at the same address, under a new one.
fn rolling_restart(count: usize, new_names: bool) {
    let mut cluster = Cluster::new(Settings { inspection: None, ..Settings::seeded(107) });
    let mut peers = cluster.start_many(count);
    cluster.join_network(peers.iter().copied(), NET);
    cluster.settle();
    let host = |number: usize| format!("host {number}");
    for (number, peer) in peers.iter().enumerate() {
        cluster.create(*peer, Key::new(NET, "hosts", &host(number)), "first boot");
    }
    cluster.await_agreement(NET, 10 * SECOND);
    for number in 0..count {
        let before = peers[number];
        cluster.crash(before);
        cluster.run_for(200 * MILLISECOND);
        if new_names {
            peers[number] = cluster.add_at(&format!("m{number}"), cluster.address(before));
        }
        let seeds: Vec<Peer> = (1..=3).map(|step| peers[(number + step) % count]).collect();
        cluster.start_instance(peers[number], &seeds);
        cluster.join_network([peers[number]], NET);
        // The earlier instance may still own the key: each instance has its own.
        let (key, value) = (host(number), format!("second boot {number}"));
        let key = if new_names { &value } else { &key };
        cluster.create(peers[number], Key::new(NET, "hosts", key), "second boot");
        cluster.run_for(200 * MILLISECOND);
    }
    cluster.await_members(&peers, 60 * SECOND);
    cluster.await_agreement(NET, 30 * SECOND);
    let visible = cluster.visible(peers[count / 2], NET);
    assert_eq!(visible.len(), count);
    assert!(visible.values().all(|(value, _)| value == b"second boot"));
    cluster.assert_promises();
}

#[test]
fn story_07_rolling_restart_under_the_same_names() {
    rolling_restart(30, false);
}

#[test]
fn story_07_rolling_restart_under_new_names() {
    rolling_restart(30, true);
}

#[test]
#[ignore = "takes eleven minutes in a release build: cargo test --release -p integration-tests --test simulated -- --ignored"]
fn story_07_rolling_restart_of_six_hundred() {
    rolling_restart(600, true);
}

#[test]
fn story_08_same_name_lost_memory() {
    let (mut cluster, [a, b, c]) = cluster(108, ["a", "b", "c"]);
    for number in 0..500 {
        let key = format!("key {number}");
        cluster.create(a, Key::new(NET, "hosts", &key), "earlier");
    }
    cluster.create(a, K, "earlier");
    cluster.await_agreement(NET, 5 * SECOND);
    cluster.crash(a);
    cluster.run_until("A has failed", 60 * SECOND, |cluster| cluster.state_of(b, a) == Some(State::Failed));
    cluster.restart(a, &[b, c]);
    cluster.join_network([a], NET);
    cluster.create(a, K, "later");
    cluster.await_shown(&[b, c], K, "later", 3 * SECOND);
    cluster.await_members(&[a, b, c], 10 * SECOND);
    cluster.await_agreement(NET, 5 * SECOND);
    assert_eq!(cluster.visible(b, NET).len(), 1, "the earlier instance's entries are gone");
    cluster.assert_promises();
}

#[test]
fn story_08_same_name_and_a_clock_that_was_set_back() {
    let (mut cluster, [a, b, c]) = cluster(108, ["a", "b", "c"]);
    cluster.create(a, K1, "earlier");
    cluster.create(b, K, "of b");
    cluster.await_agreement(NET, SECOND);
    cluster.crash(a);
    // A day back: its generation is lower than the one the others know.
    cluster.set_clock_offset(a, -24 * 3600 * 1_000_000);
    cluster.restart(a, &[b, c]);
    cluster.join_network([a], NET);
    cluster.create(a, K2, "later");
    cluster.await_shown(&[b, c], K2, "later", 30 * SECOND);
    cluster.await_members(&[a, b, c], 30 * SECOND);
    cluster.await_absent(&[a, b, c], K1, 10 * SECOND);
    // What the others wrote is a day ahead for it: it takes none of that, and takes nothing away.
    cluster.update(b, K, "of b again");
    cluster.run_for(60 * SECOND);
    for peer in [b, c] {
        assert_eq!(cluster.shown_so_far(peer, K), ["of b", "of b again"].map(|value| Some(value.into())));
    }
    assert!(cluster.value(a, K).is_none());
    let skew = cluster.machine(a).replica().clock_skew();
    assert!(skew.peers_beyond > 0, "it can say so: {skew:?}");
    // When the operator has set its clock, it is one of them.
    cluster.set_clock_offset(a, 0);
    cluster.await_shown(&[a], K, "of b again", 180 * SECOND);
    cluster.update(a, K, "of a");
    cluster.await_shown(&[a, b, c], K, "of a", SECOND);
    cluster.assert_promises();
}

#[test]
fn story_08_same_name_and_a_clock_half_an_hour_behind_in_a_busy_network() {
    let (mut cluster, [a, b, c]) = cluster(108, ["a", "b", "c"]);
    cluster.create(a, K, "earlier");
    cluster.await_agreement(NET, SECOND);
    cluster.crash(a);
    cluster.run_until("A has failed", 60 * SECOND, |cluster| cluster.state_of(b, a) == Some(State::Failed));
    cluster.set_clock_offset(a, -30 * 60 * 1_000_000);
    cluster.restart(a, &[b, c]);
    cluster.join_network([a], NET);
    // It writes at once, before it has heard how late it is.
    cluster.create(a, K, "later");
    cluster.create(b, K1, "of b");
    cluster.await_shown(&[a, b, c], K, "later", 5 * SECOND);
    cluster.await_shown(&[a, c], K1, "of b", 5 * SECOND);
    // From then on it is not behind.
    cluster.update(a, K1, "of a");
    cluster.await_shown(&[b, c], K1, "of a", SECOND);
    cluster.await_members(&[a, b, c], 10 * SECOND);
    cluster.assert_promises();
}

#[test]
fn story_08_a_clock_set_back_where_packets_overtake_each_other() {
    let mut cluster = Cluster::new(Settings::seeded(109));
    let names: Vec<String> = (0..20).map(|number| format!("n{number}")).collect();
    let peers = names.iter().map(|name| cluster.add(name)).collect::<Vec<_>>();
    let (back, others) = peers.split_last().expect("twenty");
    for peer in &peers {
        cluster.start_instance(*peer, &others[..1]);
    }
    cluster.await_members(&peers, 30 * SECOND);
    cluster.join_network(peers.iter().copied(), NET);
    cluster.settle();
    let latency = Latency::Uniform(Duration::ZERO, 300 * MILLISECOND);
    cluster.set_links(Link { latency, ..Link::default() });
    cluster.crash(*back);
    cluster.set_clock_offset(*back, -20 * 60 * 1_000_000);
    cluster.restart(*back, others);
    cluster.join_network([*back], NET);
    cluster.create(*back, K, "back");
    cluster.await_shown(&peers, K, "back", 5 * SECOND);
    cluster.run_for(5 * SECOND);
    // Claims of its first instance are answered by some nodes that know the second already.
    let raised = cluster.machine(*back).membership().statistics().generations_raised;
    assert_eq!(raised, 1);
    cluster.assert_promises();
}

#[test]
fn story_08_the_whole_cluster_loses_its_memory_at_once() {
    let (mut cluster, peers) = cluster(108, ["a", "b", "c", "d"]);
    for (number, peer) in peers.into_iter().enumerate() {
        cluster.create(peer, Key::new(NET, "hosts", &format!("host {number}")), "earlier");
    }
    cluster.await_agreement(NET, SECOND);
    for peer in peers {
        cluster.crash(peer);
    }
    cluster.run_for(SECOND);
    for peer in peers {
        cluster.restart(peer, &peers);
        cluster.join_network([peer], NET);
        cluster.create(peer, Key::new(NET, "services", cluster.name(peer).clone().as_str()), "later");
    }
    cluster.await_members(&peers, 10 * SECOND);
    cluster.await_agreement(NET, 5 * SECOND);
    assert_eq!(cluster.visible(peers[0], NET).len(), 4);
    cluster.assert_promises();
}

#[test]
fn story_09_islands() {
    // All start again together; three sides; and two of which one sees a single seed.
    islands(&[&[0, 1, 2, 3, 4, 5]]);
    islands(&[&[0, 3], &[1, 4], &[2, 5]]);
    islands(&[&[0, 3, 4], &[1, 2, 5]]);
    islands(&[&[0], &[1, 2], &[3, 4, 5]]);
}

/// Of the six, the first three are seeds; `sides` is how they are split when the seeds start again.
fn islands(sides: &[&[usize]]) {
    let mut cluster = Cluster::new(Settings::seeded(109));
    let names = ["s1", "s2", "s3", "w1", "w2", "w3"];
    let peers = names.map(|name| cluster.add(name));
    let [s1, s2, s3, w1, w2, w3] = peers;
    let seeds = [s1, s2, s3];
    for peer in peers {
        cluster.start_instance(peer, &seeds);
    }
    cluster.join_network(peers, NET);
    cluster.settle();
    for seed in seeds {
        cluster.crash(seed);
    }
    cluster.run_until("the seeds have failed", 60 * SECOND, |cluster| {
        [w1, w2, w3]
            .iter()
            .all(|worker| seeds.iter().all(|seed| cluster.state_of(*worker, *seed) == Some(State::Failed)))
    });
    // They start again as new instances, and each side of a split sees one of them.
    let sides: Vec<Vec<Peer>> =
        sides.iter().map(|side| side.iter().map(|index| peers[*index]).collect()).collect();
    cluster.partition(&sides.iter().map(Vec::as_slice).collect::<Vec<_>>());
    for seed in seeds {
        cluster.restart(seed, &seeds);
        cluster.join_network([seed], NET);
    }
    cluster.run_for(60 * SECOND);
    cluster.heal();
    // One rejoin interval.
    cluster.await_members(&peers, 60 * SECOND);
    cluster.create(w1, K, "v");
    cluster.await_shown(&peers, K, "v", SECOND);
    let joins = |cluster: &Cluster| {
        let about_seeds = |event: &NodeEvent| {
            use membership::Event::{Joined, Replaced, SeedAnswered, SeedFailed, SeedsMissing};
            let NodeEvent::Membership(event) = event else { return false };
            matches!(
                event,
                Joined(_) | Replaced { .. } | SeedAnswered { .. } | SeedFailed { .. } | SeedsMissing
            )
        };
        let of = |peer: Peer| cluster.events(peer).iter().filter(|(_, event)| about_seeds(event)).count();
        peers.into_iter().map(of).sum::<usize>()
    };
    // Calls that were under way are answered.
    cluster.run_for(5 * SECOND);
    let before = joins(&cluster);
    cluster.run_for(200 * SECOND);
    assert_eq!(joins(&cluster), before, "no join traffic afterwards");
    cluster.assert_promises();
}
