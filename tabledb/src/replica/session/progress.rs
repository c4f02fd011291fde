//! What the sessions of all roles share: framing and progress.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use wire::{NodeName, StreamId, codec};

use super::super::counters::RefusalReason;
use super::super::message::{AttachmentList, Frame};
use super::super::network::{Applied, Network};
use super::super::node_state::NodeState;
use super::super::session_result::Outcome;
use super::super::timing::MAX_WAITING_ANSWERS;

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

/// A frame that the role does not take, or not now.
pub(super) const UNEXPECTED: SessionError = SessionError::Unexpected("this frame");

/// The framing and progress of a session.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Progress {
    pub(crate) id: StreamId,
    pub(crate) peer: NodeName,
    /// Empty for an exchange of lists.
    pub(crate) network: Arc<str>,
    outbox: VecDeque<Vec<u8>>,
    /// Received attachment lists, to be applied by the replica.
    pub(crate) lists: Vec<AttachmentList>,
    /// Dots learned from the peer.
    pub(crate) learned: u64,
    pub(crate) outcome: Option<Outcome>,
    /// The result has been reported to the network.
    pub(crate) reported: bool,
    /// When the latest frame was received or sent.
    pub(super) at: Instant,
}

impl Progress {
    pub(super) fn new(id: StreamId, peer: NodeName, network: Arc<str>, now: Instant) -> Self {
        Self {
            id,
            peer,
            network,
            outbox: VecDeque::new(),
            lists: Vec::new(),
            learned: 0,
            outcome: None,
            reported: false,
            at: now,
        }
    }

    pub(super) fn send(&mut self, frame: &Frame<'_>) {
        self.outbox.push_back(codec::encode(frame));
    }

    pub(super) fn send_encoded(&mut self, frame: Vec<u8>) {
        self.outbox.push_back(frame);
    }

    pub(super) fn next_frame(&mut self) -> Option<Vec<u8>> {
        self.outbox.pop_front()
    }

    pub(super) fn discard_frames(&mut self) {
        self.outbox.clear();
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }

    /// Turns the opener away: too many sessions are open, or a better one is in progress.
    pub(super) fn refuse(&mut self) {
        self.send(&Frame::Busy);
        self.end(Outcome::Failed);
    }

    /// Fails if many responses are unread, before another one is made.
    pub(super) fn check_unread(&self) -> Result<(), SessionError> {
        if self.outbox.len() >= MAX_WAITING_ANSWERS {
            return Err(SessionError::Unexpected("another request while many responses are unread"));
        }
        Ok(())
    }

    /// The peer answers that it is not on the network. Its own list shows it.
    pub(super) fn peer_is_not_member(
        &mut self,
        list: AttachmentList,
        node: &mut NodeState,
    ) -> Result<(), SessionError> {
        if list.owner.name != self.peer {
            node.counters.refuse(RefusalReason::NotAuthor);
            return Err(SessionError::Unexpected("the attachment list of another node"));
        }
        self.lists.push(list);
        self.end(Outcome::NotMember);
        Ok(())
    }

    pub(super) fn note_applied(&mut self, applied: Applied, node: &mut NodeState) {
        self.learned += applied.learned + applied.superseded;
        node.counters.updates_learned += applied.learned;
        if applied.generation_conflict {
            node.report_generation_conflict();
        }
    }
}

/// What a role works with while it handles one frame or makes the next one.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) progress: &'a mut Progress,
    pub(super) network: &'a mut Network,
    pub(super) node: &'a mut NodeState,
    pub(super) now: Instant,
}

impl Context<'_> {
    pub(super) fn send(&mut self, frame: &Frame<'_>) {
        self.progress.send(frame);
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        self.progress.end(outcome);
    }

    /// The peer's clock counts, unless it is too far ahead.
    pub(super) fn observe_clock(&mut self, clock: u64) {
        if self.node.clock.believes(clock, self.now) {
            self.node.clock.observe(clock);
        }
    }
}
