//! The state of one owner's attachment: the seen numbers, and where their records are.

use std::sync::Arc;

use super::number_index::NumberIndex;
use super::ranges::{Ranges, mix};
use super::view::Tag;

/// Why an attachment's entries are or are not visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Visibility {
    Shown,
    /// The owner has failed: the entries are hidden, and kept.
    OwnerFailed,
    /// The owner has returned, but its entries here may be stale: hidden until a comparison with a node that
    /// shows them, or until they have waited for it too long.
    AwaitsComparison,
}

/// The state of one owner's attachment in one epoch on this network.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Attachment {
    pub(crate) tag: Arc<Tag>,
    pub(super) visibility: Visibility,
    pub(super) seen: Ranges,
    /// The seen and the recently refused numbers together, while any are refused.
    pub(super) accounted: Option<Box<Ranges>>,
    pub(super) live: NumberIndex,
    pub(super) tombstones: NumberIndex,
    pub(super) live_digest: u64,
    /// Its part of the store's fingerprint, until it changes.
    pub(super) counted: Option<u64>,
}

impl Attachment {
    pub(crate) fn seen(&self) -> &Ranges {
        &self.seen
    }

    /// Numbers that no peer has to send: those seen, and those recently refused.
    pub(crate) fn accounted(&self) -> &Ranges {
        self.accounted.as_deref().unwrap_or(&self.seen)
    }

    /// Whether refused numbers are outstanding.
    pub(crate) fn has_refused(&self) -> bool {
        self.accounted.is_some()
    }

    pub(super) fn see(&mut self, low: u64, high: u64) {
        self.seen.insert_range(low, high);
        if let Some(accounted) = &mut self.accounted {
            accounted.insert_range(low, high);
            if **accounted == self.seen {
                self.accounted = None;
            }
        }
    }

    pub(crate) fn live(&self) -> &NumberIndex {
        &self.live
    }

    pub(crate) fn tombstones(&self) -> &NumberIndex {
        &self.tombstones
    }

    /// The seen numbers without a record.
    pub(crate) fn superseded(&self) -> Ranges {
        let mut records: Vec<u64> =
            self.live.iter().chain(self.tombstones.iter()).map(|(number, _)| number).collect();
        records.sort_unstable();
        self.seen.without(&records)
    }

    pub(crate) fn live_digest(&self) -> u64 {
        self.live_digest
    }

    pub(crate) fn visibility(&self) -> Visibility {
        self.visibility
    }

    /// The digest and count of the live numbers within `low..=high`.
    pub(crate) fn live_within(&self, low: u64, high: u64) -> (u64, usize) {
        self.live.digests(low, high).fold((0, 0), |(digest, count), (number, record)| {
            (digest ^ live_digest(number, record), count + 1)
        })
    }

    /// Its part of the fingerprint: its identity, the seen numbers, and the live ones.
    pub(super) fn digest(&self) -> u64 {
        mix(self.tag.digest ^ self.seen.digest().rotate_left(7) ^ mix(self.live_digest))
    }

    /// A short digest of its identity.
    pub(super) fn short_id(&self) -> u32 {
        self.tag.digest as u32
    }
}

/// The part of a live number in the digest of live numbers: its number, and the digest of its record. Two
/// processes that took the same generation give the same numbers to different writes. If only numbers were
/// compared, members could hold different records for ever and consider themselves equal.
pub(super) fn live_digest(number: u64, record: u32) -> u64 {
    mix(number ^ u64::from(record) << 32)
}
