//! Refused writes of other nodes, until they are applied or superseded.
//!
//! A refused write does not enter the version vector. But a peer that applied it knows that the values it
//! replaced are superseded, and following that claim would delete the old value here without a successor. So
//! an entry under the key of a refused write is not dropped because of a peer's claim. While this node
//! refuses anything, it also reports no entry of others as superseded if the peer may lack the successor.
//!
//! A refused write must not be sent again and again either. It is accounted for, so that no peer offers it,
//! until it is retried: first a small sample, after a pause that doubles; then more, once the sample is
//! applied.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::node_state::NodeState;
use super::super::ranges::Ranges;
use super::super::store::{Attachment, Dot, Store};
use super::super::timing::{REFUSED_LOG_PAUSE, REFUSED_PAUSE, REFUSED_PAUSE_MAX};
use super::Network;
use crate::digest::{digest_bytes, mix};
use crate::record::AttachmentIndex;
use crate::{RefusedBecause, RefusedWrite};

/// The number of keys whose latest refused writes are remembered. Beyond it, no entry at all is dropped
/// because of a peer's claim.
pub(crate) const MAX_GUARDS: usize = 4096;

/// The size of the first sample to retry, in numbers and about in bytes.
const SAMPLE: u64 = 64;
const SAMPLE_BYTES: usize = 64 << 10;

/// The growth of the sample after a successful one, and its maximum.
const SAMPLE_GROWTH: u64 = 8;
const MAX_SAMPLE: u64 = 1 << 20;

/// The most ranges of numbers in a sample.
const MAX_SAMPLE_RANGES: usize = 4096;

/// The length to which a key is cut in log lines.
pub(in crate::replica) const LOGGED_KEY: usize = 64;

/// A refused write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused<'a> {
    pub(super) dot: Dot,
    pub(super) time: u64,
    pub(super) table: &'a str,
    pub(super) key: &'a str,
    /// The length of its value.
    pub(super) bytes: usize,
    pub(super) because: RefusedBecause,
}

/// The latest refused write under a key.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(test, derive(Hash))]
struct Guard {
    time: u64,
    dot: Dot,
    because: RefusedBecause,
}

impl Guard {
    /// Whether the write is still neither applied nor superseded, and its attachment has not ended.
    fn is_outstanding(&self, store: &Store) -> bool {
        store.attachment(self.dot.0).is_some_and(|held| !held.seen().contains(self.dot.1))
    }
}

/// The schedule of retries.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
struct Retry {
    at: Instant,
    pause: Duration,
    /// The size of the next sample.
    count: u64,
    /// The latest sample.
    sample: Vec<(AttachmentIndex, u64, u64)>,
    /// The start of the next sample: writes that stay refused must not prevent the others from being retried.
    from: Dot,
    /// The largest refused value.
    largest: usize,
    /// The earliest comparison that differing fingerprints may cause, and the pause after it.
    compare_at: Instant,
    compare_pause: Duration,
}

/// The refused writes of a network.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Refusals {
    guards: BTreeMap<u64, Guard>,
    /// More keys have refused writes than there are guards.
    keys_incomplete: bool,
    /// Numbers refused for their length, which no retry can fix.
    too_long: BTreeMap<AttachmentIndex, Ranges>,
    /// Set while a refused write is outstanding.
    retry: Option<Retry>,
    logged_at: Option<Instant>,
    unlogged: u64,
}

/// The digest by which peers name keys to each other; the same on all nodes.
fn key_digest(table: &str, key: &str) -> u64 {
    mix(digest_bytes(table.as_bytes()) ^ digest_bytes(key.as_bytes()).rotate_left(29))
}

/// The digest of the key under which a number is live.
pub(crate) fn live_key(store: &Store, (index, number): Dot) -> Option<u64> {
    let record = store.attachment(index)?.live().get(number)?;
    Some(key_digest(&store.table_of(record).name, record.key()))
}

impl Refusals {
    /// Whether a refused write is neither applied nor superseded.
    pub(crate) fn is_outstanding(&self) -> bool {
        self.retry.is_some()
    }

    /// Whether a live entry is kept although a peer reports it superseded: possibly by a write that this node
    /// refused.
    pub(crate) fn withholds(&self, store: &Store, (index, number): Dot) -> bool {
        if !self.is_outstanding() || self.keys_incomplete {
            return self.keys_incomplete;
        }
        let key = live_key(store, (index, number)).and_then(|key| self.guards.get(&key));
        key.is_some_and(|guard| guard.is_outstanding(store))
    }

    /// The refused write that a write of this time under the same key supersedes: it is the lesser of the two, whether or
    /// not it is ever applied here. A peer that names what it supersedes may have left by then.
    pub(super) fn superseded_by(&self, store: &Store, table: &str, key: &str, time: u64) -> Option<Dot> {
        if !self.is_outstanding() {
            return None;
        }
        let guard = self.guards.get(&key_digest(table, key))?;
        (guard.time < time && guard.is_outstanding(store)).then_some(guard.dot)
    }

    /// The latest write that is refused under a key, as far as it is remembered.
    pub(crate) fn refused_under(&self, store: &Store, table: &str, key: &str) -> Option<RefusedWrite> {
        let guard = self.guards.get(&key_digest(table, key)).filter(|guard| guard.is_outstanding(store))?;
        let owner = store.attachment(guard.dot.0)?.tag.owner.name.clone();
        Some(RefusedWrite { time: Duration::from_micros(guard.time), owner, because: guard.because })
    }

    /// Digests of the keys with refused writes; `None` if not all of them are known.
    pub(crate) fn keys(&self, store: &Store) -> Option<Vec<u64>> {
        if !self.is_outstanding() {
            return Some(Vec::new());
        }
        let outstanding = self.guards.iter().filter(|(_, guard)| guard.is_outstanding(store));
        (!self.keys_incomplete).then(|| outstanding.map(|(key, _)| *key).collect())
    }

    /// The refused numbers of an attachment that are neither applied nor superseded, including those being
    /// retried. O(ranges).
    pub(crate) fn outstanding(&self, index: AttachmentIndex, held: &Attachment) -> Ranges {
        let mut refused = held.accounted().clone();
        let sample = self.retry.iter().flat_map(|retry| &retry.sample);
        for &(_, low, high) in sample.filter(|(of, ..)| *of == index) {
            refused.insert_range(low, high);
        }
        refused.beyond(held.seen())
    }

    /// The time of the next [`Network::retry_refused`].
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.retry.as_ref().map(|retry| retry.at)
    }

    /// Whether differing fingerprints are expected, and a recent comparison has already looked at them.
    pub(super) fn puts_off_comparison(&self, now: Instant) -> bool {
        self.retry.as_ref().is_some_and(|retry| now < retry.compare_at)
    }

    /// A comparison completed; while writes are refused, the fingerprints will differ again.
    pub(super) fn compared(&mut self, interval: Duration, now: Instant) {
        if let Some(retry) = &mut self.retry {
            retry.compare_at = now + retry.compare_pause;
            retry.compare_pause = (retry.compare_pause * 2).min(interval);
        }
    }

    pub(super) fn forget(&mut self, index: AttachmentIndex) {
        self.too_long.remove(&index);
    }

    fn note(&mut self, refused: &Refused<'_>, store: &mut Store, max_ranges: usize, now: Instant) {
        let (index, number) = refused.dot;
        self.keys_incomplete |= !store.account_refused(index, number, max_ranges);
        if refused.because == RefusedBecause::TooLong {
            let numbers = self.too_long.entry(index).or_default();
            if numbers.as_slice().len() < max_ranges || numbers.touches(number, number) {
                numbers.insert(number);
            }
        }
        self.guard(refused, store);
        let retry = self.retry.get_or_insert_with(|| Retry {
            at: now + REFUSED_PAUSE,
            pause: REFUSED_PAUSE,
            count: SAMPLE,
            sample: Vec::new(),
            from: (AttachmentIndex(0), 0),
            largest: 0,
            compare_at: now,
            compare_pause: REFUSED_PAUSE,
        });
        retry.largest = retry.largest.max(refused.bytes);
    }

    fn guard(&mut self, refused: &Refused<'_>, store: &Store) {
        if self.keys_incomplete {
            return;
        }
        let digest = key_digest(refused.table, refused.key);
        let new = Guard { time: refused.time, dot: refused.dot, because: refused.because };
        if let Some(guard) = self.guards.get_mut(&digest) {
            if guard.time <= new.time || !guard.is_outstanding(store) {
                *guard = new;
            }
            return;
        }
        if self.guards.len() >= MAX_GUARDS {
            self.guards.retain(|_, guard| guard.is_outstanding(store));
        }
        match self.guards.len() < MAX_GUARDS {
            true => drop(self.guards.insert(digest, new)),
            false => self.keys_incomplete = true,
        }
    }

    /// Selects the next sample, which is then no longer accounted for. If no refused write is left, clears
    /// the state.
    fn next_sample(&mut self, store: &mut Store, now: Instant) -> Vec<(AttachmentIndex, u64, u64)> {
        let Some(retry) = &mut self.retry else { return Vec::new() };
        let (mut tried, mut taken) = (0, 0);
        for (index, low, high) in std::mem::take(&mut retry.sample) {
            let Some(held) = store.attachment(index) else { continue };
            let seen = held.seen().within(low, high).count();
            (tried, taken) = (tried + (high - low + 1), taken + seen);
            if seen < high - low + 1 {
                // Refused again, or no member had it.
                store.account_range(index, low, high);
            }
        }
        if !store.attachments().any(|(_, held)| held.has_refused()) {
            (self.retry, self.keys_incomplete) = (None, false);
            self.guards.clear();
            self.too_long.clear();
            return Vec::new();
        }
        let first = SAMPLE.min((SAMPLE_BYTES / retry.largest.max(1)) as u64).max(1);
        if tried > 0 {
            (retry.count, retry.pause) = match taken {
                taken if taken * 2 >= tried => ((retry.count * SAMPLE_GROWTH).min(MAX_SAMPLE), REFUSED_PAUSE),
                0 => (first, (retry.pause * 2).min(REFUSED_PAUSE_MAX)),
                _ => (first, retry.pause),
            };
        } else {
            retry.count = first;
        }
        retry.at = now + retry.pause;
        let nothing = Ranges::default();
        for only_long in [false, true] {
            let wanted = if only_long { 1 } else { retry.count };
            let skipped = |index: AttachmentIndex| {
                (!only_long).then(|| self.too_long.get(&index)).flatten().unwrap_or(&nothing)
            };
            retry.sample = choose(store, retry.from, wanted, skipped);
            if !retry.sample.is_empty() {
                break;
            }
        }
        if let Some(&(index, _, high)) = retry.sample.last() {
            retry.from = (index, high + 1);
        }
        for &(index, low, high) in &retry.sample {
            store.forget_refused(index, low, high);
        }
        retry.sample.clone()
    }
}

/// The first `wanted` refused numbers that are not skipped, starting at `from` and wrapping around.
fn choose<'a>(
    store: &Store,
    from: Dot,
    wanted: u64,
    skipped: impl Fn(AttachmentIndex) -> &'a Ranges,
) -> Vec<(AttachmentIndex, u64, u64)> {
    let mut chosen = Vec::new();
    let mut left = wanted;
    let refused = || store.attachments().filter(|(_, held)| held.has_refused());
    let after = refused()
        .filter(|&(index, _)| index >= from.0)
        .map(|(index, held)| (index, held, if index == from.0 { from.1.max(1) } else { 1 }, u64::MAX));
    let before = refused().filter(|&(index, _)| index <= from.0).map(|(index, held)| {
        (index, held, 1, if index == from.0 { from.1.saturating_sub(1) } else { u64::MAX })
    });
    for (index, held, mut next, last) in after.chain(before) {
        let mut known = held.seen().clone();
        known.union(skipped(index));
        while left > 0
            && chosen.len() < MAX_SAMPLE_RANGES
            && let Some((low, high)) = held.accounted().first_beyond(&known, next)
            && low <= last
        {
            let high = high.min(last).min(low.saturating_add(left - 1));
            chosen.push((index, low, high));
            left -= high - low + 1;
            next = high + 1;
        }
    }
    chosen
}

impl Network {
    /// Refuses a peer's write for a reason that may pass.
    pub(super) fn refuse(&mut self, refused: &Refused<'_>, node: &mut NodeState, now: Instant) {
        node.counters.refuse(refused.because.into());
        self.refusals.note(refused, &mut self.store, node.config.limits.ranges, now);
        let refusals = &mut self.refusals;
        if refusals.logged_at.is_some_and(|at| now < at + REFUSED_LOG_PAUSE) {
            refusals.unlogged += 1;
            return;
        }
        refusals.logged_at = Some(now);
        let owner = self.store.attachment(refused.dot.0).map(|held| held.tag.owner.name.as_str());
        tracing::warn!(
            network = &*self.name,
            owner,
            table = refused.table.chars().take(LOGGED_KEY).collect::<String>(),
            key = refused.key.chars().take(LOGGED_KEY).collect::<String>(),
            reason = ?refused.because,
            others = std::mem::take(&mut refusals.unlogged),
            "refused a write of a peer; the value that it replaced stays"
        );
    }

    /// A write of this time has been applied under a key: what was refused there and is older is superseded.
    pub(super) fn supersede_refused(&mut self, table: &str, key: &str, time: u64) {
        if let Some((index, number)) = self.refusals.superseded_by(&self.store, table, key, time) {
            self.store.note_superseded(index, number, number);
        }
    }

    /// The number of writes of others that are refused here.
    pub(crate) fn refused(&self) -> usize {
        let attachments = self.store.attachments().filter(|(_, held)| held.has_refused());
        let numbers = attachments.map(|(_, held)| held.accounted().count_beyond(held.seen()));
        usize::try_from(numbers.fold(0, u64::saturating_add)).unwrap_or(usize::MAX)
    }

    /// Has a sample of the refused writes pulled again: capacity may be available, or the clocks may be right.
    pub(super) fn retry_refused(&mut self, node: &mut NodeState, now: Instant) {
        if self.refusals.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        let sample = self.refusals.next_sample(&mut self.store, now);
        self.scheduler.refused_writes_retried(&sample, node, now);
    }
}
