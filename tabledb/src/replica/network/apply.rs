//! Handling bundles from peers: the admission check, and applying what passes it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::{NodeId, NodeName};

use super::super::counters::RefusalReason;
use super::super::load::Full;
use super::super::message::{AttachmentId, Bundle, Event, EventBody};
use super::super::node_state::NodeState;
use super::super::owners::Admission;
use super::super::store::{Body, Dot, Effect, Visibility, Write};
use super::super::update_queue::QueuedUpdate;
use super::super::view::Table;
use super::refusals::Refused;
use super::{Applied, Network, update_bytes};
use crate::record::AttachmentIndex;
use crate::{ArrivalPath, DeleteReason, RefusedBecause};

/// What all events of a bundle have in common.
struct Events<'a> {
    clock: u64,
    /// The attachments that the bundle names; `None` for those that were not admitted.
    indexes: &'a [Option<AttachmentIndex>],
    /// The names of the tables.
    tables: &'a [&'a str],
    /// The table of the latest event, by its place among them: most often that of the next one, too. It is not
    /// dropped meanwhile.
    table: Option<(u32, Arc<Table>)>,
    own_highest: u64,
    relay: bool,
    from: &'a NodeName,
    path: ArrivalPath,
    /// Whether they come from their writes, not from what others held before this node joined.
    are_propagated: bool,
    /// The attachment of the latest event that was applied and is not relayed: it is touched once.
    touched: Option<AttachmentIndex>,
    /// That of the latest event that was kept, and its digest: most often those of the next one, too.
    writer: Option<(AttachmentIndex, u64)>,
}

impl Network {
    /// The admission check of an attachment that a peer names. If a new attachment passes, it starts, and the
    /// owner's earlier one ends, in the same step as the change that names it.
    pub(crate) fn admit(
        &mut self,
        id: &AttachmentId<'_>,
        node: &mut NodeState,
    ) -> Result<AttachmentIndex, Admission> {
        let held = self.store.of_owner(id.owner);
        // The current attachment of the current instance: the common case, without a look at the lists.
        if let Some((index, attachment)) = held
            && attachment.tag.epoch == id.epoch
            && attachment.tag.owner.generation == id.generation
        {
            return Ok(index);
        }
        let held = held.map(|(index, attachment)| (index, attachment.tag.epoch));
        let epoch = held.map(|(_, epoch)| epoch);
        match node.owners.admission(&self.name, id.owner, id.generation, id.epoch, epoch) {
            Admission::Attached | Admission::Provisional => {
                if let Some((index, _)) = held {
                    self.drop_attachment(index, DeleteReason::OwnerLeft, node);
                }
                let Ok(name) = NodeName::new(id.owner) else { return Err(Admission::Refused) };
                let alive = node.owners.get(id.owner).is_some_and(|owner| owner.alive);
                let visibility = if alive { Visibility::Shown } else { Visibility::OwnerFailed };
                node.counters.provisional += 1;
                Ok(self.start_attachment(NodeId::new(name, id.generation), id.epoch, visibility, node))
            }
            refused => Err(refused),
        }
    }

    /// Whether gossip of this sender is accepted, else why not. The sender has to be a member by its
    /// attachment list, or by its own claim: an attachment of its own in the bundle. Any other node could
    /// only repeat what members send themselves. [`RefusalReason::UnknownInstance`] is not final: the check
    /// is to be made again when more is known.
    pub(crate) fn admit_sender(
        &mut self,
        from: &NodeName,
        bundle: &Bundle<'_>,
        node: &mut NodeState,
        now: Instant,
    ) -> Result<(), RefusalReason> {
        let sender = from.as_str();
        if node.owners.is_member(sender, &self.name) {
            return Ok(());
        }
        if node.owners.get(sender).is_none() {
            return Err(RefusalReason::UnknownInstance);
        }
        if let Some(id) = bundle.attachments.iter().find(|id| id.owner == sender) {
            let held = self.store.of_owner(sender).map(|(_, held)| held.tag.epoch);
            return match node.owners.admission(&self.name, sender, id.generation, id.epoch, held) {
                Admission::Attached | Admission::Provisional => {
                    if node.owners.note_own_claim(sender, self.name.clone(), id.epoch) {
                        self.scheduler.member_appeared(now);
                    }
                    Ok(())
                }
                Admission::UnknownInstance => Err(RefusalReason::UnknownInstance),
                Admission::Refused => Err(RefusalReason::EndedAttachment),
            };
        }
        let is_listed = node.owners.list_version_of(sender) > 0;
        Err(if is_listed { RefusalReason::NotMember } else { RefusalReason::UnknownInstance })
    }

    /// Applies a bundle of a peer. For each number, the admission check, the version vector and the store
    /// change in one step.
    pub(crate) fn apply(
        &mut self,
        bundle: &Bundle<'_>,
        from: &NodeName,
        path: ArrivalPath,
        node: &mut NodeState,
        now: Instant,
    ) -> Applied {
        let mut applied = Applied::default();
        // Each event's time is checked by itself, not a message by the clock of its sender: an attacker that
        // pushes the clocks of some members as far ahead as allowed must not prevent other members, whose own
        // clocks are a little behind, from accepting their messages.
        if node.clock.believes(bundle.clock, now) {
            node.clock.observe(bundle.clock);
        }
        let mut indexes = Vec::with_capacity(bundle.attachments.len());
        for id in &bundle.attachments {
            let index = self.admit(id, node);
            match index {
                Ok(_) => {}
                Err(Admission::UnknownInstance) => applied.unknown_instance = true,
                Err(_) => node.counters.refuse(RefusalReason::EndedAttachment),
            }
            indexes.push(index.ok());
        }
        let own_highest = self.store.attachment(self.own).map_or(0, |own| own.seen().highest());
        let relay = path == ArrivalPath::Gossip && bundle.relay;
        let mut events = Events {
            clock: bundle.clock,
            indexes: &indexes,
            tables: &bundle.tables,
            table: None,
            own_highest,
            relay,
            from,
            path,
            are_propagated: path == ArrivalPath::Gossip || self.is_synced(),
            touched: None,
            writer: None,
        };
        node.watchers.begin_step();
        for event in &bundle.events {
            self.apply_event(event, &mut events, &mut applied, node, now);
        }
        node.watchers.end_step();
        for &(attachment, low, high) in &bundle.superseded {
            let Some(&Some(index)) = indexes.get(attachment as usize) else { continue };
            if low == 0 || high < low || high >= u64::MAX - 1 {
                node.counters.refuse(RefusalReason::Malformed);
            } else if index == self.own && high > own_highest {
                applied.generation_conflict = true;
            } else {
                self.apply_superseded(index, (low, high), path, relay, &mut applied, node, now);
            }
        }
        for &(attachment, watermark) in &bundle.watermarks {
            let Some(&Some(index)) = indexes.get(attachment as usize) else { continue };
            if index == self.own {
                applied.generation_conflict |= watermark > own_highest;
            } else {
                self.note_watermark(index, watermark, from, now);
            }
        }
        if applied.learned > 0 || applied.superseded > 0 {
            self.note_change(now);
        }
        if applied.learned > 0 {
            for index in indexes.into_iter().flatten() {
                // Gossip left a hole: pull it from the sender.
                self.note_watermark(index, 0, from, now);
            }
        }
        applied
    }

    fn apply_event(
        &mut self,
        event: &Event<'_>,
        events: &mut Events<'_>,
        applied: &mut Applied,
        node: &mut NodeState,
        now: Instant,
    ) {
        let &mut Events { clock, indexes, tables, own_highest, relay, from, path, are_propagated, .. } =
            events;
        let Some(&Some(index)) = indexes.get(event.attachment as usize) else { return };
        let Some(&table_name) = tables.get(event.table as usize) else {
            return node.counters.refuse(RefusalReason::Malformed);
        };
        if event.number == 0 || event.number >= u64::MAX - 1 || event.age > clock {
            return node.counters.refuse(RefusalReason::Malformed);
        }
        if index == self.own {
            // We know what we wrote, live or superseded; a number that we did not write is a claim in our
            // name.
            applied.generation_conflict |= event.number > own_highest;
            return;
        }
        if self.store.attachment(index).is_some_and(|held| held.seen().contains(event.number)) {
            return;
        }
        let time = clock - event.age;
        let dot = (index, event.number);
        let value_bytes = if let EventBody::Value(value) = event.body { value.len() } else { 0 };
        let refused = |because| {
            let (table, key, bytes) = (table_name, event.key, value_bytes);
            Refused { dot, time, table, key, bytes, because }
        };
        if !node.clock.believes(time, now) {
            return self.refuse(&refused(RefusedBecause::FutureTime), node, now);
        }
        node.clock.observe(time);
        let limits = &node.config.limits;
        if !limits.allow_names(&self.name, table_name, event.key) || value_bytes > limits.value_bytes {
            return self.refuse(&refused(RefusedBecause::TooLong), node, now);
        }
        let replaced: Vec<Dot> = event
            .replaced
            .iter()
            .filter_map(|&(attachment, number)| {
                let index = (*indexes.get(attachment as usize)?)?;
                let claimed =
                    number == 0 || number >= u64::MAX - 1 || (index == self.own && number > own_highest);
                // Only a write under the same key supersedes an entry.
                let elsewhere = self.store.is_elsewhere((index, number), table_name, event.key);
                if elsewhere {
                    node.counters.refuse(RefusalReason::Malformed);
                }
                (!claimed && !elsewhere).then_some((index, number))
            })
            .collect();
        let body = match event.body {
            EventBody::Value(value) => Body::Live(value),
            // The residual travels with the delete and only shrinks; the bound prevents a peer from making it
            // unlimited.
            EventBody::Deleted { residual_ms } => {
                let residual = Duration::from_millis(residual_ms).min(node.config.reap_time);
                Body::Tombstone { expires: now + residual }
            }
        };
        if events.table.as_ref().is_none_or(|(of, _)| *of != event.table) {
            events.table = self.store.view().table(table_name).map(|table| (event.table, table));
        }
        let found = events.table.as_ref().map(|(_, table)| table);
        let load = self.store.load();
        let full = self.store.lacks_capacity(&load, (table_name, found), event.key, body.value(), limits);
        if let Some(full) = full {
            let because = match full {
                Full::Entries => RefusedBecause::NetworkFull,
                Full::Tables => RefusedBecause::TooManyTables,
                Full::Bytes => RefusedBecause::TooManyBytes,
            };
            return self.refuse(&refused(because), node, now);
        }
        let fragmented = std::iter::once(&dot).chain(&replaced).any(|&(index, number)| {
            self.store.attachment(index).is_some_and(|held| {
                let ranges = held.seen().as_slice().len() + replaced.len();
                ranges >= limits.ranges && !held.seen().touches(number, number)
            })
        });
        if fragmented {
            return self.refuse(&refused(RefusedBecause::Fragmented), node, now);
        }
        let bytes = update_bytes(table_name, event.key, body.value()) + 16 * replaced.len().saturating_sub(1);
        let new = || (event.table, self.store.table_or_new(table_name));
        let (_, table) = events.table.get_or_insert_with(new);
        let write = Write { dot, time, table, key: event.key, body, replaced: &replaced, present: None };
        let effect = self.store.apply(write, &mut node.watchers);
        if let Effect::Kept(former) = &effect {
            let latest = events.writer.filter(|(of, _)| *of == index);
            let digest = || self.store.attachment(index).map_or(0, |held| held.tag.digest);
            let (_, writer) = latest.unwrap_or_else(|| (index, digest()));
            events.writer = Some((index, writer));
            node.arrivals.note((writer, event.number), path, Some(from), former.as_ref(), now);
        }
        if !matches!(effect, Effect::Seen) {
            self.supersede_refused(table_name, event.key, time);
            applied.learned += 1;
            if are_propagated {
                node.latencies.propagation.add(node.clock.since(time, now));
            }
            if relay {
                node.wake |=
                    self.updates.push(QueuedUpdate { dot, replaced, together: 0 }, false, bytes, now);
            } else if events.touched.replace(index) != Some(index) {
                self.updates.touch(index, now);
            }
        }
    }

    /// Adds numbers to the version vector that a peer has seen and does not hold live. Entries that are live
    /// here are kept: the superseding write may arrive later, or be refused. If it never arrives, the
    /// fingerprints differ, and a comparison drops them.
    #[expect(clippy::too_many_arguments, reason = "the body of one loop, separated for readability")]
    fn apply_superseded(
        &mut self,
        index: AttachmentIndex,
        (low, high): (u64, u64),
        path: ArrivalPath,
        relay: bool,
        applied: &mut Applied,
        node: &mut NodeState,
        now: Instant,
    ) {
        let Some(attachment) = self.store.attachment(index) else { return };
        let seen = attachment.seen();
        if seen.as_slice().len() >= node.config.limits.ranges && !seen.touches(low, high) {
            return node.counters.refuse(RefusedBecause::Fragmented.into());
        }
        let known = seen.within(low, high).count();
        let unseen = (high - low + 1) - known;
        if unseen == 0 {
            return;
        }
        if path == ArrivalPath::Gossip && self.refusals.is_outstanding() {
            // They may be superseded only by writes that this node refuses: pull them from the owner.
            let owner = attachment.tag.owner.name.clone();
            return self.note_watermark(index, high, &owner, now);
        }
        self.store.note_superseded(index, low, high);
        applied.learned += unseen;
        self.updates.touch(index, now);
        if relay && unseen <= 64 {
            for number in low..=high.min(low + 64) {
                let update = QueuedUpdate { dot: (index, number), replaced: Vec::new(), together: 0 };
                node.wake |= self.updates.push(update, false, 30, now);
            }
        }
    }

    /// Records that `source` has an attachment up to `watermark`.
    pub(super) fn note_watermark(
        &mut self,
        index: AttachmentIndex,
        watermark: u64,
        source: &NodeName,
        now: Instant,
    ) {
        if index != self.own {
            self.scheduler.watermark_received(index, watermark, source, &self.store, now);
        }
    }
}
