//! The final syncs of a node that leaves: they bring its last writes, and they end.

use wire::{FramePoll, codec};

use super::*;
use crate::replica::message::Frame;

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
        let answer = codec::encode(&Frame::NotMember(list));
        cluster.replicas[0].handle_frame(stream, &answer, now).unwrap();
        while cluster.replicas[0].poll_frame(stream, now) != FramePoll::Finish {}
    }
    assert!((2..20).contains(&asked), "{asked}");
    cluster.run(Duration::from_secs(3));
    assert_eq!(cluster.replicas[0].networks().len(), 0);
}
