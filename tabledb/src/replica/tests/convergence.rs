//! The fast mechanisms that spread updates, one at a time.

use wire::codec;

use super::super::message::{Frame, Open, SessionKind, Standing};
use super::*;

#[test]
fn a_write_reaches_everyone_by_datagrams_alone() {
    let mut cluster = Cluster::joined(4);
    let frames = cluster.frames;
    cluster.create(1, "k", "v");
    cluster.run(Duration::from_millis(5));
    for at in 0..4 {
        assert_eq!(cluster.get(at, "k").as_deref(), Some("v"), "n{at}");
    }
    assert_eq!(cluster.frames, frames, "no stream was needed");
}

#[test]
fn an_update_and_a_delete_by_another_node_win() {
    let mut cluster = Cluster::joined(3);
    cluster.create(0, "k", "a");
    cluster.settle();
    cluster.update(1, "k", "b");
    cluster.settle();
    assert_eq!(cluster.get(0, "k").as_deref(), Some("b"));
    cluster.delete(2, "k");
    cluster.settle();
    assert_eq!(cluster.get(0, "k"), None);
    assert_eq!(cluster.replicas[0].statistics(NET).unwrap().tombstones, 1);
    cluster.assert_agreement();
}

#[test]
fn lost_datagrams_are_pulled_when_watermarks_arrive() {
    let mut cluster = Cluster::joined(3);
    cluster.lose_datagrams = true;
    cluster.create(0, "k", "v");
    cluster.run(Duration::from_millis(10));
    assert_eq!(cluster.get(1, "k"), None, "the datagram was lost");
    cluster.lose_datagrams = false;
    cluster.settle();
    cluster.assert_agreement();
    assert_eq!(cluster.get(1, "k").as_deref(), Some("v"));
    assert!(cluster.replicas[1].counters().pulls > 0);
}

#[test]
fn a_backlog_goes_over_streams_and_arrives_once() {
    let mut cluster = Cluster::joined(4);
    let before = (cluster.bytes, cluster.datagrams);
    for n in 0..2000 {
        cluster.create(0, &format!("key-{n:05}"), &"x".repeat(100));
    }
    cluster.run(Duration::from_millis(20));
    cluster.assert_agreement();
    assert_eq!(cluster.shown(3).len(), 2000);
    let payload = 2000 * 110;
    let sent = cluster.bytes - before.0;
    assert!(sent < 3 * payload * 13 / 10, "{sent} bytes for {payload} to three");
    assert!(cluster.datagrams - before.1 < 30, "{} datagrams", cluster.datagrams - before.1);
}

#[test]
fn a_large_value_travels_at_once() {
    let mut cluster = Cluster::joined(3);
    let value = "v".repeat(1 << 20);
    cluster.create(0, "k", &value);
    cluster.run(Duration::from_millis(10));
    assert_eq!(cluster.get(2, "k"), Some(value));
}

#[test]
fn leaving_ends_the_leavers_entries_everywhere_and_saves_what_it_alone_relayed() {
    let mut cluster = Cluster::joined(4);
    cluster.create(0, "of-leaver", "x");
    cluster.settle();
    // n1's write reaches n0 alone, then n1 fails: only n0 can relay it.
    cluster.part(1, 2);
    cluster.part(1, 3);
    cluster.create(1, "of-failed", "y");
    cluster.run(Duration::from_millis(5));
    for at in [0, 2, 3] {
        cluster.failed(at, 1);
        cluster.part(1, at);
    }
    let now = cluster.now;
    cluster.replicas[0].leave_network(NET, now).unwrap();
    cluster.settle();
    assert!(cluster.replicas[0].statistics(NET).is_none());
    for at in [2, 3] {
        let inspected = cluster.replicas[at].inspect(NET, cluster.now).unwrap();
        assert!(!inspected.entries.contains_key(&(TABLE.to_owned(), "of-leaver".to_owned())), "n{at}");
        assert!(inspected.entries.contains_key(&(TABLE.to_owned(), "of-failed".to_owned())), "n{at}");
    }
}

#[test]
fn an_idle_cluster_sends_nothing() {
    let mut cluster = Cluster::joined(5);
    cluster.create(0, "k", "v");
    cluster.run(Duration::from_secs(20));
    let before = (cluster.datagrams, cluster.frames);
    cluster.run(Duration::from_secs(10));
    assert_eq!(cluster.datagrams, before.0);
    let periodic = 5 * 4;
    assert!(cluster.frames - before.1 <= periodic, "only anti-entropy: {} frames", cluster.frames - before.1);
}

#[test]
fn equal_members_compare_by_one_fingerprint() {
    let mut cluster = Cluster::joined(2);
    for n in 0..1000 {
        cluster.create(0, &format!("key-{n}"), "value");
    }
    cluster.run(Duration::from_secs(10));
    let before = cluster.bytes;
    cluster.run(Duration::from_secs(100));
    let syncs: u64 = cluster.replicas.iter().map(|replica| replica.counters().comparisons_periodic).sum();
    assert!(syncs >= 2, "{syncs}");
    assert!(cluster.bytes - before < 1000, "{} bytes", cluster.bytes - before);
}

#[test]
fn one_superseded_entry_among_many_is_found_by_descent() {
    let mut cluster = Cluster::joined(3);
    for n in 0..20_000 {
        cluster.create(0, &format!("key-{n:05}"), "value");
    }
    cluster.settle();
    cluster.part(2, 0);
    cluster.part(2, 1);
    cluster.delete(1, "key-12345");
    cluster.run(Duration::from_secs(5));
    assert_eq!(cluster.shown(2).len(), 20_000);
    // The tombstone is reaped, and the fast mechanism goes with it.
    cluster.run(Duration::from_secs(40 * 60));
    assert_eq!(cluster.replicas[0].statistics(NET).unwrap().tombstones, 0);
    cluster.heal();
    let before = cluster.bytes;
    cluster.probe_for(Duration::from_secs(4));
    cluster.assert_agreement();
    assert_eq!(cluster.get(2, "key-12345"), None);
    assert!(cluster.bytes - before < 20_000, "{} bytes for one difference in 20,000", cluster.bytes - before);
}

#[test]
fn in_a_larger_network_updates_are_relayed_and_reach_every_member() {
    let mut cluster = Cluster::joined(30);
    cluster.run(Duration::from_secs(10));
    let before = (cluster.datagrams, cluster.frames);
    cluster.create(7, "k", "v");
    cluster.run(Duration::from_millis(20));
    let reached = (0..30).filter(|&at| cluster.get(at, "k").is_some()).count();
    assert!(reached >= 28, "the first wave reached {reached} of 30");
    // ln 29 + 2, rounded up.
    assert!(cluster.datagrams - before.0 <= 30 * 6, "{} datagrams", cluster.datagrams - before.0);
    assert_eq!(cluster.frames, before.1, "no stream yet");
    cluster.settle();
    for at in 0..30 {
        assert_eq!(cluster.get(at, "k").as_deref(), Some("v"), "n{at}");
    }
}

#[test]
fn in_a_larger_network_a_backlog_is_pushed_on_and_arrives_about_once() {
    let mut cluster = Cluster::joined(20);
    cluster.run(Duration::from_secs(10));
    let before = cluster.bytes;
    for n in 0..1000 {
        cluster.create(0, &format!("key-{n:05}"), &"x".repeat(100));
    }
    cluster.run(Duration::from_millis(300));
    for at in 0..20 {
        assert_eq!(cluster.shown(at).len(), 1000, "n{at}");
    }
    let pulls: u64 = cluster.replicas.iter().map(|replica| replica.counters().pulls).sum();
    assert!(pulls <= 6, "{pulls} of 19 had to ask for it");
    let payload = 19 * 1000 * 130;
    let sent = cluster.bytes - before;
    assert!(sent < payload * 3 / 2, "{sent} bytes, where every entry once is {payload}");
}

#[test]
fn the_periodic_comparison_reports_what_it_found() {
    let mut cluster = Cluster::joined(2);
    cluster.create(0, "k", "v");
    cluster.run(Duration::from_secs(60));
    let finds = |cluster: &Cluster| cluster.replicas.iter().map(|r| r.counters().periodic_finds).sum::<u64>();
    assert_eq!(finds(&cluster), 0, "the faster mechanisms had brought it");
    cluster.part(0, 1);
    cluster.update(0, "k", "w");
    cluster.run(Duration::from_secs(20));
    cluster.heal();
    cluster.run(Duration::from_secs(60));
    assert_eq!(cluster.get(1, "k").as_deref(), Some("w"), "with neither probes nor watermarks");
    assert_eq!(finds(&cluster), 1);
}

/// Between just these two, no probe may pass for a long while, above all after a cut, when probes are slow.
#[test]
fn a_short_cut_is_over_soon_without_a_probe() {
    let mut cluster = Cluster::joined(2);
    cluster.create(0, "k", "v");
    cluster.run(Duration::from_secs(30));
    cluster.part(0, 1);
    cluster.update(0, "k", "w");
    cluster.run(Duration::from_secs(6));
    cluster.heal();
    cluster.run(Duration::from_secs(3));
    assert_eq!(
        cluster.get(1, "k").as_deref(),
        Some("w"),
        "the watermarks sent eight seconds after the write"
    );
}

/// A number that is live here and superseded there shows in no watermark: both have seen the same numbers.
#[test]
fn a_superseded_entry_is_found_by_the_fingerprint_sent_with_watermarks() {
    let mut cluster = Cluster::joined(3);
    cluster.create(0, "k", "v");
    cluster.settle();
    cluster.part(0, 2);
    cluster.part(1, 2);
    cluster.delete(0, "k");
    cluster.run(Duration::from_secs(40 * 60));
    assert_eq!(cluster.replicas[0].statistics(NET).unwrap().tombstones, 0);
    // Another node's write makes all of them look.
    cluster.heal();
    cluster.create(1, "other", "v");
    cluster.run(Duration::from_secs(4));
    cluster.assert_agreement();
    assert_eq!(cluster.get(2, "k"), None);
}

#[test]
fn members_who_were_on_a_network_before_they_met_find_each_other() {
    let mut cluster = Cluster::strangers(4, |_| {});
    cluster.lose_datagrams = true;
    for at in 0..4 {
        cluster.join(at);
        cluster.create(at, &format!("of-{at}"), "v");
    }
    cluster.run(Duration::from_secs(1));
    for at in 0..4 {
        assert_eq!(cluster.replicas[at].network_peers(NET).len(), 4, "n{at}");
        assert_eq!(cluster.shown(at).len(), 4, "n{at}");
    }
}

#[test]
fn a_node_new_to_the_cluster_is_not_ready_before_it_knows_who_is_on_the_network() {
    let mut cluster = Cluster::strangers(3, |_| {});
    cluster.join(0);
    cluster.create(0, "k", "v");
    // n2 has just joined and knows of no node's networks.
    cluster.join(2);
    cluster.run(Duration::from_millis(1));
    let ready = ready(NET, JoinOutcome::Synchronised);
    assert!(!cluster.events[2].contains(&ready));
    cluster.run(Duration::from_millis(500));
    assert!(cluster.events[2].contains(&ready));
    assert_eq!(cluster.get(2, "k").as_deref(), Some("v"));
}

/// Both open a full sync at the same time, and the one that goes on takes longer than several attempts of the
/// other.
#[test]
fn a_newcomer_is_not_ready_before_a_long_sync_that_the_other_opened_is_over() {
    let mut cluster = Cluster::strangers(2, |_| {});
    cluster.join(0);
    for n in 0..5000 {
        cluster.create(0, &format!("key-{n}"), &"x".repeat(100));
    }
    cluster.settle();
    cluster.join(1);
    let now = cluster.now;
    cluster.replicas[1].handle_cluster_joined(&name(0), now);
    cluster.slow_streams = true;
    let ready = ready(NET, JoinOutcome::Synchronised);
    let mut syncs_refused = 0;
    while !cluster.events[1].contains(&ready) {
        cluster.run(Duration::from_millis(100));
        syncs_refused = syncs_refused.max(cluster.replicas[1].counters().sessions_opened);
        assert!(cluster.now - now < Duration::from_secs(60), "never ready");
    }
    assert_eq!(cluster.shown(1).len(), 5000);
    cluster.assert_agreement();
    assert!(syncs_refused > 4, "n1 tried meanwhile: {syncs_refused}");
}

/// Probes arrive while streams fail: the comparison that they requested is requested again as soon as it is
/// possible.
#[test]
fn a_comparison_that_was_cut_short_is_repeated_with_the_next_probe() {
    let mut cluster = Cluster::joined(2);
    cluster.create(0, "k", "v");
    cluster.settle();
    cluster.part(0, 1);
    cluster.delete(1, "k");
    cluster.run(Duration::from_secs(31 * 60));
    assert_eq!(cluster.get(0, "k").as_deref(), Some("v"));
    let probe = |cluster: &mut Cluster| {
        let now = cluster.now;
        for (a, b) in [(0, 1), (1, 0)] {
            let digest = cluster.replicas[a].digest_for(&name(b), 500, now).unwrap();
            cluster.replicas[b].handle_digest(&name(a), &digest, now).unwrap();
        }
    };
    for _ in 0..5 {
        probe(&mut cluster);
        cluster.run(Duration::from_secs(1));
    }
    assert_eq!(cluster.get(0, "k").as_deref(), Some("v"));
    cluster.heal();
    probe(&mut cluster);
    cluster.run(Duration::from_millis(100));
    assert_eq!(cluster.get(0, "k"), None);
}

#[test]
fn a_newcomer_in_its_initial_sync_turns_other_full_syncs_away() {
    let mut cluster = Cluster::strangers(4, |_| {});
    for at in 0..3 {
        cluster.join(at);
    }
    for number in 0..3_000 {
        cluster.create(0, &format!("k{number}"), &"v".repeat(500));
        cluster.run(Duration::from_micros(100));
    }
    cluster.run(Duration::from_secs(60));
    cluster.slow_streams = true;
    cluster.join(3);
    for step in 0.. {
        assert!(step < 50, "the initial sync brings updates");
        cluster.run(Duration::from_millis(100));
        if !cluster.shown(3).is_empty() {
            break;
        }
    }
    assert!(cluster.shown(3).len() < 3_000, "and not all of it at once");
    // Each of the others, by hand: because its period is over, because of a difference, and because it
    // leaves, which cannot wait.
    let now = cluster.now;
    for at in 0..3 {
        let reasons =
            [(true, Standing::Synchronised), (false, Standing::Synchronised), (false, Standing::Leaving)];
        for (periodic, standing) in reasons {
            let (kind, fingerprint) = (SessionKind::Full, 7);
            let open = Open {
                kind,
                network: NET,
                clock: 0,
                generation: 1,
                epoch: 2,
                fingerprint,
                periodic,
                wall: 1_000_000_000_000,
                standing,
            };
            let leaves = open.standing == Standing::Leaving;
            let newcomer = &mut cluster.replicas[3];
            let stream = newcomer.handle_stream_opened(&name(at), now);
            newcomer.handle_frame(stream, &codec::encode(&Frame::Open(open)), now).unwrap();
            let busy = FramePoll::Frame(codec::encode(&Frame::Busy));
            assert_eq!(newcomer.poll_frame(stream, now) != busy, leaves, "n{at}");
        }
    }
}
