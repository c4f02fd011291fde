//! The index from the sequence numbers of an attachment to their records.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::view::Location;

/// A number within its chunk, with the digest and location of its record.
#[derive(Debug)]
struct Numbered {
    offset: u8,
    /// Fits in the padding, so it costs no memory.
    digest: u32,
    location: Location,
}

#[cfg(test)]
impl std::hash::Hash for Numbered {
    /// By the name of the table, whose records the store hashes once.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let Self { offset, digest, location: (table, key) } = self;
        (offset, digest, &table.name, key).hash(state);
    }
}

/// The numbers per chunk.
const SPAN: u64 = 64;

/// A map from numbers to the locations and digests of their records, for numbers that mostly arrive in
/// ascending order.
///
/// A tree of small sorted arrays: ascending insertion leaves a plain B-tree half empty, which would double
/// the memory per entry. Everything is O(log n); appending touches the last array only.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct NumberIndex {
    chunks: BTreeMap<u64, Vec<Numbered>>,
    count: usize,
}

fn split(number: u64) -> (u64, u8) {
    (number / SPAN, (number % SPAN) as u8)
}

impl NumberIndex {
    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Location> {
        let (chunk, offset) = split(number);
        let chunk = self.chunks.get(&chunk)?;
        let at = chunk.binary_search_by_key(&offset, |numbered| numbered.offset).ok()?;
        Some(&chunk[at].location)
    }

    /// The digest of a number's record.
    pub(crate) fn digest(&self, number: u64) -> Option<u32> {
        let (chunk, offset) = split(number);
        let chunk = self.chunks.get(&chunk)?;
        let at = chunk.binary_search_by_key(&offset, |numbered| numbered.offset).ok()?;
        Some(chunk[at].digest)
    }

    /// Inserts a number, replacing an existing entry.
    pub(crate) fn insert(&mut self, number: u64, digest: u32, location: Location) {
        let (chunk, offset) = split(number);
        let chunk = self.chunks.entry(chunk).or_default();
        let new = Numbered { offset, digest, location };
        if chunk.last().is_none_or(|last| last.offset < offset) {
            chunk.push(new);
        } else {
            match chunk.binary_search_by_key(&offset, |numbered| numbered.offset) {
                Ok(at) => {
                    chunk[at] = new;
                    return;
                }
                Err(at) => chunk.insert(at, new),
            }
        }
        self.count += 1;
    }

    /// Removes a number; returns the digest and location of its record.
    pub(crate) fn remove(&mut self, number: u64) -> Option<(u32, Location)> {
        let (key, offset) = split(number);
        let chunk = self.chunks.get_mut(&key)?;
        let at = chunk.binary_search_by_key(&offset, |numbered| numbered.offset).ok()?;
        let Numbered { digest, location, .. } = chunk.remove(at);
        self.count -= 1;
        if chunk.is_empty() {
            self.chunks.remove(&key);
        } else if chunk.len() * 4 <= chunk.capacity() {
            // Chunks that shrink after many updates must not keep their former capacity.
            chunk.shrink_to(chunk.len() * 2);
        }
        Some((digest, location))
    }

    /// The numbers within `low..=high`, ascending, with the locations of their records.
    pub(crate) fn range(&self, low: u64, high: u64) -> impl Iterator<Item = (u64, &Location)> {
        self.within(low, high).map(|(number, numbered)| (number, &numbered.location))
    }

    /// The numbers within `low..=high`, ascending, with the digests of their records.
    pub(crate) fn digests(&self, low: u64, high: u64) -> impl Iterator<Item = (u64, u32)> {
        self.within(low, high).map(|(number, numbered)| (number, numbered.digest))
    }

    fn within(&self, low: u64, high: u64) -> impl Iterator<Item = (u64, &Numbered)> {
        // `BTreeMap::range` panics on an inverted range.
        let chunks = (Bound::Included(low.min(high) / SPAN), Bound::Included(high / SPAN));
        self.chunks
            .range(chunks)
            .flat_map(|(&chunk, numbers)| {
                numbers.iter().map(move |numbered| (chunk * SPAN + u64::from(numbered.offset), numbered))
            })
            .filter(move |&(number, _)| low <= number && number <= high)
    }

    /// All numbers, ascending, with the locations of their records.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Location)> {
        self.range(0, u64::MAX)
    }

    /// All locations, in the order of their numbers.
    pub(crate) fn into_locations(self) -> impl Iterator<Item = Location> {
        self.chunks.into_values().flatten().map(|numbered| numbered.location)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::view::{Map, Table};
    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_map(
            operations in proptest::collection::vec((any::<bool>(), 1u64..500), 0..400),
            low in 0u64..500,
            high in 0u64..500,
        ) {
            let table = Arc::new(Table { name: "t".into(), records: Map::default() });
            let (mut index, mut model) = (NumberIndex::default(), BTreeMap::<u64, Arc<str>>::new());
            for (put, number) in operations {
                if put {
                    let key: Arc<str> = format!("{number}-{}", model.len()).into();
                    index.insert(number, number as u32 * 3, (table.clone(), key.clone()));
                    model.insert(number, key);
                } else {
                    prop_assert_eq!(index.remove(number).map(|(_, (_, key))| key), model.remove(&number));
                }
                prop_assert_eq!(index.len(), model.len());
                prop_assert_eq!(index.is_empty(), model.is_empty());
            }
            let keys = |locations: Vec<(u64, &Location)>| {
                locations.into_iter().map(|(number, (_, key))| (number, key.clone())).collect::<Vec<_>>()
            };
            let expected = |low, high| model.iter().filter(move |&(&n, _)| low <= n && n <= high).map(|(&n, k)| (n, k.clone()));
            prop_assert_eq!(keys(index.iter().collect()), expected(0, 1000).collect::<Vec<_>>());
            prop_assert_eq!(keys(index.range(low, high).collect()), expected(low, high).collect::<Vec<_>>());
            for number in 0..500 {
                prop_assert_eq!(index.digest(number), model.contains_key(&number).then_some(number as u32 * 3));
                prop_assert_eq!(index.get(number).is_some(), model.contains_key(&number));
            }
            let locations: Vec<_> = index.into_locations().map(|(_, key)| key).collect();
            prop_assert_eq!(locations, model.into_values().collect::<Vec<_>>());
        }
    }
}
