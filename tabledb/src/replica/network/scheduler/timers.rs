//! What the scheduler requests as time passes: everything that is needed and not in progress.

use std::time::{Duration, Instant};

use super::super::super::node_state::NodeState;
use super::super::super::requests::SyncKind;
use super::super::super::store::Store;
use super::super::super::timing::{
    FIRST_RESPONSE_TIMEOUT, INITIAL_SYNC_LIMIT, LISTS_TIMEOUT, MISSING_GRACE, PEER_IDLE_TIMEOUT, RETRY,
};
use super::{Phase, SyncScheduler};
use crate::JoinOutcome;
use crate::record::AttachmentIndex;

impl SyncScheduler {
    /// The next time at which something is due.
    pub(in crate::replica::network) fn next_deadline(&self) -> Instant {
        let phase = match &self.phase {
            Phase::Joining(_) => Some(self.sync_at),
            Phase::Active => None,
            Phase::Leaving(leaving) => Some(leaving.deadline().min(self.sync_at)),
        };
        let hidden = (!self.returned.is_empty()).then_some(self.sync_at);
        [self.next_pull_at(), phase, hidden].into_iter().flatten().fold(self.anti_entropy.at(), Instant::min)
    }

    /// Requests the sessions that are needed now. Returns attachments to show: they have waited long enough
    /// for a comparison.
    pub(in crate::replica::network) fn request_needed(
        &mut self,
        store: &Store,
        node: &mut NodeState,
        now: Instant,
    ) -> Vec<AttachmentIndex> {
        self.pull_missing(store, node, now);
        let shown = self.keep_comparing_hidden(node, now);
        self.keep_initial_sync(node, now);
        self.keep_final_syncs(node, now);
        shown
    }

    /// Requests the comparison that no known difference causes, if it is due.
    pub(in crate::replica::network) fn request_periodic(&mut self, node: &mut NodeState, now: Instant) {
        if now < self.anti_entropy.at() {
            return;
        }
        self.anti_entropy.plan(node, now);
        if !self.is_syncing(node) && !self.is_leaving() {
            node.counters.comparisons_periodic += 1;
            if let Some(peer) = self.members.sample(1, node).pop() {
                self.request_full_sync(peer, true, node);
            }
        }
    }

    /// The time of the next pull. One pull runs at a time, unless its peer does not respond or has become
    /// idle.
    ///
    /// Nothing is pulled before the initial sync, which brings the same and the superseded numbers with it. A
    /// pull brings one attachment alone. A node that knew nothing but a tombstone, and has reaped it, would
    /// show the put that it pulls later.
    fn next_pull_at(&self) -> Option<Instant> {
        let due = self.pulls.due_at().filter(|_| self.is_synced())?;
        Some(self.sessions.pull_gives_way_at().map_or(due, |at| due.max(at)))
    }

    /// Starts a pull, if one is due.
    fn pull_missing(&mut self, store: &Store, node: &mut NodeState, now: Instant) {
        if self.next_pull_at().is_none_or(|at| at > now) {
            return;
        }
        if let Some(silent) = self.sessions.pull() {
            // Treated as over: another member is asked, and the pull counts, else a node with a single peer
            // would pull for ever.
            return self.pull_ended(silent, store, node, now);
        }
        self.pulls.forget_arrived(store);
        let Some(source) = self.pulls.source(now).cloned() else { return };
        // The node that reported the number may not be a member, or not be known as one yet.
        let is_member = node.owners.is_member(source.as_str(), &self.network);
        let source = if is_member { Some(source) } else { self.members.sample(1, node).pop() };
        let mut indexes = self.pulls.start(now);
        indexes.retain(|index| !self.sessions.brings(*index, now));
        if let Some(source) = source.filter(|_| !indexes.is_empty()) {
            node.counters.pulls += 1;
            self.request(SyncKind::Pull, source, indexes, false, node);
        }
    }

    /// Compares for hidden entries, and gives up those that have waited long enough: they are returned.
    fn keep_comparing_hidden(&mut self, node: &mut NodeState, now: Instant) -> Vec<AttachmentIndex> {
        if self.returned.is_empty() || now < self.sync_at {
            return Vec::new();
        }
        self.sync_at = now + RETRY;
        let shown = self.returned.expire(now);
        node.counters.shown_uncompared += shown.len() as u64;
        self.compare_hidden(node, now);
        shown
    }

    /// Starts a comparison for hidden entries.
    pub(super) fn compare_hidden(&mut self, node: &mut NodeState, now: Instant) {
        let members = self.members.all(&node.owners);
        if let Some(peer) = self.returned.next_peer(members, &self.sessions, &self.network, node, now) {
            self.request_full_sync(peer, false, node);
        }
    }

    /// Starts an initial sync, unless one is in progress.
    fn keep_initial_sync(&mut self, node: &mut NodeState, now: Instant) {
        let Phase::Joining(initial) = &mut self.phase else { return };
        if now < self.sync_at {
            return;
        }
        self.sync_at = now + RETRY;
        if now >= self.joined_at + INITIAL_SYNC_LIMIT {
            initial.announce_ready(&self.network, JoinOutcome::Unsynchronised, node);
        }
        // A sync without a response, or with an idle peer, is probably with an unreachable member, which
        // takes seconds to detect.
        let is_in_progress = self.sessions.full_syncs().any(|syncing| {
            syncing.is_in_progress(FIRST_RESPONSE_TIMEOUT, now) && !syncing.is_idle(PEER_IDLE_TIMEOUT, now)
        });
        if !is_in_progress && !self.has_waiting_full_sync(node) {
            self.initial_sync(node, now);
        }
    }

    fn initial_sync(&mut self, node: &mut NodeState, now: Instant) {
        let Phase::Joining(initial) = &mut self.phase else { return };
        let members = self.members.all(&node.owners);
        if members.is_empty() {
            if node.owners.unlisted().next().is_some() && now < self.joined_at + LISTS_TIMEOUT {
                // The attachment list of an alive node is missing: a node that has just joined the cluster
                // does not know yet which nodes are on the network.
                self.sync_at = now + MISSING_GRACE;
                return;
            }
            // No other member is known: the network is ready as it is. If a member appears, the initial sync
            // is made then.
            initial.announce_ready(&self.network, JoinOutcome::Alone, node);
            self.sync_at += Duration::from_secs(3600);
        } else if initial.holds_what_all_held(members) {
            self.synchronised(node);
        } else if let Some(peer) = initial.next_peer(members, &self.sessions, node) {
            self.request_full_sync(peer, false, node);
        }
    }

    /// The initial sync is complete.
    pub(super) fn synchronised(&mut self, node: &mut NodeState) {
        if let Phase::Joining(initial) = &mut self.phase {
            initial.announce_ready(&self.network, JoinOutcome::Synchronised, node);
            self.phase = Phase::Active;
        }
    }

    /// Keeps as many final syncs in progress as are wanted: first with members without a failed one, then,
    /// after a pause, with the others again.
    pub(super) fn keep_final_syncs(&mut self, node: &mut NodeState, now: Instant) {
        let retry = now >= self.sync_at;
        if retry {
            self.sync_at = now + RETRY;
        }
        let Phase::Leaving(leaving) = &mut self.phase else { return };
        let members = self.members.all(&node.owners);
        for peer in leaving.next_peers(members, retry, &self.network, node) {
            self.request_full_sync(peer, false, node);
        }
    }
}
