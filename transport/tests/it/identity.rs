//! Which nodes accept each other, and that both sides receive the reason for a refusal.

use std::net::SocketAddr;

use bytes::Bytes;
use networkdb_transport::{
    Arrival, BindError, ClusterName, Config, IdentityError, KeySet, OpenError, RefusalReason, Transport,
};
use wire::Destination;

use crate::nodes::{Node, config, name, secret};

/// The refusals at the dialler and at the dialled node, if the dialler expects the dialled node, or
/// `other` in its stead.
async fn refusals(dialler: &Node, dialled: &mut Node, other: Option<&str>) -> (RefusalReason, RefusalReason) {
    let mut to = dialled.destination();
    to.name = other.map(name).or(to.name);
    let error = dialler.transport.open_stream(&to).await.unwrap_err();
    let OpenError::Refused { refusal, .. } = error else { panic!("{error}") };
    loop {
        if let Arrival::Refused { refusal: there, address, .. } = dialled.arrival().await {
            assert_eq!(address, dialler.address());
            return (refusal, there);
        }
    }
}

#[tokio::test]
async fn another_secret_is_refused_and_both_sides_receive_the_reason() {
    let (one, other) = (secret(), secret());
    let (a, mut b) = (
        Node::start(config("a", &KeySet::new(one.clone()))),
        Node::start(config("b", &KeySet::new(other.clone()))),
    );
    let (at_a, at_b) = refusals(&a, &mut b, None).await;
    let (one, other) = (one.fingerprint().to_string(), other.fingerprint().to_string());
    assert_eq!(at_a, RefusalReason::UnknownSecret { theirs: other.clone(), ours: one.clone() });
    let RefusalReason::ByPeer(reason) = at_b else { panic!("{at_b}") };
    assert!(reason.contains(&one) && reason.contains(&other), "{reason}");
    assert!(
        reason.starts_with("your certificate") && reason.ends_with("the same secret file"),
        "the reason: {reason}"
    );
    assert_eq!(a.transport.statistics().refused_unknown_secret, 1);
    assert_eq!(b.transport.statistics().refused_by_peer, 1);
    assert!(a.transport.connections().is_empty() && b.transport.connections().is_empty());
}

#[tokio::test]
async fn the_dialled_node_may_be_the_one_that_refuses() {
    // The dialler accepts both secrets, the other node only one: the handshake is complete before the
    // other node can refuse.
    let (old, new) = (secret(), secret());
    let a = Node::start(config("a", &KeySet::new(new.clone()).with(old.clone()).unwrap()));
    let mut b = Node::start(config("b", &KeySet::new(old)));
    let (at_a, at_b) = refusals(&a, &mut b, None).await;
    let RefusalReason::ByPeer(reason) = at_a else { panic!("{at_a}") };
    assert!(reason.contains(&new.fingerprint().to_string()), "{reason}");
    assert!(matches!(at_b, RefusalReason::UnknownSecret { .. }), "{at_b}");
}

#[tokio::test]
async fn another_cluster_is_refused_and_both_sides_receive_the_reason() {
    let mut elsewhere = config("b", &KeySet::development());
    elsewhere.cluster = ClusterName::new("staging").unwrap();
    let (a, mut b) = (Node::development("a"), Node::start(elsewhere));
    let (at_a, at_b) = refusals(&a, &mut b, None).await;
    let cluster = |name| ClusterName::new(name).unwrap();
    let RefusalReason::ByPeer(reason) = at_a else { panic!("{at_a}") };
    assert!(reason.contains("\"staging\"") && reason.contains("\"default\""), "{reason}");
    assert_eq!(at_b, RefusalReason::Cluster { theirs: cluster("default"), ours: cluster("staging") });
    assert_eq!(b.transport.statistics().refused_cluster, 1);
}

#[tokio::test]
async fn another_name_than_expected_is_refused_and_both_sides_receive_both_names() {
    let (a, mut b) = (Node::development("a"), Node::development("b"));
    let to = Destination { name: Some(name("bob")), address: b.address() };
    let (at_a, at_b) = refusals(&a, &mut b, Some("bob")).await;
    assert_eq!(at_a, RefusalReason::Name { expected: name("bob"), found: name("b") });
    let RefusalReason::ByPeer(reason) = at_b else { panic!("{at_b}") };
    assert!(reason.contains("\"bob\"") && reason.contains("\"b\""), "{reason}");
    let text = a.transport.open_stream(&to).await.unwrap_err().to_string();
    assert!(text.contains("\"bob\"") && text.contains(&b.address().to_string()), "{text}");
}

#[tokio::test]
async fn a_node_refuses_a_connection_with_itself() {
    let a = Node::development("a");
    let error = a.transport.open_stream(&a.seed()).await.unwrap_err();
    assert!(matches!(error, OpenError::Refused { refusal: RefusalReason::Myself, .. }), "{error}");
    // The same at an address that does not look like its own.
    let mut everywhere = config("b", &KeySet::new(secret()));
    everywhere.bind = "0.0.0.0:0".parse().unwrap();
    let b = Node::start(everywhere);
    let address = SocketAddr::new([127, 0, 0, 1].into(), b.address().port());
    let error = b.transport.open_stream(&Destination { name: None, address }).await.unwrap_err();
    assert!(matches!(error, OpenError::Refused { refusal: RefusalReason::Myself, .. }), "{error}");
}

#[tokio::test]
async fn a_second_node_under_a_name_in_use_does_not_disturb_the_first() {
    let (a, mut first) = (Node::development("a"), Node::development("twin"));
    let mut second = Node::development("twin");
    a.reach(&mut first, "x").await;
    a.reach(&mut second, "x").await;
    second.reach(&mut first, "y").await;
    for twin in [&mut first, &mut second] {
        a.transport.send_datagram(&twin.destination(), Bytes::from_static(b"still you")).unwrap();
        assert_eq!(twin.datagram().await.1, "still you");
    }
    assert_eq!(a.transport.statistics().connections_closed_replaced, 0);
    // The owner of the transport disconnects the second one only, and gives a reason.
    a.transport.disconnect(&name("twin"), Some(second.address()), "the name is taken");
    loop {
        match second.arrival().await {
            Arrival::Lost { peer, loss } if peer.name == name("a") => {
                assert_eq!(loss, networkdb_transport::Loss::ClosedByPeer("the name is taken".to_owned()));
                break;
            }
            _ => {}
        }
    }
    assert_eq!(a.transport.connections().len(), 1);
}

#[tokio::test]
async fn without_a_secret_only_loopback_is_bound() {
    let bind = |address: &str| {
        let mut config = config("a", &KeySet::development());
        config.bind = address.parse().unwrap();
        Transport::bind(config).map(drop)
    };
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7946", "[::ffff:192.0.2.1]:7946"] {
        let error = bind(address).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, BindError::NoSecret(_)), "{text}");
        assert!(text.contains("is not a loopback address") && text.contains("secret"), "{text}");
    }
    bind("127.0.0.3:0").unwrap();
    // It is refused later, too, even as a secondary secret.
    let mut open = config("a", &KeySet::new(secret()));
    open.bind = "0.0.0.0:0".parse().unwrap();
    let open = Node::start(open);
    let development = KeySet::development().primary().clone();
    let keys = KeySet::new(secret()).with(development).unwrap();
    assert!(matches!(open.transport.set_identity(keys), Err(IdentityError::NoSecret(_))));
}

#[tokio::test]
async fn nodes_on_ipv6_and_on_all_addresses_reach_each_other() {
    let keys = KeySet::new(secret());
    let at = |text: &str, address: &str| {
        Node::start(Config { bind: address.parse().unwrap(), ..config(text, &keys) })
    };
    let Ok(six) = std::net::UdpSocket::bind("[::1]:0") else {
        eprintln!("this host has no IPv6; nothing is shown");
        return;
    };
    drop(six);
    let (a, mut b) = (at("a", "[::1]:0"), at("b", "[::1]:0"));
    a.reach(&mut b, "x").await;
    let (mut four, mut all) = (at("four", "127.0.0.1:0"), at("all", "[::]:0"));
    let port = all.address().port();
    let to = Destination { name: Some(name("all")), address: SocketAddr::new([127, 0, 0, 1].into(), port) };
    four.transport.send_datagram(&to, Bytes::from_static(b"x")).unwrap();
    let (from, _) = all.datagram().await;
    // An IPv4 peer has an IPv4 address, and is answered over the same connection.
    assert_eq!(from.address, four.address());
    let back = Destination { name: Some(from.name), address: from.address };
    all.transport.send_datagram(&back, Bytes::from_static(b"y")).unwrap();
    assert_eq!(four.datagram().await.1, "y");
    assert_eq!(all.transport.statistics().dials_started, 0);
    let mut another = at("another", "127.0.0.1:0");
    all.reach(&mut another, "z").await;
    let error = four.transport.open_stream(&b.destination()).await.unwrap_err();
    assert!(matches!(error, OpenError::Address { .. }), "{error}");
}

#[tokio::test]
async fn secrets_are_not_shown_by_anything_that_can_be_formatted() {
    let secret = secret();
    let (text, fingerprint) = (secret.to_text().to_string(), secret.fingerprint());
    let config = config("a", &KeySet::new(secret));
    let shown = format!("{config:?}");
    let node = Node::start(config);
    let shown = format!("{shown} {:?} {:?}", node.transport, node.incoming);
    assert!(!shown.contains(&text[networkdb_transport::SECRET_PREFIX.len()..]), "{shown}");
    assert!(shown.contains(&fingerprint.to_string()));
}
