//! Many networks at once, initial and final syncs, and comparisons that find differences under continuous
//! writes.

use wire::{FramePoll, codec};

use super::super::Stream;
use super::super::message::{
    AttachmentId, AttachmentList, Bundle, Datagram, Frame, SessionKind, Settled, VersionVectorEntry,
};
use super::super::session::Role;
use super::super::timing::MISSING_GRACE;
use super::*;

fn network(number: usize) -> String {
    format!("net-{number:03}")
}

fn join_all(cluster: &mut Cluster, at: usize, networks: usize) {
    let now = cluster.now;
    for number in 0..networks {
        cluster.replicas[at].join_network(&network(number), now).unwrap();
    }
}

fn entries(cluster: &Cluster, at: usize, network: &str) -> usize {
    cluster.replicas[at].statistics(network).map_or(0, |counts| counts.entries)
}

/// How the join of a network ended, if that has been reported.
fn join_outcome(cluster: &Cluster, at: usize, name: &str) -> Option<JoinOutcome> {
    cluster.events[at].iter().find_map(|event| match event {
        Event::NetworkReady { network, outcome } if network == name => Some(*outcome),
        _ => None,
    })
}

fn is_ready(cluster: &Cluster, at: usize, name: &str) -> bool {
    join_outcome(cluster, at, name).is_some()
}

#[test]
fn leaving_many_networks_at_once_loses_no_delete() {
    const NETWORKS: usize = 40;
    let mut cluster = Cluster::strangers(3, |_| {});
    for at in 0..3 {
        join_all(&mut cluster, at, NETWORKS);
    }
    cluster.settle();
    let now = cluster.now;
    for number in 0..NETWORKS {
        for key in ["a", "b", "c"] {
            cluster.replicas[1].create(&network(number), TABLE, key, *b"v", now).unwrap();
        }
    }
    cluster.settle();
    // Only the final syncs bring these.
    cluster.lose_datagrams = true;
    cluster.run(Duration::from_secs(40));
    let now = cluster.now;
    for number in 0..NETWORKS {
        for key in ["a", "b", "c"] {
            cluster.replicas[0].delete(&network(number), TABLE, key, now).unwrap();
        }
        cluster.replicas[0].leave_network(&network(number), now).unwrap();
    }
    cluster.settle();
    assert!(cluster.replicas[0].is_off_all_networks());
    for number in 0..NETWORKS {
        for at in [1, 2] {
            assert_eq!(entries(&cluster, at, &network(number)), 0, "n{at} {}", network(number));
        }
    }
}

#[test]
fn a_sync_that_a_peer_opened_before_is_no_final_sync() {
    let mut cluster = Cluster::joined(2);
    cluster.create(1, "k", "v");
    cluster.settle();
    cluster.lose_datagrams = true;
    cluster.slow_streams = true;
    // Each holds an entry that the other lacks, and the other opens a comparison.
    cluster.create(0, "mine", "v");
    cluster.create(1, "yours", "v");
    let before = cluster.replicas[1].counters().sessions_opened;
    for _ in 0..2 {
        cluster.run(Duration::from_millis(1100));
        let now = cluster.now;
        let digest = cluster.replicas[0].digest_for(&name(1), 500, now).unwrap();
        cluster.replicas[1].handle_digest(&name(0), &digest, now).unwrap();
    }
    cluster.exchange();
    assert_eq!(cluster.replicas[1].counters().sessions_opened, before + 1);
    // It is reporting its live numbers when this one deletes entries that have been compared already, and
    // leaves.
    cluster.run(Duration::from_millis(250));
    cluster.delete(0, "k");
    let now = cluster.now;
    let opened = cluster.replicas[0].counters().sessions_opened;
    cluster.replicas[0].leave_network(NET, now).unwrap();
    cluster.run(Duration::from_secs(3));
    assert_eq!(cluster.replicas[0].networks().len(), 0);
    assert!(cluster.replicas[0].counters().sessions_opened > opened);
    let left = cluster.events[0].iter().any(|event| matches!(event, Event::NetworkLeft { .. }));
    assert!(left);
    assert_eq!(cluster.get(1, "k"), None);
}

#[test]
fn forty_networks_joined_at_once_are_ready_when_they_hold_everything() {
    const NETWORKS: usize = 40;
    const ENTRIES: usize = 20;
    let mut cluster = Cluster::strangers(3, |_| {});
    for at in 0..2 {
        join_all(&mut cluster, at, NETWORKS);
    }
    cluster.settle();
    let now = cluster.now;
    for number in 0..NETWORKS {
        for key in 0..ENTRIES {
            cluster.replicas[0].create(&network(number), TABLE, &format!("k{key}"), *b"v", now).unwrap();
        }
    }
    cluster.settle();
    cluster.slow_streams = true;
    cluster.lose_datagrams = true;
    join_all(&mut cluster, 2, NETWORKS);
    let mut ready = BTreeSet::new();
    for _ in 0..600 {
        cluster.run(Duration::from_millis(50));
        for number in 0..NETWORKS {
            if is_ready(&cluster, 2, &network(number)) && ready.insert(number) {
                assert_eq!(entries(&cluster, 2, &network(number)), ENTRIES, "{}", network(number));
            }
        }
    }
    assert_eq!(ready.len(), NETWORKS);
}

#[test]
fn newcomers_do_not_make_each_other_ready() {
    const NEWCOMERS: usize = 30;
    let mut cluster = Cluster::strangers(2 + NEWCOMERS, |_| {});
    cluster.join(0);
    cluster.join(1);
    cluster.settle();
    for key in 0..50 {
        cluster.create(0, &format!("k{key}"), "v");
    }
    cluster.settle();
    cluster.slow_streams = true;
    // One after the other, so that the later ones know the earlier, which are not ready yet.
    for at in 2..2 + NEWCOMERS {
        cluster.join(at);
        cluster.run(Duration::from_millis(20));
    }
    let mut ready = BTreeSet::new();
    for _ in 0..400 {
        cluster.run(Duration::from_millis(50));
        for at in 2..2 + NEWCOMERS {
            if is_ready(&cluster, at, NET) && ready.insert(at) {
                assert_eq!(entries(&cluster, at, NET), 50, "n{at}");
            }
        }
    }
    assert_eq!(ready.len(), NEWCOMERS);
}

#[test]
fn nodes_that_start_at_once_are_soon_ready_and_hold_each_others_entries() {
    // No node is synchronised with another, and each has written before it met the others.
    let mut cluster = Cluster::strangers(12, |_| {});
    for a in 0..12 {
        for b in (0..12).filter(|b| *b != a) {
            cluster.part(a, b);
        }
    }
    for at in 0..12 {
        cluster.join(at);
        cluster.create(at, &format!("of-{at}"), "v");
    }
    cluster.run(Duration::from_secs(4));
    cluster.heal();
    let now = cluster.now;
    for a in 0..12 {
        for b in (0..12).filter(|b| *b != a) {
            cluster.replicas[a].handle_cluster_joined(&name(b), now);
        }
    }
    cluster.run(Duration::from_secs(2));
    for at in 0..12 {
        assert!(is_ready(&cluster, at, NET), "n{at}");
        assert!(cluster.replicas[at].statistics(NET).unwrap().synchronised, "n{at}");
        assert_eq!(entries(&cluster, at, NET), 12, "n{at}");
    }
}

#[test]
fn a_busy_network_agrees_on_what_does_not_change() {
    let mut cluster = Cluster::joined(5);
    for key in 0..10 {
        cluster.create(2, &format!("k{key}"), "v");
    }
    cluster.settle();
    // n4 overwrites entries of n2, which only n3 learns by its final sync, and leaves. The updates that n3
    // would relay are lost.
    for at in 0..3 {
        cluster.part(at, 4);
    }
    cluster.lose_datagrams = true;
    for key in 0..5 {
        cluster.update(4, &format!("k{key}"), "w");
    }
    let now = cluster.now;
    cluster.replicas[4].leave_network(NET, now).unwrap();
    cluster.run(Duration::from_secs(3));
    let (leaver, now) = (cluster.replicas[4].node().clone(), cluster.now);
    for at in 0..4 {
        cluster.replicas[at].handle_owner_gone(&leaver, now);
    }
    let mut serial = 0;
    let mut write = |cluster: &mut Cluster| {
        serial += 1;
        let now = cluster.now;
        for at in 0..4 {
            let (key, value) = (format!("busy-{at}-{}", serial % 7), format!("{serial}"));
            let replica = &mut cluster.replicas[at];
            if replica.update(NET, TABLE, &key, value.as_bytes(), now).is_err() {
                replica.create(NET, TABLE, &key, value.as_bytes(), now).unwrap();
            }
        }
        cluster.run(Duration::from_millis(50));
    };
    // The network is never quiescent.
    for _ in 0..100 {
        write(&mut cluster);
    }
    cluster.heal();
    cluster.lose_datagrams = false;
    let (bytes, full) = (cluster.bytes, fingerprint_syncs(&cluster));
    for round in 0..100 {
        write(&mut cluster);
        if round % 20 == 0 {
            cluster.exchange_digests();
        }
    }
    for at in 0..4 {
        let held: Vec<String> = cluster.shown(at).into_keys().filter(|key| key.starts_with('k')).collect();
        assert_eq!(held, ["k5", "k6", "k7", "k8", "k9"], "n{at}");
    }
    // Five seconds of eighty writes a second to three others.
    assert!(cluster.bytes - bytes < 400_000, "{} bytes", cluster.bytes - bytes);
    assert!(fingerprint_syncs(&cluster) - full < 20, "{} syncs", fingerprint_syncs(&cluster) - full);
}

#[test]
fn a_sync_that_has_not_reached_the_peer_does_not_keep_the_peer_from_another() {
    let mut cluster = Cluster::joined(2);
    cluster.settle();
    cluster.lose_datagrams = true;
    cluster.create(1, "k", "v");
    let compare = |cluster: &mut Cluster, at: usize, with: usize| {
        for _ in 0..2 {
            cluster.run(Duration::from_millis(1100));
            let now = cluster.now;
            let digest = cluster.replicas[with].digest_for(&name(at), 500, now).unwrap();
            cluster.replicas[at].handle_digest(&name(with), &digest, now).unwrap();
        }
    };
    compare(&mut cluster, 0, 1);
    let now = cluster.now;
    // There is no connection yet.
    while cluster.replicas[0].poll_transmit(now).is_some() {}
    let at = cluster.replicas[0].by_name[NET];
    assert_eq!(cluster.replicas[0].networks[at].as_ref().unwrap().scheduler.full_syncs().len(), 1);
    compare(&mut cluster, 1, 0);
    cluster.exchange();
    assert_eq!(cluster.get(0, "k").as_deref(), Some("v"));
}

#[test]
fn a_join_reports_whether_a_sync_with_a_member_completed() {
    for (cut, outcome) in [(false, JoinOutcome::Synchronised), (true, JoinOutcome::Unsynchronised)] {
        let mut cluster = Cluster::strangers(2, |_| {});
        cluster.join(0);
        cluster.settle();
        if cut {
            cluster.part(0, 1);
        }
        cluster.join(1);
        cluster.run(Duration::from_secs(60));
        assert_eq!(join_outcome(&cluster, 1, NET), Some(outcome));
    }
}

#[test]
fn an_initial_sync_without_a_response_is_made_with_another_member() {
    let mut cluster = Cluster::strangers(3, |_| {});
    cluster.join(0);
    cluster.join(1);
    cluster.settle();
    cluster.create(0, "k", "v");
    cluster.settle();
    let now = cluster.now;
    cluster.replicas[2].join_network(NET, now).unwrap();
    cluster.replicas[2].handle_timeout(now);
    // It waits for a connection to an unreachable member.
    let mut opened = false;
    while let Some(transmit) = cluster.replicas[2].poll_transmit(now) {
        opened |= matches!(transmit, Transmit::OpenStream { .. });
    }
    assert!(opened);
    cluster.run(Duration::from_millis(1500));
    assert!(is_ready(&cluster, 2, NET));
    assert_eq!(cluster.get(2, "k").as_deref(), Some("v"));
}

#[test]
fn an_initial_sync_with_an_idle_peer_is_made_with_another_member() {
    let mut cluster = Cluster::strangers(3, |_| {});
    cluster.join(0);
    cluster.join(1);
    cluster.create(0, "k", "v");
    cluster.settle();
    let now = cluster.now;
    cluster.replicas[2].join_network(NET, now).unwrap();
    cluster.replicas[2].handle_timeout(now);
    let mut opened = Vec::new();
    while let Some(transmit) = cluster.replicas[2].poll_transmit(now) {
        if let Transmit::OpenStream { stream, to } = transmit {
            opened.push((stream, to));
        }
    }
    let [(stream, peer)] = opened.try_into().expect("one initial sync");
    // The peer begins to respond, and its host loses power: the connection stays for seconds.
    let at = usize::from(peer == name(1));
    let theirs = cluster.replicas[at].handle_stream_opened(&name(2), now);
    let FramePoll::Frame(open) = cluster.replicas[2].poll_frame(stream, now) else {
        panic!("no frame is sent")
    };
    cluster.replicas[at].handle_frame(theirs, &open, now).unwrap();
    let FramePoll::Frame(answer) = cluster.replicas[at].poll_frame(theirs, now) else { panic!("no answer") };
    cluster.replicas[2].handle_frame(stream, &answer, now).unwrap();
    cluster.run(Duration::from_millis(2900));
    assert!(!is_ready(&cluster, 2, NET), "it may go on");
    cluster.run(Duration::from_millis(600));
    assert!(is_ready(&cluster, 2, NET));
    assert_eq!(cluster.get(2, "k").as_deref(), Some("v"));
}

#[test]
fn a_comparison_without_a_response_does_not_keep_entries_hidden() {
    let mut cluster = Cluster::joined(2);
    cluster.create(0, "k", "v");
    cluster.run(Duration::from_secs(40));
    cluster.failed(1, 0);
    cluster.alive(1, 0);
    // The stream waits for a connection that is never established.
    let now = cluster.now;
    let mut opened = false;
    while let Some(transmit) = cluster.replicas[1].poll_transmit(now) {
        opened |= matches!(transmit, Transmit::OpenStream { .. });
    }
    assert!(opened);
    cluster.run(Duration::from_millis(600));
    assert_eq!(cluster.get(1, "k").as_deref(), Some("v"));
    assert_eq!(cluster.replicas[1].counters().shown_uncompared, 0);
}

/// Three that can reach each other; but the third can receive the first one's entry by a stream only.
fn third_lacks_what_the_first_wrote() -> Cluster {
    let mut cluster = Cluster::joined(3);
    cluster.part(0, 2);
    cluster.part(1, 2);
    cluster.create(0, "k", "v");
    cluster.settle();
    cluster.heal();
    cluster.lose_datagrams = true;
    cluster
}

#[test]
fn a_pull_without_a_response_is_made_from_another_member() {
    let mut cluster = third_lacks_what_the_first_wrote();
    let (now, owner) = (cluster.now, cluster.replicas[0].node().clone());
    let replica = &mut cluster.replicas[2];
    let at = replica.by_name[NET];
    let network = replica.networks[at].as_mut().unwrap();
    let (index, _) = network.store.of_owner(owner.name.as_str()).unwrap();
    network.scheduler.watermark_received(index, 1, &owner.name, &network.store, now);
    let now = now + MISSING_GRACE;
    network.handle_timeout(&mut replica.node, now);
    // The owner is unreachable.
    let mut asked = Vec::new();
    while let Some(transmit) = replica.poll_transmit(now) {
        if let Transmit::OpenStream { to, .. } = transmit {
            asked.push(to);
        }
    }
    assert_eq!(asked, [owner.name]);
    cluster.run(Duration::from_millis(900));
    assert_eq!(cluster.get(2, "k"), None);
    cluster.run(Duration::from_millis(400));
    assert_eq!(cluster.get(2, "k").as_deref(), Some("v"));
}

#[test]
fn updates_that_one_member_lacks_as_well_are_pulled_from_their_owner() {
    let mut cluster = Cluster::joined(9);
    (1..9).for_each(|other| cluster.part(0, other));
    cluster.create(0, "k", "v");
    cluster.settle();
    cluster.heal();
    cluster.lose_datagrams = true;
    let (now, owner) = (cluster.now, cluster.replicas[0].node().clone());
    let replica = &mut cluster.replicas[8];
    let at = replica.by_name[NET];
    let network = replica.networks[at].as_mut().unwrap();
    let (index, _) = network.store.of_owner(owner.name.as_str()).unwrap();
    network.scheduler.watermark_received(index, 1, &name(1), &network.store, now);
    network.handle_timeout(&mut replica.node, now + MISSING_GRACE);
    cluster.run(Duration::from_millis(600));
    assert_eq!(cluster.get(8, "k").as_deref(), Some("v"));
    assert_eq!(cluster.replicas[8].counters().pulls, 2);
}

#[test]
fn updates_expected_from_an_idle_peer_are_pulled_from_another_member() {
    let mut cluster = third_lacks_what_the_first_wrote();
    // The second opens a comparison, reports that it has what the third lacks, and then sends nothing any
    // more.
    let now = cluster.now;
    let attachment = || AttachmentId { owner: "n0", generation: 1, epoch: 2 };
    let entry =
        VersionVectorEntry { attachment: attachment(), list_version: 2, shown: true, seen: vec![(1, 1)] };
    let entries = Frame::VersionVector { clock: 0, entries: vec![entry], last: true };
    let replica = &mut cluster.replicas[2];
    let stream = replica.handle_stream_opened(&name(1), now);
    for frame in [open(SessionKind::Full, 2), entries] {
        replica.handle_frame(stream, &codec::encode(&frame), now).unwrap();
    }
    let watermarks = Bundle {
        network: NET,
        clock: 0,
        relay: false,
        fingerprint: None,
        attachments: vec![attachment()],
        tables: Vec::new(),
        watermarks: vec![(0, 1)],
        superseded: Vec::new(),
        events: Vec::new(),
    };
    replica.handle_datagram(&name(0), &codec::encode(&Datagram::Gossip(watermarks)), now).unwrap();
    cluster.run(Duration::from_millis(2900));
    assert_eq!(cluster.get(2, "k"), None, "it may come");
    cluster.run(Duration::from_millis(600));
    assert_eq!(cluster.get(2, "k").as_deref(), Some("v"));
}

fn fingerprint_syncs(cluster: &Cluster) -> u64 {
    cluster.replicas.iter().map(|replica| replica.counters().fingerprint_syncs).sum()
}

#[test]
fn only_the_request_of_the_period_is_periodic() {
    let mut cluster = Cluster::joined(2);
    cluster.run(Duration::from_secs(20));
    // The period is over for a network without other members: nothing is requested.
    let now = cluster.now;
    cluster.replicas[0].join_network("alone", now).unwrap();
    for network in cluster.replicas[0].networks.iter_mut().flatten() {
        network.quiescent_fingerprint(now);
    }
    cluster.run(Duration::from_millis(1500));
    let now = cluster.now;
    let replica = &mut cluster.replicas[0];
    let alone = replica.by_name["alone"];
    let other = replica.by_name[NET];
    let whole = replica.networks[other].as_mut().unwrap();
    whole.note_fingerprint(&name(1), 1, &mut replica.node, now);
    assert_eq!(replica.node.requests.len(), 1);
    let network = replica.networks[alone].as_mut().unwrap();
    network.handle_timeout(&mut replica.node, now + Duration::from_secs(60));
    let Some(Transmit::OpenStream { stream, .. }) = replica.poll_transmit(now) else { panic!("no session") };
    let super::super::Stream::Session(session) = &replica.streams[&stream] else { panic!("no session") };
    let Role::FullOpener(sync) = &session.role else { panic!("no full sync") };
    assert!(!sync.periodic);
}

#[test]
fn a_final_sync_does_not_give_way_to_one_that_the_other_side_has_opened() {
    let mut cluster = Cluster::joined(2);
    let now = cluster.now;
    cluster.replicas[0].leave_network(NET, now).unwrap();
    cluster.settle();
    cluster.create(1, "k", "v");
    cluster.settle();
    // n0 is back and in its initial sync with n1 when n1 leaves.
    cluster.slow_streams = true;
    cluster.join(0);
    cluster.run(Duration::from_millis(50));
    let at = cluster.replicas[0].by_name[NET];
    assert_eq!(cluster.replicas[0].networks[at].as_ref().unwrap().scheduler.full_syncs().len(), 1);
    let now = cluster.now;
    let opened = cluster.replicas[1].counters().sessions_opened;
    cluster.replicas[1].leave_network(NET, now).unwrap();
    for _ in 0..60 {
        cluster.run(Duration::from_millis(50));
    }
    // That sync compares a state older than the last write, so the leaver would only try again after a pause.
    assert_eq!(cluster.replicas[1].counters().sessions_opened, opened + 1);
    let left = |event: &Event| match event {
        Event::NetworkLeft { final_syncs, .. } => Some(final_syncs.completed),
        _ => None,
    };
    assert_eq!(cluster.events[1].iter().find_map(left), Some(1));
    assert_eq!(cluster.get(0, "k"), None);
}

/// Ends the network on `at` in the middle of its sessions, as the last of its final syncs does.
fn leave_at_once(cluster: &mut Cluster, at: usize) {
    let now = cluster.now;
    let replica = &mut cluster.replicas[at];
    let network = replica.by_name[NET];
    replica.finish_leaving(network, now);
}

/// The result of the final syncs of `at`, if it has left.
fn final_syncs(cluster: &Cluster, at: usize) -> Option<(usize, usize)> {
    cluster.events[at].iter().find_map(|event| match event {
        Event::NetworkLeft { final_syncs, .. } => Some((final_syncs.wanted, final_syncs.completed)),
        _ => None,
    })
}

#[test]
fn a_node_that_leaves_together_with_all_others_does_not_wait() {
    let mut cluster = Cluster::joined(3);
    // The lists of the leaving nodes arrive late.
    cluster.lose_datagrams = true;
    cluster.slow_streams = true;
    cluster.create(0, "k", "v");
    cluster.run(Duration::from_millis(140));
    let now = cluster.now;
    cluster.replicas[0].leave_network(NET, now).unwrap();
    cluster.run(Duration::from_millis(120));
    let at = cluster.replicas[0].by_name[NET];
    assert_eq!(cluster.replicas[0].networks[at].as_ref().unwrap().scheduler.full_syncs().len(), 2);
    leave_at_once(&mut cluster, 1);
    leave_at_once(&mut cluster, 2);
    // A frame moves every tenth of a second, and carries it.
    cluster.run(Duration::from_millis(110));
    assert_eq!(final_syncs(&cluster, 0), Some((0, 0)));
    assert_eq!(cluster.replicas[0].counters().syncs_failed, 0);
}

#[test]
fn a_final_sync_whose_peer_came_back_is_made_again_at_once() {
    let mut cluster = Cluster::joined(2);
    cluster.slow_streams = true;
    cluster.create(0, "k", "v");
    cluster.create(1, "l", "v");
    cluster.run(Duration::from_millis(240));
    let now = cluster.now;
    cluster.lose_datagrams = true;
    cluster.delete(0, "l");
    let before = cluster.replicas[0].counters().sessions_opened;
    cluster.replicas[0].leave_network(NET, now).unwrap();
    for round in 1..5 {
        // The response, and the next request.
        for _ in 0..22 {
            cluster.run(Duration::from_millis(10));
        }
        assert_eq!(cluster.replicas[0].counters().sessions_opened, before + round);
        leave_at_once(&mut cluster, 1);
        cluster.join(1);
        // The list arrives before any frame of the stream.
        let (list, now) = (cluster.replicas[1].node.owners.own_list(), cluster.now);
        cluster.replicas[0].handle_list(&list, now);
    }
    assert_eq!(cluster.replicas[0].counters().syncs_failed, 0);
    cluster.slow_streams = false;
    cluster.run(Duration::from_millis(110));
    assert_eq!(final_syncs(&cluster, 0), Some((1, 1)));
}

#[test]
fn a_peer_that_always_reports_that_it_left_is_not_asked_for_ever() {
    let mut cluster = Cluster::joined(2);
    let now = cluster.now;
    cluster.replicas[0].leave_network(NET, now).unwrap();
    let mut asked = 0;
    for _ in 0..1000 {
        let now = cluster.now;
        let Some(Transmit::OpenStream { stream, .. }) = cluster.replicas[0].poll_transmit(now) else { break };
        asked += 1;
        // The same version as the known list, which has it on the network.
        let list = cluster.replicas[1].node.owners.own_list();
        let answer = wire::codec::encode(&super::super::message::Frame::NotMember(list));
        cluster.replicas[0].handle_frame(stream, &answer, now).unwrap();
        while cluster.replicas[0].poll_frame(stream, now) != FramePoll::Finish {}
    }
    assert!((2..20).contains(&asked), "{asked}");
    cluster.run(Duration::from_secs(3));
    assert_eq!(cluster.replicas[0].networks().len(), 0);
}

#[test]
fn a_newcomer_whose_peer_leaves_in_the_initial_sync_asks_another_at_once() {
    let mut cluster = Cluster::joined(3);
    let now = cluster.now;
    cluster.replicas[0].leave_network(NET, now).unwrap();
    cluster.settle();
    cluster.create(1, "k", "v");
    cluster.create(2, "l", "v");
    cluster.settle();
    cluster.lose_datagrams = true;
    cluster.slow_streams = true;
    cluster.events[0].clear();
    cluster.join(0);
    cluster.run(Duration::from_millis(120));
    let at = cluster.replicas[0].by_name[NET];
    let syncing = &cluster.replicas[0].networks[at].as_ref().unwrap().scheduler;
    let asked = if syncing.full_syncs().next().unwrap().peer == name(1) { 1 } else { 2 };
    let opened = cluster.replicas[0].counters().sessions_opened;
    leave_at_once(&mut cluster, asked);
    cluster.run(Duration::from_millis(110));
    assert_eq!(cluster.replicas[0].counters().sessions_opened, opened + 1);
    assert_eq!(cluster.replicas[0].counters().syncs_failed, 0);
    for _ in 0..20 {
        cluster.run(Duration::from_millis(100));
    }
    assert!(is_ready(&cluster, 0, NET));
    assert_eq!(entries(&cluster, 0, NET), 1);
}

/// Whether the replica opens a full sync at this moment.
fn opens_full_sync(cluster: &mut Cluster, at: usize) -> bool {
    let (replica, now) = (&mut cluster.replicas[at], cluster.now);
    if replica.poll_timeout().is_some_and(|due| due <= now) {
        replica.handle_timeout(now);
    }
    while replica.poll_transmit(now).is_some() {}
    replica.streams.values().any(|stream| match stream {
        Stream::Session(session) => matches!(session.role, Role::FullOpener(_)),
        Stream::Unopened { .. } => false,
    })
}

/// Two that do not reach each other, both on the network. n0 considers itself the only member, and n1 has
/// n0's list.
fn ready_alone() -> Cluster {
    let mut cluster = Cluster::strangers(2, |_| {});
    cluster.part(0, 1);
    cluster.held = Some(Vec::new());
    cluster.join(0);
    cluster.run(Duration::from_secs(10));
    assert_eq!(join_outcome(&cluster, 0, NET), Some(JoinOutcome::Alone));
    let of_first = cluster.held.replace(Vec::new()).unwrap_or_default();
    cluster.join(1);
    let now = cluster.now;
    for (from, to, bytes) in of_first.into_iter().filter(|(from, ..)| *from == 0) {
        let sender = cluster.replicas[from].node().name.clone();
        cluster.replicas[to].handle_datagram(&sender, &bytes, now).unwrap();
    }
    assert!(!opens_full_sync(&mut cluster, 0));
    cluster
}

#[test]
fn an_initial_sync_begins_when_the_list_of_a_member_arrives() {
    let mut cluster = ready_alone();
    let (now, owner) = (cluster.now, cluster.replicas[1].node().clone());
    let list = AttachmentList { owner, version: 2, networks: vec![(NET.to_owned(), 2)] };
    let datagram = Datagram::Lists { lists: vec![list], versions: Vec::new(), relay: false };
    cluster.replicas[0].handle_datagram(&name(1), &codec::encode(&datagram), now).unwrap();
    assert!(opens_full_sync(&mut cluster, 0));
}

#[test]
fn an_initial_sync_begins_when_gossip_of_a_member_arrives_before_its_list() {
    const GOSSIP: u8 = 0;
    let mut cluster = ready_alone();
    cluster.create(1, "k", "v");
    cluster.run(Duration::from_millis(5));
    let of_second = cluster.held.take().unwrap_or_default();
    let now = cluster.now;
    let gossip: Vec<_> =
        of_second.iter().filter(|(from, _, bytes)| *from == 1 && bytes[0] == GOSSIP).collect();
    assert!(!gossip.is_empty());
    for (.., bytes) in gossip {
        cluster.replicas[0].handle_datagram(&name(1), bytes, now).unwrap();
    }
    assert_eq!(cluster.get(0, "k").as_deref(), Some("v"));
    assert!(opens_full_sync(&mut cluster, 0));
}

#[test]
fn a_settled_report_is_a_watermark_as_well() {
    let mut cluster = Cluster::joined(2);
    cluster.create(0, "before", "v");
    cluster.settle();
    // The update and its watermarks are lost.
    cluster.lose_datagrams = true;
    cluster.create(0, "lost", "v");
    cluster.run(Duration::from_millis(600));
    assert_eq!((cluster.get(1, "before").as_deref(), cluster.get(1, "lost")), (Some("v"), None));
    let replica = &mut cluster.replicas[1];
    let network = replica.networks.iter().flatten().next().unwrap();
    let (_, held) = network.store.of_owner("n0").unwrap();
    let settled = Settled { attachment: held.short_id(), upto: held.seen().highest() + 1, live: 0 };
    let datagram = Datagram::Settled { network: NET, settled: vec![settled] };
    replica.handle_datagram(&name(0), &codec::encode(&datagram), cluster.now).unwrap();
    cluster.run(Duration::from_millis(100));
    assert_eq!(cluster.get(1, "lost").as_deref(), Some("v"));
}
