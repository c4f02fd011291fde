//! How news spreads from one node.

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
    let telling = sent
        .iter()
        .filter(|sent| sent.messages.iter().any(|message| about(message).as_deref() == Some(subject)));
    telling.map(|sent| sent.to.name.clone().expect("named").to_string()).collect()
}

#[test]
fn own_news_goes_to_all_at_once_and_relayed_news_to_three() {
    let mut lone = Lone::among(10, |_| ());
    lone.machine.update_labels([("k".to_owned(), "v".to_owned())].into(), lone.now).expect("short");
    let sent = lone.sent();
    assert_eq!(receivers_of(&sent, "me").into_iter().collect::<BTreeSet<_>>().len(), 10);
    lone.quiet();
    lone.receive("a", Message::Left { id: id("b", 10), incarnation: 0 });
    let sent = lone.sent();
    assert_eq!(receivers_of(&sent, "b").into_iter().collect::<BTreeSet<_>>().len(), 3);
}

#[test]
fn in_a_large_cluster_own_news_goes_to_some_at_once() {
    let mut lone = Lone::among(20, |config| config.broadcast_to_all = 10);
    lone.machine.update_labels([("k".to_owned(), "v".to_owned())].into(), lone.now).expect("short");
    let sent = lone.sent();
    assert_eq!(receivers_of(&sent, "me").into_iter().collect::<BTreeSet<_>>().len(), 8);
}

#[test]
fn labels_that_are_too_long_change_nothing_and_the_same_labels_are_no_news() {
    let mut lone = Lone::among(2, |_| ());
    let before = lone.machine.me().clone();
    let long = [("k".to_owned(), "v".repeat(600))].into();
    let error = lone.machine.update_labels(long, lone.now).expect_err("too long");
    assert!(
        error.to_string().starts_with("the labels of node me#100 take 604 bytes; at most 512"),
        "{error}"
    );
    lone.machine.update_labels(Default::default(), lone.now).expect("the same");
    assert_eq!(*lone.machine.me(), before);
    assert!(lone.sent().is_empty());
}

#[test]
fn news_is_repeated_a_limited_number_of_times_then_there_is_silence() {
    // 4 × ⌈log10(11)⌉ sendings, the first round of which goes to three.
    let mut lone = Lone::among(9, |_| ());
    lone.receive("a", Message::Left { id: id("b", 10), incarnation: 0 });
    let mut times = 0;
    for _ in 0..200 {
        times += receivers_of(&lone.sent(), "b").len();
        lone.pass(MILLI * 10);
    }
    assert!((4..=6).contains(&times), "{times}");
    assert_eq!(lone.machine.broadcast_count(), 0);
}

#[test]
fn with_nobody_to_tell_news_waits() {
    let mut lone = Lone::new(|_| ());
    lone.machine.update_labels([("k".to_owned(), "v".to_owned())].into(), lone.now).expect("short");
    lone.pass(SECOND * 60);
    assert!(lone.sent().is_empty());
    assert_eq!(lone.machine.broadcast_count(), 1);
    lone.receive("a", alive("a", 10, 0));
    assert!(receivers_of(&lone.sent(), "me").contains(&"a".to_owned()));
}

#[test]
fn news_that_could_not_be_sent_is_sent_again() {
    // Without probes, whose failures would be news too.
    let mut lone = Lone::among(3, |config| config.probe_interval = SECOND * 3600);
    lone.receive("a", failed("b", 0));
    // No datagram gets out for a while, as when no connection is open yet.
    for _ in 0..50 {
        for sent in lone.sent() {
            lone.machine.handle_unsent(sent.id, lone.now);
        }
        lone.pass(MILLI * 50);
    }
    assert!(lone.machine.broadcast_count() > 0, "it was not counted as sent");
    assert!(lone.machine.statistics().transmits_unsent > 5);
    let mut receivers = Vec::new();
    for _ in 0..50 {
        receivers.extend(receivers_of(&lone.sent(), "b"));
        lone.pass(MILLI * 50);
    }
    assert!(receivers.contains(&"c".to_owned()), "{receivers:?}");
    assert_eq!(lone.machine.broadcast_count(), 0);
}

#[test]
fn fresh_news_close_together_shares_datagrams() {
    let mut lone = Lone::among(10, |_| ());
    for number in 100..200u16 {
        let newcomer = record(&format!("n{number}"), 1, address(number));
        lone.receive("a", Message::Alive { record: newcomer, incarnation: 0 });
    }
    let first = lone.sent().len();
    lone.pass(MILLI * 5);
    let second = lone.sent();
    assert_eq!(first, 3, "the first does not wait");
    let many = second.iter().map(|sent| sent.messages.len()).max();
    assert!(second.len() <= 21 && many >= Some(20), "{} datagrams of up to {many:?}", second.len());
}

#[test]
fn probes_and_answers_leave_room_for_others_and_carry_news() {
    let mut lone = Lone::among(5, |_| ());
    for number in 100..200u16 {
        let newcomer = record(&format!("n{number}"), 1, address(number));
        lone.receive("a", Message::Alive { record: newcomer, incarnation: 0 });
    }
    let ping = Message::Ping { sequence: 7, target: id("me", 100), generation: 10, incarnation: 0 };
    lone.receive("b", ping);
    let mut acks = 0;
    while let Some(transmit) = lone.machine.poll_transmit() {
        if let Transmit::Datagram { bytes, purpose: Purpose::Ack, .. } = transmit {
            acks += 1;
            assert!(bytes.len() <= 950 && bytes.len() > 800, "{} bytes", bytes.len());
        }
    }
    assert_eq!(acks, 1);
}

#[test]
fn a_good_bye_goes_to_all_is_repeated_to_those_who_are_silent_and_ends_when_enough_have_answered() {
    let mut lone = Lone::among(6, |_| ());
    lone.machine.leave(lone.now);
    assert!(lone.machine.is_leaving());
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
    let first = asked(&lone.sent());
    assert_eq!(first.len(), 6);
    let answer = |lone: &mut Lone, (target, sequence): (NodeId, u64)| {
        let peer = target.name.to_string();
        lone.receive(&peer, Message::Ack { sequence, id: target, incarnation: 0, digest: None });
    };
    answer(&mut lone, first[0].clone());
    answer(&mut lone, first[0].clone());
    answer(&mut lone, first[1].clone());
    assert_eq!(lone.events(), [], "three are wanted");
    lone.pass(MILLI * 210);
    let second = asked(&lone.sent());
    assert_eq!(second.len(), 4, "those who have not answered");
    assert!(!second.contains(&first[0]));
    answer(&mut lone, second[0].clone());
    assert_eq!(lone.events(), [Event::LeaveCompleted]);
    assert_eq!(lone.machine.poll_timeout(), None);
    lone.machine.leave(lone.now);
    assert_eq!(lone.events(), []);
}

#[test]
fn leaving_takes_no_longer_than_it_may_and_tries_streams_before() {
    let mut lone = Lone::among(6, |_| ());
    lone.machine.leave(lone.now);
    lone.pass(MILLI * 1999);
    lone.sent();
    assert_eq!(lone.events(), []);
    assert_eq!(lone.opened.len(), 3, "the reliable path was tried");
    lone.pass(MILLI * 2);
    assert_eq!(lone.events(), [Event::LeaveCompleted]);
    assert_eq!(lone.machine.alive_count(), 6, "itself not counted");
}

#[test]
fn alone_leaving_is_over_at_once() {
    let mut lone = Lone::new(|_| ());
    lone.machine.leave(lone.now);
    assert_eq!(lone.events(), [Event::LeaveCompleted]);
    assert_eq!(lone.machine.me().state, State::Left);
}

#[test]
fn who_is_leaving_believes_nothing_more_and_is_not_talked_into_living() {
    let mut lone = Lone::among(3, |_| ());
    lone.machine.leave(lone.now);
    lone.sent();
    lone.receive("a", Message::Suspect { id: id("me", 100), incarnation: 0, accuser: name("b") });
    lone.receive("a", failed("b", 0));
    lone.receive("x", alive("x", 1, 0));
    lone.receive("a", Message::Outdated(Outdated { claimed: 100, known: 100 }));
    assert_eq!(lone.events(), []);
    assert_eq!((lone.me().id, lone.machine.me().state), (id("me", 100), State::Left));
}
