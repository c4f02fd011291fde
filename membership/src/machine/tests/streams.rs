//! Member lists over streams.

use super::*;
use crate::SeedFailure;
use crate::message::{Claim, HelloRefusal};

fn hello(occasion: Occasion, peer: &str, digest: u64) -> Hello {
    Hello { occasion, record: record(peer, 10, Lone::at(peer)), incarnation: 0, digest, about_receiver: None }
}

/// Calls a seed at address(1), where "a" answers.
fn joining(lone: &mut Lone) -> StreamId {
    lone.machine.join(&[address(1)], lone.now);
    lone.sent();
    let (stream, to) = lone.opened.pop().expect("the seed is called");
    assert_eq!(to, Destination { name: None, address: address(1) });
    lone.machine.handle_stream_connected(stream, &name("a"), lone.now);
    stream
}

#[test]
fn a_join_exchanges_lists_and_tells_when_it_is_done() {
    let mut lone = Lone::new(|_| ());
    let stream = joining(&mut lone);
    let frames = lone.frames(stream);
    let [Frame::Hello(own), Frame::Members(list), Frame::End] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((own.occasion, &own.record, list.len()), (Occasion::Join, &lone.me(), 1));
    assert_eq!(lone.machine.poll_frame(stream, lone.now), FramePoll::Finish);
    let welcome = Frame::Welcome { hello: hello(Occasion::Join, "a", 0), equal: false };
    lone.frame(stream, &welcome).expect("understood");
    let claim = |peer: &str, state| Claim {
        record: record(peer, 10, Lone::at(peer)),
        incarnation: 0,
        state,
        departed_for: 0,
    };
    let list = [
        claim("b", State::Alive),
        claim("c", State::Suspect),
        claim("d", State::Failed),
        claim("e", State::Left),
    ];
    lone.frame(stream, &Frame::Members(list.to_vec())).expect("understood");
    let joined = lone.events().into_iter().filter(|event| matches!(event, Event::Joined(_))).count();
    assert_eq!(joined, 3, "a, b and c; of the departed nothing is told");
    assert_eq!((lone.state("c"), lone.state("d")), (Some(State::Suspect), Some(State::Failed)));
    assert_eq!(lone.machine.member("e"), None);
    lone.frame(stream, &Frame::End).expect("understood");
    assert_eq!(lone.events(), [Event::SeedAnswered { address: address(1), id: id("a", 10) }]);
    assert_eq!(lone.machine.stream_count(), 0);
    lone.pass(MILLI * 5);
    assert!(
        lone.sent_to("b").contains(&Message::Alive { record: lone.me(), incarnation: 0 }),
        "it tells the others"
    );
    // What it learned it does not pass on: the others have long known it.
    lone.pass(MILLI * 450);
    let passed_on = lone.sent().iter().any(|sent| {
        sent.messages
            .iter()
            .any(|message| matches!(message, Message::Alive { record, .. } if record.id.name != name("me")))
    });
    assert!(!passed_on);
}

#[test]
fn the_list_of_another_cluster_is_passed_on_by_those_who_have_a_cluster() {
    let mut lone = Lone::among(3, |_| ());
    let (stream, welcome) = lone.hello_from(record("x", 1, Lone::at("x")), 0);
    assert!(matches!(welcome, Frame::Welcome { equal: false, .. }));
    let list = Frame::Members(vec![Claim {
        record: record("y", 1, Lone::at("y")),
        incarnation: 0,
        state: State::Alive,
        departed_for: 0,
    }]);
    lone.sent();
    lone.frame(stream, &list).expect("understood");
    lone.pass(MILLI * 10);
    let reported = lone.sent().iter().any(|sent| {
        sent.messages
            .iter()
            .any(|message| matches!(message, Message::Alive { record, .. } if record.id.name == name("y")))
    });
    assert!(reported);
}

#[test]
fn a_newcomer_is_announced_to_all_before_its_list_has_come() {
    let mut lone = Lone::among(10, |_| ());
    lone.hello_from(record("x", 1, Lone::at("x")), 0);
    assert_eq!(lone.events(), [Event::Joined(record("x", 1, Lone::at("x")))]);
    let reported = lone.sent().into_iter().filter(|sent| {
        sent.messages
            .iter()
            .any(|message| matches!(message, Message::Alive { record, .. } if record.id.name == name("x")))
    });
    assert_eq!(reported.count(), 11, "all ten, and itself");
}

#[test]
fn members_that_agree_exchange_no_lists() {
    let mut lone = Lone::among(3, |_| ());
    let stream = lone.machine.handle_stream_opened(&name("a"), Lone::at("a"), lone.now);
    let greeting = hello(Occasion::Sync, "a", lone.machine.digest());
    lone.frame(stream, &Frame::Hello(greeting)).expect("understood");
    let frames = lone.frames(stream);
    assert!(matches!(&frames[..], [Frame::Welcome { equal: true, .. }, Frame::End]), "{frames:?}");
    lone.frame(stream, &Frame::End).expect("understood");
    assert_eq!((lone.machine.stream_count(), lone.machine.statistics().syncs_equal), (0, 1));
}

#[test]
fn a_difference_of_fingerprints_is_compared_once_for_each_pair() {
    let mut lone = Lone::among(3, |_| ());
    lone.pass_in_peace(SECOND * 5);
    lone.opened.clear();
    for _ in 0..3 {
        let sequence = lone.await_probe("a");
        lone.receive("a", Message::Ack { sequence, id: id("a", 10), incarnation: 0, digest: Some(1) });
        lone.pass_in_peace(SECOND);
        for (stream, _) in lone.opened.clone() {
            lone.machine.handle_stream_connected(stream, &name("a"), lone.now);
            let welcome = Frame::Welcome { hello: hello(Occasion::Sync, "a", 1), equal: false };
            let _ = lone.frames(stream);
            let _ = lone.frame(stream, &welcome);
            let _ = lone.frames(stream);
            let _ = lone.frame(stream, &Frame::End);
        }
    }
    assert_eq!(lone.machine.statistics().repairs, 1);
    // A comparison that did not come about does not count.
    let sequence = lone.await_probe("a");
    lone.receive("a", Message::Ack { sequence, id: id("a", 10), incarnation: 0, digest: Some(2) });
    lone.sent();
    let (stream, _) = lone.opened.pop().expect("compared");
    lone.machine.handle_stream_closed(stream, lone.now);
    lone.pass_in_peace(SECOND * 2);
    let sequence = lone.await_probe("a");
    lone.receive("a", Message::Ack { sequence, id: id("a", 10), incarnation: 0, digest: Some(2) });
    assert_eq!(lone.machine.statistics().repairs, 3);
}

#[test]
fn a_list_of_the_failed_makes_suspects_only() {
    let mut lone = Lone::among(3, |_| ());
    let (stream, _) = lone.hello_from(record("x", 1, Lone::at("x")), 0);
    lone.events();
    lone.sent();
    let claim = Claim {
        record: record("b", 10, Lone::at("b")),
        incarnation: 0,
        state: State::Failed,
        departed_for: 9,
    };
    lone.frame(stream, &Frame::Members(vec![claim])).expect("understood");
    assert_eq!(lone.state("b"), Some(State::Suspect));
    lone.pass(MILLI * 10);
    assert!(lone.sent_to("b").iter().any(|message| matches!(message, Message::Suspect { .. })), "it is told");
}

#[test]
fn a_list_in_which_a_later_life_has_failed_ends_the_earlier_one() {
    let mut lone = Lone::among(3, |_| ());
    let (stream, _) = lone.hello_from(record("x", 1, Lone::at("x")), 0);
    lone.events();
    let later = record("b", 11, Lone::at("b"));
    let claim = Claim { record: later.clone(), incarnation: 2, state: State::Failed, departed_for: 9 };
    lone.frame(stream, &Frame::Members(vec![claim])).expect("understood");
    // It is alive for the moment in which it can still object.
    let old = id("b", 10);
    assert_eq!(lone.events(), [Event::Replaced { old, new: later }, Event::Suspected(id("b", 11))]);
    assert_eq!(lone.state("b"), Some(State::Suspect));
}

#[test]
fn a_list_in_which_a_later_life_has_left_ends_the_earlier_one() {
    let mut lone = Lone::among(3, |_| ());
    let (stream, _) = lone.hello_from(record("x", 1, Lone::at("x")), 0);
    lone.events();
    let later = record("b", 11, Lone::at("b"));
    let claim = Claim { record: later.clone(), incarnation: 2, state: State::Left, departed_for: 9 };
    lone.frame(stream, &Frame::Members(vec![claim])).expect("understood");
    let old = id("b", 10);
    assert_eq!(lone.events(), [Event::Replaced { old, new: later }, Event::Left(id("b", 11))]);
    assert_eq!(lone.state("b"), Some(State::Left));
}

#[test]
fn the_dead_are_not_handed_down_for_ever() {
    let mut lone = Lone::among(1, |_| ());
    let day = 24 * 3600;
    let claim = |peer: &str, departed_for| Claim {
        record: record(peer, 10, Lone::at(peer)),
        incarnation: 0,
        state: State::Failed,
        departed_for,
    };
    let (stream, _) = lone.hello_from(record("x", 1, Lone::at("x")), 0);
    let list = vec![claim("b", day), claim("c", day - 3600), claim("d", 0)];
    lone.frame(stream, &Frame::Members(list)).expect("understood");
    assert_eq!((lone.machine.member("b"), lone.state("c")), (None, Some(State::Failed)));
    lone.machine.handle_stream_closed(stream, lone.now);
    // It passes the age on.
    let (stream, _) = lone.hello_from(record("y", 1, Lone::at("y")), 0);
    let listed = lone.frames(stream).into_iter().find_map(|frame| match frame {
        Frame::Members(list) => list.into_iter().find(|claim| claim.record.id.name == name("c")),
        _ => None,
    });
    assert_eq!(listed.map(|claim| claim.departed_for), Some(day - 3600));
    lone.machine.handle_stream_closed(stream, lone.now);
    lone.now += SECOND * 2 * 3600;
    lone.machine.handle_timeout(lone.now);
    assert_eq!((lone.machine.member("c"), lone.state("d")), (None, Some(State::Failed)));
    // A forgotten life is not learned again.
    lone.receive("a", alive("c", 10, 0));
    assert_eq!(lone.machine.member("c"), None);
}

#[test]
fn a_node_held_failed_learns_it_in_the_greeting_and_returns_in_one_exchange() {
    let mut lone = Lone::among(3, |_| ());
    lone.lose("b", "a", 0);
    lone.quiet();
    let called = (0..100).find_map(|_| {
        lone.pass_in_peace(MILLI * 100);
        let (stream, to) = lone.opened.pop()?;
        if to.name == Some(name("a")) {
            return Some((stream, to));
        }
        lone.machine.handle_stream_closed(stream, lone.now);
        None
    });
    let (stream, to) = called.expect("the failed member is called");
    assert_eq!(to.address, Lone::at("a"));
    let frames = lone.frames(stream);
    let [Frame::Hello(greeting)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!(greeting.about_receiver, Some((State::Failed, id("a", 10), 0)));
    lone.machine.handle_stream_connected(stream, &name("a"), lone.now);
    let mut answer = hello(Occasion::Reconnect, "a", 1);
    answer.incarnation = 1;
    // It has held us failed too.
    answer.about_receiver = Some((State::Failed, id("me", 100), 0));
    lone.frame(stream, &Frame::Welcome { hello: answer, equal: false }).expect("understood");
    assert_eq!(lone.state("a"), Some(State::Alive));
    assert_eq!(lone.machine.me().incarnation, 1);
    let frames = lone.frames(stream);
    let Some(Frame::Members(list)) = frames.first() else { panic!("{frames:?}") };
    assert_eq!(list[0].incarnation, 1, "the list comes after the refutation");
}

#[test]
fn a_long_list_is_cut_into_frames_and_arrives_whole() {
    let mut lone = Lone::new(|_| ());
    for number in 0..3000u16 {
        let mut newcomer = record(&format!("node-{number:04}"), 10, address(number + 1));
        newcomer.labels.insert("rack".to_owned(), "r".repeat(usize::from(number % 300)));
        lone.machine
            .handle_datagram(
                &newcomer.id.name.clone(),
                newcomer.address,
                &packet(&[Message::Alive { record: newcomer, incarnation: 0 }]),
                lone.now,
            )
            .expect("valid");
        while lone.machine.poll_transmit().is_some() {}
    }
    let (stream, _) = lone.hello_from(record("x", 1, Lone::at("x")), 0);
    let frames = lone.frames(stream);
    let lists = frames.iter().filter_map(|frame| match frame {
        Frame::Members(list) => Some(list),
        _ => None,
    });
    let names = lists.clone().flatten().map(|claim| claim.record.id.name.clone()).collect::<Vec<_>>();
    assert!(lists.count() > 10);
    assert_eq!(names.len(), 3002, "all, ourselves and the newcomer");
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 3002);
    assert_eq!(frames.last(), Some(&Frame::End));
}

#[test]
fn a_node_may_introduce_only_itself() {
    let mut lone = Lone::among(1, |_| ());
    let stream = lone.machine.handle_stream_opened(&name("a"), Lone::at("a"), lone.now);
    let error = lone.frame(stream, &Frame::Hello(hello(Occasion::Join, "b", 0))).expect_err("refused");
    assert_eq!(error.to_string(), "node a spoke as b; a node may introduce only itself");
    assert_eq!((lone.machine.member("b"), lone.machine.stream_count()), (None, 0));
    lone.sent();
    assert_eq!(lone.closed, [stream]);

    let mut lone = Lone::new(|_| ());
    let stream = joining(&mut lone);
    let welcome = Frame::Welcome { hello: hello(Occasion::Join, "b", 0), equal: false };
    assert!(matches!(lone.frame(stream, &welcome), Err(MessageError::WrongName { .. })));
    assert_eq!(lone.machine.member("b"), None);
}

#[test]
fn another_node_that_answers_in_place_of_the_wanted_one_is_not_talked_to() {
    let mut lone = Lone::among(2, |_| ());
    lone.lose("b", "a", 0);
    lone.quiet();
    lone.pass_in_peace(SECOND * 2);
    let (stream, _) = lone.opened.iter().find(|(_, to)| to.name == Some(name("a"))).cloned().expect("called");
    lone.machine.handle_stream_connected(stream, &name("x"), lone.now);
    lone.sent();
    assert!(lone.closed.contains(&stream));
    assert_eq!(lone.machine.poll_frame(stream, lone.now), FramePoll::Finish);
}

#[test]
fn a_frame_before_anybody_said_who_answered_is_an_error() {
    let mut lone = Lone::new(|_| ());
    lone.machine.join(&[address(1)], lone.now);
    lone.sent();
    let (stream, _) = lone.opened.pop().expect("called");
    assert_eq!(lone.frame(stream, &Frame::End), Err(MessageError::UnknownPeer));
}

#[test]
fn frames_out_of_place_end_the_exchange() {
    let mut lone = Lone::among(1, |_| ());
    for frame in [Frame::End, Frame::Members(Vec::new()), Frame::Refused(HelloRefusal::Full)] {
        let stream = lone.machine.handle_stream_opened(&name("a"), Lone::at("a"), lone.now);
        assert!(matches!(lone.frame(stream, &frame), Err(MessageError::Unexpected { .. })));
        assert_eq!(lone.machine.stream_count(), 0);
        assert_eq!(lone.frame(stream, &frame), Ok(()), "late frames are ignored");
    }
    let (stream, _) = lone.hello_from(record("x", 1, Lone::at("x")), 0);
    lone.frame(stream, &Frame::End).expect("the list may be empty");
    assert!(lone.frame(stream, &Frame::End).is_err(), "but it ends once");
    assert_eq!(lone.machine.statistics().malformed, 4);
}

#[test]
fn a_stream_that_stalls_or_lasts_too_long_is_given_up() {
    let mut lone = Lone::among(1, |_| ());
    let stream = lone.machine.handle_stream_opened(&name("a"), Lone::at("a"), lone.now);
    lone.pass_in_peace(SECOND * 6);
    lone.sent();
    assert!(lone.closed.contains(&stream));
    // One that trickles gets a fresh deadline each time, but not for ever.
    let (stream, _) = lone.hello_from(record("x", 1, Lone::at("x")), 0);
    let begin = lone.now;
    while lone.machine.exchanges.contains_key(&stream) {
        lone.pass_in_peace(SECOND * 4);
        let _ = lone.frame(stream, &Frame::Members(Vec::new()));
        assert!(lone.now < begin + SECOND * 70);
    }
    assert!(lone.now > begin + SECOND * 50);
    assert!(lone.machine.statistics().streams_timed_out >= 2);
}

#[test]
fn a_seed_that_fails_is_told_tried_again_and_told_when_it_is_given_up() {
    let mut lone = Lone::among(1, |config| {
        config.rejoin_interval = SECOND * 3600;
        config.seed_interval = SECOND * 3600;
    });
    lone.machine.join(&[address(50)], lone.now);
    let mut tries = 0;
    let mut reported = Vec::new();
    for _ in 0..600 {
        lone.pass_in_peace(MILLI * 50);
        for (stream, to) in std::mem::take(&mut lone.opened) {
            tries += u32::from(to.address == address(50));
            lone.machine.handle_stream_closed(stream, lone.now);
        }
        reported.extend(lone.events().into_iter().filter_map(|event| match event {
            Event::SeedFailed { reason, retrying, .. } => Some((reason, retrying)),
            _ => None,
        }));
    }
    assert_eq!(reported, [(SeedFailure::Unreachable, true), (SeedFailure::Unreachable, false)]);
    assert!((5..=8).contains(&tries), "with growing pauses for ten seconds: {tries}");
}

#[test]
fn nodes_that_a_seed_refuses_at_the_same_time_call_it_again_at_different_times() {
    let mut second_calls = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let mut lone = Lone::alone(seed, |_| ());
        let begin = lone.now;
        lone.machine.join(&[address(1)], lone.now);
        lone.sent();
        let (stream, _) = lone.opened.pop().expect("the seed is called");
        lone.machine.handle_stream_closed(stream, lone.now);
        while lone.opened.is_empty() {
            assert!(lone.now <= begin + MILLI * 210, "not called again");
            lone.pass(MILLI * 5);
            lone.sent();
        }
        second_calls.insert(lone.now - begin);
    }
    assert!(second_calls.first().is_some_and(|least| *least >= MILLI * 100), "{second_calls:?}");
    assert!(second_calls.len() > 10, "fifty nodes come at {second_calls:?}");
}

#[test]
fn a_missing_seed_is_called_again_and_again_without_a_word_and_one_that_is_this_node_never() {
    let mut lone = Lone::among(1, |config| config.rejoin_interval = SECOND * 3600);
    // The first is a member, the second this node under another address, the third is missing.
    lone.machine.join(&[Lone::at("a"), address(50), address(51)], lone.now);
    lone.sent();
    for (stream, to) in std::mem::take(&mut lone.opened) {
        if to.address == address(50) {
            lone.machine.handle_stream_connected(stream, &name("me"), lone.now);
            lone.frame(stream, &Frame::Refused(HelloRefusal::Yourself)).expect("understood");
        } else {
            lone.machine.handle_stream_closed(stream, lone.now);
        }
    }
    let mut called = Vec::new();
    for second in 0..120 {
        lone.pass_in_peace(SECOND);
        for (stream, to) in std::mem::take(&mut lone.opened) {
            if second >= 20 && to.name.is_none() {
                called.push(to.address);
            }
            lone.machine.handle_stream_closed(stream, lone.now);
        }
        if second == 20 {
            lone.events();
        }
    }
    assert_eq!(called, [address(51); 20], "every five seconds, after the ten in which it was tried");
    assert_eq!(lone.events(), []);
}

#[test]
fn our_own_address_among_the_seeds_is_said_and_not_called() {
    let mut lone = Lone::new(|_| ());
    lone.machine.join(&[address(0)], lone.now);
    let reason = SeedFailure::Ourselves;
    assert_eq!(
        lone.events(),
        [Event::SeedFailed { address: address(0), reason: reason.clone(), retrying: false }]
    );
    lone.sent();
    assert!(lone.opened.is_empty());
    // The same under an address that we do not know to be ours.
    let stream = joining(&mut lone);
    lone.frame(stream, &Frame::Refused(HelloRefusal::Yourself)).expect("understood");
    assert_eq!(lone.events(), [Event::SeedFailed { address: address(1), reason, retrying: false }]);
}

#[test]
fn new_seeds_replace_the_old_ones() {
    let mut lone = Lone::among(1, |config| config.rejoin_interval = SECOND * 30);
    lone.machine.join(&[address(50)], lone.now);
    lone.machine.join(&[address(51)], lone.now);
    lone.sent();
    for (stream, _) in std::mem::take(&mut lone.opened) {
        lone.machine.handle_stream_closed(stream, lone.now);
    }
    let mut called = std::collections::BTreeSet::new();
    let mut missing = 0;
    for _ in 0..1000 {
        lone.pass_in_peace(MILLI * 100);
        for (stream, to) in std::mem::take(&mut lone.opened) {
            if to.name.is_none() {
                called.insert(to.address);
            }
            lone.machine.handle_stream_closed(stream, lone.now);
        }
        missing += lone.events().iter().filter(|event| **event == Event::SeedsMissing).count();
    }
    assert_eq!(called.into_iter().collect::<Vec<_>>(), [address(51)]);
    assert!((3..=4).contains(&missing), "every 30 s while no seed is a member: {missing}");
    // A member at the address of the seed is one.
    lone.receive("x", Message::Alive { record: record("x", 1, address(51)), incarnation: 0 });
    lone.opened.clear();
    lone.pass_in_peace(SECOND * 100);
    assert!(lone.opened.iter().all(|(_, to)| to.name.is_some()));
}
