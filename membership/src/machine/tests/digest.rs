//! Which differences the digest of a member list reflects.

use super::*;

/// Among a, b and c, after these messages.
fn after(messages: &[Message]) -> Node {
    let mut node = Node::among(3, |_| {});
    messages.iter().for_each(|message| node.receive("b", message.clone()));
    node
}

#[test]
fn the_digest_reflects_every_difference_that_a_list_comparison_resolves() {
    let digest = |messages: &[Message]| after(messages).machine.digest();
    let differing = [
        ("nothing", vec![]),
        ("a later incarnation", vec![alive("a", 10, 1)]),
        ("the one after", vec![alive("a", 10, 2)]),
        ("a later instance", vec![alive("a", 11, 0)]),
        ("a later incarnation of another", vec![alive("c", 10, 1)]),
        // Labels and address may have changed with it.
        ("an incarnation whose record has not arrived", vec![suspect("a", 1, "b")]),
        ("a new member", vec![alive("d", 10, 0)]),
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
        let mut node = Node::among(2, |_| {});
        for (generation, incarnation) in entries {
            node.list_from("a", vec![departed("dead", *generation, *incarnation, State::Failed, 5)]);
        }
        node.machine.digest()
    };
    let all = [with(&[]), with(&[(10, 0)]), with(&[(10, 1)]), with(&[(11, 0)])];
    for (index, digest) in all.iter().enumerate() {
        assert!(!all[..index].contains(digest), "{index}");
    }
    let mut node = Node::among(3, |_| {});
    let alive = node.machine.digest();
    node.fail("b", "a", 0);
    assert_ne!(node.machine.digest(), alive, "a node that considers it alive differs");
    assert_eq!(with(&[(10, 0), (11, 0)]), with(&[(11, 0)]), "the later instance replaces the earlier");
    assert_eq!(with(&[(11, 0), (10, 7)]), with(&[(11, 0)]), "and not the other way round");
}

#[test]
fn the_digest_counts_own_labels_and_incarnations_as_others_do() {
    let mut other = Node::among(3, |_| {});
    let digest = |node: &Node| node.machine.digest();
    let mut node = Node::among(3, |_| {});
    assert_eq!(digest(&node), digest(&other));
    let now = node.now;
    let labels = BTreeMap::from([("rack".to_owned(), "7".to_owned())]);
    node.machine.update_labels(labels, now).expect("short labels");
    assert_ne!(digest(&node), digest(&other), "a node that has not received the labels differs");
    other.machine.update_labels(BTreeMap::from([("rack".to_owned(), "8".to_owned())]), now).expect("short");
    assert_eq!(digest(&node), digest(&other), "an incarnation has one record, and only its node writes it");
}

#[test]
fn suspicion_and_left_members_do_not_change_the_digest() {
    let digest = |messages: &[Message]| after(messages).machine.digest();
    assert_eq!(digest(&[suspect("a", 0, "b")]), digest(&[]));
    let left = Message::Left { id: id("a", 10), incarnation: 0 };
    let mut never_knew = Node::new(|_| {});
    for peer in ["b", "c"] {
        never_knew.receive(peer, alive(peer, 10, 0));
    }
    assert_eq!(digest(&[left]), never_knew.machine.digest());
}

#[test]
fn a_later_failed_instance_replaces_an_earlier_departed_one() {
    let mut node = Node::among(3, |_| {});
    node.list_from("a", vec![departed("dead", 10, 0, State::Failed, 5)]);
    node.events();
    node.list_from("b", vec![departed("dead", 11, 0, State::Failed, 7)]);
    let learned = node.events();
    assert!(
        matches!(&learned[..], [Event::LearnedFailed(record)] if record.id == id("dead", 11)),
        "{learned:?}"
    );
    node.list_from("a", vec![departed("dead", 10, 0, State::Failed, 5)]);
    assert_eq!(node.events(), []);
    // One that left does not prevent a later one from being recorded as failed.
    node.list_from("b", vec![departed("other", 10, 0, State::Failed, 5)]);
    node.events();
    node.list_from("b", vec![departed("other", 11, 0, State::Left, 5)]);
    assert_eq!(node.events(), [Event::Forgotten(id("other", 10))], "no node keeps entries of it");
    node.list_from("b", vec![departed("other", 12, 0, State::Failed, 5)]);
    assert_eq!(node.state("other"), Some(State::Failed));
}

#[test]
fn a_claim_about_an_unknown_failed_node_does_not_prevent_learning_it_from_a_list() {
    let mut node = Node::among(3, |_| {});
    node.receive("b", Message::Failed { id: id("dead", 10), incarnation: 0, accuser: name("b") });
    assert_eq!(node.state("dead"), None, "a claim without a record creates no member");
    node.list_from("a", vec![departed("dead", 10, 0, State::Failed, 5)]);
    assert_eq!(
        node.state("dead"),
        Some(State::Failed),
        "otherwise its tables would contain less than those of other nodes"
    );
}

#[test]
fn failed_members_are_removed_by_all_nodes_when_their_retention_expires() {
    let retention = SECOND * 60;
    let mut node = Node::among(3, |config| config.departed_retention = retention);
    node.list_from(
        "a",
        vec![departed("dead", 10, 0, State::Failed, 20), departed("late", 10, 0, State::Failed, 0)],
    );
    node.pass_answering(SECOND * 30);
    // Another node saw it fail earlier.
    node.list_from("b", vec![departed("late", 10, 0, State::Failed, 50)]);
    node.pass_answering(SECOND * 9);
    assert_eq!((node.state("dead"), node.state("late")), (Some(State::Failed), Some(State::Failed)));
    node.pass_answering(SECOND * 2);
    assert_eq!((node.state("dead"), node.state("late")), (None, None), "not only at the next check");
    // A node that still keeps it is notified and removes it too.
    node.sent();
    node.list_from("c", vec![departed("dead", 10, 0, State::Failed, 3)]);
    assert_eq!(node.state("dead"), None);
    let reported = node.sent_to("c").into_iter().find(|message| matches!(message, Message::Forgotten { .. }));
    assert_eq!(reported, Some(Message::Forgotten { id: id("dead", 10), incarnation: 0 }));
    node.list_from("c", vec![departed("third", 10, 3, State::Failed, 3)]);
    node.events();
    for (generation, incarnation) in [(9, 7), (10, 2)] {
        node.receive("b", Message::Forgotten { id: id("third", generation), incarnation });
        assert_eq!(node.state("third"), Some(State::Failed), "it is later, or has refuted since");
    }
    node.receive("b", Message::Forgotten { id: id("third", 10), incarnation: 3 });
    assert_eq!((node.state("third"), node.events()), (None, vec![Event::Forgotten(id("third", 10))]));
    node.receive("b", Message::Forgotten { id: id("a", 10), incarnation: 0 });
    assert_eq!(node.state("a"), Some(State::Alive), "only failed members are removed");
}

#[test]
fn the_digest_follows_a_failed_member_that_is_suspected_in_a_later_incarnation() {
    let mut node = Node::among(3, |_| {});
    node.fail("b", "a", 0);
    node.receive("b", suspect("a", 1, "b"));
    assert_eq!(node.state("a"), Some(State::Suspect));
    assert_eq!(node.machine.digest(), after(&[suspect("a", 1, "b")]).machine.digest());
    node.receive("b", alive("a", 10, 2));
    assert_eq!(node.machine.digest(), after(&[alive("a", 10, 2)]).machine.digest());
}
