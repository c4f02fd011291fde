//! Member lists over streams.

use super::*;
use crate::SeedFailure;
use crate::message::{Claim, HelloRefusal};

fn hello(occasion: Occasion, peer: &str, digest: u64) -> Hello {
    Hello { occasion, record: record(peer, 10, Node::at(peer)), incarnation: 0, digest, about_receiver: None }
}

/// Contacts a seed at address(1), where "a" answers.
fn joining(node: &mut Node) -> StreamId {
    node.machine.join(&[address(1)], node.now);
    node.sent();
    let (stream, to) = node.opened.pop().expect("the seed is contacted");
    assert_eq!(to, Destination { name: None, address: address(1) });
    node.machine.handle_stream_connected(stream, &name("a"), node.now);
    stream
}

#[test]
fn a_join_exchanges_lists_and_reports_completion() {
    let mut node = Node::new(|_| ());
    let stream = joining(&mut node);
    let frames = node.frames(stream);
    let [Frame::Hello(own), Frame::Members(list), Frame::End] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((own.occasion, &own.record, list.len()), (Occasion::Join, &node.me(), 1));
    assert_eq!(node.machine.poll_frame(stream, node.now), FramePoll::Finish);
    let welcome = Frame::Welcome { hello: hello(Occasion::Join, "a", 0), equal: false };
    node.frame(stream, &welcome).expect("understood");
    let claim = |peer: &str, state| Claim {
        record: record(peer, 10, Node::at(peer)),
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
    node.frame(stream, &Frame::Members(list.to_vec())).expect("understood");
    let joined = node.events().into_iter().filter(|event| matches!(event, Event::Joined(_))).count();
    assert_eq!(joined, 3, "a, b and c; departed members are not reported");
    assert_eq!((node.state("c"), node.state("d")), (Some(State::Suspect), Some(State::Failed)));
    assert_eq!(node.machine.member("e"), None);
    node.frame(stream, &Frame::End).expect("understood");
    assert_eq!(node.events(), [Event::SeedAnswered { address: address(1), id: id("a", 10) }]);
    assert_eq!(node.machine.stream_count(), 0);
    node.pass(MILLI * 5);
    assert!(
        node.sent_to("b").contains(&Message::Alive { record: node.me(), incarnation: 0 }),
        "it announces itself to the others"
    );
    // It does not gossip what it learned: the others know it already.
    node.pass(MILLI * 450);
    let passed_on = node.sent().iter().any(|sent| {
        sent.messages
            .iter()
            .any(|message| matches!(message, Message::Alive { record, .. } if record.id.name != name("me")))
    });
    assert!(!passed_on);
}

#[test]
fn the_list_of_another_cluster_is_gossiped_by_a_node_with_members() {
    let mut node = Node::among(3, |_| ());
    let (stream, welcome) = node.hello_from(record("x", 1, Node::at("x")), 0);
    assert!(matches!(welcome, Frame::Welcome { equal: false, .. }));
    let list = Frame::Members(vec![Claim {
        record: record("y", 1, Node::at("y")),
        incarnation: 0,
        state: State::Alive,
        departed_for: 0,
    }]);
    node.sent();
    node.frame(stream, &list).expect("understood");
    node.pass(MILLI * 10);
    let reported = node.sent().iter().any(|sent| {
        sent.messages
            .iter()
            .any(|message| matches!(message, Message::Alive { record, .. } if record.id.name == name("y")))
    });
    assert!(reported);
}

#[test]
fn a_newcomer_is_announced_to_all_before_its_list_has_come() {
    let mut node = Node::among(10, |_| ());
    node.hello_from(record("x", 1, Node::at("x")), 0);
    assert_eq!(node.events(), [Event::Joined(record("x", 1, Node::at("x")))]);
    let reported = node.sent().into_iter().filter(|sent| {
        sent.messages
            .iter()
            .any(|message| matches!(message, Message::Alive { record, .. } if record.id.name == name("x")))
    });
    assert_eq!(reported.count(), 11, "all ten, and the new member");
}

#[test]
fn members_that_agree_exchange_no_lists() {
    let mut node = Node::among(3, |_| ());
    let stream = node.machine.handle_stream_opened(&name("a"), Node::at("a"), node.now);
    let greeting = hello(Occasion::Sync, "a", node.machine.digest());
    node.frame(stream, &Frame::Hello(greeting)).expect("understood");
    let frames = node.frames(stream);
    assert!(matches!(&frames[..], [Frame::Welcome { equal: true, .. }, Frame::End]), "{frames:?}");
    node.frame(stream, &Frame::End).expect("understood");
    assert_eq!((node.machine.stream_count(), node.machine.statistics().syncs_equal), (0, 1));
}

#[test]
fn a_difference_of_fingerprints_is_compared_once_for_each_pair() {
    let mut node = Node::among(3, |_| ());
    node.pass_answering(SECOND * 5);
    node.opened.clear();
    for _ in 0..3 {
        let sequence = node.await_probe("a");
        node.receive("a", Message::Ack { sequence, id: id("a", 10), incarnation: 0, digest: Some(1) });
        node.pass_answering(SECOND);
        for (stream, _) in node.opened.clone() {
            node.machine.handle_stream_connected(stream, &name("a"), node.now);
            let welcome = Frame::Welcome { hello: hello(Occasion::Sync, "a", 1), equal: false };
            let _ = node.frames(stream);
            let _ = node.frame(stream, &welcome);
            let _ = node.frames(stream);
            let _ = node.frame(stream, &Frame::End);
        }
    }
    assert_eq!(node.machine.statistics().repairs, 1);
    // A comparison that failed does not count.
    let sequence = node.await_probe("a");
    node.receive("a", Message::Ack { sequence, id: id("a", 10), incarnation: 0, digest: Some(2) });
    node.sent();
    let (stream, _) = node.opened.pop().expect("compared");
    node.machine.handle_stream_closed(stream, node.now);
    node.pass_answering(SECOND * 2);
    let sequence = node.await_probe("a");
    node.receive("a", Message::Ack { sequence, id: id("a", 10), incarnation: 0, digest: Some(2) });
    assert_eq!(node.machine.statistics().repairs, 3);
}

#[test]
fn failed_entries_of_a_list_only_start_suspicions() {
    let mut node = Node::among(3, |_| ());
    let (stream, _) = node.hello_from(record("x", 1, Node::at("x")), 0);
    node.events();
    node.sent();
    let claim = Claim {
        record: record("b", 10, Node::at("b")),
        incarnation: 0,
        state: State::Failed,
        departed_for: 9,
    };
    node.frame(stream, &Frame::Members(vec![claim])).expect("understood");
    assert_eq!(node.state("b"), Some(State::Suspect));
    node.pass(MILLI * 10);
    assert!(
        node.sent_to("b").iter().any(|message| matches!(message, Message::Suspect { .. })),
        "it is notified"
    );
}

/// A node that knows b's instance 10, and received a list with a later one in this state.
fn with_a_later_instance_of_b(state: State) -> (Node, NodeRecord) {
    let mut node = Node::among(3, |_| ());
    let (stream, _) = node.hello_from(record("x", 1, Node::at("x")), 0);
    node.events();
    let later = record("b", 11, Node::at("b"));
    let claim = Claim { record: later.clone(), incarnation: 2, state, departed_for: 9 };
    node.frame(stream, &Frame::Members(vec![claim])).expect("understood");
    (node, later)
}

#[test]
fn a_list_with_a_later_failed_instance_ends_the_earlier_one() {
    let (mut node, later) = with_a_later_instance_of_b(State::Failed);
    // It counts as a suspect while it can refute.
    let old = id("b", 10);
    assert_eq!(node.events(), [Event::Replaced { old, new: later }, Event::Suspected(id("b", 11))]);
    assert_eq!(node.state("b"), Some(State::Suspect));
}

#[test]
fn a_list_with_a_later_left_instance_ends_the_earlier_one() {
    let (mut node, later) = with_a_later_instance_of_b(State::Left);
    let old = id("b", 10);
    assert_eq!(node.events(), [Event::Replaced { old, new: later }, Event::Left(id("b", 11))]);
    assert_eq!(node.state("b"), Some(State::Left));
}

#[test]
fn failed_members_are_not_passed_on_forever() {
    let mut node = Node::among(1, |_| ());
    let day = 24 * 3600;
    let claim = |peer: &str, departed_for| Claim {
        record: record(peer, 10, Node::at(peer)),
        incarnation: 0,
        state: State::Failed,
        departed_for,
    };
    let (stream, _) = node.hello_from(record("x", 1, Node::at("x")), 0);
    let list = vec![claim("b", day), claim("c", day - 3600), claim("d", 0)];
    node.frame(stream, &Frame::Members(list)).expect("understood");
    assert_eq!((node.machine.member("b"), node.state("c")), (None, Some(State::Failed)));
    node.machine.handle_stream_closed(stream, node.now);
    // It reports the age to others.
    let (stream, _) = node.hello_from(record("y", 1, Node::at("y")), 0);
    let listed = node.frames(stream).into_iter().find_map(|frame| match frame {
        Frame::Members(list) => list.into_iter().find(|claim| claim.record.id.name == name("c")),
        _ => None,
    });
    assert_eq!(listed.map(|claim| claim.departed_for), Some(day - 3600));
    node.machine.handle_stream_closed(stream, node.now);
    node.now += SECOND * 2 * 3600;
    node.machine.handle_timeout(node.now);
    assert_eq!((node.machine.member("c"), node.state("d")), (None, Some(State::Failed)));
    // A removed instance is not learned again.
    node.receive("a", alive("c", 10, 0));
    assert_eq!(node.machine.member("c"), None);
}

#[test]
fn a_failed_node_learns_of_the_claim_in_the_hello_and_returns_in_one_exchange() {
    let mut node = Node::among(3, |_| ());
    node.fail("b", "a", 0);
    node.settle();
    let called = (0..100).find_map(|_| {
        node.pass_answering(MILLI * 100);
        let (stream, to) = node.opened.pop()?;
        if to.name == Some(name("a")) {
            return Some((stream, to));
        }
        node.machine.handle_stream_closed(stream, node.now);
        None
    });
    let (stream, to) = called.expect("the failed member is contacted");
    assert_eq!(to.address, Node::at("a"));
    let frames = node.frames(stream);
    let [Frame::Hello(greeting)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!(greeting.about_receiver, Some((State::Failed, id("a", 10), 0)));
    node.machine.handle_stream_connected(stream, &name("a"), node.now);
    let mut answer = hello(Occasion::Reconnect, "a", 1);
    answer.incarnation = 1;
    // It considers this node failed too.
    answer.about_receiver = Some((State::Failed, id("me", 100), 0));
    node.frame(stream, &Frame::Welcome { hello: answer, equal: false }).expect("understood");
    assert_eq!(node.state("a"), Some(State::Alive));
    assert_eq!(node.machine.me().incarnation, 1);
    let frames = node.frames(stream);
    let Some(Frame::Members(list)) = frames.first() else { panic!("{frames:?}") };
    assert_eq!(list[0].incarnation, 1, "the list comes after the refutation");
}

#[test]
fn a_long_list_is_cut_into_frames_and_arrives_whole() {
    let mut node = Node::new(|_| ());
    for number in 0..3000u16 {
        let mut newcomer = record(&format!("node-{number:04}"), 10, address(number + 1));
        newcomer.labels.insert("rack".to_owned(), "r".repeat(usize::from(number % 300)));
        node.machine
            .handle_datagram(
                &newcomer.id.name.clone(),
                newcomer.address,
                &packet(&[Message::Alive { record: newcomer, incarnation: 0 }]),
                node.now,
            )
            .expect("valid");
        while node.machine.poll_transmit().is_some() {}
    }
    let (stream, _) = node.hello_from(record("x", 1, Node::at("x")), 0);
    let frames = node.frames(stream);
    let lists = frames.iter().filter_map(|frame| match frame {
        Frame::Members(list) => Some(list),
        _ => None,
    });
    let names = lists.clone().flatten().map(|claim| claim.record.id.name.clone()).collect::<Vec<_>>();
    assert!(lists.count() > 10);
    assert_eq!(names.len(), 3002, "all, this node and the new member");
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 3002);
    assert_eq!(frames.last(), Some(&Frame::End));
}

#[test]
fn a_node_may_introduce_only_itself() {
    let mut node = Node::among(1, |_| ());
    let stream = node.machine.handle_stream_opened(&name("a"), Node::at("a"), node.now);
    let error = node.frame(stream, &Frame::Hello(hello(Occasion::Join, "b", 0))).expect_err("refused");
    assert_eq!(error.to_string(), "node a used the name b; a node may introduce only itself");
    assert_eq!((node.machine.member("b"), node.machine.stream_count()), (None, 0));
    node.sent();
    assert_eq!(node.closed, [stream]);

    let mut node = Node::new(|_| ());
    let stream = joining(&mut node);
    let welcome = Frame::Welcome { hello: hello(Occasion::Join, "b", 0), equal: false };
    assert!(matches!(node.frame(stream, &welcome), Err(MessageError::WrongName { .. })));
    assert_eq!(node.machine.member("b"), None);
}

#[test]
fn a_stream_answered_by_another_node_is_closed() {
    let mut node = Node::among(2, |_| ());
    node.fail("b", "a", 0);
    node.settle();
    node.pass_answering(SECOND * 2);
    let (stream, _) = node.opened.iter().find(|(_, to)| to.name == Some(name("a"))).cloned().expect("called");
    node.machine.handle_stream_connected(stream, &name("x"), node.now);
    node.sent();
    assert!(node.closed.contains(&stream));
    assert_eq!(node.machine.poll_frame(stream, node.now), FramePoll::Finish);
}

#[test]
fn a_frame_before_the_peer_is_known_is_an_error() {
    let mut node = Node::new(|_| ());
    node.machine.join(&[address(1)], node.now);
    node.sent();
    let (stream, _) = node.opened.pop().expect("called");
    assert_eq!(node.frame(stream, &Frame::End), Err(MessageError::UnknownPeer));
}

#[test]
fn frames_out_of_place_end_the_exchange() {
    let mut node = Node::among(1, |_| ());
    for frame in [Frame::End, Frame::Members(Vec::new()), Frame::Refused(HelloRefusal::Full)] {
        let stream = node.machine.handle_stream_opened(&name("a"), Node::at("a"), node.now);
        assert!(matches!(node.frame(stream, &frame), Err(MessageError::Unexpected { .. })));
        assert_eq!(node.machine.stream_count(), 0);
        assert_eq!(node.frame(stream, &frame), Ok(()), "late frames are ignored");
    }
    let (stream, _) = node.hello_from(record("x", 1, Node::at("x")), 0);
    node.frame(stream, &Frame::End).expect("the list may be empty");
    assert!(node.frame(stream, &Frame::End).is_err(), "but it ends once");
    assert_eq!(node.machine.statistics().ignored_malformed, 4);
}

#[test]
fn a_stream_that_stalls_or_lasts_too_long_is_aborted() {
    let mut node = Node::among(1, |_| ());
    let stream = node.machine.handle_stream_opened(&name("a"), Node::at("a"), node.now);
    node.pass_answering(SECOND * 6);
    node.sent();
    assert!(node.closed.contains(&stream));
    // A slow stream extends its deadline with each frame, but not forever.
    let (stream, _) = node.hello_from(record("x", 1, Node::at("x")), 0);
    let begin = node.now;
    while node.machine.exchanges.contains_key(&stream) {
        node.pass_answering(SECOND * 4);
        let _ = node.frame(stream, &Frame::Members(Vec::new()));
        assert!(node.now < begin + SECOND * 70);
    }
    assert!(node.now > begin + SECOND * 50);
    assert!(node.machine.statistics().streams_timed_out >= 2);
}

#[test]
fn a_seed_failure_is_reported_retried_and_reported_when_the_attempts_end() {
    let mut node = Node::among(1, |config| {
        config.rejoin_interval = SECOND * 3600;
        config.seed_interval = SECOND * 3600;
    });
    node.machine.join(&[address(50)], node.now);
    let mut tries = 0;
    let mut reported = Vec::new();
    for _ in 0..600 {
        node.pass_answering(MILLI * 50);
        for (stream, to) in std::mem::take(&mut node.opened) {
            tries += u32::from(to.address == address(50));
            node.machine.handle_stream_closed(stream, node.now);
        }
        reported.extend(node.events().into_iter().filter_map(|event| match event {
            Event::SeedFailed { reason, retrying, .. } => Some((reason, retrying)),
            _ => None,
        }));
    }
    assert_eq!(reported, [(SeedFailure::Unreachable, true), (SeedFailure::Unreachable, false)]);
    assert!((5..=8).contains(&tries), "with growing delays for ten seconds: {tries}");
}

#[test]
fn nodes_that_a_seed_refuses_at_the_same_time_retry_at_different_times() {
    let mut second_calls = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let mut node = Node::alone(seed, |_| ());
        let begin = node.now;
        node.machine.join(&[address(1)], node.now);
        node.sent();
        let (stream, _) = node.opened.pop().expect("the seed is contacted");
        node.machine.handle_stream_closed(stream, node.now);
        while node.opened.is_empty() {
            assert!(node.now <= begin + MILLI * 210, "not contacted again");
            node.pass(MILLI * 5);
            node.sent();
        }
        second_calls.insert(node.now - begin);
    }
    assert!(second_calls.first().is_some_and(|least| *least >= MILLI * 100), "{second_calls:?}");
    assert!(second_calls.len() > 10, "fifty nodes retry at {second_calls:?}");
}

#[test]
fn a_missing_seed_is_retried_without_reports_and_this_node_itself_never() {
    let mut node = Node::among(1, |config| config.rejoin_interval = SECOND * 3600);
    // The first is a member, the second this node under another address, the third is missing.
    node.machine.join(&[Node::at("a"), address(50), address(51)], node.now);
    node.sent();
    for (stream, to) in std::mem::take(&mut node.opened) {
        if to.address == address(50) {
            node.machine.handle_stream_connected(stream, &name("me"), node.now);
            node.frame(stream, &Frame::Refused(HelloRefusal::Yourself)).expect("understood");
        } else {
            node.machine.handle_stream_closed(stream, node.now);
        }
    }
    let mut called = Vec::new();
    for second in 0..120 {
        node.pass_answering(SECOND);
        for (stream, to) in std::mem::take(&mut node.opened) {
            if second >= 20 && to.name.is_none() {
                called.push(to.address);
            }
            node.machine.handle_stream_closed(stream, node.now);
        }
        if second == 20 {
            node.events();
        }
    }
    assert_eq!(called, [address(51); 20], "every five seconds, after the ten seconds of attempts");
    assert_eq!(node.events(), []);
}

#[test]
fn this_nodes_own_address_among_the_seeds_is_reported_and_not_contacted() {
    let mut node = Node::new(|_| ());
    node.machine.join(&[address(0)], node.now);
    let reason = SeedFailure::Ourselves;
    assert_eq!(
        node.events(),
        [Event::SeedFailed { address: address(0), reason: reason.clone(), retrying: false }]
    );
    node.sent();
    assert!(node.opened.is_empty());
    // The same under an address that this node does not know to be its own.
    let stream = joining(&mut node);
    node.frame(stream, &Frame::Refused(HelloRefusal::Yourself)).expect("understood");
    assert_eq!(node.events(), [Event::SeedFailed { address: address(1), reason, retrying: false }]);
}

#[test]
fn new_seeds_replace_the_old_ones() {
    let mut node = Node::among(1, |config| config.rejoin_interval = SECOND * 30);
    node.machine.join(&[address(50)], node.now);
    node.machine.join(&[address(51)], node.now);
    node.sent();
    for (stream, _) in std::mem::take(&mut node.opened) {
        node.machine.handle_stream_closed(stream, node.now);
    }
    let mut called = std::collections::BTreeSet::new();
    let mut missing = 0;
    for _ in 0..1000 {
        node.pass_answering(MILLI * 100);
        for (stream, to) in std::mem::take(&mut node.opened) {
            if to.name.is_none() {
                called.insert(to.address);
            }
            node.machine.handle_stream_closed(stream, node.now);
        }
        missing += node.events().iter().filter(|event| **event == Event::SeedsMissing).count();
    }
    assert_eq!(called.into_iter().collect::<Vec<_>>(), [address(51)]);
    assert!((3..=4).contains(&missing), "every 30 s while no seed is a member: {missing}");
    // A member at the address of the seed counts.
    node.receive("x", Message::Alive { record: record("x", 1, address(51)), incarnation: 0 });
    node.opened.clear();
    node.pass_answering(SECOND * 100);
    assert!(node.opened.iter().all(|(_, to)| to.name.is_some()));
}
