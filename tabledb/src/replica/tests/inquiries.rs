//! Answers to what members ask about a network.

use super::*;
use crate::inquiry::{
    AttachmentParts, DifferingParts, LiveWrite, MAX_ANSWER_BYTES, MAX_EXPLAINED_KEYS, Possession,
    TableAnswer, TableQuestion,
};
use crate::{ArrivalPath, EntryState};

fn explain(replica: &Replica, key: &str, now: Instant) -> crate::EntryExplanation {
    replica.explain(NET, TABLE, key, now).unwrap()
}

/// What `asked` holds of the parts of `of`'s entries that differ from those of `asking`.
fn differing(
    cluster: &Cluster,
    asking: usize,
    asked: usize,
    of: usize,
) -> (Vec<AttachmentParts>, DifferingParts) {
    let inspected = cluster.replicas[of].inspect(NET, cluster.now).unwrap();
    let epoch = inspected.attachments[&name(of)].epoch;
    let owner = cluster.replicas[of].node().clone();
    let parts = cluster.replicas[asking].parts_of(NET, &[(owner, epoch)]).unwrap();
    let question = TableQuestion::Parts { network: NET.to_owned(), attachments: parts.clone() };
    match cluster.replicas[asked].answer(&name(asking), &question, cluster.now) {
        TableAnswer::Parts(answer) => (parts, answer),
        other => panic!("{other:?}"),
    }
}

#[test]
fn how_an_entry_came_is_kept_for_the_latest_arrivals() {
    let mut cluster = Cluster::joined(2);
    cluster.create(0, "first", "1");
    cluster.run(Duration::from_secs(1));
    let arrival = |cluster: &Cluster, at: usize, key: &str| {
        explain(&cluster.replicas[at], key, cluster.now).held.unwrap().arrival
    };
    assert_eq!(arrival(&cluster, 1, "first").unwrap().path, ArrivalPath::Gossip);
    for number in 0..4096 {
        cluster.create(0, &format!("k{number}"), "v");
    }
    cluster.run(Duration::from_secs(2));
    assert_eq!(arrival(&cluster, 1, "first"), None, "it is not kept any more");
    let last = arrival(&cluster, 1, "k4095").unwrap();
    assert_ne!((last.path, last.from), (ArrivalPath::Local, None));
    // What a node wrote itself needs no record.
    assert_eq!(arrival(&cluster, 0, "first").unwrap().path, ArrivalPath::Local);
}

#[test]
fn a_node_that_is_not_on_the_network_is_told_nothing() {
    let mut cluster = Cluster::strangers(2, |_| {});
    cluster.join(0);
    cluster.settle();
    cluster.create(0, "k", "v");
    let keys = vec![(TABLE.to_owned(), "k".to_owned())];
    let question = TableQuestion::Explain { network: NET.to_owned(), keys };
    let ask = |cluster: &Cluster| cluster.replicas[0].answer(&name(1), &question, cluster.now);
    assert_eq!(ask(&cluster), TableAnswer::NotMember);
    cluster.join(1);
    cluster.settle();
    let TableAnswer::Explained(explained) = ask(&cluster) else { panic!("{:?}", ask(&cluster)) };
    assert_eq!(explained[0].state, EntryState::Visible);
}

#[test]
fn the_keys_that_differ_are_found_in_both_directions_whatever_the_size() {
    let mut cluster = Cluster::joined(2);
    for number in 0..2000 {
        cluster.create(0, &format!("k{number:04}"), "v");
    }
    cluster.run(Duration::from_secs(2));
    cluster.part(0, 1);
    cluster.update(0, "k0500", "newer");
    cluster.delete(0, "k1500");
    cluster.create(0, "new", "v");
    let keys = |asking: usize, asked: usize| {
        let (parts, answer) = differing(&cluster, asking, asked, 0);
        assert!(!answer.more && answer.parts.len() < 8, "{} parts", answer.parts.len());
        let mut keys = cluster.replicas[asking].differing_keys(NET, &parts, &answer, 100);
        keys.sort_unstable();
        keys.into_iter().map(|(_, key)| key).collect::<Vec<_>>()
    };
    assert_eq!(keys(0, 1), ["k0500", "k1500", "new"]);
    assert_eq!(keys(1, 0), ["k0500", "k1500", "new"]);
}

#[test]
fn answers_are_bounded_and_bad_ones_are_read_without_harm() {
    let mut cluster = Cluster::joined(2);
    cluster.part(0, 1);
    let long = "k".repeat(1000);
    for number in 0..1000 {
        cluster.create(0, &format!("{long}{number}"), "v");
    }
    // The other holds nothing of it: all of it differs, and only the beginning fits.
    let (parts, answer) = differing(&cluster, 1, 0, 0);
    let bytes = wire::codec::encode(&answer).len();
    assert!(bytes <= MAX_ANSWER_BYTES && bytes > MAX_ANSWER_BYTES / 2, "{bytes}");
    assert!(!answer.parts.last().unwrap().whole);
    assert_eq!(cluster.replicas[1].differing_keys(NET, &parts, &answer, 5).len(), 5);
    let question = TableQuestion::Explain {
        network: NET.to_owned(),
        keys: vec![(TABLE.to_owned(), "k".to_owned()); 10 * MAX_EXPLAINED_KEYS],
    };
    let TableAnswer::Explained(explained) = cluster.replicas[0].answer(&name(1), &question, cluster.now)
    else {
        panic!("it is a member")
    };
    assert_eq!(explained.len(), MAX_EXPLAINED_KEYS);
    // Places that were not asked for, and numbers out of range.
    let mut bad = answer;
    for (at, part) in bad.parts.iter_mut().enumerate() {
        (part.attachment, part.part) = if at == 0 { (7, 0) } else { (0, u32::MAX) };
    }
    assert_eq!(cluster.replicas[1].differing_keys(NET, &parts, &bad, 5), []);
    let write = LiveWrite { number: u64::MAX, digest: 0, table: String::new(), key: String::new() };
    for whole in [true, false] {
        bad.parts.truncate(1);
        let part = &mut bad.parts[0];
        (part.attachment, part.part, part.whole, part.live) = (0, 0, whole, vec![write.clone()]);
        assert_eq!(cluster.replicas[1].differing_keys(NET, &parts, &bad, 5).len(), 1);
    }
    for width in [0, u64::MAX] {
        let mut parts = parts.clone();
        (parts[0].width, parts[0].digests) = (width, vec![1; 3]);
        let question = TableQuestion::Parts { network: NET.to_owned(), attachments: parts };
        assert!(matches!(
            cluster.replicas[0].answer(&name(1), &question, cluster.now),
            TableAnswer::Parts(_)
        ));
    }
}

#[test]
fn a_member_knows_whether_it_has_a_write() {
    let mut cluster = Cluster::strangers(2, |config| config.limits.value_bytes = 10);
    cluster.join(0);
    cluster.join(1);
    cluster.settle();
    cluster.part(0, 1);
    let now = cluster.now;
    let version = cluster.replicas[0].create(NET, TABLE, "k", "v", now).unwrap();
    let known = |cluster: &Cluster| {
        let (network, within) = (NET.to_owned(), Duration::ZERO);
        let question = TableQuestion::Known { network, version, within };
        cluster.replicas[1].answer(&name(0), &question, cluster.now)
    };
    assert_eq!(known(&cluster), TableAnswer::Known(Possession::Lacks));
    // What has superseded it will do as well.
    cluster.update(0, "k", "w");
    cluster.heal();
    cluster.run(Duration::from_secs(2));
    assert_eq!(known(&cluster), TableAnswer::Known(Possession::Holds));
}
