//! Which connections exist: one for each pair, none with crashed peers, a new one for a new instance.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use networkdb_transport::{Arrival, FrameError, KeySet, Loss, OpenError, SendError, Transport};
use wire::Destination;

use crate::nodes::{Node, TIMEOUT, config, name, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_dial_each_other_at_once_keep_the_same_connection() {
    let mut pairs = tokio::task::JoinSet::new();
    for _ in 0..20 {
        pairs.spawn(dial_each_other());
    }
    let doubled = pairs.join_all().await.into_iter().filter(|doubled| *doubled).count();
    // Otherwise the test has shown nothing.
    assert!(doubled > 0, "they never dialled each other at once");
}

/// Returns whether there were two connections for a while.
async fn dial_each_other() -> bool {
    let (mut a, mut b) = (Node::development("a"), Node::development("b"));
    let (to_a, to_b) = (a.destination(), b.destination());
    a.transport.send_datagram(&to_b, Bytes::from_static(b"to b")).unwrap();
    b.transport.send_datagram(&to_a, Bytes::from_static(b"to a")).unwrap();
    let ((_, at_b), (_, at_a)) = tokio::join!(b.datagram(), a.datagram());
    assert_eq!((at_a, at_b), ("to a".into(), "to b".into()));
    until("one connection to be left, the one that the smaller name dialled", || {
        let (of_a, of_b) = (a.transport.connections(), b.transport.connections());
        let alone = of_a.len() == 1 && of_b.len() == 1 && of_a[0].current && of_b[0].current;
        (alone && of_a[0].dialled != of_b[0].dialled).then_some(())
    })
    .await;
    let doubled = a.transport.statistics().connections_closed_replaced > 0;
    assert!(!doubled || a.transport.connections()[0].dialled);
    doubled
}

#[tokio::test]
async fn a_restarted_peer_is_reached_at_once() {
    let (mut a, mut b) = (Node::development("a"), Node::development("b"));
    a.reach(&mut b, "x").await;
    let mut config = config("b", &KeySet::development());
    config.bind = b.address();
    b.transport.abort();
    let mut b = Node::restart(config).await;
    // The old connection would discard datagrams until the idle timeout of ten seconds.
    let start = tokio::time::Instant::now();
    a.reach(&mut b, "y").await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let Arrival::Lost { peer, loss } = a.arrival().await else { panic!() };
    assert_eq!((peer.name.as_str(), loss), ("b", Loss::Forgotten));
}

#[tokio::test]
async fn a_dial_begun_during_a_partition_begins_again_when_another_handshake_succeeds() {
    let c = Node::development("c");
    let mut dial = DialDuringPartition::start(None).await;
    c.reach(&mut dial.dialler, "we got through").await;
    dial.gets_through().await;
}

#[tokio::test]
async fn a_dial_begun_during_a_partition_begins_again_when_a_connected_peer_is_heard() {
    let c = Node::development("c");
    let mut dial = DialDuringPartition::start(Some(&c)).await;
    c.reach(&mut dial.dialler, "we hear each other again").await;
    dial.gets_through().await;
}

/// The first packet of a dial was lost, and QUIC would repeat it after a minute.
struct DialDuringPartition {
    dialler: Node,
    dialled: Node,
}

impl DialDuringPartition {
    const DIALS: u64 = 7;

    async fn start(connected: Option<&Node>) -> Self {
        let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut patient = config("a", &KeySet::development());
        patient.timeouts.dial = Duration::from_millis(50);
        patient.timeouts.dial_backoff = Duration::from_millis(1);
        patient.timeouts.dial_backoff_unanswered = Duration::from_millis(1);
        patient.timeouts.dial_backoff_most = Duration::from_millis(1);
        patient.timeouts.initial_rtt = Duration::from_secs(20);
        let mut dialler = Node::start(patient);
        if let Some(peer) = connected {
            peer.reach(&mut dialler, "before the partition").await;
        }
        let mut late = config("b", &KeySet::development());
        late.bind = silent.local_addr().unwrap();
        let to = Destination { name: Some(name("b")), address: late.bind };
        // Nobody answers, so each dial has twice the timeout of the one before.
        let (mut packet, mut dials) = ([0; 2048], BTreeSet::new());
        until("the first packet of a dial that may take long", || {
            let _ = dialler.transport.send_datagram(&to, Bytes::from_static(b"kept"));
            while let Ok(length) = silent.try_recv(&mut packet) {
                // Each dial has its own connection id (RFC 9000, 17.2).
                let identifier = &packet[6..length][..usize::from(packet[5])];
                dials.insert(identifier.to_vec());
            }
            (dials.len() as u64 == Self::DIALS).then_some(())
        })
        .await;
        drop(silent);
        Self { dialler, dialled: Node::restart(late).await }
    }

    async fn gets_through(&mut self) {
        assert_eq!(self.dialled.datagram().await.1, "kept");
        let statistics = self.dialler.transport.statistics();
        assert_eq!((statistics.dials_renewed, statistics.dials_started), (1, Self::DIALS));
    }
}

#[tokio::test]
async fn a_shutdown_is_announced_and_a_crash_is_not() {
    let (mut a, mut b, mut c) = (Node::development("a"), Node::development("b"), Node::development("c"));
    a.reach(&mut b, "x").await;
    a.reach(&mut c, "x").await;
    c.transport.abort();
    b.transport.shutdown(TIMEOUT).await;
    let Arrival::Lost { peer, loss } = a.arrival().await else { panic!() };
    assert_eq!((peer.name.as_str(), loss), ("b", Loss::ShuttingDown));
    // The crash is not detected yet.
    assert_eq!(a.transport.connections().iter().map(|c| c.peer.name.as_str()).collect::<Vec<_>>(), ["c"]);
    assert!(b.incoming.next().await.is_none());
}

#[tokio::test]
async fn a_shutdown_sends_frames_that_are_still_buffered() {
    let (mut a, mut b) = (Node::development("a"), Node::development("b"));
    a.reach(&mut b, "x").await;
    let (mut sender, _receiver, _) = a.transport.open_stream(&b.destination()).await.unwrap();
    let frame = Bytes::from(vec![7; 1 << 20]);
    sender.send(frame.clone()).await.unwrap();
    sender.finish().await.unwrap();
    drop((sender, _receiver));
    let reading = async {
        let (_, _sender, mut receiver) = b.stream().await;
        assert_eq!(receiver.next().await, Ok(Some(frame)));
        assert_eq!(receiver.next().await, Ok(None));
    };
    tokio::join!(a.transport.shutdown(TIMEOUT), reading);
    assert_eq!(a.transport.send_datagram(&b.destination(), Bytes::new()), Err(SendError::ShutDown));
    assert!(matches!(a.transport.open_stream(&b.destination()).await, Err(OpenError::ShutDown)));
    assert!(a.incoming.next().await.is_none());
}

#[tokio::test]
async fn a_shutdown_sends_datagrams_that_are_still_buffered() {
    let (a, mut b) = (Node::development("a"), Node::development("b"));
    a.reach(&mut b, "x").await;
    // More than is sent at once: closing would drop the rest.
    for _ in 0..200 {
        a.transport.send_datagram(&b.destination(), Bytes::from(vec![7; 1000])).unwrap();
    }
    a.transport.shutdown(TIMEOUT).await;
    b.counted(|statistics| statistics.datagram_received_bytes >= 200_000).await;
}

#[tokio::test]
async fn a_shutdown_ends_in_time_whatever_peers_do() {
    let (mut a, mut b) = (Node::development("a"), Node::development("b"));
    let (mut sender, _receiver, _) = a.transport.open_stream(&b.destination()).await.unwrap();
    sender.send(&b"and now nothing"[..]).await.unwrap();
    let (_, _answer, mut receiver) = b.stream().await;
    assert_eq!(receiver.next().await.unwrap().unwrap(), "and now nothing");
    let gone = Node::development("gone");
    a.transport.open_stream(&gone.destination()).await.map(drop).unwrap();
    gone.transport.abort();
    let (start, limit) = (tokio::time::Instant::now(), Duration::from_millis(600));
    a.transport.shutdown(limit).await;
    assert!(start.elapsed() < limit + limit / 2, "{:?}", start.elapsed());
    // Half of the time is reserved for streams in use.
    assert!(start.elapsed() >= limit / 2);
    assert_eq!(receiver.next().await, Err(FrameError::Lost(Loss::ShuttingDown)));
    assert!(a.incoming.next().await.is_none());
}

#[tokio::test]
async fn the_port_is_free_after_abort_shutdown_and_drop() {
    for end in ["abort", "shutdown", "drop"] {
        let (a, mut b) = (Node::development("a"), Node::development("b"));
        a.reach(&mut b, "x").await;
        let address = a.address();
        match end {
            "abort" => a.transport.abort(),
            "shutdown" => a.transport.shutdown(TIMEOUT).await,
            _ => drop(a),
        }
        until(end, || std::net::UdpSocket::bind(address).ok()).await;
    }
}

#[tokio::test]
async fn streams_on_a_replaced_connection_continue() {
    // Pairs dial each other at the same time, until there are two connections.
    for _ in 0..50 {
        let (mut a, mut b) = (Node::development("a"), Node::development("b"));
        let (to_a, to_b) = (a.destination(), b.destination());
        let (from_a, from_b) = tokio::join!(a.transport.open_stream(&to_b), b.transport.open_stream(&to_a));
        let (mut from_a, mut from_b) = (from_a.unwrap(), from_b.unwrap());
        if [&a, &b].iter().any(|node| node.transport.statistics().dials_started == 0) {
            continue;
        }
        a.counted(|statistics| statistics.connections_closed_replaced == 1).await;
        // Both streams continue, including the one on the drained connection.
        for _ in 0..2 {
            from_a.0.send(&b"from a"[..]).await.unwrap();
            from_b.0.send(&b"from b"[..]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1200)).await;
        }
        let ((_, _, mut at_b), (_, _, mut at_a)) = (b.stream().await, a.stream().await);
        for _ in 0..2 {
            assert_eq!(at_b.next().await.unwrap().unwrap(), "from a");
            assert_eq!(at_a.next().await.unwrap().unwrap(), "from b");
        }
        return;
    }
    panic!("they never dialled each other at once");
}

#[tokio::test]
async fn an_unused_connection_is_closed_without_a_report_of_loss() {
    let unused = |text| {
        let mut config = config(text, &KeySet::development());
        config.limits.warm_connections = 1;
        config.timeouts.unused = Duration::from_millis(100);
        Node::start(config)
    };
    let (a, mut b, mut c) = (unused("a"), Node::development("b"), Node::development("c"));
    a.reach(&mut b, "x").await;
    a.reach(&mut c, "x").await;
    a.counted(|statistics| statistics.connections_closed_unused == 1).await;
    until("one to be left", || (a.transport.connections().len() == 1).then_some(())).await;
    for node in [&mut b, &mut c] {
        node.transport.abort();
        while let Some(arrival) = node.incoming.next().await {
            assert!(!matches!(arrival, Arrival::Lost { .. }), "{arrival:?}");
        }
    }
}

#[tokio::test]
async fn a_crashed_peer_is_lost_when_it_does_not_answer_and_a_silent_one_is_not() {
    let mut impatient = config("a", &KeySet::development());
    impatient.timeouts.unanswered = Duration::from_millis(600);
    let (mut a, mut b, mut c) = (Node::start(impatient), Node::development("b"), Node::development("c"));
    a.reach(&mut b, "x").await;
    a.reach(&mut c, "x").await;
    b.transport.abort();
    a.transport.send_datagram(&b.destination(), "unanswered".into()).unwrap();
    let Arrival::Lost { peer, loss } = a.arrival().await else { panic!() };
    assert_eq!((peer.name, loss), (name("b"), Loss::TimedOut));
    assert_eq!(a.transport.connections().iter().map(|c| c.peer.name.as_str()).collect::<Vec<_>>(), ["c"]);
}

#[tokio::test]
async fn contradictory_settings_are_refused() {
    let mut impossible = config("a", &KeySet::development());
    impossible.timeouts.keep_alive = impossible.timeouts.idle;
    let text = Transport::bind(impossible).map(drop).unwrap_err().to_string();
    assert!(text.contains("keep-alive") && text.contains("300s"), "{text}");
    let mut impossible = config("a", &KeySet::development());
    impossible.timeouts.unanswered = Duration::ZERO;
    let text = Transport::bind(impossible).map(drop).unwrap_err().to_string();
    assert!(text.contains("unanswered") && text.contains("10 s"), "{text}");
}

#[tokio::test]
async fn the_statistics_of_a_connection_are_reported() {
    let (a, mut b) = (Node::development("a"), Node::development("b"));
    a.reach(&mut b, "x").await;
    let [ref connection] = a.transport.connections()[..] else { panic!() };
    assert_eq!((&connection.peer.name, connection.dialled, connection.current), (&name("b"), true, true));
    assert!(
        !connection.round_trip.is_zero() && connection.congestion_window > 0 && connection.bytes_sent > 0
    );
    assert!(connection.path_mtu >= 1200 && connection.datagram_limit >= networkdb_transport::DATAGRAM_BYTES);
    let statistics = a.transport.statistics();
    let dials = statistics.iter().find(|count| count.name == "dials_succeeded").unwrap();
    assert_eq!((dials.value, dials.meaning.trim()), (1, "Dials that led to a connection."));
}
