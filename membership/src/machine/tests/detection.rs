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
fn every_other_probe_is_for_the_neighbour_and_the_others_are_for_everybody_once_in_every_round() {
    let mut lone = Lone::among(10, |_| ());
    lone.quiet();
    let mut counts = BTreeMap::<String, u32>::new();
    let mut gaps = BTreeMap::<String, Vec<u32>>::new();
    for second in 0..200 {
        lone.pass(SECOND);
        for sent in lone.sent() {
            for message in sent.messages {
                if let Message::Ping { sequence, target, .. } = message {
                    let peer = target.name.to_string();
                    *counts.entry(peer.clone()).or_default() += 1;
                    gaps.entry(peer.clone()).or_default().push(second);
                    lone.receive(&peer, Message::Ack { sequence, id: target, incarnation: 0, digest: None });
                }
            }
        }
    }
    assert_eq!(counts.len(), 10);
    let neighbour = lone.machine.roster.neighbour(&name("me")).expect("there are others").to_string();
    for (peer, count) in counts {
        let expected = if peer == neighbour { 109..=111 } else { 9..=11 };
        assert!(expected.contains(&count), "{peer}: {count}");
    }
    let longest = gaps.values().flat_map(|times| times.windows(2).map(|pair| pair[1] - pair[0])).max();
    assert!(longest < Some(40), "between two probes of a member are fewer than two rounds: {longest:?}");
    let longest = gaps[&neighbour].windows(2).map(|pair| pair[1] - pair[0]).max();
    assert_eq!(longest, Some(2));
}

#[test]
fn a_late_answer_is_sought_through_others_and_over_a_stream_and_its_absence_is_a_suspicion() {
    let mut lone = Lone::among(5, |_| ());
    let sequence = lone.await_probe("a");
    lone.sent();
    lone.pass(MILLI * 520);
    let sent = lone.sent();
    let asked = sent.iter().filter(|sent| {
        sent.messages.iter().any(|message| {
            matches!(message, Message::PingRequest { sequence: asked, target, address }
                if *asked == sequence && *target == id("a", 10) && *address == Lone::at("a"))
        })
    });
    assert_eq!(asked.count(), 3);
    let (stream, to) = lone.opened.pop().expect("a stream too");
    assert_eq!(to, Destination { name: Some(name("a")), address: Lone::at("a") });
    let frames = lone.frames(stream);
    assert!(matches!(&frames[..], [Frame::Packet(_)]));
    assert_eq!(lone.state("a"), Some(State::Alive), "the verdict falls after a second");
    lone.pass(MILLI * 500);
    assert_eq!(lone.state("a"), Some(State::Suspect));
    assert!(lone.events().contains(&Event::Suspected(id("a", 10))));
    lone.sent();
    assert!(lone.closed.contains(&stream));
}

#[test]
fn an_answer_through_another_or_over_the_stream_counts() {
    for by_stream in [false, true] {
        let mut lone = Lone::among(5, |_| ());
        let sequence = lone.await_probe("a");
        lone.pass(MILLI * 600);
        let helper = lone
            .sent()
            .into_iter()
            .find(|sent| sent.messages.iter().any(|message| matches!(message, Message::PingRequest { .. })));
        let helper = helper.and_then(|sent| sent.to.name).expect("asked").to_string();
        let ack = Message::Ack { sequence, id: id("a", 10), incarnation: 0, digest: None };
        if by_stream {
            let (stream, _) = lone.opened[0];
            lone.frames(stream);
            lone.machine.handle_stream_connected(stream, &name("a"), lone.now);
            lone.frame(stream, &Frame::Packet(packet(&[ack]))).expect("understood");
        } else {
            lone.receive(&helper, ack);
        }
        lone.pass(MILLI * 500);
        assert_eq!(lone.state("a"), Some(State::Alive), "by stream: {by_stream}");
        assert_eq!(lone.machine.statistics().probes_failed, 0);
    }
}

#[test]
fn the_answer_of_another_life_or_of_a_stranger_is_no_answer() {
    let mut lone = Lone::among(5, |_| ());
    let sequence = lone.await_probe("a");
    let late = lone.machine.statistics().late_answers;
    lone.receive("a", Message::Ack { sequence, id: id("a", 9), incarnation: 0, digest: None });
    lone.receive("b", Message::Ack { sequence, id: id("b", 10), incarnation: 0, digest: None });
    lone.receive("b", Message::Ack { sequence, id: id("a", 10), incarnation: 0, digest: None });
    assert_eq!(lone.machine.statistics().late_answers, late + 2);
    assert_eq!(lone.machine.statistics().wrong_name, 1, "nobody asked it to answer for another");
    lone.pass(MILLI * 1100);
    assert_eq!(lone.state("a"), Some(State::Suspect));
}

#[test]
fn an_answer_after_the_verdict_changes_nothing() {
    let mut lone = Lone::among(3, |_| ());
    let sequence = lone.await_probe("a");
    lone.pass(MILLI * 1100);
    assert_eq!(lone.state("a"), Some(State::Suspect));
    let health = lone.machine.health_score();
    lone.receive("a", Message::Ack { sequence, id: id("a", 10), incarnation: 0, digest: None });
    assert_eq!((lone.state("a"), lone.machine.health_score()), (Some(State::Suspect), health));
    assert_eq!(lone.machine.statistics().late_answers, 1);
}

#[test]
fn a_suspect_is_told_first_and_fails_if_it_does_not_object() {
    let mut lone = Lone::among(2, |_| ());
    lone.receive("b", suspect("a", 0, "b"));
    let accusation =
        |message: &Message| matches!(message, Message::Suspect { id, .. } if id.name == name("a"));
    assert!(lone.sent_to("a").iter().any(accusation));
    let begin = lone.now;
    while lone.state("a") == Some(State::Suspect) && lone.now < begin + SECOND * 60 {
        lone.pass(MILLI * 10);
    }
    assert_eq!(lone.state("a"), Some(State::Failed));
    // It confirmed the suspicion itself, and there was nobody else to wait for.
    let took = lone.now - begin;
    assert!((MILLI * 3150..MILLI * 3250).contains(&took), "{took:?}");
    assert_eq!(lone.machine.statistics().failures_declared, 1);
    assert!(lone.sent_to("a").iter().any(|message| matches!(message, Message::Failed { .. })), "it is told");
}

#[test]
fn a_probe_of_a_suspect_carries_the_suspicion() {
    let mut lone = Lone::among(2, |_| ());
    lone.receive("b", suspect("a", 0, "b"));
    lone.sent();
    let probe = (0..500).find_map(|_| {
        lone.pass(MILLI * 10);
        let of_a = |sent: &Sent| {
            matches!(&sent.messages[0], Message::Ping { target, .. } if target.name == name("a"))
        };
        lone.sent().into_iter().find(of_a)
    });
    assert_eq!(probe.expect("it is probed").messages[1], suspect("a", 0, "me"));
}

#[test]
fn silent_helpers_speak_against_us_and_answers_for_us() {
    let mut lone = Lone::among(5, |_| ());
    lone.await_probe("a");
    lone.pass(MILLI * 1100);
    assert_eq!(lone.machine.health_score(), 3, "none of three helpers was heard");
    lone.pass_in_peace(SECOND * 20);
    assert_eq!(lone.machine.health_score(), 0);

    let mut lone = Lone::among(5, |_| ());
    let sequence = lone.await_probe("a");
    lone.pass(MILLI * 600);
    let helpers = lone
        .sent()
        .into_iter()
        .filter(|sent| sent.messages.iter().any(|message| matches!(message, Message::PingRequest { .. })));
    for helper in helpers.map(|sent| sent.to.name.expect("named").to_string()).collect::<Vec<_>>() {
        lone.receive(&helper, Message::Nack { sequence });
        lone.receive(&helper, Message::Nack { sequence });
    }
    lone.pass(MILLI * 500);
    assert_eq!(
        (lone.state("a"), lone.machine.health_score()),
        (Some(State::Suspect), 0),
        "all of them were heard"
    );
}

/// Which members it pings within so short a time that the ring hardly moves.
fn pinged_at_once(lone: &mut Lone) -> Vec<String> {
    lone.pass(MILLI);
    pings(&lone.sent()).into_iter().map(|(to, ..)| to).collect()
}

#[test]
fn helpers_that_were_silent_too_are_probed_at_once() {
    let mut lone = Lone::among(20, |_| ());
    lone.await_probe("a");
    lone.pass(MILLI * 600);
    let asked =
        |sent: &Sent| sent.messages.iter().any(|message| matches!(message, Message::PingRequest { .. }));
    let helpers = lone.sent().into_iter().filter(asked).map(|sent| sent.to.name.expect("named").to_string());
    let helpers = helpers.collect::<Vec<_>>();
    assert_eq!(helpers.len(), 3);
    lone.pass(MILLI * 399);
    lone.sent();
    let probed = pinged_at_once(&mut lone);
    assert!(helpers.iter().all(|helper| probed.contains(helper)), "{helpers:?} but {probed:?}");
}

#[test]
fn helpers_in_doubt_are_not_asked_as_long_as_there_are_others_and_do_not_speak_against_us() {
    let mut lone = Lone::among(6, |_| ());
    lone.receive("f", suspect("b", 0, "f"));
    lone.receive("f", suspect("c", 0, "f"));
    lone.machine.handle_connection_lost(&name("d"), lone.now);
    lone.sent();
    lone.machine.handle_connection_lost(&name("a"), lone.now);
    lone.pass(MILLI * 501);
    let sent = lone.sent();
    let asked = |target: &'static str| {
        let asks = move |message: &Message| matches!(message, Message::PingRequest { target: asked, .. } if asked.name == name(target));
        let asked = sent.iter().filter(move |sent| sent.messages.iter().any(asks));
        asked.map(|sent| sent.to.name.clone().expect("named").to_string()).collect::<Vec<_>>()
    };
    let helpers = asked("a");
    assert!(
        helpers.len() == 3 && helpers.contains(&"e".into()) && helpers.contains(&"f".into()),
        "{helpers:?}"
    );
    let health = lone.machine.health_score();
    lone.pass(MILLI * 500);
    assert_eq!(lone.state("a"), Some(State::Suspect));
    let blamed = lone.machine.health_score() - health;
    assert!(blamed <= 2 + 2 + 2, "only e and f speak against us, for each of up to three probes: {blamed}");
}

#[test]
fn whoever_was_asked_to_ping_a_suspect_and_had_no_answer_probes_it_at_once() {
    let mut lone = Lone::among(20, |config| config.second_opinions = 0);
    lone.receive("f", suspect("b", 0, "f"));
    assert!(!pinged_at_once(&mut lone).contains(&"b".to_owned()), "others leave it to the ring");
    let request = Message::PingRequest { sequence: 41, target: id("c", 10), address: Lone::at("c") };
    lone.receive("f", request);
    lone.pass(MILLI * 500);
    lone.sent();
    lone.receive("f", suspect("c", 0, "f"));
    assert!(pinged_at_once(&mut lone).contains(&"c".to_owned()));
    lone.pass(SECOND);
    assert_eq!(lone.machine.statistics().confirmations, 1, "its own verdict");
}

#[test]
fn whoever_holds_a_suspect_failed_already_says_so_and_the_suspicion_is_shorter() {
    let mut knowing = Lone::among(5, |_| ());
    knowing.lose("a", "b", 0);
    knowing.quiet();
    knowing.receive("c", suspect("b", 0, "c"));
    assert!(knowing.sent_to("c").contains(&suspect("b", 0, "me")), "one voice more, not a verdict");
    knowing.receive("c", suspect("b", 0, "me"));
    assert!(knowing.sent_to("c").is_empty(), "its own voice is not answered");
    // Another that holds it failed says so in answer to our voice: answered in turn, that would never end.
    knowing.receive("a", suspect("b", 0, "a"));
    assert!(knowing.sent_to("a").is_empty(), "no more than one voice a second");

    let mut asking = Lone::among(5, |config| config.suspicion_confirmations = 1);
    asking.receive("c", suspect("b", 0, "c"));
    asking.receive("a", suspect("b", 0, "a"));
    asking.pass_in_peace(SECOND * 4);
    assert_eq!(asking.state("b"), Some(State::Failed));
}

#[test]
fn some_of_those_who_hear_of_a_suspicion_probe_the_suspect_at_once() {
    let mut probing = 0;
    for seed in 0..200 {
        let mut lone = Lone::seeded(seed, 20, |_| ());
        lone.receive("f", suspect("b", 0, "f"));
        probing += usize::from(pinged_at_once(&mut lone).contains(&"b".to_owned()));
    }
    // Three of twenty, and one of twenty because it was the ring's turn within the millisecond, hardly ever.
    assert!((15..=50).contains(&probing), "{probing} of 200");
}

#[test]
fn as_long_as_second_opinions_are_missing_some_more_probe_the_suspect() {
    let (mut second, mut third, mut needless) = (0, 0, 0);
    for seed in 0..200 {
        let drawn = |opinions: &[&str], intervals: f64| {
            let mut lone = Lone::seeded(seed, 20, |_| ());
            let due = lone.now + SECOND.mul_f64(intervals);
            lone.receive("f", suspect("b", 0, "f"));
            if pinged_at_once(&mut lone).contains(&"b".to_owned()) {
                return false;
            }
            for accuser in opinions {
                lone.receive(accuser, suspect("b", 0, accuser));
            }
            lone.pass_in_peace(SECOND.mul_f64(intervals) - MILLI * 50);
            lone.pass((due - MILLI) - lone.now);
            lone.sent();
            lone.pass(MILLI * 2);
            pings(&lone.sent()).iter().any(|(to, ..)| to == "b")
        };
        second += usize::from(drawn(&["c", "d"], 1.25));
        third += usize::from(drawn(&["c", "d"], 2.5));
        needless += usize::from(drawn(&["c", "d", "e"], 1.25));
    }
    // Three of twenty, of those who had not been drawn at first; later of those who had not been drawn before.
    assert!((12..=45).contains(&second) && (10..=40).contains(&third), "{second} and {third} of 200");
    assert_eq!(needless, 0, "all have come");
}

#[test]
fn bad_health_makes_probes_rarer_and_more_patient() {
    let mut lone = Lone::among(1, |_| ());
    lone.machine.health.worse(3);
    // The timer that is set was set in good health.
    lone.await_probe("a");
    lone.pass(MILLI * 1900);
    let sent = lone.sent();
    assert!(pings(&sent).is_empty(), "the next probe comes after four seconds");
    assert_eq!(lone.machine.statistics().probe_fallbacks, 0, "and the answer is awaited for two");
    lone.pass(MILLI * 200);
    assert_eq!(lone.machine.statistics().probe_fallbacks, 1);
}

#[test]
fn a_ping_is_answered_and_a_sender_that_is_not_known_as_it_is_is_asked_or_told() {
    let ping = |generation, incarnation| Message::Ping {
        sequence: 7,
        target: id("me", 100),
        generation,
        incarnation,
    };
    let mut lone = Lone::among(2, |_| ());
    let answer = |lone: &mut Lone, from: &str, message: Message| {
        lone.receive(from, message);
        let sent = lone.sent();
        assert_eq!(sent.len(), 1);
        assert_eq!((sent[0].purpose, sent[0].to.address), (Purpose::Ack, Lone::at(from)));
        assert!(
            matches!(&sent[0].messages[0], Message::Ack { sequence: 7, id, incarnation: 0, digest: Some(_) }
            if *id == self::id("me", 100))
        );
        sent[0].messages[1..].to_vec()
    };
    assert_eq!(answer(&mut lone, "a", ping(10, 0)), []);
    assert_eq!(lone.machine.member("a").and_then(|member| member.last_seen), Some(lone.now));
    assert_eq!(answer(&mut lone, "a", ping(10, 1)), [Message::Introduce], "a later incarnation");
    assert_eq!(answer(&mut lone, "a", ping(11, 0)), [Message::Introduce], "a later life");
    assert_eq!(answer(&mut lone, "x", ping(1, 0)), [Message::Introduce], "a stranger");
    lone.lose("b", "a", 0);
    lone.quiet();
    assert_eq!(
        answer(&mut lone, "a", ping(10, 0)),
        [Message::Failed { id: id("a", 10), incarnation: 0, accuser: name("me") }],
        "one that is held failed"
    );
    // It introduces itself when it is asked.
    lone.receive("a", Message::Introduce);
    assert_eq!(lone.sent_to("a"), [Message::Alive { record: lone.me(), incarnation: 0 }]);
}

#[test]
fn a_ping_for_an_earlier_life_is_answered_with_who_is_here_now() {
    let mut lone = Lone::among(1, |_| ());
    let ping = Message::Ping { sequence: 7, target: id("me", 99), generation: 10, incarnation: 0 };
    lone.receive("a", ping);
    assert_eq!(lone.sent_to("a"), [Message::Alive { record: lone.me(), incarnation: 0 }]);
    lone.receive("a", Message::Ping { sequence: 7, target: id("you", 1), generation: 10, incarnation: 0 });
    assert!(lone.sent_to("a").is_empty());
    assert_eq!(lone.machine.statistics().misdirected, 1);
}

#[test]
fn a_relay_passes_the_answer_on_or_says_that_there_is_none_yet() {
    let mut lone = Lone::among(3, |_| ());
    let request = Message::PingRequest { sequence: 41, target: id("b", 10), address: Lone::at("b") };
    lone.receive("a", request.clone());
    let sent = lone.sent();
    let relayed = pings(&sent);
    let [(to, target, sequence)] = &relayed[..] else { panic!("{relayed:?}") };
    assert_eq!((to.as_str(), target), ("b", &id("b", 10)));
    lone.receive("b", Message::Ack { sequence: *sequence, id: id("b", 10), incarnation: 2, digest: Some(1) });
    let ack = Message::Ack { sequence: 41, id: id("b", 10), incarnation: 2, digest: None };
    assert_eq!(lone.sent_to("a"), [ack]);
    lone.pass_in_peace(MILLI * 900);
    assert_eq!(lone.machine.relays.len(), 0);

    lone.receive("a", request);
    lone.sent();
    let mut nacks = 0;
    for _ in 0..30 {
        lone.pass(MILLI * 100);
        nacks +=
            lone.sent_to("a").iter().filter(|message| **message == Message::Nack { sequence: 41 }).count();
    }
    assert_eq!((nacks, lone.machine.relays.len()), (1, 0));
}

#[test]
fn a_lost_connection_is_a_reason_to_probe_at_once_but_no_verdict() {
    let mut lone = Lone::among(3, |_| ());
    lone.quiet();
    lone.machine.handle_connection_lost(&name("b"), lone.now);
    lone.machine.handle_connection_lost(&name("b"), lone.now);
    lone.machine.handle_connection_lost(&name("unknown"), lone.now);
    let sent = lone.sent();
    let probes = pings(&sent);
    assert!(matches!(&probes[..], [(to, _, _)] if to == "b"), "{probes:?}");
    assert_eq!(lone.state("b"), Some(State::Alive));
}

#[test]
fn a_process_that_stood_still_postpones_every_judgement() {
    let mut lone = Lone::among(5, |_| ());
    let sequence = lone.await_probe("a");
    lone.receive("c", suspect("b", 0, "c"));
    lone.events();
    lone.now += SECOND * 60;
    lone.machine.handle_timeout(lone.now);
    assert_eq!(lone.events(), [], "nobody fails, nobody is suspected");
    assert_eq!(lone.machine.statistics().stalls, 1);
    assert!(lone.machine.health_score() > 0);
    // What had arrived meanwhile is read now.
    lone.receive("b", alive("b", 10, 1));
    lone.answer_probe(sequence, id("a", 10));
    lone.pass_in_peace(SECOND * 60);
    let events = lone.events();
    assert!(!events.iter().any(|event| matches!(event, Event::Failed(_))), "{events:?}");
}

#[test]
fn what_is_begun_after_a_standstill_is_not_put_off_by_its_length() {
    let mut lone = Lone::among(1, |_| ());
    lone.quiet();
    lone.now += SECOND * 600;
    // The owner hands over what has arrived before what is due.
    lone.machine.handle_connection_lost(&name("a"), lone.now);
    lone.machine.handle_timeout(lone.now);
    assert_eq!(lone.machine.statistics().stalls, 1, "one standstill counts once");
    lone.pass(SECOND * 3);
    assert_eq!(lone.state("a"), Some(State::Suspect));
    lone.pass(SECOND * 5);
    assert_eq!(lone.state("a"), Some(State::Failed));
}

#[test]
fn a_process_that_lags_behind_its_input_judges_nobody_before_it_has_read_on() {
    let mut lone = Lone::among(3, |_| ());
    let sequence = lone.await_probe("a");
    lone.receive("c", suspect("b", 0, "c"));
    lone.events();
    // Half a minute in which it reads and reads, and comes to nothing else.
    for _ in 0..3000 {
        lone.now += MILLI * 10;
        lone.receive("c", Message::Nack { sequence: 0 });
    }
    lone.machine.handle_timeout(lone.now);
    assert_eq!((lone.events(), lone.machine.statistics().stalls), (vec![], 1));
    lone.receive("b", alive("b", 10, 1));
    lone.answer_probe(sequence, id("a", 10));
    lone.pass_in_peace(SECOND * 60);
    let events = lone.events();
    assert!(!events.iter().any(|event| matches!(event, Event::Failed(_))), "{events:?}");
}

#[test]
fn timeouts_early_and_twice_change_nothing() {
    let mut lone = Lone::among(5, |_| ());
    let probes = lone.machine.statistics().probes;
    let now = lone.now;
    for _ in 0..100 {
        lone.machine.handle_timeout(now);
    }
    assert_eq!((lone.machine.statistics().probes, lone.machine.statistics().stalls), (probes, 0));
    assert!(lone.sent().is_empty() && lone.events().is_empty());
}

#[test]
fn one_random_failed_member_is_called_every_second_and_those_who_left_never() {
    let mut lone = Lone::among(6, |_| ());
    for peer in ["a", "b", "c"] {
        lone.receive("f", failed(peer, 0));
    }
    lone.receive("f", Message::Left { id: id("d", 10), incarnation: 0 });
    lone.quiet();
    lone.opened.clear();
    for _ in 0..60 {
        lone.pass_in_peace(SECOND);
        for (stream, _) in lone.opened.clone() {
            lone.machine.handle_stream_closed(stream, lone.now);
        }
    }
    let mut counts = BTreeMap::<String, u32>::new();
    for (_, to) in &lone.opened {
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
