//! What went wrong with many networks at once, with newcomers, and in networks that are never still.

use std::collections::BTreeSet;
use std::time::Duration;

use integration_tests::cluster::{Cluster, Key, MILLISECOND, Peer, SECOND, Settings};
use integration_tests::fabric::{Link, MessageKind, Verdict};
use networkdb::NodeEvent;

use super::{K, NET};

fn network(number: usize) -> String {
    format!("net-{number:03}")
}

fn sum(cluster: &Cluster, peers: &[Peer], counter: &str) -> u64 {
    let of = |peer: &Peer| {
        let counters = cluster.machine(*peer).replica().counters();
        counters.iter().find(|count| count.name == counter).map_or(0, |count| count.value)
    };
    peers.iter().map(of).sum()
}

/// A wire of a local network: not for free, and not all at one instant.
fn lan(seed: u64) -> Settings {
    let mut settings = Settings::seeded(seed);
    settings.fabric.link = Link::with_latency(MILLISECOND);
    settings
}

#[test]
fn n09_leaving_many_networks_at_once_loses_no_acknowledged_delete() {
    const NETWORKS: usize = 30;
    const KEYS: [&str; 3] = ["a", "b", "c"];
    let mut cluster = Cluster::new(lan(309));
    let [a, b, c] = cluster.start(["a", "b", "c"]);
    for number in 0..NETWORKS {
        cluster.join_network([a, b, c], &network(number));
    }
    cluster.settle();
    for number in 0..NETWORKS {
        for key in KEYS {
            cluster.create(b, Key::new(&network(number), "t", key), "v");
        }
    }
    for number in 0..NETWORKS {
        cluster.await_agreement(&network(number), 5 * SECOND);
    }
    cluster.run_for(20 * SECOND);
    // What A deletes is acknowledged, and lost on its way to the others: the final syncs have to bring it.
    let place = cluster.location(a);
    cluster.rule(move |message| {
        let gossip =
            message.from == place && message.kind == MessageKind::Datagram && message.is_for_tables();
        if gossip && !message.is_attachment_lists() { Verdict::Drop } else { Verdict::Pass }
    });
    for number in 0..NETWORKS {
        for key in KEYS {
            cluster.delete(a, Key::new(&network(number), "t", key));
        }
    }
    for number in 0..NETWORKS {
        cluster.leave_network([a], &network(number));
    }
    cluster.run_until("A has left all", 5 * SECOND, |cluster| {
        (0..NETWORKS).all(|number| cluster.inspect(a, &network(number)).is_none())
    });
    cluster.run_for(SECOND);
    for number in 0..NETWORKS {
        for peer in [b, c] {
            assert_eq!(cluster.visible(peer, &network(number)).len(), 0, "{}", network(number));
        }
    }
    let unsaved = |(_, event): &&(Duration, NodeEvent)| matches!(event, NodeEvent::NetworkLeft { final_syncs, .. } if final_syncs.completed < 2);
    assert_eq!(cluster.events(a).iter().filter(unsaved).count(), 0);
    assert_eq!(sum(&cluster, &[a, b, c], "refused_busy"), 0);
    cluster.assert_promises();
}

#[test]
fn who_leaves_and_reaches_nobody_says_that_it_is_lost() {
    let mut cluster = Cluster::new(lan(1_309));
    let [a, b] = cluster.start(["a", "b"]);
    cluster.join_network([a, b], NET);
    cluster.settle();
    cluster.isolate_tables(a, &[b]);
    cluster.create(a, K, "v");
    cluster.leave_network([a], NET);
    let taken = cluster.run_until("A has left", 5 * SECOND, |cluster| cluster.inspect(a, NET).is_none());
    assert!(taken < 3 * SECOND, "{taken:?}");
    let left: Vec<_> = cluster
        .events(a)
        .iter()
        .filter_map(|(_, event)| match event {
            NodeEvent::NetworkLeft { final_syncs, .. } => Some(final_syncs.saved()),
            _ => None,
        })
        .collect();
    assert_eq!(left, [false]);
}

#[test]
fn sixty_shared_networks_agree_soon_after_a_heal_and_nobody_is_turned_away() {
    const NETWORKS: usize = 60;
    let mut settings = lan(1_409);
    settings.watched = false;
    settings.inspection = None;
    let mut cluster = Cluster::new(settings);
    let peers = cluster.start_many(10);
    let (left, right) = peers.split_at(5);
    for number in 0..NETWORKS {
        cluster.join_network(peers.iter().copied(), &network(number));
    }
    cluster.settle();
    cluster.partition(&[left, right]);
    cluster.run_for(40 * SECOND);
    for number in 0..NETWORKS {
        cluster.create(left[number % 5], Key::new(&network(number), "t", "of the left"), "v");
        cluster.create(right[number % 5], Key::new(&network(number), "t", "of the right"), "v");
    }
    cluster.run_for(20 * SECOND);
    let before = sum(&cluster, &peers, "refused_busy");
    cluster.heal();
    cluster.await_members(&peers, 60 * SECOND);
    let agreed = cluster.run_until("all agree on all", 5 * SECOND, |cluster| {
        (0..NETWORKS)
            .all(|number| peers.iter().all(|peer| cluster.visible(*peer, &network(number)).len() == 2))
    });
    cluster.run_for(10 * SECOND);
    let refused = sum(&cluster, &peers, "refused_busy") - before;
    assert!(refused <= 20, "{refused} sessions refused as busy; agreed after {agreed:?}");
}

#[test]
fn two_hundred_shared_networks_agree_soon_after_a_heal_and_nobody_is_turned_away() {
    const NETWORKS: usize = 200;
    let mut settings = lan(1_419);
    settings.watched = false;
    settings.inspection = None;
    let mut cluster = Cluster::new(settings);
    let peers = cluster.start(["a", "b", "c"]);
    let [a, b, c] = peers;
    for number in 0..NETWORKS {
        cluster.join_network(peers, &network(number));
        for peer in peers {
            let key = cluster.name(peer).to_string();
            cluster.create(peer, Key::new(&network(number), "t", &key), "old");
        }
    }
    cluster.settle();
    cluster.partition(&[&[a, b], &[c]]);
    cluster.run_until("the sides hide each other", 60 * SECOND, |cluster| {
        let alone = |peer, number| cluster.visible(peer, &network(number)).len() == 1;
        (0..NETWORKS).all(|number| alone(c, number))
            && [a, b].iter().all(|peer| cluster.visible(*peer, &network(0)).len() == 2)
    });
    for number in 0..NETWORKS {
        let network = network(number);
        cluster.update(a, Key::new(&network, "t", "a"), "new");
        cluster.delete(b, Key::new(&network, "t", "b"));
        cluster.create(c, Key::new(&network, "t", "of the other side"), "new");
    }
    cluster.run_for(20 * SECOND);
    let counters = |cluster: &Cluster| {
        ["refused_busy", "shown_uncompared", "sessions_opened"].map(|counter| sum(cluster, &peers, counter))
    };
    let before = counters(&cluster);
    cluster.heal();
    let met = cluster.await_members(&peers, 60 * SECOND);
    let agreed = cluster.run_until("all agree on all", 5 * SECOND, |cluster| {
        let shows = |peer: &Peer, number| {
            let shown = cluster.visible(*peer, &network(number));
            let values: Vec<_> = shown.into_iter().map(|((_, key), (value, _))| (key, value)).collect();
            let wanted = [("a", "new"), ("c", "old"), ("of the other side", "new")];
            values == wanted.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()))
        };
        (0..NETWORKS).all(|number| peers.iter().all(|peer| shows(peer, number)))
    });
    let after = counters(&cluster);
    println!("all met after {met:?}, agreed {agreed:?} later, {} sessions", after[2] - before[2]);
    assert_eq!(after[..2], before[..2], "refused as busy, shown uncompared");
    assert!(agreed < SECOND, "{agreed:?}");
}

#[test]
fn a_newcomer_is_ready_when_it_holds_what_the_others_hold_and_not_before() {
    const ENTRIES: usize = 200;
    let mut settings = lan(1_509);
    settings.watched = false;
    settings.inspection = None;
    let mut cluster = Cluster::new(settings);
    let peers = cluster.start_many(43);
    let (old, new) = peers.split_at(3);
    cluster.join_network(old.iter().copied(), NET);
    cluster.settle();
    cluster.load(old[0], NET, "t", "k", ENTRIES, &[7; 100]);
    cluster.await_agreement(NET, 5 * SECOND);
    // Forty at nearly the same time: most of whom each of them knows are as new as itself.
    for peer in new {
        cluster.join_network([*peer], NET);
        cluster.run_for(Duration::from_micros(200));
    }
    let mut ready = BTreeSet::new();
    let mut early = 0;
    for _ in 0..10_000 {
        cluster.run_for(MILLISECOND);
        for peer in new {
            if cluster.is_ready(*peer, NET) && ready.insert(*peer) {
                let held = cluster.machine(*peer).tables().statistics(NET).map_or(0, |counts| counts.entries);
                early += usize::from(held < ENTRIES);
            }
        }
        if ready.len() == new.len() {
            break;
        }
    }
    assert_eq!((ready.len(), early), (new.len(), 0));
}

#[test]
fn forty_networks_joined_at_once_are_ready_when_they_are_filled() {
    const NETWORKS: usize = 40;
    const ENTRIES: usize = 200;
    let mut settings = lan(1_609);
    settings.watched = false;
    settings.inspection = None;
    let mut cluster = Cluster::new(settings);
    let [a, b, c] = cluster.start(["a", "b", "c"]);
    for number in 0..NETWORKS {
        cluster.join_network([a, b], &network(number));
    }
    cluster.settle();
    for number in 0..NETWORKS {
        cluster.load(a, &network(number), "t", "k", ENTRIES, &[7; 100]);
    }
    for number in 0..NETWORKS {
        cluster.await_agreement(&network(number), 5 * SECOND);
    }
    for number in 0..NETWORKS {
        cluster.join_network([c], &network(number));
    }
    let (mut ready, mut early) = (BTreeSet::new(), 0);
    for _ in 0..10_000 {
        cluster.run_for(MILLISECOND);
        for number in 0..NETWORKS {
            if cluster.is_ready(c, &network(number)) && ready.insert(number) {
                let counts = cluster.machine(c).tables().statistics(&network(number));
                early += usize::from(counts.map_or(0, |counts| counts.entries) < ENTRIES);
            }
        }
        if ready.len() == NETWORKS {
            break;
        }
    }
    assert_eq!((ready.len(), early), (NETWORKS, 0));
}

#[test]
fn a_network_that_is_never_still_agrees_on_what_a_leaver_had_overwritten() {
    let mut settings = lan(1_709);
    settings.watched = false;
    settings.inspection = None;
    let mut cluster = Cluster::new(settings);
    let peers = cluster.start_many(6);
    let (leaver, informed, owner) = (peers[0], peers[1], peers[2]);
    let remaining = &peers[1..];
    cluster.join_network(peers.iter().copied(), NET);
    cluster.settle();
    let keys: Vec<String> = (0..10).map(|number| format!("k{number}")).collect();
    for key in &keys {
        cluster.create(owner, Key::new(NET, "t", key), "of the owner");
    }
    let busy: Vec<String> = remaining.iter().map(|peer| format!("busy {}", cluster.name(*peer))).collect();
    for (peer, key) in remaining.iter().zip(&busy) {
        cluster.create(*peer, Key::new(NET, "t", key), "0");
    }
    cluster.await_agreement(NET, 5 * SECOND);
    // Only one member hears of what the leaver overwrites, and nobody hears more of it from there.
    let others: Vec<Peer> = peers[2..].to_vec();
    let mut rules = cluster.isolate_tables(leaver, &others);
    rules.extend(cluster.isolate_tables(informed, &others));
    for key in &keys[..5] {
        cluster.update(leaver, Key::new(NET, "t", key), "of the leaver");
    }
    cluster.await_shown(&[informed], Key::new(NET, "t", "k0"), "of the leaver", 5 * SECOND);
    cluster.leave_network([leaver], NET);
    let round = |cluster: &mut Cluster, round: usize| {
        for (peer, key) in remaining.iter().zip(&busy) {
            cluster.update(*peer, Key::new(NET, "t", key), format!("{round}"));
        }
        cluster.run_for(100 * MILLISECOND);
    };
    for number in 0..40 {
        round(&mut cluster, number);
    }
    cluster.remove_rules(rules);
    let syncs = sum(&cluster, remaining, "syncs_completed");
    let shown = |cluster: &Cluster, peer: Peer| {
        keys.iter().filter(|key| cluster.value(peer, Key::new(NET, "t", key)).is_some()).count()
    };
    let mut agreed = None;
    for number in 0..50 {
        round(&mut cluster, number);
        if remaining.iter().all(|peer| shown(&cluster, *peer) == 5) {
            agreed.get_or_insert(number * 100);
        }
    }
    let counts: Vec<usize> = remaining.iter().map(|peer| shown(&cluster, *peer)).collect();
    assert_eq!(counts, vec![5; remaining.len()], "what all show of the ten");
    let syncs = sum(&cluster, remaining, "syncs_completed") - syncs;
    assert!(syncs < 60, "{syncs} full syncs in five seconds; agreed after {agreed:?} ms");
}
