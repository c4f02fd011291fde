//! One session with one peer over a reliable stream: a state machine that takes and returns frames.
//!
//! | kind | opener | responder |
//! |---|---|---|
//! | full | `Open` | `Standing` unless it is synchronised; `Equal`, or its `VersionVector` |
//! | | its `VersionVector`, `Chunk`…, `ChunksDone` | `Chunk`…, `ChunksDone` |
//! | | `Compare`, `DeadSpans` … `Close` | `Compared` … `Done` |
//! | pull | `Open`, `VersionVector` of what it lacks of | `Chunk`…, `ChunksDone` |
//! | push | `Open`, `VersionVector` of what it has updates of | `VersionVector` of the same |
//! | | `Chunk`…, `ChunksDone` | `Done` |
//! | lists | `Open`, `ListVersions` | `Lists`…, `WantLists` |
//! | | `Lists`…, `Close` | |
//!
//! A session may be cut at any point without harm: each number is applied in one step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use wire::{FramePoll, NodeName, StreamId, codec};

use super::bundle::attachment_id;
use super::comparison::Claims;
use super::counters::RefusalReason;
use super::message::{AttachmentId, FRAME_BUDGET, Frame, Open, SessionKind, Standing};
use super::network::{Arrival, Network};
use super::node_state::NodeState;
use super::owners::{Admission, Owners};
use super::requests::SessionRequest;
use super::skews;
use super::store::VersionVector;
use super::timing::{DRAIN_TIMEOUT, MAX_WAITING_ANSWERS, SESSION_TIMEOUT};
use super::view::AttachmentIndex;

/// The hidden attachments of a network, if they fit a frame.
fn hidden_attachments(network: &Network) -> Option<Vec<AttachmentId<'_>>> {
    let hidden = network.store.attachments().filter(|(_, held)| !held.tag.is_shown());
    let mut budget = FRAME_BUDGET;
    hidden
        .map(|(_, held)| {
            budget = budget.checked_sub(held.tag.owner.name.as_str().len() + 24)?;
            Some(attachment_id(&held.tag))
        })
        .collect()
}

/// The result of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Outcome {
    Completed,
    Failed,
    /// Both sides had opened one; the other one goes on.
    OpenedElsewhere,
    /// The peer has no capacity for it now.
    TurnedAway,
    /// The peer is not on the network, or has just left it. This is a response, not a failure.
    NotMember,
}

/// The claim of a full sync's peer about its own copy.
#[derive(Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum PeerStanding {
    #[default]
    Synchronised,
    /// It holds what these nodes held, which are not synchronised either.
    Unsynchronised(Vec<NodeName>),
    Leaving,
}

impl From<&Standing<'_>> for PeerStanding {
    fn from(standing: &Standing<'_>) -> Self {
        match standing {
            Standing::Synchronised => Self::Synchronised,
            Standing::Leaving => Self::Leaving,
            Standing::Unsynchronised(names) => {
                Self::Unsynchronised(names.iter().filter_map(|name| NodeName::new(name).ok()).collect())
            }
        }
    }
}

#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Session {
    pub(crate) id: StreamId,
    pub(crate) peer: NodeName,
    pub(crate) kind: SessionKind,
    /// Empty for an exchange of lists.
    pub(crate) network: Arc<str>,
    pub(crate) opened_here: bool,
    pub(super) outbox: VecDeque<Vec<u8>>,
    /// For a pull or push: the attachments that it is about.
    pub(super) scope: BTreeSet<AttachmentIndex>,
    /// The peer's version vector: as reported by the peer, and extended by the updates sent since.
    pub(super) peer_seen: VersionVector,
    /// The number of ranges that the peer has sent.
    pub(super) received_ranges: usize,
    /// Attachments of which the peer would refuse updates.
    pub(super) declined: BTreeSet<AttachmentIndex>,
    /// The attachments still to be sent, the smallest first.
    pub(super) queue: VecDeque<AttachmentIndex>,
    pub(super) sending: bool,
    pub(super) sent_all: bool,
    pub(super) received_all: bool,
    pub(crate) peer_standing: PeerStanding,
    /// Attachments that the peer shows.
    pub(crate) shown_by_peer: Vec<AttachmentIndex>,
    /// Owners of which the peer knows an older attachment list.
    pub(super) outdated_lists: BTreeSet<String>,
    pub(super) refused: Vec<(String, u64, u64)>,
    /// Some of them belong to instances that membership has not reported yet: their writes will come.
    pub(super) lacks_attachments: bool,
    pub(super) comparison: super::comparison::Comparison,
    pub(super) list_exchange: super::list_exchange::ListExchange,
    /// Dots learned from the peer.
    pub(crate) learned: u64,
    /// The peer lacked updates, which were sent.
    pub(crate) sent_updates: bool,
    /// Received attachment lists, to be applied by the replica.
    pub(crate) lists: Vec<super::message::AttachmentList>,
    pub(crate) outcome: Option<Outcome>,
    /// Only the anti-entropy period caused the session.
    pub(crate) periodic: bool,
    /// The result has been reported to the network.
    pub(crate) reported: bool,
    progress_at: Instant,
}

/// The session cannot go on; its stream is to be reset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Malformed(#[from] codec::DecodeError),
    #[error("{0} is out of turn in this session")]
    Unexpected(&'static str),
    #[error("ranges are not ascending and disjoint")]
    Ranges,
    #[error("more {0} than any session needs")]
    TooMany(&'static str),
    #[error("this node has left the network")]
    NetworkGone,
}

impl Session {
    fn new(
        id: StreamId,
        peer: NodeName,
        kind: SessionKind,
        network: Arc<str>,
        opened_here: bool,
        now: Instant,
    ) -> Self {
        Self {
            id,
            peer,
            kind,
            network,
            opened_here,
            outbox: VecDeque::new(),
            scope: BTreeSet::new(),
            peer_seen: BTreeMap::new(),
            received_ranges: 0,
            declined: BTreeSet::new(),
            queue: VecDeque::new(),
            sending: false,
            sent_all: false,
            received_all: false,
            peer_standing: PeerStanding::default(),
            shown_by_peer: Vec::new(),
            outdated_lists: BTreeSet::new(),
            refused: Vec::new(),
            lacks_attachments: false,
            comparison: super::comparison::Comparison::default(),
            list_exchange: super::list_exchange::ListExchange::default(),
            learned: 0,
            sent_updates: false,
            lists: Vec::new(),
            outcome: None,
            periodic: false,
            reported: false,
            progress_at: now,
        }
    }

    /// Opens a session about a network.
    pub(crate) fn open(
        id: StreamId,
        request: SessionRequest,
        network: &mut Network,
        node: &mut NodeState,
        now: Instant,
    ) -> Self {
        let SessionRequest { kind, peer, indexes: scope, periodic, .. } = request;
        let mut session = Self::new(id, peer, kind, network.name.clone(), true, now);
        let epoch = network.store.attachment(network.own()).map_or(0, |own| own.tag.epoch);
        let open = Open {
            kind,
            network: &network.name,
            clock: node.clock.last(),
            generation: node.owners.me().generation,
            epoch,
            fingerprint: network.store.fingerprint(),
            periodic,
            wall: node.clock.wall(now),
            standing: if kind == SessionKind::Full { network.standing() } else { Standing::Synchronised },
        };
        session.send(&Frame::Open(open));
        (session.scope, session.periodic) = (scope, periodic);
        if kind != SessionKind::Full {
            session.send_version_vector(network, node);
        }
        session
    }

    /// Opens an exchange of lists.
    pub(crate) fn open_lists(id: StreamId, peer: NodeName, node: &mut NodeState, now: Instant) -> Self {
        let mut session = Self::new(id, peer, SessionKind::Lists, "".into(), true, now);
        let open = Open::lists(node.clock.last(), node.owners.me().generation, node.clock.wall(now));
        session.send(&Frame::Open(open));
        session.send_list_versions(node);
        session
    }

    /// Accepts a session that a peer opened.
    pub(crate) fn accept(
        id: StreamId,
        peer: NodeName,
        kind: SessionKind,
        network: Arc<str>,
        now: Instant,
    ) -> Self {
        Self::new(id, peer, kind, network, false, now)
    }

    /// When the session is given up if no progress is made.
    pub(crate) fn deadline(&self) -> Instant {
        self.progress_at + if self.sent_all { DRAIN_TIMEOUT } else { SESSION_TIMEOUT }
    }

    /// Turns the opener away: too many sessions are open, or a better one is in progress.
    pub(crate) fn refuse(&mut self) {
        self.send(&Frame::Busy);
        self.end(Outcome::Failed);
    }

    /// Handles a peer's `Open`.
    pub(crate) fn handle_open(
        &mut self,
        open: &Open<'_>,
        network: Option<&mut Network>,
        node: &mut NodeState,
        now: Instant,
    ) {
        node.note_wall_clock(&self.peer, open.wall, now);
        if self.kind == SessionKind::Lists {
            return;
        }
        let Some(network) = network else {
            node.counters.refuse(RefusalReason::NotMember);
            let list = node.owners.own_list();
            self.send(&Frame::NotMember(list));
            return self.end(Outcome::Failed);
        };
        // The opener is the author of its own attachment, so its claim admits it; the claim of another node
        // would not. Only members receive a network's tables.
        let claim =
            AttachmentId { owner: self.peer.as_str(), generation: open.generation, epoch: open.epoch };
        if let Err(admission) = network.admit(&claim, node) {
            node.counters.refuse(if admission == Admission::UnknownInstance {
                RefusalReason::UnknownInstance
            } else {
                RefusalReason::NotMember
            });
            self.send(&Frame::Busy);
            return self.end(Outcome::Failed);
        }
        if node.owners.note_own_claim(self.peer.as_str(), network.name.clone(), open.epoch) {
            network.member_appeared(now);
        }
        if node.clock.believes(open.clock, now) {
            node.clock.observe(open.clock);
        }
        if self.kind == SessionKind::Full {
            // Both sides have opened a sync at the same time: one is enough, and both choose the same. But a
            // final sync is never turned away for another one, which may have compared a state before the
            // leaver's last writes.
            if node.owners.me().name < self.peer
                && open.standing != Standing::Leaving
                && network.is_syncing_with(&self.peer, now)
            {
                self.send(&Frame::OpenedElsewhere);
                return self.end(Outcome::OpenedElsewhere);
            }
            // The initial sync already brings what a synchronised member holds; over a slow link each copy
            // takes minutes.
            if open.standing == Standing::Synchronised && network.is_receiving_initial_sync() {
                return self.refuse();
            }
            let wall = node.clock.wall(now);
            if skews::is_notable(open.wall, wall) {
                self.send(&Frame::WallClock { wall });
            }
            self.peer_standing = PeerStanding::from(&open.standing);
            let standing = network.standing();
            if standing != Standing::Synchronised {
                self.send(&Frame::Standing(standing));
            }
            if open.fingerprint == network.store.fingerprint() {
                self.send(&Frame::Equal { clock: node.clock.last(), hidden: hidden_attachments(network) });
                return self.end(Outcome::Completed);
            }
            self.send_version_vector(network, node);
        }
    }

    /// Handles the peer's next frame.
    pub(crate) fn handle_frame(
        &mut self,
        frame: Frame<'_>,
        network: Option<&mut Network>,
        node: &mut NodeState,
        now: Instant,
    ) -> Result<(), SessionError> {
        self.progress_at = now;
        if self.outcome.is_some() {
            // The frame crossed the end of the session: ignore it.
            return Ok(());
        }
        if self.kind == SessionKind::Lists {
            return self.handle_list_frame(frame, node);
        }
        let network = network.ok_or(SessionError::NetworkGone)?;
        let (opener, kind) = (self.opened_here, self.kind);
        network.receiving.frame_received(self.id, now);
        if let Some(syncing) = network.syncing.get_mut(&self.id) {
            syncing.frame_received(now);
        } else if let Some((_, pulling)) = network.pulling.as_mut().filter(|(stream, _)| *stream == self.id) {
            pulling.frame_received(now);
        }
        match frame {
            Frame::Equal { clock, hidden } if opener && kind == SessionKind::Full => {
                if node.clock.believes(clock, now) {
                    node.clock.observe(clock);
                }
                let hidden = hidden.map(|hidden| hidden.into_iter().collect::<BTreeSet<_>>());
                let shown = network.store.attachments().filter(|(_, held)| match &hidden {
                    Some(hidden) => !hidden.contains(&attachment_id(&held.tag)),
                    // An owner shows its own entries.
                    None => held.tag.owner.name == self.peer,
                });
                self.shown_by_peer.extend(shown.map(|(index, _)| index));
                self.end(Outcome::Completed);
                Ok(())
            }
            Frame::WallClock { wall } if opener => {
                node.note_wall_clock(&self.peer, wall, now);
                Ok(())
            }
            Frame::Standing(standing) if opener && kind == SessionKind::Full && !self.sending => {
                self.peer_standing = PeerStanding::from(&standing);
                Ok(())
            }
            Frame::Busy if opener => {
                self.end(Outcome::TurnedAway);
                Ok(())
            }
            Frame::OpenedElsewhere if opener && kind == SessionKind::Full => {
                self.end(Outcome::OpenedElsewhere);
                Ok(())
            }
            Frame::NotMember(list) if opener => {
                if list.owner.name != self.peer {
                    node.counters.refuse(RefusalReason::NotAuthor);
                    return Err(SessionError::Unexpected("the attachment list of another node"));
                }
                self.lists.push(list);
                self.end(Outcome::NotMember);
                Ok(())
            }
            Frame::VersionVector { clock, entries, last } => {
                if node.clock.believes(clock, now) {
                    node.clock.observe(clock);
                }
                self.handle_version_vector(entries, last, network, node, now)
            }
            Frame::Decline(attachments) => {
                for id in attachments {
                    if let Some((index, held)) = network.store.of_owner(id.owner)
                        && held.tag.epoch == id.epoch
                        && held.tag.owner.generation == id.generation
                    {
                        self.declined.insert(index);
                    }
                }
                Ok(())
            }
            Frame::Lists(lists) => {
                self.lists.extend(lists);
                Ok(())
            }
            Frame::Chunk(bundle) => {
                if *bundle.network != *self.network {
                    return Err(SessionError::Unexpected("a chunk of another network"));
                }
                let applied = network.apply(&bundle, &self.peer, Arrival::Sync, node, now);
                self.note_applied(applied, node);
                Ok(())
            }
            Frame::ChunksDone => {
                self.received_all = true;
                match (kind, opener) {
                    (SessionKind::Full, true) if self.sent_all => self.start_comparison(network),
                    (SessionKind::Full, _) => {}
                    (SessionKind::Pull, true) => self.end(Outcome::Completed),
                    (SessionKind::Push { .. }, false) => {
                        self.send(&Frame::Done);
                        self.end(Outcome::Completed);
                    }
                    _ => return Err(SessionError::Unexpected("the end of chunks")),
                }
                Ok(())
            }
            Frame::Compare { .. } | Frame::Compared { .. } if self.outbox.len() >= MAX_WAITING_ANSWERS => {
                Err(SessionError::Unexpected("another request while many responses are unread"))
            }
            Frame::Compare { attachments, spans } if !opener && kind == SessionKind::Full => {
                self.answer_comparison(&attachments, &spans, network, node, now);
                Ok(())
            }
            Frame::Compared { looked_at, states, refused_keys } if opener && kind == SessionKind::Full => {
                let claims = Claims { states, refused_keys };
                self.handle_compared(looked_at as usize, &claims, network, node, now)
            }
            Frame::DeadSpans { states, refused_keys } if !opener && kind == SessionKind::Full => {
                self.apply_exact(&Claims { states, refused_keys }, network, node)
            }
            Frame::Close if !opener && kind == SessionKind::Full => {
                self.send(&Frame::Done);
                self.end(Outcome::Completed);
                Ok(())
            }
            Frame::Done if opener => {
                self.end(Outcome::Completed);
                Ok(())
            }
            _ => Err(SessionError::Unexpected("this frame")),
        }
    }

    /// The next frame to send.
    pub(crate) fn poll_frame(
        &mut self,
        network: Option<&mut Network>,
        node: &mut NodeState,
        now: Instant,
    ) -> FramePoll {
        if self.outcome.is_none()
            && self.kind != SessionKind::Lists
            && !node.owners.is_member(self.peer.as_str(), &self.network)
        {
            // The peer has left the network since: it receives nothing of it any more, not even queued
            // frames.
            node.counters.refuse(RefusalReason::NotMember);
            self.outbox.clear();
            self.end(Outcome::NotMember);
        }
        if let Some(frame) = self.outbox.pop_front() {
            self.progress_at = now;
            return FramePoll::Frame(frame);
        }
        if self.outcome.is_some() {
            return FramePoll::Finish;
        }
        let Some(network) = network else { return FramePoll::Wait };
        if !self.sending || self.sent_all {
            return FramePoll::Wait;
        }
        self.progress_at = now;
        if let Some(chunk) = self.next_chunk(network, node, now) {
            self.sent_updates = true;
            return FramePoll::Frame(chunk);
        }
        self.sent_all = true;
        // From here on, new writes are sent by gossip again.
        network.pushing.retain(|_, &mut id| id != self.id);
        if self.kind == SessionKind::Pull {
            self.send(&Frame::ChunksDone);
            self.end(Outcome::Completed);
        } else {
            self.send(&Frame::ChunksDone);
            if self.kind == SessionKind::Full && self.opened_here && self.received_all {
                self.start_comparison(network);
            }
        }
        self.outbox.pop_front().map_or(FramePoll::Wait, FramePoll::Frame)
    }

    pub(super) fn note_applied(&mut self, applied: super::network::Applied, node: &mut NodeState) {
        self.learned += applied.learned + applied.superseded;
        node.counters.news += applied.learned;
        if applied.generation_conflict {
            node.report_generation_conflict();
        }
    }

    pub(super) fn send(&mut self, frame: &Frame<'_>) {
        self.outbox.push_back(codec::encode(frame));
    }

    /// This node has left the network. A session that is over may still send its last frames. A session in
    /// progress ends; if the peer opened it, the peer receives `NotMember`. Returns whether this ended it.
    pub(crate) fn abandon(&mut self, owners: &Owners) -> bool {
        let ends = self.outcome.is_none();
        if ends {
            self.outbox.clear();
            if !self.opened_here {
                self.send(&Frame::NotMember(owners.own_list()));
            }
            self.end(Outcome::Failed);
            self.reported = true;
        }
        ends
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }
}
