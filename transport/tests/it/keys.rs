//! Secrets are replaced under traffic.

use bytes::Bytes;
use networkdb_transport::{Arrival, KeySet, OpenError, RefusalReason};

use crate::nodes::{Node, config, secret, until};

/// Sends in both directions until each node has received a datagram of the other, and checks that a
/// stream works.
async fn talk(a: &mut Node, b: &mut Node) {
    a.reach(b, "from a").await;
    b.reach(a, "from b").await;
    let (mut sender, mut receiver, _) = a.transport.open_stream(&b.destination()).await.unwrap();
    sender.send(&b"question"[..]).await.unwrap();
    let (_, mut answer, mut question) = b.stream().await;
    assert_eq!(question.next().await.unwrap().unwrap(), "question");
    answer.send(&b"answer"[..]).await.unwrap();
    assert_eq!(receiver.next().await.unwrap().unwrap(), "answer");
}

#[tokio::test]
async fn a_cluster_changes_its_secret_node_by_node() {
    let (old, new) = (secret(), secret());
    let only_old = KeySet::new(old.clone());
    let accept_new = only_old.with(new.clone()).unwrap();
    let use_new = accept_new.with_primary(new.fingerprint()).unwrap();
    let only_new = use_new.without(old.fingerprint()).unwrap();
    let (mut a, mut b) = (Node::start(config("a", &only_old)), Node::start(config("b", &only_old)));
    talk(&mut a, &mut b).await;
    // A stream that began with the old secret continues for a while.
    let (mut sender, _receiver, _) = a.transport.open_stream(&b.destination()).await.unwrap();
    sender.send(&b"begun"[..]).await.unwrap();
    let (_, _sender, mut receiver) = b.stream().await;
    assert_eq!(receiver.next().await.unwrap().unwrap(), "begun");

    for keys in [accept_new, use_new, only_new.clone()] {
        a.transport.set_identity(keys.clone()).unwrap();
        talk(&mut a, &mut b).await;
        b.transport.set_identity(keys.clone()).unwrap();
        b.transport.set_identity(keys).unwrap();
        talk(&mut a, &mut b).await;
    }
    sender.send(&b"ended"[..]).await.unwrap();
    assert_eq!(receiver.next().await.unwrap().unwrap(), "ended");
    drop((sender, receiver));

    for node in [&a, &b] {
        assert_eq!(node.transport.identity(), only_new.clone().into());
        until("only connections with the new secret to be left", || {
            let connections = node.transport.connections();
            connections.iter().all(|connection| connection.authority == new.fingerprint()).then_some(())
        })
        .await;
        // One at the start, and three changes. Setting the same set again mints nothing.
        assert_eq!(node.transport.statistics().certificates_minted, 4);
    }
    talk(&mut a, &mut b).await;
    for node in [&mut a, &mut b] {
        let lost = node.transport.statistics().connections_closed_lost;
        assert_eq!(lost, 0, "an exchange of secrets is no failure");
        node.transport.abort();
        while let Some(arrival) = node.incoming.next().await {
            assert!(!matches!(arrival, Arrival::Lost { .. } | Arrival::Refused { .. }), "{arrival:?}");
        }
    }
}

#[tokio::test]
async fn a_destination_refused_for_a_secret_is_dialled_at_once_with_another() {
    let (old, new) = (secret(), secret());
    let mut late = config("late", &KeySet::new(old.clone()));
    late.timeouts.dial_backoff = std::time::Duration::from_secs(3600);
    let (late, a) = (Node::start(late), Node::start(config("a", &KeySet::new(new.clone()))));
    let error = late.transport.open_stream(&a.destination()).await.unwrap_err();
    assert!(
        matches!(error, OpenError::Refused { refusal: RefusalReason::UnknownSecret { .. }, .. }),
        "{error}"
    );
    late.transport.set_identity(KeySet::new(new).with(old).unwrap()).unwrap();
    late.transport.open_stream(&a.destination()).await.map(drop).unwrap();
}

#[tokio::test]
async fn a_node_with_only_a_removed_secret_is_disconnected_and_refused() {
    let (old, new) = (secret(), secret());
    let both = KeySet::new(new.clone()).with(old.clone()).unwrap();
    let mut a = Node::start(config("a", &both));
    let mut b = Node::start(config("b", &KeySet::new(old).with(new.clone()).unwrap()));
    let outsider = b.destination();
    a.reach(&mut b, "x").await;
    a.transport.set_identity(KeySet::new(new)).unwrap();
    b.counted(|_| b.transport.connections().is_empty()).await;
    assert_eq!(a.transport.statistics().connections_closed_keys, 1);
    let error = a.transport.open_stream(&outsider).await.unwrap_err();
    assert!(
        matches!(error, OpenError::Refused { refusal: RefusalReason::UnknownSecret { .. }, .. }),
        "{error}"
    );
    b.transport.send_datagram(&a.destination(), Bytes::from_static(b"?")).unwrap();
    loop {
        if let Arrival::Refused { refusal, .. } = a.arrival().await {
            assert!(
                matches!(refusal, RefusalReason::UnknownSecret { .. } | RefusalReason::ByPeer(_)),
                "{refusal}"
            );
            break;
        }
    }
}
