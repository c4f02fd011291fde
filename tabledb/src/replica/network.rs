//! One joined network: its store, its pending updates, and its members.

mod apply;
mod disagreements;
mod gossip;
pub(super) mod own_writes;
pub(super) mod refusals;
mod scheduler;
mod settled;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use wire::{NodeId, NodeName, StreamId};

use super::node_state::NodeState;
use super::session_result::{FullSyncResult, Outcome};
use super::store::{Body, Store, Visibility, Write};
use super::timing::QUIESCENT_AFTER;
use super::update_queue::{QueuedUpdate, UpdateQueue};
use crate::record::AttachmentIndex;
use crate::{DeleteReason, FinalSyncs};
use disagreements::Disagreements;
use scheduler::SyncScheduler;
use settled::Busy;

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
    updates: UpdateQueue,
    /// With whom this node opens sessions, and when.
    pub(crate) scheduler: SyncScheduler,
    unchanged_since: Instant,
    last_fingerprint: u64,
    /// Writes of other nodes that this node refused.
    pub(crate) refusals: refusals::Refusals,
    /// Members that hold something else.
    pub(crate) disagreements: Disagreements,
    /// Set while changes come without a pause.
    busy: Option<Busy>,
}

impl Network {
    pub(crate) fn new(name: Arc<str>, epoch: u64, node: &mut NodeState, now: Instant) -> Self {
        let me = node.owners.me().clone();
        let mut store = Store::new(name.clone(), me.name.clone());
        let own = store.attach(me, epoch, Visibility::Shown);
        let mut network = Self {
            scheduler: SyncScheduler::new(name.clone(), node, now),
            name,
            store,
            own,
            updates: UpdateQueue::default(),
            unchanged_since: now,
            last_fingerprint: 0,
            refusals: refusals::Refusals::default(),
            disagreements: Disagreements::default(),
            busy: None,
        };
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
        self.scheduler.is_leaving()
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.scheduler.is_synced()
    }

    /// Whether it was being left, and can be dropped now.
    pub(crate) fn left(&self, now: Instant) -> bool {
        self.scheduler.left(now)
    }

    /// The result of the final syncs.
    pub(crate) fn final_syncs(&self) -> FinalSyncs {
        self.scheduler.final_syncs()
    }

    pub(crate) fn queue_length(&self) -> usize {
        self.updates.len()
    }

    /// The other alive members of this network, ascending. O(cluster) after a change, else O(1).
    pub(crate) fn members(&mut self, node: &NodeState) -> &[NodeName] {
        self.scheduler.members(node)
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
        let (refused, settled) = (self.refusals.next_deadline(), self.settled_deadline());
        [self.updates.next_deadline(), refused, settled, self.store.next_expiry()]
            .into_iter()
            .flatten()
            .fold(self.scheduler.next_deadline(), Instant::min)
    }

    /// Writes our own entries again in a later instance of this node, under the same epoch.
    pub(crate) fn renew(&mut self, me: NodeId, node: &mut NodeState, now: Instant) {
        let Some(former) = self.store.attachment(self.own) else { return };
        let epoch = former.tag.epoch;
        let own: Vec<_> = former.live().iter().map(|(_, record)| record.clone()).collect();
        let tables: Vec<_> = own.iter().map(|record| self.store.table_of(record).name.clone()).collect();
        self.drop_attachment(self.own, DeleteReason::OwnerGone, node);
        self.own = self.store.attach(me, epoch, Visibility::Shown);
        for (number, (table, record)) in (1..).zip(tables.iter().zip(&own)) {
            let dot = (self.own, number);
            let table = self.store.table_or_new(table);
            let body = Body::Live(record.value());
            // With its original time: it must not win over writes that other nodes have made since.
            let (time, key) = (record.time(), record.key());
            let write = Write { dot, time, table: &table, key, body, replaced: &[], present: None };
            self.store.apply(write, &mut node.watchers);
            let queued = QueuedUpdate { dot, replaced: Vec::new() };
            self.updates.push(queued, true, record.weight(), now);
        }
        node.wake = true;
    }

    // Events from membership and attachment lists.

    /// Brings the attachment of `owner` in line with its attachment list: ends, starts or keeps it.
    pub(crate) fn follow_list(&mut self, owner: &NodeId, node: &mut NodeState, now: Instant) {
        self.scheduler.member_appeared(now);
        let Some(known) = node.owners.get(owner.name.as_str()) else { return };
        let (version, listed, alive) = (known.list_version, known.listed_epoch(&self.name), known.alive);
        let held = self.store.of_owner(owner.name.as_str()).map(|(index, held)| (index, held.tag.epoch));
        if let Some((index, epoch)) = held {
            // A provisional epoch is later than the list, so the list does not mention it yet.
            if epoch > version || listed == Some(epoch) {
                return;
            }
            self.drop_attachment(index, DeleteReason::OwnerLeft, node);
        }
        if let Some(epoch) = listed {
            let visibility = if alive { Visibility::Shown } else { Visibility::OwnerFailed };
            self.start_attachment(owner.clone(), epoch, visibility, node);
        }
        self.scheduler.attachment_changed(owner.name.as_str(), listed.is_some(), node, now);
    }

    pub(crate) fn owner_failed(&mut self, owner: &str, node: &mut NodeState, now: Instant) {
        let held = self.store.of_owner(owner).map(|(index, _)| index);
        self.scheduler.owner_failed(owner, held, node, now);
        self.disagreements.forget(owner);
        if let Some(index) = held {
            self.store.set_visibility(index, Visibility::OwnerFailed, &mut node.watchers);
        }
    }

    /// The owner has returned: its entries stay hidden until they have been compared.
    pub(crate) fn owner_returned(&mut self, owner: &NodeName, node: &mut NodeState, now: Instant) {
        self.scheduler.member_appeared(now);
        let Some((index, attachment)) = self.store.of_owner(owner.as_str()) else { return };
        if attachment.visibility() == Visibility::OwnerFailed {
            self.store.set_visibility(index, Visibility::AwaitsComparison, &mut node.watchers);
            self.scheduler.owner_returned(owner, index, node, now);
        }
    }

    /// The owner's instance has ended, or it has left the network.
    pub(crate) fn owner_gone(&mut self, owner: &str, node: &mut NodeState, now: Instant) {
        self.scheduler.owner_gone(owner, node, now);
        self.disagreements.forget(owner);
        if let Some((index, _)) = self.store.of_owner(owner) {
            self.drop_attachment(index, DeleteReason::OwnerGone, node);
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

    fn drop_attachment(&mut self, index: AttachmentIndex, reason: DeleteReason, node: &mut NodeState) {
        self.store.end(index, reason, &mut node.watchers);
        self.updates.forget(index);
        self.scheduler.attachment_ended(index);
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

    /// Shows attachments whose owners have returned.
    fn show(&mut self, indexes: Vec<AttachmentIndex>, node: &mut NodeState) {
        for index in indexes {
            self.store.set_visibility(index, Visibility::Shown, &mut node.watchers);
        }
    }

    // Events from peers.

    /// Handles a peer's fingerprint from a probe. If both networks are quiescent, a difference causes a sync.
    pub(crate) fn note_fingerprint(
        &mut self,
        peer: &NodeName,
        theirs: u64,
        node: &mut NodeState,
        now: Instant,
    ) {
        let Some(mine) = self.quiescent_fingerprint(now) else { return };
        let lasting = node.config.anti_entropy_interval;
        self.disagreements.compared(&self.name, peer, mine == theirs, lasting, now);
        if mine != theirs && !self.refusals.puts_off_comparison(now) {
            self.scheduler.fingerprint_differs(peer, (mine, theirs), node, now);
        }
    }

    /// A full sync is over, on either side.
    pub(crate) fn full_sync_over(&mut self, sync: &FullSyncResult<'_>, node: &mut NodeState, now: Instant) {
        if sync.outcome == Outcome::Completed {
            self.refusals.compared(node.config.anti_entropy_interval, now);
        }
        let shown = self.scheduler.full_sync_over(sync, &self.store, node, now);
        self.show(shown, node);
    }

    /// A pull that this node opened is over.
    pub(crate) fn pull_over(
        &mut self,
        id: StreamId,
        peer: &NodeName,
        outcome: Outcome,
        node: &mut NodeState,
        now: Instant,
    ) {
        self.scheduler.pull_over(id, peer, outcome, &self.store, node, now);
    }

    // Calls of the application.

    /// Starts leaving: writes are refused, final syncs run, then [`Self::left`] is true. `others` networks
    /// are being left at the same time and share the capacity.
    pub(crate) fn start_leaving(&mut self, others: usize, node: &mut NodeState, now: Instant) {
        self.scheduler.start_leaving(others, node, now);
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
        let shown = self.scheduler.request_needed(&self.store, node, now);
        self.show(shown, node);
        self.send_settled(node, now);
        self.scheduler.request_periodic(node, now);
        if self.store.next_expiry().is_some_and(|at| at <= now) {
            node.counters.reaped += self.store.reap(now) as u64;
        }
        self.store.sweep_empty_tables();
    }
}

/// The approximate size of an update in a bundle, in bytes.
fn update_bytes(table: &str, key: &str, value: Option<&[u8]>) -> usize {
    let value = value.map_or(8, <[u8]>::len);
    24 + table.len() / 4 + key.len() + value
}
