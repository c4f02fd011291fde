//! Limits and the behaviour at them; random input.

use proptest::prelude::*;

use super::*;
use crate::message::HelloRefusal;

#[test]
fn forty_thousand_nodes_that_come_and_go_leave_nothing_behind() {
    let mut node = Node::among(3, |config| {
        config.max_remembered = 1000;
        config.second_opinions = 0;
    });
    let churn = |number: u32| format!("churn-{number}");
    // A failure claim follows its suspicion by more than a second.
    let later = 60;
    for number in 0..40_000u32 + later {
        let peer = churn(number);
        let [_, high, middle, low] = number.to_be_bytes();
        let at = SocketAddr::from(([10, 1 + high, middle, low], 7946));
        let mut messages = Vec::new();
        if number < 40_000 {
            let (id, accuser) = (id(&peer, 1), name("a"));
            messages.push(Message::Alive { record: record(&peer, 1, at), incarnation: 0 });
            messages.push(match number % 2 {
                0 => Message::Left { id, incarnation: 0 },
                _ => Message::Suspect { id, incarnation: 0, accuser },
            });
        }
        if let Some(before) = number.checked_sub(later).filter(|before| before % 2 == 1) {
            messages.push(Message::Failed { id: id(&churn(before), 1), incarnation: 0, accuser: name("a") });
        }
        let bytes = packet(&messages);
        node.machine.handle_datagram(&name("a"), Node::at("a"), &bytes, node.now).expect("valid");
        node.now += MILLI * 20;
        while node.machine.poll_transmit().is_some() {}
        while node.machine.poll_event().is_some() {}
    }
    let machine = &node.machine;
    assert!(machine.roster.len() < machine.config.max_members);
    assert_eq!((machine.alive_count(), machine.remembered_count()), (4, 1000));
    assert!(machine.probe_round.len() < 100, "{}", machine.probe_round.len());
    assert!(machine.timers.len() < 20 && machine.broadcasts.len() <= machine.config.max_broadcasts);
    assert!(machine.charged.len() <= 1024);
    // Three days later.
    for _ in 0..72 {
        node.now += SECOND * 3600;
        node.machine.handle_timeout(node.now);
        node.answer_probes();
        node.events();
        for (stream, _) in std::mem::take(&mut node.opened) {
            node.machine.handle_stream_closed(stream, node.now);
        }
        for peer in ["a", "b", "c"] {
            let incarnation = node.machine.member(peer).map_or(0, |member| member.incarnation) + 1;
            node.receive(peer, alive(peer, 10, incarnation));
        }
    }
    node.pass_answering(SECOND * 60);
    let machine = &node.machine;
    assert_eq!((machine.roster.len(), machine.remembered_count(), machine.alive_count()), (3, 0, 4));
    assert!(machine.exchanges.len() <= 1 && machine.probes.len() <= 1 && machine.relays.is_empty());
}

#[test]
fn a_full_roster_removes_departed_members_and_then_refuses_joins() {
    let mut node = Node::among(3, |config| config.max_members = 5);
    node.fail("a", "b", 0);
    node.receive("a", alive("d", 10, 0));
    node.events();
    node.receive("a", alive("e", 10, 0));
    assert_eq!(node.events(), [Event::Forgotten(id("b", 10)), Event::Joined(record("e", 10, Node::at("e")))]);
    node.receive("a", alive("f", 10, 0));
    assert_eq!((node.events(), node.machine.member("f")), (vec![], None));
    let (_, answer) = node.hello_from(record("g", 10, Node::at("g")), 0);
    assert_eq!(answer, Frame::Refused(HelloRefusal::Full));
    assert_eq!((node.machine.statistics().joins_refused_members, node.machine.alive_count()), (2, 5));
}

#[test]
fn the_number_of_pending_joins_is_limited() {
    let mut node = Node::among(5, |config| config.max_pending_joins = 2);
    for (number, peer) in ["a", "b", "c"].iter().enumerate() {
        let (_, answer) = node.hello_from(record(peer, 11, address(100 + number as u16)), 0);
        match number {
            0 | 1 => assert!(matches!(answer, Frame::Refused(HelloRefusal::Pending(_))), "{answer:?}"),
            _ => assert_eq!(answer, Frame::Refused(HelloRefusal::Full)),
        }
    }
    assert_eq!(node.machine.statistics().joins_refused_pending, 1);
    node.pass(SECOND * 2);
    assert_eq!(node.machine.pending_joins.len(), 0);
}

#[test]
fn the_number_of_inbound_streams_is_limited() {
    let mut node = Node::among(1, |config| config.max_inbound_streams = 2);
    let streams = (0..3).map(|_| node.machine.handle_stream_opened(&name("a"), Node::at("a"), node.now));
    let streams = streams.collect::<Vec<_>>();
    node.sent();
    assert_eq!(node.closed, [streams[2]]);
    assert_eq!(node.machine.poll_frame(streams[2], node.now), FramePoll::Finish);
    node.machine.handle_stream_closed(streams[0], node.now);
    let again = node.machine.handle_stream_opened(&name("a"), Node::at("a"), node.now);
    node.sent();
    assert!(!node.closed.contains(&again));
    assert_eq!((node.machine.stream_count(), node.machine.statistics().streams_refused), (2, 1));
}

#[test]
fn the_number_of_queued_datagrams_is_limited() {
    let mut node = Node::among(1, |config| config.max_transmits = 10);
    let ping = Message::Ping { sequence: 7, target: id("me", 100), generation: 10, incarnation: 0 };
    for _ in 0..50 {
        node.receive("a", ping.clone());
    }
    assert_eq!((node.sent().len(), node.machine.statistics().dropped_transmits), (10, 40));
}

#[test]
fn the_number_of_indirect_and_hinted_probes_is_limited() {
    let mut node = Node::among(10, |config| {
        config.max_relayed_probes = 3;
        config.max_hinted_probes = 2;
    });
    for sequence in 0..5 {
        let target = id("b", 10);
        node.receive("a", Message::PingRequest { sequence, target, address: Node::at("b") });
    }
    assert_eq!((node.machine.relays.len(), node.machine.statistics().dropped_relayed_probes), (3, 2));
    for number in 0..10 {
        node.machine.handle_connection_lost(&name(&Node::peer(number)), node.now);
    }
    assert!(node.machine.probing.len() <= 3 && node.machine.statistics().dropped_hints >= 7);
}

#[test]
fn a_list_above_the_member_limit_is_rejected() {
    let mut node = Node::among(1, |config| config.max_members = 50);
    let (stream, _) = node.hello_from(record("x", 1, Node::at("x")), 0);
    let entry = crate::message::Claim {
        record: record("a", 10, Node::at("a")),
        incarnation: 0,
        state: State::Alive,
        departed_for: 0,
    };
    assert_eq!(node.frame(stream, &Frame::Members(vec![entry.clone(); 100])), Ok(()));
    let error = node.frame(stream, &Frame::Members(vec![entry])).expect_err("one too many");
    assert_eq!(error.to_string(), "node x sent a list of more than 100 members");
}

#[test]
fn one_bad_message_does_not_lose_the_others_and_is_counted() {
    let mut node = Node::new(|_| ());
    let good = codec::encode(&alive("a", 10, 0));
    // A kind of message of a later version.
    let unknown = vec![200, 1, 2, 3];
    let mut packet = PacketBuilder::new(1000);
    assert!(packet.add(unknown.into()) && packet.add(good.into()));
    let error = node.machine.handle_datagram(&name("a"), Node::at("a"), &packet.finish(), node.now);
    assert!(matches!(error, Err(MessageError::Malformed(_))));
    assert_eq!(node.state("a"), Some(State::Alive));
    assert_eq!(node.machine.statistics().ignored_malformed, 1);
}

#[test]
fn invalid_records_are_rejected() {
    let mut node = Node::among(1, |_| ());
    let mut long = record("x", 1, address(50));
    long.labels.insert("k".to_owned(), "v".repeat(600));
    let unreachable = record("x", 1, "0.0.0.0:0".parse().expect("an address"));
    for record in [long, unreachable] {
        node.receive("a", Message::Alive { record: record.clone(), incarnation: 0 });
        let (_, answer) = node.hello_from(record, 0);
        assert_eq!(answer, Frame::Refused(HelloRefusal::Invalid));
    }
    assert_eq!((node.machine.member("x"), node.machine.statistics().ignored_invalid), (None, 4));
}

fn some_message() -> impl Strategy<Value = Message> {
    let node = prop_oneof![Just("me"), Just("a"), Just("b"), Just("x")];
    (0u8..11, node, 99u64..102, 0u64..3, any::<u64>(), 0u16..4).prop_map(
        |(kind, node, generation, incarnation, sequence, at)| {
            let id = id(node, generation);
            let digest = Some(sequence);
            match kind {
                0 => Message::Ping { sequence, target: id, generation, incarnation },
                1 => Message::PingRequest { sequence, target: id, address: address(at) },
                2 => Message::Ack { sequence, id, incarnation, digest },
                3 => Message::Nack { sequence },
                4 => Message::Suspect { id, incarnation, accuser: name("b") },
                5 => Message::Failed { id, incarnation, accuser: name("b") },
                6 => Message::Left { id, incarnation },
                7 => Message::Introduce,
                8 => Message::Outdated(Outdated { claimed: generation, known: generation }),
                9 => Message::NameInUse(crate::message::NameInUse {
                    owner: id.clone(),
                    owner_address: address(at),
                    claimant: id,
                    claimant_address: address(0),
                }),
                _ => Message::Alive { record: record(node, generation, address(at)), incarnation },
            }
        },
    )
}

proptest! {
    #[test]
    fn random_bytes_do_not_panic(
        datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20)
    ) {
        let mut node = Node::among(2, |_| ());
        for bytes in datagrams {
            let _ = node.machine.handle_datagram(&name("a"), Node::at("a"), &bytes, node.now);
            let stream = node.machine.handle_stream_opened(&name("b"), Node::at("b"), node.now);
            let _ = node.machine.handle_frame(stream, &bytes, node.now);
            node.pass(MILLI * 100);
        }
        node.sent();
    }

    #[test]
    fn damaged_packets_do_not_panic(
        messages in proptest::collection::vec(some_message(), 1..6),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut node = Node::among(2, |_| ());
        let mut bytes = packet(&messages);
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        let _ = node.machine.handle_datagram(&name("a"), Node::at("a"), &bytes, node.now);
        let stream = node.machine.handle_stream_opened(&name("b"), Node::at("b"), node.now);
        let _ = node.machine.handle_frame(stream, &codec::encode(&Frame::Packet(bytes)), node.now);
        node.pass(SECOND * 10);
        node.sent();
    }

    /// After any messages in any order, nothing panics, this node considers itself alive, and its
    /// output is bounded.
    #[test]
    fn any_messages_leave_a_consistent_machine(
        messages in proptest::collection::vec((0u8..4, some_message(), 0u64..2000), 1..60)
    ) {
        let mut node = Node::among(2, |_| ());
        for (from, message, millis) in messages {
            let from = ["a", "b", "x", "me"][usize::from(from)];
            node.receive(from, message);
            let sent = node.sent();
            prop_assert!(sent.len() <= 12, "{} datagrams in answer to one", sent.len());
            node.pass(MILLI * millis as u32);
            node.sent();
            prop_assert_eq!(node.machine.me().state, State::Alive);
            let members = node.machine.members().map(|member| member.name().clone()).collect::<Vec<_>>();
            prop_assert!(members.is_sorted() && members.contains(&name("me")));
            let active = node.machine.members().filter(|member| member.state.is_active()).count();
            prop_assert_eq!(active, node.machine.alive_count());
            node.events();
        }
    }
}
