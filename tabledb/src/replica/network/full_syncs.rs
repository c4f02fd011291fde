//! Full syncs with members: for hidden entries of owners that have returned, by the anti-entropy period, and
//! what their results cause.

use std::collections::BTreeSet;
use std::time::Instant;

use rand::RngExt;
use rand::seq::IndexedRandom;
use wire::NodeName;

use super::super::node_state::NodeState;
use super::super::requests::SessionRequest;
use super::super::requests::SyncKind;
use super::super::session_result::PeerStanding;
use super::super::store::Visibility;
use super::super::timing::{AWAITED_AT_ONCE, MAX_ABSENCES, RETRY};
use super::super::view::AttachmentIndex;
use super::open_sessions::Syncing;
use super::{Compared, Network, Phase};

impl Network {
    // Queries.

    /// Whether the initial sync is in progress, which brings what the other members hold. Over a slow link it
    /// may take minutes, in which each of them would send the same again.
    pub(crate) fn is_receiving_initial_sync(&self) -> bool {
        !self.is_synced() && self.sessions.full_syncs().any(Syncing::is_answered)
    }

    /// Whether a full sync with a peer, opened here, has begun at the peer as well.
    pub(crate) fn is_syncing_with(&self, peer: &NodeName, now: Instant) -> bool {
        self.sessions.full_syncs().any(|syncing| syncing.peer == *peer && syncing.is_in_progress(RETRY, now))
    }

    /// Whether a full sync that this node opened is in progress, or waits for capacity.
    pub(super) fn is_syncing(&self, node: &NodeState) -> bool {
        self.sessions.full_syncs().len() > 0 || node.requests.full_syncs(&self.name).next().is_some()
    }

    // Starting.

    /// Starts a comparison for hidden entries: in turn with one of their owners, which shows its own entries
    /// and most likely those of other returned owners, and with another member, in case the owners are
    /// unreachable.
    pub(super) fn compare_awaiting(&mut self, node: &mut NodeState, now: Instant) {
        self.members(node);
        // A sync without a response may wait for a connection that has broken since, and an idle one for a
        // packet that is lost repeatedly. They do not count as asked.
        let asked: BTreeSet<&NodeName> = self
            .sessions
            .full_syncs()
            .filter(|syncing| syncing.is_in_progress(RETRY, now) && !syncing.is_idle(RETRY * 2, now))
            .map(|syncing| &syncing.peer)
            .chain(node.requests.full_syncs(&self.name))
            .collect();
        if self.awaiting.is_empty() || asked.len() >= AWAITED_AT_ONCE {
            return;
        }
        let tried = |member: &NodeName| self.sessions.full_syncs().any(|syncing| syncing.peer == *member);
        let near = |member: &NodeName| node.connections.reach(member);
        let members = self.members.iter().flatten().filter(|member| !asked.contains(member));
        // No member is dialled twice. If no other is left, one whose sync is idle is tried again over the
        // same connection.
        let members = members.filter(|member| near(member) || !tried(member));
        let waits = |member: &&NodeName| {
            self.store.of_owner(member.as_str()).is_some_and(|(index, _)| self.awaiting.contains(&index))
        };
        let (owners, others): (Vec<&NodeName>, Vec<&NodeName>) = members.partition(waits);
        let (first, second) = if self.owners_turn { (owners, others) } else { (others, owners) };
        let [first, second] =
            [first, second].map(|among| among.into_iter().partition(|member| !tried(member)));
        let (first, first_tried): (Vec<&NodeName>, Vec<&NodeName>) = first;
        let (second, second_tried): (Vec<&NodeName>, Vec<&NodeName>) = second;
        let choices =
            [node.connections.prefer(first), node.connections.prefer(second), first_tried, second_tried];
        let chosen = choices.iter().find_map(|among| among.choose(&mut node.rng));
        let chosen = chosen.map(|member| NodeName::clone(member));
        self.owners_turn = !self.owners_turn;
        if let Some(member) = chosen {
            self.request(SyncKind::Full, member, BTreeSet::new(), node);
        }
    }

    pub(super) fn sync_with_random(&mut self, periodic: bool, node: &mut NodeState) {
        if let Some(peer) = self.sample_members(1, node).pop() {
            let (kind, network) = (SyncKind::Full, self.name.clone());
            node.requests.push(SessionRequest { kind, network, peer, indexes: BTreeSet::new(), periodic });
        }
    }

    pub(super) fn keep_awaiting(&mut self, node: &mut NodeState, now: Instant) {
        if self.awaiting.is_empty() || now < self.sync_at {
            return;
        }
        self.sync_at = now + RETRY;
        for index in self.awaiting.clone() {
            let Some(attachment) = self.store.attachment(index) else {
                self.awaiting.remove(&index);
                continue;
            };
            let Visibility::AwaitsComparison { until } = attachment.visibility() else {
                self.awaiting.remove(&index);
                continue;
            };
            if now >= until {
                node.counters.shown_uncompared += 1;
                self.awaiting.remove(&index);
                self.store.set_visibility(index, Visibility::Shown, &mut node.watchers);
            }
        }
        self.compare_awaiting(node, now);
    }

    /// Plans the next comparison that no known difference causes.
    pub(super) fn plan_anti_entropy(&mut self, node: &mut NodeState, now: Instant) {
        let interval = node.config.anti_entropy_interval;
        self.anti_entropy_at = now + interval.mul_f64(node.rng.random_range(0.75..1.25));
    }

    // Results.

    /// A full sync completed. `shown` are the attachments that the peer shows.
    pub(crate) fn compared_with(
        &mut self,
        peer: &NodeName,
        shown: &[AttachmentIndex],
        standing: &PeerStanding,
        node: &mut NodeState,
        now: Instant,
    ) {
        node.counters.syncs_completed += 1;
        self.absences = 0;
        self.refusals.compared(node.config.anti_entropy_interval, now);
        // Only now: a comparison that was cut short is to be repeated after the next probe.
        if let Some((_, compared)) = self.comparing.take_if(|(with, _)| with == peer)
            && node.owners.knows(peer)
        {
            self.compared.insert(peer.clone(), Compared { at: now, ..compared });
        }
        let waited = self.awaiting.len();
        for &index in shown {
            if self.awaiting.remove(&index) {
                self.store.set_visibility(index, Visibility::Shown, &mut node.watchers);
            }
        }
        if !self.is_leaving() {
            // Another waiting sync with this peer would find no difference.
            node.requests.forget_full_syncs(&self.name, Some(peer.as_str()));
        }
        self.initial_sync_completed(peer, standing, node, now);
        if !self.awaiting.is_empty() && self.awaiting.len() < waited {
            // The comparison helped, so the next one starts at once. One that does not help is repeated after
            // a pause.
            self.owners_turn = true;
            self.compare_awaiting(node, now);
        }
        // The missing numbers may have arrived with it.
        self.forget_arrived();
        tracing::debug!(network = &*self.name, peer = peer.as_str(), "compared");
        self.plan_anti_entropy(node, now);
    }

    /// A full sync gave way to one that the peer had opened. If that one fails, another is made.
    pub(crate) fn comparison_postponed(&mut self, now: Instant) {
        self.sync_at = now + RETRY;
    }

    /// A full sync ended without a result.
    pub(crate) fn comparison_failed(&mut self, node: &mut NodeState, now: Instant) {
        node.counters.syncs_failed += 1;
        self.sync_at = now + RETRY;
        self.initial_sync_failed(node);
    }

    /// The peer has no capacity for a full sync now. This is no failure: another member is asked, or the same
    /// one later.
    pub(crate) fn comparison_turned_away(
        &mut self,
        peer: &NodeName,
        periodic: bool,
        node: &mut NodeState,
        now: Instant,
    ) {
        match self.phase {
            Phase::Joining(_) => self.sync_at = now,
            Phase::Active if !periodic => {
                self.request(SyncKind::Full, peer.clone(), BTreeSet::new(), node);
            }
            Phase::Active | Phase::Leaving(_) => {}
        }
    }

    /// The member to sync with has left.
    pub(crate) fn comparison_not_begun(&mut self, now: Instant) {
        self.sync_at = now;
    }

    /// The peer of a full sync in progress is not on the network. This is no failure: another member is asked
    /// at once.
    pub(crate) fn comparison_with_non_member(&mut self, peer: &NodeName, node: &mut NodeState, now: Instant) {
        // A peer that has returned since still counts as a member; so does one that lies.
        let is_member = node.owners.is_member(peer.as_str(), &self.name);
        self.absences = if is_member { self.absences + 1 } else { 0 };
        if !self.is_leaving() {
            self.sync_at = if self.absences <= MAX_ABSENCES { now } else { now + RETRY };
        }
    }
}
