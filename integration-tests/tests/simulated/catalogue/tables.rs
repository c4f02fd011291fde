//! What went wrong with tables: versions, tombstones, attachments, and what depends on them.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use integration_tests::check::Version;
use integration_tests::cluster::{Cluster, Key, MILLISECOND, Peer, SECOND, Settings};
use integration_tests::fabric::{HeldDatagram, Link, MessageKind, Verdict};
use membership::State;
use tabledb::WriteError;

use super::{K, NET, cluster, many, some};

const K1: Key<'static> = Key::new(NET, "services", "k1");
const K2: Key<'static> = Key::new(NET, "services", "k2");

fn writes(cluster: &Cluster, peers: &[Peer]) -> u64 {
    peers.iter().map(|peer| cluster.machine(*peer).replica().counters().writes).sum()
}

fn has_left(cluster: &mut Cluster, peer: Peer) {
    cluster.run_until("the network is left", 5 * SECOND, |cluster| cluster.inspect(peer, NET).is_none());
}

#[test]
fn n01_nobody_but_a_writer_makes_versions() {
    let (mut cluster, [a, b, c]) = cluster(301, ["a", "b", "c"]);
    cluster.create(a, K, "first stay");
    cluster.await_agreement(NET, SECOND);
    cluster.leave_network([a], NET);
    has_left(&mut cluster, a);
    cluster.join_network([a], NET);
    cluster.create(a, K, "second stay");
    cluster.await_shown(&[b, c], K, "second stay", SECOND);
    // Each is compared with each several times.
    cluster.run_for(200 * SECOND);
    for peer in [b, c] {
        assert_eq!(cluster.shown_so_far(peer, K), some(&["first stay", "", "second stay"]));
        assert_eq!(cluster.held(peer, K).map(|held| held.version.dot.owner), Some(cluster.id(a)));
    }
    assert_eq!(writes(&cluster, &[b, c]), 0);
    cluster.assert_promises();
}

#[test]
fn n03_a_sync_brings_the_list_that_its_entries_depend_on() {
    let mut cluster = Cluster::new(Settings::seeded(303));
    let [a, b, c] = cluster.start(["a", "b", "c"]);
    cluster.join_network([b, c], NET);
    cluster.settle();
    cluster.run_for(6 * SECOND);
    // B gets no datagram about tables or lists at all.
    let to_b = cluster.location(b);
    cluster.rule(move |message| {
        let concerned =
            message.kind == MessageKind::Datagram && message.is_for_tables() && message.to == to_b;
        if concerned { Verdict::Drop } else { Verdict::Pass }
    });
    cluster.join_network([a], NET);
    cluster.create(a, K, "v");
    cluster.await_shown(&[b], K, "v", 5 * SECOND);
    assert_eq!(cluster.machine(b).tables().network_peers(NET).len(), 3);
    cluster.await_agreement(NET, 5 * SECOND);
    cluster.assert_promises();
}

#[test]
fn n04_after_a_flap_everything_is_back_and_nothing_was_written_again() {
    for seconds in [10, 20, 30] {
        let names = ["a", "b", "c", "d", "e"];
        let (mut cluster, peers) = Cluster::settled(Settings::seeded(304), names, NET);
        for peer in peers {
            for number in 0..4 {
                let key = format!("{} {number}", cluster.name(peer));
                cluster.create(peer, Key::new(NET, "services", &key), "v");
            }
        }
        cluster.await_agreement(NET, SECOND);
        let versions = |cluster: &Cluster, peer: Peer| -> BTreeMap<(String, String), Version> {
            let entries = cluster.inspect(peer, NET).map(|state| state.entries).unwrap_or_default();
            entries.into_iter().map(|(place, held)| (place, held.version)).collect()
        };
        let before = (versions(&cluster, peers[1]), writes(&cluster, &peers));
        let [flapping, others @ ..] = peers;
        cluster.partition(&[&[flapping], &others]);
        cluster.run_for(seconds * SECOND);
        if seconds > 10 {
            assert_eq!(cluster.visible(peers[1], NET).len(), 16, "what the flapping node owns is hidden");
        }
        cluster.heal();
        cluster.run_until("all show all", 15 * SECOND, |cluster| {
            peers.iter().all(|peer| cluster.visible(*peer, NET).len() == 20)
        });
        assert_eq!((versions(&cluster, peers[1]), writes(&cluster, &peers)), before);
        cluster.await_members(&peers, 30 * SECOND);
        cluster.assert_promises();
    }
}

#[test]
fn n05_a_hidden_entry_whose_tombstone_is_gone_stays_away() {
    let settings = Settings { reap_time: 10 * SECOND, ..Settings::seeded(305) };
    let (mut cluster, [a, b, c]) = Cluster::settled(settings, ["a", "b", "c"], NET);
    cluster.create(a, K, "v");
    cluster.await_agreement(NET, SECOND);
    cluster.partition(&[&[a, c], &[b]]);
    cluster.run_until("B holds A for failed", 60 * SECOND, |cluster| {
        cluster.state_of(b, a) == Some(State::Failed)
    });
    cluster.delete(c, K);
    cluster.run_for(15 * SECOND);
    assert_eq!((cluster.held(a, K), cluster.held(c, K)), (None, None), "the tombstone is reaped");
    assert!(cluster.held(b, K).is_some_and(|held| held.value.is_some() && !held.shown), "hidden, not gone");
    cluster.heal();
    cluster.await_members(&[a, b, c], 30 * SECOND);
    cluster.run_until("B has dropped it", 10 * SECOND, |cluster| cluster.held(b, K).is_none());
    cluster.run_for(40 * SECOND);
    assert_eq!(cluster.shown_so_far(b, K), some(&["v", ""]));
    cluster.assert_promises();
}

#[test]
fn n06_equal_lamport_times_have_one_winner_in_every_order_of_arrival() {
    let (mut cluster, peers) = cluster(306, ["a", "b", "c", "d", "e"]);
    let [a, b, c, d, e] = peers;
    let hold = cluster.rule(|message| if message.is_gossip() { Verdict::Hold } else { Verdict::Pass });
    for (peer, value) in [(a, "of a"), (b, "of b"), (c, "of c")] {
        cluster.create(peer, K, value);
    }
    let times: BTreeSet<u64> =
        [a, b, c].iter().filter_map(|peer| cluster.held(*peer, K)).map(|held| held.version.time).collect();
    assert_eq!(times.len(), 1, "the Lamport times are equal");
    cluster.run_for(5 * MILLISECOND);
    let held = cluster.take_held();
    let to = |cluster: &Cluster, peer: Peer| -> Vec<HeldDatagram> {
        let place = cluster.location(peer);
        held.iter().filter(|datagram| cluster.fabric().location(datagram.to()) == place).cloned().collect()
    };
    let (to_d, to_e) = (to(&cluster, d), to(&cluster, e));
    assert_eq!((to_d.len(), to_e.len()), (3, 3));
    // Each order of three; D and E get opposite ones.
    for (round, order) in [[0, 1, 2], [1, 0, 2], [2, 0, 1]].into_iter().enumerate() {
        for index in order {
            cluster.deliver(&to_d[index]);
        }
        for index in order.into_iter().rev() {
            cluster.deliver(&to_e[index]);
        }
        cluster.run_for(MILLISECOND);
        assert!(cluster.shows(d, K, "of c") && cluster.shows(e, K, "of c"), "round {round}");
    }
    cluster.remove_rule(hold);
    cluster.await_agreement(NET, 5 * SECOND);
    let activity =
        |cluster: &Cluster| peers.iter().map(|peer| cluster.follower(*peer).received().len()).sum::<usize>();
    let before = activity(&cluster);
    cluster.run_for(100 * SECOND);
    assert_eq!(activity(&cluster), before, "later comparisons do nothing");
    cluster.assert_promises();
}

#[test]
fn n07_writers_in_many_threads_never_send_an_older_value_after_a_newer_one() {
    // The order in which threads write is the system's, so only what comes out in the end is compared.
    let settings = Settings { watched: false, inspection: None, ..Settings::seeded(307) };
    let (mut cluster, [a, b, c]) = Cluster::settled(settings, ["a", "b", "c"], NET);
    let machine = cluster.machine(a);
    // In the simulation's time: the database's own methods would read the clocks of this machine.
    let now = cluster.instant(a);
    machine.replica().create(NET, "services", "k", *b"first", now).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for number in 0..200 {
                    let value = format!("{thread} {number}").into_bytes();
                    machine.replica().update(NET, "services", "k", value, now).unwrap();
                }
            });
        }
    });
    cluster.wake(a);
    let last = cluster.value(a, K);
    cluster.run_for(10 * SECOND);
    assert!(last.is_some() && cluster.value(a, K) == last);
    assert_eq!((cluster.value(b, K), cluster.value(c, K)), (last.clone(), last));
}

#[test]
fn n08_a_late_write_of_who_has_left_is_not_let_in() {
    let (mut cluster, [a, b]) = cluster(308, ["a", "b"]);
    let hold = cluster.on_tables(a, b, Verdict::Hold);
    cluster.create(a, K, "v");
    cluster.run_for(5 * MILLISECOND);
    let late = cluster.take_held();
    assert!(!late.is_empty());
    cluster.remove_rule(hold);
    // The final sync, which would bring it in time, fails.
    cluster.rule(|message| match message.kind == MessageKind::Frame && message.is_for_tables() {
        true => Verdict::Drop,
        false => Verdict::Pass,
    });
    cluster.leave_network([a], NET);
    cluster.run_until("B knows that A has left", 5 * SECOND, |cluster| {
        cluster.machine(b).tables().network_peers(NET).len() == 1
    });
    for datagram in &late {
        cluster.deliver(datagram);
    }
    cluster.run_for(SECOND);
    assert_eq!((cluster.shown_so_far(b, K), cluster.held(b, K)), (vec![], None));
    assert!(cluster.machine(b).replica().counters().refused_ended > 0);
    cluster.assert_promises();
}

#[test]
fn n09_leaving_does_not_outrun_the_last_deletes() {
    let (mut cluster, [a, b, c]) = cluster(309, ["a", "b", "c"]);
    cluster.create(a, K1, "of a");
    cluster.create(b, K2, "of b");
    cluster.await_agreement(NET, SECOND);
    // Nobody hears A's gossip any more.
    let of_a = cluster.location(a);
    cluster.rule(move |message| match message.is_gossip() && message.from == of_a {
        true => Verdict::Drop,
        false => Verdict::Pass,
    });
    cluster.delete(a, K1);
    cluster.delete(a, K2);
    cluster.leave_network([a], NET);
    cluster.await_absent(&[b, c], K1, 3 * SECOND);
    cluster.await_absent(&[b, c], K2, 3 * SECOND);
    has_left(&mut cluster, a);
    assert!(matches!(cluster.try_create(a, K, "v"), Err(WriteError::NotJoined { .. })));
    cluster.run_until("B and C know who is left on it", 5 * SECOND, |cluster| {
        [b, c].iter().all(|peer| cluster.machine(*peer).tables().network_peers(NET).len() == 2)
    });
    cluster.run_for(40 * SECOND);
    for peer in [b, c] {
        assert_eq!(cluster.shown_so_far(peer, K2), some(&["of b", ""]));
    }
    cluster.assert_promises();
}

#[test]
fn n10_outages_below_at_and_beyond_the_reap_time() {
    for seconds in [3, 9, 10, 11, 30] {
        let settings = Settings { reap_time: 10 * SECOND, ..Settings::seeded(310) };
        let (mut cluster, [a, b, c]) = Cluster::settled(settings, ["a", "b", "c"], NET);
        cluster.create(a, K, "v");
        cluster.await_agreement(NET, SECOND);
        let rules = cluster.isolate_tables(c, &[a, b]);
        cluster.delete(a, K);
        cluster.run_for(seconds * SECOND);
        if seconds != 10 {
            let reaped = [a, b].map(|peer| cluster.held(peer, K).is_none());
            assert_eq!(reaped, [seconds > 10; 2], "whether the tombstone is reaped after {seconds} s");
        }
        assert!(cluster.shows(c, K, "v"));
        assert_eq!(cluster.state_of(a, c), Some(State::Alive), "only tables do not pass");
        cluster.remove_rules(rules);
        cluster.await_absent(&[c], K, 10 * SECOND);
        cluster.run_for(35 * SECOND);
        assert_eq!(cluster.shown_so_far(b, K), some(&["v", ""]), "after {seconds} s");
        cluster.assert_promises();
    }
}

#[test]
fn n11_no_receiver_starts_the_reap_time_anew() {
    let settings = Settings { reap_time: 60 * SECOND, ..Settings::seeded(311) };
    let (mut cluster, [a, b]) = Cluster::settled(settings, ["a", "b"], NET);
    cluster.create(a, K, "v");
    cluster.await_shown(&[b], K, "v", SECOND);
    cluster.delete(b, K);
    let mut source = a;
    for (name, left) in [("c", 40), ("d", 20)] {
        cluster.run_for(20 * SECOND);
        // Each newcomer learns of the delete from the one before it only.
        let others = cluster.running();
        let newcomer = cluster.start_with_seeds(name, &[source]);
        for other in others.into_iter().filter(|other| *other != source) {
            cluster.isolate_tables(newcomer, &[other]);
        }
        cluster.join_network([newcomer], NET);
        cluster.run_until("the newcomer holds the tombstone", 10 * SECOND, |cluster| {
            cluster.held(newcomer, K).is_some()
        });
        let residual = cluster.held(newcomer, K).and_then(|held| held.residual);
        assert!(residual.is_some_and(|residual| residual <= left * SECOND), "{residual:?}");
        source = newcomer;
    }
    cluster.run_for(21 * SECOND);
    assert!(cluster.running().iter().all(|peer| cluster.held(*peer, K).is_none()), "all are reaped in time");
}

#[test]
fn n12_steps_of_the_wall_clock_change_neither_order_nor_reaping() {
    const MINUTES: i64 = 60 * 1_000_000;
    let settings = Settings { reap_time: 20 * SECOND, ..Settings::seeded(312) };
    let (mut cluster, [a, b]) = Cluster::settled(settings, ["a", "b"], NET);
    cluster.create(b, K, "v");
    for minutes in [-30, 30, -10] {
        cluster.kill(a);
        cluster.set_clock_offset(a, minutes * MINUTES);
        cluster.restart(a, &[b]);
        cluster.join_network([a], NET);
        cluster.run_until("A holds what B holds", 10 * SECOND, |cluster| cluster.value(a, K).is_some());
        cluster.update(a, K, format!("of a, {minutes}"));
        cluster.await_shown(&[b], K, &format!("of a, {minutes}"), SECOND);
        cluster.update(b, K, format!("of b, {minutes}"));
        cluster.await_shown(&[a], K, &format!("of b, {minutes}"), SECOND);
    }
    cluster.delete(a, K);
    cluster.await_absent(&[b], K, SECOND);
    cluster.set_clock_offset(a, 30 * MINUTES);
    cluster.run_for(18 * SECOND);
    assert!(cluster.held(a, K).is_some() && cluster.held(b, K).is_some(), "not yet");
    cluster.run_for(3 * SECOND);
    assert_eq!((cluster.held(a, K), cluster.held(b, K)), (None, None));
    cluster.assert_promises();
}

#[test]
fn n13_a_failure_is_noticed_within_ten_seconds_and_writes_nothing() {
    let (mut cluster, [a, b, c]) = cluster(313, ["a", "b", "c"]);
    cluster.create(a, K, "v");
    cluster.create(b, Key::new(NET, "services", "of b"), "v");
    cluster.await_agreement(NET, SECOND);
    cluster.run_for(5 * SECOND);
    let (before, held) =
        (writes(&cluster, &[b, c]), cluster.inspect(c, NET).map(|state| state.entries.len()));
    cluster.crash(a);
    cluster.await_absent(&[b, c], K, 10 * SECOND);
    assert_eq!(writes(&cluster, &[b, c]), before);
    assert_eq!(cluster.inspect(c, NET).map(|state| state.entries.len()), held);
    assert!([b, c].iter().all(|peer| cluster.held(*peer, K).is_some_and(|held| !held.shown)), "hidden");
    cluster.assert_promises();
}

#[test]
fn n24_what_is_written_right_after_rejoining_arrives() {
    let (mut cluster, [a, b, c]) = cluster(324, ["a", "b", "c"]);
    for round in 0..5 {
        // Queued when it leaves, and queued when it has just come back.
        cluster.create(a, K, format!("before {round}"));
        cluster.leave_network([a], NET);
        has_left(&mut cluster, a);
        cluster.join_network([a], NET);
        cluster.create(a, K1, format!("k1 {round}"));
        cluster.create(a, K2, format!("k2 {round}"));
        cluster.await_shown(&[b, c], K1, &format!("k1 {round}"), SECOND);
        cluster.await_shown(&[b, c], K2, &format!("k2 {round}"), SECOND);
        assert_eq!(cluster.value(b, K), None);
    }
    cluster.assert_promises();
}

#[test]
fn n39_similar_names_are_different_names() {
    let mut cluster = Cluster::new(Settings::seeded(339));
    let [a, b] = cluster.start(["a", "b"]);
    cluster.join_network([a, b], "nw1");
    cluster.join_network([a], "nw10");
    cluster.join_network([b], "nw1/x");
    cluster.settle();
    cluster.create(a, Key::new("nw10", "t", "k"), "ten");
    cluster.create(b, Key::new("nw1/x", "t", "k"), "slash");
    // One path, three entries.
    let (table, key, empty) =
        (Key::new("nw1", "t/a", "b"), Key::new("nw1", "t", "a/b"), Key::new("nw1", "t", ""));
    cluster.create(a, table, "in the table");
    cluster.create(a, key, "in the key");
    cluster.create(a, empty, "under no key");
    cluster.await_shown(&[b], table, "in the table", SECOND);
    cluster.await_shown(&[b], key, "in the key", SECOND);
    cluster.await_shown(&[b], empty, "under no key", SECOND);
    cluster.run_for(35 * SECOND);
    assert_eq!(cluster.visible(b, "nw1").len(), 3);
    assert_eq!(cluster.visible(b, "nw10").len(), 0);
    assert_eq!(cluster.visible(a, "nw1/x").len(), 0);
    cluster.leave_network([a], "nw1");
    cluster.run_for(5 * SECOND);
    assert!(cluster.shows(a, Key::new("nw10", "t", "k"), "ten"));
    cluster.assert_promises();
}

#[test]
fn n40_an_empty_value_is_a_value() {
    let (mut cluster, [a, b]) = cluster(340, ["a", "b"]);
    cluster.create(a, K, "");
    cluster.await_shown(&[b], K, "", SECOND);
    assert!(cluster.try_create(b, K, "again").is_err(), "it is there");
    cluster.update(b, K, "full");
    cluster.await_shown(&[a], K, "full", SECOND);
    cluster.update(a, K, "");
    cluster.await_shown(&[b], K, "", SECOND);
    // By a sync as well.
    let c = cluster.start_with_seeds("c", &[a]);
    cluster.join_network([c], NET);
    cluster.await_shown(&[c], K, "", 5 * SECOND);
    cluster.delete(c, K);
    cluster.await_absent(&[a, b], K, SECOND);
    cluster.assert_promises();
}

#[test]
fn r01_r02_r05_a_sync_cut_at_any_frame_claims_nothing_it_did_not_bring() {
    let mut cuts = 0;
    for cut in 1..=10 {
        let settings = Settings { inspection: Some(5 * MILLISECOND), ..Settings::seeded(501) };
        let (mut cluster, [a, b]) = Cluster::settled(settings, ["a", "b"], NET);
        // Several chunks.
        cluster.load(a, NET, "hosts", "key ", 48, &[b'x'; 6_000]);
        cluster.await_agreement(NET, 5 * SECOND);
        for number in (0..48).step_by(3) {
            let key = format!("key {number}");
            cluster.delete([a, b][number % 2], Key::new(NET, "hosts", &key));
        }
        cluster.await_agreement(NET, 5 * SECOND);
        let c = cluster.start_with_seeds("c", &[a, b]);
        cluster.await_members(&[a, b, c], 5 * SECOND);
        cluster.set_links(Link { bandwidth: Some(1_000_000), ..Link::with_latency(10 * MILLISECOND) });
        let (place, frames) = (cluster.location(c), Rc::new(Cell::new(0)));
        let seen = frames.clone();
        cluster.rule(move |message| {
            if message.kind != MessageKind::Frame || message.from != place && message.to != place {
                return Verdict::Pass;
            }
            seen.set(seen.get() + 1);
            if seen.get() == cut { Verdict::Drop } else { Verdict::Pass }
        });
        cluster.join_network([c], NET);
        // What it holds in between is checked every five milliseconds.
        cluster.await_agreement(NET, 20 * SECOND);
        assert_eq!(cluster.visible(c, NET).len(), 32, "cut at frame {cut}");
        cuts += usize::from(frames.get() > cut);
        cluster.assert_promises();
    }
    assert_eq!(cuts, 10, "each of the syncs was cut and went on");
}

#[test]
fn r03_r04_a_sync_with_one_that_is_behind_moves_nothing_back() {
    let (mut cluster, [a, b, c]) = cluster(503, ["a", "b", "c"]);
    cluster.create(a, K, "1");
    cluster.create(b, K1, "deleted");
    cluster.await_agreement(NET, SECOND);
    let rules = cluster.isolate_tables(c, &[a, b]);
    for value in ["2", "3", "4"] {
        cluster.update(a, K, value);
        cluster.await_shown(&[b], K, value, SECOND);
    }
    cluster.delete(a, K1);
    cluster.run_for(SECOND);
    // C, which is behind, writes too: its sync has something to bring, and must bring nothing else.
    cluster.create(c, K2, "of c");
    cluster.remove_rules(rules);
    cluster.await_agreement(NET, 10 * SECOND);
    cluster.run_for(40 * SECOND);
    for peer in [a, b] {
        assert_eq!(cluster.shown_so_far(peer, K), some(&["1", "2", "3", "4"]));
        assert_eq!(cluster.shown_so_far(peer, K1), some(&["deleted", ""]));
        assert!(cluster.shows(peer, K2, "of c"));
    }
    assert_eq!(cluster.shown_so_far(c, K), some(&["1", "4"]));
    cluster.assert_promises();
}

#[test]
fn r07_in_a_long_sync_small_owners_come_first() {
    let settings = Settings { inspection: None, watched: false, ..Settings::seeded(507) };
    let (mut cluster, [a, b]) = Cluster::settled(settings, ["a", "b"], NET);
    cluster.load(a, NET, "load", "key ", 1_000, &[b'x'; 500]);
    cluster.create(b, K, "small");
    cluster.await_agreement(NET, 10 * SECOND);
    let c = cluster.start_with_seeds("c", &[a]);
    cluster.await_members(&[a, b, c], 5 * SECOND);
    // Half a megabyte takes five seconds, from any member.
    cluster.set_links(Link { bandwidth: Some(100_000), ..Link::with_latency(MILLISECOND) });
    cluster.isolate_tables(c, &[b]);
    cluster.join_network([c], NET);
    cluster.await_shown(&[c], K, "small", 2 * SECOND);
    let held = cluster.machine(c).tables().statistics(NET).map_or(0, |statistics| statistics.entries);
    assert!(held < 500, "{held} entries of the large owner came before");
    cluster.await_agreement(NET, 20 * SECOND);
}

#[test]
fn r22_equal_writes_one_after_the_other_all_arrive() {
    let (mut cluster, [a, b]) = cluster(522, ["a", "b"]);
    // The queue runs empty between them, and what they weigh and say is the same.
    for _ in 0..10 {
        cluster.create(a, K, "v");
        cluster.await_shown(&[b], K, "v", 50 * MILLISECOND);
        cluster.delete(a, K);
        cluster.await_absent(&[b], K, 50 * MILLISECOND);
    }
    assert_eq!(cluster.shown_so_far(b, K).len(), 20);
    cluster.assert_promises();
}

#[test]
fn r23_what_was_told_to_nobody_is_not_forgotten() {
    let (mut cluster, [a, b, c]) = cluster(523, ["a", "b", "c"]);
    cluster.partition(&[&[a], &[b], &[c]]);
    cluster.create(a, K, "v");
    // Longer than updates and watermarks are repeated, if they were charged for what reached no member.
    cluster.run_for(60 * SECOND);
    assert_eq!((cluster.value(b, K), cluster.value(c, K)), (None, None));
    cluster.heal();
    cluster.await_shown(&[b, c], K, "v", 15 * SECOND);
    cluster.await_members(&[a, b, c], 30 * SECOND);
    cluster.assert_promises();
}

#[test]
fn n34_news_goes_to_as_many_random_members_as_it_should() {
    let (mut cluster, peers) = many(Settings { inspection: None, ..Settings::seeded(334) }, 21);
    let (writer, sent) = (cluster.location(peers[0]), Rc::new(std::cell::RefCell::new(Vec::new())));
    let list = sent.clone();
    cluster.rule(move |message| {
        if message.is_gossip() && message.from == writer {
            list.borrow_mut().push(message.to);
        }
        Verdict::Pass
    });
    let mut reached = BTreeSet::new();
    for number in 0..40 {
        // The watermarks of the write before have ended.
        cluster.run_for(17 * SECOND);
        sent.borrow_mut().clear();
        cluster.create(peers[0], Key::new(NET, "services", &format!("key {number}")), "v");
        cluster.run_for(5 * MILLISECOND);
        let first: BTreeSet<_> = sent.borrow().iter().copied().collect();
        // ln 20 + 2, rounded up.
        assert_eq!((first.len(), sent.borrow().len()), (5, 5), "exactly five, and each once");
        reached.extend(first);
    }
    assert_eq!(reached.len(), 20, "each of the others had its turn");
}
