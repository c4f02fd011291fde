//! A node with little capacity among others with much: what it refuses deletes nothing, costs little, and comes when it can.

use std::time::Duration;

use integration_tests::cluster::{Cluster, Key, Peer, SECOND, Settings};
use tabledb::Limits;

use super::{K, NET};

/// Three nodes on the network, and a fourth with these limits.
fn with_small(seed: u64, limits: Limits) -> (Cluster, [Peer; 4]) {
    // Every change is checked; the many entries are not looked through four times a second.
    let settings = Settings { inspection: Some(10 * SECOND), ..Settings::seeded(seed) };
    let (mut cluster, [a, b, c]) = Cluster::settled(settings, ["a", "b", "c"], NET);
    let d = cluster.add("d");
    cluster.set_limits(d, limits);
    cluster.start_instance(d, &[a, b, c]);
    cluster.await_members(&[a, b, c, d], 10 * SECOND);
    cluster.join_network([d], NET);
    cluster.run_until("d is ready", 5 * SECOND, |cluster| cluster.is_ready(d, NET));
    (cluster, [a, b, c, d])
}

/// The bytes about tables that all of them send in a second, over so many seconds.
fn bytes_a_second(cluster: &mut Cluster, seconds: u64, mut step: impl FnMut(&mut Cluster, u64)) -> u64 {
    let before = cluster.fabric().traffic().tables.bytes;
    for second in 0..seconds {
        step(cluster, second);
        cluster.run_for(SECOND);
    }
    (cluster.fabric().traffic().tables.bytes - before) / seconds
}

fn refused(cluster: &Cluster, peer: Peer) -> usize {
    cluster.machine(peer).tables().statistics(NET).map_or(0, |statistics| statistics.refused)
}

#[test]
fn what_a_small_node_refuses_deletes_nothing_and_costs_little() {
    let (mut cluster, [a, b, c, d]) =
        with_small(1201, Limits { bytes: 20_000, value_bytes: 1500, ..Limits::default() });
    cluster.create(a, K, "old");
    cluster.await_shown(&[a, b, c, d], K, "old", SECOND);
    let long = "new".repeat(1000);
    cluster.update(b, K, &long);
    cluster.await_shown(&[a, b, c], K, &long, 2 * SECOND);
    cluster.load(c, NET, "services", "many-", 200, &[7; 1000]);
    cluster.run_for(30 * SECOND);
    assert!(refused(&cluster, d) > 150, "{}", refused(&cluster, d));
    let idle = bytes_a_second(&mut cluster, 60, |_, _| {});
    let writing = bytes_a_second(&mut cluster, 30, |cluster, second| {
        let key = format!("many-{}", 100 + second % 7);
        cluster.update(c, Key::new(NET, "services", &key), [second as u8; 1000]);
    });
    println!("{idle} B/s when idle, {writing} B/s at a write a second");
    assert!(idle < 3_000, "{idle} B/s when idle");
    assert!(writing < 15_000, "{writing} B/s at a write a second, of which 3,000 are the write");
    for peer in [a, b, c] {
        assert!(cluster.shows(peer, K, &long));
    }
    assert!(cluster.shows(d, K, "old"), "what it could not replace stays");
    // With the reason it passes.
    cluster.update(a, K, "short");
    cluster.await_shown(&[a, b, c, d], K, "short", 5 * SECOND);
    for number in 0..195 {
        cluster.delete(c, Key::new(NET, "services", &format!("many-{number}")));
    }
    cluster.run_for(Duration::from_secs(300));
    cluster.await_agreement(NET, 5 * SECOND);
    assert_eq!(refused(&cluster, d), 0);
}
