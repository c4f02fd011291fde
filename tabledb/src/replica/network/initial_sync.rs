//! The first sync of a network: from when on it is ready.
//!
//! A sync makes ready if the other side is synchronised itself. Where nobody is, because all have begun at once, each says
//! so, and whom it has heard say so; what those hold it holds, since it says so only of whom it has completed a sync with,
//! directly or over others. Who has heard it of all members is ready. The sets double with each sync, so that takes a
//! logarithm of the members in rounds; and the first who is ready makes the others ready.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use wire::NodeName;

use super::super::Event;
use super::super::message::{SessionKind, Standing};
use super::super::node_state::NodeState;
use super::super::session::PeerStanding;
use super::super::timing::{
    FIRST_RESPONSE_TIMEOUT, INITIAL_SYNC_LIMIT, INITIAL_SYNC_TRIES, LISTS_TIMEOUT, MISSING_GRACE,
    PEER_IDLE_TIMEOUT, RETRY,
};
use super::{Network, Phase};

/// How far the first sync has come.
#[derive(Debug, Default)]
pub(super) struct InitialSync {
    /// Syncs that broke off.
    failures: u32,
    /// The event has been given, because nobody is known to be here, or no sync comes to its end.
    announced: bool,
    /// Members who are known not to vouch for what they hold, and whose entries are held here.
    unsynchronised: BTreeSet<NodeName>,
}

impl InitialSync {
    /// What a member said is no longer about it: it is another attachment, or none.
    pub(super) fn forget(&mut self, owner: &str) {
        self.unsynchronised.remove(owner);
    }
}

impl Network {
    /// What this node can say of its own copy of the network.
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
            PeerStanding::Synchronised => return self.ready(node),
            PeerStanding::Leaving => {}
            PeerStanding::Unsynchronised(names) => {
                // Members only: that bounds the set.
                let members = names.iter().filter(|name| node.owners.is_member(name.as_str(), &self.name));
                first.unsynchronised.extend(members.cloned());
            }
        }
        first.unsynchronised.insert(peer.clone());
        if self.nobody_is_synchronised(node) {
            return self.ready(node);
        }
        self.sync_at = now;
    }

    pub(super) fn initial_sync_failed(&mut self, node: &mut NodeState) {
        let Phase::Joining(first) = &mut self.phase else { return };
        first.failures += 1;
        if first.failures >= INITIAL_SYNC_TRIES {
            self.announce_ready(node);
        }
    }

    /// Whether all members have said that they are not synchronised, and what they hold is held here.
    fn nobody_is_synchronised(&mut self, node: &NodeState) -> bool {
        self.members(node);
        let Phase::Joining(first) = &self.phase else { return false };
        let members = self.members.as_deref().unwrap_or_default();
        !members.is_empty() && members.iter().all(|member| first.unsynchronised.contains(member))
    }

    fn announce_ready(&mut self, node: &mut NodeState) {
        if let Phase::Joining(first) = &mut self.phase
            && !std::mem::replace(&mut first.announced, true)
        {
            node.events.push_back(Event::NetworkReady(self.name.to_string()));
        }
    }

    fn ready(&mut self, node: &mut NodeState) {
        self.announce_ready(node);
        self.phase = Phase::Active;
    }

    /// Tries to get the first sync, unless one is under way.
    pub(super) fn keep_initial_sync(&mut self, node: &mut NodeState, now: Instant) {
        if !matches!(self.phase, Phase::Joining(_)) || now < self.sync_at {
            return;
        }
        self.sync_at = now + RETRY;
        if now >= self.joined_at + INITIAL_SYNC_LIMIT {
            self.announce_ready(node);
        }
        // One that nobody answers, or in which the peer falls silent, is with a member who cannot be reached, which takes seconds to
        // be known.
        let goes_on = self.syncing.values().any(|syncing| {
            syncing.goes_on(FIRST_RESPONSE_TIMEOUT, now) && !syncing.is_idle(PEER_IDLE_TIMEOUT, now)
        });
        let waits = node.requests.full_syncs(&self.name).next().is_some();
        if !goes_on && !waits {
            self.initial_sync(node, now);
        }
    }

    fn initial_sync(&mut self, node: &mut NodeState, now: Instant) {
        if self.members(node).is_empty() {
            if node.owners.unlisted().next().is_some() && now < self.joined_at + LISTS_TIMEOUT {
                // Somebody is there whose list has not come: a node that has just joined the cluster does not know
                // yet who is on which network.
                self.sync_at = now + MISSING_GRACE;
                return;
            }
            // Nobody is known to be here: ready as it is. Should somebody turn up, the first sync is made then.
            self.announce_ready(node);
            self.sync_at += Duration::from_secs(3600);
            return;
        }
        if self.nobody_is_synchronised(node) {
            return self.ready(node);
        }
        let Phase::Joining(first) = &self.phase else { return };
        let members = self.members.as_deref().unwrap_or_default();
        let others: Vec<&NodeName> =
            members.iter().filter(|member| !first.unsynchronised.contains(*member)).collect();
        let asked = |member: &NodeName| self.syncing.values().any(|syncing| syncing.peer == *member);
        let others: Vec<&NodeName> = others.into_iter().filter(|member| !asked(member)).collect();
        let ready_to_serve: Vec<&NodeName> =
            others.iter().filter(|member| !node.requests.is_backing_off(member)).copied().collect();
        let choice = if ready_to_serve.is_empty() { others } else { ready_to_serve };
        if let Some(peer) = choice.choose(&mut node.rng).map(|peer| (*peer).clone()) {
            self.request(SessionKind::Full, peer, BTreeSet::new(), node);
        }
    }
}
