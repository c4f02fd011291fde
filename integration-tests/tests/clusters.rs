//! What anybody would try first: start, write, watch, leave, fail, return, restart, part, lose, join late.

use std::time::Duration;

use integration_tests::cluster::{Cluster, Key, MILLISECOND, Peer, SECOND, Settings};
use integration_tests::fabric::{Latency, Link};
use membership::State;
use tabledb::WriteError;

const NET: &str = "blue";
const K: Key<'static> = Key::new(NET, "services", "web");

fn cluster<const N: usize>(settings: Settings, names: [&str; N]) -> (Cluster, [Peer; N]) {
    Cluster::settled(settings, names, NET)
}

#[test]
fn nodes_find_each_other_and_share_entries_whoever_writes() {
    let (mut cluster, [a, b, c]) = cluster(Settings::seeded(1), ["a", "b", "c"]);
    cluster.create(a, K, "one");
    cluster.await_shown(&[b, c], K, "one", 100 * MILLISECOND);
    assert!(matches!(cluster.try_create(b, K, "again"), Err(WriteError::AlreadyExists { .. })));
    cluster.update(b, K, "two");
    cluster.await_shown(&[a, c], K, "two", 100 * MILLISECOND);
    cluster.delete(c, K);
    cluster.await_absent(&[a, b], K, 100 * MILLISECOND);
    assert!(matches!(cluster.try_update(a, K, "three"), Err(WriteError::NotFound { .. })));
    assert!(matches!(cluster.try_delete(b, K), Err(WriteError::NotFound { .. })));
    cluster.create(a, K, "four");
    cluster.await_shown(&[b, c], K, "four", 100 * MILLISECOND);
    cluster.assert_promises();
}

#[test]
fn a_watcher_sees_each_change_once_with_what_was_before() {
    let (mut cluster, [a, b]) = cluster(Settings::seeded(2), ["a", "b"]);
    for value in ["one", "two", "three"] {
        match value {
            "one" => cluster.create(a, K, value),
            _ => cluster.update(a, K, value),
        }
        cluster.await_shown(&[b], K, value, SECOND);
    }
    cluster.delete(b, K);
    cluster.await_absent(&[a], K, SECOND);
    // That each change fits what was before is checked all along.
    let shown = cluster.shown_so_far(b, K);
    let values: Vec<Option<&str>> = shown.iter().map(Option::as_deref).collect();
    assert_eq!(values, [Some("one"), Some("two"), Some("three"), None]);
}

#[test]
fn who_leaves_a_network_takes_its_entries_and_nothing_else() {
    let (mut cluster, [a, b, c]) = cluster(Settings::seeded(3), ["a", "b", "c"]);
    let other = Key::new(NET, "services", "db");
    cluster.create(a, K, "of a");
    cluster.create(b, other, "of b");
    cluster.await_shown(&[a], other, "of b", SECOND);
    // Written and left at once: others must still get what only A knew of B's entry.
    cluster.update(a, other, "of b, by a");
    cluster.delete(a, other);
    cluster.leave_network([a], NET);
    cluster.await_absent(&[b, c], K, SECOND);
    cluster.run_until("the network is left", 5 * SECOND, |cluster| {
        cluster.inspect(a, NET).is_none() && cluster.machine(b).tables().network_peers(NET).len() == 2
    });
    cluster.run_for(40 * SECOND);
    assert_eq!(cluster.value(b, other), None);
    assert!(matches!(cluster.try_create(a, K, "v"), Err(WriteError::NotJoined { .. })));
    cluster.assert_promises();
}

#[test]
fn who_leaves_the_cluster_is_gone_within_a_second() {
    let (mut cluster, [a, b, c]) = cluster(Settings::seeded(4), ["a", "b", "c"]);
    cluster.create(a, K, "of a");
    cluster.await_shown(&[b, c], K, "of a", SECOND);
    cluster.leave(a);
    cluster.await_absent(&[b, c], K, SECOND);
    cluster.run_until("A has ended", 10 * SECOND, |cluster| !cluster.is_running(a));
    assert_eq!(cluster.state_of(b, a), Some(State::Left));
    cluster.assert_promises();
}

#[test]
fn a_crashed_node_is_noticed_within_ten_seconds_and_its_entries_are_hidden() {
    let (mut cluster, [a, b, c]) = cluster(Settings::seeded(5), ["a", "b", "c"]);
    cluster.create(a, K, "of a");
    cluster.await_shown(&[b, c], K, "of a", SECOND);
    cluster.run_for(5 * SECOND);
    cluster.crash(a);
    cluster.await_absent(&[b, c], K, 10 * SECOND);
    assert!(cluster.held(b, K).is_some_and(|held| !held.shown), "hidden, not forgotten");
    cluster.assert_promises();
}

#[test]
fn a_failed_node_returns_with_all_its_entries_and_writes_nothing_again() {
    let (mut cluster, [a, b, c]) = cluster(Settings::seeded(6), ["a", "b", "c"]);
    cluster.create(a, K, "of a");
    cluster.await_shown(&[b, c], K, "of a", SECOND);
    let version = cluster.held(a, K).map(|held| held.version);
    cluster.partition(&[&[a], &[b, c]]);
    cluster.await_absent(&[b, c], K, 60 * SECOND);
    cluster.heal();
    cluster.await_shown(&[b, c], K, "of a", 10 * SECOND);
    assert_eq!(cluster.held(b, K).map(|held| held.version), version);
    cluster.assert_promises();
}

#[test]
fn a_short_pause_hides_nothing() {
    let (mut cluster, [a, b, c]) = cluster(Settings::seeded(7), ["a", "b", "c"]);
    cluster.create(a, K, "of a");
    cluster.await_shown(&[b, c], K, "of a", SECOND);
    for _ in 0..10 {
        cluster.pause(a);
        cluster.run_for(SECOND);
        cluster.resume(a);
        cluster.run_for(9 * SECOND);
    }
    assert_eq!(cluster.shown_so_far(b, K), [Some("of a".to_owned())]);
    cluster.assert_promises();
}

#[test]
fn a_node_restarted_under_its_name_starts_anew() {
    let (mut cluster, [a, b, c]) = cluster(Settings::seeded(8), ["a", "b", "c"]);
    cluster.create(a, K, "first boot");
    cluster.await_shown(&[b, c], K, "first boot", SECOND);
    cluster.kill(a);
    cluster.restart(a, &[b]);
    cluster.join_network([a], NET);
    cluster.await_absent(&[b, c], K, 5 * SECOND);
    cluster.create(a, K, "second boot");
    cluster.await_shown(&[b, c], K, "second boot", SECOND);
    cluster.await_members(&[a, b, c], 10 * SECOND);
    cluster.assert_promises();
}

#[test]
fn both_sides_of_a_partition_write_and_agree_after_it() {
    let (mut cluster, [a, b, c, d]) = cluster(Settings::seeded(9), ["a", "b", "c", "d"]);
    cluster.create(a, K, "before");
    cluster.await_agreement(NET, SECOND);
    cluster.partition(&[&[a, b], &[c, d]]);
    cluster.update(a, K, "left");
    cluster.run_for(SECOND);
    cluster.update(c, K, "right");
    cluster.create(d, Key::new(NET, "services", "of d"), "d");
    cluster.create(b, Key::new(NET, "services", "of b"), "b");
    cluster.run_for(60 * SECOND);
    cluster.heal();
    cluster.await_members(&[a, b, c, d], 60 * SECOND);
    cluster.await_agreement(NET, 10 * SECOND);
    assert!(cluster.shows(b, K, "right"), "the later write wins");
    assert_eq!(cluster.visible(b, NET).len(), 3);
    cluster.assert_promises();
}

#[test]
fn writes_arrive_soon_though_two_packets_of_five_are_lost() {
    for loss in [0.2, 0.4] {
        let mut settings = Settings::seeded(10);
        settings.fabric.link =
            Link { loss, latency: Latency::Uniform(MILLISECOND, 20 * MILLISECOND), ..Link::default() };
        let mut cluster = Cluster::new(settings);
        let peers = cluster.start_many(6);
        cluster.join_network(peers.iter().copied(), NET);
        cluster.run_until("all have joined", 60 * SECOND, |cluster| {
            let on_it = |peer: &Peer| cluster.machine(*peer).tables().network_peers(NET).len();
            peers.iter().all(|peer| on_it(peer) == 6)
        });
        let mut longest = Duration::ZERO;
        for number in 0..20 {
            let key = format!("key {number}");
            let key = Key::new(NET, "services", &key);
            cluster.create(peers[number % 6], key, "v");
            longest = longest.max(cluster.await_shown(&peers, key, "v", 10 * SECOND));
        }
        assert!(cluster.fabric().traffic().dropped_datagrams() > 0);
        assert!(longest < 5 * SECOND, "at a loss of {loss} the slowest took {longest:?}");
        cluster.set_links(Link::default());
        cluster.await_members(&peers, 30 * SECOND);
        cluster.await_agreement(NET, 10 * SECOND);
        cluster.assert_promises();
    }
}

#[test]
fn a_newcomer_gets_ten_thousand_entries() {
    let settings = Settings { inspection: None, watched: false, ..Settings::seeded(11) };
    let (mut cluster, [a, b]) = cluster(settings, ["a", "b"]);
    cluster.load(a, NET, "hosts", "key ", 10_000, b"value");
    cluster.await_agreement(NET, 30 * SECOND);
    cluster.set_links(Link { bandwidth: Some(12_500_000), ..Link::with_latency(MILLISECOND) });
    let c = cluster.start_with_seeds("c", &[b]);
    cluster.join_network([c], NET);
    cluster.run_until("C is ready", 10 * SECOND, |cluster| {
        let shown = cluster.machine(c).tables().statistics(NET);
        shown.is_some_and(|statistics| statistics.entries == 10_000)
    });
    cluster.await_agreement(NET, SECOND);
    cluster.assert_promises();
}

#[test]
fn a_value_larger_than_any_datagram_arrives_promptly() {
    let (mut cluster, [a, b, c]) = cluster(Settings::seeded(12), ["a", "b", "c"]);
    let large = "x".repeat(1 << 20);
    cluster.create(a, K, &large);
    cluster.await_shown(&[b, c], K, &large, SECOND);
    cluster.assert_promises();
}
