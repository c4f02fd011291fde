//! What went wrong with spreading: queues, syncs, sizes, watchers, and silence.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use integration_tests::check::verdict::IdleBudget;
use integration_tests::cluster::{Cluster, Key, MILLISECOND, Peer, SECOND, Settings};
use integration_tests::fabric::{DropReason, Link, MessageKind, Verdict};
use tabledb::{ChangeKind, TableDb, WatchEvent, WatchFilter};
use wire::{NodeId, NodeName};

use super::{K, NET, cluster, many, some};

/// Nothing but what costs next to nothing is checked: for tests of much load.
fn unwatched(seed: u64) -> Settings {
    Settings { inspection: None, watched: false, ..Settings::seeded(seed) }
}

/// What a watcher received about a key: kind, previous value, value.
fn received(
    cluster: &Cluster,
    peer: Peer,
    key: Key<'_>,
) -> Vec<(ChangeKind, Option<String>, Option<String>)> {
    let text = |value: &Option<tabledb::Value>| {
        value.as_deref().map(|value| String::from_utf8_lossy(value).into_owned())
    };
    let changes = cluster.follower(peer).received().iter();
    changes
        .filter(|change| {
            (&*change.network, &*change.table, &*change.key) == (key.network, key.table, key.key)
        })
        .map(|change| (change.kind, text(&change.previous), text(&change.value)))
        .collect()
}

fn value(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn n14_watchers_are_told_the_change_they_can_see_and_not_the_one_that_was_sent() {
    let (mut cluster, [a, b]) = cluster(314, ["a", "b"]);
    // The create is lost: to B, the update that follows is the create.
    let lost = cluster.on_tables(a, b, Verdict::Drop);
    cluster.create(a, K, "1");
    cluster.run_for(3 * MILLISECOND);
    cluster.remove_rule(lost);
    cluster.update(a, K, "2");
    cluster.await_shown(&[b], K, "2", 20 * MILLISECOND);
    assert_eq!(received(&cluster, b, K), [(ChangeKind::Create, None, value("2"))]);
    // Both create, and B's is the greater: to A it is an update.
    let other = Key::new(NET, "services", "other");
    cluster.create(a, other, "of a");
    cluster.create(b, other, "of b");
    cluster.await_shown(&[a], other, "of b", SECOND);
    assert_eq!(
        received(&cluster, a, other),
        [(ChangeKind::Create, None, value("of a")), (ChangeKind::Update, value("of a"), value("of b"))]
    );
    assert_eq!(
        received(&cluster, b, other),
        [(ChangeKind::Create, None, value("of b"))],
        "A's never shows on B"
    );
    // A delete of what B never saw is nothing to B.
    let unseen = Key::new(NET, "services", "unseen");
    let lost = cluster.on_tables(a, b, Verdict::Drop);
    cluster.create(a, unseen, "v");
    cluster.run_for(3 * MILLISECOND);
    cluster.remove_rule(lost);
    cluster.delete(a, unseen);
    cluster.run_for(10 * SECOND);
    assert_eq!(received(&cluster, b, unseen), []);
    cluster.assert_promises();
}

#[test]
fn n15_a_delete_that_a_new_create_overtook_is_not_hidden_from_watchers() {
    let (mut cluster, [a, b]) = cluster(315, ["a", "b"]);
    cluster.create(a, K, "old");
    cluster.await_shown(&[b], K, "old", SECOND);
    // Both leave in one datagram.
    cluster.delete(a, K);
    cluster.create(a, K, "new");
    cluster.await_shown(&[b], K, "new", SECOND);
    let changes = received(&cluster, b, K);
    let previous = changes.iter().skip(1).map(|(_, previous, _)| previous.clone());
    assert!(
        previous.clone().any(|previous| previous == value("old")),
        "one of the two has to give it up: {changes:?}"
    );
    cluster.assert_promises();
}

/// A database by itself, on one network.
fn database(watch_queue: usize) -> TableDb {
    let mut config = tabledb::Config::new(NodeId::new(NodeName::new("me").unwrap(), 1));
    config.limits.watch_queue = watch_queue;
    // Hundreds of watches that nobody reads: here only the number of changes is to be a bound.
    (config.limits.watch_bytes, config.limits.watch_bytes_total) = (1 << 30, 1 << 34);
    let database = TableDb::new(config).unwrap();
    database.join_network(NET).unwrap();
    database
}

/// Key to value, as it is at the moment.
fn entries(database: &TableDb) -> BTreeMap<String, Vec<u8>> {
    let tables = database.tables(NET).into_iter();
    tables
        .flat_map(|table| database.entries(NET, &table))
        .map(|entry| (entry.key().to_string(), entry.value().to_vec()))
        .collect()
}

/// Applies the events of a watcher to a map, each change to what was before it; returns how often it fell behind.
fn follow(watch: &mut tabledb::Watch, map: &mut BTreeMap<String, Vec<u8>>) -> usize {
    let mut lagged = 0;
    while let Some(event) = watch.try_next() {
        let WatchEvent::Change(change) = event else {
            map.clear();
            lagged += 1;
            continue;
        };
        let before = match &change.value {
            Some(value) => map.insert(change.key.to_string(), value.to_vec()),
            None => map.remove(&*change.key),
        };
        assert_eq!(change.previous.as_deref(), before.as_deref(), "of {}", change.key);
    }
    lagged
}

/// Writes all the time: creates, updates and deletes of a thread's own keys.
fn write_much(database: &TableDb, thread: usize, count: usize) {
    for number in 0..count {
        let key = format!("{thread} {}", number % 50);
        if database.get(NET, "t", &key).is_none() {
            database.create(NET, "t", &key, number.to_string().into_bytes()).unwrap();
        } else if number % 3 == 0 {
            database.delete(NET, "t", &key).unwrap();
        } else {
            database.update(NET, "t", &key, number.to_string().into_bytes()).unwrap();
        }
    }
}

#[test]
fn n16_a_watch_begun_amid_writes_misses_nothing_and_sees_nothing_twice() {
    let database = database(100_000);
    let mut watches = Vec::new();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|thread| {
                let database = &database;
                scope.spawn(move || write_much(database, thread, 3_000))
            })
            .collect();
        while !writers.iter().all(|writer| writer.is_finished()) && watches.len() < 300 {
            watches.push(database.watch(WatchFilter::default()));
        }
    });
    let expected = entries(&database);
    for watch in &mut watches {
        let mut map = BTreeMap::new();
        assert_eq!(follow(watch, &mut map), 0);
        assert_eq!(map, expected);
    }
}

#[test]
fn r26_a_watcher_that_falls_behind_again_and_again_ends_with_what_is_there() {
    let database = database(16);
    let (mut watch, mut map, mut lagged) = (database.watch(WatchFilter::default()), BTreeMap::new(), 0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_much(&database, 0, 5_000));
        while !writer.is_finished() {
            lagged += follow(&mut watch, &mut map);
        }
    });
    // Once more, and surely.
    write_much(&database, 1, 100);
    lagged += follow(&mut watch, &mut map);
    assert!(lagged > 0, "it was notified that it fell behind");
    assert_eq!(map, entries(&database));
}

#[test]
fn n35_r27_a_watcher_that_reads_and_writes_where_it_watches_hangs_nobody() {
    let database = database(16);
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|thread| {
                    let database = &database;
                    scope.spawn(move || write_much(database, thread, 1_000))
                })
                .collect();
            let mut watch = database.watch(WatchFilter { exclude_own: false, ..WatchFilter::default() });
            while !writers.iter().all(|writer| writer.is_finished()) {
                if let Some(WatchEvent::Change(change)) = watch.try_next() {
                    let _ = database.get(NET, &change.table, &change.key);
                    let _ = database.create(NET, "seen", &change.key, *b"");
                    database.entries(NET, "t");
                }
            }
        });
        let _ = done.send(());
    });
    assert!(finished.recv_timeout(Duration::from_secs(60)).is_ok(), "a task waits for another for ever");
}

#[test]
fn n17_only_a_sync_that_came_to_its_end_makes_a_network_synchronised() {
    let (mut cluster, [a, b]) = cluster(317, ["a", "b"]);
    for number in 0..10 {
        cluster.create(a, Key::new(NET, "services", &format!("key {number}")), "v");
    }
    cluster.await_agreement(NET, SECOND);
    let c = cluster.start_with_seeds("c", &[a, b]);
    cluster.await_members(&[a, b, c], 5 * SECOND);
    let place = cluster.location(c);
    let broken = cluster.rule(move |message| {
        let concerned = message.kind == MessageKind::Frame && (message.from == place || message.to == place);
        if concerned { Verdict::Drop } else { Verdict::Pass }
    });
    cluster.join_network([c], NET);
    cluster.run_for(10 * SECOND);
    let synchronised = |cluster: &Cluster| {
        cluster.machine(c).tables().statistics(NET).is_some_and(|statistics| statistics.synchronised)
    };
    assert!(!synchronised(&cluster), "no sync has come to its end");
    assert!(cluster.machine(c).replica().counters().syncs_failed > 3, "and some have been tried");
    cluster.remove_rule(broken);
    cluster.run_until("C is synchronised", 5 * SECOND, synchronised);
    assert_eq!(cluster.visible(c, NET).len(), 10);
    cluster.assert_promises();
}

#[test]
fn n27_syncs_of_several_networks_with_one_peer_do_not_disturb_each_other() {
    let networks = ["n1", "n2", "n3", "n4", "n5", "n6"];
    let mut cluster = Cluster::new(Settings::seeded(327));
    let [a, b] = cluster.start(["a", "b"]);
    for network in networks {
        cluster.join_network([a], network);
        cluster.create(a, Key::new(network, "services", "k"), network);
    }
    cluster.settle();
    cluster.set_links(Link::with_latency(20 * MILLISECOND));
    // All at once, and A compares itself with B in the same moment.
    for network in networks {
        cluster.join_network([b], network);
    }
    let taken = cluster.run_until("all joins are over", 5 * SECOND, |cluster| {
        networks.iter().all(|network| cluster.is_ready(b, network))
    });
    assert!(taken < SECOND, "the slowest waited {taken:?}");
    for network in networks {
        assert!(cluster.shows(b, Key::new(network, "services", "k"), network));
    }
    cluster.assert_promises();
}

#[test]
fn n28_no_message_carries_a_whole_sync() {
    let (mut cluster, [a, b]) = Cluster::settled(unwatched(328), ["a", "b"], NET);
    cluster.load(a, NET, "load", "key ", 2_000, &[b'x'; 1_000]);
    cluster.await_agreement(NET, 20 * SECOND);
    let (largest, all) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (seen_largest, seen_all) = (largest.clone(), all.clone());
    cluster.rule(move |message| {
        seen_largest.set(seen_largest.get().max(message.bytes.len()));
        seen_all.set(seen_all.get() + message.bytes.len());
        Verdict::Pass
    });
    let c = cluster.start_with_seeds("c", &[b]);
    cluster.join_network([c], NET);
    cluster.await_agreement(NET, 20 * SECOND);
    assert!(all.get() > 2_000_000, "the whole of it came: {} B", all.get());
    assert!(largest.get() <= 68 << 10, "in pieces of up to {} B", largest.get());
}

#[test]
fn n29_an_entry_as_large_as_a_datagram_or_larger_is_as_prompt_as_any() {
    let (mut cluster, [a, b, c]) = cluster(329, ["a", "b", "c"]);
    for size in (1_000..1_300).step_by(7).chain([4_000, 70_000, 1 << 20]) {
        let (key, value) = (format!("key {size}"), "x".repeat(size));
        let key = Key::new(NET, "services", &key);
        cluster.create(a, key, &value);
        cluster.await_shown(&[b, c], key, &value, 20 * MILLISECOND);
    }
    assert_eq!(cluster.fabric().traffic().dropped.get(&DropReason::TooLarge), None);
    cluster.assert_promises();
}

#[test]
fn n31_local_writes_are_not_starved_by_relayed_ones() {
    let (mut cluster, peers) = many(unwatched(331), 12);
    // A third of a second for the load from each to each.
    cluster.set_links(Link { bandwidth: Some(500_000), ..Link::with_latency(MILLISECOND) });
    cluster.load(peers[0], NET, "load", "key ", 1_000, &[b'x'; 100]);
    cluster.run_for(10 * MILLISECOND);
    cluster.create(peers[1], K, "local");
    cluster.await_shown(&peers, K, "local", SECOND);
    cluster.await_agreement(NET, 30 * SECOND);
}

#[test]
fn n32_what_a_newcomer_was_given_it_does_not_pass_on() {
    let (mut cluster, [a, b, c]) = Cluster::settled(unwatched(332), ["a", "b", "c"], NET);
    cluster.load(a, NET, "load", "key ", 2_000, b"v");
    cluster.await_agreement(NET, 20 * SECOND);
    cluster.run_for(10 * SECOND);
    let d = cluster.start_with_seeds("d", &[b, c]);
    cluster.join_network([d], NET);
    cluster.await_agreement(NET, 10 * SECOND);
    cluster.run_for(10 * SECOND);
    let counters = cluster.machine(d).replica().counters();
    assert_eq!((counters.gossip_sent, counters.backlogs), (0, 0));
}

#[test]
fn n36_after_much_coming_and_going_nothing_is_left_behind() {
    let (mut cluster, [a, b, c]) = cluster(336, ["a", "b", "c"]);
    cluster.create(a, K, "v");
    cluster.await_agreement(NET, SECOND);
    let inside = |cluster: &Cluster| {
        let of = |peer: &Peer| {
            let machine = cluster.machine(*peer);
            let state = machine.replica().inspect(NET, cluster.instant(*peer));
            let state = state.map(|state| (state.entries.len(), state.attachments.len(), state.queue_length));
            let watches = cluster.watches(*peer);
            (state, watches, machine.membership().stream_count(), machine.membership().broadcast_count())
        };
        ([a, b, c].each_ref().map(of), cluster.fabric().open_streams())
    };
    cluster.run_for(20 * SECOND);
    let before = inside(&cluster);
    for round in 0..10 {
        let watches: Vec<_> =
            (0..20).map(|_| cluster.machine(b).tables().watch(WatchFilter::default())).collect();
        let passing = cluster.start_with_seeds(&format!("passing {round}"), &[a]);
        for network in [NET, "another", "a third"] {
            cluster.join_network([passing], network);
            let key = Key::new(network, "services", "passing");
            cluster.create(passing, key, round.to_string());
        }
        cluster.run_for(2 * SECOND);
        match round % 2 {
            0 => cluster.leave(passing),
            _ => cluster.leave_network([passing], NET),
        }
        cluster.run_for(3 * SECOND);
        if cluster.is_running(passing) {
            cluster.leave(passing);
        }
        drop(watches);
    }
    cluster.run_for(60 * SECOND);
    assert_eq!(inside(&cluster), before);
    cluster.assert_promises();
}

#[test]
fn l06_tables_are_compared_though_membership_has_much_to_say() {
    let (mut cluster, peers) = many(Settings { inspection: None, ..Settings::seeded(406) }, 20);
    let missing = cluster.location(peers[19]);
    // Only digests on probes can show the last one that there are updates.
    cluster.rule(move |message| match message.is_gossip() && message.to == missing {
        true => Verdict::Drop,
        false => Verdict::Pass,
    });
    cluster.create(peers[0], K, "v");
    let started = cluster.now();
    let mut guest = None;
    // A node joins or leaves five times a second.
    while !cluster.shows(peers[19], K, "v") {
        assert!(cluster.now() < started + 20 * SECOND, "no node informed it within 20 s");
        match guest.take() {
            Some(guest) => cluster.leave(guest),
            None => {
                let name = format!("guest {}", cluster.now().as_millis());
                guest = Some(cluster.start_with_seeds(&name, &peers[..1]));
            }
        }
        cluster.run_for(200 * MILLISECOND);
    }
}

#[test]
fn l14_tables_agree_though_only_datagrams_are_lost() {
    let (mut cluster, [a, b, c]) = cluster(414, ["a", "b", "c"]);
    cluster.rule(|message| match message.kind == MessageKind::Datagram && message.is_for_tables() {
        true => Verdict::Drop,
        false => Verdict::Pass,
    });
    cluster.create(a, K, "v");
    cluster.await_shown(&[b, c], K, "v", 10 * SECOND);
    cluster.assert_promises();
}

#[test]
fn l14_tables_agree_though_only_streams_break() {
    let (mut cluster, [a, b, c]) = cluster(414, ["a", "b", "c"]);
    cluster.rule(|message| match message.kind == MessageKind::Frame && message.is_for_tables() {
        true => Verdict::Drop,
        false => Verdict::Pass,
    });
    for number in 0..20 {
        cluster.create([a, b, c][number % 3], Key::new(NET, "hosts", &format!("key {number}")), "v");
    }
    cluster.await_agreement(NET, SECOND);
    assert_eq!(cluster.visible(a, NET).len(), 20);
    cluster.assert_promises();
}

#[test]
fn l16_each_write_is_relayed_finitely_often() {
    let (mut cluster, peers) = many(Settings { inspection: Some(5 * SECOND), ..Settings::seeded(416) }, 30);
    let gossip = |cluster: &Cluster| -> u64 {
        peers.iter().map(|peer| cluster.machine(*peer).replica().counters().gossip_sent).sum()
    };
    let before = gossip(&cluster);
    cluster.create(peers[0], K, "v");
    cluster.await_shown(&peers, K, "v", SECOND);
    cluster.run_for(10 * SECOND);
    let sent = gossip(&cluster) - before;
    // ln 29 + 2, rounded up.
    assert!(sent <= 30 * 6, "{sent} datagrams for one write to 30 nodes");
    cluster.run_for(60 * SECOND);
    assert_eq!(gossip(&cluster) - before, sent, "it goes on");
}

#[test]
fn l16_what_only_a_dead_node_has_is_not_asked_for_without_end() {
    let (mut cluster, [a, b, c]) = cluster(417, ["a", "b", "c"]);
    // Of three writes, each sent by itself, the middle one reaches nobody before A crashes: B and C are left with
    // a hole.
    cluster.create(a, K, "1");
    cluster.run_for(6 * MILLISECOND);
    let lost = [b, c].map(|peer| cluster.on_tables(a, peer, Verdict::Drop));
    cluster.create(a, Key::new(NET, "services", "lost"), "2");
    cluster.run_for(6 * MILLISECOND);
    lost.into_iter().for_each(|rule| cluster.remove_rule(rule));
    cluster.create(a, Key::new(NET, "services", "third"), "3");
    cluster.run_for(6 * MILLISECOND);
    cluster.crash(a);
    let holes = |cluster: &Cluster, peer: Peer| {
        cluster
            .inspect(peer, NET)
            .is_some_and(|state| state.version_vector.values().any(|ranges| ranges.len() == 2))
    };
    assert!(holes(&cluster, b) && holes(&cluster, c));
    let pulls = |cluster: &Cluster| -> u64 {
        [b, c].iter().map(|peer| cluster.machine(*peer).replica().counters().pulls).sum()
    };
    // As long as watermarks are sent, and a few seconds more.
    cluster.run_for(30 * SECOND);
    let tried = pulls(&cluster);
    assert!((2..=60).contains(&tried), "{tried} pulls");
    cluster.run_for(120 * SECOND);
    assert_eq!(pulls(&cluster), tried, "it goes on");
    cluster.assert_promises();
}

#[test]
fn r08_a_cold_start_of_many_makes_no_datagram_too_large() {
    let mut cluster = Cluster::new(Settings { inspection: None, ..Settings::seeded(508) });
    let peers = cluster.start_many(40);
    let networks: Vec<String> =
        (0..15).map(|number| format!("a network with a long name {number}")).collect();
    for network in &networks {
        cluster.join_network(peers.iter().copied(), network);
    }
    cluster.settle();
    assert_eq!(cluster.fabric().traffic().dropped.get(&DropReason::TooLarge), None);
}

#[test]
fn r24_what_a_congested_link_sheds_is_counted_and_comes_all_the_same() {
    let (mut cluster, peers) = cluster(524, ["a", "b", "c"]);
    cluster.set_links(Link { bandwidth: Some(10_000), ..Link::with_latency(MILLISECOND) });
    for number in 0..60 {
        // Below the backlog each time, so that it goes by datagrams, and far above what the link carries.
        for peer in peers {
            let key = format!("{} {number}", cluster.name(peer));
            cluster.create(peer, Key::new(NET, "hosts", &key), "x".repeat(500));
        }
        cluster.run_for(5 * MILLISECOND);
    }
    let shed = cluster.fabric().traffic().dropped.get(&DropReason::Congested).copied();
    assert!(shed.is_some_and(|shed| shed > 20), "{shed:?} datagrams were shed");
    cluster.await_agreement(NET, 60 * SECOND);
    assert_eq!(cluster.visible(peers[0], NET).len(), 180);
    cluster.await_members(&peers, 10 * SECOND);
    cluster.assert_promises();
}

#[test]
fn an_idle_cluster_sends_only_probes_whatever_its_size() {
    for count in [5, 20, 60] {
        let (mut cluster, peers) = many(Settings { inspection: None, ..Settings::seeded(601) }, count);
        cluster.create(peers[0], K, "v");
        cluster.await_shown(&peers, K, "v", SECOND);
        cluster.run_for(20 * SECOND);
        // A probe and its answer each second; member lists and one network compared each half minute, give or take.
        cluster.assert_idle(Duration::from_secs(180), IdleBudget { datagrams: 2.2, streams: 0.1 });
    }
}

#[test]
fn a_member_that_was_late_shows_one_value_after_the_other_only_once() {
    let (mut cluster, [a, b]) = cluster(602, ["a", "b"]);
    for number in 0..20 {
        if number == 0 {
            cluster.create(a, K, "0")
        } else {
            cluster.update(a, K, number.to_string())
        }
        cluster.run_for(if number % 2 == 0 { MILLISECOND } else { 5 * MILLISECOND });
    }
    cluster.await_shown(&[b], K, "19", SECOND);
    let shown: Vec<u32> =
        cluster.shown_so_far(b, K).into_iter().flatten().filter_map(|v| v.parse().ok()).collect();
    assert!(shown.is_sorted_by(|a, b| a < b), "{shown:?}");
    assert_ne!(cluster.shown_so_far(b, K), some(&[]));
    cluster.assert_promises();
}
