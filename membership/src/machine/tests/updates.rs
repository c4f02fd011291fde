//! How one node gossips updates.

use std::collections::BTreeSet;

use super::*;

fn about(message: &Message) -> Option<String> {
    match message {
        Message::Alive { record, .. } => Some(record.id.name.to_string()),
        Message::Suspect { id, .. } | Message::Failed { id, .. } | Message::Left { id, .. } => {
            Some(id.name.to_string())
        }
        _ => None,
    }
}

fn receivers_of(sent: &[Sent], subject: &str) -> Vec<String> {
    let about_subject = sent
        .iter()
        .filter(|sent| sent.messages.iter().any(|message| about(message).as_deref() == Some(subject)));
    about_subject.map(|sent| sent.to.name.clone().expect("named").to_string()).collect()
}

#[test]
fn own_updates_go_to_all_members_at_once_and_relayed_updates_to_three() {
    let mut node = Node::among(10, |_| ());
    node.machine.update_labels([("k".to_owned(), "v".to_owned())].into(), node.now).expect("short");
    let sent = node.sent();
    assert_eq!(receivers_of(&sent, "me").into_iter().collect::<BTreeSet<_>>().len(), 10);
    node.settle();
    node.receive("a", Message::Left { id: id("b", 10), incarnation: 0 });
    let sent = node.sent();
    assert_eq!(receivers_of(&sent, "b").into_iter().collect::<BTreeSet<_>>().len(), 3);
}

#[test]
fn in_a_large_cluster_own_updates_go_to_some_members_at_once() {
    let mut node = Node::among(20, |config| config.broadcast_to_all = 10);
    node.machine.update_labels([("k".to_owned(), "v".to_owned())].into(), node.now).expect("short");
    let sent = node.sent();
    assert_eq!(receivers_of(&sent, "me").into_iter().collect::<BTreeSet<_>>().len(), 8);
}

#[test]
fn labels_that_are_too_long_change_nothing_and_equal_labels_cause_no_update() {
    let mut node = Node::among(2, |_| ());
    let before = node.machine.me().clone();
    let long = [("k".to_owned(), "v".repeat(600))].into();
    let error = node.machine.update_labels(long, node.now).expect_err("too long");
    assert!(
        error.to_string().starts_with("the labels of node me#100 take 604 bytes; at most 512"),
        "{error}"
    );
    node.machine.update_labels(Default::default(), node.now).expect("the same");
    assert_eq!(*node.machine.me(), before);
    assert!(node.sent().is_empty());
}

#[test]
fn an_update_is_retransmitted_a_limited_number_of_times() {
    // 4 × ⌈log10(11)⌉ transmissions; the first round goes to three members.
    let mut node = Node::among(9, |_| ());
    node.receive("a", Message::Left { id: id("b", 10), incarnation: 0 });
    let mut times = 0;
    for _ in 0..200 {
        times += receivers_of(&node.sent(), "b").len();
        node.pass(MILLI * 10);
    }
    assert!((4..=6).contains(&times), "{times}");
    assert_eq!(node.machine.broadcast_count(), 0);
}

#[test]
fn without_members_updates_stay_queued() {
    let mut node = Node::new(|_| ());
    node.machine.update_labels([("k".to_owned(), "v".to_owned())].into(), node.now).expect("short");
    node.pass(SECOND * 60);
    assert!(node.sent().is_empty());
    assert_eq!(node.machine.broadcast_count(), 1);
    node.receive("a", alive("a", 10, 0));
    assert!(receivers_of(&node.sent(), "me").contains(&"a".to_owned()));
}

#[test]
fn an_update_that_could_not_be_sent_is_sent_again() {
    // Without probes, whose failures would cause updates too.
    let mut node = Node::among(3, |config| config.probe_interval = SECOND * 3600);
    node.receive("a", failed("b", 0));
    // No datagram can be sent for a while, as before a connection is established.
    for _ in 0..50 {
        for sent in node.sent() {
            node.machine.handle_unsent(sent.id, node.now);
        }
        node.pass(MILLI * 50);
    }
    assert!(node.machine.broadcast_count() > 0, "it was not counted as sent");
    assert!(node.machine.statistics().transmits_unsent > 5);
    let mut receivers = Vec::new();
    for _ in 0..50 {
        receivers.extend(receivers_of(&node.sent(), "b"));
        node.pass(MILLI * 50);
    }
    assert!(receivers.contains(&"c".to_owned()), "{receivers:?}");
    assert_eq!(node.machine.broadcast_count(), 0);
}

#[test]
fn fresh_updates_close_together_share_datagrams() {
    let mut node = Node::among(10, |_| ());
    for number in 100..200u16 {
        let newcomer = record(&format!("n{number}"), 1, address(number));
        node.receive("a", Message::Alive { record: newcomer, incarnation: 0 });
    }
    let first = node.sent().len();
    node.pass(MILLI * 5);
    let second = node.sent();
    assert_eq!(first, 3, "the first does not wait");
    let many = second.iter().map(|sent| sent.messages.len()).max();
    assert!(second.len() <= 21 && many >= Some(20), "{} datagrams of up to {many:?}", second.len());
}

#[test]
fn probes_and_answers_keep_the_reserve_free_and_carry_updates() {
    let mut node = Node::among(5, |_| ());
    for number in 100..200u16 {
        let newcomer = record(&format!("n{number}"), 1, address(number));
        node.receive("a", Message::Alive { record: newcomer, incarnation: 0 });
    }
    let ping = Message::Ping { sequence: 7, target: id("me", 100), generation: 10, incarnation: 0 };
    node.receive("b", ping);
    let mut acks = 0;
    while let Some(transmit) = node.machine.poll_transmit() {
        if let Transmit::Datagram { bytes, purpose: Purpose::Ack, .. } = transmit {
            acks += 1;
            assert!(bytes.len() <= 950 && bytes.len() > 800, "{} bytes", bytes.len());
        }
    }
    assert_eq!(acks, 1);
}

#[test]
fn leaving_notifies_all_members_resends_to_those_without_an_answer_and_ends_when_enough_acknowledged() {
    let mut node = Node::among(6, |_| ());
    node.machine.leave(node.now);
    assert!(node.machine.is_leaving());
    let leave = Message::Left { id: id("me", 100), incarnation: 0 };
    let asked = |sent: &[Sent]| {
        let asked = sent.iter().filter(|sent| sent.messages.first() == Some(&leave));
        asked
            .filter_map(|sent| match sent.messages.get(1) {
                Some(Message::Ping { sequence, target, .. }) => Some((target.clone(), *sequence)),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let first = asked(&node.sent());
    assert_eq!(first.len(), 6);
    let answer = |node: &mut Node, (target, sequence): (NodeId, u64)| {
        let peer = target.name.to_string();
        node.receive(&peer, Message::Ack { sequence, id: target, incarnation: 0, digest: None });
    };
    answer(&mut node, first[0].clone());
    answer(&mut node, first[0].clone());
    answer(&mut node, first[1].clone());
    assert_eq!(node.events(), [], "three are needed");
    node.pass(MILLI * 210);
    let second = asked(&node.sent());
    assert_eq!(second.len(), 4, "those without an acknowledgement");
    assert!(!second.contains(&first[0]));
    answer(&mut node, second[0].clone());
    assert_eq!(node.events(), [Event::LeaveCompleted]);
    assert_eq!(node.machine.poll_timeout(), None);
    node.machine.leave(node.now);
    assert_eq!(node.events(), []);
}

#[test]
fn leaving_ends_at_its_timeout_and_tries_streams_before() {
    let mut node = Node::among(6, |_| ());
    node.machine.leave(node.now);
    node.pass(MILLI * 1999);
    node.sent();
    assert_eq!(node.events(), []);
    assert_eq!(node.opened.len(), 3, "the reliable path was tried");
    node.pass(MILLI * 2);
    assert_eq!(node.events(), [Event::LeaveCompleted]);
    assert_eq!(node.machine.alive_count(), 6, "this node does not count");
}

#[test]
fn leaving_without_members_completes_at_once() {
    let mut node = Node::new(|_| ());
    node.machine.leave(node.now);
    assert_eq!(node.events(), [Event::LeaveCompleted]);
    assert_eq!(node.machine.me().state, State::Left);
}

#[test]
fn a_leaving_node_ignores_claims_and_does_not_refute() {
    let mut node = Node::among(3, |_| ());
    node.machine.leave(node.now);
    node.sent();
    node.receive("a", Message::Suspect { id: id("me", 100), incarnation: 0, accuser: name("b") });
    node.receive("a", failed("b", 0));
    node.receive("x", alive("x", 1, 0));
    node.receive("a", Message::Outdated(Outdated { claimed: 100, known: 100 }));
    assert_eq!(node.events(), []);
    assert_eq!((node.me().id, node.machine.me().state), (id("me", 100), State::Left));
}
