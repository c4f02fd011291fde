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
//! Each side of each kind is a type of its own, with a state for each step: a frame that does not belong to
//! the step is an error. They share [`Progress`], and the parts of which they are made: version vectors,
//! sending, chunks, the comparison. A session may be cut at any point without harm: each number is applied in
//! one step.

mod chunks;
mod comparison;
mod full;
mod lists;
mod progress;
mod pull;
mod push;
mod sending;
#[cfg(test)]
mod tests;
mod version_vector;

use std::sync::Arc;
use std::time::Instant;

use wire::{FramePoll, NodeName, StreamId};

use super::counters::RefusalReason;
use super::message::{AttachmentId, Frame, Open, SessionKind, Standing};
use super::network::Network;
use super::node_state::NodeState;
use super::owners::{Admission, Owners};
use super::requests::{SessionRequest, SyncKind};
use super::session_result::Outcome;
use super::timing::{DRAIN_TIMEOUT, SESSION_TIMEOUT};
pub(crate) use full::PeerCopy;
use full::{FullOpener, FullResponder};
use lists::{ListsOpener, ListsResponder};
use progress::{Context, UNEXPECTED};
pub(crate) use progress::{Progress, SessionError};
use pull::{PullOpener, PullResponder};
use push::{PushOpener, PushResponder};
use sending::Sending;

/// A session.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Session {
    pub(crate) progress: Progress,
    pub(crate) role: Role,
}

/// This node's side of a session of some kind.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Role {
    FullOpener(FullOpener),
    FullResponder(FullResponder),
    PullOpener(PullOpener),
    PullResponder(PullResponder),
    PushOpener(PushOpener),
    PushResponder(PushResponder),
    ListsOpener(ListsOpener),
    ListsResponder(ListsResponder),
}

impl Role {
    fn responder(kind: SessionKind) -> Self {
        match kind {
            SessionKind::Full => Self::FullResponder(FullResponder::new()),
            SessionKind::Pull => Self::PullResponder(PullResponder::new()),
            SessionKind::Push { relay } => Self::PushResponder(PushResponder::new(relay)),
            SessionKind::Lists => Self::ListsResponder(ListsResponder::new()),
        }
    }

    fn sending(&self) -> Option<&Sending> {
        match self {
            Self::FullOpener(role) => role.sending(),
            Self::FullResponder(role) => role.sending(),
            Self::PullResponder(role) => role.sending(),
            Self::PushOpener(role) => role.sending(),
            Self::PullOpener(_) | Self::PushResponder(_) | Self::ListsOpener(_) | Self::ListsResponder(_) => {
                None
            }
        }
    }
}

impl Session {
    /// Opens a session about a network.
    pub(crate) fn open(
        id: StreamId,
        request: SessionRequest,
        network: &mut Network,
        node: &mut NodeState,
        now: Instant,
    ) -> Self {
        let SessionRequest { kind, peer, indexes, periodic, .. } = request;
        let mut progress = Progress::new(id, peer, network.name.clone(), now);
        let epoch = network.store.attachment(network.own()).map_or(0, |own| own.tag.epoch);
        let open = Open {
            kind: kind.into(),
            network: &network.name,
            clock: node.clock.last(),
            generation: node.owners.me().generation,
            epoch,
            fingerprint: network.store.fingerprint(),
            periodic,
            wall: node.clock.wall(now),
            standing: if kind == SyncKind::Full {
                network.scheduler.standing()
            } else {
                Standing::Synchronised
            },
        };
        progress.send(&Frame::Open(open));
        let mut context = Context { progress: &mut progress, network, node, now };
        let role = match kind {
            SyncKind::Full => Role::FullOpener(FullOpener::new(periodic)),
            SyncKind::Pull => Role::PullOpener(PullOpener::open(indexes, &mut context)),
            SyncKind::Push { relay } => Role::PushOpener(PushOpener::open(indexes, relay, &mut context)),
        };
        Self { progress, role }
    }

    /// Opens an exchange of lists.
    pub(crate) fn open_lists(id: StreamId, peer: NodeName, node: &mut NodeState, now: Instant) -> Self {
        let mut progress = Progress::new(id, peer, "".into(), now);
        let open = Open::lists(node.clock.last(), node.owners.me().generation, node.clock.wall(now));
        progress.send(&Frame::Open(open));
        let role = Role::ListsOpener(ListsOpener::open(&mut progress, node));
        Self { progress, role }
    }

    /// Accepts a session that a peer opened. It is to be answered by [`Self::handle_open`] or refused.
    pub(crate) fn accept(
        id: StreamId,
        peer: NodeName,
        kind: SessionKind,
        network: Arc<str>,
        now: Instant,
    ) -> Self {
        Self { progress: Progress::new(id, peer, network, now), role: Role::responder(kind) }
    }

    /// Whether this node opened it.
    pub(crate) fn is_opened_here(&self) -> bool {
        match self.role {
            Role::FullOpener(_) | Role::PullOpener(_) | Role::PushOpener(_) | Role::ListsOpener(_) => true,
            Role::FullResponder(_)
            | Role::PullResponder(_)
            | Role::PushResponder(_)
            | Role::ListsResponder(_) => false,
        }
    }

    /// Whether one side has received updates that it lacked.
    pub(crate) fn brought_updates(&self) -> bool {
        self.progress.learned > 0 || self.role.sending().is_some_and(|sending| sending.sent_chunks)
    }

    /// Whether it is about attachment lists, not about a network.
    pub(crate) fn is_about_lists(&self) -> bool {
        matches!(self.role, Role::ListsOpener(_) | Role::ListsResponder(_))
    }

    /// When the session is given up if no progress is made.
    pub(crate) fn deadline(&self) -> Instant {
        let has_sent_all = self.role.sending().is_some_and(|sending| sending.is_complete);
        self.progress.at + if has_sent_all { DRAIN_TIMEOUT } else { SESSION_TIMEOUT }
    }

    /// Turns the opener away: too many sessions are open.
    pub(crate) fn refuse(&mut self) {
        self.progress.refuse();
    }

    /// Handles a peer's `Open`.
    pub(crate) fn handle_open(
        &mut self,
        open: &Open<'_>,
        network: Option<&mut Network>,
        node: &mut NodeState,
        now: Instant,
    ) {
        let progress = &mut self.progress;
        node.note_wall_clock(&progress.peer, open.wall, now);
        if let Role::ListsResponder(_) = self.role {
            return;
        }
        let Some(network) = network else {
            node.counters.refuse(RefusalReason::NotMember);
            progress.send(&Frame::NotMember(node.owners.own_list()));
            return progress.end(Outcome::Failed);
        };
        // The opener is the author of its own attachment, so its claim admits it; the claim of another node
        // would not. Only members receive a network's tables.
        let claim =
            AttachmentId { owner: progress.peer.as_str(), generation: open.generation, epoch: open.epoch };
        if let Err(admission) = network.admit(&claim, node) {
            node.counters.refuse(if admission == Admission::UnknownInstance {
                RefusalReason::UnknownInstance
            } else {
                RefusalReason::NotMember
            });
            return progress.refuse();
        }
        if node.owners.note_own_claim(progress.peer.as_str(), network.name.clone(), open.epoch) {
            network.scheduler.member_appeared(now);
        }
        let mut context = Context { progress, network, node, now };
        context.observe_clock(open.clock);
        if let Role::FullResponder(role) = &mut self.role {
            role.respond(open, &mut context);
        }
    }

    /// Handles the peer's next frame.
    pub(crate) fn handle_frame(
        &mut self,
        frame: Frame<'_>,
        mut network: Option<&mut Network>,
        node: &mut NodeState,
        now: Instant,
    ) -> Result<(), SessionError> {
        let progress = &mut self.progress;
        progress.at = now;
        if progress.outcome.is_some() {
            // The frame crossed the end of the session: ignore it.
            return Ok(());
        }
        if let Some(network) = &mut network {
            network.scheduler.frame_received(progress.id, now);
        }
        if let Frame::Lists(lists) = frame {
            // Either side of any session may know newer ones.
            progress.lists.extend(lists);
            return Ok(());
        }
        let context = match (&mut self.role, network) {
            (Role::ListsOpener(role), _) => return role.handle_frame(frame, progress, node),
            (Role::ListsResponder(role), _) => return role.handle_frame(frame, progress, node),
            (_, None) => return Err(SessionError::NetworkGone),
            (_, Some(network)) => &mut Context { progress, network, node, now },
        };
        match &mut self.role {
            Role::FullOpener(role) => role.handle_frame(frame, context),
            Role::FullResponder(role) => role.handle_frame(frame, context),
            Role::PullOpener(role) => role.handle_frame(frame, context),
            Role::PullResponder(role) => role.handle_frame(frame, context),
            Role::PushOpener(role) => role.handle_frame(frame, context),
            Role::PushResponder(role) => role.handle_frame(frame, context),
            Role::ListsOpener(_) | Role::ListsResponder(_) => Err(UNEXPECTED),
        }
    }

    /// The next frame to send.
    pub(crate) fn poll_frame(
        &mut self,
        network: Option<&mut Network>,
        node: &mut NodeState,
        now: Instant,
    ) -> FramePoll {
        let is_about_network = !self.is_about_lists();
        let progress = &mut self.progress;
        if progress.outcome.is_none()
            && is_about_network
            && !node.owners.is_member(progress.peer.as_str(), &progress.network)
        {
            // The peer has left the network since: it receives nothing of it any more, not even queued
            // frames.
            node.counters.refuse(RefusalReason::NotMember);
            progress.discard_frames();
            progress.end(Outcome::NotMember);
        }
        if let Some(frame) = progress.next_frame() {
            progress.at = now;
            return FramePoll::Frame(frame);
        }
        if progress.outcome.is_some() {
            return FramePoll::Finish;
        }
        let Some(network) = network else { return FramePoll::Wait };
        if self.role.sending().is_some_and(|sending| !sending.is_complete) {
            let context = &mut Context { progress, network, node, now };
            match &mut self.role {
                Role::FullOpener(role) => role.proceed(context),
                Role::FullResponder(role) => role.proceed(context),
                Role::PullResponder(role) => role.proceed(context),
                Role::PushOpener(role) => role.proceed(context),
                Role::PullOpener(_)
                | Role::PushResponder(_)
                | Role::ListsOpener(_)
                | Role::ListsResponder(_) => {}
            }
        }
        self.progress.next_frame().map_or(FramePoll::Wait, FramePoll::Frame)
    }

    /// This node has left the network. A session that is over may still send its last frames. A session in
    /// progress ends; if the peer opened it, the peer receives `NotMember`. Returns whether this ended it.
    pub(crate) fn abandon(&mut self, owners: &Owners) -> bool {
        let ends = self.progress.outcome.is_none();
        if ends {
            let is_opened_here = self.is_opened_here();
            self.progress.discard_frames();
            if !is_opened_here {
                self.progress.send(&Frame::NotMember(owners.own_list()));
            }
            self.progress.end(Outcome::Failed);
            self.progress.reported = true;
        }
        ends
    }
}
