//! Datagrams: both ways, never waiting, and every dropped one counted.

use bytes::Bytes;
use networkdb_transport::{DATAGRAM_BYTES, SendError, Sent};

use crate::nodes::{Node, until};

#[tokio::test]
async fn a_datagram_starts_a_dial_waits_for_it_and_is_answered() {
    let (mut a, mut b) = (Node::development("a"), Node::development("b"));
    let sent = a.transport.send_datagram(&b.destination(), Bytes::from_static(b"hello"));
    assert_eq!(sent, Ok(Sent::Kept));
    let (from, bytes) = b.datagram().await;
    assert_eq!((from.name.as_str(), from.address, from.advertised), ("a", a.address(), Some(a.address())));
    assert_eq!(bytes, "hello");
    // The answer uses the same connection, without a dial.
    let back = wire::Destination { name: Some(from.name), address: from.address };
    assert_eq!(b.transport.send_datagram(&back, Bytes::from_static(b"welcome")), Ok(Sent::Now));
    assert_eq!(a.datagram().await.1, "welcome");
    assert_eq!(b.transport.statistics().dials_started, 0);
    assert_eq!(a.transport.connections().len(), 1);
}

#[tokio::test]
async fn one_datagram_waits_for_a_dial_and_the_next_is_refused() {
    let (a, mut b) = (Node::development("a"), Node::development("b"));
    let send = |text| a.transport.send_datagram(&b.destination(), Bytes::from_static(text));
    assert_eq!(send(b"first"), Ok(Sent::Kept));
    assert_eq!(send(b"second"), Err(SendError::NotReady));
    assert_eq!(b.datagram().await.1, "first");
    let statistics = a.transport.statistics();
    assert_eq!((statistics.datagrams_kept, statistics.datagrams_dropped_not_ready), (1, 1));
}

#[tokio::test]
async fn a_datagram_larger_than_the_path_is_an_error() {
    let (a, mut b) = (Node::development("a"), Node::development("b"));
    a.reach(&mut b, "x").await;
    assert_eq!(a.transport.send_datagram(&b.destination(), vec![1; DATAGRAM_BYTES].into()), Ok(Sent::Now));
    assert_eq!(b.datagram().await.1.len(), DATAGRAM_BYTES);
    let error = a.transport.send_datagram(&b.destination(), vec![1; 9000].into()).unwrap_err();
    let SendError::TooLarge { size: 9000, limit } = error else { panic!("{error}") };
    assert!((DATAGRAM_BYTES..9000).contains(&limit), "{limit}");
    assert_eq!(a.transport.statistics().datagrams_dropped_too_large, 1);
}

#[tokio::test]
async fn a_full_send_buffer_rejects_the_new_datagram_and_keeps_the_old_ones() {
    let (a, mut b) = (Node::development("a"), Node::development("b"));
    a.reach(&mut b, "x").await;
    // In a single-threaded runtime QUIC sends nothing before this task waits.
    let mut accepted = 0u64;
    let refused = loop {
        let bytes = [&accepted.to_le_bytes()[..], &[0; 1000]].concat();
        match a.transport.send_datagram(&b.destination(), bytes.into()) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 10_000);
    };
    assert_eq!(refused, SendError::Full);
    // The first accepted one is still in the buffer.
    let (_, bytes) = b.datagram().await;
    assert_eq!(bytes[..8], 0u64.to_le_bytes());
    let statistics = a.transport.statistics();
    assert_eq!(statistics.datagrams_dropped_full, 1);
}

#[tokio::test]
async fn an_empty_datagram_is_dropped_and_counted() {
    let (a, mut b) = (Node::development("a"), Node::development("b"));
    a.reach(&mut b, "x").await;
    for _ in 0..100 {
        a.transport.send_datagram(&b.destination(), Bytes::new()).unwrap();
    }
    b.counted(|statistics| statistics.datagrams_dropped_empty == 100).await;
}

#[tokio::test]
async fn datagrams_that_the_owner_does_not_take_are_bounded_and_counted() {
    let mut config = crate::nodes::config("b", &networkdb_transport::KeySet::development());
    config.limits.datagram_receive_count = 10;
    let (a, mut b) = (Node::development("a"), Node::start(config));
    a.reach(&mut b, "x").await;
    for _ in 0..50 {
        a.transport.send_datagram(&b.destination(), Bytes::from_static(b"y")).unwrap();
    }
    b.counted(|statistics| statistics.datagrams_dropped_untaken >= 40).await;
    let mut batch = Vec::new();
    assert!(b.incoming.next_batch(&mut batch).await);
    assert_eq!(batch.len(), 10);
}

#[tokio::test]
async fn an_unreachable_destination_is_not_dialled_for_every_datagram() {
    let a = Node::start({
        let mut config = crate::nodes::config("a", &networkdb_transport::KeySet::development());
        config.timeouts.dial = std::time::Duration::from_millis(100);
        config.timeouts.dial_backoff = std::time::Duration::from_secs(3600);
        config
    });
    let gone = Node::development("gone");
    let destination = gone.destination();
    gone.transport.abort();
    let mut tried = 0;
    until("the dial to fail", || {
        tried += 1;
        let sent = a.transport.send_datagram(&destination, Bytes::from_static(b"?"));
        (sent == Err(SendError::Unreachable)).then_some(())
    })
    .await;
    let statistics = a.transport.statistics();
    assert!(tried > 1);
    assert_eq!((statistics.dials_started, statistics.dials_failed_unanswered), (1, 1));
}
