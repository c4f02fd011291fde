//! Leaving a network: final syncs, so that writes which only this node knew are not lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use rand::seq::IndexedRandom;
use wire::{NodeName, StreamId};

use super::super::node_state::NodeState;
use super::super::requests::SyncKind;
use super::super::session_result::Outcome;
use super::super::timing::{
    FINAL_SYNCS, LEAVE_LIMIT, LEAVE_TIMEOUT, MAX_ABSENCES, MAX_OPENED_SESSIONS, RETRY,
};
use super::{Network, Phase};
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

impl Network {
    /// Starts leaving: writes are refused, final syncs run, then [`Self::left`] is true. `leaving` other
    /// networks are being left at the same time and share the capacity.
    pub(crate) fn start_leaving(&mut self, leaving: usize, node: &mut NodeState, now: Instant) {
        let wanted = self.members(node).len().min(FINAL_SYNCS);
        let turns = (2 + 2 * leaving / MAX_OPENED_SESSIONS) as u32;
        let limit = now + (LEAVE_TIMEOUT * turns).min(LEAVE_LIMIT);
        self.phase = Phase::Leaving(Leaving {
            wanted,
            completed: BTreeSet::new(),
            leavers: BTreeSet::new(),
            failed: BTreeSet::new(),
            under_way: BTreeMap::new(),
            opened: 0,
            deadline: limit,
            limit,
            over: false,
            satisfied: false,
        });
        node.requests.forget_full_syncs(&self.name, None);
        self.sync_at = now + RETRY;
        self.keep_final_syncs(node, now);
    }

    /// Whether the network can be dropped now.
    pub(crate) fn left(&self, now: Instant) -> bool {
        match &self.phase {
            Phase::Leaving(leaving) => {
                leaving.completed.len() >= leaving.wanted
                    || leaving.over
                    || leaving.satisfied
                    || now >= leaving.deadline
            }
            _ => false,
        }
    }

    pub(super) fn leaving_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Leaving(leaving) => Some(leaving.deadline.min(self.sync_at)),
            _ => None,
        }
    }

    /// The result of the final syncs.
    pub(crate) fn final_syncs(&self) -> FinalSyncs {
        match &self.phase {
            Phase::Leaving(leaving) => {
                let completed = leaving.completed.len();
                // All members that stay hold everything.
                let wanted = if leaving.over { completed } else { leaving.wanted };
                FinalSyncs { wanted, completed }
            }
            _ => FinalSyncs::default(),
        }
    }

    /// This node has opened a full sync.
    pub(crate) fn final_sync_opened(&mut self, id: StreamId, peer: &NodeName, now: Instant) {
        let Phase::Leaving(leaving) = &mut self.phase else { return };
        leaving.under_way.insert(id, peer.clone());
        leaving.opened += 1;
        // Later attempts share the time of the first ones.
        if leaving.opened <= leaving.wanted {
            leaving.deadline = leaving.limit.min(now + LEAVE_TIMEOUT);
        }
    }

    /// A full sync is over. If it was a final one and did not complete, another is made.
    pub(crate) fn final_sync_over(
        &mut self,
        id: StreamId,
        outcome: Outcome,
        peer_is_leaving: bool,
        node: &mut NodeState,
        now: Instant,
    ) {
        let Phase::Leaving(leaving) = &mut self.phase else { return };
        let Some(peer) = leaving.under_way.remove(&id) else { return };
        match outcome {
            Outcome::Completed if !peer_is_leaving => drop(leaving.completed.insert(peer)),
            Outcome::Completed => drop(leaving.leavers.insert(peer)),
            // If it returns, it does so with another attachment, which has not failed.
            Outcome::NotMember if self.absences <= MAX_ABSENCES => {}
            _ => drop(leaving.failed.insert(peer)),
        }
        self.keep_final_syncs(node, now);
    }

    /// A member has left, failed or returned with another attachment: a final sync with it no longer counts.
    pub(super) fn final_syncs_without(&mut self, owner: &str, node: &mut NodeState, now: Instant) {
        let Phase::Leaving(leaving) = &mut self.phase else { return };
        leaving.completed.remove(owner);
        leaving.leavers.remove(owner);
        leaving.failed.remove(owner);
        if !node.owners.is_member(owner, &self.name) {
            node.requests.forget_full_syncs(&self.name, Some(owner));
        }
        self.keep_final_syncs(node, now);
    }

    /// Keeps as many final syncs in progress as are wanted: first with members without a failed one, then,
    /// after a pause, with the others again.
    pub(super) fn keep_final_syncs(&mut self, node: &mut NodeState, now: Instant) {
        let retry = now >= self.sync_at;
        if retry {
            self.sync_at = now + RETRY;
        }
        self.members(node);
        let Phase::Leaving(leaving) = &mut self.phase else { return };
        let waiting: BTreeSet<&NodeName> = node.requests.full_syncs(&self.name).collect();
        let under_way = leaving.under_way.len() + waiting.len();
        let lacking = leaving.wanted.saturating_sub(leaving.completed.len() + under_way);
        if lacking == 0 {
            return;
        }
        let members = self.members.as_deref().unwrap_or_default();
        let open: Vec<&NodeName> = members
            .iter()
            .filter(|member| !leaving.completed.contains(*member) && !leaving.leavers.contains(*member))
            .filter(|member| !waiting.contains(member))
            .filter(|member| !leaving.under_way.values().any(|peer| peer == *member))
            .collect();
        if open.is_empty() {
            leaving.over |= under_way == 0;
            return;
        }
        // One is enough to lose nothing: a second one is not worth waiting for unreachable members.
        let all_failed = open.iter().all(|member| leaving.failed.contains(*member));
        leaving.satisfied |= under_way == 0 && all_failed && !leaving.completed.is_empty();
        let untried: Vec<&NodeName> = open
            .iter()
            .filter(|member| !leaving.failed.contains(**member) && !node.requests.is_backing_off(member))
            .copied()
            .collect();
        let choice = match (untried.is_empty(), retry) {
            (false, _) => untried,
            (true, true) => open,
            (true, false) => return,
        };
        let chosen: Vec<NodeName> =
            choice.sample(&mut node.rng, lacking).map(|peer| (*peer).clone()).collect();
        for peer in chosen {
            self.request(SyncKind::Full, peer, BTreeSet::new(), node);
        }
    }
}
