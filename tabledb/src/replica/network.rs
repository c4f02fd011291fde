//! One joined network: its store, its pending updates, and its members.

mod apply;
mod full_syncs;
mod gossip;
mod initial_sync;
mod leaving;
pub(super) mod open_sessions;
pub(super) mod own_writes;
mod pulls;
pub(super) mod refusals;
mod settled;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::IndexedRandom;
use wire::{NodeId, NodeName};

use super::node_state::NodeState;
use super::requests::SessionRequest;
use super::requests::SyncKind;
use super::store::{Body, Store, Visibility, Write};
use super::timing::{AWAITED_AT_ONCE, COMPARISON_TIMEOUT, QUIESCENT_AFTER, RETRY};
use super::update_queue::{QueuedUpdate, UpdateQueue};
use super::view::AttachmentIndex;
use crate::DeleteReason;
use initial_sync::InitialSync;
use leaving::Leaving;
use open_sessions::OpenSessions;
use pulls::Missing;
use settled::Busy;

/// The phase of a network on this node.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
enum Phase {
    /// Its initial sync has not completed since it was joined.
    Joining(InitialSync),
    Active,
    /// Writes are refused; final syncs are in progress.
    Leaving(Leaving),
}

/// A comparison of fingerprints that changed nothing.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
struct Compared {
    mine: u64,
    theirs: u64,
    at: Instant,
}

/// The path by which a bundle arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    Gossip,
    Sync,
}

/// The effects of applying a bundle.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Numbers that were not seen before.
    pub(crate) learned: u64,
    /// Live entries that were dropped because the sender had seen them superseded.
    pub(crate) superseded: u64,
    /// Membership has not reported the instance of an owner yet.
    pub(crate) unknown_instance: bool,
    /// The sender holds numbers in our own name that we never wrote.
    pub(crate) generation_conflict: bool,
}

/// The state of one joined network.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Network {
    pub(crate) name: Arc<str>,
    pub(crate) store: Store,
    own: AttachmentIndex,
    phase: Phase,
    updates: UpdateQueue,
    /// The other alive members, ascending; `None` after a change.
    members: Option<Vec<NodeName>>,
    missing: BTreeMap<AttachmentIndex, Missing>,
    /// The sessions in progress.
    pub(crate) sessions: OpenSessions,
    awaiting: BTreeSet<AttachmentIndex>,
    /// Whether the next comparison for hidden entries is with one of their owners.
    owners_turn: bool,
    /// The number of full syncs in a row that a member answered with `NotMember`.
    absences: u32,
    sync_at: Instant,
    anti_entropy_at: Instant,
    joined_at: Instant,
    unchanged_since: Instant,
    last_fingerprint: u64,
    /// The comparison in progress that differing fingerprints caused.
    comparing: Option<(NodeName, Compared)>,
    compared: BTreeMap<NodeName, Compared>,
    /// Writes of other nodes that this node refused.
    pub(crate) refusals: refusals::Refusals,
    /// Set while changes come without a pause.
    busy: Option<Busy>,
    /// The earliest time of the next full sync that a difference in settled attachments may cause.
    settled_pause: Option<Instant>,
}

impl Network {
    pub(crate) fn new(name: Arc<str>, epoch: u64, node: &mut NodeState, now: Instant) -> Self {
        let me = node.owners.me().clone();
        let mut store = Store::new(name.clone(), me.name.clone());
        let own = store.attach(me, epoch, Visibility::Shown);
        let mut network = Self {
            anti_entropy_at: now,
            name: name.clone(),
            store,
            own,
            phase: Phase::Joining(InitialSync::default()),
            updates: UpdateQueue::default(),
            members: None,
            missing: BTreeMap::new(),
            sessions: OpenSessions::default(),
            awaiting: BTreeSet::new(),
            owners_turn: false,
            absences: 0,
            sync_at: now,
            joined_at: now,
            unchanged_since: now,
            last_fingerprint: 0,
            comparing: None,
            compared: BTreeMap::new(),
            refusals: refusals::Refusals::default(),
            busy: None,
            settled_pause: None,
        };
        network.plan_anti_entropy(node, now);
        let others: Vec<NodeId> =
            node.owners.others().map(|(n, o)| NodeId::new(n.clone(), o.generation)).collect();
        for other in others {
            network.follow_list(&other, node, now);
        }
        network
    }

    // Queries.

    pub(crate) fn own(&self) -> AttachmentIndex {
        self.own
    }

    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving(_))
    }

    pub(crate) fn is_synced(&self) -> bool {
        !matches!(self.phase, Phase::Joining(_))
    }

    pub(crate) fn queue_length(&self) -> usize {
        self.updates.len()
    }

    /// The other alive members of this network, ascending. O(cluster) after a change, else O(1).
    pub(crate) fn members(&mut self, node: &NodeState) -> &[NodeName] {
        self.members.get_or_insert_with(|| node.owners.members_of(&self.name).cloned().collect())
    }

    /// A uniform random sample of `count` members, or all if there are fewer.
    fn sample_members(&mut self, count: usize, node: &mut NodeState) -> Vec<NodeName> {
        self.members(node);
        let members = self.members.as_deref().unwrap_or_default();
        members.sample(&mut node.rng, count).cloned().collect()
    }

    pub(crate) fn members_changed(&mut self) {
        self.members = None;
    }

    /// A member may have been added: if there was none before, the initial sync can be made with it.
    pub(crate) fn member_appeared(&mut self, now: Instant) {
        self.members_changed();
        if !self.is_synced() {
            self.sync_at = self.sync_at.min(now);
        }
    }

    /// The fingerprint, if the network is quiescent: each call compares it with the previous one.
    pub(crate) fn quiescent_fingerprint(&mut self, now: Instant) -> Option<u64> {
        let present = self.store.fingerprint();
        if present != self.last_fingerprint {
            self.last_fingerprint = present;
            self.unchanged_since = now;
        }
        (now.saturating_duration_since(self.unchanged_since) >= QUIESCENT_AFTER).then_some(present)
    }

    /// The fingerprint that peers compare with. `None` while this node refuses writes: it would only cause
    /// comparisons that end with the same differences.
    pub(crate) fn offered_fingerprint(&mut self, now: Instant) -> Option<u64> {
        self.quiescent_fingerprint(now).filter(|_| !self.refusals.is_outstanding())
    }

    /// The next deadline of this network.
    pub(crate) fn next_deadline(&self) -> Instant {
        let missing = self.missing.values().map(|missing| missing.pull_at).min();
        let missing = missing.zip(self.may_pull_at()).map(|(due, possible)| due.max(possible));
        let phase = match &self.phase {
            Phase::Joining(_) => Some(self.sync_at),
            _ => self.leaving_deadline(),
        };
        let awaiting = (!self.awaiting.is_empty()).then_some(self.sync_at);
        let (refused, settled) = (self.refusals.next_deadline(), self.settled_deadline());
        [self.updates.next_deadline(), missing, phase, awaiting, refused, settled, self.store.next_expiry()]
            .into_iter()
            .flatten()
            .fold(self.anti_entropy_at, Instant::min)
    }

    /// Writes our own entries again in a later instance of this node, under the same epoch.
    pub(crate) fn renew(&mut self, me: NodeId, node: &mut NodeState, now: Instant) {
        let Some(former) = self.store.attachment(self.own) else { return };
        let epoch = former.tag.epoch;
        let own: Vec<_> = former.live().iter().map(|(_, record)| record.clone()).collect();
        let tables: Vec<_> = own.iter().map(|record| self.store.table_of(record).name.clone()).collect();
        self.drop_attachment(self.own, node);
        self.own = self.store.attach(me, epoch, Visibility::Shown);
        for (number, (table, record)) in (1..).zip(tables.iter().zip(&own)) {
            let dot = (self.own, number);
            let table = self.store.table_or_new(table);
            let body = Body::Live(record.value());
            // With its original time: it must not win over writes that other nodes have made since.
            let write =
                Write { dot, time: record.time(), table: &table, key: record.key(), body, replaced: &[] };
            self.store.apply(write, &mut node.watchers);
            let queued = QueuedUpdate { dot, replaced: Vec::new() };
            self.updates.push(queued, true, record.weight(), now);
        }
        node.wake = true;
    }

    // Events from membership and attachment lists.

    /// Brings the attachment of `owner` in line with its attachment list: ends, starts or keeps it.
    pub(crate) fn follow_list(&mut self, owner: &NodeId, node: &mut NodeState, now: Instant) {
        self.member_appeared(now);
        let Some(known) = node.owners.get(owner.name.as_str()) else { return };
        let (version, listed, alive) = (known.list_version, known.listed_epoch(&self.name), known.alive);
        let held = self.store.of_owner(owner.name.as_str()).map(|(index, held)| (index, held.tag.epoch));
        if let Some((index, epoch)) = held {
            // A provisional epoch is later than the list, so the list does not mention it yet.
            if epoch > version || listed == Some(epoch) {
                return;
            }
            self.drop_attachment(index, node);
        }
        if let Some(epoch) = listed {
            let visibility = if alive { Visibility::Shown } else { Visibility::OwnerFailed };
            self.start_attachment(owner.clone(), epoch, visibility, node);
            if let Phase::Joining(first) = &mut self.phase {
                first.forget(owner.name.as_str());
            }
        }
        self.final_syncs_without(owner.name.as_str(), node, now);
    }

    pub(crate) fn owner_failed(&mut self, owner: &str, node: &mut NodeState, now: Instant) {
        self.members_changed();
        self.final_syncs_without(owner, node, now);
        let Some((index, _)) = self.store.of_owner(owner) else { return };
        self.awaiting.remove(&index);
        self.store.set_visibility(index, Visibility::OwnerFailed, &mut node.watchers);
    }

    /// The owner has returned: its entries stay hidden until they have been compared.
    pub(crate) fn owner_returned(&mut self, owner: &NodeName, node: &mut NodeState, now: Instant) {
        self.member_appeared(now);
        let Some((index, attachment)) = self.store.of_owner(owner.as_str()) else { return };
        if attachment.visibility() != Visibility::OwnerFailed {
            return;
        }
        let until = now + COMPARISON_TIMEOUT;
        self.store.set_visibility(index, Visibility::AwaitsComparison { until }, &mut node.watchers);
        // Half a cluster may return at once, and each member shows the entries of the others. The first
        // owners are asked now, the next ones after the result; further returns do not delay it.
        let first = self.awaiting.is_empty();
        self.owners_turn &= !first;
        self.sync_at = if first { now + RETRY } else { self.sync_at.min(now + RETRY) };
        if self.awaiting.insert(index) && self.awaiting.len() <= AWAITED_AT_ONCE / 2 {
            self.request(SyncKind::Full, owner.clone(), BTreeSet::new(), node);
        }
    }

    /// The owner's instance has ended, or it has left the network.
    pub(crate) fn owner_gone(&mut self, owner: &str, node: &mut NodeState, now: Instant) {
        self.members_changed();
        self.final_syncs_without(owner, node, now);
        self.compared.remove(owner);
        if let Phase::Joining(first) = &mut self.phase {
            first.forget(owner);
        }
        if let Some((index, _)) = self.store.of_owner(owner) {
            self.drop_attachment(index, node);
        }
    }

    /// Starts an attachment. Nothing of it has been seen yet, unless its owner was forgotten here and has
    /// returned: then its superseded numbers count as seen.
    fn start_attachment(
        &mut self,
        owner: NodeId,
        epoch: u64,
        visibility: Visibility,
        node: &mut NodeState,
    ) -> AttachmentIndex {
        let superseded = node.forgotten_owners.take(&owner, &self.name, epoch);
        let index = self.store.attach(owner, epoch, visibility);
        for &(low, high) in superseded.iter().flat_map(|superseded| superseded.as_slice()) {
            self.store.note_superseded(index, low, high);
        }
        index
    }

    /// The owner will be forgotten. Its live entries and tombstones are dropped, and count as not seen if it
    /// returns. Its superseded numbers are retained, so that they do not come back with it.
    pub(crate) fn retain_superseded(&mut self, owner: &str, node: &mut NodeState) {
        let Some((_, attachment)) = self.store.of_owner(owner) else { return };
        let superseded = attachment.superseded();
        // A set fragmented beyond that would cause the owner's next writes to be refused.
        if superseded.as_slice().len() <= node.config.limits.ranges / 2 {
            let tag = &attachment.tag;
            node.forgotten_owners.keep(&tag.owner, &self.name, tag.epoch, superseded);
        }
    }

    fn drop_attachment(&mut self, index: AttachmentIndex, node: &mut NodeState) {
        self.store.end(index, DeleteReason::OwnerGone, &mut node.watchers);
        self.updates.forget(index);
        self.missing.remove(&index);
        self.sessions.forget(index);
        self.awaiting.remove(&index);
        self.refusals.forget(index);
    }

    /// A push brought updates that this node pushes on once, after a delay in which other members may spread
    /// them.
    pub(crate) fn relay_pushed(
        &mut self,
        indexes: &BTreeSet<AttachmentIndex>,
        node: &mut NodeState,
        now: Instant,
    ) {
        let at = now + Duration::from_millis(node.rng.random_range(0..10));
        for &index in indexes {
            if self.store.attachment(index).is_some() {
                self.updates.relay_by_stream(index, at);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn compared_count(&self) -> usize {
        self.compared.len()
    }

    // Timers.

    pub(crate) fn handle_timeout(&mut self, node: &mut NodeState, now: Instant) {
        if self.updates.flush_due(now) {
            self.flush(node, now);
        }
        let (watermarks, fan_out) = self.updates.due_watermarks(now);
        if !watermarks.is_empty() {
            self.send_watermarks(&watermarks, fan_out, node, now);
        }
        self.retry_refused(node, now);
        self.pull_missing(node, now);
        self.keep_awaiting(node, now);
        self.keep_initial_sync(node, now);
        self.keep_final_syncs(node, now);
        self.send_settled(node, now);
        if now >= self.anti_entropy_at {
            self.plan_anti_entropy(node, now);
            if !self.is_syncing(node) && !self.is_leaving() {
                node.counters.periodic_syncs += 1;
                self.sync_with_random(true, node);
            }
        }
        if self.store.next_expiry().is_some_and(|at| at <= now) {
            node.counters.reaped += self.store.reap(now) as u64;
        }
        self.store.sweep_empty_tables();
    }

    /// Requests a session. Only members receive a network's tables and version vectors: a request for any
    /// other peer is dropped.
    pub(crate) fn request(
        &mut self,
        kind: SyncKind,
        peer: NodeName,
        indexes: BTreeSet<AttachmentIndex>,
        node: &mut NodeState,
    ) {
        if !node.owners.is_member(peer.as_str(), &self.name) {
            return;
        }
        node.requests.push(SessionRequest {
            kind,
            network: self.name.clone(),
            peer,
            indexes,
            periodic: false,
        });
    }
}

/// The approximate size of an update in a bundle, in bytes.
fn update_bytes(table: &str, key: &str, value: Option<&[u8]>) -> usize {
    let value = value.map_or(8, <[u8]>::len);
    24 + table.len() / 4 + key.len() + value
}
