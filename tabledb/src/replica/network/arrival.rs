//! What peers say of a network: the gate, and applying what passes it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use wire::{NodeId, NodeName};

use super::super::common::Common;
use super::super::counters::Refusal;
use super::super::message::{AttachmentId, Bundle, Event, EventBody, SessionKind};
use super::super::news::Item;
use super::super::owners::Gate;
use super::super::store::{Dot, Full, Visibility, Write};
use super::super::timing::MISSING_GRACE;
use super::super::view::{Body, Slot};
use super::refusals::Refused;
use super::{Applied, Arrival, Compared, Missing, Network, news_bytes};

impl Network {
    /// Lets an attachment that a peer speaks of through the gate: taking it up, or ending the owner's earlier one, in
    /// the same step as whatever the peer says of it.
    pub(crate) fn admit(&mut self, id: &AttachmentId<'_>, common: &mut Common) -> Result<Slot, Gate> {
        let held = self.store.of_owner(id.owner);
        // The one held, of the very life: the common case, without a look at the lists.
        if let Some((slot, attachment)) = held
            && attachment.tag.epoch == id.epoch
            && attachment.tag.owner.generation == id.generation
        {
            return Ok(slot);
        }
        let held = held.map(|(slot, attachment)| (slot, attachment.tag.epoch));
        let epoch = held.map(|(_, epoch)| epoch);
        match common.owners.gate(&self.name, id.owner, id.generation, id.epoch, epoch) {
            Gate::Attached | Gate::Provisional => {
                if let Some((slot, _)) = held {
                    self.drop_attachment(slot, common);
                }
                let Ok(name) = NodeName::new(id.owner) else { return Err(Gate::Refused) };
                let alive = common.owners.get(id.owner).is_some_and(|owner| owner.alive);
                let visibility = if alive { Visibility::Shown } else { Visibility::OwnerFailed };
                common.counters.provisional += 1;
                Ok(self.take_up(NodeId::new(name, id.generation), id.epoch, visibility, common))
            }
            refused => Err(refused),
        }
    }

    /// Whether gossip of this sender is accepted, else why not. The sender has to be a member by its attachment list, or by its own
    /// claim: an attachment of its own in the bundle. Any other node could only repeat what members send themselves.
    /// [`Refusal::UnknownLife`] is not final: the check is to be made again when more is known.
    pub(crate) fn judge_sender(
        &mut self,
        from: &NodeName,
        bundle: &Bundle<'_>,
        common: &mut Common,
        now: Instant,
    ) -> Result<(), Refusal> {
        let sender = from.as_str();
        if common.owners.is_member(sender, &self.name) {
            return Ok(());
        }
        if common.owners.get(sender).is_none() {
            return Err(Refusal::UnknownLife);
        }
        if let Some(id) = bundle.attachments.iter().find(|id| id.owner == sender) {
            let held = self.store.of_owner(sender).map(|(_, held)| held.tag.epoch);
            return match common.owners.gate(&self.name, sender, id.generation, id.epoch, held) {
                Gate::Attached | Gate::Provisional => {
                    if common.owners.note_own_word(sender, self.name.clone(), id.epoch) {
                        self.member_appeared(now);
                    }
                    Ok(())
                }
                Gate::UnknownLife => Err(Refusal::UnknownLife),
                Gate::Refused => Err(Refusal::EndedAttachment),
            };
        }
        let is_listed = common.owners.list_version_of(sender) > 0;
        Err(if is_listed { Refusal::NotMember } else { Refusal::UnknownLife })
    }

    /// Applies what a peer told. Gate, context and store change in one step for each number.
    pub(crate) fn apply(
        &mut self,
        bundle: &Bundle<'_>,
        from: &NodeName,
        arrival: Arrival,
        common: &mut Common,
        now: Instant,
    ) -> Applied {
        let mut applied = Applied::default();
        // Each time is judged for itself. Were all of a message refused for its sender's clock, somebody who keeps the clocks
        // of some as far ahead as may be could keep others, whose own clocks are a little behind, from hearing them.
        if common.clock.believes(bundle.clock, now) {
            common.clock.observe(bundle.clock);
        }
        let mut slots = Vec::with_capacity(bundle.attachments.len());
        for id in &bundle.attachments {
            let slot = self.admit(id, common);
            match slot {
                Ok(_) => {}
                Err(Gate::UnknownLife) => applied.unknown_life = true,
                Err(_) => common.counters.refuse(Refusal::EndedAttachment),
            }
            slots.push(slot.ok());
        }
        let own_highest = self.store.attachment(self.own).map_or(0, |own| own.context().highest());
        let relay = arrival == Arrival::Gossip && bundle.relay;
        for event in &bundle.events {
            self.apply_event(event, bundle, &slots, own_highest, relay, &mut applied, common, now);
        }
        for &(attachment, low, high) in &bundle.dead {
            let Some(&Some(slot)) = slots.get(attachment as usize) else { continue };
            if low == 0 || high < low || high >= u64::MAX - 1 {
                common.counters.refuse(Refusal::Malformed);
            } else if slot == self.own && high > own_highest {
                applied.impostor = true;
            } else {
                self.apply_dead(slot, (low, high), arrival, relay, &mut applied, common, now);
            }
        }
        for &(attachment, head) in &bundle.heads {
            let Some(&Some(slot)) = slots.get(attachment as usize) else { continue };
            if slot == self.own {
                applied.impostor |= head > own_highest;
            } else {
                self.note_head(slot, head, from, now);
            }
        }
        if applied.news > 0 || applied.buried > 0 {
            self.note_change(now);
        }
        if applied.news > 0 {
            for slot in slots.into_iter().flatten() {
                // Gossip that left a hole tells whom to ask.
                self.note_head(slot, 0, from, now);
            }
        }
        applied
    }

    #[expect(clippy::too_many_arguments, reason = "one loop body, split off for reading")]
    fn apply_event(
        &mut self,
        event: &Event<'_>,
        bundle: &Bundle<'_>,
        slots: &[Option<Slot>],
        own_highest: u64,
        relay: bool,
        applied: &mut Applied,
        common: &mut Common,
        now: Instant,
    ) {
        let Some(&Some(slot)) = slots.get(event.attachment as usize) else { return };
        let Some(&table_name) = bundle.tables.get(event.table as usize) else {
            return common.counters.refuse(Refusal::Malformed);
        };
        if event.number == 0 || event.number >= u64::MAX - 1 || event.age > bundle.clock {
            return common.counters.refuse(Refusal::Malformed);
        }
        if slot == self.own {
            // What we wrote we know, dead or alive; what we did not write is somebody else's claim in our name.
            applied.impostor |= event.number > own_highest;
            return;
        }
        let known =
            |slot| self.store.attachment(slot).is_some_and(|held| held.context().contains(event.number));
        if known(slot) {
            return;
        }
        let time = bundle.clock - event.age;
        let dot = (slot, event.number);
        let value_bytes = if let EventBody::Value(value) = event.body { value.len() } else { 0 };
        let refused = |why| {
            let (table, key, bytes) = (table_name, event.key, value_bytes);
            Refused { dot, time, table, key, bytes, why }
        };
        if !common.clock.believes(time, now) {
            return self.refuse(&refused(Refusal::FutureTime), common, now);
        }
        common.clock.observe(time);
        let limits = &common.config.limits;
        if !limits.allow_names(&self.name, table_name, event.key) || value_bytes > limits.value_bytes {
            return self.refuse(&refused(Refusal::TooLong), common, now);
        }
        let replaced: Vec<Dot> = event
            .replaced
            .iter()
            .filter_map(|&(attachment, number)| {
                let slot = (*slots.get(attachment as usize)?)?;
                let claimed =
                    number == 0 || number >= u64::MAX - 1 || (slot == self.own && number > own_highest);
                // Nothing but a write under its own key supersedes an entry.
                let elsewhere = self.store.is_elsewhere((slot, number), table_name, event.key);
                if elsewhere {
                    common.counters.refuse(Refusal::Malformed);
                }
                (!claimed && !elsewhere).then_some((slot, number))
            })
            .collect();
        let body = match event.body {
            EventBody::Value(value) => Body::Live(value.into()),
            // The residual travels with the delete and only shrinks; a bound keeps a peer from making it eternal.
            EventBody::Deleted { residual_ms } => {
                let residual = Duration::from_millis(residual_ms).min(common.config.reap_time);
                Body::Tombstone { expires: Box::new(now + residual) }
            }
        };
        let found = self.store.view().table(table_name);
        let full = self.store.lacks_room(found.as_ref(), event.key, &body, limits);
        if let Some(full) = full {
            let why = match full {
                Full::Entries => Refusal::NetworkFull,
                Full::Tables => Refusal::TooManyTables,
                Full::Bytes => Refusal::TooManyBytes,
            };
            return self.refuse(&refused(why), common, now);
        }
        let torn = std::iter::once(&dot).chain(&replaced).any(|&(slot, number)| {
            self.store.attachment(slot).is_some_and(|held| {
                let pieces = held.context().as_slice().len() + replaced.len();
                pieces >= limits.ranges && !held.context().touches(number, number)
            })
        });
        if torn {
            return self.refuse(&refused(Refusal::Torn), common, now);
        }
        let bytes = news_bytes(table_name, event.key, &body) + 16 * replaced.len().saturating_sub(1);
        let table = found.unwrap_or_else(|| self.store.view().table_or_new(table_name));
        let write = Write { dot, time, table: &table, key: event.key, body, replaced: &replaced };
        if self.store.apply(write, &mut common.watchers) {
            applied.news += 1;
            if relay {
                common.wake |= self.news.push(Item { dot, replaced }, false, bytes, now);
            } else {
                self.news.touch(slot, now);
            }
        }
    }

    /// Numbers that a peer has seen and that are not live with it enter the context. What is live here is not dropped for that:
    /// what has superseded it may come later than this word, or be refused. If nothing comes, fingerprints differ, and the
    /// comparison drops it.
    #[expect(clippy::too_many_arguments, reason = "one loop body, split off for reading")]
    fn apply_dead(
        &mut self,
        slot: Slot,
        (low, high): (u64, u64),
        arrival: Arrival,
        relay: bool,
        applied: &mut Applied,
        common: &mut Common,
        now: Instant,
    ) {
        let Some(attachment) = self.store.attachment(slot) else { return };
        let context = attachment.context();
        if context.as_slice().len() >= common.config.limits.ranges && !context.touches(low, high) {
            return common.counters.refuse(Refusal::Torn);
        }
        let known = context.within(low, high).count();
        let news = (high - low + 1) - known;
        if news == 0 {
            return;
        }
        if arrival == Arrival::Gossip && self.refusals.is_outstanding() {
            // Maybe only what is refused here has superseded it: the owner knows best.
            let owner = attachment.tag.owner.name.clone();
            return self.note_head(slot, high, &owner, now);
        }
        self.store.note_dead(slot, low, high);
        applied.news += news;
        self.news.touch(slot, now);
        if relay && news <= 64 {
            for number in low..=high.min(low + 64) {
                let item = Item { dot: (slot, number), replaced: Vec::new() };
                common.wake |= self.news.push(item, false, 30, now);
            }
        }
    }

    /// Takes note that `holder` has an attachment up to `head`: what is missing is pulled if it does not come soon.
    pub(super) fn note_head(&mut self, slot: Slot, head: u64, holder: &NodeName, now: Instant) {
        let Some(attachment) = self.store.attachment(slot) else { return };
        let accounted = attachment.accounted();
        if slot == self.own || (head <= accounted.highest() && !accounted.has_holes()) {
            return;
        }
        self.note_missing(slot, head, holder, now + MISSING_GRACE, now);
    }

    /// Has the numbers of an attachment up to `head` that are not accounted for pulled.
    pub(crate) fn note_missing(
        &mut self,
        slot: Slot,
        head: u64,
        holder: &NodeName,
        pull_at: Instant,
        now: Instant,
    ) {
        let missing = self.missing.entry(slot).or_insert_with(|| Missing {
            holder: holder.clone(),
            upto: 0,
            pull_at,
            tries: 0,
        });
        if head > missing.upto && missing.tries > 0 {
            // Somebody has more than those who were asked in vain.
            missing.holder = holder.clone();
            missing.pull_at = missing.pull_at.min(now + MISSING_GRACE);
            missing.tries = 0;
        }
        missing.upto = missing.upto.max(head);
    }

    /// A peer's fingerprint rode along with a probe. A difference between two that are still is worth a sync.
    pub(crate) fn note_fingerprint(
        &mut self,
        peer: &NodeName,
        theirs: u64,
        common: &mut Common,
        now: Instant,
    ) {
        if self.refusals.puts_off_comparison(now) {
            return;
        }
        let Some(mine) = self.still_fingerprint(now) else { return };
        if mine == theirs || self.is_syncing(common) {
            return;
        }
        if let Some(compared) = self.compared.get(peer.as_str())
            && (compared.mine, compared.theirs) == (mine, theirs)
            && now < compared.at + common.config.anti_entropy_interval
        {
            return;
        }
        common.counters.fingerprint_syncs += 1;
        self.comparing = Some((peer.clone(), Compared { mine, theirs, at: now }));
        self.request(SessionKind::Full, peer.clone(), BTreeSet::new(), common);
    }
}
