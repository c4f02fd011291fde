//! What the digest of a member list tells apart, and what it does not.

use super::*;

/// Among a, b, c; what was received, and what came of it.
fn after(messages: &[Message]) -> Lone {
    let mut lone = Lone::among(3, |_| {});
    messages.iter().for_each(|message| lone.receive("b", message.clone()));
    lone
}

#[test]
fn the_digest_tells_every_difference_that_a_comparison_of_lists_mends() {
    let digest = |messages: &[Message]| after(messages).machine.digest();
    let differing = [
        ("nothing", vec![]),
        ("a later incarnation", vec![alive("a", 10, 1)]),
        ("the one after", vec![alive("a", 10, 2)]),
        ("a later instance", vec![alive("a", 11, 0)]),
        ("a later incarnation of another", vec![alive("c", 10, 1)]),
        // Labels and address may have changed with it.
        ("an incarnation whose record has not come", vec![suspect("a", 1, "b")]),
        ("a newcomer", vec![alive("d", 10, 0)]),
        ("one that left", vec![Message::Left { id: id("a", 10), incarnation: 0 }]),
    ];
    let digests = differing.iter().map(|(what, messages)| (digest(messages), *what)).collect::<Vec<_>>();
    for (index, (digest, what)) in digests.iter().enumerate() {
        let equal = digests[..index].iter().find(|(other, _)| other == digest);
        assert_eq!(equal.map(|(_, other)| other), None, "{what}");
    }
}

#[test]
fn the_digest_counts_the_failed_by_instance_and_incarnation() {
    let with = |entries: &[(u64, u64)]| {
        let mut lone = Lone::among(2, |_| {});
        for (generation, incarnation) in entries {
            lone.list_from("a", vec![gone("dead", *generation, *incarnation, State::Failed, 5)]);
        }
        lone.machine.digest()
    };
    let all = [with(&[]), with(&[(10, 0)]), with(&[(10, 1)]), with(&[(11, 0)])];
    for (index, digest) in all.iter().enumerate() {
        assert!(!all[..index].contains(digest), "{index}");
    }
    let mut lone = Lone::among(3, |_| {});
    let alive = lone.machine.digest();
    lone.lose("b", "a", 0);
    assert_ne!(lone.machine.digest(), alive, "whoever holds it alive differs");
    assert_eq!(with(&[(10, 0), (11, 0)]), with(&[(11, 0)]), "the later instance replaces the earlier");
    assert_eq!(with(&[(11, 0), (10, 7)]), with(&[(11, 0)]), "and not the other way round");
}

#[test]
fn the_digest_counts_own_labels_and_incarnations_as_others_do() {
    let mut other = Lone::among(3, |_| {});
    let digest = |lone: &Lone| lone.machine.digest();
    let mut lone = Lone::among(3, |_| {});
    assert_eq!(digest(&lone), digest(&other));
    let now = lone.now;
    let labels = BTreeMap::from([("rack".to_owned(), "7".to_owned())]);
    lone.machine.update_labels(labels, now).expect("short labels");
    assert_ne!(digest(&lone), digest(&other), "whoever has not heard of the labels differs");
    other.machine.update_labels(BTreeMap::from([("rack".to_owned(), "8".to_owned())]), now).expect("short");
    assert_eq!(digest(&lone), digest(&other), "an incarnation has one record, and only its node writes it");
}

#[test]
fn to_be_suspected_or_to_have_left_long_ago_is_no_difference() {
    let digest = |messages: &[Message]| after(messages).machine.digest();
    assert_eq!(digest(&[suspect("a", 0, "b")]), digest(&[]));
    let left = Message::Left { id: id("a", 10), incarnation: 0 };
    let mut never_knew = Lone::new(|_| {});
    for peer in ["b", "c"] {
        never_knew.receive(peer, alive(peer, 10, 0));
    }
    assert_eq!(digest(&[left]), never_knew.machine.digest());
}

#[test]
fn a_later_failed_instance_takes_the_place_of_an_earlier_one_that_is_gone_too() {
    let mut lone = Lone::among(3, |_| {});
    lone.list_from("a", vec![gone("dead", 10, 0, State::Failed, 5)]);
    lone.events();
    lone.list_from("b", vec![gone("dead", 11, 0, State::Failed, 7)]);
    let learned = lone.events();
    assert!(
        matches!(&learned[..], [Event::LearnedFailed(record)] if record.id == id("dead", 11)),
        "{learned:?}"
    );
    lone.list_from("a", vec![gone("dead", 10, 0, State::Failed, 5)]);
    assert_eq!(lone.events(), []);
    // One that left is no longer in the way of a later one that failed.
    lone.list_from("b", vec![gone("other", 10, 0, State::Failed, 5)]);
    lone.events();
    lone.list_from("b", vec![gone("other", 11, 0, State::Left, 5)]);
    assert_eq!(lone.events(), [Event::Forgotten(id("other", 10))], "nobody keeps anything of it");
    lone.list_from("b", vec![gone("other", 12, 0, State::Failed, 5)]);
    assert_eq!(lone.state("other"), Some(State::Failed));
}

#[test]
fn what_was_only_heard_of_a_failed_member_does_not_keep_it_from_being_learned() {
    let mut lone = Lone::among(3, |_| {});
    lone.receive("b", Message::Failed { id: id("dead", 10), incarnation: 0, accuser: name("b") });
    assert_eq!(lone.state("dead"), None, "no member is made of a claim without a record");
    lone.list_from("a", vec![gone("dead", 10, 0, State::Failed, 5)]);
    assert_eq!(lone.state("dead"), Some(State::Failed), "or its tables would hold less than the others'");
}

#[test]
fn the_failed_are_forgotten_when_their_time_is_over_and_by_all() {
    let retention = SECOND * 60;
    let mut lone = Lone::among(3, |config| config.departed_retention = retention);
    lone.list_from("a", vec![gone("dead", 10, 0, State::Failed, 20), gone("late", 10, 0, State::Failed, 0)]);
    lone.pass_in_peace(SECOND * 30);
    // Another saw it fail earlier.
    lone.list_from("b", vec![gone("late", 10, 0, State::Failed, 50)]);
    lone.pass_in_peace(SECOND * 9);
    assert_eq!((lone.state("dead"), lone.state("late")), (Some(State::Failed), Some(State::Failed)));
    lone.pass_in_peace(SECOND * 2);
    assert_eq!((lone.state("dead"), lone.state("late")), (None, None), "not only when somebody looks");
    // Who still holds it is told, and does the same.
    lone.sent();
    lone.list_from("c", vec![gone("dead", 10, 0, State::Failed, 3)]);
    assert_eq!(lone.state("dead"), None);
    let reported = lone.sent_to("c").into_iter().find(|message| matches!(message, Message::Forgotten { .. }));
    assert_eq!(reported, Some(Message::Forgotten { id: id("dead", 10), incarnation: 0 }));
    lone.list_from("c", vec![gone("third", 10, 3, State::Failed, 3)]);
    lone.events();
    for (generation, incarnation) in [(9, 7), (10, 2)] {
        lone.receive("b", Message::Forgotten { id: id("third", generation), incarnation });
        assert_eq!(lone.state("third"), Some(State::Failed), "it is later, or has objected since");
    }
    lone.receive("b", Message::Forgotten { id: id("third", 10), incarnation: 3 });
    assert_eq!((lone.state("third"), lone.events()), (None, vec![Event::Forgotten(id("third", 10))]));
    lone.receive("b", Message::Forgotten { id: id("a", 10), incarnation: 0 });
    assert_eq!(lone.state("a"), Some(State::Alive), "only the failed are forgotten");
}

#[test]
fn the_digest_follows_a_failed_member_that_is_suspected_in_a_later_incarnation() {
    let mut lone = Lone::among(3, |_| {});
    lone.lose("b", "a", 0);
    lone.receive("b", suspect("a", 1, "b"));
    assert_eq!(lone.state("a"), Some(State::Suspect));
    assert_eq!(lone.machine.digest(), after(&[suspect("a", 1, "b")]).machine.digest());
    lone.receive("b", alive("a", 10, 2));
    assert_eq!(lone.machine.digest(), after(&[alive("a", 10, 2)]).machine.digest());
}
