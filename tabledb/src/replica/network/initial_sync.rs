//! The initial sync of a network, and when the network is ready.
//!
//! A sync makes a network ready if the other side is synchronised itself. If all members start at once, none
//! is. Each then reports that it is not synchronised, and the members of which it knows the same. It reports
//! only members with which it has completed a sync, directly or through others, so it holds what they held. A
//! node that knows this of all members is ready. The sets double with each sync, so this takes a number of
//! rounds logarithmic in the members; the first ready node makes the others ready.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use wire::NodeName;

use super::super::Event;
use super::super::message::Standing;
use super::super::node_state::NodeState;
use super::super::requests::SyncKind;
use super::super::session_result::PeerStanding;
use super::super::timing::{
    FIRST_RESPONSE_TIMEOUT, INITIAL_SYNC_LIMIT, INITIAL_SYNC_TRIES, LISTS_TIMEOUT, MISSING_GRACE,
    PEER_IDLE_TIMEOUT, RETRY,
};
use super::{Network, Phase};
use crate::JoinOutcome;

/// The progress of the initial sync.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct InitialSync {
    /// Syncs that failed.
    failures: u32,
    /// `NetworkReady` has been reported, because no other member is known, or no sync completes.
    announced: bool,
    /// Members that are known not to be synchronised, and whose entries are held here.
    unsynchronised: BTreeSet<NodeName>,
}

impl InitialSync {
    /// The member's claim no longer holds: it has another attachment, or none.
    pub(super) fn forget(&mut self, owner: &str) {
        self.unsynchronised.remove(owner);
    }
}

impl Network {
    /// This node's claim about its own copy of the network.
    pub(crate) fn standing(&self) -> Standing<'_> {
        match &self.phase {
            Phase::Joining(first) => {
                Standing::Unsynchronised(first.unsynchronised.iter().map(NodeName::as_str).collect())
            }
            Phase::Active => Standing::Synchronised,
            Phase::Leaving(_) => Standing::Leaving,
        }
    }

    pub(super) fn initial_sync_completed(
        &mut self,
        peer: &NodeName,
        standing: &PeerStanding,
        node: &mut NodeState,
        now: Instant,
    ) {
        let Phase::Joining(first) = &mut self.phase else { return };
        match standing {
            PeerStanding::Synchronised => return self.synchronised(node),
            PeerStanding::Leaving => {}
            PeerStanding::Unsynchronised(names) => {
                // Only members, which bounds the set.
                let members = names.iter().filter(|name| node.owners.is_member(name.as_str(), &self.name));
                first.unsynchronised.extend(members.cloned());
            }
        }
        first.unsynchronised.insert(peer.clone());
        if self.no_member_is_synchronised(node) {
            return self.synchronised(node);
        }
        self.sync_at = now;
    }

    pub(super) fn initial_sync_failed(&mut self, node: &mut NodeState) {
        let Phase::Joining(first) = &mut self.phase else { return };
        first.failures += 1;
        if first.failures >= INITIAL_SYNC_TRIES {
            self.announce_ready(JoinOutcome::Unsynchronised, node);
        }
    }

    /// Whether all members have reported that they are not synchronised, and this node holds what they held.
    fn no_member_is_synchronised(&mut self, node: &NodeState) -> bool {
        self.members(node);
        let Phase::Joining(first) = &self.phase else { return false };
        let members = self.members.as_deref().unwrap_or_default();
        !members.is_empty() && members.iter().all(|member| first.unsynchronised.contains(member))
    }

    fn announce_ready(&mut self, outcome: JoinOutcome, node: &mut NodeState) {
        if let Phase::Joining(first) = &mut self.phase
            && !std::mem::replace(&mut first.announced, true)
        {
            node.events.push_back(Event::NetworkReady { network: self.name.to_string(), outcome });
        }
    }

    fn synchronised(&mut self, node: &mut NodeState) {
        self.announce_ready(JoinOutcome::Synchronised, node);
        self.phase = Phase::Active;
    }

    /// Starts an initial sync, unless one is in progress.
    pub(super) fn keep_initial_sync(&mut self, node: &mut NodeState, now: Instant) {
        if !matches!(self.phase, Phase::Joining(_)) || now < self.sync_at {
            return;
        }
        self.sync_at = now + RETRY;
        if now >= self.joined_at + INITIAL_SYNC_LIMIT {
            self.announce_ready(JoinOutcome::Unsynchronised, node);
        }
        // A sync without a response, or with an idle peer, is probably with an unreachable member, which
        // takes seconds to detect.
        let is_in_progress = self.sessions.full_syncs().any(|syncing| {
            syncing.is_in_progress(FIRST_RESPONSE_TIMEOUT, now) && !syncing.is_idle(PEER_IDLE_TIMEOUT, now)
        });
        let waits = node.requests.full_syncs(&self.name).next().is_some();
        if !is_in_progress && !waits {
            self.initial_sync(node, now);
        }
    }

    fn initial_sync(&mut self, node: &mut NodeState, now: Instant) {
        if self.members(node).is_empty() {
            if node.owners.unlisted().next().is_some() && now < self.joined_at + LISTS_TIMEOUT {
                // The attachment list of an alive node is missing: a node that has just joined the cluster
                // does not know yet which nodes are on the network.
                self.sync_at = now + MISSING_GRACE;
                return;
            }
            // No other member is known: the network is ready as it is. If a member appears, the initial sync
            // is made then.
            self.announce_ready(JoinOutcome::Alone, node);
            self.sync_at += Duration::from_secs(3600);
            return;
        }
        if self.no_member_is_synchronised(node) {
            return self.synchronised(node);
        }
        let Phase::Joining(first) = &self.phase else { return };
        let members = self.members.as_deref().unwrap_or_default();
        let others: Vec<&NodeName> =
            members.iter().filter(|member| !first.unsynchronised.contains(*member)).collect();
        let asked = |member: &NodeName| self.sessions.full_syncs().any(|syncing| syncing.peer == *member);
        let others: Vec<&NodeName> = others.into_iter().filter(|member| !asked(member)).collect();
        let ready_to_serve: Vec<&NodeName> =
            others.iter().filter(|member| !node.requests.is_backing_off(member)).copied().collect();
        let choice = if ready_to_serve.is_empty() { others } else { ready_to_serve };
        if let Some(peer) = choice.choose(&mut node.rng).map(|peer| (*peer).clone()) {
            self.request(SyncKind::Full, peer, BTreeSet::new(), node);
        }
    }
}
