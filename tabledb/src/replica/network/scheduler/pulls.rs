//! Pulling numbers that are known to exist and have not arrived.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use wire::NodeName;

use super::super::super::owners::Owners;
use super::super::super::ranges::Ranges;
use super::super::super::store::Store;
use super::super::super::timing::{MAX_PULLS, MISSING_GRACE, RETRY};
use crate::record::AttachmentIndex;

/// Numbers of an attachment that are known to exist and have not arrived.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
struct Missing {
    /// A node that has them.
    source: NodeName,
    /// The greatest number reported.
    upto: u64,
    pull_at: Instant,
    /// The number of pulls that did not bring them.
    tries: u32,
}

/// Whether an attachment of which this is accounted for lacks a number up to `upto`.
pub(super) fn lacks(accounted: &Ranges, upto: u64) -> bool {
    upto > accounted.highest() || accounted.has_holes()
}

/// What is missing, and from which node it is pulled next.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Pulls {
    missing: BTreeMap<AttachmentIndex, Missing>,
}

impl Pulls {
    /// Schedules a pull of the numbers of an attachment up to `upto` that are not accounted for.
    pub(super) fn add(
        &mut self,
        index: AttachmentIndex,
        upto: u64,
        source: &NodeName,
        pull_at: Instant,
        now: Instant,
    ) {
        let missing = self.missing.entry(index).or_insert_with(|| Missing {
            source: source.clone(),
            upto: 0,
            pull_at,
            tries: 0,
        });
        if upto > missing.upto && missing.tries > 0 {
            // This node has more than those that were asked without success.
            missing.source = source.clone();
            missing.pull_at = missing.pull_at.min(now + MISSING_GRACE);
            missing.tries = 0;
        }
        missing.upto = missing.upto.max(upto);
    }

    /// The attachment has ended.
    pub(super) fn forget(&mut self, index: AttachmentIndex) {
        self.missing.remove(&index);
    }

    pub(super) fn forget_arrived(&mut self, store: &Store) {
        self.missing.retain(|&index, missing| {
            store.attachment(index).is_some_and(|held| lacks(held.accounted(), missing.upto))
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }

    /// When the next pull is due.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.missing.values().map(|missing| missing.pull_at).min()
    }

    /// The node to pull from, if a pull is due.
    pub(super) fn source(&self, now: Instant) -> Option<&NodeName> {
        self.missing.values().find(|missing| missing.pull_at <= now).map(|missing| &missing.source)
    }

    /// The attachments of which something is missing. A pull of them starts now.
    pub(super) fn start(&mut self, now: Instant) -> BTreeSet<AttachmentIndex> {
        self.postpone(now);
        self.missing.keys().copied().collect()
    }

    fn postpone(&mut self, now: Instant) {
        for missing in self.missing.values_mut() {
            missing.pull_at = now + RETRY;
        }
    }

    /// The peer has no capacity for a pull: `other` is asked after a pause, and the pull does not count.
    pub(super) fn turned_away(&mut self, other: Option<&NodeName>, now: Instant) {
        self.postpone(now);
        if let Some(other) = other {
            for missing in self.missing.values_mut() {
                missing.source = other.clone();
            }
        }
    }

    /// `other` is asked at once.
    pub(super) fn ask(&mut self, other: &NodeName, now: Instant) {
        for missing in self.missing.values_mut() {
            (missing.source, missing.pull_at) = (other.clone(), now);
        }
    }

    /// A pull is over. What it did not bring is pulled after a longer pause each time, and at most a few
    /// times: the only node that had it may have failed. If another node has it after all, the fingerprints
    /// differ.
    pub(super) fn ended(&mut self, now: Instant) {
        for missing in self.missing.values_mut() {
            missing.pull_at = now + RETRY * 2u32.pow(missing.tries);
            missing.tries += 1;
        }
        self.missing.retain(|_, missing| missing.tries < MAX_PULLS);
    }

    /// Chooses the next source of each: its owner or one of the two `others`. Other members may lack the same
    /// numbers; every other pull asks the owner, which does not. No more of them do: an owner that has crashed
    /// and is still held alive would take most of the few pulls.
    pub(super) fn choose_sources(&mut self, others: &[NodeName], store: &Store, owners: &Owners) {
        for (&index, missing) in &mut self.missing {
            let owner = store.attachment(index).map(|held| &held.tag.owner.name);
            let other = others.iter().find(|other| Some(*other) != owner);
            let owner = owner.filter(|owner| missing.tries % 2 == 1 && owners.is_alive(owner));
            if let Some(source) = owner.or(other) {
                missing.source = source.clone();
            }
        }
    }
}
