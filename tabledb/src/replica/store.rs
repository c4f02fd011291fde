//! The store of one network: the records, and the seen numbers of each attachment.
//!
//! Every change happens under the replica's lock, in one step with the version vector. The invariant
//! (ALGORITHM.md): a number that has been seen is in the store, or superseded for ever.

mod invariant;
mod recount;
mod reports;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use wire::{NodeId, NodeName};

use super::attachment::live_digest;
pub(crate) use super::attachment::{Attachment, Held, Tombstone, Visibility};
use super::expiries::Expiries;
use super::fingerprint::Fingerprint;
use super::load::{Full, Load};
use super::number_index::NumberIndex;
use super::ranges::Ranges;
use super::record_map::Offered;
use super::tables::Tables;
use super::view::{Table, View};
use super::watchers::Watchers;
use crate::change::{RecordedChange, Skipped, WriteId};
use crate::digest::mix;
use crate::record::{AttachmentIndex, Identity, Record, Tag};
use crate::{ChangeKind, DeleteReason, Limits};

/// A dot: the attachment of a write, and its number there.
pub(crate) type Dot = (AttachmentIndex, u64);

/// A version vector with exceptions: the numbers seen of each attachment.
pub(crate) type VersionVector = BTreeMap<AttachmentIndex, Ranges>;

/// What is written under a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body<'a> {
    Live(&'a [u8]),
    Tombstone { expires: Instant },
}

impl<'a> Body<'a> {
    /// The value; `None` for a delete.
    pub(crate) fn value(self) -> Option<&'a [u8]> {
        match self {
            Self::Live(value) => Some(value),
            Self::Tombstone { .. } => None,
        }
    }
}

/// A write to be applied to the store.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    pub(crate) dot: Dot,
    pub(crate) time: u64,
    pub(crate) table: &'a Arc<Table>,
    pub(crate) key: &'a str,
    pub(crate) body: Body<'a>,
    /// The dots that the writer's store held under the key.
    pub(crate) replaced: &'a [Dot],
    /// The dot under the key here, if the caller has looked it up.
    pub(crate) present: Option<Dot>,
}

/// What a write did.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Nothing: its number had been seen.
    Seen,
    /// A greater version stays under its key.
    Superseded,
    /// It is under its key, in the place of what was there.
    Kept(Option<Record>),
}

/// The writer's side of a network's tables.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Store {
    view: Arc<View>,
    tables: Tables,
    me: NodeName,
    attachments: BTreeMap<AttachmentIndex, Attachment>,
    by_owner: BTreeMap<NodeName, AttachmentIndex>,
    next_index: u32,
    records: usize,
    /// The bytes of their keys and values.
    bytes: usize,
    /// The times at which tombstones are to be reaped.
    expiries: Expiries,
    fingerprint: Fingerprint,
    /// A record was removed since the last search for empty tables.
    removed_records: bool,
    /// Where a record is put together: without a new allocation for each.
    buffer: Vec<u8>,
}

impl Store {
    pub(crate) fn new(name: Arc<str>, me: NodeName) -> Self {
        Self {
            view: Arc::new(View::new(name)),
            tables: Tables::default(),
            me,
            attachments: BTreeMap::new(),
            by_owner: BTreeMap::new(),
            next_index: 0,
            records: 0,
            bytes: 0,
            expiries: Expiries::default(),
            fingerprint: Fingerprint::default(),
            removed_records: false,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The table of that name, created if it does not exist.
    pub(crate) fn table_or_new(&mut self, name: &str) -> Arc<Table> {
        self.view.table(name).unwrap_or_else(|| {
            let table = self.tables.create(name);
            self.view.add(table.clone());
            table
        })
    }

    /// The table of that name, if it exists, for a write that gives it back to [`Self::keep_table`]: nobody has
    /// to find or count the table of many writes in a row.
    pub(crate) fn take_table(&mut self, name: &str) -> Option<Arc<Table>> {
        self.tables.take_latest(name).or_else(|| self.view.table(name))
    }

    /// Keeps the table of a write for the next one.
    pub(crate) fn keep_table(&mut self, table: Arc<Table>) {
        self.tables.keep_latest(table);
    }

    /// The table that a record of this store is in.
    pub(crate) fn table_of(&self, record: &Record) -> &Arc<Table> {
        self.tables.at(record.table())
    }

    /// The bytes of all keys and values held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How much it holds.
    pub(crate) fn load<'a>(&self) -> Load<'a> {
        Load::new(self.records, self.bytes)
    }

    /// The limit that prevents a body from being stored under a key, if any. The table has this name, and exists
    /// if it is given.
    pub(crate) fn lacks_capacity(
        &self,
        load: &Load<'_>,
        table: (&str, Option<&Arc<Table>>),
        key: &str,
        value: Option<&[u8]>,
        limits: &Limits,
    ) -> Option<Full> {
        load.lacks_capacity(table, key, value, || self.view.table_count(), limits)
    }

    pub(crate) fn attachment(&self, index: AttachmentIndex) -> Option<&Attachment> {
        self.attachments.get(&index)
    }

    pub(crate) fn attachments(&self) -> impl Iterator<Item = (AttachmentIndex, &Attachment)> {
        self.attachments.iter().map(|(&index, attachment)| (index, attachment))
    }

    pub(crate) fn of_owner(&self, owner: &str) -> Option<(AttachmentIndex, &Attachment)> {
        let index = *self.by_owner.get(owner)?;
        Some((index, &self.attachments[&index]))
    }

    /// Starts an attachment without seen numbers. The owner's former one must have ended.
    pub(crate) fn attach(&mut self, owner: NodeId, epoch: u64, visibility: Visibility) -> AttachmentIndex {
        let index = AttachmentIndex(self.next_index);
        self.next_index += 1;
        let former = self.by_owner.insert(owner.name.clone(), index);
        debug_assert!(former.is_none(), "an owner has one attachment at a time");
        let tag = Arc::new(Tag::new(index, owner, epoch, visibility == Visibility::Shown));
        let attachment = Attachment {
            tag,
            visibility,
            seen: Ranges::default(),
            accounted: None,
            live: NumberIndex::default(),
            tombstones: NumberIndex::default(),
            live_digest: 0,
            counted: None,
        };
        self.attachments.insert(index, attachment);
        self.fingerprint.add(index);
        index
    }

    /// Ends an attachment: drops its records and its seen numbers together. The watchers receive the reason.
    pub(crate) fn end(&mut self, index: AttachmentIndex, reason: DeleteReason, watchers: &mut Watchers) {
        let Some(attachment) = self.attachments.remove(&index) else { return };
        self.by_owner.remove(&attachment.tag.owner.name);
        self.fingerprint.remove(index, &attachment);
        watchers.note_end(&self.view.name, attachment.tag.digest, &attachment.seen);
        for Tombstone { record, expires } in attachment.tombstones.into_items() {
            self.expiries.remove((expires, index, record.number()));
            self.remove(&record);
        }
        for record in attachment.live.into_items() {
            self.remove(&record);
            self.report(watchers, (Some(&record), None), None, reason);
        }
        self.debug_recount();
    }

    /// Ends all attachments, when the network is left.
    pub(crate) fn clear(&mut self, watchers: &mut Watchers) {
        for index in self.attachments.keys().copied().collect::<Vec<_>>() {
            self.end(index, DeleteReason::NetworkLeft, watchers);
        }
        self.view.clear();
    }

    /// Shows or hides an attachment's entries; the watchers see them appear or disappear.
    pub(crate) fn set_visibility(
        &mut self,
        index: AttachmentIndex,
        visibility: Visibility,
        watchers: &mut Watchers,
    ) {
        let Some(attachment) = self.attachments.get_mut(&index) else { return };
        attachment.visibility = visibility;
        let (was, is) = (attachment.tag.is_shown(), visibility == Visibility::Shown);
        if was == is {
            return;
        }
        attachment.tag.set_shown(is);
        let attachment = &self.attachments[&index];
        let name = &self.view.name;
        if !watchers.wants(name) || watchers.pass_over(name, attachment.live.len()) {
            return;
        }
        let kind = if is { ChangeKind::Create } else { ChangeKind::Delete };
        for (_, record) in attachment.live.iter() {
            let (value, previous) = if is { (Some(record), None) } else { (None, Some(record)) };
            let mut change = self.change(kind, record, value, previous);
            change.version = is.then(|| record.version());
            change.reason = (!is).then_some(DeleteReason::OwnerFailed);
            let former_owner = previous.map(|_| attachment.tag.owner.name.clone());
            let previous = previous.map(|record| record.version().into());
            let recorded = RecordedChange { previous, former_owner, ..RecordedChange::of_snapshot(change) };
            watchers.send(recorded, &self.me);
        }
    }

    /// Applies a write, unless its number has been seen.
    ///
    /// The dots that it replaced are superseded here too, wherever they are; then the greater version remains
    /// under the key.
    pub(crate) fn apply(&mut self, write: Write<'_>, watchers: &mut Watchers) -> Effect {
        let Write { dot: (index, number), time, table, key, body, replaced, present } = write;
        let Some(attachment) = self.attachments.get_mut(&index) else { return Effect::Seen };
        if attachment.seen.contains(number) {
            return Effect::Seen;
        }
        attachment.see(number, number);
        self.fingerprint.invalidate(index, attachment);
        let identity = Identity { tag: &attachment.tag, number, time, table: (table.place, &table.name) };
        let incoming = Record::new(identity, key, body.value(), &mut self.buffer);
        let (mut replaces_present, mut skipped) = (false, None);
        for &(index, number) in replaced {
            if present == Some((index, number)) {
                replaces_present = true;
                continue;
            }
            let Some(attachment) = self.attachments.get_mut(&index) else { continue };
            let is_under_key = |held: Held<'_>| held.record().is_under(table.place, key);
            if attachment.get(number).is_some_and(is_under_key) {
                // Overwritten below, in one step: a watcher sees an update, not a gap.
                replaces_present = true;
            } else {
                if !attachment.seen.contains(number) {
                    let write = WriteId { writer: attachment.tag.digest, number };
                    skipped = Some(Skipped { write, is_live: None });
                }
                attachment.see(number, number);
                self.fingerprint.invalidate(index, attachment);
                self.drop_live(index, number, watchers);
            }
        }
        let effect = self.keep_greater(incoming, body, table, (replaces_present, skipped), watchers);
        self.debug_check_applied((index, number), (time, replaced), (table, key));
        effect
    }

    /// Keeps the greater version under a key, or the incoming one if it replaces the present one.
    fn keep_greater(
        &mut self,
        incoming: Record,
        body: Body<'_>,
        table: &Table,
        (replaces_present, skipped): (bool, Option<Skipped>),
        watchers: &mut Watchers,
    ) -> Effect {
        let replaces = |present: &Record| replaces_present || incoming.rank() > present.rank();
        let former = match table.records.offer(&incoming, replaces) {
            Offered::Declined => {
                self.record_declined(&incoming, table, watchers);
                return Effect::Superseded;
            }
            Offered::Inserted => {
                self.records += 1;
                None
            }
            Offered::Replaced(former) => {
                debug_assert!(
                    replaces_present || former.rank() < incoming.rank(),
                    "{former:?} went for {incoming:?}"
                );
                self.bytes -= former.weight();
                Some(former)
            }
        };
        self.bytes += incoming.weight();
        let reported = watchers.wants(&self.view.name).then(|| incoming.clone());
        self.link(incoming, body);
        if let Some(former) = &former {
            self.unlink(former);
            self.debug_check_removed(former.dot());
        }
        if reported.is_some() {
            self.report(watchers, (former.as_ref(), reported.as_ref()), skipped, DeleteReason::Deleted);
        }
        Effect::Kept(former)
    }

    /// Marks the numbers of `low..=high` as seen, since a peer has seen them and does not hold them live.
    /// Entries that are live here are kept: the superseding write may be on its way, or be refused.
    pub(crate) fn note_superseded(&mut self, index: AttachmentIndex, low: u64, high: u64) {
        let Some(attachment) = self.attachments.get_mut(&index) else { return };
        attachment.see(low, high);
        self.fingerprint.invalidate(index, attachment);
        self.debug_check_seen(index, low, high);
    }

    /// Whether a number is held here under another key: then no write under this key has superseded it.
    pub(crate) fn is_elsewhere(&self, (index, number): Dot, table: &str, key: &str) -> bool {
        let Some(held) = self.attachments.get(&index).and_then(|attachment| attachment.get(number)) else {
            return false;
        };
        let record = held.record();
        record.key_bytes() != key.as_bytes() || *self.table_of(record).name != *table
    }

    /// Drops a live entry that a peer reports superseded. Returns it if it was live here.
    pub(crate) fn drop_superseded(
        &mut self,
        index: AttachmentIndex,
        number: u64,
        watchers: &mut Watchers,
    ) -> Option<Record> {
        let record = self.drop_live(index, number, watchers)?;
        self.fingerprint.invalidate(index, self.attachments.get_mut(&index)?);
        self.debug_check_removed((index, number));
        self.debug_recount();
        Some(record)
    }

    /// Accounts for a refused write, so that it is not sent again and again, in at most about `max_ranges`
    /// ranges. False if numbers that no peer offered had to be included.
    pub(crate) fn account_refused(&mut self, index: AttachmentIndex, number: u64, max_ranges: usize) -> bool {
        let Some(attachment) = self.attachments.get_mut(&index) else { return true };
        let accounted = attachment.accounted.get_or_insert_with(|| Box::new(attachment.seen.clone()));
        if accounted.as_slice().len() < max_ranges.max(1) || accounted.touches(number, number) {
            accounted.insert_range(number, number);
            self.debug_check_accounted(index, number, number);
            return true;
        }
        let (below, lowest) = (accounted.within(1, number).highest(), accounted.as_slice()[0].0);
        let (low, high) = if below == 0 { (number, lowest) } else { (below, number) };
        accounted.insert_range(low, high);
        self.debug_check_accounted(index, low, high);
        false
    }

    /// The same for a range of numbers.
    pub(crate) fn account_range(&mut self, index: AttachmentIndex, low: u64, high: u64) {
        let Some(attachment) = self.attachments.get_mut(&index) else { return };
        attachment.accounted.get_or_insert_with(|| Box::new(attachment.seen.clone())).insert_range(low, high);
        self.debug_check_accounted(index, low, high);
    }

    /// No longer accounts for the refused numbers of `low..=high`, so that peers send them again.
    pub(crate) fn forget_refused(&mut self, index: AttachmentIndex, low: u64, high: u64) {
        let Some(attachment) = self.attachments.get_mut(&index) else { return };
        let Some(accounted) = attachment.accounted.take() else { return };
        let mut left = accounted.within(1, low - 1);
        left.union(&accounted.within(high + 1, u64::MAX));
        left.union(&attachment.seen);
        attachment.accounted = (left != attachment.seen).then(|| Box::new(left));
        self.debug_check_accounted(index, low, high);
    }

    /// Removes tombstones whose time has come. Their numbers stay in the version vector, as superseded.
    pub(crate) fn reap(&mut self, now: Instant) -> usize {
        let mut reaped = 0;
        while let Some((_, index, number)) = self.expiries.pop_due(now) {
            let Some(attachment) = self.attachments.get_mut(&index) else { continue };
            let Some(tombstone) = attachment.tombstones.remove(number) else { continue };
            self.remove(&tombstone.record);
            reaped += 1;
            self.debug_check_removed((index, number));
        }
        self.debug_recount();
        reaped
    }

    /// Removes tables without records. Not done at once: a write that replaces a table's last record would
    /// otherwise go into a removed table.
    pub(crate) fn sweep_empty_tables(&mut self) {
        if std::mem::take(&mut self.removed_records) {
            for table in self.view.drop_empty_tables() {
                self.tables.free(table.place);
            }
        }
    }

    /// The time at which the next tombstone is due.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.expiries.next()
    }

    /// A digest of the whole content: the attachments, their seen numbers, and the live ones. Equal on
    /// members that agree. Hidden entries count: updates of a failed owner must not be lost because they are
    /// hidden. O(attachments changed since the last call).
    pub(crate) fn fingerprint(&mut self) -> u64 {
        self.fingerprint.bring_current(&mut self.attachments)
    }

    /// A digest of the visible entries alone, for operators who compare nodes.
    pub(crate) fn visible_digest(&self) -> u64 {
        self.attachments
            .values()
            .filter(|a| a.visibility == Visibility::Shown && !a.live.is_empty())
            .fold(0, |all, a| all ^ mix(a.tag.digest ^ mix(a.live_digest)))
    }

    /// (visible entries, hidden entries, tombstones)
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        self.attachments.values().fold((0, 0, 0), |(shown, hidden, tombstones), a| match a.visibility {
            Visibility::Shown => (shown + a.live.len(), hidden, tombstones + a.tombstones.len()),
            _ => (shown, hidden + a.live.len(), tombstones + a.tombstones.len()),
        })
    }

    fn drop_live(&mut self, index: AttachmentIndex, number: u64, watchers: &mut Watchers) -> Option<Record> {
        let attachment = self.attachments.get_mut(&index)?;
        let record = attachment.live.remove(number)?;
        attachment.live_digest ^= live_digest(&record);
        self.remove(&record);
        self.report(watchers, (Some(&record), None), None, DeleteReason::Deleted);
        Some(record)
    }

    /// Removes a record, which no index leads to any more, from its table.
    fn remove(&mut self, record: &Record) {
        let removed = self.table_of(record).records.remove(record);
        debug_assert!(
            removed.as_ref().is_some_and(|removed| removed.is_same(record)),
            "{removed:?} went for {record:?}"
        );
        self.records -= 1;
        self.bytes -= record.weight();
        self.removed_records = true;
    }

    /// Removes an overwritten record from the index of its attachment.
    fn unlink(&mut self, record: &Record) {
        // The records of an ended attachment are removed with it, so this attachment exists.
        let (index, number) = record.dot();
        let Some(attachment) = self.attachments.get_mut(&index) else { return };
        if record.is_live() {
            let removed = attachment.live.remove(number);
            debug_assert!(removed.is_some(), "number {number} was live, and not in the index");
            if removed.is_some() {
                attachment.live_digest ^= live_digest(record);
            }
            self.fingerprint.invalidate(index, attachment);
        } else {
            let removed = attachment.tombstones.remove(number);
            debug_assert!(removed.is_some(), "tombstone {number} was not in the index");
            if let Some(Tombstone { expires, .. }) = removed {
                self.expiries.remove((expires, index, number));
            }
        }
    }

    /// Adds a record to the index of its attachment.
    fn link(&mut self, record: Record, body: Body<'_>) {
        let (index, number) = record.dot();
        let Some(attachment) = self.attachments.get_mut(&index) else { return };
        match body {
            Body::Live(_) => {
                attachment.live_digest ^= live_digest(&record);
                attachment.live.insert(number, record);
            }
            Body::Tombstone { expires } => {
                attachment.tombstones.insert(number, Tombstone { record, expires });
                self.expiries.insert((expires, index, number));
            }
        }
    }
}
