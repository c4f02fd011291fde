//! Handshakes that are saved: whatever may go to anybody goes over the connections that exist.

use wire::codec;

use super::super::message::{Datagram, List};
use super::*;

/// Whom the replica sends datagrams to or opens streams with, besides its own network.
fn addressed(replica: &mut Replica, now: Instant) -> Vec<(bool, NodeName)> {
    let transmits = std::iter::from_fn(|| replica.poll_transmit(now));
    let addressed = transmits.filter_map(|transmit| match transmit {
        Transmit::Datagram { to, .. } => Some((false, to)),
        Transmit::OpenStream { stream: _, to } => Some((true, to)),
        Transmit::CloseStream { .. } | Transmit::WakeStream { .. } => None,
    });
    addressed.collect()
}

#[test]
fn lists_are_told_and_asked_for_over_connections_that_exist() {
    let (mut cluster, friends) = (Cluster::strangers(40, |_| {}), [name(7), name(8)]);
    let replica = &mut cluster.replicas[0];
    for friend in &friends {
        replica.handle_connection_changed(friend, true);
    }
    let list = |replica: &mut Replica, owner: usize, now| {
        let list = List { owner: NodeId::new(name(owner), 1), version: 1, networks: Vec::new() };
        let datagram = Datagram::Lists { lists: vec![list], heads: Vec::new(), relay: true };
        replica.handle_datagram(&name(7), &codec::encode(&datagram), now).unwrap();
    };
    // Those of the friends are here, so one of the others is asked for the rest, or they are.
    let mut now = cluster.now;
    list(replica, 7, now);
    list(replica, 8, now);
    let (mut told, mut asked) = (0, Vec::new());
    for _ in 0..600 {
        now += Duration::from_millis(10);
        replica.handle_timeout(now);
        for (stream, to) in addressed(replica, now) {
            match stream {
                true => asked.push(to),
                false => {
                    assert!(friends.contains(&to), "{to} is told");
                    told += 1;
                }
            }
        }
        for stream in replica.streams.keys().copied().collect::<Vec<_>>() {
            replica.handle_stream_closed(stream, now);
        }
    }
    assert!(told >= 6, "{told}: two lists, told three times to two");
    let of_strangers = asked.iter().filter(|peer| !friends.contains(peer)).count();
    // After 0.05, 0.3, 0.8, 1.8 s and so on.
    assert!((5..=7).contains(&asked.len()) && of_strangers == 1, "{asked:?}");
}
