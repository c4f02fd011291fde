//! What members answer when one of them asks: about an entry, a member, their agreement, and the arrival of a write.

use std::time::Duration;

use integration_tests::cluster::{Cluster, Key, MILLISECOND, Peer, SECOND, Settings};
use integration_tests::fabric::{Latency, Link};
use membership::State;
use networkdb::{
    AgreementReport, DifferenceReason, InquiryError, InquiryReport, KnownBy, MemberAnswer, Missing, NoAnswer,
    Receipt,
};
use tabledb::{ArrivalPath, EntryExplanation, EntryState, HiddenReason, Limits, RefusedBecause, Version};

const NET: &str = "blue";
const K: Key<'static> = Key::new(NET, "services", "k");

fn settled<const N: usize>(seed: u64, names: [&str; N]) -> (Cluster, [Peer; N]) {
    Cluster::settled(Settings::seeded(seed), names, NET)
}

fn explain(
    cluster: &mut Cluster,
    peer: Peer,
    within: Duration,
) -> (Vec<MemberAnswer<EntryExplanation>>, Duration) {
    let ask = cluster.inquire(peer, |machine, now| machine.explain_entry(NET, K.table, K.key, within, now));
    let (InquiryReport::Entry(rows), taken) = ask else { panic!("{ask:?} is not about an entry") };
    (rows, taken)
}

fn agreement(cluster: &mut Cluster, peer: Peer) -> AgreementReport {
    match cluster.inquire(peer, |machine, now| machine.compare_members(NET, SECOND, now)) {
        (InquiryReport::Agreement(report), _) => report,
        other => panic!("{other:?} is not about agreement"),
    }
}

fn known_by(
    cluster: &mut Cluster,
    peer: Peer,
    version: Version,
    wanted: KnownBy,
    within: Duration,
) -> (Receipt, Duration) {
    match cluster.inquire(peer, |machine, now| machine.await_known(NET, version, wanted, within, now)) {
        (InquiryReport::Receipt(receipt), taken) => (receipt, taken),
        other => panic!("{other:?} is no receipt"),
    }
}

fn names(rows: &[MemberAnswer<EntryExplanation>]) -> Vec<&str> {
    rows.iter().map(|row| row.member.as_str()).collect()
}

fn version(cluster: &Cluster, peer: Peer) -> Version {
    cluster.machine(peer).tables().get(NET, K.table, K.key).expect("it shows the key").version()
}

#[test]
fn an_entry_is_explained_by_every_member() {
    let (mut cluster, [a, b, c, d]) = settled(2001, ["a", "b", "c", "d"]);
    cluster.create(a, K, "one");
    cluster.await_shown(&[a, b, c, d], K, "one", SECOND);
    let first = version(&cluster, a);
    cluster.update(b, K, "two");
    cluster.await_shown(&[a, b, c, d], K, "two", SECOND);
    cluster.run_for(2 * SECOND);
    let (rows, taken) = explain(&mut cluster, c, SECOND);
    assert!(taken < 100 * MILLISECOND, "{taken:?}");
    assert_eq!(names(&rows), ["a", "b", "c", "d"]);
    for row in &rows {
        let known = row.answer.as_ref().unwrap();
        let held = known.held.as_ref().unwrap();
        let arrival = held.arrival.as_ref().unwrap();
        assert_eq!((known.state, held.bytes, held.version), (EntryState::Visible, 3, version(&cluster, b)));
        assert_eq!(held.owner.name.as_str(), "b");
        let from = arrival.from.as_ref().map(|from| from.as_str());
        let expected = match row.member.as_str() {
            "b" => (ArrivalPath::Local, None),
            _ => (ArrivalPath::Gossip, Some("b")),
        };
        assert_eq!((arrival.path, from), expected, "{row:?}");
        let (replaced, writer) = arrival.replaced.as_ref().unwrap();
        assert_eq!((*replaced, writer.as_str()), (first, "a"));
        assert!(arrival.age.is_some_and(|age| age >= 2 * SECOND), "{arrival:?}");
    }

    cluster.delete(a, K);
    cluster.await_absent(&[a, b, c, d], K, SECOND);
    // One that hangs is a row after the time that the caller sets, and one that has failed at once.
    cluster.pause(d);
    let (rows, taken) = explain(&mut cluster, c, 500 * MILLISECOND);
    assert_eq!(rows[3].answer.as_ref().err(), Some(&NoAnswer::Late));
    assert!(taken <= 501 * MILLISECOND, "{taken:?}");
    let deleted = rows[0].answer.as_ref().unwrap();
    let residual = deleted.held.as_ref().unwrap().residual.unwrap();
    assert_eq!(deleted.state, EntryState::Deleted);
    assert!(residual > Duration::from_secs(29 * 60), "{residual:?}");
    cluster.run_until("d has failed", 30 * SECOND, |cluster| cluster.state_of(c, d) == Some(State::Failed));
    let (rows, taken) = explain(&mut cluster, c, SECOND);
    assert_eq!(rows[3].answer.as_ref().err(), Some(&NoAnswer::Failed));
    assert!(taken < 100 * MILLISECOND, "{taken:?}");
    cluster.resume(d);
    cluster.assert_promises();
}

#[test]
fn only_members_of_a_network_ask_about_it() {
    let (mut cluster, [a, _]) = settled(2002, ["a", "b"]);
    let stranger = cluster.start_with_seeds("stranger", &[a]);
    cluster.create(a, K, "one");
    cluster.run_for(5 * SECOND);
    let refused = cluster
        .cannot_inquire(stranger, |machine, now| machine.explain_entry(NET, K.table, K.key, SECOND, now));
    assert_eq!(refused, InquiryError::NotJoined { network: NET.to_owned() });
    assert_eq!(cluster.machine(stranger).inquiry_statistics().asked, 0);
}

#[test]
fn a_failed_member_is_explained_by_the_others() {
    let (mut cluster, [a, b, c]) = settled(2003, ["a", "b", "c"]);
    let ask = |cluster: &mut Cluster, name: &'static str| {
        let ask = cluster.inquire(a, |machine, now| machine.explain_member(name, SECOND, now));
        let (InquiryReport::Member(rows), _) = ask else { panic!("{ask:?} is not about a member") };
        rows
    };
    let rows = ask(&mut cluster, "b");
    let [of_a, of_b, of_c] = &rows[..] else { panic!("{rows:?}") };
    for row in [of_a, of_c] {
        let known = row.answer.as_ref().unwrap().as_ref().unwrap();
        assert_eq!((known.state, &known.accusation), (State::Alive, &None));
        let answer = known.acknowledged.as_ref().unwrap();
        assert!(answer.age < 4 * SECOND && answer.round_trip < 50 * MILLISECOND, "{answer:?}");
    }
    assert_eq!(of_b.answer.as_ref().unwrap().as_ref().unwrap().id, cluster.id(b));

    cluster.kill(b);
    cluster.run_until("b has failed", 30 * SECOND, |cluster| {
        [a, c].iter().all(|peer| cluster.state_of(*peer, b) == Some(State::Failed))
    });
    let rows = ask(&mut cluster, "b");
    assert_eq!(rows[1].answer, Err(NoAnswer::Failed));
    for row in [&rows[0], &rows[2]] {
        let known = row.answer.as_ref().unwrap().as_ref().unwrap();
        let accusation = known.accusation.as_ref().unwrap();
        let mut accusers = vec![accusation.accuser.as_str()];
        accusers.extend(accusation.confirmed_by.iter().map(|name| name.as_str()));
        accusers.sort_unstable();
        assert_eq!((known.state, accusers), (State::Failed, vec!["a", "c"]));
        assert!(accusation.failed_by.is_some() && accusation.ends_in.is_none(), "{accusation:?}");
    }
    let unknown = cluster.cannot_inquire(a, |machine, now| machine.explain_member("x", SECOND, now));
    assert_eq!(unknown, InquiryError::UnknownMember { name: "x".to_owned() });
}

#[test]
fn a_member_that_receives_nothing_is_found_with_its_keys_and_seen_without_asking() {
    let (mut cluster, [a, b, c]) = settled(2004, ["a", "b", "c"]);
    // Enough for digests of several parts.
    cluster.load(a, NET, "many", "m-", 200, b"value");
    cluster.await_agreement(NET, 10 * SECOND);
    cluster.run_for(3 * SECOND);
    let report = agreement(&mut cluster, b);
    assert!(report.agree() && report.differences.is_empty() && !report.more, "{report:?}");
    assert_eq!(report.disagreement, Duration::ZERO);

    let rules = cluster.isolate_tables(c, &[a, b]);
    cluster.create(a, K, "lost");
    cluster.update(b, Key::new(NET, "many", "m-150"), "newer");
    cluster.run_for(40 * SECOND);
    let report = agreement(&mut cluster, b);
    assert!(!report.agree() && !report.more, "{report:?}");
    let keys: Vec<_> = report.differences.iter().map(|found| (found.key.as_str(), found.reason)).collect();
    assert_eq!(keys, [("m-150", DifferenceReason::NotArrived), ("k", DifferenceReason::NotArrived)]);
    let of_c = &report.differences[1].members[2];
    assert_eq!(of_c.answer.as_ref().unwrap().state, EntryState::Absent);
    assert!(report.disagreement > 30 * SECOND, "{:?}", report.disagreement);

    cluster.remove_rules(rules);
    cluster.await_agreement(NET, 40 * SECOND);
    let gone = |cluster: &Cluster| {
        [a, b, c].iter().all(|peer| {
            let statistics = cluster.machine(*peer).tables().statistics(NET);
            statistics.is_some_and(|statistics| statistics.disagreement == Duration::ZERO)
        })
    };
    cluster.run_until("no node sees a difference", 20 * SECOND, gone);
    assert!(agreement(&mut cluster, b).agree());
    cluster.assert_promises();
}

#[test]
fn a_member_that_refuses_is_found_with_its_reason() {
    let (mut cluster, [a, b]) = settled(2005, ["a", "b"]);
    let small = cluster.add("small");
    cluster.set_limits(small, Limits { entries: 2, ..Limits::default() });
    cluster.start_instance(small, &[a]);
    cluster.join_network([small], NET);
    for key in ["1", "2", "3"] {
        cluster.create(a, Key::new(NET, "services", key), key);
    }
    cluster.run_for(40 * SECOND);
    let report = agreement(&mut cluster, a);
    let [difference] = &report.differences[..] else { panic!("{report:?}") };
    assert_eq!((difference.key.as_str(), difference.reason), ("3", DifferenceReason::Refused));
    let refused = difference.members[2].answer.as_ref().unwrap().refused.as_ref().unwrap();
    assert_eq!((refused.because, refused.owner.as_str()), (RefusedBecause::NetworkFull, "a"));
    let lasting = cluster.machine(small).tables().statistics(NET).unwrap().disagreement;
    assert!(lasting > 30 * SECOND, "{lasting:?}");
    assert!(cluster.is_running(b));
}

#[test]
fn entries_that_one_member_hides_are_a_difference() {
    // What the broken member does is no promise kept: nothing is checked here.
    let settings = Settings { watched: false, inspection: None, ..Settings::seeded(2006) };
    let (mut cluster, [a, b, c]) = Cluster::settled(settings, ["a", "b", "c"], NET);
    cluster.create(c, K, "of c");
    cluster.await_agreement(NET, SECOND);
    // A broken member: its tables take the owner for failed, and nothing tells them better.
    let (owner, now) = (cluster.id(c), cluster.instant(b));
    cluster.machine(b).replica().handle_owner_failed(&owner, now);
    let report = agreement(&mut cluster, a);
    let [difference] = &report.differences[..] else { panic!("{report:?}") };
    assert_eq!(difference.reason, DifferenceReason::Hidden);
    let states: Vec<_> =
        difference.members.iter().map(|row| row.answer.as_ref().ok().map(|known| known.state)).collect();
    assert!(states.contains(&Some(EntryState::Hidden(HiddenReason::OwnerFailed))), "{states:?}");
}

#[test]
fn a_write_is_known_by_all_under_loss_with_one_question_a_member() {
    let (mut cluster, peers @ [a, ..]) = settled(2007, ["a", "b", "c", "d", "e"]);
    let link =
        Link { latency: Latency::Uniform(MILLISECOND, 10 * MILLISECOND), loss: 0.3, ..Link::default() };
    cluster.set_links(link);
    let mut slowest = Duration::ZERO;
    for round in 0..20 {
        let value = format!("round {round}");
        match round {
            0 => cluster.create(a, K, &value),
            _ => cluster.update(a, K, &value),
        }
        let written = version(&cluster, a);
        let before = cluster.machine(a).inquiry_statistics().asked;
        let (receipt, taken) = known_by(&mut cluster, a, written, KnownBy::All, 10 * SECOND);
        assert!(receipt.is_complete() && receipt.missing.is_empty(), "{receipt:?}");
        assert!(peers.iter().all(|peer| cluster.shows(*peer, K, &value)), "a receipt is not a guess");
        assert_eq!(cluster.machine(a).inquiry_statistics().asked - before, 4);
        slowest = slowest.max(taken);
    }
    // In virtual time: a member answers when it has the write, and not at the end of the time.
    assert!(slowest < 4 * SECOND, "the slowest of 20 writes was known by all after {slowest:?}");
    cluster.assert_promises();
}

#[test]
fn a_receipt_names_who_is_missing() {
    let (mut cluster, [a, b, c]) = settled(2008, ["a", "b", "c"]);
    let rules = cluster.isolate_tables(c, &[a, b]);
    cluster.create(a, K, "one");
    let written = version(&cluster, a);
    // Two of three are enough, and nobody waits for the third.
    let (receipt, taken) = known_by(&mut cluster, a, written, KnownBy::Majority, 2 * SECOND);
    assert!(receipt.is_complete() && receipt.wanted == 2, "{receipt:?}");
    assert_eq!(receipt.missing[0].1, Missing::NoAnswer(NoAnswer::NotAwaited));
    assert!(taken < 200 * MILLISECOND, "{taken:?}");
    let (receipt, taken) = known_by(&mut cluster, a, written, KnownBy::All, 2 * SECOND);
    let missing: Vec<_> = receipt.missing.iter().map(|(name, why)| (name.as_str(), *why)).collect();
    assert_eq!(missing, [("c", Missing::NotArrived)]);
    assert!(!receipt.is_complete() && taken <= 2 * SECOND, "{receipt:?} {taken:?}");
    // It answers as soon as the write arrives.
    cluster.remove_rules(rules);
    let (receipt, taken) = known_by(&mut cluster, a, written, KnownBy::All, 20 * SECOND);
    assert!(receipt.is_complete() && taken < 15 * SECOND, "{receipt:?} {taken:?}");
    cluster.pause(c);
    cluster.update(b, K, "two");
    let written = version(&cluster, b);
    let (receipt, taken) = known_by(&mut cluster, b, written, KnownBy::Members(3), 500 * MILLISECOND);
    let missing: Vec<_> = receipt.missing.iter().map(|(name, why)| (name.as_str(), *why)).collect();
    assert_eq!(missing, [("c", Missing::NoAnswer(NoAnswer::Late))]);
    assert!(taken <= 501 * MILLISECOND, "{taken:?}");
    cluster.resume(c);
    cluster.await_agreement(NET, 10 * SECOND);
    cluster.assert_promises();
}
