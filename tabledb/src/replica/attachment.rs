//! The state of one owner's attachment: the seen numbers, and where their records are.

use std::sync::Arc;
use std::time::Instant;

use super::number_index::NumberIndex;
use super::ranges::Ranges;
use crate::digest::mix;
use crate::record::{Record, Tag};

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

/// A deleted key, until its time has come.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Tombstone {
    pub(crate) record: Record,
    pub(crate) expires: Instant,
}

/// What an attachment holds under a number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Held<'a> {
    Live(&'a Record),
    Tombstone(&'a Tombstone),
}

impl<'a> Held<'a> {
    pub(crate) fn record(self) -> &'a Record {
        match self {
            Self::Live(record) => record,
            Self::Tombstone(tombstone) => &tombstone.record,
        }
    }
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
    pub(super) live: NumberIndex<Record>,
    pub(super) tombstones: NumberIndex<Tombstone>,
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

    pub(crate) fn live(&self) -> &NumberIndex<Record> {
        &self.live
    }

    /// What is held under a number.
    pub(crate) fn get(&self, number: u64) -> Option<Held<'_>> {
        let tombstone = || self.tombstones.get(number).map(Held::Tombstone);
        self.live.get(number).map(Held::Live).or_else(tombstone)
    }

    /// What is held under the numbers of `low..=high`, ascending.
    pub(crate) fn held_within(&self, low: u64, high: u64) -> impl Iterator<Item = (u64, Held<'_>)> {
        let mut live = self.live.range(low, high).peekable();
        let mut tombstones = self.tombstones.range(low, high).peekable();
        std::iter::from_fn(move || {
            let tombstone_first = match (live.peek(), tombstones.peek()) {
                (Some((live, _)), Some((tombstone, _))) => tombstone < live,
                (live, _) => live.is_none(),
            };
            match tombstone_first {
                true => tombstones.next().map(|(number, held)| (number, Held::Tombstone(held))),
                false => live.next().map(|(number, held)| (number, Held::Live(held))),
            }
        })
    }

    /// The seen numbers without a record.
    pub(crate) fn superseded(&self) -> Ranges {
        let records: Vec<u64> = self.held_within(0, u64::MAX).map(|(number, _)| number).collect();
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
        self.live
            .range(low, high)
            .fold((0, 0), |(digest, count), (_, record)| (digest ^ live_digest(record), count + 1))
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

/// The part of a live record in the digest of live numbers: its number, and its own digest. Two processes
/// that took the same generation give the same numbers to different writes. If only numbers were compared,
/// members could hold different records for ever and consider themselves equal.
pub(super) fn live_digest(record: &Record) -> u64 {
    mix(record.number() ^ u64::from(record.digest()) << 32)
}
