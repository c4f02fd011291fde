//! Who is written to when there is a connection with some members only.

use std::collections::BTreeSet;

use super::*;

/// Among twenty-six members, with connections with the first of them only.
fn connected_with(count: u8) -> Lone {
    let mut lone = Lone::among(26, |_| ());
    for number in 0..26 {
        lone.machine.handle_connection_changed(&name(&Lone::peer(number)), number < count);
    }
    lone
}

fn is_connected(peer: &NodeId, count: u8) -> bool {
    peer.name.as_str() < Lone::peer(count).as_str()
}

/// Whom it tells news of its own and of others within some seconds.
fn gossip_receivers(lone: &mut Lone, time: Duration) -> BTreeSet<String> {
    let mut receivers = BTreeSet::new();
    let end = lone.now + time;
    while lone.now < end {
        lone.pass(MILLI * 20);
        for sent in lone.sent() {
            if sent.purpose == Purpose::Gossip {
                receivers.insert(sent.to.name.clone().expect("named").to_string());
            }
            for message in sent.messages {
                if let Message::Ping { sequence, target, .. } = message {
                    lone.answer_probe(sequence, target);
                }
            }
        }
    }
    receivers
}

#[test]
fn news_goes_over_the_connections_there_are_if_these_are_enough() {
    let mut lone = connected_with(12);
    lone.machine.update_labels([("k".to_owned(), "v".to_owned())].into(), lone.now).expect("short labels");
    lone.receive("a", alive("z", 11, 0));
    let receivers = gossip_receivers(&mut lone, 3 * SECOND);
    assert!(receivers.iter().all(|peer| peer.as_str() < "m"), "{receivers:?}");
    assert_eq!(receivers.len(), 12, "and all of them are receivers");
}

#[test]
fn with_few_connections_news_asks_for_a_few_more_at_a_time() {
    let mut lone = connected_with(1);
    lone.machine.update_labels([("k".to_owned(), "v".to_owned())].into(), lone.now).expect("short labels");
    let at_once = gossip_receivers(&mut lone, MILLI * 20);
    let new = |receivers: &BTreeSet<String>| receivers.iter().filter(|peer| *peer != "a").count();
    assert!(at_once.contains("a"), "{at_once:?}");
    assert_eq!(new(&at_once), 4, "{at_once:?}");
    // Some more with each second that news is left, and not as many as are told something.
    let later = gossip_receivers(&mut lone, 2 * SECOND);
    assert!((1..=6).contains(&new(&later)), "{later:?}");
}

#[test]
fn a_member_without_a_connection_has_the_time_of_a_handshake_longer_to_answer() {
    for (handshake, connected, suspected_after) in [
        (0, false, SECOND),
        (700, true, SECOND),
        (700, false, SECOND + MILLI * 700),
        (60_000, false, 11 * SECOND),
    ] {
        let mut lone = Lone::among(5, |_| ());
        lone.machine.handle_connection_changed(&name("c"), connected);
        lone.machine.set_handshake_time(MILLI * handshake);
        lone.machine.probe_hinted(&name("c"), lone.now);
        lone.sent();
        lone.pass(suspected_after - MILLI);
        assert_eq!(lone.state("c"), Some(State::Alive), "{handshake} {connected}");
        lone.pass(MILLI * 2);
        assert_eq!(lone.state("c"), Some(State::Suspect), "{handshake} {connected}");
    }
}

#[test]
fn while_handshakes_are_dear_those_with_a_connection_are_probed_first_and_the_others_in_the_same_round() {
    let probed = |lone: &mut Lone, count: usize| {
        let mut probed = Vec::new();
        while probed.len() < count {
            lone.pass(MILLI * 20);
            for sent in lone.sent() {
                for message in sent.messages {
                    if let Message::Ping { sequence, target, .. } = message {
                        probed.push(target.clone());
                        lone.answer_probe(sequence, target);
                    }
                }
            }
        }
        probed
    };
    let mut lone = connected_with(10);
    lone.machine.set_handshake_time(3 * SECOND);
    // From whatever place in the round it was at.
    let first = probed(&mut lone, 6);
    assert!(first.iter().all(|target| is_connected(target, 10)), "{first:?}");
    // Whatever happens, two rounds reach everybody: every other probe may be for the neighbour.
    let all = probed(&mut lone, 4 * 26).into_iter().map(|target| target.name).collect::<BTreeSet<_>>();
    assert_eq!(all.len(), 26, "{all:?}");
    // Once they are cheap, nobody is preferred any more.
    lone.machine.set_handshake_time(MILLI * 5);
    let later = probed(&mut lone, 12);
    assert!(later.iter().any(|target| !is_connected(target, 10)), "{later:?}");
}

#[test]
fn connections_with_strangers_count_once_they_are_members_and_no_longer_than_they_last() {
    let mut lone = Lone::among(20, |_| ());
    lone.machine.handle_connection_changed(&name("z"), true);
    assert_eq!(
        lone.machine.roster.connected_active().map(|connected_active| connected_active.len()),
        Some(0)
    );
    lone.receive("z", alive("z", 10, 0));
    assert_eq!(
        lone.machine.roster.connected_active().map(|connected_active| connected_active.names().to_vec()),
        Some(vec![name("z")])
    );
    lone.machine.handle_connection_changed(&name("b"), true);
    lone.machine.forget_connections();
    assert_eq!(
        lone.machine.roster.connected_active().map(|connected_active| connected_active.len()),
        Some(0)
    );
}
