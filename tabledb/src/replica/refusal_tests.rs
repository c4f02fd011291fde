//! Writes that a node refuses delete nothing, there or elsewhere; they are not sent again and again; and they
//! are applied once possible.

use std::time::Duration;

use super::message::{AttachmentId, Bundle, Datagram};
use super::tests::{Cluster, NET, TABLE, name};
use super::{Origin, Replica};
use crate::Config;
use wire::{NodeId, codec};

const SECOND: Duration = Duration::from_secs(1);

/// All on the network; those in `limited` with other limits than the rest.
fn with_limits(count: usize, limited: &[usize], configure: impl Fn(&mut Config)) -> Cluster {
    let limited: Vec<_> = limited.iter().map(|&at| name(at)).collect();
    let mut cluster = Cluster::strangers(count, |config| {
        if limited.contains(&config.node.name) {
            configure(config);
        }
    });
    for at in 0..count {
        cluster.join(at);
    }
    cluster.settle();
    cluster
}

fn counted(cluster: &Cluster, at: usize, counter: &str) -> u64 {
    cluster.replicas[at].counters().iter().find(|count| count.name == counter).unwrap().value
}

fn shows(cluster: &Cluster, at: usize, key: &str) -> Option<String> {
    cluster.get(at, key).map(|value| value.chars().take(8).collect())
}

/// The bytes sent in this number of seconds, in which all probe each other, with a step in each.
fn bytes_in(cluster: &mut Cluster, seconds: u32, mut step: impl FnMut(&mut Cluster, u32)) -> u64 {
    let before = cluster.bytes;
    for second in 0..seconds {
        step(cluster, second);
        cluster.probe_for(SECOND);
    }
    cluster.bytes - before
}

/// The first of three has refused what the second wrote over its own "old"; the third has applied it.
fn assert_old_value_is_kept(cluster: &mut Cluster, counter: &str) {
    assert!(counted(cluster, 0, counter) > 0, "{counter}: refused");
    cluster.probe_for(100 * SECOND);
    assert_eq!(shows(cluster, 0, "k").as_deref(), Some("old"), "{counter}");
    for at in [1, 2] {
        assert_eq!(shows(cluster, at, "k").as_deref(), Some("newnewne"), "{counter}");
    }
    let superseded: u64 = (0..3).map(|at| counted(cluster, at, "superseded_dropped")).sum();
    assert_eq!(superseded, 0, "{counter}");
}

#[test]
fn a_value_too_long_for_this_node_leaves_the_old_one() {
    let mut cluster = with_limits(3, &[0], |config| config.limits.value_bytes = 100);
    cluster.create(1, "k", "old");
    cluster.settle();
    cluster.update(1, "k", &"new".repeat(100));
    cluster.settle();
    assert_old_value_is_kept(&mut cluster, "refused_too_long");
    assert_eq!(cluster.replicas[0].statistics(NET).unwrap().refused, 1);
    // A write that supersedes the refused one is applied like any other.
    cluster.update(2, "k", "short");
    cluster.probe_for(5 * SECOND);
    cluster.assert_agreement();
    assert_eq!(cluster.replicas[0].statistics(NET).unwrap().refused, 0);
}

/// Both members with which the deleter makes its final syncs have refused the deleted value. The delete ends with
/// the deleter's attachment, before gossip has named what it replaced.
#[test]
fn a_delete_of_a_refused_value_survives_the_leave_of_the_deleter() {
    let mut cluster = with_limits(4, &[0, 1], |config| config.limits.value_bytes = 100);
    cluster.create(2, "k", "old");
    cluster.settle();
    cluster.update(2, "k", &"new".repeat(100));
    cluster.settle();
    assert_eq!(shows(&cluster, 3, "k").as_deref(), Some("newnewne"));
    cluster.part(2, 3);
    cluster.delete(3, "k");
    let now = cluster.now;
    cluster.replicas[3].leave_network(NET, now).unwrap();
    cluster.exchange();
    assert!(cluster.replicas[3].networks().is_empty(), "the final syncs took no time");
    cluster.heal();
    cluster.probe_for(60 * SECOND);
    for at in 0..3 {
        assert_eq!(shows(&cluster, at, "k"), None, "replica {at}");
    }
    assert_eq!(cluster.replicas[0].statistics(NET).unwrap().refused, 0);
}

#[test]
fn a_network_full_by_bytes_keeps_the_old_value() {
    let mut cluster = with_limits(3, &[0], |config| config.limits.bytes = 250);
    cluster.create(1, "k", "old");
    cluster.create(1, "other", "value");
    cluster.settle();
    cluster.update(1, "k", &"new".repeat(100));
    cluster.settle();
    assert_old_value_is_kept(&mut cluster, "refused_bytes");
}

#[test]
fn a_time_too_far_ahead_leaves_the_old_value_here_and_everywhere() {
    let mut cluster = with_limits(4, &[], |_| {});
    cluster.create(0, "k", "old");
    cluster.settle();
    // A node that starts two hours ahead, and knows the existing entries.
    let now = cluster.now;
    let origin = Origin { now, wall_clock: Duration::from_secs(1_000_000 + 2 * 3600), seed: 9 };
    let instance = NodeId::new(name(3), 2);
    cluster.replicas[3] = Replica::new(Config::new(instance.clone()), origin).unwrap();
    for at in 0..3 {
        let other = cluster.replicas[at].node().clone();
        cluster.replicas[3].handle_owner_alive(&other, now);
        cluster.replicas[at].handle_owner_alive(&instance, now);
    }
    cluster.join(3);
    cluster.probe_for(5 * SECOND);
    assert_eq!(shows(&cluster, 3, "k").as_deref(), Some("old"));
    cluster.update(3, "k", "ahead");
    cluster.create(3, "new", "ahead");
    cluster.probe_for(60 * SECOND);
    for at in 0..3 {
        assert!(counted(&cluster, at, "refused_future") > 0, "n{at}");
        assert_eq!(shows(&cluster, at, "k").as_deref(), Some("old"), "n{at}");
        assert_eq!(shows(&cluster, at, "new"), None, "n{at}");
    }
    // Nor does the next write of any node disappear, whether the key is known or not.
    cluster.update(1, "k", "again");
    cluster.create(2, "new", "ours");
    cluster.probe_for(60 * SECOND);
    for at in 0..3 {
        assert_eq!(shows(&cluster, at, "k").as_deref(), Some("again"), "n{at}");
        assert_eq!(shows(&cluster, at, "new").as_deref(), Some("ours"), "n{at}");
        assert_eq!(counted(&cluster, at, "superseded_dropped"), 0);
    }
    // When its time has come, it is the greater version, and is applied.
    cluster.run(Duration::from_secs(3600));
    cluster.probe_for(140 * SECOND);
    cluster.assert_agreement();
    assert_eq!(shows(&cluster, 0, "k").as_deref(), Some("ahead"));
}

#[test]
fn writes_that_would_fragment_beyond_the_limit_leave_the_old_value() {
    let mut cluster = with_limits(3, &[0], |config| {
        config.limits.ranges = 16;
        config.limits.value_bytes = 100;
    });
    cluster.create(1, "k", "old");
    cluster.settle();
    for round in 0..20 {
        cluster.create(1, &format!("short-{round}"), "v");
        cluster.create(1, &format!("long-{round}"), &"v".repeat(101));
        cluster.settle();
    }
    assert!(counted(&cluster, 0, "refused_fragmented") > 0);
    cluster.update(1, "k", "newnewnew");
    cluster.settle();
    assert_old_value_is_kept(&mut cluster, "refused_fragmented");
}

#[test]
fn writes_beyond_capacity_supersede_nothing_and_arrive_when_capacity_is_free() {
    for counter in ["refused_full", "refused_tables", "refused_too_long"] {
        let mut cluster = with_limits(3, &[0], |config| match counter {
            "refused_full" => config.limits.entries = 10,
            "refused_tables" => config.limits.tables = 10,
            _ => config.limits.key_bytes = 7,
        });
        let now = cluster.now;
        for at in 0..40 {
            let replica = &mut cluster.replicas[1];
            let (table, key) = (format!("t{at}"), format!("key-{at:0width$}", width = 1 + at / 10));
            replica.create(NET, &table, &key, *b"v", now).unwrap();
        }
        cluster.probe_for(60 * SECOND);
        let held = cluster.shown(0).len();
        assert!((10..=30).contains(&held), "{counter}: {held}");
        assert!(counted(&cluster, 0, counter) > 0);
        assert_eq!(cluster.replicas[0].statistics(NET).unwrap().refused, 40 - held);
        assert_eq!(
            counted(&cluster, 0, "superseded_dropped") + counted(&cluster, 2, "superseded_dropped"),
            0
        );
        if counter == "refused_too_long" {
            continue;
        }
        // Capacity: deletes are applied, and their tombstones are reaped.
        let now = cluster.now;
        for at in 0..32 {
            let key = format!("key-{at:0width$}", width = 1 + at / 10);
            cluster.replicas[2].delete(NET, &format!("t{at}"), &key, now).unwrap();
        }
        cluster.run(Duration::from_secs(1900));
        cluster.probe_for(300 * SECOND);
        cluster.assert_agreement();
        assert_eq!((cluster.shown(0).len(), cluster.replicas[0].statistics(NET).unwrap().refused), (8, 0));
        let settled = cluster.bytes;
        cluster.exchange_digests();
        assert_eq!(cluster.bytes, settled, "fingerprints are offered again, and equal");
    }
}

#[test]
fn writes_refused_by_two_nodes_supersede_nothing_at_either() {
    // n0 and n2 accept no long values. n0 misses the second version of a key and refuses the third; n2 holds
    // the second.
    let mut cluster = with_limits(3, &[0, 2], |config| config.limits.value_bytes = 100);
    cluster.create(1, "k", "first");
    cluster.settle();
    cluster.part(0, 1);
    cluster.part(0, 2);
    cluster.update(1, "k", "second");
    cluster.run(SECOND);
    cluster.heal();
    cluster.part(1, 2);
    cluster.part(0, 2);
    cluster.update(1, "k", &"third".repeat(100));
    cluster.probe_for(5 * SECOND);
    assert_eq!(shows(&cluster, 0, "k").as_deref(), Some("first"));
    cluster.heal();
    cluster.part(1, 2);
    cluster.probe_for(100 * SECOND);
    // n0 knows that the second is superseded, n2 that the first is; neither holds the write that did it in
    // the end.
    assert_eq!(shows(&cluster, 2, "k").as_deref(), Some("second"));
    assert!(shows(&cluster, 0, "k").is_some());
    cluster.heal();
    cluster.probe_for(100 * SECOND);
    assert_eq!(shows(&cluster, 2, "k").as_deref(), Some("second"));
    assert_eq!(shows(&cluster, 1, "k").as_deref(), Some("thirdthi"));
    // When the owner's attachment ends, so does the refused write, and nothing is withheld any more.
    let instance = cluster.replicas[1].node().clone();
    let now = cluster.now;
    for at in [0, 2] {
        cluster.replicas[at].handle_owner_gone(&instance, now);
    }
    cluster.probe_for(150 * SECOND);
    assert_eq!(cluster.shown(0), cluster.shown(2));
    assert_eq!(cluster.replicas[0].statistics(NET).unwrap().refused, 0);
}

#[test]
fn a_claim_alone_drops_nothing_before_the_superseding_write_arrives() {
    // Two versions within one datagram: the first is sent as superseded with what it replaced; the second is
    // too long here.
    let mut cluster = with_limits(2, &[0], |config| config.limits.value_bytes = 2000);
    cluster.create(1, "k", "old");
    cluster.settle();
    cluster.update(1, "k", "new");
    cluster.update(1, "k", &"newest".repeat(1000));
    cluster.settle();
    assert_eq!(shows(&cluster, 0, "k").as_deref(), Some("old"));
    cluster.probe_for(100 * SECOND);
    assert_eq!(shows(&cluster, 0, "k").as_deref(), Some("old"));
    assert!(counted(&cluster, 0, "superseded_withheld") > 0, "it was asked to");
}

#[test]
fn entries_superseded_without_a_trace_are_dropped_beside_refused_writes() {
    // n0 refuses a write, and misses a delete for longer than the reap time.
    let mut cluster = with_limits(3, &[0], |config| config.limits.value_bytes = 100);
    cluster.create(1, "long", "old");
    cluster.create(1, "k", "v");
    cluster.settle();
    cluster.update(1, "long", &"new".repeat(100));
    cluster.settle();
    cluster.part(0, 1);
    cluster.part(0, 2);
    cluster.delete(2, "k");
    cluster.run(Duration::from_secs(1900));
    cluster.heal();
    cluster.probe_for(60 * SECOND);
    assert_eq!(shows(&cluster, 0, "k"), None);
    assert_eq!(shows(&cluster, 0, "long").as_deref(), Some("old"));
}

#[test]
fn a_node_with_refused_writes_reports_superseded_entries_under_other_keys() {
    // n0 misses a delete for longer than the reap time, and meets only members that refuse something.
    let mut cluster = with_limits(4, &[0, 1, 2], |config| config.limits.value_bytes = 100);
    cluster.create(3, "long", "old");
    cluster.create(3, "k", "v");
    cluster.settle();
    for other in 1..4 {
        cluster.part(0, other);
    }
    cluster.update(3, "long", &"new".repeat(100));
    cluster.delete(1, "k");
    cluster.run(Duration::from_secs(1900));
    cluster.heal();
    for other in 0..3 {
        cluster.part(3, other);
    }
    cluster.probe_for(100 * SECOND);
    assert_eq!(shows(&cluster, 0, "k"), None);
    assert_eq!(shows(&cluster, 0, "long").as_deref(), Some("old"));
}

#[test]
fn refused_writes_are_not_sent_again_and_again() {
    for counter in ["refused_bytes", "refused_full", "refused_too_long"] {
        let mut cluster = with_limits(4, &[0], |config| match counter {
            "refused_bytes" => config.limits.bytes = 100_000,
            "refused_full" => config.limits.entries = 100,
            _ => config.limits.value_bytes = 999,
        });
        for at in 0..1000 {
            cluster.create(1, &format!("key-{at}"), &"v".repeat(1000));
        }
        cluster.probe_for(10 * SECOND);
        assert!(counted(&cluster, 0, counter) >= 900);
        let idle = bytes_in(&mut cluster, 300, |_, _| {});
        let writing = bytes_in(&mut cluster, 120, |cluster, second| {
            cluster.update(1, &format!("key-{}", 500 + second % 7), &format!("{second:01000}"));
        });
        println!("{counter}: {} B/s idle, {} B/s at a write a second", idle / 300, writing / 120);
        assert!(idle / 300 < 2_000, "{counter}: {} B/s idle", idle / 300);
        // Each write goes to three members: 3 kB.
        assert!(writing / 120 < 12_000, "{counter}: {} B/s at a write a second", writing / 120);
    }
}

#[test]
fn a_superseded_number_learned_by_gossip_is_followed_by_watermarks() {
    let mut cluster = Cluster::joined(3);
    cluster.create(1, "k", "v");
    cluster.settle();
    // By hand: n1 reports three more superseded numbers to n0 alone.
    let bundle = Bundle {
        network: NET,
        clock: 0,
        relay: false,
        fingerprint: None,
        attachments: vec![AttachmentId { owner: "n1", generation: 1, epoch: 2 }],
        tables: vec![TABLE],
        watermarks: Vec::new(),
        superseded: vec![(0, 2, 4)],
        events: Vec::new(),
    };
    let now = cluster.now;
    cluster.part(1, 2);
    cluster.part(1, 0);
    cluster.replicas[0].handle_datagram(&name(1), &codec::encode(&Datagram::Gossip(bundle)), now).unwrap();
    cluster.settle();
    let seen = |at: usize| {
        let inspected = cluster.replicas[at].inspect(NET, cluster.now).unwrap();
        inspected.attachments[&name(1)].seen.highest()
    };
    assert_eq!((seen(0), seen(2)), (4, 4), "n2 learns of it without a comparison");
    assert_eq!(
        counted(&cluster, 2, "comparisons_fingerprint") + counted(&cluster, 0, "comparisons_fingerprint"),
        0
    );
}
