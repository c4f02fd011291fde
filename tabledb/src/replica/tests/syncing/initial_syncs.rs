//! A newcomer's initial sync: when it begins, with whom, and when a network is ready.

use wire::{FramePoll, codec};

use super::*;
use crate::replica::Stream;
use crate::replica::message::{AttachmentList, Datagram};
use crate::replica::session::Role;

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
fn a_join_reports_whether_a_sync_with_a_member_completed() {
    for (cut, outcome) in [(false, JoinOutcome::Synchronised), (true, JoinOutcome::Unsynchronised)] {
        let mut cluster = Cluster::strangers(2, |_| {});
        assert_eq!(cluster.replicas[0].sync_progress(), SyncProgress::default());
        cluster.join(0);
        let awaiting = SyncProgress { awaiting: vec![NET.to_owned()], ..SyncProgress::default() };
        assert_eq!(cluster.replicas[0].sync_progress(), awaiting, "n1 has not said on which networks it is");
        cluster.settle();
        let alone = SyncProgress { alone: 1, ..SyncProgress::default() };
        assert_eq!(cluster.replicas[0].sync_progress(), alone);
        if cut {
            cluster.part(0, 1);
        }
        cluster.join(1);
        cluster.run(Duration::from_secs(60));
        assert_eq!(join_outcome(&cluster, 1, NET), Some(outcome));
        let synchronised = SyncProgress { synchronised: 1, ..SyncProgress::default() };
        assert_eq!(cluster.replicas[1].sync_progress(), if cut { awaiting } else { synchronised });
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
