//! What is believed, and what is answered.

use proptest::prelude::*;

use super::*;
use crate::ConflictRole;
use crate::message::NameInUse;

#[test]
fn news_changes_a_member_and_is_told_once() {
    let mut lone = Lone::new(|_| ());
    for member in ["b", "c"] {
        lone.receive(member, alive(member, 10, 0));
    }
    lone.events();
    lone.receive("b", alive("a", 10, 0));
    lone.receive("c", alive("a", 10, 0));
    assert_eq!(lone.events(), [Event::Joined(record("a", 10, Lone::at("a")))]);
    lone.receive("b", suspect("a", 0, "b"));
    lone.receive("b", suspect("a", 0, "b"));
    assert_eq!(lone.events(), [Event::Suspected(id("a", 10))]);
    lone.receive("b", alive("a", 10, 0));
    assert_eq!(lone.events(), [], "the same incarnation does not refute");
    lone.receive("b", alive("a", 10, 1));
    assert_eq!(lone.events(), [Event::Refuted(id("a", 10))]);
    lone.receive("b", failed("a", 0));
    assert_eq!(lone.events(), [], "it is late");
    lone.lose("b", "a", 1);
    assert_eq!(lone.events(), [Event::Suspected(id("a", 10)), Event::Failed(id("a", 10))]);
    lone.receive("b", alive("a", 10, 2));
    assert_eq!(lone.events(), [Event::Returned(record("a", 10, Lone::at("a")))]);
    let mut labelled = record("a", 10, Lone::at("a"));
    labelled.labels.insert("zone".to_owned(), "1".to_owned());
    lone.receive("b", Message::Alive { record: labelled.clone(), incarnation: 3 });
    assert_eq!(lone.events(), [Event::Updated(labelled)]);
    lone.receive("b", Message::Left { id: id("a", 10), incarnation: 0 });
    assert_eq!(lone.events(), [Event::Left(id("a", 10))], "whatever the incarnation");
    lone.receive("b", alive("a", 10, 99));
    assert_eq!(lone.events(), [], "a life that left has left");
    lone.receive("b", alive("a", 11, 0));
    assert_eq!(lone.events(), [Event::Joined(record("a", 11, Lone::at("a")))]);
    lone.receive("b", alive("a", 12, 0));
    let new = record("a", 12, Lone::at("a"));
    assert_eq!(lone.events(), [Event::Replaced { old: id("a", 11), new }]);
    lone.receive("b", alive("a", 11, 5));
    assert_eq!(lone.events(), []);
}

fn claim() -> impl Strategy<Value = Message> {
    (0u8..5, 9u64..12, 0u64..3, 0u8..3).prop_map(|(kind, generation, incarnation, accuser)| {
        let id = id("a", generation);
        match kind {
            0 => Message::Suspect { id, incarnation, accuser: name(&Lone::peer(accuser + 1)) },
            1 => Message::Failed { id, incarnation, accuser: name("z") },
            2 => Message::Left { id, incarnation },
            _ => alive("a", generation, incarnation),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Among claims about lives that are known, whatever the order and repetition: the greatest standing is held.
    #[test]
    fn claims_in_any_order_lead_to_the_same_belief(
        claims in proptest::collection::vec(claim(), 1..10),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 1..30),
    ) {
        // All three lives are known, so that no claim is refused because its subject is not.
        let of_one_instance = claims.iter().filter(|claim| match claim {
            Message::Alive { record, .. } => record.id.generation == 10,
            Message::Suspect { id, .. } | Message::Failed { id, .. } | Message::Left { id, .. } => {
                id.generation == 10
            }
            _ => false,
        }).cloned().collect::<Vec<_>>();
        let belief = |claims: &mut dyn Iterator<Item = Message>| {
            let mut lone = Lone::among(1, |_| ());
            lone.receive("z", alive("z", 10, 0));
            claims.for_each(|claim| lone.receive("z", claim));
            let member = lone.machine.member("a").expect("known").clone();
            (member.state, member.incarnation)
        };
        let straight = belief(&mut of_one_instance.iter().cloned());
        let mut shuffled = of_one_instance.clone();
        for (index, other) in order.iter().enumerate() {
            if !shuffled.is_empty() {
                let (index, other) = (index % shuffled.len(), other.index(shuffled.len()));
                shuffled.swap(index, other);
            }
        }
        shuffled.extend(of_one_instance.iter().take(order.len() % 4).cloned());
        let (state, incarnation) = belief(&mut shuffled.into_iter());
        if straight.0 == State::Left {
            prop_assert_eq!(state, State::Left);
        } else {
            prop_assert_eq!((state, incarnation), straight);
        }
    }

    /// With lives that replace each other: the latest that was ever said to be alive is the one that is held.
    #[test]
    fn the_latest_life_ever_said_to_be_alive_is_held(claims in proptest::collection::vec(claim(), 1..12)) {
        let mut lone = Lone::new(|_| ());
        lone.receive("z", alive("z", 10, 0));
        let mut latest = None;
        let mut left = 0;
        for claim in claims {
            match &claim {
                // Unless that very life had left before it was known.
                Message::Alive { record, .. } if record.id.generation > left => {
                    latest = latest.max(Some(record.id.generation));
                }
                Message::Left { id, .. } if latest.is_none() => left = left.max(id.generation),
                _ => {}
            }
            // What failed before it was known has to prove that it lives; that is another test's subject.
            if !(latest.is_none() && matches!(claim, Message::Failed { .. })) {
                lone.receive("z", claim);
            }
        }
        let held = lone.machine.member("a").map(|member| member.record.id.generation);
        prop_assert_eq!(held, latest);
    }
}

#[test]
fn a_stale_claim_to_live_is_answered_with_what_is_held_against_it() {
    let mut lone = Lone::among(3, |_| ());
    lone.lose("b", "a", 0);
    lone.quiet();
    // First hand: at once, to the node itself.
    lone.receive("a", alive("a", 10, 0));
    assert!(lone.sent_to("a").contains(&Message::Failed {
        id: id("a", 10),
        incarnation: 0,
        accuser: name("me")
    }));
    // Second hand: to the node it is about, which alone can refute it.
    lone.pass(SECOND * 2);
    lone.sent();
    lone.receive("b", alive("a", 10, 0));
    assert!(lone.sent_to("a").iter().any(|message| matches!(message, Message::Failed { .. })));
    // A good-bye cannot be refuted: whoever has not heard of it is told.
    lone.receive("b", Message::Left { id: id("c", 10), incarnation: 0 });
    lone.quiet();
    lone.receive("b", alive("c", 10, 0));
    assert_eq!(lone.sent_to("b"), [Message::Left { id: id("c", 10), incarnation: 0 }]);
}

#[test]
fn a_node_is_not_told_more_often_than_once_a_second_that_it_is_dead() {
    let mut lone = Lone::among(2, |_| ());
    lone.lose("b", "a", 0);
    lone.quiet();
    lone.pass(SECOND * 2);
    lone.sent();
    let mut reported = 0;
    for _ in 0..100 {
        lone.receive("b", alive("a", 10, 0));
        lone.pass(MILLI * 20);
        reported +=
            lone.sent_to("a").iter().filter(|message| matches!(message, Message::Failed { .. })).count();
    }
    assert_eq!(reported, 2, "a hundred stale claims in two seconds");
}

#[test]
fn a_claim_about_ourselves_is_refuted_with_a_higher_incarnation() {
    for (claim, expected) in [
        (Message::Suspect { id: id("me", 100), incarnation: 0, accuser: name("b") }, 1),
        (Message::Failed { id: id("me", 100), incarnation: 7, accuser: name("b") }, 8),
    ] {
        let mut lone = Lone::among(2, |_| ());
        lone.receive("a", claim);
        assert_eq!(lone.machine.me().incarnation, expected);
        let refutation = Message::Alive { record: lone.me(), incarnation: expected };
        let sent = lone.sent();
        for peer in ["a", "b"] {
            let to = |sent: &&Sent| sent.to.name == Some(name(peer));
            assert!(
                sent.iter().filter(to).any(|sent| sent.messages.contains(&refutation)),
                "{peer} hears it at once"
            );
        }
        assert_eq!(lone.machine.health_score(), 1, "to be accused is a sign of being slow");
        assert_eq!(lone.events(), []);
    }
}

#[test]
fn an_old_claim_about_ourselves_is_answered_but_refuted_only_once() {
    let mut lone = Lone::among(2, |_| ());
    let claim = Message::Suspect { id: id("me", 100), incarnation: 0, accuser: name("b") };
    for _ in 0..5 {
        lone.receive("a", claim.clone());
    }
    assert_eq!((lone.machine.me().incarnation, lone.machine.statistics().refutations), (1, 1));
    lone.quiet();
    lone.receive("a", claim);
    assert_eq!(lone.sent_to("a"), [Message::Alive { record: lone.me(), incarnation: 1 }]);
}

#[test]
fn a_life_of_ours_that_we_did_not_live_makes_us_take_a_later_one() {
    for claim in [
        Message::Alive { record: record("me", 500, address(0)), incarnation: 3 },
        Message::Failed { id: id("me", 500), incarnation: 3, accuser: name("b") },
        Message::Left { id: id("me", 500), incarnation: 3 },
        Message::Outdated(Outdated { claimed: 100, known: 500 }),
    ] {
        let mut lone = Lone::among(2, |_| ());
        lone.receive("a", claim.clone());
        assert!(is_later(&lone, 500), "{claim:?}");
        let taken = lone.me().id;
        assert_eq!(lone.events(), [Event::GenerationRaised(taken)]);
        let announced = Message::Alive { record: lone.me(), incarnation: 0 };
        assert!(lone.sent_to("b").contains(&announced));
    }
    // Our present life said to have left: it cannot refute that.
    let mut lone = Lone::among(2, |_| ());
    lone.receive("a", Message::Left { id: id("me", 100), incarnation: 0 });
    assert!(is_later(&lone, 100));
    // What is said of an earlier life, or of one that may be another's, changes nothing.
    for claim in [
        Message::Failed { id: id("me", 99), incarnation: 0, accuser: name("b") },
        Message::Left { id: id("me", 99), incarnation: 0 },
        Message::Suspect { id: id("me", 500), incarnation: 0, accuser: name("b") },
        Message::Outdated(Outdated { claimed: 99, known: 99 }),
        // The answer to what we said before we took our present life, by somebody who knows that already.
        Message::Outdated(Outdated { claimed: 99, known: 100 }),
    ] {
        let mut lone = Lone::among(2, |_| ());
        lone.receive("a", claim.clone());
        assert_eq!((lone.me().id, lone.machine.me().incarnation), (id("me", 100), 0), "{claim:?}");
    }
}

#[test]
fn a_living_node_elsewhere_under_our_name_is_reported_and_not_outbid() {
    let mut lone = Lone::among(2, |_| ());
    let other = Message::Alive { record: record("me", 500, address(77)), incarnation: 0 };
    lone.receive("a", other.clone());
    lone.receive("b", other.clone());
    assert_eq!(lone.me().id, id("me", 100));
    let events = lone.events();
    let [Event::NameConflict(conflict)] = &events[..] else { panic!("one report: {events:?}") };
    assert_eq!((conflict.owner, conflict.claimant), (address(77), address(0)));
    lone.pass(SECOND * 11);
    lone.events();
    lone.receive("a", other);
    assert!(matches!(lone.events()[..], [Event::NameConflict(_)]), "again after ten seconds");
}

#[test]
fn a_node_that_calls_us_by_our_own_name_is_refused() {
    let mut lone = Lone::among(2, |_| ());
    let (_, answer) = lone.hello_from(record("me", 200, address(77)), 0);
    let Frame::Refused(crate::message::HelloRefusal::NameInUse(in_use)) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!((in_use.owner_address, in_use.claimant_address), (address(0), address(77)));
    let events = lone.events();
    let [Event::NameConflict(conflict)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(conflict.role, ConflictRole::Owner);
    assert_eq!(
        conflict.to_string(),
        "two living nodes are called me: the one at 10.0.0.0:7946 keeps the name, the one at 10.0.0.77:7946 is \
         refused; give one of them another name"
    );
    // Calling itself is no conflict.
    let (_, answer) = lone.hello_from(record("me", 100, address(0)), 0);
    assert_eq!(answer, Frame::Refused(crate::message::HelloRefusal::Yourself));
    assert_eq!(lone.events(), []);
}

#[test]
fn a_life_at_another_address_waits_until_the_holder_was_probed() {
    let mut lone = Lone::among(3, |_| ());
    let newcomer = record("a", 11, address(77));
    let (_, answer) = lone.hello_from(newcomer.clone(), 0);
    assert!(matches!(answer, Frame::Refused(crate::message::HelloRefusal::Pending(_))), "{answer:?}");
    let sent = lone.sent();
    let probe = sent.iter().find(|sent| sent.purpose == Purpose::Probe).expect("the holder is probed");
    assert_eq!((probe.to.address, probe.to.name.clone()), (Lone::at("a"), Some(name("a"))));
    let Message::Ping { sequence, target, .. } = &probe.messages[0] else { panic!() };
    assert_eq!(*target, id("a", 10), "in its own life");
    // The holder answers.
    let ack = Message::Ack { sequence: *sequence, id: target.clone(), incarnation: 0, digest: None };
    lone.receive("a", ack);
    let expected = NameInUse {
        owner: id("a", 10),
        owner_address: Lone::at("a"),
        claimant: id("a", 11),
        claimant_address: address(77),
    };
    let reported =
        lone.sent().into_iter().filter(|sent| sent.messages.contains(&Message::NameInUse(expected.clone())));
    let reported = reported.map(|sent| sent.to.address).collect::<Vec<_>>();
    assert_eq!(reported, [Lone::at("a"), address(77)], "both are told");
    assert!(
        matches!(&lone.events()[..], [Event::NameConflict(conflict)] if conflict.role == ConflictRole::Witness)
    );
    // Asking again is answered at once, without another probe, and reported to nobody so soon.
    let (_, answer) = lone.hello_from(newcomer, 0);
    assert_eq!(answer, Frame::Refused(crate::message::HelloRefusal::NameInUse(expected)));
    assert!(lone.sent().iter().all(|sent| sent.purpose != Purpose::Probe) && lone.events().is_empty());
}

#[test]
fn a_node_that_is_refused_hears_no_news_of_the_members() {
    let mut lone = Lone::among(3, |config| config.retransmit_multiplier = 20);
    lone.hello_from(record("a", 11, address(77)), 0);
    let sequence = lone.await_probe("a");
    lone.receive("b", alive("d", 10, 0));
    lone.answer_probe(sequence, id("a", 10));
    let sent = lone.sent();
    let refusal = sent.iter().find(|sent| sent.to.address == address(77)).expect("it is told");
    assert!(matches!(refusal.messages[..], [Message::NameInUse(_)]), "{:?}", refusal.messages);
    // On its own line the same.
    lone.receive_from(
        "me",
        address(78),
        Message::Alive { record: record("me", 1, address(78)), incarnation: 0 },
    );
    let sent = lone.sent();
    let refusal = sent.iter().find(|sent| sent.to.address == address(78)).expect("it is told");
    assert!(matches!(refusal.messages[..], [Message::NameInUse(_)]), "{:?}", refusal.messages);
    assert!(lone.machine.broadcast_count() > 0, "there was news to be told");
}

#[test]
fn the_holder_must_answer_from_its_own_address_in_its_own_life() {
    let mut lone = Lone::among(3, |_| ());
    lone.hello_from(record("a", 10, address(77)), 1);
    let probe = lone.sent().into_iter().find(|sent| sent.purpose == Purpose::Probe).expect("probed");
    let Message::Ping { sequence, target, .. } = probe.messages[0].clone() else { panic!() };
    // The claimant answers for it: it shares even the generation, but not the address.
    let ack = Message::Ack { sequence, id: target, incarnation: 1, digest: None };
    lone.receive_from("a", address(77), ack);
    assert_eq!(lone.events(), [], "that was no answer of the holder");
    lone.pass(SECOND * 2);
    let member = lone.machine.member("a").expect("known");
    assert_eq!((member.record.address, member.incarnation), (address(77), 1), "the holder was silent");
}

#[test]
fn second_hand_a_later_life_is_accepted_wherever_it_is() {
    let mut lone = Lone::among(3, |_| ());
    let moved = record("a", 11, address(77));
    lone.receive("b", Message::Alive { record: moved.clone(), incarnation: 0 });
    assert_eq!(lone.events(), [Event::Replaced { old: id("a", 10), new: moved }]);
}

#[test]
fn an_address_evicts_nobody() {
    let mut lone = Lone::among(2, |_| ());
    lone.receive("b", Message::Alive { record: record("other", 1, Lone::at("a")), incarnation: 0 });
    assert_eq!((lone.state("a"), lone.state("other")), (Some(State::Alive), Some(State::Alive)));
}

#[test]
fn a_suspicion_that_overtakes_the_record_of_its_incarnation_does_not_lose_it() {
    let mut lone = Lone::among(2, |_| ());
    let mut labelled = record("a", 10, Lone::at("a"));
    labelled.labels.insert("k".to_owned(), "v".to_owned());
    lone.receive("b", suspect("a", 1, "b"));
    lone.events();
    lone.receive("b", Message::Alive { record: labelled.clone(), incarnation: 1 });
    assert_eq!(lone.events(), [Event::Updated(labelled)]);
    assert_eq!(lone.state("a"), Some(State::Suspect), "it has refuted nothing");
}

#[test]
fn no_member_is_made_of_a_claim_that_somebody_is_gone_but_older_claims_are_then_refused() {
    let mut lone = Lone::among(1, |_| ());
    lone.receive("a", Message::Failed { id: id("x", 10), incarnation: 3, accuser: name("a") });
    assert_eq!(lone.machine.member("x"), None);
    lone.receive("a", Message::Alive { record: record("x", 10, address(50)), incarnation: 3 });
    assert_eq!(lone.machine.member("x"), None);
    lone.receive("a", Message::Alive { record: record("x", 10, address(50)), incarnation: 4 });
    assert_eq!(lone.state("x"), Some(State::Alive), "it has proved that it lives");
    lone.receive("a", Message::Left { id: id("y", 10), incarnation: 3 });
    lone.receive("a", Message::Alive { record: record("y", 10, address(51)), incarnation: 9 });
    assert_eq!(lone.machine.member("y"), None);
    lone.receive("a", Message::Alive { record: record("y", 11, address(51)), incarnation: 0 });
    assert_eq!(lone.state("y"), Some(State::Alive));
}

#[test]
fn absurd_numbers_are_refused_and_harm_nobody() {
    let mut lone = Lone::among(2, |_| ());
    for claim in [
        Message::Alive { record: record("x", u64::MAX, address(50)), incarnation: 0 },
        Message::Alive { record: record("a", 10, Lone::at("a")), incarnation: u64::MAX },
        Message::Suspect { id: id("a", 10), incarnation: u64::MAX, accuser: name("b") },
        Message::Failed { id: id("a", 10), incarnation: u64::MAX, accuser: name("b") },
        Message::Left { id: id("a", 10), incarnation: u64::MAX },
        Message::Suspect { id: id("me", 100), incarnation: u64::MAX, accuser: name("b") },
        Message::Failed { id: id("me", u64::MAX), incarnation: 0, accuser: name("b") },
        Message::Outdated(Outdated { claimed: 100, known: u64::MAX }),
    ] {
        lone.receive("b", claim);
    }
    assert_eq!(lone.machine.statistics().invalid, 8);
    assert_eq!((lone.state("a"), lone.machine.member("x")), (Some(State::Alive), None));
    assert_eq!((lone.me().id, lone.machine.me().incarnation), (id("me", 100), 0));
    assert_eq!(lone.machine.remembered_count(), 0);
    // Others still join.
    lone.receive("x", Message::Alive { record: record("x", 5, Lone::at("x")), incarnation: 0 });
    assert_eq!(lone.state("x"), Some(State::Alive));
}

#[test]
fn the_highest_incarnation_leads_to_a_later_life_and_not_to_an_overflow() {
    let mut lone = Lone::among(1, |_| ());
    let most = crate::member::MAX_INCARNATION;
    lone.receive("a", Message::Suspect { id: id("me", 100), incarnation: most, accuser: name("a") });
    assert!(is_later(&lone, 100) && lone.machine.me().incarnation == 0);
    let (taken, most) = (lone.me().id, crate::member::MAX_GENERATION);
    lone.receive("a", Message::Left { id: id("me", most), incarnation: 0 });
    assert_eq!(lone.me().id, taken, "there is none later");
}

#[test]
fn a_generation_driven_as_far_as_is_believed_is_outlived_a_moment_later() {
    use crate::member::MAX_LEAD;
    let mut lone = Lone::among(2, |_| ());
    let most = 100 + MAX_LEAD + u64::try_from((lone.now - start()).as_micros()).expect("short");
    for (generation, taken) in [(most + 1, 10), (most, most)] {
        lone.receive("b", Message::Alive { record: record("a", generation, Lone::at("a")), incarnation: 0 });
        assert_eq!(lone.machine.member("a").map(|member| member.record.id.generation), Some(taken));
    }
    // The owner of the name hears of it and takes a later one; that is believed as soon as any time has passed.
    lone.now += MILLI;
    lone.receive("a", Message::Alive { record: record("a", most + 1, Lone::at("a")), incarnation: 0 });
    assert_eq!(lone.machine.member("a").map(|member| member.record.id.generation), Some(most + 1));
    // The same for our own name.
    lone.receive("b", Message::Left { id: id("me", most), incarnation: 0 });
    assert!(is_later(&lone, most));
}

#[test]
fn two_processes_that_hear_of_the_same_life_take_different_ones() {
    // A process whose clock was set back, or whose machine was, starts among some that know life 500; later another one starts
    // among others that know the same.
    let taken = [3, 4].map(|seed| {
        let now = start();
        let rng = <rand_chacha::ChaCha8Rng as rand::SeedableRng>::seed_from_u64(seed);
        let me = record("me", 100, address(0));
        let mut machine = Membership::new(Config::lan(), me, now, rng).expect("valid");
        machine.renew(500, now).generation
    });
    assert!(taken.iter().all(|&generation| generation > 500));
    assert_ne!(taken[0], taken[1]);
}

/// Whether we have taken a life later than this one, by a second at most.
fn is_later(lone: &Lone, than: u64) -> bool {
    (than + 1..=than + (1 << 20)).contains(&lone.me().id.generation)
}

#[test]
fn a_verdict_from_elsewhere_is_a_suspicion_here_with_the_time_to_object() {
    // Nobody here suspects it.
    let mut lone = Lone::among(5, |_| ());
    lone.receive("b", failed("a", 0));
    assert_eq!(lone.events(), [Event::Suspected(id("a", 10))]);
    let reported = lone.sent_to("a");
    assert!(
        reported.contains(&Message::Suspect { id: id("a", 10), incarnation: 0, accuser: name("me") }),
        "{reported:?}"
    );
    lone.receive("a", alive("a", 10, 1));
    assert_eq!(lone.events(), [Event::Refuted(id("a", 10))]);
    // A suspicion that has only just come here, ahead of the verdict.
    lone.receive("b", suspect("a", 1, "b"));
    lone.pass(MILLI * 500);
    lone.receive("b", failed("a", 1));
    assert_eq!((lone.state("a"), lone.events()), (Some(State::Suspect), vec![Event::Suspected(id("a", 10))]));
}

#[test]
fn who_missed_a_suspicion_does_not_wait_for_all_of_it_after_the_verdict() {
    let mut lone = Lone::among(5, |_| ());
    lone.receive("b", failed("a", 0));
    let mut lasted = 0;
    while lone.state("a") == Some(State::Suspect) && lasted < 30_000 {
        lone.pass(MILLI * 20);
        lone.answer_probes_but(Some("a"));
        lasted += 20;
    }
    assert!((1_500..=1_520).contains(&lasted), "{lasted} ms");
}

#[test]
fn a_verdict_about_a_suspect_that_was_heard_from_is_not_believed_at_once() {
    let mut lone = Lone::among(5, |_| ());
    lone.receive("b", suspect("a", 0, "z"));
    lone.pass_in_peace(SECOND * 3);
    // Its objection is lost, but it lives.
    let ping = Message::Ping { sequence: 7, target: id("me", 100), generation: 10, incarnation: 0 };
    lone.receive("a", ping);
    lone.receive("b", failed("a", 0));
    assert_eq!(lone.state("a"), Some(State::Suspect));
    let mut lasted = 0;
    while lone.state("a") == Some(State::Suspect) && lasted < 10_000 {
        lone.pass(MILLI * 20);
        lone.answer_probes_but(Some("a"));
        if lasted < 900 {
            // Said again it puts nothing off, and is not believed before an objection could have come.
            lone.receive("c", failed("a", 0));
        }
        lasted += 20;
    }
    assert!((3_300..=3_400).contains(&lasted), "{lasted} ms");
}

#[test]
fn a_verdict_of_a_list_waits_for_no_confirmations() {
    let mut lone = Lone::among(5, |_| ());
    let mut entry = gone("a", 10, 0, State::Failed, 100);
    entry.record.address = Lone::at("a");
    lone.list_from("b", vec![entry]);
    assert_eq!(lone.events(), [Event::Suspected(id("a", 10))]);
    let mut lasted = 0;
    while lone.state("a") == Some(State::Suspect) && lasted < 30_000 {
        lone.pass(MILLI * 20);
        lone.answer_probes_but(Some("a"));
        lasted += 20;
    }
    assert!((3_300..=3_400).contains(&lasted), "{lasted} ms");
}

/// A peer that has proved a certificate and never joined speaks of nobody but itself, and has nobody probed.
#[test]
fn a_peer_that_never_joined_is_not_heard_about_third_parties() {
    let stranger = "z";
    let mut lone = Lone::among(3, |_| ());
    let victim = name("a");
    let lies = [
        alive("y", 10, 0),
        alive("a", 11, 0),
        suspect("a", 0, "z"),
        failed("a", 0),
        Message::Left { id: id("a", 10), incarnation: 0 },
        Message::PingRequest { sequence: 1, target: id("y", 10), address: address(77) },
    ];
    for lie in lies {
        let refused = lone.machine.statistics().refused_not_member;
        lone.receive(stranger, lie.clone());
        assert_eq!(lone.machine.statistics().refused_not_member, refused + 1, "{lie:?}");
        assert_eq!(lone.events(), [], "{lie:?}");
        // Nothing goes to anybody but the question who it is.
        for sent in lone.sent() {
            assert_eq!((sent.to.name, sent.messages), (Some(name(stranger)), vec![Message::Introduce]));
        }
    }
    assert_eq!(lone.machine.member(victim.as_str()).unwrap().record.id.generation, 10);
    assert_eq!(lone.state("a"), Some(State::Alive));
    // Once it has introduced itself, it is a member, and shown as one.
    lone.receive(stranger, alive(stranger, 10, 0));
    lone.receive(stranger, suspect("a", 0, "z"));
    assert_eq!(lone.state("a"), Some(State::Suspect));
}
