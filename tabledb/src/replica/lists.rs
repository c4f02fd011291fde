//! Lists as they come in, and whom to ask for more.

use std::collections::BTreeSet;
use std::time::Instant;

use rand::seq::IndexedRandom;
use wire::{NodeId, NodeName};

use super::common::Common;
use super::counters::Refusal;
use super::message::{List, SessionKind};
use super::owners::Update;
use super::timing::{LISTS_ASKED_DOUBLINGS, OWNER_ASKED_EVERY, RETRY, STILLNESS};
use super::{Replica, Stream};

impl Replica {
    /// Takes a list in. True if it was news.
    pub(super) fn handle_list(&mut self, list: &List, now: Instant) -> bool {
        self.check_author(&list.owner, list.version);
        let former = match self.common.owners.update(list) {
            Update::Taken(former) => former,
            Update::Known => return false,
            Update::TooLong => {
                self.common.counters.refuse(Refusal::ListTooLong);
                return false;
            }
        };
        let listed = list.networks.iter().map(|(name, _)| name.as_str());
        let named: BTreeSet<&str> = former.iter().map(|(name, _)| &**name).chain(listed).collect();
        for at in 0..self.networks.len() {
            let Some(network) = &mut self.networks[at] else { continue };
            // A provisional attachment may be on neither list: the owner joined and left between the two.
            if named.contains(&*network.name) || network.store.of_owner(list.owner.name.as_str()).is_some() {
                network.follow_list(&list.owner, &mut self.common, now);
                self.plan(at, now);
            }
        }
        // Of what gossip is parked for, this list decides only whether its author is a member.
        self.replay_parked(Some(&list.owner.name), now);
        true
    }

    /// Somebody knows a list of ours that we never wrote: an earlier process bore our generation, or somebody forges. Those who
    /// believed it would not take our own for news: a later life begins a new count.
    pub(super) fn check_author(&mut self, owner: &NodeId, version: u64) {
        if self.common.owners.is_forged(owner, version) {
            self.common.counters.refuse(Refusal::NotAuthor);
            self.common.report_taken_generation();
        }
    }

    pub(super) fn announce_own_list(&mut self, now: Instant) {
        let me = self.node().name.clone();
        self.list_news.add(me, now);
        self.common.wake = true;
    }

    /// Asks a peer for the attachment lists of nodes that are alive and whose lists have not arrived by themselves.
    ///
    /// One exchange brings every list that the peer has, so one peer is enough, preferably one with an established connection:
    /// when many nodes start at once, each lacks the lists of all others, and has no connection with most. The owner of a list is
    /// dialled only if the peers asked do not have it either.
    pub(super) fn ask_for_lists(&mut self, now: Instant) {
        let Common { owners, connections, rng, .. } = &mut self.common;
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
            Stream::Session(session) => {
                session.opened_here && session.kind == SessionKind::Lists && session.peer == *peer
            }
            Stream::Unopened { .. } => false,
        });
        if !under_way && !self.list_peers.contains(peer) && self.list_peers.len() < MOST {
            self.list_peers.push_back(peer.clone());
        }
    }

    /// How many exchanges of lists are under way that were opened here. Those with peers that cannot be reached must not
    /// take the capacity of all others.
    pub(super) fn open_list_sessions(&self) -> usize {
        let of_lists = |stream: &&Stream| match stream {
            Stream::Session(session) => session.opened_here && session.kind == SessionKind::Lists,
            Stream::Unopened { .. } => false,
        };
        self.streams.values().filter(of_lists).count()
    }

    /// Whether a peer's knowledge of the lists differs from ours though ours has been still, and the two have not been
    /// compared in vain of late.
    pub(super) fn lists_differ(&mut self, peer: &NodeName, theirs: u64, now: Instant) -> bool {
        let mine = self.common.owners.lists_digest();
        if mine != self.lists_still.0 {
            self.lists_still = (mine, now);
        }
        let still = now.saturating_duration_since(self.lists_still.1) >= STILLNESS;
        if mine == theirs || !still {
            return false;
        }
        if let Some(&(a, b, at)) = self.lists_compared.get(peer)
            && (a, b) == (mine, theirs)
            && now < at + self.common.config.anti_entropy_interval
        {
            return false;
        }
        self.lists_comparing = Some((peer.clone(), mine, theirs));
        true
    }
}
