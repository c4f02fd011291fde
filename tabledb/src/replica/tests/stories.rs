//! The histories that systems of this kind got wrong, on the replicas alone.

use super::*;

/// A delete overtakes its create.
#[test]
fn delete_overtakes_create() {
    let mut cluster = Cluster::joined(3);
    // No watermarks of earlier changes are to come between.
    cluster.run(Duration::from_secs(10));
    cluster.held = Some(Vec::new());
    cluster.create(0, "k", "v");
    cluster.run(Duration::from_millis(5));
    cluster.delete(0, "k");
    cluster.run(Duration::from_millis(5));
    let held = cluster.held.take().unwrap();
    let of = |to: usize| {
        held.iter().filter(move |(from, t, _)| (*from, *t) == (0, to)).map(|(_, _, bytes)| bytes.clone())
    };
    let to_1: Vec<_> = of(1).collect();
    assert_eq!(to_1.len(), 2, "a create and a delete");
    // n2 receives only the create; n1 the delete first, then the create.
    let to_2: Vec<_> = of(2).collect();
    cluster.deliver(0, 2, &to_2[0]);
    cluster.deliver(0, 1, &to_1[1]);
    assert_eq!(cluster.get(1, "k"), None);
    cluster.deliver(0, 1, &to_1[0]);
    assert_eq!(cluster.get(1, "k"), None, "the late create is known to be superseded");
    assert_eq!(cluster.get(2, "k").as_deref(), Some("v"));
    let residual = |cluster: &Cluster, at: usize| {
        let inspected = cluster.replicas[at].inspect(NET, cluster.now).unwrap();
        inspected.entries[&(TABLE.to_owned(), "k".to_owned())].residual.unwrap()
    };
    let at_first = residual(&cluster, 1);
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.get(2, "k"), None, "watermarks revealed the delete to n2");
    assert!(residual(&cluster, 1) <= at_first.saturating_sub(Duration::from_secs(2)));
    let slack = Duration::from_millis(2);
    assert!(
        residual(&cluster, 2) <= residual(&cluster, 1) + slack,
        "a residual travels, and does not start over"
    );
}

/// A quick leave, rejoin and create, with the messages about them reordered.
#[test]
fn leave_and_rejoin_reordered() {
    let mut cluster = Cluster::joined(2);
    let now = cluster.now;
    cluster.held = Some(Vec::new());
    cluster.part(0, 1);
    cluster.replicas[0].leave_network(NET, now).unwrap();
    cluster.run(Duration::from_secs(3));
    cluster.join(0);
    cluster.create(0, "k", "v");
    cluster.run(Duration::from_secs(3));
    cluster.heal();
    let held = cluster.held.take().unwrap();
    let to_1: Vec<_> =
        held.into_iter().filter(|(from, to, _)| (*from, *to) == (0, 1)).map(|(_, _, b)| b).collect();
    assert!(to_1.len() >= 3, "{}", to_1.len());
    for bytes in to_1.iter().rev() {
        cluster.deliver(0, 1, bytes);
    }
    for bytes in &to_1 {
        cluster.deliver(0, 1, bytes);
    }
    assert_eq!(cluster.get(1, "k").as_deref(), Some("v"));
}

/// Two writers, one key, one Lamport time.
#[test]
fn concurrent_writers_have_one_winner() {
    for (a, b) in [(0, 1), (1, 0)] {
        let mut cluster = Cluster::joined(4);
        cluster.held = Some(Vec::new());
        cluster.create(a, "k", &format!("by-{a}"));
        cluster.create(b, "k", &format!("by-{b}"));
        cluster.run(Duration::from_millis(5));
        let held = cluster.held.take().unwrap();
        let time = |cluster: &Cluster, at: usize| {
            cluster.replicas[at].inspect(NET, cluster.now).unwrap().entries.values().next().unwrap().time
        };
        assert_eq!(time(&cluster, 0), time(&cluster, 1), "a tie");
        for (from, to, bytes) in held.iter().filter(|(_, to, _)| *to == 2) {
            cluster.deliver(*from, *to, bytes);
        }
        for (from, to, bytes) in held.iter().rev().filter(|(_, to, _)| *to != 2) {
            cluster.deliver(*from, *to, bytes);
        }
        cluster.assert_agreement();
        assert_eq!(cluster.get(3, "k").as_deref(), Some("by-1"), "the greater name wins");
    }
}

/// The list with the owner's attachment is lost; its write is not.
#[test]
fn lost_attachment() {
    let mut cluster = Cluster::strangers(3, |_| {});
    cluster.join(1);
    cluster.join(2);
    cluster.settle();
    cluster.held = Some(Vec::new());
    cluster.join(0);
    cluster.run(Duration::from_secs(1));
    for (from, to, bytes) in cluster.held.take().unwrap() {
        if (from, to) != (0, 1) {
            cluster.deliver(from, to, &bytes);
        }
    }
    cluster.create(0, "k", "v");
    cluster.run(Duration::from_millis(10));
    assert_eq!(cluster.get(1, "k").as_deref(), Some("v"), "accepted provisionally");
    assert!(cluster.replicas[1].counters().provisional > 0);
    cluster.probe_for(Duration::from_secs(2));
    assert_eq!(cluster.replicas[1].network_peers(NET).len(), 3, "and the list was asked for");
}

/// One node considers another failed, which makes changes, and returns.
#[test]
fn fail_change_return() {
    let mut cluster = Cluster::joined(3);
    cluster.create(0, "k1", "old");
    cluster.create(0, "k2", "old");
    cluster.settle();
    cluster.part(0, 1);
    cluster.failed(1, 0);
    assert_eq!(cluster.shown(1).len(), 0, "hidden");
    assert_eq!(cluster.replicas[1].statistics(NET).unwrap().hidden, 2);
    // Not even n2 relays it to n1.
    cluster.part(1, 2);
    cluster.delete(0, "k1");
    cluster.update(0, "k2", "new");
    cluster.settle();
    cluster.heal();
    cluster.alive(1, 0);
    assert_eq!(cluster.shown(1).len(), 0, "nothing is shown before it has been compared");
    cluster.run(Duration::from_millis(5));
    assert_eq!(cluster.shown(1), BTreeMap::from([("k2".to_owned(), "new".to_owned())]));
    assert_eq!(cluster.replicas[1].counters().shown_uncompared, 0);
}

/// A restarted node is a new instance: the entries of the earlier one are dropped, and its late messages have
/// no effect.
#[test]
fn a_new_instance_replaces_the_earlier_one() {
    let mut cluster = Cluster::joined(2);
    cluster.create(0, "old", "x");
    cluster.held = Some(Vec::new());
    cluster.create(0, "late", "x");
    cluster.run(Duration::from_millis(10));
    let late = cluster.held.take().unwrap();
    let config = Config::new(NodeId::new(name(0), 2));
    let origin = Origin { now: cluster.now, wall_clock: Duration::from_secs(1_000_100), seed: 9 };
    cluster.replicas[0] = Replica::new(config, origin).unwrap();
    cluster.alive(0, 1);
    cluster.alive(1, 0);
    assert_eq!(cluster.shown(1).len(), 0);
    for (_, to, bytes) in late.iter().filter(|(from, ..)| *from == 0) {
        cluster.deliver(0, *to, bytes);
    }
    assert_eq!(cluster.shown(1).len(), 0, "the superseded write is gone");
    assert!(cluster.replicas[1].counters().refused_ended > 0);
    cluster.join(0);
    cluster.create(0, "new", "y");
    cluster.probe_for(Duration::from_secs(2));
    assert_eq!(cluster.shown(1), BTreeMap::from([("new".to_owned(), "y".to_owned())]));
    cluster.assert_agreement();
}

/// A process that took the generation of an earlier one learns of writes that it never made, and takes a
/// later generation.
#[test]
fn a_generation_used_twice_is_noticed() {
    let mut cluster = Cluster::joined(2);
    for n in 0..5 {
        cluster.create(0, &format!("old-{n}"), "x");
    }
    cluster.settle();
    let config = Config::new(NodeId::new(name(0), 1));
    let origin = Origin { now: cluster.now, wall_clock: Duration::from_secs(1_000_000), seed: 9 };
    cluster.replicas[0] = Replica::new(config, origin).unwrap();
    cluster.alive(0, 1);
    let now = cluster.now;
    cluster.replicas[0].handle_cluster_joined(&name(1), now);
    cluster.join(0);
    cluster.create(0, "new", "y");
    cluster.settle();
    assert!(cluster.events[0].contains(&Event::GenerationTaken { generation: 1 }));
    let now = cluster.now;
    cluster.replicas[0].renew(2, now);
    cluster.alive(1, 0);
    cluster.probe_for(Duration::from_secs(2));
    assert_eq!(cluster.shown(1), BTreeMap::from([("new".to_owned(), "y".to_owned())]));
    cluster.assert_agreement();
}

/// Two processes took the same generation, and each reached one member alone: the members hold different
/// records under the same dot. That is detected, although both have seen and hold the same numbers, and the
/// owner starts a later generation.
#[test]
fn two_processes_with_the_same_generation_are_detected() {
    for delete in [false, true] {
        let mut cluster = Cluster::joined(3);
        cluster.part(0, 2);
        cluster.part(1, 2);
        cluster.create(0, "k", "first");
        cluster.create(0, "same", "first");
        cluster.settle();
        assert_eq!(cluster.get(1, "k").as_deref(), Some("first"));
        cluster.heal();
        cluster.part(0, 1);
        cluster.part(1, 2);
        let config = Config::new(NodeId::new(name(0), 1));
        let origin = Origin { now: cluster.now, wall_clock: Duration::from_secs(1_000_000), seed: 9 };
        cluster.replicas[0] = Replica::new(config, origin).unwrap();
        cluster.alive(0, 1);
        cluster.alive(0, 2);
        cluster.join(0);
        cluster.create(0, "k", "second");
        cluster.create(0, "other", "second");
        if delete {
            // It is superseded at the owner, and would be kept by the member that only the first process
            // reached.
            cluster.delete(0, "other");
        }
        cluster.settle();
        assert_eq!(cluster.get(2, "k").as_deref(), Some("second"));
        let digest = |at: usize| cluster.replicas[at].statistics(NET).unwrap().digest;
        assert_ne!(digest(1), digest(2));
        cluster.heal();
        cluster.probe_for(Duration::from_secs(5));
        assert!(cluster.events[0].contains(&Event::GenerationTaken { generation: 1 }));
        let now = cluster.now;
        cluster.replicas[0].renew(2, now);
        cluster.alive(1, 0);
        cluster.alive(2, 0);
        cluster.probe_for(Duration::from_secs(5));
        let mut expected = BTreeMap::from([("k".to_owned(), "second".to_owned())]);
        if !delete {
            expected.insert("other".into(), "second".into());
        }
        for at in 0..3 {
            assert_eq!(cluster.shown(at), expected, "n{at}");
        }
        cluster.assert_agreement();
    }
}

/// Entries that a node writes again in a later instance keep their time: they do not win over later writes of
/// other nodes.
#[test]
fn entries_written_again_by_a_later_instance_keep_their_time() {
    for deleted in [false, true] {
        let mut cluster = Cluster::joined(3);
        cluster.create(0, "k", "old");
        cluster.create(0, "untouched", "x");
        cluster.settle();
        cluster.part(0, 1);
        cluster.part(0, 2);
        match deleted {
            true => cluster.delete(1, "k"),
            false => cluster.update(1, "k", "new"),
        }
        cluster.settle();
        let now = cluster.now;
        cluster.replicas[0].renew(2, now);
        assert_eq!(cluster.get(0, "k").as_deref(), Some("old"), "it has not received it");
        cluster.heal();
        cluster.alive(1, 0);
        cluster.alive(2, 0);
        cluster.probe_for(Duration::from_secs(2));
        for at in 0..3 {
            assert_eq!(cluster.get(at, "k").as_deref(), (!deleted).then_some("new"), "deleted: {deleted}");
            assert_eq!(cluster.get(at, "untouched").as_deref(), Some("x"));
        }
        cluster.assert_agreement();
    }
}

/// An update of an owner that membership does not know yet is deferred.
#[test]
fn updates_of_an_unknown_instance_are_deferred() {
    let mut cluster = Cluster::joined(2);
    let instance = cluster.replicas[0].node().clone();
    let now = cluster.now;
    cluster.replicas[1].handle_owner_gone(&instance, now);
    cluster.create(0, "k", "v");
    cluster.run(Duration::from_millis(5));
    assert_eq!(cluster.get(1, "k"), None);
    assert!(cluster.replicas[1].counters().deferred > 0);
    cluster.alive(1, 0);
    assert_eq!(cluster.get(1, "k").as_deref(), Some("v"));
}

/// n0's "old" under "k", which n1 alone received and overwrote: n2 shows "new". Returned too is what n2 has not
/// received of "old".
fn overwritten_before_the_third_had_it() -> (Cluster, Vec<u8>) {
    let mut cluster = Cluster::joined(3);
    cluster.held = Some(Vec::new());
    cluster.create(0, "k", "old");
    cluster.run(Duration::from_millis(5));
    let creates = cluster.held.take().unwrap();
    let to =
        |at| creates.iter().find(move |(_, to, _)| *to == at).map(|(_, _, bytes)| bytes.clone()).unwrap();
    let (first, late) = (to(1), to(2));
    cluster.deliver(0, 1, &first);
    // n0 would relay the number of the overwritten value, and "old" itself when n2 asks for it.
    cluster.part(2, 0);
    cluster.update(1, "k", "new");
    cluster.run(Duration::from_millis(5));
    assert_eq!(cluster.get(2, "k").as_deref(), Some("new"));
    (cluster, late)
}

/// The overwriter leaves at once, and the overwritten value arrives late: it does not come back.
#[test]
fn an_overwritten_value_stays_superseded_when_the_overwriter_leaves() {
    let (mut cluster, late) = overwritten_before_the_third_had_it();
    let now = cluster.now;
    cluster.replicas[1].leave_network(NET, now).unwrap();
    cluster.run(Duration::from_millis(100));
    assert_eq!(cluster.get(2, "k"), None);
    cluster.heal();
    cluster.deliver(0, 2, &late);
    assert_eq!(cluster.get(2, "k"), None, "the number of the old value came with the new one");
    cluster.probe_for(Duration::from_secs(3));
    assert_eq!(cluster.get(0, "k"), None);
    cluster.assert_agreement();
}

/// An event names what it replaced, so that the old value cannot return after the new one has gone with its
/// writer.
#[test]
fn a_replaced_entry_is_superseded_as_soon_as_its_replacement_is_known() {
    let (mut cluster, late) = overwritten_before_the_third_had_it();
    let (instance, now) = (cluster.replicas[1].node().clone(), cluster.now);
    cluster.replicas[2].handle_owner_gone(&instance, now);
    cluster.heal();
    cluster.deliver(0, 2, &late);
    assert_eq!(cluster.get(2, "k"), None);
}

/// An owner joins, writes and leaves again between two of its lists that a member receives: its entries must
/// not stay.
#[test]
fn an_attachment_that_is_on_no_list_ends_with_the_later_list() {
    let mut cluster = Cluster::joined(3);
    let now = cluster.now;
    cluster.replicas[0].leave_network(NET, now).unwrap();
    cluster.run(Duration::from_secs(3));
    // The initial sync would bring the list to n1.
    cluster.cut.insert((1, 0));
    cluster.held = Some(Vec::new());
    cluster.join(0);
    cluster.create(0, "k", "v");
    cluster.run(Duration::from_millis(20));
    for (from, to, bytes) in cluster.held.take().unwrap() {
        let list = matches!(wire::codec::decode(&bytes), Ok(crate::replica::message::Datagram::Lists { .. }));
        if (from, to) == (0, 1) && !list {
            cluster.deliver(from, to, &bytes);
        }
    }
    assert_eq!(cluster.get(1, "k").as_deref(), Some("v"), "accepted provisionally");
    cluster.part(0, 1);
    let now = cluster.now;
    cluster.replicas[0].leave_network(NET, now).unwrap();
    cluster.probe_for(Duration::from_secs(2));
    assert_eq!(cluster.get(1, "k"), None);
}

/// During its initial sync, a node learns of a write that it has missed. A pull would bring the writer's
/// attachment alone: for example a delete, without the knowledge that the deleted entry is superseded.
#[test]
fn nothing_is_pulled_before_the_initial_sync() {
    let mut cluster = Cluster::strangers(3, |_| {});
    cluster.join(0);
    cluster.join(1);
    cluster.settle();
    cluster.create(0, "k", "v");
    cluster.run(Duration::from_secs(40));
    cluster.slow_streams = true;
    cluster.join(2);
    cluster.run(Duration::from_millis(10));
    cluster.held = Some(Vec::new());
    cluster.delete(1, "k");
    cluster.run(Duration::from_millis(60));
    let held = cluster.held.take().unwrap();
    let to_2: Vec<_> = held.iter().filter(|(from, to, _)| (*from, *to) == (1, 2)).collect();
    assert_eq!(to_2.len(), 2, "the delete and, later, its watermark");
    cluster.deliver(1, 2, &to_2[1].2);
    let is_synced = |cluster: &Cluster| cluster.replicas[2].statistics(NET).unwrap().synchronised;
    let mut steps = 0;
    while !is_synced(&cluster) {
        assert_eq!(cluster.replicas[2].counters().pulls, 0);
        cluster.run(Duration::from_millis(20));
        steps += 1;
        assert!(steps < 100, "the sync goes on");
    }
    assert!(steps > 2, "a pull was due twenty milliseconds after the watermark");
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.get(2, "k"), None);
}

/// A node leaves a network during its final sync, and returns before the sync is over. All further frames of
/// it are about the earlier attachment.
#[test]
fn a_sync_of_an_earlier_attachment_supersedes_nothing_of_the_next() {
    for steps in 0..15 {
        let mut cluster = Cluster::strangers(2, |config| config.reap_time = Duration::from_secs(1));
        cluster.join(0);
        cluster.join(1);
        cluster.settle();
        for key in ["a", "b", "c"] {
            cluster.create(0, key, "earlier");
        }
        cluster.run(Duration::from_secs(20));
        // n1 reaps its tombstone before it reaches n0: only the comparison reveals that "b" is superseded.
        cluster.lose_datagrams = true;
        cluster.delete(1, "b");
        cluster.run(Duration::from_secs(3));
        cluster.lose_datagrams = false;
        assert_eq!((cluster.get(0, "b").is_some(), cluster.replicas[1].counters().reaped), (true, 1));

        cluster.slow_streams = true;
        let now = cluster.now;
        cluster.replicas[0].leave_network(NET, now).unwrap();
        cluster.run(Duration::from_millis(100) * steps);
        cluster.now += Duration::from_secs(3);
        let now = cluster.now;
        cluster.replicas[0].handle_timeout(now);
        assert!(cluster.replicas[0].is_off_all_networks(), "it does not wait that long");
        cluster.join(0);
        for key in ["d", "e", "f"] {
            cluster.create(0, key, "later");
        }
        cluster.slow_streams = false;
        cluster.run(Duration::from_secs(5));
        assert_eq!(cluster.shown(0).keys().collect::<Vec<_>>(), ["d", "e", "f"], "after {steps} steps");
        cluster.assert_agreement();
    }
}

/// A node that responds `Equal` vouches for the entries that it shows, and not for those that it hides
/// itself.
#[test]
fn an_equal_response_shows_only_what_the_responder_shows() {
    let mut cluster = Cluster::joined(5);
    (0..5).for_each(|at| cluster.create(at, &format!("of {at}"), "v"));
    cluster.run(Duration::from_secs(40));
    // n0 hides n2, n3 and n4; n1 hides n2. They do not reach the hidden nodes themselves.
    for hidden in [2, 3, 4] {
        cluster.failed(0, hidden);
        cluster.part(0, hidden);
    }
    cluster.failed(1, 2);
    for back in [2, 3, 4] {
        cluster.alive(0, back);
    }
    assert_eq!(cluster.shown(0).len(), 2);
    cluster.run(Duration::from_secs(1));
    let shown: Vec<String> = cluster.shown(0).into_keys().collect();
    assert_eq!(shown, ["of 0", "of 1", "of 3", "of 4"], "n1 shows n3 and n4");
    assert_eq!(cluster.replicas[0].counters().shown_uncompared, 0);
    cluster.run(Duration::from_secs(5));
    assert_eq!(cluster.shown(0).len(), 5, "shown as it is, after five seconds");
    assert_eq!(cluster.replicas[0].counters().shown_uncompared, 1);
}

/// An owner is forgotten and returns with the same instance: its superseded entries stay superseded, on both
/// sides, and the rest is there again.
#[test]
fn superseded_entries_of_a_forgotten_owner_stay_superseded_when_it_returns() {
    let mut cluster = Cluster::strangers(3, |config| config.reap_time = Duration::from_secs(1));
    (0..3).for_each(|at| cluster.join(at));
    cluster.settle();
    for key in ["deleted", "overwritten", "kept", "of its own deleted"] {
        cluster.create(0, key, "v");
    }
    cluster.settle();
    cluster.part(0, 1);
    cluster.part(0, 2);
    cluster.delete(1, "deleted");
    cluster.update(2, "overwritten", "w");
    cluster.run(Duration::from_secs(3));
    let instance = cluster.replicas[0].node().clone();
    for at in [1, 2] {
        cluster.failed(at, 0);
        let now = cluster.now;
        cluster.replicas[at].handle_owner_forgotten(&instance, now);
        assert!(!cluster.replicas[at].inspect(NET, now).unwrap().attachments.contains_key(&instance.name));
    }
    cluster.delete(0, "of its own deleted");
    cluster.create(0, "late", "v");
    cluster.run(Duration::from_secs(3));
    cluster.heal();
    (1..3).for_each(|at| cluster.alive(at, 0));
    cluster.run(Duration::from_secs(40));
    for at in 0..3 {
        let shown: Vec<(String, String)> = cluster.shown(at).into_iter().collect();
        let expected = [("kept", "v"), ("late", "v"), ("overwritten", "w")];
        assert_eq!(shown, expected.map(|(key, value)| (key.to_owned(), value.to_owned())), "n{at}");
    }
    // An instance that has left never returns: nothing is retained of it.
    let now = cluster.now;
    cluster.replicas[1].handle_owner_gone(&instance, now);
    assert!(cluster.replicas[1].node.forgotten_owners.take(&instance, &NET.into(), 2).is_none());
}

/// A delete that was reaped where it was made, before the nodes that were cut off received it: they follow a
/// peer's claim alone. Own entries dropped in this way are counted separately, since they reveal a peer that
/// lies.
#[test]
fn entries_dropped_on_a_peers_claim_are_counted_and_own_entries_separately() {
    let mut cluster = Cluster::strangers(3, |config| config.reap_time = Duration::from_secs(1));
    (0..3).for_each(|at| cluster.join(at));
    cluster.settle();
    cluster.create(0, "k", "v");
    cluster.settle();
    cluster.part(0, 2);
    cluster.part(1, 2);
    cluster.delete(2, "k");
    cluster.run(Duration::from_secs(3));
    cluster.heal();
    cluster.probe_for(Duration::from_secs(5));
    let counts = |at: usize| {
        let counters = cluster.replicas[at].counters();
        (counters.superseded_dropped, counters.superseded_own_dropped)
    };
    assert_eq!((0..3).map(|at| cluster.get(at, "k")).collect::<Vec<_>>(), [None, None, None]);
    assert_eq!([counts(0), counts(1), counts(2)], [(1, 1), (1, 0), (0, 0)]);
}
