//! What went wrong with members: identities, seeds, suspicion, leaving, and the dead.

use std::collections::BTreeSet;
use std::time::Duration;

use integration_tests::cluster::{Cluster, Key, MILLISECOND, Peer, SECOND, Settings};
use integration_tests::fabric::{Link, MessageKind, Verdict};
use membership::{Event, State};
use networkdb::NodeEvent;

use super::{K, NET, cluster, many, some};

fn has_reported(cluster: &Cluster, peer: Peer, wanted: impl Fn(&Event) -> bool) -> bool {
    let reported = |event: &NodeEvent| matches!(event, NodeEvent::Membership(event) if wanted(event));
    cluster.events(peer).iter().any(|(_, event)| reported(event))
}

fn failures_declared(cluster: &Cluster, peers: &[Peer]) -> u64 {
    peers.iter().map(|peer| cluster.machine(*peer).membership().statistics().failures_declared).sum()
}

#[test]
fn n19_nobody_is_evicted_for_the_address_of_a_dead_node() {
    let (mut cluster, [a, b, dead]) = cluster(319, ["a", "b", "dead"]);
    cluster.crash(dead);
    cluster.run_until("the dead one has failed", 60 * SECOND, |cluster| {
        [a, b].iter().all(|peer| cluster.state_of(*peer, dead) == Some(State::Failed))
    });
    let living = cluster.add_at("living", cluster.address(dead));
    cluster.start_instance(living, &[a]);
    cluster.join_network([living], NET);
    cluster.create(living, K, "v");
    cluster.await_shown(&[a, b], K, "v", 5 * SECOND);
    // Each second a node contacts the dead one, at the address at which the live one answers.
    cluster.run_for(120 * SECOND);
    for peer in [a, b] {
        assert_eq!(cluster.state_of(peer, living), Some(State::Alive));
        assert_eq!(cluster.state_of(peer, dead), Some(State::Failed));
        assert_eq!(cluster.shown_so_far(peer, K), some(&["v"]));
        assert!(!has_reported(&cluster, peer, |event| {
            matches!(event, Event::Suspected(id) | Event::Failed(id) if id.name.as_str() == "living")
        }));
    }
    cluster.assert_promises();
}

#[test]
fn n22_a_dead_seed_is_called_seldom_and_after_a_refresh_not_at_all() {
    let mut cluster = Cluster::new(Settings::seeded(322));
    let [a, b] = cluster.start(["a", "b"]);
    let dead = cluster.add("dead");
    let c = cluster.start_with_seeds("c", &[a, dead]);
    cluster.await_members(&[a, b, c], 10 * SECOND);
    cluster.run_for(60 * SECOND);
    let streams = cluster.traffic(c).streams;
    cluster.run_for(300 * SECOND);
    // One call in five seconds, and one comparison of member lists each half minute.
    let opened = cluster.traffic(c).streams - streams;
    assert!(opened <= 60 + 14, "{opened} streams");
    // Given other seeds, it calls the dead one no more.
    cluster.join(c, &[a, b]);
    cluster.run_for(10 * SECOND);
    let streams = cluster.traffic(c).streams;
    cluster.run_for(300 * SECOND);
    let opened = cluster.traffic(c).streams - streams;
    assert!(opened <= 14, "{opened} streams");
}

#[test]
fn n23_who_comes_and_goes_quickly_is_there_once() {
    let (mut cluster, [a, b, c]) = cluster(323, ["a", "b", "c"]);
    for round in 0..10 {
        if round % 2 == 0 {
            cluster.leave_network([a], NET);
            cluster.run_until("A has left", 5 * SECOND, |cluster| cluster.inspect(a, NET).is_none());
        } else {
            cluster.kill(a);
            cluster.restart(a, &[b, c]);
        }
        cluster.join_network([a], NET);
        cluster.run_for(50 * MILLISECOND);
        for peer in [b, c] {
            let on_it = cluster.machine(peer).tables().network_peers(NET);
            let once: BTreeSet<_> = on_it.iter().collect();
            assert_eq!(on_it.len(), once.len(), "{on_it:?}");
        }
    }
    cluster.await_members(&[a, b, c], 10 * SECOND);
    cluster.run_until("all are on it, once", 5 * SECOND, |cluster| {
        [a, b, c].iter().all(|peer| cluster.machine(*peer).tables().network_peers(NET).len() == 3)
    });
    cluster.assert_promises();
}

#[test]
fn n25_a_restarted_node_does_not_believe_others_about_itself() {
    let (mut cluster, [a, b, c]) = cluster(325, ["a", "b", "c"]);
    cluster.create(a, K, "v");
    cluster.await_agreement(NET, SECOND);
    cluster.crash(a);
    // The others still claim that A is alive in its first instance, on the network, with an entry.
    cluster.restart(a, &[b, c]);
    cluster.await_members(&[a, b, c], 10 * SECOND);
    cluster.run_for(40 * SECOND);
    assert_eq!(cluster.machine(a).tables().networks(), Vec::<String>::new());
    assert_eq!(cluster.machine(a).tables().network_peers(NET).len(), 2);
    for peer in [b, c] {
        assert_eq!(cluster.machine(peer).tables().network_peers(NET).len(), 2, "nor do they say so any more");
        assert_eq!(cluster.value(peer, K), None);
    }
    cluster.join_network([a], NET);
    cluster.run_for(5 * SECOND);
    assert_eq!(cluster.shown_so_far(a, K), [], "it takes nothing over from its earlier instance");
    cluster.assert_promises();
}

#[test]
fn n26_leaving_comes_to_its_end_whatever_the_others_do() {
    for misfortune in ["cut off", "all paused", "amid a sync", "alone"] {
        let (mut cluster, [a, b, c]) = Cluster::settled(Settings::seeded(326), ["a", "b", "c"], NET);
        cluster.create(a, K, "v");
        match misfortune {
            "cut off" => cluster.partition(&[&[a], &[b, c]]),
            "all paused" => [b, c].into_iter().for_each(|peer| cluster.pause(peer)),
            "amid a sync" => {
                cluster.set_links(Link { bandwidth: Some(2_000), ..Link::with_latency(SECOND) });
                cluster.load(b, NET, "load", "key ", 100, &[b'x'; 500]);
                cluster.run_for(100 * MILLISECOND);
            }
            _ => [b, c].into_iter().for_each(|peer| cluster.crash(peer)),
        }
        cluster.leave(a);
        let taken = cluster.run_until("A has ended", 10 * SECOND, |cluster| !cluster.is_running(a));
        // Two seconds for the tables, two for the leave.
        assert!(taken <= 4_100 * MILLISECOND, "{misfortune}: {taken:?}");
    }
}

#[test]
fn l01_overloaded_nodes_accuse_no_healthy_ones() {
    let (mut cluster, peers) = many(Settings { inspection: None, ..Settings::seeded(401) }, 12);
    cluster.set_links(Link { loss: 0.1, ..Link::with_latency(5 * MILLISECOND) });
    let (overloaded, healthy) = peers.split_at(3);
    for round in 0..60 {
        let peer = overloaded[round % 3];
        cluster.pause(peer);
        cluster.run_for(900 * MILLISECOND);
        cluster.resume(peer);
        cluster.run_for(100 * MILLISECOND);
    }
    for peer in &peers {
        let failed_healthy = has_reported(&cluster, *peer, |event| match event {
            Event::Failed(id) => healthy.iter().any(|healthy| *cluster.name(*healthy) == id.name),
            _ => false,
        });
        assert!(!failed_healthy, "{} held a healthy node for failed", cluster.name(*peer));
    }
    assert!(cluster.fabric().traffic().dropped_datagrams() > 100);
}

#[test]
fn l02_a_starved_node_makes_no_other_fail_and_starts_no_storm() {
    let (mut cluster, peers) = many(Settings::seeded(402), 12);
    let starved = peers[0];
    let before = cluster.fabric().traffic().datagrams;
    for _ in 0..40 {
        cluster.pause(starved);
        cluster.run_for(1_500 * MILLISECOND);
        cluster.resume(starved);
        cluster.run_for(500 * MILLISECOND);
    }
    // Suspicions, objections and their repetitions: a few datagrams more than the two of a quiet node.
    let share = (cluster.fabric().traffic().datagrams - before) / 80 / 12;
    assert!(share <= 12, "{share} datagrams a node and second");
    let starved_name = cluster.name(starved).clone();
    for peer in &peers {
        let failed_another = has_reported(
            &cluster,
            *peer,
            |event| matches!(event, Event::Failed(id) if id.name != starved_name),
        );
        assert!(!failed_another, "{} held a healthy node for failed", cluster.name(*peer));
    }
    cluster.await_members(&peers, 30 * SECOND);
}

#[test]
fn l03_two_nodes_with_one_name_are_told_apart_and_one_is_refused() {
    let (mut cluster, [a, b, c]) = cluster(403, ["a", "b", "c"]);
    cluster.create(a, K, "of the first");
    cluster.await_agreement(NET, SECOND);
    let second = cluster.start_with_seeds("a", &[b, c]);
    cluster.run_for(60 * SECOND);
    assert!(has_reported(&cluster, second, |event| matches!(event, Event::NameConflict(_))));
    assert!(cluster.shows(b, K, "of the first") && cluster.shows(c, K, "of the first"));
    assert_eq!(cluster.shown_so_far(b, K), some(&["of the first"]));
    assert!(cluster.agrees_on_members(b, &[a, b, c]) && cluster.agrees_on_members(c, &[a, b, c]));
}

#[test]
fn l04_nodes_that_come_under_ever_new_names_leave_nothing_behind() {
    let mut settings = Settings { inspection: None, ..Settings::seeded(404) };
    settings.membership.departed_retention = 5 * SECOND;
    settings.membership.memory_retention = 20 * SECOND;
    settings.membership.reap_interval = SECOND;
    let (mut cluster, [a, b, c]) = Cluster::settled(settings, ["a", "b", "c"], NET);
    cluster.create(a, K, "v");
    for number in 0..60 {
        let guest = cluster.start_with_seeds(&format!("guest {number}"), &[a, b]);
        cluster.join_network([guest], NET);
        cluster.create(guest, Key::new(NET, "guests", cluster.name(guest).clone().as_str()), "v");
        cluster.run_for(200 * MILLISECOND);
        if number % 2 == 0 { cluster.leave(guest) } else { cluster.crash(guest) }
    }
    cluster.run_until("all of them are forgotten", 120 * SECOND, |cluster| {
        [a, b, c].iter().all(|peer| {
            let membership = cluster.machine(*peer).membership();
            (membership.members().count(), membership.remembered_count()) == (3, 0)
        })
    });
    for peer in [a, b, c] {
        let state = cluster.inspect(peer, NET).expect("it is on the network");
        assert_eq!((state.entries.len(), state.version_vector.len()), (1, 3), "{}", cluster.name(peer));
    }
}

#[test]
fn l05_r06_r12_the_forgotten_are_not_taught_back() {
    let mut settings = Settings::seeded(405);
    settings.membership.departed_retention = 20 * SECOND;
    settings.membership.memory_retention = 600 * SECOND;
    settings.membership.reap_interval = SECOND;
    let (mut cluster, peers) = many(settings, 8);
    let dead = peers[7];
    cluster.crash(dead);
    cluster.run_until("all have forgotten it", 120 * SECOND, |cluster| {
        peers[..7].iter().all(|peer| cluster.state_of(*peer, dead).is_none())
    });
    cluster.run_for(120 * SECOND);
    assert!(peers[..7].iter().all(|peer| cluster.state_of(*peer, dead).is_none()));
}

#[test]
fn l07_after_a_mass_restart_with_clocks_set_back_all_are_alive_again() {
    let (mut cluster, peers) = many(Settings::seeded(407), 10);
    let crashed = &peers[..9];
    for &peer in crashed {
        cluster.create(peer, Key::new(NET, "hosts", cluster.name(peer).clone().as_str()), "earlier");
    }
    cluster.await_agreement(NET, SECOND);
    for &peer in crashed {
        cluster.crash(peer);
        // Their new generations are lower than the ones the last node remembers.
        cluster.set_clock_offset(peer, -30 * 60 * 1_000_000);
    }
    for &peer in crashed {
        cluster.restart(peer, &peers);
        cluster.join_network([peer], NET);
        cluster.create(peer, Key::new(NET, "hosts", cluster.name(peer).clone().as_str()), "later");
    }
    cluster.await_members(&peers, 15 * SECOND);
    cluster.await_agreement(NET, 5 * SECOND);
    let visible = cluster.visible(peers[9], NET);
    assert_eq!(visible.len(), 9);
    assert!(visible.values().all(|(value, _)| value == b"later"), "{visible:?}");
    cluster.assert_promises();
}

#[test]
fn l08_who_leaves_is_gone_within_a_second_and_the_name_is_free_at_once() {
    let (mut cluster, [a, b, c]) = cluster(408, ["a", "b", "c"]);
    cluster.create(a, K, "of the first");
    cluster.await_shown(&[b, c], K, "of the first", SECOND);
    cluster.leave(a);
    cluster.await_absent(&[b, c], K, SECOND);
    cluster.run_until("A has ended", 10 * SECOND, |cluster| !cluster.is_running(a));
    assert_eq!([b, c].map(|peer| cluster.state_of(peer, a)), [Some(State::Left); 2]);
    cluster.restart(a, &[b]);
    cluster.join_network([a], NET);
    cluster.create(a, K, "v");
    cluster.await_shown(&[b, c], K, "v", SECOND);
    cluster.await_members(&[a, b, c], SECOND);
}

#[test]
fn l09_one_node_with_absurd_versions_is_refused_and_nobody_else() {
    let (mut cluster, [a, b]) = cluster(409, ["a", "b"]);
    let absurd = cluster.add("absurd");
    // Years ahead: so are its generation and the times of its writes.
    cluster.set_clock_offset(absurd, 20 * 365 * 86_400 * 1_000_000);
    cluster.start_instance(absurd, &[a]);
    cluster.join_network([absurd], NET);
    let of_absurd = Key::new(NET, "services", "of the absurd one");
    cluster.create(absurd, of_absurd, "absurd");
    cluster.run_for(10 * SECOND);
    let c = cluster.start_with_seeds("c", &[a]);
    cluster.join_network([c], NET);
    cluster.create(c, K, "sane");
    cluster.await_shown(&[a, b, c], K, "sane", 5 * SECOND);
    cluster.update(a, K, "still sane");
    cluster.await_shown(&[b, c], K, "still sane", SECOND);
    for peer in [a, b, c] {
        assert_eq!(cluster.shown_so_far(peer, of_absurd), [], "on {}", cluster.name(peer));
    }
    let refused: u64 =
        [a, b].iter().map(|peer| cluster.machine(*peer).replica().counters().refused_future).sum();
    assert!(refused > 0, "what it said was refused and counted");
}

#[test]
fn l13_a_long_transfer_fails_nobody() {
    let settings = Settings { inspection: None, watched: false, ..Settings::seeded(413) };
    let (mut cluster, [a, b, c]) = Cluster::settled(settings, ["a", "b", "c"], NET);
    cluster.set_links(Link { bandwidth: Some(50_000), ..Link::with_latency(5 * MILLISECOND) });
    // Ten seconds and more of every link.
    cluster.load(a, NET, "load", "key ", 1_000, &[b'x'; 500]);
    cluster.load(b, NET, "more", "key ", 1_000, &[b'x'; 500]);
    let taken = cluster.await_agreement(NET, 120 * SECOND);
    assert!(taken > 8 * SECOND, "the links were full for {taken:?}");
    let suspected = has_reported(&cluster, a, |event| matches!(event, Event::Suspected(_)));
    assert!(!suspected, "nobody was even suspected");
    assert_eq!(failures_declared(&cluster, &[a, b, c]), 0);
}

#[test]
fn l18_a_farewell_does_not_wait_behind_a_backlog() {
    let settings = Settings { inspection: None, watched: false, ..Settings::seeded(418) };
    let (mut cluster, [a, b, c]) = Cluster::settled(settings, ["a", "b", "c"], NET);
    cluster.set_links(Link { bandwidth: Some(20_000), ..Link::with_latency(5 * MILLISECOND) });
    cluster.load(a, NET, "load", "key ", 1_000, &[b'x'; 500]);
    cluster.run_for(100 * MILLISECOND);
    cluster.leave(a);
    let taken = cluster.run_until("it is known that A has left", 10 * SECOND, |cluster| {
        [b, c].iter().all(|peer| cluster.state_of(*peer, a) == Some(State::Left))
    });
    // The final sync may take two seconds; half a megabyte would take twenty-five.
    assert!(taken < 3 * SECOND, "{taken:?}");
    assert_eq!(failures_declared(&cluster, &[b, c]), 0);
}

#[test]
fn r11_two_sides_that_hold_each_other_for_dead_do_not_shout() {
    let (mut cluster, peers) = many(Settings { inspection: None, ..Settings::seeded(511) }, 10);
    let (left, right) = peers.split_at(5);
    cluster.partition(&[left, right]);
    cluster.run_for(90 * SECOND);
    let before = cluster.fabric().traffic().datagrams;
    cluster.heal();
    cluster.await_members(&peers, 15 * SECOND);
    cluster.run_for(5 * SECOND);
    let seconds = 20;
    let share = (cluster.fabric().traffic().datagrams - before) / seconds / 10;
    assert!(share <= 30, "{share} datagrams a node and second while they find each other again");
}

#[test]
fn r13_a_node_that_was_gone_for_long_returns_as_the_same_with_its_entries() {
    let (mut cluster, [a, b, c]) = cluster(513, ["a", "b", "c"]);
    cluster.create(a, K, "v");
    cluster.await_agreement(NET, SECOND);
    let instance = cluster.id(a);
    cluster.partition(&[&[a], &[b, c]]);
    cluster.run_for(Duration::from_secs(600));
    assert_eq!(cluster.state_of(b, a), Some(State::Failed), "remembered: {:?}", cluster.state_of(b, a));
    cluster.heal();
    cluster.await_shown(&[b, c], K, "v", 20 * SECOND);
    assert_eq!(cluster.id(a), instance);
    let writes = cluster.machine(a).replica().counters().writes;
    assert_eq!(writes, 1, "it wrote nothing again");
    cluster.await_members(&[a, b, c], 20 * SECOND);
    cluster.assert_promises();
    assert_eq!(membership::Config::lan().departed_retention, Duration::from_secs(86_400), "for a whole day");
}

#[test]
fn r14_a_partition_heals_without_seeds_and_what_both_sides_wrote_agrees() {
    let (mut cluster, peers) = many(Settings::seeded(514), 8);
    let (left, right) = peers.split_at(4);
    cluster.create(left[0], K, "before");
    cluster.await_agreement(NET, SECOND);
    cluster.partition(&[left, right]);
    cluster.run_until("each side holds the other for failed", 90 * SECOND, |cluster| {
        let sees_failed = |observer: &Peer, subjects: &[Peer]| {
            subjects.iter().all(|subject| cluster.state_of(*observer, *subject) == Some(State::Failed))
        };
        left.iter().all(|peer| sees_failed(peer, right)) && right.iter().all(|peer| sees_failed(peer, left))
    });
    // Both sides write, and to one key as well.
    cluster.update(left[0], K, "of the left");
    cluster.create(left[1], Key::new(NET, "services", "left"), "v");
    cluster.run_for(SECOND);
    cluster.create(right[0], K, "of the right");
    cluster.create(right[1], Key::new(NET, "services", "right"), "v");
    cluster.run_for(20 * SECOND);
    cluster.heal();
    cluster.await_members(&peers, 15 * SECOND);
    cluster.await_agreement(NET, 10 * SECOND);
    assert!(cluster.shows(left[3], K, "of the right"), "the later write wins");
    assert_eq!(cluster.visible(right[3], NET).len(), 3);
    cluster.assert_promises();
}

#[test]
fn r15_a_late_answer_does_not_hold_a_life_alive_that_is_over() {
    let (mut cluster, [a, b, c]) = cluster(515, ["a", "b", "c"]);
    cluster.create(c, K, "v");
    cluster.await_agreement(NET, SECOND);
    // What C says to B, answers to probes among it, is kept back and delivered after its end, again and again.
    let (of_c, to_b) = (cluster.location(c), cluster.location(b));
    let hold = cluster.rule(move |message| {
        let concerned = message.kind == MessageKind::Datagram && message.from == of_c && message.to == to_b;
        if concerned { Verdict::Hold } else { Verdict::Pass }
    });
    cluster.run_for(3 * SECOND);
    let late = cluster.take_held();
    assert!(!late.is_empty());
    cluster.remove_rule(hold);
    cluster.crash(c);
    for _ in 0..30 {
        cluster.run_for(SECOND);
        for datagram in &late {
            cluster.deliver(datagram);
        }
    }
    assert_eq!(cluster.state_of(b, c), Some(State::Failed));
    cluster.restart(c, &[a, b]);
    cluster.await_members(&[a, b, c], 10 * SECOND);
    for datagram in &late {
        cluster.deliver(datagram);
    }
    cluster.run_for(5 * SECOND);
    assert!(cluster.agrees_on_members(b, &[a, b, c]), "the new instance is not taken for the old");
    assert_eq!(cluster.value(b, K), None);
}
