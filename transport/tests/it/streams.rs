//! Streams of frames: both ways, with a size limit and a timeout for each frame.

use bytes::Bytes;
use networkdb_transport::{FrameError, OpenError};

use crate::nodes::Node;

#[tokio::test]
async fn frames_go_both_ways_and_end_cleanly() {
    let (a, mut b) = (Node::development("a"), Node::development("b"));
    let (mut sender, mut receiver, peer) = a.transport.open_stream(&b.seed()).await.unwrap();
    assert_eq!((peer.name.as_str(), peer.address), ("b", b.address()));
    let frames: Vec<Bytes> =
        [0, 1, 5, 2048, 2049, 70_000, 3_000_000].iter().map(|size| vec![*size as u8; *size].into()).collect();
    let sending = async {
        for frame in &frames {
            sender.send(frame.clone()).await.unwrap();
        }
        sender.finish().await.unwrap();
        sender.acknowledged().await.unwrap();
    };
    let answering = async {
        let (from, mut sender, mut receiver) = b.stream().await;
        assert_eq!(from.name.as_str(), "a");
        for frame in &frames {
            assert_eq!(receiver.next().await.unwrap().as_ref(), Some(frame));
            sender.send(frame.slice(..frame.len().min(10))).await.unwrap();
        }
        assert_eq!(receiver.next().await, Ok(None));
        assert_eq!(receiver.next().await, Ok(None));
        sender.finish().await.unwrap();
    };
    tokio::join!(sending, answering);
    for frame in &frames {
        assert_eq!(receiver.next().await.unwrap().unwrap(), frame.slice(..frame.len().min(10)));
    }
    assert_eq!(receiver.next().await, Ok(None));
}

#[tokio::test]
async fn a_dropped_sender_ends_the_stream_with_an_error() {
    let (a, mut b) = (Node::development("a"), Node::development("b"));
    let (mut sender, _receiver, _) = a.transport.open_stream(&b.seed()).await.unwrap();
    sender.send(&b"one"[..]).await.unwrap();
    let (_, _sender, mut receiver) = b.stream().await;
    assert_eq!(receiver.next().await.unwrap().unwrap(), "one");
    drop(sender);
    let error = receiver.next().await.unwrap_err();
    assert!(matches!(&error, FrameError::GivenUp(reason) if reason.contains("dropped")), "{error}");
}

#[tokio::test]
async fn the_error_for_a_peer_that_does_not_answer_names_it() {
    let a = Node::start({
        let mut config = crate::nodes::config("a", &networkdb_transport::KeySet::development());
        config.timeouts.dial = std::time::Duration::from_millis(100);
        config
    });
    let gone = Node::development("gone");
    gone.transport.abort();
    let error = a.transport.open_stream(&gone.destination()).await.unwrap_err();
    assert!(matches!(error, OpenError::NoAnswer { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("gone") && text.contains(&gone.address().to_string()), "{text}");
}

#[tokio::test]
async fn a_stream_may_be_dropped_on_a_thread_without_a_tokio_runtime() {
    let (a, mut b) = (Node::development("a"), Node::development("b"));
    let (mut sender, receiver, _) = a.transport.open_stream(&b.seed()).await.unwrap();
    sender.send(&b"all of it"[..]).await.unwrap();
    sender.finish().await.unwrap();
    std::thread::spawn(move || drop((sender, receiver))).join().unwrap();
    let (_, _sender, mut receiver) = b.stream().await;
    assert_eq!(receiver.next().await.unwrap().unwrap(), "all of it");
    assert_eq!(receiver.next().await, Ok(None));
    crate::nodes::until("nothing to be in use", || (a.transport.connections()[0].streams == 0).then_some(()))
        .await;
}

#[tokio::test]
async fn a_frame_above_the_limit_is_rejected_and_the_stream_can_still_be_used() {
    let (a, mut b) = (Node::development("a"), Node::development("b"));
    let (mut sender, _receiver, _) = a.transport.open_stream(&b.seed()).await.unwrap();
    let limit = wire::codec::MAX_MESSAGE_BYTES;
    assert_eq!(sender.send(vec![0; limit + 1]).await, Err(FrameError::TooLarge { size: limit + 1, limit }));
    let sending = async {
        sender.send(vec![1; limit]).await.unwrap();
    };
    let reading = async {
        let (_, _sender, mut receiver) = b.stream().await;
        assert_eq!(receiver.next().await.unwrap().unwrap().len(), limit);
    };
    tokio::join!(sending, reading);
}

#[tokio::test]
async fn a_frame_whose_sending_is_cancelled_is_still_sent_completely() {
    let (a, mut b) = (Node::development("a"), Node::development("b"));
    let (mut sender, _receiver, _) = a.transport.open_stream(&b.seed()).await.unwrap();
    // More than the peer's window: sending stalls until the peer reads.
    let large = Bytes::from((0..4_000_000u32).map(|n| n as u8).collect::<Vec<_>>());
    let cancelled =
        tokio::time::timeout(std::time::Duration::from_millis(100), sender.send(large.clone())).await;
    assert!(cancelled.is_err());
    let sending = async {
        sender.send(&b"next"[..]).await.unwrap();
    };
    let reading = async {
        let (_, _sender, mut receiver) = b.stream().await;
        assert_eq!(receiver.next().await.unwrap(), Some(large));
        assert_eq!(receiver.next().await.unwrap().unwrap(), "next");
    };
    tokio::join!(sending, reading);
}
