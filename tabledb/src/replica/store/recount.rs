//! A recount of what the store counts incrementally, and rule 4 of ALGORITHM.md for everything in it.

use std::sync::Arc;

use super::super::attachment::live_digest;
use super::{Held, Store, Tombstone, Visibility};
use crate::digest::record_digest;

impl Store {
    /// Checks that every record is found by a seen number and every number's record is there (rule 4), and the
    /// incremental counts: records, bytes, digests, the fingerprint, and the times of tombstones. Returns the
    /// first difference. O(entries).
    pub(crate) fn recount(&self) -> Result<(), String> {
        let (mut records, mut bytes, mut tombstones) = (0, 0, 0);
        for table in self.view.tables() {
            for record in table.records.iter() {
                let what = || format!("{}/{}", table.name, record.key());
                let (index, number) = record.dot();
                let Some(held) = self.attachments.get(&index) else {
                    return Err(format!("{} belongs to an attachment that has ended", what()));
                };
                if !held.seen.contains(number) {
                    return Err(format!("{}: its number {number} was never seen", what()));
                }
                let found = held.get(number).filter(|found| found.record().is_same(&record));
                match found {
                    None => return Err(format!("{}: its number {number} leads elsewhere", what())),
                    Some(Held::Live(_)) => {}
                    Some(Held::Tombstone(Tombstone { expires, .. })) => {
                        tombstones += 1;
                        if !self.expiries.contains((*expires, index, number)) {
                            return Err(format!("{}: its expiry is missing", what()));
                        }
                    }
                }
                if !Arc::ptr_eq(self.table_of(&record), &table) {
                    return Err(format!("{} leads to another table", what()));
                }
                records += 1;
                bytes += record.weight();
            }
        }
        let mut numbers = 0;
        let mut counted = 0;
        for (&index, held) in &self.attachments {
            self.check_fingerprint(index)?;
            counted ^= held.counted.unwrap_or(0);
            let owner = &held.tag.owner.name;
            if self.by_owner.get(owner) != Some(&index) {
                return Err(format!("the attachment of {owner} is not found by its owner"));
            }
            if !held.seen.is_subset_of(held.accounted()) {
                return Err(format!("seen numbers of {owner} are not accounted for"));
            }
            if held.tag.is_shown() != (held.visibility == Visibility::Shown) {
                return Err(format!(
                    "the entries of {owner} are {:?}, and their tag differs",
                    held.visibility
                ));
            }
            numbers += held.live.len() + held.tombstones.len();
            let digest = held.live.iter().fold(0, |digest, (_, record)| {
                let table = &self.table_of(record).name;
                let of_record = record_digest(record.time(), table, record.key(), record.value());
                digest ^ if of_record == record.digest() { live_digest(record) } else { 1 }
            });
            if digest != held.live_digest {
                return Err(format!("the live digest of {} differs", held.tag.owner.name));
            }
        }
        if self.fingerprint.of_counted() != counted {
            return Err("the fingerprint is not that of its attachments".to_owned());
        }
        let counted = [
            ("attachments by owner", self.by_owner.len(), self.attachments.len()),
            ("records", self.records, records),
            ("bytes", self.bytes, bytes),
            ("numbers", numbers, records),
            ("times of tombstones", self.expiries.len(), tombstones),
        ];
        match counted.into_iter().find(|(_, counted, found)| counted != found) {
            Some((what, counted, found)) => Err(format!("{what}: {counted} counted, {found} found")),
            None => Ok(()),
        }
    }

    /// In debug builds, recounts while the store is small. The counts that limits are checked against must
    /// not drift. A recount reads every value.
    pub(super) fn debug_recount(&self) {
        const RECORDS: usize = 64;
        const BYTES: usize = 64 << 10;
        if cfg!(debug_assertions) && self.records <= RECORDS && self.bytes <= BYTES {
            debug_assert_eq!(self.recount(), Ok(()));
        }
    }
}
