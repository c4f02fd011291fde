//! Only members receive a network's tables, whatever a modified peer asks for or claims; and a node may not
//! make claims that only another may make.

use std::collections::BTreeSet;
use std::time::Duration;

use wire::{FramePoll, NodeId, NodeName, StreamId, codec};

use super::message::{
    AttachmentId, AttachmentList, Bundle, Datagram, Event, EventBody, Frame, Open, SessionKind,
    VersionVectorEntry,
};
use super::tests::{Cluster, NET, TABLE, name, open};
use super::{Event as Happening, Transmit};

const KEY: &str = "the-key-of-the-network";
const VALUE: &str = "the-value-of-the-network";

/// Two nodes on the network, with entries in its tables, and a third that is not on it.
fn cluster() -> Cluster {
    let mut cluster = Cluster::strangers(3, |_| {});
    cluster.join(0);
    cluster.join(1);
    cluster.create(0, KEY, VALUE);
    cluster.settle();
    cluster.create(1, &format!("{KEY}-2"), VALUE);
    cluster.settle();
    cluster
}

#[track_caller]
fn sends_nothing_of_the_tables(bytes: &[u8]) {
    for text in [KEY, VALUE, TABLE] {
        let found = bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(!found, "{text} is disclosed: {}", String::from_utf8_lossy(bytes));
    }
}

/// All frames of the first node on a stream that `from` opened and sent these frames on, until it waits or
/// ends.
fn ask(cluster: &mut Cluster, from: usize, frames: &[Frame<'_>]) -> (StreamId, Vec<Vec<u8>>) {
    let now = cluster.now;
    let victim = &mut cluster.replicas[0];
    let stream = victim.handle_stream_opened(&name(from), now);
    let mut sent = Vec::new();
    for frame in frames {
        let _ = victim.handle_frame(stream, &codec::encode(frame), now);
        while let FramePoll::Frame(frame) = victim.poll_frame(stream, now) {
            sent.push(frame);
        }
    }
    (stream, sent)
}

/// A version vector that has seen nothing of what the two members have written.
fn wants_all() -> Frame<'static> {
    let entry = |owner| VersionVectorEntry {
        attachment: AttachmentId { owner, generation: 1, epoch: 2 },
        list_version: 2,
        shown: true,
        seen: Vec::new(),
    };
    Frame::VersionVector { clock: 0, entries: vec![entry("n0"), entry("n1")], last: true }
}

/// A put of the bundle's first attachment.
fn put(number: u64, key: &str) -> Event<'_> {
    let body = EventBody::Value(b"v");
    Event { attachment: 0, number, age: 0, table: 0, key, body, replaced: Vec::new() }
}

fn bundle<'a>(
    attachments: Vec<AttachmentId<'a>>,
    watermarks: Vec<(u32, u64)>,
    events: Vec<Event<'a>>,
) -> Vec<u8> {
    let bundle = Bundle {
        network: NET,
        clock: 1_000_000_000_000,
        relay: true,
        fingerprint: None,
        attachments,
        tables: vec![TABLE],
        watermarks,
        superseded: Vec::new(),
        events,
    };
    codec::encode(&Datagram::Gossip(bundle))
}

/// Everything that the first node sends to `to` in this time, while no other node sends: whole datagrams, and
/// the first frames of streams; and the peers with which it opens sessions about the network.
fn sent_to(cluster: &mut Cluster, to: usize, time: Duration) -> (Vec<Vec<u8>>, BTreeSet<NodeName>) {
    let (end, to) = (cluster.now + time, name(to));
    let (mut datagrams, mut partners) = (Vec::new(), BTreeSet::new());
    while cluster.now < end {
        let now = cluster.now;
        let victim = &mut cluster.replicas[0];
        victim.handle_timeout(now);
        while let Some(transmit) = victim.poll_transmit(now) {
            match transmit {
                Transmit::Datagram { to: whom, bytes } if whom == to => datagrams.push(bytes),
                Transmit::OpenStream { stream, to: whom } => {
                    while let FramePoll::Frame(frame) = victim.poll_frame(stream, now) {
                        let of_lists = matches!(
                            codec::decode::<Frame<'_>>(&frame),
                            Ok(Frame::Open(Open { kind: SessionKind::Lists, .. })
                                | Frame::ListVersions { .. })
                        );
                        if !of_lists {
                            partners.insert(whom.clone());
                        }
                        if whom == to {
                            datagrams.push(frame);
                        }
                    }
                    victim.handle_stream_closed(stream, now);
                }
                Transmit::Datagram { .. } | Transmit::CloseStream { .. } | Transmit::WakeStream { .. } => {}
            }
        }
        cluster.now += Duration::from_millis(10);
    }
    (datagrams, partners)
}

#[test]
fn a_non_member_receives_nothing_by_asking() {
    for kind in [SessionKind::Full, SessionKind::Pull, SessionKind::Push { relay: false }] {
        // Its list is at version 1, so it never had these epochs.
        for epoch in [0, 1] {
            let mut cluster = cluster();
            let (_, sent) = ask(&mut cluster, 2, &[open(kind, epoch), wants_all(), Frame::ChunksDone]);
            assert_eq!(sent, [codec::encode(&Frame::Busy)], "{kind:?} {epoch}");
            assert!(cluster.replicas[0].counters().refused_not_member > 0);
            assert_eq!(cluster.replicas[0].network_peers(NET), [name(0), name(1)]);
        }
    }
    // Nor under another name than the one it has proved: the sessions that it opens are its own.
    let mut cluster = cluster();
    let stranger = NodeName::new("nobody").unwrap();
    let now = cluster.now;
    let stream = cluster.replicas[0].handle_stream_opened(&stranger, now);
    let opened = codec::encode(&open(SessionKind::Full, 99));
    cluster.replicas[0].handle_frame(stream, &opened, now).unwrap();
    assert_eq!(cluster.replicas[0].poll_frame(stream, now), FramePoll::Frame(codec::encode(&Frame::Busy)));
    assert_eq!(cluster.replicas[0].poll_frame(stream, now), FramePoll::Finish);
}

#[test]
fn what_others_claim_of_a_node_gets_it_nothing() {
    let mut cluster = cluster();
    let now = cluster.now;
    // The second member claims that the third has been on the network for long, has written, and has seen
    // much.
    let third = AttachmentId { owner: "n2", generation: 1, epoch: 9 };
    let claimed = bundle(vec![third], vec![(0, 5)], vec![put(1, "k")]);
    cluster.replicas[0].handle_datagram(&name(1), &claimed, now).unwrap();
    assert_eq!(cluster.get(0, "k").as_deref(), Some("v"), "believed, as its list may be on the way");
    cluster.create(0, &format!("{KEY}-3"), VALUE);
    cluster.failed(0, 2);
    cluster.alive(0, 2);
    let (sent, partners) = sent_to(&mut cluster, 2, Duration::from_secs(90));
    sent.iter().for_each(|bytes| sends_nothing_of_the_tables(bytes));
    assert_eq!(partners, [name(1)].into(), "about the network only with its member");
    assert_eq!(cluster.replicas[0].network_peers(NET), [name(0), name(1)]);
    let digest = cluster.replicas[0].digest_for(&name(2), 1000, cluster.now).unwrap();
    assert!(codec::decode::<super::message::Digest>(&digest).unwrap().fingerprints.is_empty());
}

/// An update of the second member's attachment that it never wrote: a watermark, superseded numbers and an
/// entry.
fn forged_of_the_second() -> Vec<u8> {
    let second = AttachmentId { owner: "n1", generation: 1, epoch: 2 };
    let event = Event { replaced: vec![(0, 1)], ..put(3, "forged") };
    let gossip = Bundle {
        network: NET,
        clock: 1_000_000_000_000,
        relay: true,
        fingerprint: None,
        attachments: vec![second],
        tables: vec!["other"],
        watermarks: vec![(0, 50)],
        superseded: vec![(0, 1, 10)],
        events: vec![event],
    };
    codec::encode(&Datagram::Gossip(gossip))
}

#[test]
fn updates_from_a_non_member_are_dropped() {
    // The third node is in the cluster and not on the network; the fourth has a certificate and never joined
    // the cluster.
    for from in [2, 3] {
        let mut cluster = cluster();
        let now = cluster.now;
        let refused = {
            let counters = cluster.replicas[0].counters();
            counters.refused_not_member + counters.deferred
        };
        cluster.replicas[0].handle_datagram(&name(from), &forged_of_the_second(), now).unwrap();
        let (sent, partners) = sent_to(&mut cluster, from, Duration::from_secs(12));
        sent.iter().for_each(|bytes| sends_nothing_of_the_tables(bytes));
        assert_eq!(partners, BTreeSet::new(), "nothing is asked for");
        let counters = cluster.replicas[0].counters();
        assert!(counters.refused_not_member + counters.deferred > refused, "it is counted");
        assert_eq!(cluster.get(0, "forged"), None);
        assert_eq!(
            cluster.get(0, &format!("{KEY}-2")).as_deref(),
            Some(VALUE),
            "the entry that it claimed to be superseded"
        );
        for number in 3..8 {
            let key = format!("{KEY}-{number}");
            cluster.create(1, &key, VALUE);
            cluster.settle();
            assert_eq!(
                cluster.get(0, &key).as_deref(),
                Some(VALUE),
                "under a number that it claimed to be superseded"
            );
        }
    }
}

#[test]
fn a_node_that_never_joined_the_cluster_ends_no_attachment() {
    let mut cluster = cluster();
    let now = cluster.now;
    let list = AttachmentList { owner: NodeId::new(name(1), 1), version: 90, networks: Vec::new() };
    let bytes = codec::encode(&Datagram::Lists { lists: vec![list], versions: Vec::new(), relay: true });
    cluster.replicas[0].handle_datagram(&name(3), &bytes, now).unwrap();
    assert_eq!(cluster.replicas[0].network_peers(NET), [name(0), name(1)]);
    assert_eq!(cluster.get(0, &format!("{KEY}-2")).as_deref(), Some(VALUE));
}

#[test]
fn gossip_of_a_newcomer_is_accepted_by_its_own_claim() {
    let mut cluster = cluster();
    let now = cluster.now;
    let third = AttachmentId { owner: "n2", generation: 1, epoch: 9 };
    let update = bundle(vec![third], Vec::new(), vec![put(1, "k")]);
    cluster.replicas[0].handle_datagram(&name(2), &update, now).unwrap();
    assert_eq!(cluster.get(0, "k").as_deref(), Some("v"));
    assert_eq!(cluster.replicas[0].network_peers(NET), [name(0), name(1), name(2)]);
}

#[test]
fn a_node_that_claims_to_have_joined_is_shown_as_a_member() {
    // Any node of the cluster may join any network, but not unseen.
    let mut cluster = cluster();
    let (_, sent) = ask(&mut cluster, 2, &[open(SessionKind::Pull, 5), wants_all()]);
    assert!(sent.concat().windows(KEY.len()).any(|part| part == KEY.as_bytes()));
    assert_eq!(cluster.replicas[0].network_peers(NET), [name(0), name(1), name(2)]);
    // Its list decides as soon as it arrives.
    let now = cluster.now;
    let list = AttachmentList { owner: NodeId::new(name(2), 1), version: 6, networks: Vec::new() };
    let bytes = codec::encode(&Datagram::Lists { lists: vec![list], versions: Vec::new(), relay: false });
    cluster.replicas[0].handle_datagram(&name(2), &bytes, now).unwrap();
    assert_eq!(cluster.replicas[0].network_peers(NET), [name(0), name(1)]);
    let (_, sent) = ask(&mut cluster, 2, &[open(SessionKind::Pull, 5), wants_all()]);
    assert_eq!(sent, [codec::encode(&Frame::Busy)]);
}

#[test]
fn a_peer_that_leaves_during_a_session_receives_no_more_of_it() {
    let mut cluster = cluster();
    for number in 0..200 {
        let (key, value) = (format!("{KEY}-{number:04}"), VALUE.repeat(100));
        cluster.create(0, &key, &value);
    }
    cluster.join(2);
    let now = cluster.now;
    let stream = cluster.replicas[0].handle_stream_opened(&name(2), now);
    for frame in [open(SessionKind::Pull, 2), wants_all()] {
        cluster.replicas[0].handle_frame(stream, &codec::encode(&frame), now).unwrap();
    }
    let FramePoll::Frame(first) = cluster.replicas[0].poll_frame(stream, now) else { panic!("a chunk") };
    assert!(first.len() > 10_000);
    let list = AttachmentList { owner: NodeId::new(name(2), 1), version: 3, networks: Vec::new() };
    let bytes = codec::encode(&Datagram::Lists { lists: vec![list], versions: Vec::new(), relay: false });
    cluster.replicas[0].handle_datagram(&name(2), &bytes, now).unwrap();
    assert_eq!(cluster.replicas[0].poll_frame(stream, now), FramePoll::Finish);
}

#[test]
fn only_a_node_itself_reports_that_it_is_not_a_member() {
    let mut cluster = cluster();
    let now = cluster.now;
    let instance = cluster.replicas[1].node().clone();
    cluster.replicas[0].handle_owner_failed(&instance, now);
    cluster.replicas[0].handle_owner_alive(&instance, now);
    // The first node opens a comparison with the second, which answers with the list of a third.
    let stream = loop {
        match cluster.replicas[0].poll_transmit(now) {
            Some(Transmit::OpenStream { stream, to }) if to == name(1) => {
                let FramePoll::Frame(frame) = cluster.replicas[0].poll_frame(stream, now) else { continue };
                if matches!(codec::decode(&frame), Ok(Frame::Open(Open { kind: SessionKind::Full, .. }))) {
                    break stream;
                }
            }
            Some(_) => {}
            None => panic!("it asks"),
        }
    };
    let before = cluster.replicas[0].counters().refused_not_author;
    let list =
        AttachmentList { owner: NodeId::new(name(2), 1), version: 9, networks: vec![(NET.to_owned(), 9)] };
    let answer = codec::encode(&Frame::NotMember(list));
    assert!(cluster.replicas[0].handle_frame(stream, &answer, now).is_err());
    assert_eq!(cluster.replicas[0].counters().refused_not_author, before + 1);
    assert_eq!(cluster.replicas[0].network_peers(NET), [name(0), name(1)]);
}

#[test]
fn a_list_of_ours_that_we_never_issued_is_refused_and_superseded() {
    let forged =
        || AttachmentList { owner: NodeId::new(name(0), 1), version: u64::MAX, networks: Vec::new() };
    let (mut list, mut version, mut exchange) = (cluster(), cluster(), cluster());
    let lists = Datagram::Lists { lists: vec![forged()], versions: Vec::new(), relay: true };
    let now = list.now;
    list.replicas[0].handle_datagram(&name(2), &codec::encode(&lists), now).unwrap();
    let its_list_version =
        || super::message::ListVersion { owner: NodeId::new(name(0), 1), version: u64::MAX };
    let of_it = Datagram::Lists { lists: Vec::new(), versions: vec![its_list_version()], relay: true };
    let now = version.now;
    version.replicas[0].handle_datagram(&name(2), &codec::encode(&of_it), now).unwrap();
    let lists = Open::lists(0, 1, 0);
    ask(
        &mut exchange,
        2,
        &[Frame::Open(lists), Frame::ListVersions { versions: vec![its_list_version()], last: true }],
    );
    for cluster in [&mut list, &mut version, &mut exchange] {
        assert_eq!(cluster.replicas[0].counters().refused_not_author, 1);
        let taken = std::iter::from_fn(|| cluster.replicas[0].poll_event());
        let taken = taken.filter(|event| *event == Happening::GenerationTaken { generation: 1 });
        assert_eq!(taken.count(), 1, "a later generation starts a new count");
        // The entries that the forged list ended elsewhere return with the later instance.
        let now = cluster.now;
        let stolen =
            codec::encode(&Datagram::Lists { lists: vec![forged()], versions: Vec::new(), relay: false });
        cluster.replicas[1].handle_datagram(&name(2), &stolen, now).unwrap();
        assert_eq!(cluster.get(1, KEY), None);
        cluster.replicas[0].renew(2, now);
        let instance = cluster.replicas[0].node().clone();
        cluster.replicas[1].handle_owner_alive(&instance, now);
        cluster.replicas[2].handle_owner_alive(&instance, now);
        cluster.settle();
        assert_eq!(cluster.get(1, KEY).as_deref(), Some(VALUE));
    }
}

#[test]
fn a_write_supersedes_nothing_but_what_is_under_its_own_key() {
    let mut cluster = cluster();
    let now = cluster.now;
    let second = AttachmentId { owner: "n1", generation: 1, epoch: 2 };
    let first = AttachmentId { owner: "n0", generation: 1, epoch: 2 };
    let malformed = cluster.replicas[0].counters().refused_malformed;
    // The second member has written once; its next write claims to have replaced the first one's entry, under
    // another key.
    let event = Event { replaced: vec![(1, 1)], ..put(2, "other") };
    let bytes = bundle(vec![second, first], Vec::new(), vec![event]);
    cluster.replicas[0].handle_datagram(&name(1), &bytes, now).unwrap();
    assert_eq!(cluster.get(0, KEY).as_deref(), Some(VALUE), "not superseded");
    assert_eq!(cluster.get(0, "other").as_deref(), Some("v"), "handled as what it is");
    assert_eq!(cluster.replicas[0].counters().refused_malformed, malformed + 1);
}
