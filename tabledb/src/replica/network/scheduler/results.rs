//! How sessions go, and what the scheduler does when one is over.

use std::time::Instant;

use wire::{NodeName, StreamId};

use super::super::super::node_state::NodeState;
use super::super::super::requests::SyncKind;
use super::super::super::session_result::{FullSyncResult, Opener, Outcome, PeerStanding};
use super::super::super::store::Store;
use super::super::super::timing::{MAX_ABSENCES, RETRY};
use super::{Phase, SyncScheduler};
use crate::record::AttachmentIndex;

impl SyncScheduler {
    // Sessions in progress.

    /// This node opens a session. False if it is needless: a pull is in progress, or a push to this peer.
    pub(crate) fn session_opened(
        &mut self,
        id: StreamId,
        kind: SyncKind,
        peer: &NodeName,
        now: Instant,
    ) -> bool {
        if let Phase::Leaving(leaving) = &mut self.phase
            && kind == SyncKind::Full
        {
            leaving.opened(id, peer, now);
        }
        self.sessions.open(id, kind, peer, now)
    }

    /// A full sync is not opened: its peer has left the network since the request.
    pub(crate) fn full_sync_not_begun(&mut self, now: Instant) {
        self.sync_at = now;
    }

    /// A frame of a session arrived from the peer.
    pub(crate) fn frame_received(&mut self, id: StreamId, now: Instant) {
        self.sessions.frame_received(id, now);
    }

    /// A session will bring the missing numbers of an attachment, unless another already does.
    pub(crate) fn will_bring(&mut self, index: AttachmentIndex, id: StreamId, now: Instant) {
        self.sessions.will_bring(index, id, now);
    }

    /// Whether a session brings the missing numbers of an attachment.
    pub(crate) fn brings(&self, index: AttachmentIndex, now: Instant) -> bool {
        self.sessions.brings(index, now)
    }

    /// A push has sent all that the peer lacked: new updates are sent to it by gossip again.
    pub(crate) fn push_caught_up(&mut self, id: StreamId) {
        self.sessions.push_caught_up(id);
    }

    // Sessions that are over.

    /// A session is over, on either side and of any kind: it brings nothing any more.
    pub(crate) fn session_over(&mut self, id: StreamId) {
        self.sessions.over(id);
    }

    /// A full sync is over. Returns the attachments that are to be shown.
    pub(crate) fn full_sync_over(
        &mut self,
        sync: &FullSyncResult<'_>,
        store: &Store,
        node: &mut NodeState,
        now: Instant,
    ) -> Vec<AttachmentIndex> {
        let Opener::ThisNode { periodic } = sync.opener else {
            return self.full_sync_result(sync, store, node, now);
        };
        let opened_at = self.sessions.full_sync_over(sync.stream);
        if let (Outcome::Completed, Some(opened_at)) = (sync.outcome, opened_at) {
            node.latencies.full_sync.add(now.saturating_duration_since(opened_at));
        }
        let was_in_progress = opened_at.is_some();
        let mut shown = Vec::new();
        match sync.outcome {
            Outcome::Completed | Outcome::OpenedElsewhere => {
                shown = self.full_sync_result(sync, store, node, now);
            }
            Outcome::TurnedAway => self.full_sync_turned_away(sync.peer, periodic, node, now),
            Outcome::NotMember if was_in_progress => self.peer_was_no_member(sync.peer, node, now),
            Outcome::Failed if was_in_progress => self.full_sync_failed(node, now),
            Outcome::NotMember | Outcome::Failed => {}
        }
        self.final_sync_over(sync, node, now);
        shown
    }

    /// What counts on both sides.
    fn full_sync_result(
        &mut self,
        sync: &FullSyncResult<'_>,
        store: &Store,
        node: &mut NodeState,
        now: Instant,
    ) -> Vec<AttachmentIndex> {
        match sync.outcome {
            Outcome::Completed => return self.full_sync_completed(sync, store, node, now),
            // It gave way to the one that the other side had opened. If that one fails, another is made.
            Outcome::OpenedElsewhere => self.sync_at = now + RETRY,
            Outcome::TurnedAway | Outcome::NotMember | Outcome::Failed => {}
        }
        Vec::new()
    }

    fn full_sync_completed(
        &mut self,
        sync: &FullSyncResult<'_>,
        store: &Store,
        node: &mut NodeState,
        now: Instant,
    ) -> Vec<AttachmentIndex> {
        let peer = sync.peer;
        node.counters.syncs_completed += 1;
        self.absences = 0;
        self.anti_entropy.completed(peer, node, now);
        let shown = self.returned.compared(sync.shown);
        if !self.is_leaving() {
            // Another waiting sync with this peer would find no difference.
            node.requests.forget_full_syncs(&self.network, Some(peer.as_str()));
        }
        self.initial_sync_completed(peer, sync.standing, node, now);
        if !shown.is_empty() && !self.returned.is_empty() {
            // The comparison helped, so the next one starts at once. One that does not help is repeated after
            // a pause.
            self.compare_hidden(node, now);
        }
        // The missing numbers may have arrived with it.
        self.pulls.forget_arrived(store);
        tracing::debug!(network = &*self.network, peer = peer.as_str(), "compared");
        self.anti_entropy.plan(node, now);
        shown
    }

    fn initial_sync_completed(
        &mut self,
        peer: &NodeName,
        standing: &PeerStanding,
        node: &mut NodeState,
        now: Instant,
    ) {
        let Phase::Joining(initial) = &mut self.phase else { return };
        match standing {
            PeerStanding::Synchronised => return self.synchronised(node),
            PeerStanding::Leaving => {}
            PeerStanding::Unsynchronised(names) => {
                // Only members, which bounds the set.
                let members = names.iter().filter(|name| node.owners.is_member(name.as_str(), &self.network));
                initial.add_unsynchronised(members.cloned());
            }
        }
        initial.add_unsynchronised([peer.clone()]);
        if initial.holds_what_all_held(self.members.all(&node.owners)) {
            return self.synchronised(node);
        }
        self.sync_at = now;
    }

    /// It ended without a result.
    fn full_sync_failed(&mut self, node: &mut NodeState, now: Instant) {
        node.counters.syncs_failed += 1;
        self.sync_at = now + RETRY;
        if let Phase::Joining(initial) = &mut self.phase {
            initial.failed(&self.network, node);
        }
    }

    /// The peer has no capacity for a full sync now. This is no failure: another member is asked, or the same
    /// one later.
    fn full_sync_turned_away(&mut self, peer: &NodeName, periodic: bool, node: &mut NodeState, now: Instant) {
        match self.phase {
            Phase::Joining(_) => self.sync_at = now,
            Phase::Active if !periodic => self.request_full_sync(peer.clone(), false, node),
            Phase::Active | Phase::Leaving(_) => {}
        }
    }

    /// The peer is not on the network. This is no failure: another member is asked at once.
    fn peer_was_no_member(&mut self, peer: &NodeName, node: &mut NodeState, now: Instant) {
        // A peer that has returned since still counts as a member; so does one that lies.
        let is_member = node.owners.is_member(peer.as_str(), &self.network);
        self.absences = if is_member { self.absences + 1 } else { 0 };
        if !self.is_leaving() {
            self.sync_at = if self.absences <= MAX_ABSENCES { now } else { now + RETRY };
        }
    }

    /// If it was a final sync and did not complete, another is made.
    fn final_sync_over(&mut self, sync: &FullSyncResult<'_>, node: &mut NodeState, now: Instant) {
        let Phase::Leaving(leaving) = &mut self.phase else { return };
        let peer_is_leaving = *sync.standing == PeerStanding::Leaving;
        let returns_too_often = self.absences > MAX_ABSENCES;
        if leaving.ended(sync.stream, sync.outcome, peer_is_leaving, returns_too_often) {
            self.keep_final_syncs(node, now);
        }
    }

    /// A pull is over.
    pub(crate) fn pull_over(
        &mut self,
        id: StreamId,
        peer: &NodeName,
        outcome: Outcome,
        store: &Store,
        node: &mut NodeState,
        now: Instant,
    ) {
        match outcome {
            Outcome::TurnedAway => self.pull_turned_away(id, node, now),
            Outcome::NotMember => {
                self.pull_ended(id, store, node, now);
                // Another member is asked at once.
                let others = self.members.sample(2, node);
                if let Some(other) = others.iter().find(|other| *other != peer) {
                    self.pulls.ask(other, now);
                }
            }
            Outcome::Completed | Outcome::OpenedElsewhere | Outcome::Failed => {
                self.pull_ended(id, store, node, now);
            }
        }
    }

    /// The peer has no capacity for a pull now: another member is asked, and the pull does not count.
    fn pull_turned_away(&mut self, id: StreamId, node: &mut NodeState, now: Instant) {
        if self.sessions.pull_over(id) {
            let other = self.members.sample(1, node).pop();
            self.pulls.turned_away(other.as_ref(), now);
        }
    }

    /// Numbers that a pull did not bring are requested from their owner or from another member.
    pub(super) fn pull_ended(&mut self, id: StreamId, store: &Store, node: &mut NodeState, now: Instant) {
        if !self.sessions.pull_over(id) {
            return;
        }
        self.pulls.forget_arrived(store);
        self.pulls.ended(now);
        if !self.pulls.is_empty() {
            let others = self.members.sample(2, node);
            self.pulls.choose_sources(&others, store, &node.owners);
        }
    }
}
