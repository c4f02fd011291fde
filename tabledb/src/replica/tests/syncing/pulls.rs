//! Pulls of updates that a node misses.

use wire::codec;

use super::*;
use crate::replica::message::{
    AttachmentId, Bundle, Datagram, Frame, SessionKind, Settled, VersionVectorEntry,
};
use crate::replica::timing::MISSING_GRACE;

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
