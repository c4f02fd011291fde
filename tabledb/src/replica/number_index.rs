//! The index from the sequence numbers of an attachment to their records.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// The numbers per chunk.
const SPAN: u64 = 64;

/// So many chunks may be empty, besides as many as are not.
const MAX_EMPTY: usize = 16;

/// Some numbers of one span.
#[derive(Debug)]
struct Chunk<T> {
    /// A bit for each number that is present.
    present: u64,
    /// What belongs to them, in their order.
    items: Vec<T>,
}

impl<T> Default for Chunk<T> {
    fn default() -> Self {
        Self { present: 0, items: Vec::new() }
    }
}

impl<T> Chunk<T> {
    fn is_empty(&self) -> bool {
        self.present == 0
    }

    /// Where the item of the number at this offset is, or would be.
    fn find(&self, offset: u64) -> Result<usize, usize> {
        let at = (self.present & ((1 << offset) - 1)).count_ones() as usize;
        if self.present & (1 << offset) == 0 { Err(at) } else { Ok(at) }
    }

    /// Inserts the item of the number at this offset; returns the one that it replaces.
    fn insert(&mut self, offset: u64, item: T) -> Option<T> {
        match self.find(offset) {
            Ok(at) => Some(std::mem::replace(&mut self.items[at], item)),
            Err(at) => {
                let length = self.items.len();
                if length == self.items.capacity() {
                    // 4, 16, 64: a full chunk is exactly full, after few copies.
                    self.items.reserve_exact((length * 3).max(4).min(SPAN as usize - length));
                }
                self.items.insert(at, item);
                self.present |= 1 << offset;
                None
            }
        }
    }

    /// Removes a number; returns what belonged to it.
    fn remove(&mut self, offset: u64) -> Option<T> {
        let at = self.find(offset).ok()?;
        self.present &= !(1 << offset);
        Some(self.items.remove(at))
    }

    /// Chunks that shrink after many updates must not keep their former capacity.
    fn release(&mut self) {
        if self.items.len() * 4 <= self.items.capacity() {
            self.items.shrink_to(self.items.len() * 2);
        }
    }

    fn offsets(&self) -> impl Iterator<Item = u64> {
        let mut left = self.present;
        std::iter::from_fn(move || {
            let offset = u64::from(left.trailing_zeros());
            (left != 0).then(|| left &= left - 1)?;
            Some(offset)
        })
    }
}

/// A map from numbers, which mostly arrive in ascending order, and of which the latest are removed most.
///
/// Arrays of 64 numbers each: ascending insertion leaves a plain B-tree half empty, and an array needs no place
/// for the numbers. The latest arrays stand in a queue, where they are found without a search; the others, in
/// which most numbers are gone, or which a gap divides from the queue, in a tree. Everything is O(log n), and O(1)
/// in the queue, if the moves from queue to tree are divided among the insertions.
#[derive(Debug)]
pub(crate) struct NumberIndex<T> {
    /// The chunks from the `first` on, without gaps: some are empty, at most `MAX_EMPTY` more than are not.
    recent: VecDeque<Chunk<T>>,
    first: u64,
    /// How many of them are not empty.
    filled: usize,
    /// All other chunks. None is empty.
    others: BTreeMap<u64, Chunk<T>>,
    count: usize,
}

#[cfg(test)]
impl<T: std::hash::Hash> std::hash::Hash for NumberIndex<T> {
    /// By content: where a chunk is depends on the past.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.count.hash(state);
        self.iter().for_each(|each| each.hash(state));
    }
}

impl<T> Default for NumberIndex<T> {
    fn default() -> Self {
        Self { recent: VecDeque::new(), first: 0, filled: 0, others: BTreeMap::new(), count: 0 }
    }
}

fn split(number: u64) -> (u64, u64) {
    (number / SPAN, number % SPAN)
}

impl<T> NumberIndex<T> {
    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Where a chunk is in the queue.
    fn in_queue(&self, chunk: u64) -> Option<usize> {
        let at = chunk.checked_sub(self.first)?;
        (at < self.recent.len() as u64).then_some(at as usize)
    }

    /// The chunk behind the queue.
    fn end(&self) -> u64 {
        self.first + self.recent.len() as u64
    }

    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        let (chunk, offset) = split(number);
        let chunk = match self.in_queue(chunk) {
            Some(at) => &self.recent[at],
            None => self.others.get(&chunk)?,
        };
        chunk.find(offset).ok().map(|at| &chunk.items[at])
    }

    /// Inserts a number, replacing what belongs to it.
    pub(crate) fn insert(&mut self, number: u64, item: T) {
        let (chunk, offset) = split(number);
        let replaced = match self.in_queue(chunk).or_else(|| self.extend(chunk)) {
            Some(at) => {
                let chunk = &mut self.recent[at];
                self.filled += usize::from(chunk.is_empty());
                chunk.insert(offset, item)
            }
            None => self.others.entry(chunk).or_default().insert(offset, item),
        };
        self.count += usize::from(replaced.is_none());
        self.limit_empty();
    }

    /// Extends the queue up to a chunk that is not in it; returns where that is. `None` if it belongs into the
    /// tree.
    fn extend(&mut self, chunk: u64) -> Option<usize> {
        let gap = chunk.checked_sub(self.end());
        // With the new one, which is to be filled.
        let most = (self.filled + 1) * 2 + MAX_EMPTY;
        let is_near = |gap| gap < (most - self.recent.len()) as u64;
        if self.recent.is_empty() || !gap.is_some_and(is_near) {
            if (!self.recent.is_empty() && gap.is_none())
                || self.others.last_key_value().is_some_and(|(&last, _)| last >= chunk)
            {
                return None;
            }
            // The queue starts anew: the next numbers are likely to follow this one.
            while !self.recent.is_empty() {
                self.retire();
            }
            self.first = chunk;
        }
        while self.end() <= chunk {
            if let Some(last) = self.recent.back_mut() {
                last.release();
            }
            let next = self.others.remove(&self.end()).unwrap_or_default();
            self.filled += usize::from(!next.is_empty());
            self.recent.push_back(next);
        }
        Some(self.recent.len() - 1)
    }

    /// Moves the first chunk of the queue to the tree.
    fn retire(&mut self) {
        if let Some(chunk) = self.recent.pop_front() {
            if !chunk.is_empty() {
                self.filled -= 1;
                self.others.insert(self.first, chunk);
            }
            self.first += 1;
        }
    }

    /// Keeps about half of the queue filled: a few old numbers must not hold many empty chunks in it.
    fn limit_empty(&mut self) {
        while self.recent.len() > self.filled * 2 + MAX_EMPTY {
            self.retire();
        }
    }

    /// Removes a number; returns what belonged to it.
    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        let (key, offset) = split(number);
        let Some(at) = self.in_queue(key) else {
            let chunk = self.others.get_mut(&key)?;
            let item = chunk.remove(offset)?;
            self.count -= 1;
            match chunk.is_empty() {
                true => drop(self.others.remove(&key)),
                false => chunk.release(),
            }
            return Some(item);
        };
        let is_last = at + 1 == self.recent.len();
        let chunk = &mut self.recent[at];
        let item = chunk.remove(offset)?;
        self.count -= 1;
        if chunk.is_empty() {
            *chunk = Chunk::default();
            self.filled -= 1;
            while self.recent.front().is_some_and(Chunk::is_empty) {
                self.retire();
            }
            self.limit_empty();
            if self.recent.len() * 4 <= self.recent.capacity() {
                self.recent.shrink_to(self.recent.len() * 2);
            }
        } else if !is_last {
            // The last one is about to grow.
            chunk.release();
        }
        Some(item)
    }

    /// The numbers within `low..=high`, ascending, with what belongs to them.
    pub(crate) fn range(&self, low: u64, high: u64) -> impl Iterator<Item = (u64, &T)> {
        let (low_chunk, past_chunk) = (low / SPAN, high / SPAN + 1);
        // `BTreeMap::range` panics on an inverted range.
        let others = move |from: u64, to: u64| {
            let bounds = (Bound::Included(from.min(to)), Bound::Excluded(to));
            self.others.range(bounds).map(|(&chunk, numbers)| (chunk, numbers))
        };
        let in_queue = |chunk: u64| chunk.saturating_sub(self.first).min(self.recent.len() as u64) as usize;
        let (from, to) = (in_queue(low_chunk), in_queue(past_chunk));
        let from = from.min(to);
        let recent = (self.first + from as u64..).zip(self.recent.range(from..to));
        others(low_chunk, past_chunk.min(self.first))
            .chain(recent)
            .chain(others(low_chunk.max(self.end()), past_chunk))
            .flat_map(|(chunk, numbers)| {
                numbers.offsets().map(move |offset| chunk * SPAN + offset).zip(&numbers.items)
            })
            .filter(move |&(number, _)| low <= number && number <= high)
    }

    /// All numbers, ascending, with what belongs to them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.range(0, u64::MAX)
    }

    /// What belongs to the numbers, in their order.
    pub(crate) fn into_items(mut self) -> impl Iterator<Item = T> {
        let after = self.others.split_off(&self.first);
        let chunks = self.others.into_values().chain(self.recent).chain(after.into_values());
        chunks.flat_map(|chunk| chunk.items)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_map(
            operations in proptest::collection::vec((0u8..8, 1u64..500), 0..400),
            // Dense, with gaps that the queue covers, and with gaps that it does not.
            spread in prop_oneof![Just(1u64), Just(50), Just(5_000)],
            low in 0u64..500,
            high in 0u64..500,
        ) {
            let (mut index, mut model) = (NumberIndex::default(), BTreeMap::<u64, usize>::new());
            let (low, high) = (low * spread, high * spread);
            let mut latest = 0;
            for (at, (operation, number)) in operations.into_iter().enumerate() {
                // Mostly one that follows, or the removal of one that is there.
                let number = match operation {
                    0..=2 => latest + number / 32 * spread + 1,
                    3..=5 => model.keys().nth(number as usize % model.len().max(1)).copied().unwrap_or(number),
                    _ => number * spread,
                };
                if matches!(operation, 0..=2 | 6) {
                    index.insert(number, at);
                    model.insert(number, at);
                    latest = latest.max(number);
                } else {
                    prop_assert_eq!(index.remove(number), model.remove(&number));
                }
                prop_assert!(index.recent.len() <= index.filled * 2 + MAX_EMPTY);
                prop_assert_eq!(index.filled, index.recent.iter().filter(|chunk| !chunk.is_empty()).count());
                prop_assert_eq!(index.len(), model.len());
                prop_assert_eq!(index.is_empty(), model.is_empty());
            }
            let all = |numbers: Vec<(u64, &usize)>| -> Vec<(u64, usize)> {
                numbers.into_iter().map(|(number, &at)| (number, at)).collect()
            };
            let expected = |low, high| -> Vec<(u64, usize)> {
                model.iter().filter(|&(&n, _)| low <= n && n <= high).map(|(&n, &at)| (n, at)).collect()
            };
            prop_assert_eq!(all(index.iter().collect()), expected(0, u64::MAX));
            prop_assert_eq!(all(index.range(low, high).collect()), expected(low, high));
            for number in (0..500).chain(model.keys().copied()) {
                prop_assert_eq!(index.get(number), model.get(&number));
            }
            prop_assert_eq!(index.into_items().collect::<Vec<_>>(), model.into_values().collect::<Vec<_>>());
        }
    }
}
