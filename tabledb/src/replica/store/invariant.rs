//! Rule 4 of ALGORITHM.md, checked in debug builds after each change of the store, where the change was made.
//!
//! *A number in the version vector is in the store, or superseded, for ever.* So a seen number has one record
//! that its attachment's index finds, or none; a record has a seen number and an index entry that leads to
//! it; and what a write replaced has no record any more. Checked are the numbers that a change touched and
//! those beside them, in O(log n). [`Store::recount`] checks all.

use super::super::view::Table;
use super::{Attachment, Dot, Held, Store, Tombstone};
use crate::digest::record_digest;
use crate::record::AttachmentIndex;

impl Store {
    /// A write was applied: it is seen, what it replaced is superseded, and the greater version is under its
    /// key.
    pub(super) fn debug_check_applied(
        &self,
        dot: Dot,
        (time, replaced): (u64, &[Dot]),
        (table, key): (&Table, &str),
    ) {
        if cfg!(debug_assertions) {
            debug_assert_eq!(self.check_around(dot), Ok(()), "after the write of {dot:?}");
            debug_assert_eq!(self.check_fingerprint(dot.0), Ok(()), "after the write of {dot:?}");
            for &(index, number) in replaced {
                let is_superseded =
                    |held: &Attachment| held.seen.contains(number) && held.live.get(number).is_none();
                debug_assert!(
                    self.attachments.get(&index).is_none_or(is_superseded),
                    "{dot:?} replaced {:?}, which is not superseded",
                    (index, number)
                );
                debug_assert_eq!(self.check_fingerprint(index), Ok(()), "after the write of {dot:?}");
            }
            debug_assert_eq!(self.check_key(table, key), Ok(()), "after the write of {dot:?}");
            let present = table.records.get(key).map(|record| (record.time(), record.number()));
            debug_assert!(
                present.is_some_and(|(present, number)| present >= time || number == dot.1),
                "{dot:?} was written at {time}, and {present:?} is kept"
            );
            self.debug_recount();
        }
    }

    /// The record of a number was removed, because the number is superseded.
    pub(super) fn debug_check_removed(&self, (index, number): Dot) {
        if cfg!(debug_assertions) {
            let is_superseded = |held: &Attachment| held.seen.contains(number) && held.get(number).is_none();
            let dot = (index, number);
            debug_assert!(
                self.attachments.get(&index).is_some_and(is_superseded),
                "the record of {dot:?} was removed, and its number is not superseded"
            );
            debug_assert_eq!(self.check_around(dot), Ok(()), "after the removal of {dot:?}");
            debug_assert_eq!(self.check_fingerprint(index), Ok(()), "after the removal of {dot:?}");
        }
    }

    /// The numbers of `low..=high` were added to the version vector.
    pub(super) fn debug_check_seen(&self, index: AttachmentIndex, low: u64, high: u64) {
        if cfg!(debug_assertions) {
            debug_assert_eq!(self.check_fingerprint(index), Ok(()), "after {low}..={high} were seen");
            if let Some(held) = self.attachments.get(&index) {
                debug_assert_eq!(held.seen.within(low, high).as_slice(), [(low, high)], "all were seen");
            }
            self.debug_check_accounted(index, low, high);
        }
    }

    /// The numbers of `low..=high` began or ceased to be accounted for.
    pub(super) fn debug_check_accounted(&self, index: AttachmentIndex, low: u64, high: u64) {
        for number in [low, high] {
            debug_assert_eq!(self.check_around((index, number)), Ok(()), "at an end of {low}..={high}");
        }
    }

    /// Only a change that forgot to invalidate leaves an outdated part in the fingerprint. O(1) after one
    /// that did not.
    pub(super) fn check_fingerprint(&self, index: AttachmentIndex) -> Result<(), String> {
        let is_outdated = |held: &&Attachment| held.counted.is_some_and(|counted| counted != held.digest());
        match self.attachments.get(&index).filter(is_outdated) {
            Some(held) => {
                Err(format!("the attachment of {} changed, not the fingerprint", held.tag.owner.name))
            }
            None => Ok(()),
        }
    }

    /// Checks a number, and those before and after it: what goes wrong at a boundary shows there.
    pub(super) fn check_around(&self, (index, number): Dot) -> Result<(), String> {
        let numbers = number.saturating_sub(1).max(1)..=number.saturating_add(1);
        numbers.into_iter().try_for_each(|number| self.check_number((index, number)))
    }

    /// Checks one number of an attachment.
    fn check_number(&self, (index, number): Dot) -> Result<(), String> {
        let Some(held) = self.attachments.get(&index) else { return Ok(()) };
        let wrong = |what: &str| Err(format!("number {number} of {}: {what}", held.tag.owner.name));
        let is_seen = held.seen.contains(number);
        if is_seen && !held.accounted().contains(number) {
            return wrong("it is seen, and not accounted for");
        }
        if held.live.get(number).is_some() && held.tombstones.get(number).is_some() {
            return wrong("it is both live and a tombstone");
        }
        let Some(found) = held.get(number) else { return Ok(()) };
        if !is_seen {
            return wrong("it has a record, and is not in the version vector");
        }
        let record = found.record();
        if record.dot() != (index, number) {
            return wrong("it leads to the record of another number");
        }
        let table = self.table_of(record);
        match table.records.get(record.key()) {
            None => return wrong("its record is missing"),
            Some(present) if !present.is_same(record) => return wrong("its key has another record"),
            Some(_) => {}
        }
        match found {
            Held::Live(record) => {
                let digest = record_digest(record.time(), &table.name, record.key(), record.value());
                if !record.is_live() || record.digest() != digest {
                    return wrong("its record has another digest, or is a tombstone");
                }
            }
            Held::Tombstone(Tombstone { record, expires }) => {
                if record.is_live() || !self.expiries.contains((*expires, index, number)) {
                    return wrong("its tombstone is live, or is never reaped");
                }
            }
        }
        Ok(())
    }

    /// Checks that the record under a key is found by its number.
    pub(super) fn check_key(&self, table: &Table, key: &str) -> Result<(), String> {
        let Some(record) = table.records.get(key) else { return Ok(()) };
        let (index, number) = record.dot();
        let Some(held) = self.attachments.get(&index) else {
            return Err(format!("the attachment of the record under {}/{key} has ended", table.name));
        };
        match held.get(number).is_some_and(|found| found.record().is_same(&record)) {
            true => self.check_number((index, number)),
            false => Err(format!("{}/{key}: its number {number} leads elsewhere", table.name)),
        }
    }
}
