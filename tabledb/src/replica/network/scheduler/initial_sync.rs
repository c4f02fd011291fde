//! The initial sync of a network, and when the network is ready.
//!
//! A sync makes a network ready if the other side is synchronised itself. If all members start at once, none
//! is. Each then reports that it is not synchronised, and the members of which it knows the same. It reports
//! only members with which it has completed a sync, directly or through others, so it holds what they held. A
//! node that knows this of all members is ready. The sets double with each sync, so this takes a number of
//! rounds logarithmic in the members; the first ready node makes the others ready.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::seq::IndexedRandom;
use wire::NodeName;

use super::super::super::node_state::{Event, NodeState};
use super::super::super::timing::INITIAL_SYNC_TRIES;
use super::open_sessions::OpenSessions;
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
    /// The members that are not synchronised and whose entries are held here.
    pub(super) fn unsynchronised(&self) -> impl Iterator<Item = &NodeName> {
        self.unsynchronised.iter()
    }

    /// A sync with a member has completed, and showed that these are not synchronised.
    pub(super) fn add_unsynchronised(&mut self, members: impl IntoIterator<Item = NodeName>) {
        self.unsynchronised.extend(members);
    }

    /// The member's claim no longer holds: it has another attachment, or none.
    pub(super) fn forget(&mut self, owner: &str) {
        self.unsynchronised.remove(owner);
    }

    /// Whether all members have reported that they are not synchronised, and this node holds what they held.
    pub(super) fn holds_what_all_held(&self, members: &[NodeName]) -> bool {
        !members.is_empty() && members.iter().all(|member| self.unsynchronised.contains(member))
    }

    /// A sync failed. After some failures the network counts as ready, although it is not synchronised.
    pub(super) fn failed(&mut self, network: &Arc<str>, node: &mut NodeState) {
        self.failures += 1;
        if self.failures >= INITIAL_SYNC_TRIES {
            self.announce_ready(network, JoinOutcome::Unsynchronised, node);
        }
    }

    /// Reports that the network is ready, once.
    pub(super) fn announce_ready(&mut self, network: &Arc<str>, outcome: JoinOutcome, node: &mut NodeState) {
        if !std::mem::replace(&mut self.announced, true) {
            node.events.push_back(Event::NetworkReady { network: network.to_string(), outcome });
        }
    }

    /// The member to sync with next: one that may be synchronised and has not been asked. If possible it has
    /// not turned a session away lately, and is connected: a member that has just died without a word does
    /// not answer, and a second passes until another one is asked.
    pub(super) fn next_peer(
        &self,
        members: &[NodeName],
        sessions: &OpenSessions,
        node: &mut NodeState,
    ) -> Option<NodeName> {
        let asked = |member: &NodeName| sessions.full_syncs().any(|syncing| syncing.peer == *member);
        let others: Vec<&NodeName> = members
            .iter()
            .filter(|member| !self.unsynchronised.contains(*member) && !asked(member))
            .collect();
        let ready_to_serve: Vec<&NodeName> =
            others.iter().filter(|member| !node.requests.is_backing_off(member)).copied().collect();
        let choice = if ready_to_serve.is_empty() { others } else { ready_to_serve };
        node.connections.prefer(choice).choose(&mut node.rng).map(|peer| (*peer).clone())
    }
}
