//! Pulling numbers that are known to exist and have not arrived.

use std::collections::BTreeSet;
use std::time::Instant;

use wire::{NodeName, StreamId};

use super::super::node_state::NodeState;
use super::super::requests::SyncKind;
use super::super::timing::{MAX_PULLS, RETRY};
use super::super::view::AttachmentIndex;
use super::Network;

/// Numbers of an attachment that are known to exist and have not arrived.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Missing {
    /// A node that has them.
    pub(super) source: NodeName,
    /// The greatest number reported.
    pub(super) upto: u64,
    pub(super) pull_at: Instant,
    /// The number of pulls that did not bring them.
    pub(super) tries: u32,
}

impl Network {
    /// The earliest time of the next pull. One pull runs at a time, unless its peer does not respond or has
    /// become idle.
    ///
    /// Nothing is pulled before the initial sync, which brings the same and the superseded numbers with it. A
    /// pull brings one attachment alone. A node that knew nothing but a tombstone, and has reaped it, would
    /// show the put that it pulls later.
    pub(super) fn may_pull_at(&self) -> Option<Instant> {
        self.is_synced().then(|| self.sessions.pull_gives_way_at().unwrap_or(self.joined_at))
    }

    pub(super) fn pull_missing(&mut self, node: &mut NodeState, now: Instant) {
        if self.may_pull_at().is_none_or(|at| at > now)
            || self.missing.values().all(|missing| missing.pull_at > now)
        {
            return;
        }
        if let Some(silent) = self.sessions.pull() {
            // Treated as over: another member is asked, and the pull counts, else a node with a single peer
            // would pull for ever.
            return self.pulled(silent, node, now);
        }
        self.forget_arrived();
        let Some(due) = self.missing.values().find(|missing| missing.pull_at <= now) else { return };
        // The node that reported the number may not be a member, or not be known as one yet.
        let member = node.owners.is_member(due.source.as_str(), &self.name);
        let source = if member { Some(due.source.clone()) } else { self.sample_members(1, node).pop() };
        let indexes: BTreeSet<AttachmentIndex> =
            self.missing.keys().filter(|index| !self.sessions.brings(**index, now)).copied().collect();
        for missing in self.missing.values_mut() {
            missing.pull_at = now + RETRY;
        }
        if let Some(source) = source.filter(|_| !indexes.is_empty()) {
            node.counters.pulls += 1;
            self.request(SyncKind::Pull, source, indexes, node);
        }
    }

    /// The peer has no capacity for a pull now: another member is asked, and the pull does not count.
    pub(crate) fn pull_turned_away(&mut self, pull: StreamId, node: &mut NodeState, now: Instant) {
        if !self.sessions.pull_over(pull) {
            return;
        }
        let other = self.sample_members(1, node).pop();
        for missing in self.missing.values_mut() {
            missing.pull_at = now + RETRY;
            if let Some(other) = &other {
                missing.source = other.clone();
            }
        }
    }

    /// The peer of a pull is not on the network: another member is asked at once.
    pub(crate) fn pulled_from_non_member(
        &mut self,
        pull: StreamId,
        peer: &NodeName,
        node: &mut NodeState,
        now: Instant,
    ) {
        self.pulled(pull, node, now);
        let other = self.sample_members(2, node).into_iter().find(|other| other != peer);
        for missing in self.missing.values_mut() {
            if let Some(other) = &other {
                (missing.source, missing.pull_at) = (other.clone(), now);
            }
        }
    }

    /// A pull is over. Numbers that it did not bring are requested from their owner or from another member,
    /// after a longer pause each time, and at most a few times: the only node that had them may have failed.
    /// If another node has them after all, the fingerprints differ.
    pub(crate) fn pulled(&mut self, pull: StreamId, node: &mut NodeState, now: Instant) {
        if !self.sessions.pull_over(pull) {
            return;
        }
        self.forget_arrived();
        for missing in self.missing.values_mut() {
            missing.pull_at = now + RETRY * 2u32.pow(missing.tries);
            missing.tries += 1;
        }
        self.missing.retain(|_, missing| missing.tries < MAX_PULLS);
        if self.missing.is_empty() {
            return;
        }
        let other = self.sample_members(1, node).pop();
        for (&index, missing) in &mut self.missing {
            // Other members may lack the same numbers; every other pull asks the owner, which does not.
            let owner = self.store.attachment(index).map(|held| &held.tag.owner.name);
            let owner = owner.filter(|owner| missing.tries % 2 == 1 && node.owners.is_alive(owner));
            if let Some(other) = owner.or(other.as_ref()) {
                missing.source = other.clone();
            }
        }
    }

    pub(super) fn forget_arrived(&mut self) {
        let store = &self.store;
        self.missing.retain(|&index, missing| {
            store.attachment(index).is_some_and(|held| {
                let accounted = held.accounted();
                missing.upto > accounted.highest() || accounted.has_holes()
            })
        });
    }
}
