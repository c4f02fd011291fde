//! Probes, suspicion, health and stalls.

use std::collections::BTreeMap;

use super::*;

fn pings(sent: &[Sent]) -> Vec<(String, NodeId, u64)> {
    let pings = sent.iter().flat_map(|sent| {
        sent.messages.iter().filter_map(|message| match message {
            Message::Ping { sequence, target, .. } => {
                Some((sent.to.name.clone().expect("named").to_string(), target.clone(), *sequence))
            }
            _ => None,
        })
    });
    pings.collect()
}

#[test]
fn every_other_probe_is_for_the_neighbour_and_the_rest_reach_each_member_once_per_round() {
    let mut node = Node::among(10, |_| ());
    node.settle();
    let mut counts = BTreeMap::<String, u32>::new();
    let mut gaps = BTreeMap::<String, Vec<u32>>::new();
    for second in 0..200 {
        node.pass(SECOND);
        for sent in node.sent() {
            for message in sent.messages {
                if let Message::Ping { sequence, target, .. } = message {
                    let peer = target.name.to_string();
                    *counts.entry(peer.clone()).or_default() += 1;
                    gaps.entry(peer.clone()).or_default().push(second);
                    node.receive(&peer, Message::Ack { sequence, id: target, incarnation: 0, digest: None });
                }
            }
        }
    }
    assert_eq!(counts.len(), 10);
    let neighbour = node.machine.roster.neighbour(&name("me")).expect("there are other members").to_string();
    for (peer, count) in counts {
        let expected = if peer == neighbour { 109..=111 } else { 9..=11 };
        assert!(expected.contains(&count), "{peer}: {count}");
    }
    let longest = gaps.values().flat_map(|times| times.windows(2).map(|pair| pair[1] - pair[0])).max();
    assert!(longest < Some(40), "less than two rounds pass between two probes of a member: {longest:?}");
    let longest = gaps[&neighbour].windows(2).map(|pair| pair[1] - pair[0]).max();
    assert_eq!(longest, Some(2));
}

#[test]
fn a_late_answer_causes_indirect_probes_and_a_stream_and_then_a_suspicion() {
    let mut node = Node::among(5, |_| ());
    let sequence = node.await_probe("a");
    node.sent();
    node.pass(MILLI * 520);
    let sent = node.sent();
    let asked = sent.iter().filter(|sent| {
        sent.messages.iter().any(|message| {
            matches!(message, Message::PingRequest { sequence: asked, target, address }
                if *asked == sequence && *target == id("a", 10) && *address == Node::at("a"))
        })
    });
    assert_eq!(asked.count(), 3);
    let (stream, to) = node.opened.pop().expect("a stream too");
    assert_eq!(to, Destination { name: Some(name("a")), address: Node::at("a") });
    let frames = node.frames(stream);
    assert!(matches!(&frames[..], [Frame::Packet(_)]));
    assert_eq!(node.state("a"), Some(State::Alive), "the probe times out after a second");
    node.pass(MILLI * 500);
    assert_eq!(node.state("a"), Some(State::Suspect));
    assert!(node.events().contains(&Event::Suspected(id("a", 10))));
    node.sent();
    assert!(node.closed.contains(&stream));
}

#[test]
fn an_answer_through_a_helper_or_over_the_stream_counts() {
    for by_stream in [false, true] {
        let mut node = Node::among(5, |_| ());
        let sequence = node.await_probe("a");
        node.pass(MILLI * 600);
        let helper = node
            .sent()
            .into_iter()
            .find(|sent| sent.messages.iter().any(|message| matches!(message, Message::PingRequest { .. })));
        let helper = helper.and_then(|sent| sent.to.name).expect("asked").to_string();
        let ack = Message::Ack { sequence, id: id("a", 10), incarnation: 0, digest: None };
        if by_stream {
            let (stream, _) = node.opened[0];
            node.frames(stream);
            node.machine.handle_stream_connected(stream, &name("a"), node.now);
            node.frame(stream, &Frame::Packet(packet(&[ack]))).expect("understood");
        } else {
            node.receive(&helper, ack);
        }
        node.pass(MILLI * 500);
        assert_eq!(node.state("a"), Some(State::Alive), "by stream: {by_stream}");
        assert_eq!(node.machine.statistics().probes_failed, 0);
    }
}

#[test]
fn an_answer_of_another_instance_or_an_unasked_node_does_not_count() {
    let mut node = Node::among(5, |_| ());
    let sequence = node.await_probe("a");
    let late = node.machine.statistics().late_responses;
    node.receive("a", Message::Ack { sequence, id: id("a", 9), incarnation: 0, digest: None });
    node.receive("b", Message::Ack { sequence, id: id("b", 10), incarnation: 0, digest: None });
    node.receive("b", Message::Ack { sequence, id: id("a", 10), incarnation: 0, digest: None });
    assert_eq!(node.machine.statistics().late_responses, late + 2);
    assert_eq!(node.machine.statistics().ignored_wrong_name, 1, "it was not asked to probe another node");
    node.pass(MILLI * 1100);
    assert_eq!(node.state("a"), Some(State::Suspect));
}

#[test]
fn an_answer_after_the_probe_timeout_changes_nothing() {
    let mut node = Node::among(3, |_| ());
    let sequence = node.await_probe("a");
    node.pass(MILLI * 1100);
    assert_eq!(node.state("a"), Some(State::Suspect));
    let health = node.machine.health_score();
    node.receive("a", Message::Ack { sequence, id: id("a", 10), incarnation: 0, digest: None });
    assert_eq!((node.state("a"), node.machine.health_score()), (Some(State::Suspect), health));
    assert_eq!(node.machine.statistics().late_responses, 1);
}

#[test]
fn a_suspect_is_notified_first_and_fails_if_it_does_not_refute() {
    let mut node = Node::among(2, |_| ());
    node.receive("b", suspect("a", 0, "b"));
    let accusation =
        |message: &Message| matches!(message, Message::Suspect { id, .. } if id.name == name("a"));
    assert!(node.sent_to("a").iter().any(accusation));
    let begin = node.now;
    while node.state("a") == Some(State::Suspect) && node.now < begin + SECOND * 60 {
        node.pass(MILLI * 10);
    }
    assert_eq!(node.state("a"), Some(State::Failed));
    // It confirmed the suspicion itself, and no other member could.
    let took = node.now - begin;
    assert!((MILLI * 3150..MILLI * 3250).contains(&took), "{took:?}");
    assert_eq!(node.machine.statistics().failures_declared, 1);
    assert!(
        node.sent_to("a").iter().any(|message| matches!(message, Message::Failed { .. })),
        "it is notified"
    );
}

#[test]
fn a_probe_of_a_suspect_carries_the_suspicion() {
    let mut node = Node::among(2, |_| ());
    node.receive("b", suspect("a", 0, "b"));
    node.sent();
    let probe = (0..500).find_map(|_| {
        node.pass(MILLI * 10);
        let of_a = |sent: &Sent| {
            matches!(&sent.messages[0], Message::Ping { target, .. } if target.name == name("a"))
        };
        node.sent().into_iter().find(of_a)
    });
    assert_eq!(probe.expect("it is probed").messages[1], suspect("a", 0, "me"));
}

#[test]
fn unresponsive_helpers_worsen_the_health_score_and_answers_improve_it() {
    let mut node = Node::among(5, |_| ());
    node.await_probe("a");
    node.pass(MILLI * 1100);
    assert_eq!(node.machine.health_score(), 3, "none of three helpers answered");
    node.pass_answering(SECOND * 20);
    assert_eq!(node.machine.health_score(), 0);

    let mut node = Node::among(5, |_| ());
    let sequence = node.await_probe("a");
    node.pass(MILLI * 600);
    let helpers = node
        .sent()
        .into_iter()
        .filter(|sent| sent.messages.iter().any(|message| matches!(message, Message::PingRequest { .. })));
    for helper in helpers.map(|sent| sent.to.name.expect("named").to_string()).collect::<Vec<_>>() {
        node.receive(&helper, Message::Nack { sequence });
        node.receive(&helper, Message::Nack { sequence });
    }
    node.pass(MILLI * 500);
    assert_eq!(
        (node.state("a"), node.machine.health_score()),
        (Some(State::Suspect), 0),
        "all of them answered"
    );
}

/// The members it pings within so short a time that hardly any turn comes up.
fn pinged_at_once(node: &mut Node) -> Vec<String> {
    node.pass(MILLI);
    pings(&node.sent()).into_iter().map(|(to, ..)| to).collect()
}

#[test]
fn unresponsive_helpers_are_probed_at_once() {
    let mut node = Node::among(20, |_| ());
    node.await_probe("a");
    node.pass(MILLI * 600);
    let asked =
        |sent: &Sent| sent.messages.iter().any(|message| matches!(message, Message::PingRequest { .. }));
    let helpers = node.sent().into_iter().filter(asked).map(|sent| sent.to.name.expect("named").to_string());
    let helpers = helpers.collect::<Vec<_>>();
    assert_eq!(helpers.len(), 3);
    node.pass(MILLI * 399);
    node.sent();
    let probed = pinged_at_once(&mut node);
    assert!(helpers.iter().all(|helper| probed.contains(helper)), "{helpers:?} but {probed:?}");
}

#[test]
fn doubtful_helpers_are_avoided_and_do_not_worsen_the_health_score() {
    let mut node = Node::among(6, |_| ());
    node.receive("f", suspect("b", 0, "f"));
    node.receive("f", suspect("c", 0, "f"));
    node.machine.handle_connection_lost(&name("d"), node.now);
    node.sent();
    node.machine.handle_connection_lost(&name("a"), node.now);
    node.pass(MILLI * 501);
    let sent = node.sent();
    let asked = |target: &'static str| {
        let asks = move |message: &Message| match message {
            Message::PingRequest { target: asked, .. } => asked.name == name(target),
            _ => false,
        };
        let asked = sent.iter().filter(move |sent| sent.messages.iter().any(asks));
        asked.map(|sent| sent.to.name.clone().expect("named").to_string()).collect::<Vec<_>>()
    };
    let helpers = asked("a");
    assert!(
        helpers.len() == 3 && helpers.contains(&"e".into()) && helpers.contains(&"f".into()),
        "{helpers:?}"
    );
    let health = node.machine.health_score();
    node.pass(MILLI * 500);
    assert_eq!(node.state("a"), Some(State::Suspect));
    let blamed = node.machine.health_score() - health;
    assert!(blamed <= 2 + 2 + 2, "only e and f count, for each of up to three probes: {blamed}");
}

#[test]
fn a_helper_without_an_answer_from_a_suspect_probes_it_at_once() {
    let mut node = Node::among(20, |config| config.second_opinions = 0);
    node.receive("f", suspect("b", 0, "f"));
    assert!(!pinged_at_once(&mut node).contains(&"b".to_owned()), "others wait for its turn");
    let request = Message::PingRequest { sequence: 41, target: id("c", 10), address: Node::at("c") };
    node.receive("f", request);
    node.pass(MILLI * 500);
    node.sent();
    node.receive("f", suspect("c", 0, "f"));
    assert!(pinged_at_once(&mut node).contains(&"c".to_owned()));
    node.pass(SECOND);
    assert_eq!(node.machine.statistics().confirmations, 1, "its own suspicion");
}

#[test]
fn a_node_that_considers_the_suspect_failed_confirms_and_shortens_the_suspicion() {
    let mut knowing = Node::among(5, |_| ());
    knowing.fail("a", "b", 0);
    knowing.settle();
    knowing.receive("c", suspect("b", 0, "c"));
    assert!(knowing.sent_to("c").contains(&suspect("b", 0, "me")), "a confirmation, not a failure claim");
    knowing.receive("c", suspect("b", 0, "me"));
    assert!(knowing.sent_to("c").is_empty(), "its own confirmation is not answered");
    // Another node that considers it failed confirms in answer to this one; answering that would
    // never end.
    knowing.receive("a", suspect("b", 0, "a"));
    assert!(knowing.sent_to("a").is_empty(), "at most one confirmation a second");

    let mut asking = Node::among(5, |config| config.suspicion_confirmations = 1);
    asking.receive("c", suspect("b", 0, "c"));
    asking.receive("a", suspect("b", 0, "a"));
    asking.pass_answering(SECOND * 4);
    assert_eq!(asking.state("b"), Some(State::Failed));
}

#[test]
fn some_members_that_learn_of_a_suspicion_probe_the_suspect_at_once() {
    let mut probing = 0;
    for seed in 0..200 {
        let mut node = Node::seeded(seed, 20, |_| ());
        node.receive("f", suspect("b", 0, "f"));
        probing += usize::from(pinged_at_once(&mut node).contains(&"b".to_owned()));
    }
    // Three of twenty, and hardly ever one more whose turn came up within the millisecond.
    assert!((15..=50).contains(&probing), "{probing} of 200");
}

#[test]
fn as_long_as_second_opinions_are_missing_some_more_probe_the_suspect() {
    let (mut second, mut third, mut needless) = (0, 0, 0);
    for seed in 0..200 {
        let drawn = |opinions: &[&str], intervals: f64| {
            let mut node = Node::seeded(seed, 20, |_| ());
            let due = node.now + SECOND.mul_f64(intervals);
            node.receive("f", suspect("b", 0, "f"));
            if pinged_at_once(&mut node).contains(&"b".to_owned()) {
                return false;
            }
            for accuser in opinions {
                node.receive(accuser, suspect("b", 0, accuser));
            }
            node.pass_answering(SECOND.mul_f64(intervals) - MILLI * 50);
            node.pass((due - MILLI) - node.now);
            node.sent();
            node.pass(MILLI * 2);
            pings(&node.sent()).iter().any(|(to, ..)| to == "b")
        };
        second += usize::from(drawn(&["c", "d"], 1.25));
        third += usize::from(drawn(&["c", "d"], 2.5));
        needless += usize::from(drawn(&["c", "d", "e"], 1.25));
    }
    // Three of twenty, of the seeds that drew no probe at first, and later of those that drew none
    // before.
    assert!((12..=45).contains(&second) && (10..=40).contains(&third), "{second} and {third} of 200");
    assert_eq!(needless, 0, "all have arrived");
}

#[test]
fn a_bad_health_score_reduces_the_probe_rate_and_extends_timeouts() {
    let mut node = Node::among(1, |_| ());
    node.machine.health.worse(3);
    // The pending timer was set with a score of zero.
    node.await_probe("a");
    node.pass(MILLI * 1900);
    let sent = node.sent();
    assert!(pings(&sent).is_empty(), "the next probe comes after four seconds");
    assert_eq!(node.machine.statistics().probe_fallbacks, 0, "and the answer has two seconds");
    node.pass(MILLI * 200);
    assert_eq!(node.machine.statistics().probe_fallbacks, 1);
}

#[test]
fn a_ping_is_answered_and_corrects_differences_about_its_sender() {
    let ping = |generation, incarnation| Message::Ping {
        sequence: 7,
        target: id("me", 100),
        generation,
        incarnation,
    };
    let mut node = Node::among(2, |_| ());
    let answer = |node: &mut Node, from: &str, message: Message| {
        node.receive(from, message);
        let sent = node.sent();
        assert_eq!(sent.len(), 1);
        assert_eq!((sent[0].purpose, sent[0].to.address), (Purpose::Ack, Node::at(from)));
        assert!(
            matches!(&sent[0].messages[0], Message::Ack { sequence: 7, id, incarnation: 0, digest: Some(_) }
            if *id == self::id("me", 100))
        );
        sent[0].messages[1..].to_vec()
    };
    assert_eq!(answer(&mut node, "a", ping(10, 0)), []);
    assert_eq!(node.machine.member("a").and_then(|member| member.last_seen), Some(node.now));
    assert_eq!(answer(&mut node, "a", ping(10, 1)), [Message::Introduce], "a later incarnation");
    assert_eq!(answer(&mut node, "a", ping(11, 0)), [Message::Introduce], "a later instance");
    assert_eq!(answer(&mut node, "x", ping(1, 0)), [Message::Introduce], "an unknown node");
    node.fail("b", "a", 0);
    node.settle();
    assert_eq!(
        answer(&mut node, "a", ping(10, 0)),
        [Message::Failed { id: id("a", 10), incarnation: 0, accuser: name("me") }],
        "one that is considered failed"
    );
    // It introduces itself on request.
    node.receive("a", Message::Introduce);
    assert_eq!(node.sent_to("a"), [Message::Alive { record: node.me(), incarnation: 0 }]);
}

#[test]
fn a_ping_for_an_earlier_instance_is_answered_with_the_current_record() {
    let mut node = Node::among(1, |_| ());
    let ping = Message::Ping { sequence: 7, target: id("me", 99), generation: 10, incarnation: 0 };
    node.receive("a", ping);
    assert_eq!(node.sent_to("a"), [Message::Alive { record: node.me(), incarnation: 0 }]);
    node.receive("a", Message::Ping { sequence: 7, target: id("you", 1), generation: 10, incarnation: 0 });
    assert!(node.sent_to("a").is_empty());
    assert_eq!(node.machine.statistics().ignored_misdirected, 1);
}

#[test]
fn a_relay_forwards_the_answer_or_sends_a_nack() {
    let mut node = Node::among(3, |_| ());
    let request = Message::PingRequest { sequence: 41, target: id("b", 10), address: Node::at("b") };
    node.receive("a", request.clone());
    let sent = node.sent();
    let relayed = pings(&sent);
    let [(to, target, sequence)] = &relayed[..] else { panic!("{relayed:?}") };
    assert_eq!((to.as_str(), target), ("b", &id("b", 10)));
    node.receive("b", Message::Ack { sequence: *sequence, id: id("b", 10), incarnation: 2, digest: Some(1) });
    let ack = Message::Ack { sequence: 41, id: id("b", 10), incarnation: 2, digest: None };
    assert_eq!(node.sent_to("a"), [ack]);
    node.pass_answering(MILLI * 900);
    assert_eq!(node.machine.relays.len(), 0);

    node.receive("a", request);
    node.sent();
    let mut nacks = 0;
    for _ in 0..30 {
        node.pass(MILLI * 100);
        nacks +=
            node.sent_to("a").iter().filter(|message| **message == Message::Nack { sequence: 41 }).count();
    }
    assert_eq!((nacks, node.machine.relays.len()), (1, 0));
}

#[test]
fn a_lost_connection_causes_a_probe_but_no_suspicion() {
    let mut node = Node::among(3, |_| ());
    node.settle();
    node.machine.handle_connection_lost(&name("b"), node.now);
    node.machine.handle_connection_lost(&name("b"), node.now);
    node.machine.handle_connection_lost(&name("unknown"), node.now);
    let sent = node.sent();
    let probes = pings(&sent);
    assert!(matches!(&probes[..], [(to, _, _)] if to == "b"), "{probes:?}");
    assert_eq!(node.state("b"), Some(State::Alive));
}

/// The refutation of b and the answer of a, which waited to be read, come in time.
fn assert_no_member_fails_once_input_is_read(node: &mut Node, sequence: u64) {
    node.receive("b", alive("b", 10, 1));
    node.answer_probe(sequence, id("a", 10));
    node.pass_answering(SECOND * 60);
    let events = node.events();
    assert!(!events.iter().any(|event| matches!(event, Event::Failed(_))), "{events:?}");
}

#[test]
fn a_stalled_process_postpones_every_failure_timeout() {
    let mut node = Node::among(5, |_| ());
    let sequence = node.await_probe("a");
    node.receive("c", suspect("b", 0, "c"));
    node.events();
    node.now += SECOND * 60;
    node.machine.handle_timeout(node.now);
    assert_eq!(node.events(), [], "no member fails or is suspected");
    assert_eq!(node.machine.statistics().stalls, 1);
    assert!(node.machine.health_score() > 0);
    // The input that arrived meanwhile is read now.
    assert_no_member_fails_once_input_is_read(&mut node, sequence);
}

#[test]
fn operations_started_after_a_stall_are_not_postponed_by_its_length() {
    let mut node = Node::among(1, |_| ());
    node.settle();
    node.now += SECOND * 600;
    // The caller passes received input before timeouts.
    node.machine.handle_connection_lost(&name("a"), node.now);
    node.machine.handle_timeout(node.now);
    assert_eq!(node.machine.statistics().stalls, 1, "one stall counts once");
    node.pass(SECOND * 3);
    assert_eq!(node.state("a"), Some(State::Suspect));
    node.pass(SECOND * 5);
    assert_eq!(node.state("a"), Some(State::Failed));
}

#[test]
fn a_process_that_lags_behind_its_input_suspects_no_node_before_it_has_read_it() {
    let mut node = Node::among(3, |_| ());
    let sequence = node.await_probe("a");
    node.receive("c", suspect("b", 0, "c"));
    node.events();
    // Half a minute in which it does nothing but read.
    for _ in 0..3000 {
        node.now += MILLI * 10;
        node.receive("c", Message::Nack { sequence: 0 });
    }
    node.machine.handle_timeout(node.now);
    assert_eq!((node.events(), node.machine.statistics().stalls), (vec![], 1));
    assert_no_member_fails_once_input_is_read(&mut node, sequence);
}

#[test]
fn timeouts_early_and_twice_change_nothing() {
    let mut node = Node::among(5, |_| ());
    let probes = node.machine.statistics().probes;
    let now = node.now;
    for _ in 0..100 {
        node.machine.handle_timeout(now);
    }
    assert_eq!((node.machine.statistics().probes, node.machine.statistics().stalls), (probes, 0));
    assert!(node.sent().is_empty() && node.events().is_empty());
}

#[test]
fn one_random_failed_member_is_contacted_every_second_and_left_members_never() {
    let mut node = Node::among(6, |_| ());
    for peer in ["a", "b", "c"] {
        node.receive("f", failed(peer, 0));
    }
    node.receive("f", Message::Left { id: id("d", 10), incarnation: 0 });
    node.settle();
    node.opened.clear();
    for _ in 0..60 {
        node.pass_answering(SECOND);
        for (stream, _) in node.opened.clone() {
            node.machine.handle_stream_closed(stream, node.now);
        }
    }
    let mut counts = BTreeMap::<String, u32>::new();
    for (_, to) in &node.opened {
        *counts.entry(to.name.clone().expect("named").to_string()).or_default() += 1;
    }
    for peer in ["a", "b", "c"] {
        assert!((8..35).contains(&counts[peer]), "{counts:?}");
    }
    assert!(!counts.contains_key("d"));
    let regular =
        counts.iter().filter(|(peer, _)| ["e", "f"].contains(&peer.as_str())).map(|(_, count)| count);
    assert!(regular.sum::<u32>() <= 3, "the periodic comparison of lists: {counts:?}");
}
