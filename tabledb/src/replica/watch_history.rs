//! The latest changes of the database, in order, whether anybody watches or not: from here a watch resumes.

use std::collections::VecDeque;
use std::sync::Arc;

use super::ranges::Ranges;
use super::watch_log::{LogLimits, weight};
use crate::change::RecordedChange;

/// How many ended attachments are remembered.
const MAX_ENDED: usize = 32;

/// The latest changes, bounded like one log of watchers. Nothing is kept before it is started.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Tells it from the histories of other databases, and of this node's other processes.
    id: Option<u64>,
    /// Ascending, without a gap.
    changes: VecDeque<Arc<RecordedChange>>,
    /// The position of the first change; of the next one, if there is none.
    first: u64,
    bytes: usize,
    /// The latest attachments that have ended, with their network, digest and seen numbers: their writes made changes
    /// that are still here.
    ended: VecDeque<(Arc<str>, u64, Ranges)>,
}

impl History {
    /// Keeps changes from now on, unless it does already.
    pub(super) fn start(&mut self, id: impl FnOnce() -> u64) -> u64 {
        *self.id.get_or_insert_with(id)
    }

    pub(super) fn is_started(&self) -> bool {
        self.id.is_some()
    }

    /// The position of the next change.
    pub(super) fn end(&self) -> u64 {
        self.first + self.changes.len() as u64
    }

    /// Whether every change from a position on is here.
    pub(super) fn reaches_back_to(&self, position: u64) -> bool {
        (self.first..=self.end()).contains(&position)
    }

    /// Adds the next change, whose position is [`Self::end`], and drops the oldest beyond the limits.
    pub(super) fn append(&mut self, change: Arc<RecordedChange>, limits: LogLimits) {
        self.bytes += weight(&change.change);
        self.changes.push_back(change);
        while self.changes.len() > limits.changes || self.bytes > limits.bytes {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.bytes -= weight(&oldest.change);
            self.first += 1;
        }
    }

    /// Passes over so many changes, which are more than it can keep.
    pub(super) fn pass_over(&mut self, changes: usize) {
        self.first = self.end() + changes as u64;
        (self.changes, self.bytes) = (VecDeque::new(), 0);
    }

    /// An attachment of a network has ended.
    pub(super) fn note_end(&mut self, network: &Arc<str>, writer: u64, seen: &Ranges) {
        if self.is_started() {
            self.ended.push_back((network.clone(), writer, seen.clone()));
            if self.ended.len() > MAX_ENDED {
                self.ended.pop_front();
            }
        }
    }

    /// The latest attachments that have ended, with their network, digest and seen numbers.
    pub(super) fn ended(&self) -> impl Iterator<Item = &(Arc<str>, u64, Ranges)> {
        self.ended.iter()
    }

    /// The changes from a position on that have not been dropped.
    pub(super) fn from(&self, position: u64) -> impl DoubleEndedIterator<Item = &Arc<RecordedChange>> {
        let skipped = position.saturating_sub(self.first).min(self.changes.len() as u64);
        self.changes.range(skipped as usize..)
    }
}
