//! Which frames each role takes at each step. All others end the session.

use std::collections::BTreeSet;

use wire::{FramePoll, NodeId, NodeName, StreamId};

use super::super::message::{AttachmentList, Bundle, Frame, Open, SessionKind, Standing};
use super::super::requests::{SessionRequest, SyncKind};
use super::super::tests::{Cluster, NET, name};
use super::{Session, SessionError};

/// A side of a session at one of its steps.
struct Side {
    cluster: Cluster,
    session: Session,
}

impl Side {
    /// The side that opens a session with the second node about a network.
    fn opens(kind: SyncKind) -> Self {
        let mut cluster = Cluster::joined(2);
        cluster.replicas[0].create(NET, "table", "key", b"value".as_slice(), cluster.now).unwrap();
        let replica = &mut cluster.replicas[0];
        let network = replica.networks[replica.by_name[NET]].as_mut().unwrap();
        let request = SessionRequest {
            kind,
            network: network.name.clone(),
            peer: name(1),
            indexes: BTreeSet::from([network.own()]),
            periodic: false,
        };
        let session = Session::open(StreamId(99), request, network, &mut replica.node, cluster.now);
        Self { cluster, session }
    }

    /// The side that opens an exchange of lists with the second node.
    fn opens_lists() -> Self {
        let mut cluster = Cluster::joined(2);
        let session = Session::open_lists(StreamId(99), name(1), &mut cluster.replicas[0].node, cluster.now);
        Self { cluster, session }
    }

    /// The side that answers a session of the second node.
    fn answers(kind: SessionKind) -> Self {
        let mut cluster = Cluster::joined(2);
        let replica = &mut cluster.replicas[0];
        let network = replica.networks[replica.by_name[NET]].as_mut();
        let mut session = Session::accept(StreamId(99), name(1), kind, NET.into(), cluster.now);
        let open = Open {
            kind,
            network: NET,
            clock: 0,
            generation: 1,
            epoch: replica.node.owners.list_version_of("n1"),
            fingerprint: 7,
            periodic: false,
            wall: 0,
            standing: Standing::Synchronised,
        };
        session.handle_open(&open, network, &mut replica.node, cluster.now);
        assert_eq!(session.progress.outcome, None, "the session goes on");
        Self { cluster, session }
    }

    fn handle(&mut self, frame: Frame<'_>) -> Result<(), SessionError> {
        let replica = &mut self.cluster.replicas[0];
        let network = replica.networks[replica.by_name[NET]].as_mut();
        self.session.handle_frame(frame, network, &mut replica.node, self.cluster.now)
    }

    /// Takes the frame, and sends all that it can.
    fn after(mut self, frame: Frame<'_>) -> Self {
        self.handle(frame).unwrap();
        self.sends()
    }

    fn sends(mut self) -> Self {
        let replica = &mut self.cluster.replicas[0];
        let (now, at) = (self.cluster.now, replica.by_name[NET]);
        let mut next = || self.session.poll_frame(replica.networks[at].as_mut(), &mut replica.node, now);
        while let FramePoll::Frame(_) = next() {}
        self
    }
}

fn empty_vector(last: bool) -> Frame<'static> {
    Frame::VersionVector { clock: 0, entries: Vec::new(), last }
}

/// One frame of each kind, with its name.
fn frames() -> Vec<(&'static str, Frame<'static>)> {
    let owner = NodeId::new(NodeName::new("n1").unwrap(), 1);
    let open = Open::lists(0, 1, 0);
    let bundle = Bundle {
        network: NET,
        clock: 0,
        relay: false,
        fingerprint: None,
        attachments: Vec::new(),
        tables: Vec::new(),
        watermarks: Vec::new(),
        superseded: Vec::new(),
        events: Vec::new(),
    };
    vec![
        ("Open", Frame::Open(open)),
        ("Equal", Frame::Equal { clock: 0, hidden: None }),
        ("Busy", Frame::Busy),
        ("OpenedElsewhere", Frame::OpenedElsewhere),
        ("NotMember", Frame::NotMember(AttachmentList { owner, version: 9, networks: Vec::new() })),
        ("VersionVector", empty_vector(true)),
        ("Decline", Frame::Decline(Vec::new())),
        ("Lists", Frame::Lists(Vec::new())),
        ("ListVersions", Frame::ListVersions { versions: Vec::new(), last: true }),
        ("WantLists", Frame::WantLists(Vec::new())),
        ("Chunk", Frame::Chunk(bundle)),
        ("ChunksDone", Frame::ChunksDone),
        ("Compare", Frame::Compare { attachments: Vec::new(), spans: Vec::new() }),
        ("Compared", Frame::Compared { looked_at: 1, states: Vec::new(), refused_keys: Vec::new() }),
        ("DeadSpans", Frame::DeadSpans { states: Vec::new(), refused_keys: Vec::new() }),
        ("Close", Frame::Close),
        ("Done", Frame::Done),
        ("WallClock", Frame::WallClock { wall: 0 }),
        ("Standing", Frame::Standing(Standing::Synchronised)),
    ]
}

/// The names of the frames that a side takes.
fn taken_by(side: impl Fn() -> Side) -> String {
    let takes = |frame: Frame<'static>| match side().handle(frame) {
        Ok(()) => true,
        Err(SessionError::Unexpected(_)) => false,
        Err(other) => panic!("{other}"),
    };
    let taken: Vec<&str> =
        frames().into_iter().filter_map(|(name, frame)| takes(frame).then_some(name)).collect();
    taken.join(" ")
}

#[test]
fn each_step_of_a_full_sync_takes_only_its_frames() {
    let opener = || Side::opens(SyncKind::Full);
    assert_eq!(
        taken_by(opener),
        "Equal Busy OpenedElsewhere NotMember VersionVector Lists WallClock Standing"
    );
    let updates = || opener().after(empty_vector(true));
    assert_eq!(taken_by(updates), "NotMember Decline Lists Chunk ChunksDone");
    let compares = || updates().after(Frame::ChunksDone);
    assert_eq!(taken_by(compares), "NotMember Decline Lists Chunk Compared");
    // The only entry is compared in one request.
    let compared = || Frame::Compared { looked_at: 1, states: Vec::new(), refused_keys: Vec::new() };
    let closes = || compares().after(compared());
    assert_eq!(taken_by(closes), "NotMember Decline Lists Done");

    let responder = || Side::answers(SessionKind::Full);
    assert_eq!(taken_by(responder), "VersionVector Lists");
    let exchanges = || responder().after(empty_vector(true));
    assert_eq!(taken_by(exchanges), "Decline Lists Chunk ChunksDone Compare DeadSpans Close");
}

#[test]
fn each_step_of_a_pull_takes_only_its_frames() {
    assert_eq!(taken_by(|| Side::opens(SyncKind::Pull)), "Busy NotMember Decline Lists Chunk ChunksDone");
    let responder = || Side::answers(SessionKind::Pull);
    assert_eq!(taken_by(responder), "VersionVector Lists");
    let sends = || {
        let mut side = responder();
        side.handle(empty_vector(true)).unwrap();
        side
    };
    assert_eq!(taken_by(sends), "Lists");
}

#[test]
fn each_step_of_a_push_takes_only_its_frames() {
    let opener = || Side::opens(SyncKind::Push { relay: false });
    assert_eq!(taken_by(opener), "Busy NotMember VersionVector Decline Lists");
    let sends = || {
        let mut side = opener();
        side.handle(empty_vector(true)).unwrap();
        side
    };
    assert_eq!(taken_by(sends), "NotMember Lists");
    assert_eq!(taken_by(|| sends().sends()), "NotMember Lists Done");

    let responder = || Side::answers(SessionKind::Push { relay: false });
    assert_eq!(taken_by(responder), "VersionVector Lists");
    assert_eq!(taken_by(|| responder().after(empty_vector(true))), "Decline Lists Chunk ChunksDone");
}

#[test]
fn each_step_of_an_exchange_of_lists_takes_only_its_frames() {
    assert_eq!(taken_by(Side::opens_lists), "Busy Lists WantLists");
    let responder = || Side::answers(SessionKind::Lists);
    assert_eq!(taken_by(responder), "Lists ListVersions");
    let versions = || Frame::ListVersions { versions: Vec::new(), last: true };
    assert_eq!(taken_by(|| responder().after(versions())), "Lists Close");
}
