//! Saving handshakes: messages that may go to any peer use the existing connections.

use wire::{FramePoll, codec};

use super::super::message::{AttachmentList, Datagram, Frame, Open, SessionKind};
use super::*;

/// The receivers of the replica's datagrams and streams, apart from its own network.
fn addressed(replica: &mut Replica, now: Instant) -> Vec<(bool, NodeName)> {
    let transmits = std::iter::from_fn(|| replica.poll_transmit(now));
    let addressed = transmits.filter_map(|transmit| match transmit {
        Transmit::Datagram { to, .. } => Some((false, to)),
        Transmit::OpenStream { stream: _, to } => Some((true, to)),
        Transmit::CloseStream { .. } | Transmit::WakeStream { .. } => None,
    });
    addressed.collect()
}

/// The peers with which the replica starts comparisons.
fn compared_with(replica: &mut Replica, now: Instant) -> Vec<NodeName> {
    let mut peers = Vec::new();
    while let Some(transmit) = replica.poll_transmit(now) {
        let Transmit::OpenStream { stream, to } = transmit else { continue };
        let FramePoll::Frame(frame) = replica.poll_frame(stream, now) else { continue };
        if let Ok(Frame::Open(Open { kind: SessionKind::Full, .. })) = codec::decode(&frame) {
            peers.push(to);
        }
    }
    peers
}

#[test]
fn lists_are_sent_and_requested_over_existing_connections() {
    let (mut cluster, friends) = (Cluster::strangers(40, |_| {}), [name(7), name(8)]);
    let replica = &mut cluster.replicas[0];
    for friend in &friends {
        replica.handle_connection_changed(friend, true);
    }
    let list = |replica: &mut Replica, owner: usize, now| {
        let list = AttachmentList { owner: NodeId::new(name(owner), 1), version: 1, networks: Vec::new() };
        let datagram = Datagram::Lists { lists: vec![list], versions: Vec::new(), relay: true };
        replica.handle_datagram(&name(7), &codec::encode(&datagram), now).unwrap();
    };
    // The lists of the connected peers are here, so one of them or of the others is asked for the rest.
    let mut now = cluster.now;
    list(replica, 7, now);
    list(replica, 8, now);
    let (mut sent, mut asked) = (0, Vec::new());
    for _ in 0..600 {
        now += Duration::from_millis(10);
        replica.handle_timeout(now);
        for (stream, to) in addressed(replica, now) {
            match stream {
                true => asked.push(to),
                false => {
                    assert!(friends.contains(&to), "{to} is sent a list");
                    sent += 1;
                }
            }
        }
        for stream in replica.streams.keys().copied().collect::<Vec<_>>() {
            replica.handle_stream_closed(stream, now);
        }
    }
    assert!(sent >= 6, "{sent}: two lists, sent three times to two");
    let of_strangers = asked.iter().filter(|peer| !friends.contains(peer)).count();
    // After 0.05, 0.3, 0.8, 1.8 s and so on.
    assert!((5..=7).contains(&asked.len()) && of_strangers == 1, "{asked:?}");
}

#[test]
fn of_returned_owners_the_connected_one_is_asked_first_and_none_is_dialled_twice() {
    let mut cluster = Cluster::joined(8);
    for owner in 1..8 {
        cluster.create(owner, &format!("k{owner}"), "v");
    }
    cluster.run(Duration::from_secs(40));
    for owner in 1..8 {
        cluster.failed(0, owner);
    }
    let mut now = cluster.now;
    let replica = &mut cluster.replicas[0];
    replica.handle_connection_changed(&name(7), true);
    for owner in 1..8 {
        replica.handle_owner_alive(&NodeId::new(name(owner), 1), now);
    }
    // None of them responds.
    let mut asked = Vec::new();
    for _ in 0..200 {
        replica.handle_timeout(now);
        asked.extend(compared_with(replica, now));
        now += Duration::from_millis(20);
    }
    assert!(asked[..4].contains(&name(7)), "{asked:?}");
    for stranger in 1..7 {
        assert_eq!(asked.iter().filter(|peer| **peer == name(stranger)).count(), 1, "{asked:?}");
    }
}
