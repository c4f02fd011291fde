//! A recount of what the store counts incrementally, and rule 4 of ALGORITHM.md for everything in it.

use super::super::attachment::live_digest;
use super::super::ranges::record_digest;
use super::super::view::Body;
use super::super::view::Location;
use super::{Store, Visibility};

impl Store {
    /// Checks that every record is found by a seen number and every number's record is there (rule 4), and the
    /// incremental counts: records, bytes, digests, the fingerprint, and the times of tombstones. Returns the
    /// first difference. O(entries).
    pub(crate) fn recount(&self) -> Result<(), String> {
        let (mut records, mut bytes, mut tombstones) = (0, 0, 0);
        for table in self.view.tables() {
            for record in &table.records {
                let what = || format!("{}/{}", table.name, record.key());
                let Some(held) = self.attachments.get(&record.tag.index) else {
                    return Err(format!("{} belongs to an attachment that has ended", what()));
                };
                if !held.seen.contains(record.number) {
                    return Err(format!("{}: its number {} was never seen", what(), record.number));
                }
                let index = match &record.body {
                    Body::Live(_) => &held.live,
                    Body::Tombstone { expires } => {
                        tombstones += 1;
                        if !self.expiries.contains(&(**expires, record.tag.index, record.number)) {
                            return Err(format!("{}: its expiry is missing", what()));
                        }
                        &held.tombstones
                    }
                };
                if index.get(record.number).is_none_or(|(_, key)| key != record.key()) {
                    return Err(format!("{}: its number {} has another location", what(), record.number));
                }
                records += 1;
                bytes += record.weight(record.key());
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
            let digest =
                held.live.iter().fold(0, |digest, (number, location)| digest ^ of_live(number, location));
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

/// The part of a live number in the digest, computed from the record itself.
fn of_live(number: u64, (table, key): &Location) -> u64 {
    let record = table.records.get(key);
    record.map_or(0, |record| match &record.body {
        Body::Live(value) => live_digest(number, record_digest(record.time, &table.name, key, value)),
        Body::Tombstone { .. } => 0,
    })
}
