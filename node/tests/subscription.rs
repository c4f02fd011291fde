//! Membership's events as a program that embeds nodes receives them, over real sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use networkdb::{Event, KeySet, MembershipUpdate, Node, NodeConfig, NodeName};
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(20);

async fn start(name: &str) -> Node {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = NodeConfig::new(NodeName::new(name).unwrap(), any_port, KeySet::development());
    config.membership = networkdb::membership::Config::loopback();
    Node::start(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_sees_a_peer_join_change_and_leave_and_then_the_end_of_its_own_node() {
    let (here, peer) = (start("here").await, start("peer").await);
    let peer_id = peer.id();
    let mut subscription = here.subscribe();
    let mut next = async || timeout(TIMEOUT, subscription.next()).await.expect("no update in time");
    peer.join(&[here.advertised_address().to_string()]).await.unwrap();
    loop {
        match next().await {
            MembershipUpdate::Event(Event::Joined(record)) if record.id == peer_id => break,
            MembershipUpdate::Event(_) => {}
            other => panic!("{other:?} instead of the join"),
        }
    }
    let labels = BTreeMap::from([("zone".to_owned(), "b".to_owned())]);
    peer.update_labels(labels.clone()).unwrap();
    loop {
        match next().await {
            MembershipUpdate::Event(Event::Updated(record)) if record.id == peer_id => {
                assert_eq!(record.labels, labels);
                break;
            }
            MembershipUpdate::Event(_) => {}
            other => panic!("{other:?} instead of the labels"),
        }
    }
    peer.update_labels(BTreeMap::from([("zone".to_owned(), "b".repeat(10_000))])).unwrap_err();
    peer.shutdown(TIMEOUT).await;
    loop {
        match next().await {
            MembershipUpdate::Event(Event::Left(id)) if id == peer_id => break,
            MembershipUpdate::Event(_) => {}
            other => panic!("{other:?} instead of the leave"),
        }
    }
    here.abort();
    while let MembershipUpdate::Event(_) = next().await {}
    assert_eq!(next().await, MembershipUpdate::Closed);
}
