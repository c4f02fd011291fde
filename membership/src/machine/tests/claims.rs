//! Which claims are accepted, and how they are answered.

use proptest::prelude::*;

use super::*;
use crate::ConflictRole;
use crate::message::NameInUse;

#[test]
fn an_update_changes_a_member_and_is_reported_once() {
    let mut node = Node::new(|_| ());
    for member in ["b", "c"] {
        node.receive(member, alive(member, 10, 0));
    }
    node.events();
    node.receive("b", alive("a", 10, 0));
    node.receive("c", alive("a", 10, 0));
    assert_eq!(node.events(), [Event::Joined(record("a", 10, Node::at("a")))]);
    node.receive("b", suspect("a", 0, "b"));
    node.receive("b", suspect("a", 0, "b"));
    assert_eq!(node.events(), [Event::Suspected(id("a", 10))]);
    node.receive("b", alive("a", 10, 0));
    assert_eq!(node.events(), [], "the same incarnation does not refute");
    node.receive("b", alive("a", 10, 1));
    assert_eq!(node.events(), [Event::Refuted(id("a", 10))]);
    node.receive("b", failed("a", 0));
    assert_eq!(node.events(), [], "it is stale");
    node.fail("b", "a", 1);
    assert_eq!(node.events(), [Event::Suspected(id("a", 10)), Event::Failed(id("a", 10))]);
    node.receive("b", alive("a", 10, 2));
    assert_eq!(node.events(), [Event::Returned(record("a", 10, Node::at("a")))]);
    let mut labelled = record("a", 10, Node::at("a"));
    labelled.labels.insert("zone".to_owned(), "1".to_owned());
    node.receive("b", Message::Alive { record: labelled.clone(), incarnation: 3 });
    assert_eq!(node.events(), [Event::Updated(labelled)]);
    node.receive("b", Message::Left { id: id("a", 10), incarnation: 0 });
    assert_eq!(node.events(), [Event::Left(id("a", 10))], "with any incarnation");
    node.receive("b", alive("a", 10, 99));
    assert_eq!(node.events(), [], "an instance that left remains left");
    node.receive("b", alive("a", 11, 0));
    assert_eq!(node.events(), [Event::Joined(record("a", 11, Node::at("a")))]);
    node.receive("b", alive("a", 12, 0));
    let new = record("a", 12, Node::at("a"));
    assert_eq!(node.events(), [Event::Replaced { old: id("a", 11), new }]);
    node.receive("b", alive("a", 11, 5));
    assert_eq!(node.events(), []);
}

fn claim() -> impl Strategy<Value = Message> {
    (0u8..5, 9u64..12, 0u64..3, 0u8..3).prop_map(|(kind, generation, incarnation, accuser)| {
        let id = id("a", generation);
        match kind {
            0 => Message::Suspect { id, incarnation, accuser: name(&Node::peer(accuser + 1)) },
            1 => Message::Failed { id, incarnation, accuser: name("z") },
            2 => Message::Left { id, incarnation },
            _ => alive("a", generation, incarnation),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Of claims about a known instance, the greatest standing wins, whatever their order and
    /// repetition.
    #[test]
    fn claims_in_any_order_lead_to_the_same_state(
        claims in proptest::collection::vec(claim(), 1..10),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 1..30),
    ) {
        // The instance is known, so that no claim is rejected for an unknown subject.
        let of_one_instance = claims.iter().filter(|claim| match claim {
            Message::Alive { record, .. } => record.id.generation == 10,
            Message::Suspect { id, .. } | Message::Failed { id, .. } | Message::Left { id, .. } => {
                id.generation == 10
            }
            _ => false,
        }).cloned().collect::<Vec<_>>();
        let belief = |claims: &mut dyn Iterator<Item = Message>| {
            let mut node = Node::among(1, |_| ());
            node.receive("z", alive("z", 10, 0));
            claims.for_each(|claim| node.receive("z", claim));
            let member = node.machine.member("a").expect("known").clone();
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

    /// With instances that replace each other, the latest one ever claimed alive is kept.
    #[test]
    fn the_latest_instance_ever_claimed_alive_is_kept(claims in proptest::collection::vec(claim(), 1..12)) {
        let mut node = Node::new(|_| ());
        node.receive("z", alive("z", 10, 0));
        let mut latest = None;
        let mut left = 0;
        for claim in claims {
            match &claim {
                // Unless this instance had left before it was known.
                Message::Alive { record, .. } if record.id.generation > left => {
                    latest = latest.max(Some(record.id.generation));
                }
                Message::Left { id, .. } if latest.is_none() => left = left.max(id.generation),
                _ => {}
            }
            // An instance that failed before it was known must prove that it is alive; another test
            // covers that.
            if !(latest.is_none() && matches!(claim, Message::Failed { .. })) {
                node.receive("z", claim);
            }
        }
        let known = node.machine.member("a").map(|member| member.record.id.generation);
        prop_assert_eq!(known, latest);
    }
}

#[test]
fn a_stale_alive_claim_is_answered_with_the_claim_that_supersedes_it() {
    let mut node = Node::among(3, |_| ());
    node.fail("b", "a", 0);
    node.settle();
    // A direct claim is answered at once to the node itself.
    node.receive("a", alive("a", 10, 0));
    assert!(node.sent_to("a").contains(&Message::Failed {
        id: id("a", 10),
        incarnation: 0,
        accuser: name("me")
    }));
    // A relayed claim is answered to its subject, which alone can refute it.
    node.pass(SECOND * 2);
    node.sent();
    node.receive("b", alive("a", 10, 0));
    assert!(node.sent_to("a").iter().any(|message| matches!(message, Message::Failed { .. })));
    // A leave message cannot be refuted: a sender that has not received it gets it.
    node.receive("b", Message::Left { id: id("c", 10), incarnation: 0 });
    node.settle();
    node.receive("b", alive("c", 10, 0));
    assert_eq!(node.sent_to("b"), [Message::Left { id: id("c", 10), incarnation: 0 }]);
}

#[test]
fn a_failed_node_is_notified_at_most_once_a_second() {
    let mut node = Node::among(2, |_| ());
    node.fail("b", "a", 0);
    node.settle();
    node.pass(SECOND * 2);
    node.sent();
    let mut reported = 0;
    for _ in 0..100 {
        node.receive("b", alive("a", 10, 0));
        node.pass(MILLI * 20);
        reported +=
            node.sent_to("a").iter().filter(|message| matches!(message, Message::Failed { .. })).count();
    }
    assert_eq!(reported, 2, "a hundred stale claims in two seconds");
}

#[test]
fn a_claim_about_this_node_is_refuted_with_a_higher_incarnation() {
    for (claim, expected) in [
        (Message::Suspect { id: id("me", 100), incarnation: 0, accuser: name("b") }, 1),
        (Message::Failed { id: id("me", 100), incarnation: 7, accuser: name("b") }, 8),
    ] {
        let mut node = Node::among(2, |_| ());
        node.receive("a", claim);
        assert_eq!(node.machine.me().incarnation, expected);
        let refutation = Message::Alive { record: node.me(), incarnation: expected };
        let sent = node.sent();
        for peer in ["a", "b"] {
            let to = |sent: &&Sent| sent.to.name == Some(name(peer));
            assert!(
                sent.iter().filter(to).any(|sent| sent.messages.contains(&refutation)),
                "{peer} receives it at once"
            );
        }
        assert_eq!(node.machine.health_score(), 1, "a suspicion indicates a slow node");
        assert_eq!(node.events(), []);
    }
}

#[test]
fn an_old_claim_about_this_node_is_answered_but_refuted_only_once() {
    let mut node = Node::among(2, |_| ());
    let claim = Message::Suspect { id: id("me", 100), incarnation: 0, accuser: name("b") };
    for _ in 0..5 {
        node.receive("a", claim.clone());
    }
    assert_eq!((node.machine.me().incarnation, node.machine.statistics().refutations), (1, 1));
    node.settle();
    node.receive("a", claim);
    assert_eq!(node.sent_to("a"), [Message::Alive { record: node.me(), incarnation: 1 }]);
}

#[test]
fn a_claim_about_an_unknown_instance_of_this_node_makes_it_start_a_later_one() {
    for claim in [
        Message::Alive { record: record("me", 500, address(0)), incarnation: 3 },
        Message::Failed { id: id("me", 500), incarnation: 3, accuser: name("b") },
        Message::Left { id: id("me", 500), incarnation: 3 },
        Message::Outdated(Outdated { claimed: 100, known: 500 }),
    ] {
        let mut node = Node::among(2, |_| ());
        node.receive("a", claim.clone());
        assert!(is_later(&node, 500), "{claim:?}");
        let taken = node.me().id;
        assert_eq!(node.events(), [Event::GenerationRaised(taken)]);
        let announced = Message::Alive { record: node.me(), incarnation: 0 };
        assert!(node.sent_to("b").contains(&announced));
    }
    // The current instance is claimed to have left: it cannot refute that.
    let mut node = Node::among(2, |_| ());
    node.receive("a", Message::Left { id: id("me", 100), incarnation: 0 });
    assert!(is_later(&node, 100));
    // Claims about an earlier instance, or about one that may be another node's, change nothing.
    for claim in [
        Message::Failed { id: id("me", 99), incarnation: 0, accuser: name("b") },
        Message::Left { id: id("me", 99), incarnation: 0 },
        Message::Suspect { id: id("me", 500), incarnation: 0, accuser: name("b") },
        Message::Outdated(Outdated { claimed: 99, known: 99 }),
        // An answer to an announcement of the previous instance, from a peer that knows the current
        // one.
        Message::Outdated(Outdated { claimed: 99, known: 100 }),
    ] {
        let mut node = Node::among(2, |_| ());
        node.receive("a", claim.clone());
        assert_eq!((node.me().id, node.machine.me().incarnation), (id("me", 100), 0), "{claim:?}");
    }
}

#[test]
fn a_live_node_of_this_name_at_another_address_is_reported_and_not_superseded() {
    let mut node = Node::among(2, |_| ());
    let other = Message::Alive { record: record("me", 500, address(77)), incarnation: 0 };
    node.receive("a", other.clone());
    node.receive("b", other.clone());
    assert_eq!(node.me().id, id("me", 100));
    let events = node.events();
    let [Event::NameConflict(conflict)] = &events[..] else { panic!("one report: {events:?}") };
    assert_eq!((conflict.owner, conflict.claimant), (address(77), address(0)));
    node.pass(SECOND * 11);
    node.events();
    node.receive("a", other);
    assert!(matches!(node.events()[..], [Event::NameConflict(_)]), "again after ten seconds");
}

#[test]
fn a_node_that_uses_this_nodes_name_is_refused() {
    let mut node = Node::among(2, |_| ());
    let (_, answer) = node.hello_from(record("me", 200, address(77)), 0);
    let Frame::Refused(crate::message::HelloRefusal::NameInUse(in_use)) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!((in_use.owner_address, in_use.claimant_address), (address(0), address(77)));
    let events = node.events();
    let [Event::NameConflict(conflict)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(conflict.role, ConflictRole::Owner);
    assert_eq!(
        conflict.to_string(),
        "two live nodes use the name me: the node at 10.0.0.0:7946 keeps it, the node at 10.0.0.77:7946 is \
         refused; give one of them another name"
    );
    // A stream to itself is no conflict.
    let (_, answer) = node.hello_from(record("me", 100, address(0)), 0);
    assert_eq!(answer, Frame::Refused(crate::message::HelloRefusal::Yourself));
    assert_eq!(node.events(), []);
}

#[test]
fn an_instance_at_another_address_waits_until_the_owner_was_probed() {
    let mut node = Node::among(3, |_| ());
    let newcomer = record("a", 11, address(77));
    let (_, answer) = node.hello_from(newcomer.clone(), 0);
    assert!(matches!(answer, Frame::Refused(crate::message::HelloRefusal::Pending(_))), "{answer:?}");
    let sent = node.sent();
    let probe = sent.iter().find(|sent| sent.purpose == Purpose::Probe).expect("the owner is probed");
    assert_eq!((probe.to.address, probe.to.name.clone()), (Node::at("a"), Some(name("a"))));
    let Message::Ping { sequence, target, .. } = &probe.messages[0] else { panic!() };
    assert_eq!(*target, id("a", 10), "as the known instance");
    // The owner answers.
    let ack = Message::Ack { sequence: *sequence, id: target.clone(), incarnation: 0, digest: None };
    node.receive("a", ack);
    let expected = NameInUse {
        owner: id("a", 10),
        owner_address: Node::at("a"),
        claimant: id("a", 11),
        claimant_address: address(77),
    };
    let reported =
        node.sent().into_iter().filter(|sent| sent.messages.contains(&Message::NameInUse(expected.clone())));
    let reported = reported.map(|sent| sent.to.address).collect::<Vec<_>>();
    assert_eq!(reported, [Node::at("a"), address(77)], "both are notified");
    assert!(
        matches!(&node.events()[..], [Event::NameConflict(conflict)] if conflict.role == ConflictRole::Witness)
    );
    // A repeated attempt is answered at once, without another probe or report.
    let (_, answer) = node.hello_from(newcomer, 0);
    assert_eq!(answer, Frame::Refused(crate::message::HelloRefusal::NameInUse(expected)));
    assert!(node.sent().iter().all(|sent| sent.purpose != Purpose::Probe) && node.events().is_empty());
}

#[test]
fn a_refused_node_receives_no_updates_about_members() {
    let mut node = Node::among(3, |config| config.retransmit_multiplier = 20);
    node.hello_from(record("a", 11, address(77)), 0);
    let sequence = node.await_probe("a");
    node.receive("b", alive("d", 10, 0));
    node.answer_probe(sequence, id("a", 10));
    let sent = node.sent();
    let refusal = sent.iter().find(|sent| sent.to.address == address(77)).expect("it is notified");
    assert!(matches!(refusal.messages[..], [Message::NameInUse(_)]), "{:?}", refusal.messages);
    // The same for a node that uses this node's name.
    node.receive_from(
        "me",
        address(78),
        Message::Alive { record: record("me", 1, address(78)), incarnation: 0 },
    );
    let sent = node.sent();
    let refusal = sent.iter().find(|sent| sent.to.address == address(78)).expect("it is notified");
    assert!(matches!(refusal.messages[..], [Message::NameInUse(_)]), "{:?}", refusal.messages);
    assert!(node.machine.broadcast_count() > 0, "updates were queued");
}

#[test]
fn the_owner_must_answer_from_its_own_address_as_the_same_instance() {
    let mut node = Node::among(3, |_| ());
    node.hello_from(record("a", 10, address(77)), 1);
    let probe = node.sent().into_iter().find(|sent| sent.purpose == Purpose::Probe).expect("probed");
    let Message::Ping { sequence, target, .. } = probe.messages[0].clone() else { panic!() };
    // The claimant answers instead: it has the same generation, but not the address.
    let ack = Message::Ack { sequence, id: target, incarnation: 1, digest: None };
    node.receive_from("a", address(77), ack);
    assert_eq!(node.events(), [], "the owner did not answer");
    node.pass(SECOND * 2);
    let member = node.machine.member("a").expect("known");
    assert_eq!((member.record.address, member.incarnation), (address(77), 1), "the owner did not answer");
}

#[test]
fn a_relayed_later_instance_is_accepted_at_any_address() {
    let mut node = Node::among(3, |_| ());
    let moved = record("a", 11, address(77));
    node.receive("b", Message::Alive { record: moved.clone(), incarnation: 0 });
    assert_eq!(node.events(), [Event::Replaced { old: id("a", 10), new: moved }]);
}

#[test]
fn an_equal_address_removes_no_member() {
    let mut node = Node::among(2, |_| ());
    node.receive("b", Message::Alive { record: record("other", 1, Node::at("a")), incarnation: 0 });
    assert_eq!((node.state("a"), node.state("other")), (Some(State::Alive), Some(State::Alive)));
}

#[test]
fn a_suspicion_that_overtakes_the_record_of_its_incarnation_does_not_lose_it() {
    let mut node = Node::among(2, |_| ());
    let mut labelled = record("a", 10, Node::at("a"));
    labelled.labels.insert("k".to_owned(), "v".to_owned());
    node.receive("b", suspect("a", 1, "b"));
    node.events();
    node.receive("b", Message::Alive { record: labelled.clone(), incarnation: 1 });
    assert_eq!(node.events(), [Event::Updated(labelled)]);
    assert_eq!(node.state("a"), Some(State::Suspect), "it has refuted nothing");
}

#[test]
fn a_claim_that_an_unknown_node_departed_creates_no_member_but_supersedes_older_claims() {
    let mut node = Node::among(1, |_| ());
    node.receive("a", Message::Failed { id: id("x", 10), incarnation: 3, accuser: name("a") });
    assert_eq!(node.machine.member("x"), None);
    node.receive("a", Message::Alive { record: record("x", 10, address(50)), incarnation: 3 });
    assert_eq!(node.machine.member("x"), None);
    node.receive("a", Message::Alive { record: record("x", 10, address(50)), incarnation: 4 });
    assert_eq!(node.state("x"), Some(State::Alive), "it has proved that it is alive");
    node.receive("a", Message::Left { id: id("y", 10), incarnation: 3 });
    node.receive("a", Message::Alive { record: record("y", 10, address(51)), incarnation: 9 });
    assert_eq!(node.machine.member("y"), None);
    node.receive("a", Message::Alive { record: record("y", 11, address(51)), incarnation: 0 });
    assert_eq!(node.state("y"), Some(State::Alive));
}

#[test]
fn numbers_out_of_range_are_rejected_and_change_nothing() {
    let mut node = Node::among(2, |_| ());
    for claim in [
        Message::Alive { record: record("x", u64::MAX, address(50)), incarnation: 0 },
        Message::Alive { record: record("a", 10, Node::at("a")), incarnation: u64::MAX },
        Message::Suspect { id: id("a", 10), incarnation: u64::MAX, accuser: name("b") },
        Message::Failed { id: id("a", 10), incarnation: u64::MAX, accuser: name("b") },
        Message::Left { id: id("a", 10), incarnation: u64::MAX },
        Message::Suspect { id: id("me", 100), incarnation: u64::MAX, accuser: name("b") },
        Message::Failed { id: id("me", u64::MAX), incarnation: 0, accuser: name("b") },
        Message::Outdated(Outdated { claimed: 100, known: u64::MAX }),
    ] {
        node.receive("b", claim);
    }
    assert_eq!(node.machine.statistics().ignored_invalid, 8);
    assert_eq!((node.state("a"), node.machine.member("x")), (Some(State::Alive), None));
    assert_eq!((node.me().id, node.machine.me().incarnation), (id("me", 100), 0));
    assert_eq!(node.machine.remembered_count(), 0);
    // Other nodes still join.
    node.receive("x", Message::Alive { record: record("x", 5, Node::at("x")), incarnation: 0 });
    assert_eq!(node.state("x"), Some(State::Alive));
}

#[test]
fn the_highest_incarnation_leads_to_a_later_instance_and_not_to_an_overflow() {
    let mut node = Node::among(1, |_| ());
    let most = crate::member::MAX_INCARNATION;
    node.receive("a", Message::Suspect { id: id("me", 100), incarnation: most, accuser: name("a") });
    assert!(is_later(&node, 100) && node.machine.me().incarnation == 0);
    let (taken, most) = (node.me().id, crate::member::MAX_GENERATION);
    node.receive("a", Message::Left { id: id("me", most), incarnation: 0 });
    assert_eq!(node.me().id, taken, "no later one exists");
}

#[test]
fn a_generation_at_the_limit_can_be_exceeded_a_moment_later() {
    use crate::member::MAX_LEAD;
    let mut node = Node::among(2, |_| ());
    let most = 100 + MAX_LEAD + u64::try_from((node.now - start()).as_micros()).expect("short");
    for (generation, taken) in [(most + 1, 10), (most, most)] {
        node.receive("b", Message::Alive { record: record("a", generation, Node::at("a")), incarnation: 0 });
        assert_eq!(node.machine.member("a").map(|member| member.record.id.generation), Some(taken));
    }
    // The owner of the name learns of it and starts a later instance, which is accepted after any
    // time.
    node.now += MILLI;
    node.receive("a", Message::Alive { record: record("a", most + 1, Node::at("a")), incarnation: 0 });
    assert_eq!(node.machine.member("a").map(|member| member.record.id.generation), Some(most + 1));
    // The same for this node's own name.
    node.receive("b", Message::Left { id: id("me", most), incarnation: 0 });
    assert!(is_later(&node, most));
}

#[test]
fn two_processes_that_learn_of_the_same_instance_start_different_ones() {
    // Two processes start one after the other, with a clock that was set back or from a restored
    // snapshot, among different members that know instance 500.
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

/// Whether this node started an instance later than this one by about a second at most.
fn is_later(node: &Node, than: u64) -> bool {
    (than + 1..=than + (1 << 20)).contains(&node.me().id.generation)
}

#[test]
fn a_failure_claim_without_prior_suspicion_starts_a_suspicion_that_can_be_refuted() {
    // No node suspects it here.
    let mut node = Node::among(5, |_| ());
    node.receive("b", failed("a", 0));
    assert_eq!(node.events(), [Event::Suspected(id("a", 10))]);
    let reported = node.sent_to("a");
    assert!(
        reported.contains(&Message::Suspect { id: id("a", 10), incarnation: 0, accuser: name("me") }),
        "{reported:?}"
    );
    node.receive("a", alive("a", 10, 1));
    assert_eq!(node.events(), [Event::Refuted(id("a", 10))]);
    // A suspicion that arrived just before the failure claim.
    node.receive("b", suspect("a", 1, "b"));
    node.pass(MILLI * 500);
    node.receive("b", failed("a", 1));
    assert_eq!((node.state("a"), node.events()), (Some(State::Suspect), vec![Event::Suspected(id("a", 10))]));
}

#[test]
fn a_node_that_missed_the_suspicion_does_not_wait_for_its_full_timeout() {
    let mut node = Node::among(5, |_| ());
    node.receive("b", failed("a", 0));
    let mut lasted = 0;
    while node.state("a") == Some(State::Suspect) && lasted < 30_000 {
        node.pass(MILLI * 20);
        node.answer_probes_but(Some("a"));
        lasted += 20;
    }
    assert!((1_500..=1_520).contains(&lasted), "{lasted} ms");
}

#[test]
fn a_failure_claim_about_a_suspect_that_was_heard_from_is_not_accepted_at_once() {
    let mut node = Node::among(5, |_| ());
    node.receive("b", suspect("a", 0, "z"));
    node.pass_answering(SECOND * 3);
    // Its refutation is lost, but it is alive.
    let ping = Message::Ping { sequence: 7, target: id("me", 100), generation: 10, incarnation: 0 };
    node.receive("a", ping);
    node.receive("b", failed("a", 0));
    assert_eq!(node.state("a"), Some(State::Suspect));
    let mut lasted = 0;
    while node.state("a") == Some(State::Suspect) && lasted < 10_000 {
        node.pass(MILLI * 20);
        node.answer_probes_but(Some("a"));
        if lasted < 900 {
            // A repeated claim postpones nothing and is not accepted before a refutation could have
            // arrived.
            node.receive("c", failed("a", 0));
        }
        lasted += 20;
    }
    assert!((3_300..=3_400).contains(&lasted), "{lasted} ms");
}

#[test]
fn a_failure_claim_in_a_list_waits_for_no_confirmations() {
    let mut node = Node::among(5, |_| ());
    let mut entry = departed("a", 10, 0, State::Failed, 100);
    entry.record.address = Node::at("a");
    node.list_from("b", vec![entry]);
    assert_eq!(node.events(), [Event::Suspected(id("a", 10))]);
    let mut lasted = 0;
    while node.state("a") == Some(State::Suspect) && lasted < 30_000 {
        node.pass(MILLI * 20);
        node.answer_probes_but(Some("a"));
        lasted += 20;
    }
    assert!((3_300..=3_400).contains(&lasted), "{lasted} ms");
}

/// An authenticated peer that never joined can make claims only about itself and cannot request
/// probes.
#[test]
fn claims_about_third_parties_from_a_peer_that_never_joined_are_rejected() {
    let non_member = "z";
    let mut node = Node::among(3, |_| ());
    let victim = name("a");
    let claims = [
        alive("y", 10, 0),
        alive("a", 11, 0),
        suspect("a", 0, "z"),
        failed("a", 0),
        Message::Left { id: id("a", 10), incarnation: 0 },
        Message::PingRequest { sequence: 1, target: id("y", 10), address: address(77) },
    ];
    for claim in claims {
        let refused = node.machine.statistics().ignored_not_member;
        node.receive(non_member, claim.clone());
        assert_eq!(node.machine.statistics().ignored_not_member, refused + 1, "{claim:?}");
        assert_eq!(node.events(), [], "{claim:?}");
        // Nothing is sent except the request to introduce itself.
        for sent in node.sent() {
            assert_eq!((sent.to.name, sent.messages), (Some(name(non_member)), vec![Message::Introduce]));
        }
    }
    assert_eq!(node.machine.member(victim.as_str()).unwrap().record.id.generation, 10);
    assert_eq!(node.state("a"), Some(State::Alive));
    // After it has introduced itself, it is a visible member.
    node.receive(non_member, alive(non_member, 10, 0));
    node.receive(non_member, suspect("a", 0, "z"));
    assert_eq!(node.state("a"), Some(State::Suspect));
}
