//! Owners that failed and have returned. Their entries stay hidden until a comparison with a member that
//! shows them, or until they have waited for too long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use rand::seq::IndexedRandom;
use wire::NodeName;

use super::super::super::node_state::NodeState;
use super::super::super::timing::{AWAITED_AT_ONCE, COMPARISON_TIMEOUT, RETRY};
use super::open_sessions::OpenSessions;
use crate::record::AttachmentIndex;

/// A returned owner's attachment, whose entries are hidden.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
struct Hidden {
    owner: NodeName,
    /// When its entries are shown without a comparison.
    until: Instant,
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct ReturnedOwners {
    hidden: BTreeMap<AttachmentIndex, Hidden>,
    /// Whether the next comparison is with one of the owners.
    owners_turn: bool,
}

impl ReturnedOwners {
    /// Whether no entries are hidden.
    pub(super) fn is_empty(&self) -> bool {
        self.hidden.is_empty()
    }

    /// An owner has returned. Returns whether it is compared with at once: half a cluster may return at once,
    /// and each member shows the entries of the others, so only the first owners are; the next members are
    /// compared with after the result.
    pub(super) fn add(&mut self, index: AttachmentIndex, owner: &NodeName, now: Instant) -> bool {
        self.owners_turn &= !self.hidden.is_empty();
        let hidden = Hidden { owner: owner.clone(), until: now + COMPARISON_TIMEOUT };
        self.hidden.insert(index, hidden).is_none() && self.hidden.len() <= AWAITED_AT_ONCE / 2
    }

    /// The attachment has ended, or its owner has failed again.
    pub(super) fn forget(&mut self, index: AttachmentIndex) {
        self.hidden.remove(&index);
    }

    /// A comparison completed with a member that shows these attachments. Returns which of them are shown
    /// from now on. If some are, while others stay hidden, the next comparison is with an owner.
    pub(super) fn compared(&mut self, shown: &[AttachmentIndex]) -> Vec<AttachmentIndex> {
        let shown: Vec<AttachmentIndex> =
            shown.iter().copied().filter(|index| self.hidden.remove(index).is_some()).collect();
        self.owners_turn |= !shown.is_empty() && !self.hidden.is_empty();
        shown
    }

    /// The attachments whose entries have been hidden for long enough: they are shown from now on.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<AttachmentIndex> {
        self.hidden.extract_if(.., |_, hidden| now >= hidden.until).map(|(index, _)| index).collect()
    }

    /// The member to compare with next: in turn one of the owners, which shows its own entries and most
    /// likely those of other returned owners, and another member, in case the owners are unreachable.
    pub(super) fn next_peer(
        &mut self,
        members: &[NodeName],
        sessions: &OpenSessions,
        network: &Arc<str>,
        node: &mut NodeState,
        now: Instant,
    ) -> Option<NodeName> {
        // A sync without a response may wait for a connection that has broken since, and an idle one for a
        // packet that is lost repeatedly. They do not count as asked.
        let asked: BTreeSet<&NodeName> = sessions
            .full_syncs()
            .filter(|syncing| syncing.is_in_progress(RETRY, now) && !syncing.is_idle(RETRY * 2, now))
            .map(|syncing| &syncing.peer)
            .chain(node.requests.full_syncs(network))
            .collect();
        if self.hidden.is_empty() || asked.len() >= AWAITED_AT_ONCE {
            return None;
        }
        let tried = |member: &NodeName| sessions.full_syncs().any(|syncing| syncing.peer == *member);
        let near = |member: &NodeName| node.connections.reach(member);
        let members = members.iter().filter(|member| !asked.contains(member));
        // No member is dialled twice. If no other is left, one whose sync is idle is tried again over the
        // same connection.
        let members = members.filter(|member| near(member) || !tried(member));
        let hidden: BTreeSet<&NodeName> = self.hidden.values().map(|hidden| &hidden.owner).collect();
        let (owners, others): (Vec<&NodeName>, Vec<&NodeName>) =
            members.partition(|member| hidden.contains(member));
        let (first, second) = if self.owners_turn { (owners, others) } else { (others, owners) };
        let [first, second] =
            [first, second].map(|among| among.into_iter().partition(|member| !tried(member)));
        let (first, first_tried): (Vec<&NodeName>, Vec<&NodeName>) = first;
        let (second, second_tried): (Vec<&NodeName>, Vec<&NodeName>) = second;
        let choices =
            [node.connections.prefer(first), node.connections.prefer(second), first_tried, second_tried];
        let chosen = choices.iter().find_map(|among| among.choose(&mut node.rng));
        self.owners_turn = !self.owners_turn;
        chosen.map(|member| NodeName::clone(member))
    }
}
