//! The times at which tombstones are to be reaped.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use crate::record::AttachmentIndex;

/// When the tombstone of an attachment's number is due.
type Expiry = (Instant, AttachmentIndex, u64);

/// An expiry that came after all before it.
#[derive(Debug)]
struct Queued {
    expires: Instant,
    index: AttachmentIndex,
    /// It stays in its place until the queue is cleaned up.
    removed: bool,
    number: u64,
}

impl Queued {
    fn expiry(&self) -> Expiry {
        (self.expires, self.index, self.number)
    }
}

/// Below this length, a queue is not cleaned up.
const MIN_CLEANED: usize = 32;

/// The expiries of all tombstones of a store, each once.
///
/// A node's own tombstones become due in the order of its deletes: these are appended to a queue, in O(1). Those
/// of other nodes, whose time has partly passed, may go between them: they are in a tree.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    /// Ascending; the first is not removed, and at most half of them are.
    queue: VecDeque<Queued>,
    removed: usize,
    others: BTreeSet<Expiry>,
}

#[cfg(test)]
impl std::hash::Hash for Expiries {
    /// Sorted: where each of them is depends on the past.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let queued = self.queue.iter().filter(|queued| !queued.removed).map(Queued::expiry);
        queued.chain(self.others.iter().copied()).collect::<BTreeSet<_>>().hash(state);
    }
}

impl Expiries {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.queue.len() - self.removed + self.others.len()
    }

    /// How many take memory.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.queue.len() + self.others.len()
    }

    pub(super) fn contains(&self, expiry: Expiry) -> bool {
        self.others.contains(&expiry) || self.find(expiry).is_some()
    }

    pub(super) fn insert(&mut self, expiry: Expiry) {
        if self.queue.back().is_some_and(|last| last.expiry() >= expiry) {
            self.others.insert(expiry);
            return;
        }
        let (expires, index, number) = expiry;
        self.queue.push_back(Queued { expires, index, removed: false, number });
    }

    pub(super) fn remove(&mut self, expiry: Expiry) {
        if self.others.remove(&expiry) {
            return;
        }
        if let Some(at) = self.find(expiry) {
            self.queue[at].removed = true;
            self.removed += 1;
            self.clean_up();
        }
    }

    /// The time of the next one.
    pub(super) fn next(&self) -> Option<Instant> {
        let queued = self.queue.front().map(|queued| queued.expires);
        let other = self.others.first().map(|&(expires, ..)| expires);
        [queued, other].into_iter().flatten().min()
    }

    /// Removes the next one if its time has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Expiry> {
        let queued = self.queue.front().map(Queued::expiry);
        let other = self.others.first().copied();
        let next = [queued, other].into_iter().flatten().min().filter(|&(expires, ..)| expires <= now)?;
        if queued == Some(next) {
            self.queue.pop_front();
            self.clean_up();
        } else {
            self.others.pop_first();
        }
        Some(next)
    }

    /// Where it is in the queue.
    fn find(&self, expiry: Expiry) -> Option<usize> {
        let at = self.queue.binary_search_by(|queued| queued.expiry().cmp(&expiry)).ok()?;
        (!self.queue[at].removed).then_some(at)
    }

    /// Drops removed ones from the front, and all of them once they are more than half.
    fn clean_up(&mut self) {
        while self.queue.pop_front_if(|first| first.removed).is_some() {
            self.removed -= 1;
        }
        if self.queue.len() >= MIN_CLEANED && self.removed * 2 > self.queue.len() {
            self.queue.retain(|queued| !queued.removed);
            self.removed = 0;
        }
        if self.queue.len() * 4 <= self.queue.capacity() && self.queue.capacity() > MIN_CLEANED {
            self.queue.shrink_to(self.queue.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        #[expect(clippy::disallowed_methods, reason = "only a starting point")]
        fn behaves_like_a_set_and_takes_little_more_memory(
            operations in proptest::collection::vec((0u8..8, 0u64..60), 0..400),
        ) {
            let start = Instant::now();
            let (mut expiries, mut model) = (Expiries::default(), BTreeSet::new());
            for (at, (operation, number)) in operations.into_iter().enumerate() {
                // Mostly later and later, sometimes between the others.
                let ascending = start + Duration::from_secs(at as u64);
                match operation {
                    0..=2 => {
                        let expiry = (ascending, AttachmentIndex(0), number);
                        expiries.insert(expiry);
                        model.insert(expiry);
                    }
                    3 => {
                        let expiry = (start + Duration::from_secs(number), AttachmentIndex(1), at as u64);
                        expiries.insert(expiry);
                        model.insert(expiry);
                    }
                    4..=6 => {
                        let some = number as usize % model.len().max(1);
                        if let Some(&expiry) = model.iter().nth(some) {
                            prop_assert!(expiries.contains(expiry));
                            expiries.remove(expiry);
                            model.remove(&expiry);
                            prop_assert!(!expiries.contains(expiry));
                        }
                    }
                    _ => {
                        let now = start + Duration::from_secs(number);
                        let due = model.first().copied().filter(|&(expires, ..)| expires <= now);
                        prop_assert_eq!(expiries.pop_due(now), due);
                        if let Some(due) = due {
                            model.remove(&due);
                        }
                    }
                }
                prop_assert_eq!(expiries.len(), model.len());
                prop_assert_eq!(expiries.next(), model.first().map(|&(expires, ..)| expires));
                prop_assert!(expiries.held() <= model.len() * 2 + MIN_CLEANED);
            }
        }
    }
}
