//! Filling a bundle of news up to a number of bytes, from the store as it is now.

use std::sync::Arc;
use std::time::Instant;

use wire::codec;

use super::message::{AttachmentId, Bundle, Datagram, Event, EventBody, Frame};
use super::store::{Dot, Place, Store};
use super::view::{Body, Slot, Table};

/// Where a bundle is to travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Envelope {
    Datagram,
    Frame,
}

/// Upper bounds on what things add besides their bytes: variable-length integers take up to nine bytes each.
const BUNDLE_OVERHEAD: usize = 57;
const ATTACHMENT_OVERHEAD: usize = 27;
const NUMBERS_OVERHEAD: usize = 27;

/// A bundle in the making.
///
/// What it says is read from the store at one moment, under the replica's lock: a number is told as a live entry or
/// tombstone if it is one now, else as dead. A bundle made from an older picture could bury live entries.
#[derive(Debug)]
pub(crate) struct BundleBuilder {
    budget: usize,
    used: usize,
    attachments: Vec<Slot>,
    tables: Vec<Arc<Table>>,
    fingerprint: Option<u64>,
    heads: Vec<(u32, u64)>,
    dead: Vec<(u32, u64, u64)>,
    event_bytes: Vec<u8>,
    events: u64,
    clock: u64,
}

impl BundleBuilder {
    pub(crate) fn new(budget: usize, network: &str, clock: u64) -> Self {
        Self {
            budget,
            used: BUNDLE_OVERHEAD + network.len(),
            attachments: Vec::new(),
            tables: Vec::new(),
            fingerprint: None,
            heads: Vec::new(),
            dead: Vec::new(),
            event_bytes: Vec::new(),
            events: 0,
            clock,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events == 0 && self.dead.is_empty() && self.heads.is_empty()
    }

    pub(crate) fn attachments(&self) -> &[Slot] {
        &self.attachments
    }

    /// Adds one number as what it is now. False if it does not fit; then nothing was added.
    pub(crate) fn add_number(&mut self, store: &Store, dot: Dot, replaced: &[Dot], now: Instant) -> bool {
        let Some(attachment) = store.attachment(dot.0) else { return true };
        match attachment.live().get(dot.1).or_else(|| attachment.buried().get(dot.1)) {
            Some(place) => self.add_record(store, dot, place, replaced, now),
            None => {
                self.add_dead(store, dot.0, dot.1, dot.1)
                    // Superseded since it was queued, and so is what it replaced.
                    && replaced.iter().all(|&(slot, number)| self.add_dead(store, slot, number, number))
            }
        }
    }

    /// Adds the record at `place`. False if it does not fit; then nothing was added.
    pub(crate) fn add_record(
        &mut self,
        store: &Store,
        dot: Dot,
        (table, key): &Place,
        replaced: &[Dot],
        now: Instant,
    ) -> bool {
        let Some(record) = table.records.get(key) else { return true };
        let before = self.mark();
        let attachment = self.attachment(store, dot.0);
        let replaced = replaced
            .iter()
            .filter(|(slot, _)| store.attachment(*slot).is_some())
            .map(|&(slot, number)| (self.attachment(store, slot), number))
            .collect();
        let body = match &record.body {
            Body::Live(value) => EventBody::Value(value),
            Body::Tombstone { expires } => {
                EventBody::Deleted { residual_ms: expires.saturating_duration_since(now).as_millis() as u64 }
            }
        };
        let age = self.clock.saturating_sub(record.time);
        let table = self.table(table);
        let event = Event { attachment, number: dot.1, age, table, key, body, replaced };
        codec::encode_into(&event, &mut self.event_bytes);
        self.events += 1;
        // A single entry larger than the budget still has to travel, alone.
        let fits = self.size() <= self.budget || (self.events == 1 && self.dead.is_empty());
        if !fits {
            self.undo(before);
        }
        fits
    }

    /// Adds a range of dead numbers; adjacent ones melt into one. False if it does not fit.
    pub(crate) fn add_dead(&mut self, store: &Store, slot: Slot, low: u64, high: u64) -> bool {
        if store.attachment(slot).is_none() {
            return true;
        }
        let before = self.mark();
        let attachment = self.attachment(store, slot);
        if let Some(last) = self.dead.last_mut()
            && last.0 == attachment
            && low == last.2 + 1
        {
            last.2 = high;
            return true;
        }
        self.dead.push((attachment, low, high));
        self.used += NUMBERS_OVERHEAD;
        let fits = self.size() <= self.budget;
        if !fits {
            self.undo(before);
        }
        fits
    }

    /// Adds how far an attachment has been seen. False if it does not fit.
    pub(crate) fn add_head(&mut self, store: &Store, slot: Slot) -> bool {
        let Some(known) = store.attachment(slot) else { return true };
        let before = self.mark();
        let attachment = self.attachment(store, slot);
        self.heads.push((attachment, known.context().highest()));
        self.used += NUMBERS_OVERHEAD;
        let fits = self.size() <= self.budget;
        if !fits {
            self.undo(before);
        }
        fits
    }

    /// Says what everything held amounts to. There is always room for it.
    pub(crate) fn set_fingerprint(&mut self, fingerprint: Option<u64>) {
        self.fingerprint = fingerprint;
    }

    /// The bytes of a datagram or frame.
    pub(crate) fn finish(self, store: &Store, relay: bool, envelope: Envelope) -> Vec<u8> {
        let attachments = self
            .attachments
            .iter()
            .filter_map(|&slot| store.attachment(slot))
            .map(|attachment| attachment_id(&attachment.tag))
            .collect();
        let bundle = Bundle {
            network: &store.view().name,
            clock: self.clock,
            relay,
            fingerprint: self.fingerprint,
            attachments,
            tables: self.tables.iter().map(|table| &*table.name).collect(),
            heads: self.heads,
            dead: self.dead,
            events: Vec::new(),
        };
        let mut bytes = Vec::with_capacity(self.used + self.event_bytes.len());
        match envelope {
            Envelope::Datagram => codec::encode_into(&Datagram::Gossip(bundle), &mut bytes),
            Envelope::Frame => codec::encode_into(&Frame::Chunk(bundle), &mut bytes),
        }
        // The bundle ends with its events, so far none: put the count and the events in the place of that zero.
        let none = bytes.pop();
        debug_assert_eq!(none, Some(0));
        codec::encode_into(&self.events, &mut bytes);
        bytes.extend_from_slice(&self.event_bytes);
        bytes
    }

    fn size(&self) -> usize {
        self.used + self.event_bytes.len()
    }

    fn attachment(&mut self, store: &Store, slot: Slot) -> u32 {
        // The last one named is nearly always the one wanted.
        if let Some(at) = self.attachments.iter().rposition(|&named| named == slot) {
            return at as u32;
        }
        let name = store.attachment(slot).map_or(0, |attachment| attachment.tag.owner.name.as_str().len());
        self.used += ATTACHMENT_OVERHEAD + name;
        self.attachments.push(slot);
        (self.attachments.len() - 1) as u32
    }

    fn table(&mut self, table: &Arc<Table>) -> u32 {
        if let Some(at) = self.tables.iter().rposition(|named| Arc::ptr_eq(named, table)) {
            return at as u32;
        }
        self.used += 9 + table.name.len();
        self.tables.push(table.clone());
        (self.tables.len() - 1) as u32
    }

    fn mark(&self) -> Mark {
        Mark {
            used: self.used,
            attachments: self.attachments.len(),
            tables: self.tables.len(),
            heads: self.heads.len(),
            dead: self.dead.len(),
            event_bytes: self.event_bytes.len(),
            events: self.events,
        }
    }

    fn undo(&mut self, mark: Mark) {
        self.used = mark.used;
        self.attachments.truncate(mark.attachments);
        self.tables.truncate(mark.tables);
        self.heads.truncate(mark.heads);
        self.dead.truncate(mark.dead);
        self.event_bytes.truncate(mark.event_bytes);
        self.events = mark.events;
    }
}

struct Mark {
    used: usize,
    attachments: usize,
    tables: usize,
    heads: usize,
    dead: usize,
    event_bytes: usize,
    events: u64,
}

/// The name of an attachment on the wire.
pub(crate) fn attachment_id(tag: &super::view::Tag) -> AttachmentId<'_> {
    AttachmentId { owner: tag.owner.name.as_str(), generation: tag.owner.generation, epoch: tag.epoch }
}
