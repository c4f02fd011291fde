//! Bounds, and what happens at them; bytes from nowhere.

use proptest::prelude::*;

use super::*;
use crate::message::HelloRefusal;

#[test]
fn a_hundred_thousand_nodes_that_come_and_go_leave_nothing_behind() {
    let mut lone = Lone::among(3, |config| {
        config.max_remembered = 1000;
        config.second_opinions = 0;
    });
    let churn = |number: u32| format!("churn-{number}");
    // A verdict follows its suspicion by more than a second.
    let later = 60;
    for number in 0..100_000u32 + later {
        let peer = churn(number);
        let [_, high, middle, low] = number.to_be_bytes();
        let at = SocketAddr::from(([10, 1 + high, middle, low], 7946));
        let mut messages = Vec::new();
        if number < 100_000 {
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
        lone.machine.handle_datagram(&name("a"), Lone::at("a"), &bytes, lone.now).expect("valid");
        lone.now += MILLI * 20;
        while lone.machine.poll_transmit().is_some() {}
        while lone.machine.poll_event().is_some() {}
    }
    let machine = &lone.machine;
    assert!(machine.roster.len() < machine.config.max_members);
    assert_eq!((machine.alive_count(), machine.remembered_count()), (4, 1000));
    assert!(machine.probe_round.len() < 100, "{}", machine.probe_round.len());
    assert!(machine.timers.len() < 20 && machine.broadcasts.len() <= machine.config.max_broadcasts);
    assert!(machine.charged.len() <= 1024);
    // Three days later.
    for _ in 0..72 {
        lone.now += SECOND * 3600;
        lone.machine.handle_timeout(lone.now);
        lone.answer_probes();
        lone.events();
        for (stream, _) in std::mem::take(&mut lone.opened) {
            lone.machine.handle_stream_closed(stream, lone.now);
        }
        for peer in ["a", "b", "c"] {
            let incarnation = lone.machine.member(peer).map_or(0, |member| member.incarnation) + 1;
            lone.receive(peer, alive(peer, 10, incarnation));
        }
    }
    lone.pass_in_peace(SECOND * 60);
    let machine = &lone.machine;
    assert_eq!((machine.roster.len(), machine.remembered_count(), machine.alive_count()), (3, 0, 4));
    assert!(machine.exchanges.len() <= 1 && machine.probes.len() <= 1 && machine.relays.is_empty());
}

#[test]
fn a_full_roster_forgets_the_departed_and_then_refuses_newcomers() {
    let mut lone = Lone::among(3, |config| config.max_members = 5);
    lone.lose("a", "b", 0);
    lone.receive("a", alive("d", 10, 0));
    lone.events();
    lone.receive("a", alive("e", 10, 0));
    assert_eq!(lone.events(), [Event::Forgotten(id("b", 10)), Event::Joined(record("e", 10, Lone::at("e")))]);
    lone.receive("a", alive("f", 10, 0));
    assert_eq!((lone.events(), lone.machine.member("f")), (vec![], None));
    let (_, answer) = lone.hello_from(record("g", 10, Lone::at("g")), 0);
    assert_eq!(answer, Frame::Refused(HelloRefusal::Full));
    assert_eq!((lone.machine.statistics().members_refused, lone.machine.alive_count()), (2, 5));
}

#[test]
fn no_more_newcomers_wait_than_may() {
    let mut lone = Lone::among(5, |config| config.max_pending_joins = 2);
    for (number, peer) in ["a", "b", "c"].iter().enumerate() {
        let (_, answer) = lone.hello_from(record(peer, 11, address(100 + number as u16)), 0);
        match number {
            0 | 1 => assert!(matches!(answer, Frame::Refused(HelloRefusal::Pending(_))), "{answer:?}"),
            _ => assert_eq!(answer, Frame::Refused(HelloRefusal::Full)),
        }
    }
    assert_eq!(lone.machine.statistics().pending_joins_refused, 1);
    lone.pass(SECOND * 2);
    assert_eq!(lone.machine.pending_joins.len(), 0);
}

#[test]
fn no_more_streams_are_open_than_may() {
    let mut lone = Lone::among(1, |config| config.max_inbound_streams = 2);
    let streams = (0..3).map(|_| lone.machine.handle_stream_opened(&name("a"), Lone::at("a"), lone.now));
    let streams = streams.collect::<Vec<_>>();
    lone.sent();
    assert_eq!(lone.closed, [streams[2]]);
    assert_eq!(lone.machine.poll_frame(streams[2], lone.now), FramePoll::Finish);
    lone.machine.handle_stream_closed(streams[0], lone.now);
    let again = lone.machine.handle_stream_opened(&name("a"), Lone::at("a"), lone.now);
    lone.sent();
    assert!(!lone.closed.contains(&again));
    assert_eq!((lone.machine.stream_count(), lone.machine.statistics().streams_refused), (2, 1));
}

#[test]
fn no_more_datagrams_wait_than_may() {
    let mut lone = Lone::among(1, |config| config.max_transmits = 10);
    let ping = Message::Ping { sequence: 7, target: id("me", 100), generation: 10, incarnation: 0 };
    for _ in 0..50 {
        lone.receive("a", ping.clone());
    }
    assert_eq!((lone.sent().len(), lone.machine.statistics().transmits_dropped), (10, 40));
}

#[test]
fn no_more_probes_are_made_for_others_or_for_lost_connections_than_may() {
    let mut lone = Lone::among(10, |config| {
        config.max_relayed_probes = 3;
        config.max_hinted_probes = 2;
    });
    for sequence in 0..5 {
        let target = id("b", 10);
        lone.receive("a", Message::PingRequest { sequence, target, address: Lone::at("b") });
    }
    assert_eq!((lone.machine.relays.len(), lone.machine.statistics().relayed_probes_dropped), (3, 2));
    for number in 0..10 {
        lone.machine.handle_connection_lost(&name(&Lone::peer(number)), lone.now);
    }
    assert!(lone.machine.probing.len() <= 3 && lone.machine.statistics().hints_dropped >= 7);
}

#[test]
fn a_list_longer_than_could_be_held_is_refused() {
    let mut lone = Lone::among(1, |config| config.max_members = 50);
    let (stream, _) = lone.hello_from(record("x", 1, Lone::at("x")), 0);
    let entry = crate::message::Claim {
        record: record("a", 10, Lone::at("a")),
        incarnation: 0,
        state: State::Alive,
        departed_for: 0,
    };
    assert_eq!(lone.frame(stream, &Frame::Members(vec![entry.clone(); 100])), Ok(()));
    let error = lone.frame(stream, &Frame::Members(vec![entry])).expect_err("one too many");
    assert_eq!(error.to_string(), "node x sent a list of more than 100 members");
}

#[test]
fn one_bad_message_does_not_lose_the_others_and_is_counted() {
    let mut lone = Lone::new(|_| ());
    let good = codec::encode(&alive("a", 10, 0));
    // A kind of message that a later version may have.
    let unknown = vec![200, 1, 2, 3];
    let mut packet = PacketBuilder::new(1000);
    assert!(packet.add(unknown.into()) && packet.add(good.into()));
    let error = lone.machine.handle_datagram(&name("a"), Lone::at("a"), &packet.finish(), lone.now);
    assert!(matches!(error, Err(MessageError::Malformed(_))));
    assert_eq!(lone.state("a"), Some(State::Alive));
    assert_eq!(lone.machine.statistics().malformed, 1);
}

#[test]
fn records_that_cannot_be_true_are_refused() {
    let mut lone = Lone::among(1, |_| ());
    let mut long = record("x", 1, address(50));
    long.labels.insert("k".to_owned(), "v".repeat(600));
    let unreachable = record("x", 1, "0.0.0.0:0".parse().expect("an address"));
    for record in [long, unreachable] {
        lone.receive("a", Message::Alive { record: record.clone(), incarnation: 0 });
        let (_, answer) = lone.hello_from(record, 0);
        assert_eq!(answer, Frame::Refused(HelloRefusal::Invalid));
    }
    assert_eq!((lone.machine.member("x"), lone.machine.statistics().invalid), (None, 4));
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
    fn bytes_from_nowhere_are_survived(
        datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20)
    ) {
        let mut lone = Lone::among(2, |_| ());
        for bytes in datagrams {
            let _ = lone.machine.handle_datagram(&name("a"), Lone::at("a"), &bytes, lone.now);
            let stream = lone.machine.handle_stream_opened(&name("b"), Lone::at("b"), lone.now);
            let _ = lone.machine.handle_frame(stream, &bytes, lone.now);
            lone.pass(MILLI * 100);
        }
        lone.sent();
    }

    #[test]
    fn damaged_packets_are_survived(
        messages in proptest::collection::vec(some_message(), 1..6),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut lone = Lone::among(2, |_| ());
        let mut bytes = packet(&messages);
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        let _ = lone.machine.handle_datagram(&name("a"), Lone::at("a"), &bytes, lone.now);
        let stream = lone.machine.handle_stream_opened(&name("b"), Lone::at("b"), lone.now);
        let _ = lone.machine.handle_frame(stream, &codec::encode(&Frame::Packet(bytes)), lone.now);
        lone.pass(SECOND * 10);
        lone.sent();
    }

    /// Whatever is said, in whatever order: nothing panics, this node stands by itself, and what it sends is bounded.
    #[test]
    fn any_messages_leave_a_sane_machine(
        messages in proptest::collection::vec((0u8..4, some_message(), 0u64..2000), 1..60)
    ) {
        let mut lone = Lone::among(2, |_| ());
        for (from, message, millis) in messages {
            let from = ["a", "b", "x", "me"][usize::from(from)];
            lone.receive(from, message);
            let sent = lone.sent();
            prop_assert!(sent.len() <= 12, "{} datagrams in answer to one", sent.len());
            lone.pass(MILLI * millis as u32);
            lone.sent();
            prop_assert_eq!(lone.machine.me().state, State::Alive);
            let members = lone.machine.members().map(|member| member.name().clone()).collect::<Vec<_>>();
            prop_assert!(members.is_sorted() && members.contains(&name("me")));
            let active = lone.machine.members().filter(|member| member.state.is_active()).count();
            prop_assert_eq!(active, lone.machine.alive_count());
            lone.events();
        }
    }
}
