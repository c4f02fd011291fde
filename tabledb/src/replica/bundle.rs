//! Building a bundle of updates of a limited size from the current state of the store.

use std::sync::Arc;
use std::time::Instant;

use wire::codec;

use super::message::{AttachmentId, Bundle, Datagram, Event, EventBody, Frame};
use super::store::{Dot, Held, Store, Tombstone};
use super::view::Table;
use crate::record::AttachmentIndex;

/// The message that carries a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Envelope {
    Datagram,
    Frame,
}

/// Upper bounds on encoded sizes without the text and value bytes: variable-length integers take up to nine
/// bytes each.
const BUNDLE_OVERHEAD: usize = 57;
const ATTACHMENT_OVERHEAD: usize = 27;
const NUMBERS_OVERHEAD: usize = 27;

/// A bundle under construction.
///
/// Its content is read from the store at one moment, under the replica's lock: a number is sent as an entry
/// or tombstone if it is one now, else as superseded. A bundle made from an older state could make receivers
/// drop live entries.
#[derive(Debug)]
pub(crate) struct BundleBuilder {
    budget: usize,
    used: usize,
    attachments: Vec<AttachmentIndex>,
    tables: Vec<Arc<Table>>,
    fingerprint: Option<u64>,
    watermarks: Vec<(u32, u64)>,
    superseded: Vec<(u32, u64, u64)>,
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
            watermarks: Vec::new(),
            superseded: Vec::new(),
            event_bytes: Vec::new(),
            events: 0,
            clock,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events == 0 && self.superseded.is_empty() && self.watermarks.is_empty()
    }

    pub(crate) fn attachments(&self) -> &[AttachmentIndex] {
        &self.attachments
    }

    /// Whether this many more bytes fit, or would not fit into an empty bundle either.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        self.size() + bytes <= self.budget || bytes > self.budget - BUNDLE_OVERHEAD - ATTACHMENT_OVERHEAD
    }

    /// Adds one number in its current state. False if it does not fit; then nothing was added.
    pub(crate) fn add_number(&mut self, store: &Store, dot: Dot, replaced: &[Dot], now: Instant) -> bool {
        let Some(attachment) = store.attachment(dot.0) else { return true };
        match attachment.get(dot.1) {
            Some(held) => self.add_record(store, held, replaced, now),
            None => {
                self.add_superseded(store, dot.0, dot.1, dot.1)
                    // It was superseded after it was queued, and so are the dots that it replaced.
                    && replaced.iter().all(|&(index, number)| self.add_superseded(store, index, number, number))
            }
        }
    }

    /// Adds a record. False if it does not fit; then nothing was added.
    pub(crate) fn add_record(
        &mut self,
        store: &Store,
        held: Held<'_>,
        replaced: &[Dot],
        now: Instant,
    ) -> bool {
        let record = held.record();
        let before = self.mark();
        let attachment = self.attachment(store, record.tag().index);
        let replaced = replaced
            .iter()
            .filter(|(index, _)| store.attachment(*index).is_some())
            .map(|&(index, number)| (self.attachment(store, index), number))
            .collect();
        let body = match held {
            Held::Live(record) => EventBody::Value(record.value()),
            Held::Tombstone(Tombstone { expires, .. }) => {
                EventBody::Deleted { residual_ms: expires.saturating_duration_since(now).as_millis() as u64 }
            }
        };
        let age = self.clock.saturating_sub(record.time());
        let table = self.table(store.table_of(record));
        let (number, key) = (record.number(), record.key());
        let event = Event { attachment, number, age, table, key, body, replaced };
        codec::encode_into(&event, &mut self.event_bytes);
        self.events += 1;
        // A single entry larger than the budget is still sent, alone.
        let fits = self.size() <= self.budget || (self.events == 1 && self.superseded.is_empty());
        if !fits {
            self.undo(before);
        }
        fits
    }

    /// Adds a range of superseded numbers; adjacent ranges become one. False if it does not fit.
    pub(crate) fn add_superseded(
        &mut self,
        store: &Store,
        index: AttachmentIndex,
        low: u64,
        high: u64,
    ) -> bool {
        if store.attachment(index).is_none() {
            return true;
        }
        let before = self.mark();
        let attachment = self.attachment(store, index);
        if let Some(last) = self.superseded.last_mut()
            && last.0 == attachment
            && low == last.2 + 1
        {
            last.2 = high;
            return true;
        }
        self.superseded.push((attachment, low, high));
        self.used += NUMBERS_OVERHEAD;
        let fits = self.size() <= self.budget;
        if !fits {
            self.undo(before);
        }
        fits
    }

    /// Adds the high watermark of an attachment. False if it does not fit.
    pub(crate) fn add_watermark(&mut self, store: &Store, index: AttachmentIndex) -> bool {
        let Some(known) = store.attachment(index) else { return true };
        let before = self.mark();
        let attachment = self.attachment(store, index);
        self.watermarks.push((attachment, known.seen().highest()));
        self.used += NUMBERS_OVERHEAD;
        let fits = self.size() <= self.budget;
        if !fits {
            self.undo(before);
        }
        fits
    }

    /// Sets the fingerprint. Its size is part of the overhead.
    pub(crate) fn set_fingerprint(&mut self, fingerprint: Option<u64>) {
        self.fingerprint = fingerprint;
    }

    /// The encoded datagram or frame.
    pub(crate) fn finish(self, store: &Store, relay: bool, envelope: Envelope) -> Vec<u8> {
        let attachments = self
            .attachments
            .iter()
            .filter_map(|&index| store.attachment(index))
            .map(|attachment| attachment_id(&attachment.tag))
            .collect();
        let bundle = Bundle {
            network: &store.view().name,
            clock: self.clock,
            relay,
            fingerprint: self.fingerprint,
            attachments,
            tables: self.tables.iter().map(|table| &*table.name).collect(),
            watermarks: self.watermarks,
            superseded: self.superseded,
            events: Vec::new(),
        };
        let mut bytes = Vec::with_capacity(self.used + self.event_bytes.len());
        match envelope {
            Envelope::Datagram => codec::encode_into(&Datagram::Gossip(bundle), &mut bytes),
            Envelope::Frame => codec::encode_into(&Frame::Chunk(bundle), &mut bytes),
        }
        // The bundle ends with its events, none so far: replace that zero by the count and the events.
        let none = bytes.pop();
        debug_assert_eq!(none, Some(0));
        codec::encode_into(&self.events, &mut bytes);
        bytes.extend_from_slice(&self.event_bytes);
        bytes
    }

    fn size(&self) -> usize {
        self.used + self.event_bytes.len()
    }

    fn attachment(&mut self, store: &Store, index: AttachmentIndex) -> u32 {
        // The most recently named one is nearly always the wanted one.
        if let Some(at) = self.attachments.iter().rposition(|&named| named == index) {
            return at as u32;
        }
        let name = store.attachment(index).map_or(0, |attachment| attachment.tag.owner.name.as_str().len());
        self.used += ATTACHMENT_OVERHEAD + name;
        self.attachments.push(index);
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
            watermarks: self.watermarks.len(),
            superseded: self.superseded.len(),
            event_bytes: self.event_bytes.len(),
            events: self.events,
        }
    }

    fn undo(&mut self, mark: Mark) {
        self.used = mark.used;
        self.attachments.truncate(mark.attachments);
        self.tables.truncate(mark.tables);
        self.watermarks.truncate(mark.watermarks);
        self.superseded.truncate(mark.superseded);
        self.event_bytes.truncate(mark.event_bytes);
        self.events = mark.events;
    }
}

struct Mark {
    used: usize,
    attachments: usize,
    tables: usize,
    watermarks: usize,
    superseded: usize,
    event_bytes: usize,
    events: u64,
}

/// The identity of an attachment on the wire.
pub(crate) fn attachment_id(tag: &crate::record::Tag) -> AttachmentId<'_> {
    AttachmentId { owner: tag.owner.name.as_str(), generation: tag.owner.generation, epoch: tag.epoch }
}

/// The attachment with this identity, if the store has it.
pub(crate) fn index_of(store: &Store, id: &AttachmentId<'_>) -> Option<AttachmentIndex> {
    let (index, held) = store.of_owner(id.owner)?;
    (held.tag.epoch == id.epoch && held.tag.owner.generation == id.generation).then_some(index)
}
