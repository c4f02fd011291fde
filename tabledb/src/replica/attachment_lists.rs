//! Handling received attachment lists, and asking for missing ones.

use std::collections::BTreeSet;
use std::time::Instant;

use rand::seq::IndexedRandom;
use wire::{NodeId, NodeName};

use super::counters::RefusalReason;
use super::message::AttachmentList;
use super::node_state::NodeState;
use super::owners::ListUpdate;
use super::session::{Role, Session};
use super::timing::{LISTS_ASKED_DOUBLINGS, OWNER_ASKED_EVERY, QUIESCENT_AFTER, RETRY};
use super::{Replica, Stream};

impl Replica {
    /// Applies a received list. Returns true if it was newer than the known one.
    pub(super) fn handle_list(&mut self, list: &AttachmentList, now: Instant) -> bool {
        self.check_author(&list.owner, list.version);
        let former = match self.node.owners.update(list) {
            ListUpdate::Applied(former) => former,
            ListUpdate::Known => return false,
            ListUpdate::TooLong => {
                self.node.counters.refuse(RefusalReason::ListTooLong);
                return false;
            }
        };
        let listed = list.networks.iter().map(|(name, _)| name.as_str());
        let affected: BTreeSet<&str> = former.iter().map(|(name, _)| &**name).chain(listed).collect();
        for at in 0..self.networks.len() {
            let Some(network) = &mut self.networks[at] else { continue };
            // A provisional attachment may be on neither list: the owner joined and left between the two.
            if affected.contains(&*network.name) || network.store.of_owner(list.owner.name.as_str()).is_some()
            {
                network.follow_list(&list.owner, &mut self.node, now);
                self.plan(at, now);
            }
        }
        // Of deferred gossip, this list only decides whether its author is a member.
        self.replay_deferred(Some(&list.owner.name), now);
        true
    }

    /// Checks for a version of our own list that we never issued: an earlier process used our generation, or
    /// a member forges. Nodes that accepted it would ignore our real list; a later generation starts a new
    /// count.
    pub(super) fn check_author(&mut self, owner: &NodeId, version: u64) {
        if self.node.owners.is_forged(owner, version) {
            self.node.counters.refuse(RefusalReason::NotAuthor);
            self.node.report_generation_conflict();
        }
    }

    pub(super) fn announce_own_list(&mut self, now: Instant) {
        let me = self.node().name.clone();
        self.list_gossip.add(me, now);
        self.node.wake = true;
    }

    /// Asks a peer for the attachment lists of nodes that are alive and whose lists have not arrived by
    /// themselves.
    ///
    /// One exchange brings every list that the peer has, so one peer is enough, preferably one with an
    /// established connection: when many nodes start at once, each lacks the lists of all others, and has no
    /// connection with most. The owner of a list is dialled only if the peers asked do not have it either.
    pub(super) fn ask_for_lists(&mut self, now: Instant) {
        let NodeState { owners, connections, rng, .. } = &mut self.node;
        let unlisted: Vec<&NodeName> = owners.unlisted().collect();
        if unlisted.is_empty() {
            (self.unlisted_at, self.unlisted_asked) = (None, 0);
            return;
        }
        self.unlisted_at = Some(now + RETRY * 2u32.pow(self.unlisted_asked.min(LISTS_ASKED_DOUBLINGS)));
        self.unlisted_asked = self.unlisted_asked.saturating_add(1);
        let near: Vec<&NodeName> =
            unlisted.iter().copied().filter(|owner| connections.reach(owner)).collect();
        let others = || owners.others().filter(|(_, owner)| owner.alive).map(|(name, _)| name);
        let candidates = match near.is_empty() {
            false => near,
            true if self.unlisted_asked.is_multiple_of(OWNER_ASKED_EVERY) => unlisted,
            true => connections.prefer(others().collect()),
        };
        if let Some(owner) = candidates.choose(rng).map(|owner| (*owner).clone()) {
            self.want_lists(&owner);
        }
    }

    pub(super) fn want_lists(&mut self, peer: &NodeName) {
        const MOST: usize = 64;
        let under_way = self.streams.values().any(|stream| match stream {
            Stream::Session(session) => is_opened_for_lists(session) && session.progress.peer == *peer,
            Stream::Unopened { .. } => false,
        });
        if !under_way && !self.list_peers.contains(peer) && self.list_peers.len() < MOST {
            self.list_peers.push_back(peer.clone());
        }
    }

    /// The number of exchanges of lists in progress that this node opened. Exchanges with unreachable peers
    /// must not take all capacity.
    pub(super) fn open_list_sessions(&self) -> usize {
        let of_lists = |stream: &&Stream| match stream {
            Stream::Session(session) => is_opened_for_lists(session),
            Stream::Unopened { .. } => false,
        };
        self.streams.values().filter(of_lists).count()
    }

    /// Whether a peer's digest of list versions differs from ours, while ours is quiescent and a recent
    /// comparison with the peer has not shown the same two digests.
    pub(super) fn lists_differ(&mut self, peer: &NodeName, theirs: u64, now: Instant) -> bool {
        let mine = self.node.owners.lists_digest();
        if mine != self.lists_unchanged_since.0 {
            self.lists_unchanged_since = (mine, now);
        }
        let quiescent = now.saturating_duration_since(self.lists_unchanged_since.1) >= QUIESCENT_AFTER;
        if mine == theirs || !quiescent {
            return false;
        }
        if let Some(&(a, b, at)) = self.lists_compared.get(peer)
            && (a, b) == (mine, theirs)
            && now < at + self.node.config.anti_entropy_interval
        {
            return false;
        }
        self.lists_comparing = Some((peer.clone(), mine, theirs));
        true
    }
}

fn is_opened_for_lists(session: &Session) -> bool {
    matches!(session.role, Role::ListsOpener(_))
}
