//! What a peer may make this node hold or believe, and what happens beyond it: refusal and a counter, and an
//! error for the local caller.

use std::time::Duration;

use proptest::prelude::*;
use wire::{FramePoll, NodeId, NodeName, StreamId, codec};

use super::Replica;
use super::message::{
    AttachmentId, AttachmentList, Bundle, Datagram, Event, EventBody, Frame, ListVersion, Open, SessionKind,
    Span, SpanState, VersionVectorEntry,
};
use super::tests::{Cluster, NET, name, open};
use crate::{Limits, WriteError};

/// One node on the network under these limits, and another, which is on it by its list and whose messages the
/// test makes.
fn under(limits: Limits) -> Cluster {
    let mut cluster = Cluster::strangers(2, |config| config.limits = limits.clone());
    cluster.join(0);
    cluster.join(1);
    cluster.settle();
    cluster
}

/// The wall time of the tests' clock, in microseconds.
fn wall(cluster: &Cluster) -> u64 {
    cluster.replicas[0].node.clock.last().max(1_000_000_000_000)
}

fn put<'a>(number: u64, table: u32, key: &'a str, value: &'a [u8]) -> Event<'a> {
    let body = EventBody::Value(value);
    Event { attachment: 0, number, age: 0, table, key, body, replaced: Vec::new() }
}

fn of_second() -> AttachmentId<'static> {
    AttachmentId { owner: "n1", generation: 1, epoch: 2 }
}

fn bundle<'a>(clock: u64, tables: Vec<&'a str>, events: Vec<Event<'a>>) -> Bundle<'a> {
    Bundle {
        network: NET,
        clock,
        relay: false,
        fingerprint: None,
        attachments: vec![of_second()],
        tables,
        watermarks: Vec::new(),
        superseded: Vec::new(),
        events,
    }
}

/// The second node sends this by gossip.
fn gossip(cluster: &mut Cluster, bundle: Bundle<'_>) {
    let now = cluster.now;
    let bytes = codec::encode(&Datagram::Gossip(bundle));
    cluster.replicas[0].handle_datagram(&name(1), &bytes, now).unwrap();
}

fn count(cluster: &Cluster, counter: &str) -> u64 {
    cluster.replicas[0].counters().iter().find(|count| count.name == counter).unwrap().value
}

fn opened(cluster: &mut Cluster, kind: SessionKind) -> StreamId {
    let now = cluster.now;
    let stream = cluster.replicas[0].handle_stream_opened(&name(1), now);
    cluster.replicas[0].handle_frame(stream, &codec::encode(&open(kind, 2)), now).unwrap();
    stream
}

/// A push in which the second node may send chunks.
fn opened_push(cluster: &mut Cluster) -> StreamId {
    let stream = opened(cluster, SessionKind::Push { relay: false });
    let nothing = Frame::VersionVector { clock: 0, entries: Vec::new(), last: true };
    send(cluster, stream, &nothing).unwrap();
    stream
}

fn send(cluster: &mut Cluster, stream: StreamId, frame: &Frame<'_>) -> Result<(), String> {
    let now = cluster.now;
    let handled = cluster.replicas[0].handle_frame(stream, &codec::encode(frame), now);
    handled.map_err(|error| error.to_string())
}

fn create(cluster: &mut Cluster, table: &str, key: &str, value: &[u8]) -> Result<(), WriteError> {
    let now = cluster.now;
    cluster.replicas[0].create(NET, table, key, value, now).map(drop)
}

#[test]
fn no_more_tables_than_the_limit() {
    let mut cluster = under(Limits { tables: 2, ..Limits::default() });
    let clock = wall(&cluster);
    let events = (0..5).map(|number| put(number + 1, number as u32, "k", b"v")).collect();
    gossip(&mut cluster, bundle(clock, vec!["t0", "t1", "t2", "t3", "t4"], events));
    let counts = cluster.replicas[0].statistics(NET).unwrap();
    assert_eq!((counts.tables, counts.entries, count(&cluster, "refused_tables")), (2, 2, 3));
    let refused = create(&mut cluster, "t9", "k", b"v");
    assert_eq!(refused, Err(WriteError::TooManyTables { network: NET.to_owned(), limit: 2 }));
    create(&mut cluster, "t0", "another", b"v").unwrap();
}

#[test]
fn a_table_that_a_bundle_names_twice_is_one_table() {
    let mut cluster = under(Limits { tables: 2, ..Limits::default() });
    let clock = wall(&cluster);
    let events = [(0, "a"), (1, "b"), (2, "a"), (0, "c"), (1, "d")];
    let events = (1..).zip(events).map(|(number, (table, key))| put(number, table, key, b"v")).collect();
    gossip(&mut cluster, bundle(clock, vec!["t0", "t0", "t1"], events));
    let counts = cluster.replicas[0].statistics(NET).unwrap();
    assert_eq!((counts.tables, counts.entries, count(&cluster, "refused_tables")), (2, 5, 0));
}

#[test]
fn no_more_entries_than_the_limit_and_what_is_there_may_change_and_go() {
    let mut cluster = under(Limits { entries: 3, ..Limits::default() });
    let clock = wall(&cluster);
    let keys = ["a", "b", "c", "d", "e"];
    let events = (1..).zip(keys).map(|(number, key)| put(number, 0, key, b"1")).collect();
    gossip(&mut cluster, bundle(clock, vec!["t"], events));
    assert_eq!((cluster.shown(0).len(), count(&cluster, "refused_full")), (3, 2));
    let refused = create(&mut cluster, "t", "f", b"v");
    assert_eq!(refused, Err(WriteError::NetworkFull { network: NET.to_owned(), limit: 3 }));
    let now = cluster.now;
    cluster.replicas[0].update(NET, "t", "a", *b"2", now).unwrap();
    // A peer's too: a full network that refused deletes would stay full for ever.
    let deleted = Event { body: EventBody::Deleted { residual_ms: 1000 }, ..put(7, 0, "b", b"") };
    gossip(&mut cluster, bundle(clock + 10, vec!["t"], vec![put(6, 0, "c", b"2"), deleted]));
    assert_eq!(cluster.get(0, "c").as_deref(), Some("2"));
    assert_eq!(cluster.get(0, "b"), None);
    cluster.run(Duration::from_secs(3));
    create(&mut cluster, "t", "f", b"v").unwrap();
}

#[test]
fn no_more_bytes_than_the_limit_and_less_is_always_let_in() {
    let mut cluster = under(Limits { bytes: 1000, ..Limits::default() });
    let clock = wall(&cluster);
    let large = [7; 400];
    let events = (1..).zip(["a", "b", "c"]).map(|(number, key)| put(number, 0, key, &large)).collect();
    gossip(&mut cluster, bundle(clock, vec!["t"], events));
    assert_eq!(cluster.replicas[0].statistics(NET).unwrap().bytes, 802);
    assert_eq!((cluster.shown(0).len(), count(&cluster, "refused_bytes")), (2, 1));
    let refused = create(&mut cluster, "t", "d", &[0; 198]);
    assert_eq!(refused, Err(WriteError::NetworkBytes { network: NET.to_owned(), limit: 1000 }));
    create(&mut cluster, "t", "d", &[0; 197]).unwrap();
    let now = cluster.now;
    assert!(cluster.replicas[0].update(NET, "t", "d", vec![0; 198], now).is_err());
    cluster.replicas[0].update(NET, "t", "a", vec![0; 300], now).unwrap();
    assert_eq!(cluster.replicas[0].statistics(NET).unwrap().bytes, 900);
    cluster.replicas[0].delete(NET, "t", "b", now).unwrap();
    assert_eq!(cluster.replicas[0].statistics(NET).unwrap().bytes, 500);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn bytes_are_counted_right_whatever_happens(
        steps in proptest::collection::vec((0usize..4, 0usize..5, 0usize..50), 1..60)
    ) {
        let mut cluster = under(Limits::default());
        let mut number = 0;
        for (what, key, size) in steps {
            let (key, value) = (format!("key-{key}"), vec![1; size]);
            let now = cluster.now;
            let replica = &mut cluster.replicas[0];
            match what {
                0 => drop(replica.create(NET, "t", &key, value, now)),
                1 => drop(replica.update(NET, "t", &key, value, now)),
                2 => drop(replica.delete(NET, "t", &key, now)),
                _ => {
                    number += 2;
                    let clock = wall(&cluster) + number;
                    gossip(&mut cluster, bundle(clock, vec!["t"], vec![put(number, 0, &key, &value)]));
                }
            }
            cluster.run(Duration::from_millis(100));
            let inspected = cluster.replicas[0].inspect(NET, cluster.now).unwrap().entries.into_iter();
            let held = inspected.map(|((_, key), entry)| key.len() + entry.value.map_or(0, |value| value.len()));
            prop_assert_eq!(cluster.replicas[0].statistics(NET).unwrap().bytes, held.sum::<usize>());
        }
        let instance = cluster.replicas[1].node().clone();
        let now = cluster.now;
        cluster.replicas[0].handle_owner_gone(&instance, now);
        let inspected = cluster.replicas[0].inspect(NET, now).unwrap().entries.into_iter();
        let held = inspected.map(|((_, key), entry)| key.len() + entry.value.map_or(0, |value| value.len()));
        prop_assert_eq!(cluster.replicas[0].statistics(NET).unwrap().bytes, held.sum::<usize>());
    }
}

#[test]
fn lists_are_no_longer_than_the_limit_one_by_one_and_in_all() {
    let limits = Limits { networks: 10, attachments: 15, ..Limits::default() };
    let mut cluster = Cluster::strangers(4, |config| config.limits = limits.clone());
    let list = |owner: NodeId, version, count: usize, length: usize| AttachmentList {
        owner,
        version,
        networks: (0..count).map(|n| (format!("{n:0length$}"), 1)).collect(),
    };
    let mut receive = |list: AttachmentList| {
        let now = cluster.now;
        let bytes = codec::encode(&Datagram::Lists { lists: vec![list], versions: Vec::new(), relay: false });
        cluster.replicas[0].handle_datagram(&name(1), &bytes, now).unwrap();
        let known = (1..4).map(|at| cluster.replicas[0].node.owners.list_version_of(name(at).as_str()));
        (known.collect::<Vec<_>>(), count(&cluster, "refused_lists"))
    };
    let instance = |at: usize| NodeId::new(name(at), 1);
    assert_eq!(receive(list(instance(1), 2, 11, 3)), (vec![0, 0, 0], 1), "too many networks");
    assert_eq!(receive(list(instance(1), 2, 1, 256)), (vec![0, 0, 0], 2), "too long a name");
    assert_eq!(receive(list(instance(1), 2, 10, 3)), (vec![2, 0, 0], 2));
    assert_eq!(receive(list(instance(2), 2, 6, 3)), (vec![2, 0, 0], 3), "too many in all");
    assert_eq!(receive(list(instance(2), 2, 5, 3)), (vec![2, 2, 0], 3));
    // Also of instances that membership has not reported.
    let unknown = |at: usize| NodeId::new(NodeName::new(&format!("unknown-{at}")).unwrap(), 1);
    assert_eq!(receive(list(unknown(0), 2, 1, 3)), (vec![2, 2, 0], 4));
    // A shorter one frees capacity, and one may be replaced by one of the same length.
    assert_eq!(receive(list(instance(1), 3, 8, 3)), (vec![3, 2, 0], 4));
    assert_eq!(receive(list(instance(1), 4, 8, 3)), (vec![4, 2, 0], 4));
    assert_eq!(receive(list(unknown(0), 2, 2, 3)), (vec![4, 2, 0], 4));
    assert_eq!(receive(list(instance(3), 2, 1, 3)), (vec![4, 2, 0], 5));
    let now = cluster.now;
    cluster.replicas[0].handle_owner_gone(&instance(1), now);
    let bytes = codec::encode(&Datagram::Lists {
        lists: vec![list(instance(3), 2, 8, 3)],
        versions: vec![],
        relay: false,
    });
    cluster.replicas[0].handle_datagram(&name(2), &bytes, now).unwrap();
    assert_eq!(cluster.replicas[0].node.owners.list_version_of("n3"), 2, "a removed list frees capacity");
}

#[test]
fn version_vectors_are_fragmented_into_no_more_ranges_than_the_limit() {
    let mut cluster = under(Limits { ranges: 16, ..Limits::default() });
    let clock = wall(&cluster);
    let ranges = |cluster: &Cluster| {
        let inspected = cluster.replicas[0].inspect(NET, cluster.now).unwrap();
        let held = inspected.attachments.into_iter().find(|held| held.0 == name(1)).unwrap();
        held.1.seen.as_slice().len()
    };
    // Every other number is superseded: 16 bytes each, for nothing.
    let superseded = (0..100).map(|number| (0, 2 * number + 1, 2 * number + 1)).collect();
    gossip(&mut cluster, Bundle { superseded, ..bundle(clock, vec![], vec![]) });
    assert_eq!((ranges(&cluster), count(&cluster, "refused_fragmented")), (16, 84));
    gossip(&mut cluster, bundle(clock, vec!["t"], vec![put(1001, 0, "k", b"v")]));
    assert_eq!((ranges(&cluster), count(&cluster, "refused_fragmented")), (16, 85));
    // Nor by what an event claims to have replaced.
    let replaced = (0..50).map(|number| (0, 2001 + 2 * number)).collect();
    gossip(&mut cluster, bundle(clock, vec!["t"], vec![Event { replaced, ..put(2, 0, "k", b"v") }]));
    assert_eq!((ranges(&cluster), count(&cluster, "refused_fragmented")), (16, 86));
    // Updates that close the gaps are accepted: superseded numbers in a session that brings their successors
    // too.
    gossip(&mut cluster, bundle(clock, vec!["t"], vec![put(2, 0, "k", b"v")]));
    let stream = opened_push(&mut cluster);
    let mended = Bundle { superseded: vec![(0, 1, 31)], ..bundle(clock, vec![], vec![]) };
    send(&mut cluster, stream, &Frame::Chunk(mended)).unwrap();
    assert_eq!(ranges(&cluster), 1);
}

#[test]
fn no_more_updates_of_unknown_instances_are_deferred_than_the_limit() {
    let mut cluster = under(Limits { deferred: 3, ..Limits::default() });
    let clock = wall(&cluster);
    for at in 0..10 {
        let owner = format!("unknown-{at}");
        let attachments = vec![AttachmentId { owner: &owner, generation: 1, epoch: 1 }];
        gossip(&mut cluster, Bundle { attachments, ..bundle(clock, vec!["t"], vec![put(1, 0, "k", b"v")]) });
    }
    assert_eq!(cluster.replicas[0].deferred.len(), 3);
    assert_eq!((count(&cluster, "deferred"), count(&cluster, "refused_unknown_instance")), (10, 7));
}

#[test]
fn one_peer_has_no_more_than_its_share_of_the_sessions() {
    let mut cluster = under(Limits { sessions: 8, ..Limits::default() });
    for _ in 0..2 {
        opened(&mut cluster, SessionKind::Pull);
    }
    let third = opened(&mut cluster, SessionKind::Pull);
    let now = cluster.now;
    assert_eq!(cluster.replicas[0].poll_frame(third, now), FramePoll::Frame(codec::encode(&Frame::Busy)));
    assert_eq!(count(&cluster, "refused_busy"), 1);
    // The others have their share, up to the whole.
    for at in 0..8 {
        let peer = NodeName::new(&format!("peer-{at}")).unwrap();
        let stream = cluster.replicas[0].handle_stream_opened(&peer, now);
        let lists = Open::lists(0, 1, 0);
        cluster.replicas[0].handle_frame(stream, &codec::encode(&Frame::Open(lists)), now).unwrap();
    }
    assert_eq!(count(&cluster, "refused_busy"), 1 + 3, "2 of the first, 1 that ends, 5 of the others");
}

#[test]
fn a_peer_that_never_stops_sending_its_version_vector_is_given_up() {
    let mut cluster = under(Limits::default());
    let stream = opened(&mut cluster, SessionKind::Pull);
    let seen: Vec<(u64, u64)> = (0..100_000).map(|number| (2 * number + 1, 2 * number + 1)).collect();
    let entry = |owner| VersionVectorEntry {
        attachment: AttachmentId { owner, ..of_second() },
        list_version: 2,
        shown: true,
        seen: seen.clone(),
    };
    let frame = Frame::VersionVector { clock: 0, entries: vec![entry("n1")], last: false };
    let accepted = (0..100).take_while(|_| send(&mut cluster, stream, &frame).is_ok()).count();
    assert!((10..20).contains(&accepted), "{accepted}");
    let stream = opened(&mut cluster, SessionKind::Pull);
    let unknown = VersionVectorEntry { seen: Vec::new(), ..entry("nobody") };
    let frame = Frame::VersionVector { clock: 0, entries: vec![unknown; 10_000], last: false };
    let accepted = (0..100).take_while(|_| send(&mut cluster, stream, &frame).is_ok()).count();
    assert!((5..10).contains(&accepted), "{accepted}");
    assert_eq!(count(&cluster, "refused_unexpected"), 2);
}

#[test]
fn names_unknown_to_membership_are_not_recorded_and_lists_are_answered_once() {
    let mut cluster = under(Limits::default());
    let stream = opened(&mut cluster, SessionKind::Lists);
    let version = |at: usize| ListVersion {
        owner: NodeId::new(NodeName::new(&format!("unknown-{at}")).unwrap(), 1),
        version: 1,
    };
    for round in 0..10 {
        let versions = (0..1000).map(|at| version(1000 * round + at)).collect();
        send(&mut cluster, stream, &Frame::ListVersions { versions, last: false }).unwrap();
    }
    let recorded = |replica: &Replica| match &replica.streams[&stream] {
        super::Stream::Session(session) => match &session.role {
            super::session::Role::ListsResponder(role) => role.compared(),
            _ => panic!("it is an exchange of lists"),
        },
        super::Stream::Unopened { .. } => panic!("it is open"),
    };
    assert_eq!(recorded(&cluster.replicas[0]), 0);
    send(&mut cluster, stream, &Frame::ListVersions { versions: Vec::new(), last: true }).unwrap();
    assert!(send(&mut cluster, stream, &Frame::ListVersions { versions: Vec::new(), last: true }).is_err());
}

#[test]
fn a_peer_that_asks_without_reading_the_responses_is_given_up() {
    let mut cluster = under(Limits::default());
    cluster.create(0, "k", "v");
    let stream = opened(&mut cluster, SessionKind::Full);
    let span = Span { attachment: 0, low: 1, high: u64::MAX - 2 };
    let attachments = vec![AttachmentId { owner: "n0", ..of_second() }];
    let question = Frame::Compare { attachments, spans: vec![(span, 7); 100] };
    let answered = (0..100).take_while(|_| send(&mut cluster, stream, &question).is_ok()).count();
    assert!(answered <= 16, "{answered}");
    assert_eq!(count(&cluster, "refused_unexpected"), 1);
}

/// A cluster in which the first node has started a comparison and asks the second for spans, on this stream.
fn comparing() -> (Cluster, StreamId) {
    let mut cluster = under(Limits::default());
    cluster.create(0, "k", "v");
    let instance = cluster.replicas[1].node().clone();
    let now = cluster.now;
    cluster.replicas[0].handle_owner_failed(&instance, now);
    cluster.replicas[0].handle_owner_alive(&instance, now);
    let stream = loop {
        match cluster.replicas[0].poll_transmit(now) {
            Some(super::Transmit::OpenStream { stream, .. }) => {
                let FramePoll::Frame(frame) = cluster.replicas[0].poll_frame(stream, now) else { continue };
                if matches!(codec::decode(&frame), Ok(Frame::Open(Open { kind: SessionKind::Full, .. }))) {
                    break stream;
                }
            }
            Some(_) => {}
            None => panic!("it compares"),
        }
    };
    let entries = Frame::VersionVector { clock: 0, entries: Vec::new(), last: true };
    send(&mut cluster, stream, &entries).unwrap();
    while let FramePoll::Frame(_) = cluster.replicas[0].poll_frame(stream, now) {}
    send(&mut cluster, stream, &Frame::ChunksDone).unwrap();
    let FramePoll::Frame(_) = cluster.replicas[0].poll_frame(stream, now) else { panic!("it asks") };
    (cluster, stream)
}

#[test]
fn more_keys_with_refused_writes_than_a_node_remembers_are_no_answer() {
    for (keys, taken) in [(4096, true), (4097, false)] {
        let (mut cluster, stream) = comparing();
        let answer = Frame::Compared { looked_at: 1, states: Vec::new(), refused_keys: vec![7; keys] };
        assert_eq!(send(&mut cluster, stream, &answer).is_ok(), taken, "{keys}");
    }
}

#[test]
fn a_comparison_that_is_made_to_branch_for_ever_is_given_up() {
    // The first node compares; the second responds that everything differs, in more and more parts.
    let (mut cluster, stream) = comparing();
    let part = (Span { attachment: 0, low: 1, high: 1 << 40 }, 7);
    let states = vec![SpanState::Parts(vec![part; 50_000])];
    let branching = Frame::Compared { looked_at: 1, states, refused_keys: Vec::new() };
    let answered = (0..100).take_while(|_| send(&mut cluster, stream, &branching).is_ok()).count();
    assert!(answered <= 2, "{answered}");
}

#[test]
fn no_time_of_a_peer_freezes_a_key_or_overflows() {
    const HOUR: u64 = 3_600_000_000;
    for (arrival, sync) in [("gossip", false), ("sync", true)] {
        let mut cluster = under(Limits::default());
        create(&mut cluster, "table", "k", b"ours").unwrap();
        let clock = wall(&cluster);
        let send_bundle = |cluster: &mut Cluster, bundle: Bundle<'_>| match sync {
            false => gossip(cluster, bundle),
            true => {
                let stream = opened_push(cluster);
                send(cluster, stream, &Frame::Chunk(bundle)).unwrap();
            }
        };
        // The latest possible time, by itself and with an age that brings it beyond the bound or below it.
        for (at, number, age, taken) in [
            (u64::MAX, 1, 0, false),
            (u64::MAX, 2, u64::MAX - clock - 2 * HOUR, false),
            (clock + 2 * HOUR, 3, 0, false),
            (u64::MAX, 4, u64::MAX - clock - 1, true),
        ] {
            let value = number.to_string();
            let event = Event { age, ..put(number, 0, "k", value.as_bytes()) };
            send_bundle(&mut cluster, bundle(at, vec!["table"], vec![event]));
            assert_eq!(cluster.get(0, "k") == Some(value), taken, "{arrival}, number {number}");
        }
        assert_eq!(count(&cluster, "refused_future"), 3, "{arrival}");
        // As far ahead as accepted: it can be overwritten a moment later all the same, and others accept that.
        send_bundle(&mut cluster, bundle(clock + HOUR, vec!["table"], vec![put(5, 0, "k", b"hour")]));
        assert_eq!(cluster.get(0, "k").as_deref(), Some("hour"), "{arrival}");
        cluster.run(Duration::from_millis(1));
        cluster.update(0, "k", "again ours");
        cluster.settle();
        assert_eq!(cluster.get(1, "k").as_deref(), Some("again ours"), "{arrival}");
        // Clocks alone do not push the clock either.
        for frame in [
            Frame::VersionVector { clock: u64::MAX, entries: Vec::new(), last: true },
            Frame::Equal { clock: u64::MAX, hidden: None },
        ] {
            let stream = opened(&mut cluster, SessionKind::Full);
            let _ = send(&mut cluster, stream, &frame);
        }
        assert!(cluster.replicas[0].node.clock.last() < clock + 2 * HOUR, "{arrival}");
    }
}

#[test]
fn a_clock_pushed_ahead_elsewhere_keeps_no_member_from_being_accepted() {
    // The first node's wall clock is two seconds behind the second's, which an attacker keeps as far ahead as
    // allowed.
    const HOUR: u64 = 3_600_000_000;
    let mut cluster = under(Limits::default());
    let ahead = wall(&cluster) + HOUR + 2_000_000;
    let late = put(2, 0, "late", b"v");
    let earlier = Event { age: HOUR, ..put(1, 0, "earlier", b"v") };
    gossip(&mut cluster, bundle(ahead, vec!["table"], vec![earlier.clone(), late.clone()]));
    assert_eq!(cluster.get(0, "earlier").as_deref(), Some("v"), "written before it was pushed");
    assert_eq!(cluster.get(0, "late"), None);
    cluster.now += Duration::from_secs(3);
    gossip(&mut cluster, bundle(ahead, vec!["table"], vec![earlier, late]));
    assert_eq!(cluster.get(0, "late").as_deref(), Some("v"));
}

#[test]
fn a_side_that_has_sent_everything_waits_longer_for_a_frame() {
    for sends_all in [false, true] {
        let mut cluster = under(Limits::default());
        let stream = opened(&mut cluster, SessionKind::Full);
        let start = cluster.now;
        let entries = Frame::VersionVector { clock: 0, entries: Vec::new(), last: true };
        let replica = &mut cluster.replicas[0];
        if sends_all {
            replica.handle_frame(stream, &codec::encode(&entries), start).unwrap();
        }
        while let FramePoll::Frame(_) = replica.poll_frame(stream, start) {}
        let mut after = |seconds| {
            let now = start + Duration::from_secs(seconds);
            replica.handle_timeout(now);
            replica.poll_frame(stream, now)
        };
        assert_eq!(after(9), FramePoll::Wait);
        assert_eq!(after(20), if sends_all { FramePoll::Wait } else { FramePoll::Finish });
        assert_eq!(after(31), FramePoll::Finish, "but not for ever");
    }
}

#[test]
fn nothing_is_remembered_of_a_peer_that_goes_in_the_middle_of_an_exchange() {
    let mut cluster = under(Limits::default());
    let (instance, now) = (cluster.replicas[1].node().clone(), cluster.now);
    let replica = &mut cluster.replicas[0];
    replica.lists_comparing = Some((name(1), 1, 2));
    replica.want_lists(&name(1));
    replica.handle_owner_failed(&instance, now);
    replica.handle_owner_alive(&instance, now);
    let network = replica.networks[0].as_mut().unwrap();
    for later in [0, 2] {
        network.note_fingerprint(&name(1), 7, &mut replica.node, now + Duration::from_secs(later));
    }
    let mut opened = Vec::new();
    while let Some(transmit) = replica.poll_transmit(now) {
        if let super::Transmit::OpenStream { stream, .. } = transmit {
            let FramePoll::Frame(frame) = replica.poll_frame(stream, now) else { panic!("it opens") };
            let Ok(Frame::Open(open)) = codec::decode(&frame) else { panic!("with what it is for") };
            opened.push((stream, open.kind));
        }
    }
    replica.handle_owner_gone(&instance, now);
    for (stream, kind) in opened {
        let answer = match kind {
            SessionKind::Lists => Frame::WantLists(Vec::new()),
            _ => Frame::Equal { clock: 0, hidden: None },
        };
        let _ = send(&mut cluster, stream, &answer);
    }
    let replica = &cluster.replicas[0];
    assert!(replica.lists_compared.is_empty(), "{:?}", replica.lists_compared);
    assert_eq!(replica.networks[0].as_ref().unwrap().scheduler.compared_count(), 0);
}
