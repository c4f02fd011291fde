//! What went wrong in other systems of this kind, where a simulated cluster can show that it does not here.
//!
//! `n` stands for NetworkDB, `l` for memberlist and serf, `r` for the systems written in Rust; the numbers are those of
//! the catalogue that the README of this crate maps to tests.

use std::time::Duration;

use integration_tests::check::verdict::IdleBudget;
use integration_tests::cluster::{Cluster, Key, MILLISECOND, Peer, SECOND, Settings};
use integration_tests::fabric::{DropReason, Link, MessageKind, Verdict};
use membership::{Event, State};
use node::NodeEvent;

const NET: &str = "blue";
const K: Key<'static> = Key::new(NET, "services", "k");

fn cluster<const N: usize>(seed: u64, names: [&str; N]) -> (Cluster, [Peer; N]) {
    Cluster::settled(Settings::seeded(seed), names, NET)
}

fn many(settings: Settings, count: usize) -> (Cluster, Vec<Peer>) {
    let mut cluster = Cluster::new(settings);
    let peers = cluster.start_many(count);
    cluster.join_network(peers.iter().copied(), NET);
    cluster.settle();
    cluster.run_for(6 * SECOND);
    (cluster, peers)
}

fn has_reported(cluster: &Cluster, peer: Peer, wanted: impl Fn(&Event) -> bool) -> bool {
    let reported = |event: &NodeEvent| matches!(event, NodeEvent::Membership(event) if wanted(event));
    cluster.events(peer).iter().any(|(_, event)| reported(event))
}

#[test]
fn n02_a_delete_before_its_create_is_remembered() {
    let (mut cluster, [a, b, c]) = cluster(302, ["a", "b", "c"]);
    let hold = cluster.on_tables(a, c, Verdict::Hold);
    cluster.create(a, K, "v");
    cluster.await_shown(&[b], K, "v", SECOND);
    cluster.remove_rule(hold);
    cluster.delete(b, K);
    cluster.run_for(5 * MILLISECOND);
    assert!(cluster.held(c, K).is_some_and(|held| held.value.is_none()));
    for datagram in cluster.take_held() {
        cluster.deliver(&datagram);
    }
    cluster.run_for(SECOND);
    assert_eq!(cluster.shown_so_far(c, K), []);
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
        cluster.remove_rules(rules);
        cluster.await_absent(&[c], K, 10 * SECOND);
        cluster.run_for(35 * SECOND);
        assert_eq!(cluster.shown_so_far(b, K), [Some("v".to_owned()), None], "after {seconds} s");
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
fn n13_a_failure_writes_nothing() {
    let (mut cluster, [a, b, c]) = cluster(313, ["a", "b", "c"]);
    cluster.create(a, K, "v");
    cluster.create(b, Key::new(NET, "services", "of b"), "v");
    cluster.await_agreement(NET, SECOND);
    let writes = |cluster: &Cluster| -> u64 {
        [b, c].iter().map(|peer| cluster.machine(*peer).tables().replica().counters().writes).sum()
    };
    let (before, versions) = (writes(&cluster), cluster.inspect(c, NET).map(|state| state.entries.len()));
    cluster.crash(a);
    cluster.await_absent(&[b, c], K, 20 * SECOND);
    assert_eq!(writes(&cluster), before);
    assert_eq!(cluster.inspect(c, NET).map(|state| state.entries.len()), versions);
}

#[test]
fn n20_a_newcomer_shows_nothing_of_a_node_that_is_dead_already() {
    let (mut cluster, [a, b, c]) = cluster(320, ["a", "b", "c"]);
    cluster.create(a, K, "v");
    cluster.await_agreement(NET, SECOND);
    cluster.crash(a);
    cluster.await_absent(&[b, c], K, 20 * SECOND);
    let d = cluster.start_with_seeds("d", &[b]);
    cluster.join_network([d], NET);
    cluster.run_for(60 * SECOND);
    assert_eq!(cluster.shown_so_far(d, K), []);
    cluster.assert_promises();
}

#[test]
fn n22_a_dead_seed_is_not_called_for_ever() {
    let mut cluster = Cluster::new(Settings::seeded(322));
    let [a, b] = cluster.start(["a", "b"]);
    let dead = cluster.add("dead");
    let c = cluster.start_with_seeds("c", &[a, dead]);
    cluster.await_members(&[a, b, c], 10 * SECOND);
    cluster.run_for(60 * SECOND);
    let streams = cluster.traffic(c).streams;
    cluster.run_for(300 * SECOND);
    // One comparison of member lists each half minute.
    assert!(cluster.traffic(c).streams - streams <= 14, "{} streams", cluster.traffic(c).streams - streams);
}

#[test]
fn n31_local_writes_are_not_starved_by_relayed_ones() {
    let settings = Settings { inspection: None, watched: false, ..Settings::seeded(331) };
    let (mut cluster, peers) = many(settings, 12);
    cluster.set_links(Link { bandwidth: Some(1_250_000), ..Link::with_latency(MILLISECOND) });
    cluster.load(peers[0], NET, "load", "key ", 5_000, &[b'x'; 100]);
    cluster.run_for(10 * MILLISECOND);
    cluster.create(peers[1], K, "local");
    cluster.await_shown(&peers, K, "local", SECOND);
    cluster.await_agreement(NET, 30 * SECOND);
}

#[test]
fn n32_what_a_newcomer_was_given_it_does_not_pass_on() {
    let settings = Settings { inspection: None, watched: false, ..Settings::seeded(332) };
    let (mut cluster, [a, b, c]) = Cluster::settled(settings, ["a", "b", "c"], NET);
    cluster.load(a, NET, "load", "key ", 3_000, b"v");
    cluster.await_agreement(NET, 20 * SECOND);
    cluster.run_for(10 * SECOND);
    let d = cluster.start_with_seeds("d", &[b, c]);
    cluster.join_network([d], NET);
    cluster.await_agreement(NET, 10 * SECOND);
    cluster.run_for(10 * SECOND);
    let counters = cluster.machine(d).tables().replica().counters();
    assert_eq!((counters.gossip_sent, counters.backlogs), (0, 0));
}

#[test]
fn l02_a_starved_node_makes_no_other_fail() {
    let (mut cluster, peers) = many(Settings::seeded(402), 12);
    let starved = peers[0];
    for _ in 0..40 {
        cluster.pause(starved);
        cluster.run_for(1_500 * MILLISECOND);
        cluster.resume(starved);
        cluster.run_for(500 * MILLISECOND);
    }
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
    assert_eq!(cluster.shown_so_far(b, K), [Some("of the first".to_owned())]);
    assert!(cluster.agrees_on_members(b, &[a, b, c]) && cluster.agrees_on_members(c, &[a, b, c]));
}

#[test]
fn l05_the_forgotten_are_not_taught_back() {
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
fn l08_a_name_is_free_at_once_after_its_owner_left() {
    let (mut cluster, [a, b, c]) = cluster(408, ["a", "b", "c"]);
    cluster.leave(a);
    cluster.run_until("A has ended", 10 * SECOND, |cluster| !cluster.is_running(a));
    cluster.restart(a, &[b]);
    cluster.join_network([a], NET);
    cluster.create(a, K, "v");
    cluster.await_shown(&[b, c], K, "v", SECOND);
    cluster.await_members(&[a, b, c], SECOND);
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
    let (mut cluster, peers) = many(Settings::seeded(416), 30);
    let gossip = |cluster: &Cluster| -> u64 {
        peers.iter().map(|peer| cluster.machine(*peer).tables().replica().counters().gossip_sent).sum()
    };
    let before = gossip(&cluster);
    cluster.create(peers[0], K, "v");
    cluster.await_shown(&peers, K, "v", SECOND);
    cluster.run_for(10 * SECOND);
    let sent = gossip(&cluster) - before;
    assert!(sent <= 30 * 10, "{sent} datagrams for one write to 30 nodes");
    cluster.run_for(60 * SECOND);
    assert_eq!(gossip(&cluster) - before, sent, "it goes on");
}

#[test]
fn r08_a_cold_start_of_many_makes_no_datagram_too_large() {
    let mut cluster = Cluster::new(Settings { inspection: None, ..Settings::seeded(508) });
    let peers = cluster.start_many(50);
    let networks: Vec<String> =
        (0..20).map(|number| format!("a network with a long name {number}")).collect();
    for network in &networks {
        cluster.join_network(peers.iter().copied(), network);
    }
    cluster.settle();
    assert_eq!(cluster.fabric().traffic().dropped.get(&DropReason::TooLarge), None);
}

#[test]
fn r14_a_partition_heals_without_seeds() {
    let (mut cluster, peers) = many(Settings::seeded(514), 8);
    let (left, right) = peers.split_at(4);
    cluster.partition(&[left, right]);
    cluster.run_until("each side holds the other for failed", 90 * SECOND, |cluster| {
        let sees_failed = |observer: &Peer, subjects: &[Peer]| {
            subjects.iter().all(|subject| cluster.state_of(*observer, *subject) == Some(State::Failed))
        };
        left.iter().all(|peer| sees_failed(peer, right)) && right.iter().all(|peer| sees_failed(peer, left))
    });
    cluster.heal();
    cluster.await_members(&peers, 15 * SECOND);
    cluster.await_agreement(NET, 10 * SECOND);
}

#[test]
fn an_idle_cluster_sends_only_probes_whatever_its_size() {
    for count in [5, 20, 60] {
        let (mut cluster, peers) = many(Settings { inspection: None, ..Settings::seeded(601) }, count);
        cluster.create(peers[0], K, "v");
        cluster.await_shown(&peers, K, "v", SECOND);
        cluster.run_for(20 * SECOND);
        // A probe and its answer each second; member lists and one network compared each half minute, give or take.
        cluster.assert_idle(Duration::from_secs(300), IdleBudget { datagrams: 2.2, streams: 0.1 });
    }
}
