//! Which connections there are: one for a pair, none for the dead, a new one for a new life.

use bytes::Bytes;
use transport::{Arrival, Loss};

use crate::nodes::{Node, PATIENCE, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_dial_each_other_at_once_keep_the_same_connection() {
    let mut pairs = tokio::task::JoinSet::new();
    for _ in 0..20 {
        pairs.spawn(dial_each_other());
    }
    let doubled = pairs.join_all().await.into_iter().filter(|doubled| *doubled).count();
    // Otherwise nothing has been shown.
    assert!(doubled > 0, "they never dialled each other at once");
}

/// Whether there were two connections for a while.
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
    let doubled = a.transport.statistics().connections_replaced > 0;
    assert!(!doubled || a.transport.connections()[0].dialled);
    doubled
}

#[tokio::test]
async fn a_restarted_peer_is_found_at_once() {
    let (mut a, mut b) = (Node::development("a"), Node::development("b"));
    a.reach(&mut b, "x").await;
    let mut config = crate::nodes::config("b", &transport::KeySet::development());
    config.bind = b.address();
    b.transport.abort();
    let mut b = Node::restart(config).await;
    // The old connection would swallow datagrams for the idle time of ten seconds.
    let start = tokio::time::Instant::now();
    a.reach(&mut b, "y").await;
    assert!(start.elapsed() < std::time::Duration::from_secs(2), "{:?}", start.elapsed());
    let Arrival::Lost { peer, loss } = a.arrival().await else { panic!() };
    assert_eq!((peer.name.as_str(), loss), ("b", Loss::Forgotten));
}

#[tokio::test]
async fn a_shutdown_is_told_and_a_crash_is_not() {
    let (mut a, mut b, mut c) = (Node::development("a"), Node::development("b"), Node::development("c"));
    a.reach(&mut b, "x").await;
    a.reach(&mut c, "x").await;
    c.transport.abort();
    b.transport.shutdown(PATIENCE).await;
    let Arrival::Lost { peer, loss } = a.arrival().await else { panic!() };
    assert_eq!((peer.name.as_str(), loss), ("b", Loss::ShuttingDown));
    // Of the crash nothing is known yet.
    assert_eq!(a.transport.connections().iter().map(|c| c.peer.name.as_str()).collect::<Vec<_>>(), ["c"]);
    assert!(b.incoming.next().await.is_none());
}
