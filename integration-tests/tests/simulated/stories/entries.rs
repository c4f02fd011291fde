//! Stories 1 to 6: what becomes of an entry when deletes, attachments and owners come and go in the wrong order.

use std::collections::BTreeSet;
use std::time::Duration;

use integration_tests::cluster::{Cluster, MILLISECOND, Peer, SECOND, Settings};
use integration_tests::fabric::{HeldDatagram, MessageKind, Verdict};
use membership::State;

use super::{K, K1, K2, NET, cluster};

#[test]
fn story_01_delete_overtakes_create() {
    let (mut cluster, [a, b, c]) = cluster(101, ["a", "b", "c"]);
    // B gets the create late, C never gets the delete from A, and neither hears of the other's lot from A again.
    let to_b = cluster.on_tables(a, b, Verdict::Hold);
    cluster.create(a, K, "v");
    cluster.run_for(5 * MILLISECOND);
    let create = cluster.take_held();
    assert!(!create.is_empty());
    assert!(cluster.shows(c, K, "v"));
    cluster.remove_rule(to_b);
    cluster.on_tables(a, c, Verdict::Drop);
    cluster.on_tables(c, a, Verdict::Drop);
    cluster.on_tables(b, c, Verdict::Drop);
    cluster.delete(a, K);
    cluster.run_for(5 * MILLISECOND);
    assert!(
        cluster.held(b, K).is_some_and(|held| held.value.is_none()),
        "the delete of what B never had is kept"
    );
    for datagram in &create {
        cluster.deliver(datagram);
    }
    cluster.run_for(5 * MILLISECOND);
    assert_eq!(cluster.value(b, K), None);
    // C still holds the create and compares itself with B.
    assert!(cluster.shows(c, K, "v"));
    cluster.await_absent(&[a, b, c], K, 10 * SECOND);
    assert_eq!(cluster.shown_so_far(b, K), []);
    assert_eq!(cluster.shown_so_far(c, K), [Some("v".to_owned()), None]);
    cluster.assert_promises();
}

#[test]
fn story_01_the_late_create_comes_relayed_by_others() {
    let mut cluster = Cluster::new(Settings::seeded(101));
    let peers = cluster.start_many(12);
    let (a, b, c) = (peers[0], peers[1], peers[2]);
    cluster.join_network(peers.iter().copied(), NET);
    cluster.settle();
    cluster.run_for(6 * SECOND);
    let to_b = cluster.location(b);
    let hold = cluster.rule(move |message| match message.is_gossip() && message.to == to_b {
        true => Verdict::Hold,
        false => Verdict::Pass,
    });
    cluster.create(a, K, "v");
    cluster.run_for(12 * MILLISECOND);
    let creates = cluster.take_held();
    let writer = cluster.location(a);
    assert!(creates.iter().any(|datagram| cluster.fabric().location(datagram.from()) != writer), "relayed");
    cluster.remove_rule(hold);
    // C hears nothing but the create.
    assert!(cluster.shows(c, K, "v"));
    let (others, b_and_c): (Vec<Peer>, Vec<Peer>) = peers.iter().partition(|peer| ![b, c].contains(*peer));
    assert_eq!(b_and_c, [b, c]);
    let from_others = cluster.isolate_tables(c, &others);
    let from_b = cluster.isolate_tables(c, &[b]);
    cluster.delete(a, K);
    cluster.run_until("B has the delete", 30 * MILLISECOND, |cluster| cluster.held(b, K).is_some());
    for datagram in &creates {
        cluster.deliver(datagram);
    }
    cluster.run_for(MILLISECOND);
    assert_eq!(cluster.value(b, K), None);
    cluster.run_for(5 * SECOND);
    assert!(cluster.shows(c, K, "v"));
    // B alone compares itself with C, which still holds the create.
    cluster.remove_rules(from_b);
    cluster.await_absent(&[c], K, 10 * SECOND);
    let residual = |cluster: &Cluster, peer: Peer| cluster.held(peer, K).and_then(|held| held.residual);
    let (at_b, at_c) = (residual(&cluster, b), residual(&cluster, c));
    assert!(
        at_b.is_some() && at_c <= at_b.map(|at_b| at_b + 2 * MILLISECOND),
        "{at_c:?} on C, {at_b:?} on B"
    );
    cluster.remove_rules(from_others);
    cluster.await_agreement(NET, 10 * SECOND);
    assert_eq!(cluster.shown_so_far(b, K), []);
    assert_eq!(cluster.shown_so_far(c, K), [Some("v".to_owned()), None]);
    cluster.assert_promises();
}

/// A joins, leaves, joins again and creates K, and each update about it that B would have received is withheld.
fn leave_and_rejoin() -> (Cluster, Peer, [Vec<HeldDatagram>; 4]) {
    let mut cluster = Cluster::new(Settings::seeded(102));
    let [a, b] = cluster.start(["a", "b"]);
    cluster.join_network([b], NET);
    cluster.settle();
    cluster.run_for(6 * SECOND);
    cluster.on_tables(a, b, Verdict::Hold);
    cluster.on_tables(b, a, Verdict::Drop);
    let collect = |cluster: &mut Cluster, what: &str, time: Duration| {
        cluster.run_for(time);
        let held = cluster.take_held();
        assert!(!held.is_empty(), "nothing was said of {what}");
        held
    };
    cluster.join_network([a], NET);
    let joined = collect(&mut cluster, "joining", 10 * MILLISECOND);
    cluster.leave_network([a], NET);
    // Nobody answers the final syncs.
    let left = collect(&mut cluster, "leaving", 3 * SECOND);
    cluster.join_network([a], NET);
    let rejoined = collect(&mut cluster, "joining again", 10 * MILLISECOND);
    cluster.create(a, K, "v");
    let created = collect(&mut cluster, "the entry", 10 * MILLISECOND);
    (cluster, b, [joined, created, left, rejoined])
}

#[test]
fn story_02_in_every_order() {
    for order in orders() {
        let (mut cluster, b, updates) = leave_and_rejoin();
        let [_, created, ..] = &updates;
        // The entry comes a second time, after all.
        for held in order.iter().flat_map(|index| &updates[*index]).chain(created) {
            cluster.deliver(held);
            cluster.run_for(MILLISECOND);
        }
        assert!(cluster.shows(b, K, "v"), "A need not write again, in the order {order:?}");
        cluster.assert_promises();
    }
}

/// The orders of four.
fn orders() -> Vec<[usize; 4]> {
    let mut orders = Vec::new();
    for code in 0..256usize {
        let order = [code % 4, code / 4 % 4, code / 16 % 4, code / 64];
        if order.iter().collect::<BTreeSet<_>>().len() == 4 {
            orders.push(order);
        }
    }
    orders
}

#[test]
fn story_03_lamport_tie_of_two_puts() {
    let (mut cluster, [a, b, c, d]) = cluster(103, ["a", "b", "c", "d"]);
    cluster.partition(&[&[a, c], &[b, d]]);
    // Apart, and at the same instant.
    cluster.create(a, K, "of a");
    cluster.create(b, K, "of b");
    let times: BTreeSet<u64> =
        [a, b].iter().filter_map(|peer| cluster.held(*peer, K)).map(|held| held.version.time).collect();
    assert_eq!(times.len(), 1, "the Lamport times are equal");
    cluster.await_shown(&[c], K, "of a", SECOND);
    cluster.await_shown(&[d], K, "of b", SECOND);
    cluster.heal();
    cluster.await_agreement(NET, 10 * SECOND);
    assert!(cluster.shows(a, K, "of b"), "of equal times the greater name wins");
    no_more_changes(&mut cluster, &[a, b, c, d]);
}

#[test]
fn story_03_lamport_tie_of_an_update_and_a_delete() {
    // Of equal times the greater name wins, a delete like a value.
    for (deleter, updater) in [(1, 0), (0, 1)] {
        let (mut cluster, peers) = cluster(103, ["a", "b", "c", "d"]);
        let [a, b, c, d] = peers;
        cluster.create(c, K, "first");
        cluster.await_agreement(NET, SECOND);
        cluster.partition(&[&[a, c], &[b, d]]);
        cluster.update(peers[updater], K, "updated");
        cluster.delete(peers[deleter], K);
        cluster.await_shown(&[peers[updater + 2]], K, "updated", SECOND);
        cluster.await_absent(&[peers[deleter + 2]], K, SECOND);
        let times: BTreeSet<u64> =
            [a, b].iter().filter_map(|peer| cluster.held(*peer, K)).map(|held| held.version.time).collect();
        assert_eq!(times.len(), 1, "the Lamport times are equal");
        cluster.heal();
        cluster.await_agreement(NET, 10 * SECOND);
        assert_eq!(cluster.value(a, K).is_none(), deleter > updater);
        no_more_changes(&mut cluster, &peers);
    }
}

/// Over several anti-entropy periods nobody's view changes.
fn no_more_changes(cluster: &mut Cluster, peers: &[Peer]) {
    let activity =
        |cluster: &Cluster| peers.iter().map(|peer| cluster.follower(*peer).received().len()).sum::<usize>();
    let syncs = |cluster: &Cluster| -> u64 {
        let counters = |peer: &Peer| cluster.machine(*peer).replica().counters();
        peers
            .iter()
            .map(counters)
            .map(|counters| {
                counters.updates_learned + counters.superseded_dropped + counters.comparisons_fingerprint
            })
            .sum()
    };
    cluster.run_for(10 * SECOND);
    let before = (activity(cluster), syncs(cluster));
    cluster.run_for(100 * SECOND);
    assert_eq!((activity(cluster), syncs(cluster)), before, "later syncs do nothing");
    cluster.assert_promises();
}

#[test]
fn story_04_cut_off_and_seen_through_others_only() {
    let settings = Settings { reap_time: 20 * SECOND, ..Settings::seeded(104) };
    let (mut cluster, [a, b, c, d]) = Cluster::settled(settings, ["a", "b", "c", "d"], NET);
    cluster.create(a, K, "v");
    cluster.await_agreement(NET, SECOND);
    // Nothing at all passes between C and A or B; D vouches for it, and passes no tables on.
    cluster.cut(c, a);
    cluster.cut(c, b);
    let rules = cluster.isolate_tables(c, &[d]);
    cluster.delete(a, K);
    cluster.run_for(40 * SECOND);
    for peer in [a, b, d] {
        assert_eq!(cluster.held(peer, K), None, "the tombstone is reaped");
        assert_eq!(cluster.state_of(peer, c), Some(State::Alive));
    }
    assert!(cluster.shows(c, K, "v"));
    // And it writes: its updates must not carry superseded entries along.
    cluster.create(c, K1, "of c");
    cluster.remove_rules(rules);
    cluster.heal();
    cluster.await_absent(&[c], K, 10 * SECOND);
    cluster.await_shown(&[a, b, d], K1, "of c", 10 * SECOND);
    cluster.run_for(60 * SECOND);
    for peer in [a, b, d] {
        assert_eq!(cluster.shown_so_far(peer, K), [Some("v".to_owned()), None], "it never reappears");
    }
    cluster.assert_promises();
}

/// Fifteen nodes, all on the network but A; B is another.
fn all_but_one_of_fifteen() -> (Cluster, [Peer; 2]) {
    let mut cluster = Cluster::new(Settings::seeded(105));
    let peers = cluster.start_many(15);
    cluster.join_network(peers[1..].iter().copied(), NET);
    cluster.settle();
    cluster.run_for(6 * SECOND);
    (cluster, [peers[0], peers[1]])
}

#[test]
fn story_05_lost_attachment() {
    let (mut cluster, [a, b]) = all_but_one_of_fifteen();
    let to_b = cluster.location(b);
    cluster.rule(move |message| match message.is_attachment_lists() && message.to == to_b {
        true => Verdict::Drop,
        false => Verdict::Pass,
    });
    cluster.join_network([a], NET);
    cluster.create(a, K, "v");
    cluster.await_shown(&[b], K, "v", 2 * SECOND);
    cluster.await_agreement(NET, 5 * SECOND);
    cluster.assert_promises();
}

#[test]
fn story_05_neither_lists_nor_syncs_reach_it() {
    let (mut cluster, [a, b]) = all_but_one_of_fifteen();
    let place = cluster.location(b);
    // Every datagram and stream that reports A's join to B is lost: there is only the entry itself.
    let rule = cluster.rule(move |message| {
        let lists = message.is_attachment_lists() && message.to == place;
        let stream = message.kind == MessageKind::Frame
            && message.is_for_tables()
            && (message.to == place || message.from == place);
        if lists || stream { Verdict::Drop } else { Verdict::Pass }
    });
    cluster.join_network([a], NET);
    cluster.create(a, K, "v");
    cluster.await_shown(&[b], K, "v", 2 * SECOND);
    assert!(
        !cluster.machine(b).tables().network_peers(NET).contains(cluster.name(a)),
        "it knows no list yet"
    );
    cluster.remove_rule(rule);
    cluster.run_until("B knows the list too", 5 * SECOND, |cluster| {
        cluster.machine(b).tables().network_peers(NET).len() == 15
    });
    cluster.await_agreement(NET, 5 * SECOND);
    cluster.assert_promises();
}

#[test]
fn story_06_who_returns_unchanged_is_shown_at_once() {
    let (mut cluster, [a, b, c]) = cluster(106, ["a", "b", "c"]);
    cluster.create(a, K1, "k1");
    cluster.await_agreement(NET, SECOND);
    cluster.partition(&[&[a, c], &[b]]);
    cluster.await_absent(&[b], K1, 60 * SECOND);
    cluster.heal();
    cluster.run_until("A is alive again to B", 30 * SECOND, |cluster| {
        cluster.state_of(b, a) == Some(State::Alive)
    });
    // One comparison of fingerprints away, or two if A does not hold B for alive yet.
    cluster.await_shown(&[b], K1, "k1", SECOND);
    assert_eq!(cluster.machine(b).replica().counters().shown_uncompared, 0);
    cluster.await_members(&[a, b, c], 15 * SECOND);
    cluster.assert_promises();
}

#[test]
fn story_06_compared_with_another_that_shows_it() {
    let (mut cluster, [a, b, c]) = cluster(106, ["a", "b", "c"]);
    cluster.create(a, K1, "k1");
    cluster.create(a, K2, "k2 old");
    cluster.await_agreement(NET, SECOND);
    cluster.partition(&[&[a, c], &[b]]);
    cluster.await_absent(&[b], K1, 60 * SECOND);
    cluster.delete(a, K1);
    cluster.update(a, K2, "k2 new");
    cluster.await_shown(&[c], K2, "k2 new", SECOND);
    // A and B see each other again, but exchange no tables.
    let rules = cluster.isolate_tables(a, &[b]);
    cluster.heal();
    cluster.await_shown(&[b], K2, "k2 new", 15 * SECOND);
    assert_eq!(cluster.shown_so_far(b, K1), [Some("k1".to_owned()), None], "K1 never comes back");
    assert_eq!(cluster.machine(b).replica().counters().shown_uncompared, 0);
    cluster.remove_rules(rules);
    cluster.await_members(&[a, b, c], 15 * SECOND);
    cluster.assert_promises();
}

#[test]
fn story_06_with_nobody_to_compare_with_it_is_shown_after_five_seconds_and_counted() {
    let (mut cluster, [a, b]) = cluster(106, ["a", "b"]);
    cluster.create(a, K1, "k1");
    cluster.await_agreement(NET, SECOND);
    cluster.partition(&[&[a], &[b]]);
    cluster.await_absent(&[b], K1, 60 * SECOND);
    let rules = cluster.isolate_tables(a, &[b]);
    cluster.heal();
    cluster.run_until("A is alive again to B", 30 * SECOND, |cluster| {
        cluster.state_of(b, a) == Some(State::Alive)
    });
    cluster.run_for(4_900 * MILLISECOND);
    assert_eq!(cluster.value(b, K1), None, "not yet");
    cluster.await_shown(&[b], K1, "k1", 500 * MILLISECOND);
    assert_eq!(cluster.machine(b).replica().counters().shown_uncompared, 1);
    cluster.remove_rules(rules);
    cluster.await_members(&[a, b], 15 * SECOND);
    cluster.assert_promises();
}
