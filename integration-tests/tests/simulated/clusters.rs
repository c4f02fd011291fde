//! What anybody would try first: start, write, watch, pause, lose packets.

use std::time::Duration;

use integration_tests::cluster::{Cluster, Key, MILLISECOND, Peer, SECOND, Settings};
use integration_tests::fabric::{Latency, Link};
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
    // Watchers see each change once. That each fits what was before is checked in every run.
    let shown = cluster.shown_so_far(c, K);
    let values: Vec<Option<&str>> = shown.iter().map(Option::as_deref).collect();
    assert_eq!(values, [Some("one"), Some("two"), None, Some("four")]);
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
