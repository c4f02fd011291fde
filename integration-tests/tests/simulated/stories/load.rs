//! Story 10: more than fits at once.

use std::cell::Cell;
use std::rc::Rc;

use integration_tests::cluster::{Cluster, Key, MILLISECOND, SECOND, Settings};
use integration_tests::fabric::{DropReason, Link, Verdict};

/// C joins four networks at once through A, while links are narrow, datagrams become smaller and a watcher stalls.
fn overloaded_sync(entries: usize, bandwidth: u64, later_limit: usize) {
    let networks = ["n1", "n2", "n3", "n4"];
    let mut cluster = Cluster::new(Settings { inspection: None, watched: false, ..Settings::seeded(110) });
    let [a, b] = cluster.start(["a", "b"]);
    for network in networks {
        cluster.join_network([a, b], network);
    }
    cluster.settle();
    for network in networks {
        cluster.load(a, network, "load", "key ", entries, &[b'x'; 200]);
    }
    cluster.create(a, Key::new("n1", "large", "one"), [b'y'; 8192]);
    for network in networks {
        cluster.await_agreement(network, 120 * SECOND);
    }
    let c = cluster.start_with_seeds("c", &[a]);
    cluster.await_members(&[a, b, c], 10 * SECOND);
    // As over a path of Ethernet, that later turns out to carry no more than QUIC is sure of: 1,200 B with its own headers.
    let link = Link { bandwidth: Some(bandwidth), datagram_limit: 1_414, ..Link::with_latency(MILLISECOND) };
    cluster.set_links(link.clone());
    let rules = cluster.isolate_tables(c, &[b]);
    // This watcher never takes its events.
    let stalled = cluster.machine(c).tables().watch(tabledb::WatchFilter::default());
    let (largest, bytes) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (seen_largest, seen_bytes) = (largest.clone(), bytes.clone());
    cluster.rule(move |message| {
        seen_largest.set(seen_largest.get().max(message.bytes.len()));
        seen_bytes.set(seen_bytes.get() + message.bytes.len());
        Verdict::Pass
    });
    for network in networks {
        cluster.join_network([c], network);
    }
    cluster.run_for(200 * MILLISECOND);
    assert!(networks.iter().any(|network| !cluster.is_ready(c, network)), "amid the syncs");
    cluster.set_links(Link { datagram_limit: later_limit, ..link });
    // Meanwhile local writes spread promptly.
    for number in 0..10 {
        let key = format!("during {number}");
        let key = Key::new("n2", "local", &key);
        let value = "v".repeat(500);
        cluster.create(a, key, &value);
        cluster.await_shown(&[b], key, &value, SECOND);
        cluster.create(c, Key::new("n3", "local", &format!("of c {number}")), "v");
    }
    cluster.run_until("all joins are over", 60 * SECOND, |cluster| {
        networks.iter().all(|network| cluster.is_ready(c, network))
    });
    cluster.remove_rules(rules);
    for network in networks {
        cluster.await_agreement(network, 10 * SECOND);
    }
    assert!(cluster.shows(c, Key::new("n1", "large", "one"), [b'y'; 8192]));
    assert!(bytes.get() > networks.len() * entries * 200, "all of it came: {} B", bytes.get());
    // Memory: no more waits than a piece of a sync, a watcher's queue, and some datagrams of updates.
    assert!(largest.get() <= 68 << 10, "the largest message had {} B", largest.get());
    assert_eq!(cluster.machine(c).replica().counters().watchers_lagged, 1, "the watcher was cut off");
    for peer in [a, b, c] {
        assert_eq!(cluster.machine(peer).membership().statistics().failures_declared, 0);
    }
    let too_large = cluster.fabric().traffic().dropped.contains_key(&DropReason::TooLarge);
    assert_eq!(too_large, later_limit < 1_151, "datagrams fit what every path carries");
    drop(stalled);
    cluster.assert_promises();
}

// The whole of it, a hundred thousand entries of more than twenty megabytes, in an optimised build; a tenth of it where every
// step is ten times slower.
const ENTRIES: usize = if cfg!(debug_assertions) { 2_500 } else { 25_000 };
const BANDWIDTH: u64 = if cfg!(debug_assertions) { 1_250_000 } else { 12_500_000 };

#[test]
fn story_10_overloaded_sync() {
    overloaded_sync(ENTRIES, BANDWIDTH, 1_162);
}

#[test]
fn story_10_on_a_path_that_carries_less_than_it_must() {
    overloaded_sync(ENTRIES, BANDWIDTH, 400);
}

#[test]
fn a_newcomer_gets_everything_once_while_others_overwrite() {
    const ENTRIES: usize = 5_000;
    const NET: &str = "blue";
    let mut cluster = Cluster::new(Settings { inspection: None, watched: false, ..Settings::seeded(111) });
    let peers = cluster.start(["a", "b", "c", "d"]);
    cluster.join_network(peers, NET);
    cluster.settle();
    cluster.load(peers[0], NET, "load", "key ", ENTRIES, &[b'x'; 100]);
    cluster.await_agreement(NET, 30 * SECOND);
    // Until all have made their first syncs.
    cluster.run_for(5 * SECOND);
    let newcomer = cluster.start_with_seeds("e", &peers);
    cluster.await_members(&[&peers[..], &[newcomer]].concat(), 10 * SECOND);
    // One copy of all takes ten seconds.
    cluster.set_links(Link { bandwidth: Some(60_000), ..Link::with_latency(MILLISECOND) });
    let (place, bytes) = (cluster.location(newcomer), Rc::new(Cell::new(0)));
    let seen = bytes.clone();
    cluster.rule(move |message| {
        if message.to == place {
            seen.set(seen.get() + message.bytes.len());
        }
        Verdict::Pass
    });
    cluster.join_network([newcomer], NET);
    let mut written = 0;
    while !cluster.is_ready(newcomer, NET) {
        assert!(written < 300, "not ready after half a minute");
        // A node that did not create it: an entry is superseded on another node than the one that announced it.
        let key = format!("key {}", written * 1_009 % ENTRIES);
        cluster.update(peers[1 + written % 3], Key::new(NET, "load", &key), format!("new {written}"));
        cluster.run_for(100 * MILLISECOND);
        written += 1;
    }
    let held = cluster.visible(newcomer, NET).len();
    assert!(held >= ENTRIES, "ready with {held} entries");
    let copies = bytes.get() as f64 / (ENTRIES * 115) as f64;
    assert!(copies < 1.3, "everything came {copies:.2} times");
    cluster.await_agreement(NET, 10 * SECOND);
    cluster.assert_promises();
}
