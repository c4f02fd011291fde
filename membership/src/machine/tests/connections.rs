//! Gossip and probe targets when only some members are connected.

use std::collections::BTreeSet;

use super::*;

/// Among twenty-six members, connected to the first `count` of them.
fn connected_with(count: u8) -> Node {
    let mut node = Node::among(26, |_| ());
    for number in 0..26 {
        node.machine.handle_connection_changed(&name(&Node::peer(number)), number < count);
    }
    node
}

fn is_connected(peer: &NodeId, count: u8) -> bool {
    peer.name.as_str() < Node::peer(count).as_str()
}

/// The members that receive updates within `time`.
fn gossip_receivers(node: &mut Node, time: Duration) -> BTreeSet<String> {
    let mut receivers = BTreeSet::new();
    let end = node.now + time;
    while node.now < end {
        node.pass(MILLI * 20);
        for sent in node.sent() {
            if sent.purpose == Purpose::Gossip {
                receivers.insert(sent.to.name.clone().expect("named").to_string());
            }
            for message in sent.messages {
                if let Message::Ping { sequence, target, .. } = message {
                    node.answer_probe(sequence, target);
                }
            }
        }
    }
    receivers
}

#[test]
fn updates_use_the_existing_connections_if_these_are_enough() {
    let mut node = connected_with(12);
    node.machine.update_labels([("k".to_owned(), "v".to_owned())].into(), node.now).expect("short labels");
    node.receive("a", alive("z", 11, 0));
    let receivers = gossip_receivers(&mut node, 3 * SECOND);
    assert!(receivers.iter().all(|peer| peer.as_str() < "m"), "{receivers:?}");
    assert_eq!(receivers.len(), 12, "all of them receive updates");
}

#[test]
fn with_few_connections_gossip_opens_a_few_more_at_a_time() {
    let mut node = connected_with(1);
    node.machine.update_labels([("k".to_owned(), "v".to_owned())].into(), node.now).expect("short labels");
    let at_once = gossip_receivers(&mut node, MILLI * 20);
    let new = |receivers: &BTreeSet<String>| receivers.iter().filter(|peer| *peer != "a").count();
    assert!(at_once.contains("a"), "{at_once:?}");
    assert_eq!(new(&at_once), 4, "{at_once:?}");
    // Each further second adds some, but not as many as there are gossip targets.
    let later = gossip_receivers(&mut node, 2 * SECOND);
    assert!((1..=6).contains(&new(&later)), "{later:?}");
}

#[test]
fn the_probe_timeout_of_a_member_without_a_connection_includes_a_handshake() {
    for (handshake, connected, suspected_after) in [
        (0, false, SECOND),
        (700, true, SECOND),
        (700, false, SECOND + MILLI * 700),
        (60_000, false, 11 * SECOND),
    ] {
        let mut node = Node::among(5, |_| ());
        node.machine.handle_connection_changed(&name("c"), connected);
        node.machine.set_handshake_time(MILLI * handshake);
        node.machine.probe_hinted(&name("c"), node.now);
        node.sent();
        node.pass(suspected_after - MILLI);
        assert_eq!(node.state("c"), Some(State::Alive), "{handshake} {connected}");
        node.pass(MILLI * 2);
        assert_eq!(node.state("c"), Some(State::Suspect), "{handshake} {connected}");
    }
}

#[test]
fn while_handshakes_are_slow_connected_members_are_probed_first_and_the_others_in_the_same_round() {
    let probed = |node: &mut Node, count: usize| {
        let mut probed = Vec::new();
        while probed.len() < count {
            node.pass(MILLI * 20);
            for sent in node.sent() {
                for message in sent.messages {
                    if let Message::Ping { sequence, target, .. } = message {
                        probed.push(target.clone());
                        node.answer_probe(sequence, target);
                    }
                }
            }
        }
        probed
    };
    let mut node = connected_with(10);
    node.machine.set_handshake_time(3 * SECOND);
    // Whatever the position in the round.
    let first = probed(&mut node, 6);
    assert!(first.iter().all(|target| is_connected(target, 10)), "{first:?}");
    // Two rounds reach every member in any case: every other probe may be for the neighbour.
    let all = probed(&mut node, 4 * 26).into_iter().map(|target| target.name).collect::<BTreeSet<_>>();
    assert_eq!(all.len(), 26, "{all:?}");
    // When handshakes are fast again, no member is preferred.
    node.machine.set_handshake_time(MILLI * 5);
    let later = probed(&mut node, 12);
    assert!(later.iter().any(|target| !is_connected(target, 10)), "{later:?}");
}

#[test]
fn connections_with_strangers_count_once_they_are_members_and_no_longer_than_they_last() {
    let mut node = Node::among(20, |_| ());
    node.machine.handle_connection_changed(&name("z"), true);
    assert_eq!(node.machine.roster.connected_active().map(|connected| connected.len()), Some(0));
    node.receive("z", alive("z", 10, 0));
    assert_eq!(
        node.machine.roster.connected_active().map(|connected| connected.names().to_vec()),
        Some(vec![name("z")])
    );
    node.machine.handle_connection_changed(&name("b"), true);
    node.machine.forget_connections();
    assert_eq!(node.machine.roster.connected_active().map(|connected| connected.len()), Some(0));
}
