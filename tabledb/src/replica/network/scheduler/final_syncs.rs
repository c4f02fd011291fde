//! The final syncs of a network that is being left, so that writes which only this node knew are not lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use rand::seq::IndexedRandom;
use wire::{NodeName, StreamId};

use super::super::super::node_state::NodeState;
use super::super::super::session_result::Outcome;
use super::super::super::timing::{FINAL_SYNCS, LEAVE_LIMIT, LEAVE_TIMEOUT, MAX_OPENED_SESSIONS};
use crate::FinalSyncs;

/// The final syncs of a network. Only syncs count that this node opened after its last write: one that a peer
/// had opened before has compared an earlier state.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Leaving {
    wanted: usize,
    /// Members with which a final sync completed.
    completed: BTreeSet<NodeName>,
    /// Members that are leaving as well: a sync with them saves nothing.
    leavers: BTreeSet<NodeName>,
    /// Members with which a final sync failed.
    failed: BTreeSet<NodeName>,
    under_way: BTreeMap<StreamId, NodeName>,
    opened: usize,
    deadline: Instant,
    limit: Instant,
    /// No member is left to sync with.
    over: bool,
    /// One final sync completed, and those with all other members failed.
    satisfied: bool,
}

impl Leaving {
    /// Starts leaving a network with this number of other members, while `others` networks are left as well.
    pub(super) fn new(members: usize, others: usize, now: Instant) -> Self {
        let turns = (2 + 2 * others / MAX_OPENED_SESSIONS) as u32;
        let limit = now + (LEAVE_TIMEOUT * turns).min(LEAVE_LIMIT);
        Self {
            wanted: members.min(FINAL_SYNCS),
            completed: BTreeSet::new(),
            leavers: BTreeSet::new(),
            failed: BTreeSet::new(),
            under_way: BTreeMap::new(),
            opened: 0,
            deadline: limit,
            limit,
            over: false,
            satisfied: false,
        }
    }

    /// Whether the network can be dropped now.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.completed.len() >= self.wanted || self.over || self.satisfied || now >= self.deadline
    }

    /// The time at which the network is dropped whatever has completed.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn result(&self) -> FinalSyncs {
        let completed = self.completed.len();
        // All members that stay hold everything.
        let wanted = if self.over { completed } else { self.wanted };
        FinalSyncs { wanted, completed }
    }

    /// This node has opened a full sync.
    pub(super) fn opened(&mut self, id: StreamId, peer: &NodeName, now: Instant) {
        self.under_way.insert(id, peer.clone());
        self.opened += 1;
        // Later attempts share the time of the first ones.
        if self.opened <= self.wanted {
            self.deadline = self.limit.min(now + LEAVE_TIMEOUT);
        }
    }

    /// A full sync is over. Returns whether it was a final one. `returns_too_often`: members have answered many
    /// times in a row that they are not on the network, and still count as members.
    pub(super) fn ended(
        &mut self,
        id: StreamId,
        outcome: Outcome,
        peer_is_leaving: bool,
        returns_too_often: bool,
    ) -> bool {
        let Some(peer) = self.under_way.remove(&id) else { return false };
        match outcome {
            Outcome::Completed if !peer_is_leaving => drop(self.completed.insert(peer)),
            Outcome::Completed => drop(self.leavers.insert(peer)),
            // If it returns, it does so with another attachment, which has not failed.
            Outcome::NotMember if !returns_too_often => {}
            _ => drop(self.failed.insert(peer)),
        }
        true
    }

    /// The member has left, failed or returned with another attachment: what was synced with it, or failed,
    /// no longer counts.
    pub(super) fn forget(&mut self, owner: &str) {
        self.completed.remove(owner);
        self.leavers.remove(owner);
        self.failed.remove(owner);
    }

    /// The members to sync with now, so that as many final syncs are in progress as are wanted: first those
    /// without a failed one; the others again if `retry`.
    pub(super) fn next_peers(
        &mut self,
        members: &[NodeName],
        retry: bool,
        network: &Arc<str>,
        node: &mut NodeState,
    ) -> Vec<NodeName> {
        let waiting: BTreeSet<&NodeName> = node.requests.full_syncs(network).collect();
        let under_way = self.under_way.len() + waiting.len();
        let lacking = self.wanted.saturating_sub(self.completed.len() + under_way);
        if lacking == 0 {
            return Vec::new();
        }
        let open: Vec<&NodeName> = members
            .iter()
            .filter(|member| !self.completed.contains(*member) && !self.leavers.contains(*member))
            .filter(|member| !waiting.contains(member))
            .filter(|member| !self.under_way.values().any(|peer| peer == *member))
            .collect();
        if open.is_empty() {
            self.over |= under_way == 0;
            return Vec::new();
        }
        // One is enough to lose nothing: a second one is not worth waiting for unreachable members.
        let all_failed = open.iter().all(|member| self.failed.contains(*member));
        self.satisfied |= under_way == 0 && all_failed && !self.completed.is_empty();
        let untried: Vec<&NodeName> = open
            .iter()
            .filter(|member| !self.failed.contains(**member) && !node.requests.is_backing_off(member))
            .copied()
            .collect();
        let choice = match (untried.is_empty(), retry) {
            (false, _) => untried,
            (true, true) => open,
            (true, false) => return Vec::new(),
        };
        choice.sample(&mut node.rng, lacking).map(|peer| (*peer).clone()).collect()
    }
}
