//! The index from the sequence numbers of an attachment to their records.

use std::collections::BTreeMap;
use std::ops::Bound;

/// The numbers per chunk.
const SPAN: u64 = 64;

/// Some numbers of one span.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
struct Chunk<T> {
    /// A bit for each number that is present.
    present: u64,
    /// What belongs to them, in their order.
    items: Vec<T>,
}

impl<T> Chunk<T> {
    /// Where the item of the number at this offset is, or would be.
    fn find(&self, offset: u64) -> Result<usize, usize> {
        let at = (self.present & ((1 << offset) - 1)).count_ones() as usize;
        if self.present & (1 << offset) == 0 { Err(at) } else { Ok(at) }
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

/// A map from numbers, which mostly arrive in ascending order.
///
/// A tree of small arrays: ascending insertion leaves a plain B-tree half empty, and an array needs no place
/// for the numbers. Everything is O(log n); appending touches the last array only.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct NumberIndex<T> {
    chunks: BTreeMap<u64, Chunk<T>>,
    count: usize,
}

impl<T> Default for NumberIndex<T> {
    fn default() -> Self {
        Self { chunks: BTreeMap::new(), count: 0 }
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

    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        let (chunk, offset) = split(number);
        let chunk = self.chunks.get(&chunk)?;
        chunk.find(offset).ok().map(|at| &chunk.items[at])
    }

    /// Inserts a number, replacing what belongs to it.
    pub(crate) fn insert(&mut self, number: u64, item: T) {
        let (chunk, offset) = split(number);
        let chunk = self.chunks.entry(chunk).or_insert_with(|| Chunk { present: 0, items: Vec::new() });
        match chunk.find(offset) {
            Ok(at) => chunk.items[at] = item,
            Err(at) => {
                chunk.items.insert(at, item);
                chunk.present |= 1 << offset;
                self.count += 1;
            }
        }
    }

    /// Removes a number; returns what belonged to it.
    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        let (key, offset) = split(number);
        let chunk = self.chunks.get_mut(&key)?;
        let at = chunk.find(offset).ok()?;
        let item = chunk.items.remove(at);
        chunk.present &= !(1 << offset);
        self.count -= 1;
        if chunk.items.is_empty() {
            self.chunks.remove(&key);
        } else if chunk.items.len() * 4 <= chunk.items.capacity() {
            // Chunks that shrink after many updates must not keep their former capacity.
            chunk.items.shrink_to(chunk.items.len() * 2);
        }
        Some(item)
    }

    /// The numbers within `low..=high`, ascending, with what belongs to them.
    pub(crate) fn range(&self, low: u64, high: u64) -> impl Iterator<Item = (u64, &T)> {
        // `BTreeMap::range` panics on an inverted range.
        let chunks = (Bound::Included(low.min(high) / SPAN), Bound::Included(high / SPAN));
        self.chunks
            .range(chunks)
            .flat_map(|(&chunk, numbers)| {
                numbers.offsets().map(move |offset| chunk * SPAN + offset).zip(&numbers.items)
            })
            .filter(move |&(number, _)| low <= number && number <= high)
    }

    /// All numbers, ascending, with what belongs to them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.range(0, u64::MAX)
    }

    /// What belongs to the numbers, in their order.
    pub(crate) fn into_items(self) -> impl Iterator<Item = T> {
        self.chunks.into_values().flat_map(|chunk| chunk.items)
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
            operations in proptest::collection::vec((any::<bool>(), 1u64..500), 0..400),
            low in 0u64..500,
            high in 0u64..500,
        ) {
            let (mut index, mut model) = (NumberIndex::default(), BTreeMap::<u64, usize>::new());
            for (at, (put, number)) in operations.into_iter().enumerate() {
                if put {
                    index.insert(number, at);
                    model.insert(number, at);
                } else {
                    prop_assert_eq!(index.remove(number), model.remove(&number));
                }
                prop_assert_eq!(index.len(), model.len());
                prop_assert_eq!(index.is_empty(), model.is_empty());
            }
            let all = |numbers: Vec<(u64, &usize)>| -> Vec<(u64, usize)> {
                numbers.into_iter().map(|(number, &at)| (number, at)).collect()
            };
            let expected = |low, high| -> Vec<(u64, usize)> {
                model.iter().filter(|&(&n, _)| low <= n && n <= high).map(|(&n, &at)| (n, at)).collect()
            };
            prop_assert_eq!(all(index.iter().collect()), expected(0, 1000));
            prop_assert_eq!(all(index.range(low, high).collect()), expected(low, high));
            for number in 0..500 {
                prop_assert_eq!(index.get(number), model.get(&number));
            }
            prop_assert_eq!(index.into_items().collect::<Vec<_>>(), model.into_values().collect::<Vec<_>>());
        }
    }
}
