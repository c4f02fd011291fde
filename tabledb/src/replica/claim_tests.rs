//! One malicious member against the entries of others: what it reports as superseded without the superseding write.

use std::collections::BTreeSet;
use std::time::Duration;

use wire::{FramePoll, codec};

use super::message::{
    AttachmentId, Bundle, Datagram, Event, EventBody, Frame, Holding, Open, SessionKind, Span, SpanState,
    Standing,
};
use super::tests::{Cluster, NET, TABLE, name};

/// n0 to n2 are honest, n1 has written an entry; n3 is the malicious one, and speaks by hand only.
fn cluster() -> Cluster {
    let mut cluster = Cluster::joined(4);
    cluster.create(1, "k", "v");
    cluster.settle();
    cluster.probe_for(Duration::from_secs(3));
    for at in 0..3 {
        cluster.part(3, at);
    }
    cluster
}

fn counted(cluster: &Cluster, at: usize, counter: &str) -> u64 {
    cluster.replicas[at].counters().iter().find(|(name, _)| *name == counter).unwrap().1
}

/// The attachments of n3 and of n1.
fn attachments() -> Vec<AttachmentId<'static>> {
    ["n3", "n1"].map(|owner| AttachmentId { owner, generation: 1, epoch: 2 }).to_vec()
}

fn bundle(cluster: &Cluster, dead: Vec<(u32, u64, u64)>, events: Vec<Event<'static>>) -> Bundle<'static> {
    Bundle {
        network: NET,
        clock: cluster.replicas[0].common.clock.last(),
        relay: true,
        fingerprint: None,
        attachments: attachments(),
        tables: vec![TABLE],
        heads: Vec::new(),
        dead,
        events,
    }
}

/// n3 sends gossip.
fn gossip(cluster: &mut Cluster, to: &[usize], bundle: &Bundle<'_>) {
    let bytes = codec::encode(&Datagram::Gossip(bundle.clone()));
    for &at in to {
        let now = cluster.now;
        cluster.replicas[at].handle_datagram(&name(3), &bytes, now).unwrap();
    }
}

/// n3 makes a full sync with `at`, in which it reports the first number of n1 as superseded.
fn full_sync(cluster: &mut Cluster, at: usize) {
    let now = cluster.now;
    let victim = &mut cluster.replicas[at];
    let stream = victim.handle_stream_opened(&name(3), now);
    let clock = victim.common.clock.last();
    let [own, third] = attachments().try_into().unwrap();
    let holding = |attachment, context| Holding { attachment, list_version: 2, shown: true, context };
    let span = Span { attachment: 0, low: 1, high: 1 };
    let frames = [
        Frame::Open(Open {
            kind: SessionKind::Full,
            network: NET,
            clock,
            generation: 1,
            epoch: 2,
            fingerprint: 7,
            periodic: false,
            wall: 1_000_000_000_000,
            standing: Standing::Synchronised,
        }),
        Frame::Holdings {
            clock,
            holdings: vec![holding(own, vec![]), holding(third.clone(), vec![(1, 1)])],
            last: true,
        },
        Frame::ChunksDone,
        Frame::Compare { attachments: vec![third], spans: vec![(span, 0)] },
        Frame::Told(vec![SpanState::Exact { span, seen: vec![(1, 1)], live: vec![] }]),
        Frame::Bye,
    ];
    for frame in &frames {
        victim.handle_frame(stream, &codec::encode(frame), now).unwrap();
        while let FramePoll::Frame(_) = victim.poll_frame(stream, now) {}
    }
}

#[test]
fn one_member_does_not_bury_anothers_entry_in_a_sync() {
    let mut cluster = cluster();
    for at in 0..3 {
        full_sync(&mut cluster, at);
        assert_eq!(cluster.get(at, "k").as_deref(), Some("v"), "n{at}");
        assert_eq!(counted(&cluster, at, "claims_withheld"), 1, "n{at}");
    }
    // Nor do the honest hand it on. What stays contested its owner writes again, under a number that nobody has called superseded.
    cluster.probe_for(Duration::from_secs(60));
    assert_eq!(counted(&cluster, 1, "contested_rewritten"), 1);
    for at in 0..3 {
        assert_eq!(cluster.get(at, "k").as_deref(), Some("v"), "n{at}");
        assert_eq!(counted(&cluster, at, "buried"), 0, "n{at}");
        let inspected = cluster.replicas[at].inspect(NET, cluster.now).unwrap();
        assert_eq!(inspected.attachments[&name(1)].context.highest(), 2, "n{at}");
    }
}

#[test]
fn numbers_that_their_owner_has_not_published_are_not_called_superseded_by_another() {
    let mut cluster = cluster();
    let lie = bundle(&cluster, vec![(1, 2, 1000)], vec![]);
    // The owner itself would begin again in a later generation: whoever says so holds what it never wrote.
    gossip(&mut cluster, &[0, 2], &lie);
    for at in [0, 2] {
        assert_eq!(counted(&cluster, at, "refused_unannounced"), 1, "n{at}");
    }
    cluster.run(Duration::from_secs(20));
    // What the owner writes next is taken up by all, and it need not begin again.
    cluster.create(1, "later", "w");
    cluster.settle();
    for at in 0..3 {
        assert_eq!(cluster.get(at, "later").as_deref(), Some("w"), "n{at}");
    }
    assert!(!cluster.events[1].iter().any(|event| matches!(event, super::Event::GenerationTaken { .. })));
}

#[test]
fn a_write_supersedes_nothing_but_what_is_under_its_own_key() {
    let mut cluster = cluster();
    let write = |replaced| {
        let body = EventBody::Value(b"x");
        Event { attachment: 0, number: 1, age: 0, table: 0, key: "other", body, replaced }
    };
    let many = bundle(&cluster, vec![], vec![write(vec![(1, 1), (1, 2)])]);
    gossip(&mut cluster, &[0, 1, 2], &many);
    let one = bundle(&cluster, vec![], vec![write(vec![(1, 1)])]);
    gossip(&mut cluster, &[0, 1, 2], &one);
    for at in 0..3 {
        assert_eq!(cluster.get(at, "k").as_deref(), Some("v"), "n{at}");
        assert_eq!(cluster.get(at, "other").as_deref(), Some("x"), "n{at}");
        assert_eq!(counted(&cluster, at, "refused_malformed"), 2, "n{at}");
    }
}

/// The same claim is true where the superseding write can have been missed: its writer has left.
#[test]
fn a_claim_is_believed_where_its_write_may_have_been_missed() {
    let mut cluster = Cluster::joined(4);
    cluster.create(1, "k", "v");
    cluster.settle();
    cluster.probe_for(Duration::from_secs(3));
    for at in [0, 2, 3] {
        cluster.part(1, at);
    }
    cluster.update(2, "k", "overwritten");
    cluster.settle();
    let now = cluster.now;
    cluster.replicas[2].leave_network(NET, now).unwrap();
    cluster.run(Duration::from_secs(3));
    cluster.heal();
    cluster.probe_for(Duration::from_secs(5));
    let shown: BTreeSet<_> = [0, 1, 3].map(|at| cluster.get(at, "k")).into();
    assert_eq!(shown, BTreeSet::from([None]), "all agree, the owner too");
    assert_eq!(counted(&cluster, 1, "contested_rewritten"), 0);
}
