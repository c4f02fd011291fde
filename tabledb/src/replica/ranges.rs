//! Sets of sequence numbers as ranges: the component of a version vector for one attachment, with its
//! exceptions.

use serde::{Deserialize, Serialize};

use crate::digest::mix;

/// A set of numbers from 1 up, kept as disjoint, non-adjacent, ascending ranges.
///
/// Writers number their writes without holes, so a set that lacks none is a single range however many numbers
/// it holds. Inserting at the end is O(1); elsewhere O(log r) to find the position and O(r) to shift r
/// ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(Hash))]
pub struct Ranges {
    /// Inclusive bounds.
    ranges: Vec<(u64, u64)>,
}

impl Ranges {
    /// The ranges of untrusted bytes, if they are valid for a [`Ranges`]: ascending, not adjacent, and above
    /// zero.
    pub(crate) fn checked(ranges: Vec<(u64, u64)>) -> Option<Self> {
        let mut next = 1;
        for &(low, high) in &ranges {
            if low < next || high < low || high >= u64::MAX - 1 {
                return None;
            }
            next = high + 2;
        }
        Some(Self { ranges })
    }

    /// The inclusive ranges, ascending.
    pub fn as_slice(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// Whether no number is in the set.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The greatest number, 0 for an empty set.
    pub fn highest(&self) -> u64 {
        self.ranges.last().map_or(0, |&(_, high)| high)
    }

    /// How many numbers are in the set.
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|&(low, high)| high - low + 1).sum()
    }

    /// Whether a number below the greatest is missing.
    pub fn has_holes(&self) -> bool {
        !matches!(self.ranges.as_slice(), [] | [(1, _)])
    }

    /// Whether `number` is in the set.
    pub fn contains(&self, number: u64) -> bool {
        match self.ranges.last() {
            None => false,
            Some(&(low, high)) if number >= low => number <= high,
            Some(_) => {
                let after = self.ranges.partition_point(|&(low, _)| low <= number);
                after > 0 && number <= self.ranges[after - 1].1
            }
        }
    }

    /// Whether `low..=high` overlaps or adjoins an existing range: adding it creates no new one.
    pub(crate) fn touches(&self, low: u64, high: u64) -> bool {
        let first = self.ranges.partition_point(|&(_, end)| end.saturating_add(1) < low);
        self.ranges.get(first).is_some_and(|&(start, _)| start <= high.saturating_add(1))
    }

    /// Adds one number; false if it was there.
    pub fn insert(&mut self, number: u64) -> bool {
        if self.contains(number) {
            return false;
        }
        self.insert_range(number, number);
        true
    }

    /// Adds `low..=high`.
    pub fn insert_range(&mut self, low: u64, high: u64) {
        debug_assert!(0 < low && low <= high);
        if let Some(last) = self.ranges.last_mut()
            && low == last.1 + 1
        {
            last.1 = high;
            return;
        }
        // The ranges that adjoin or overlap [low - 1, high + 1] become one.
        let first = self.ranges.partition_point(|&(_, end)| end.saturating_add(1) < low);
        let past = self.ranges.partition_point(|&(start, _)| start <= high.saturating_add(1));
        if first == past {
            self.ranges.insert(first, (low, high));
        } else {
            let merged = (low.min(self.ranges[first].0), high.max(self.ranges[past - 1].1));
            self.ranges[first] = merged;
            self.ranges.drain(first + 1..past);
        }
        debug_assert!(self.is_valid_at(first, low, high), "{low}..={high} broke the order of ranges");
    }

    /// Whether the range at `at` covers `low..=high` and leaves a hole to those beside it.
    fn is_valid_at(&self, at: usize, low: u64, high: u64) -> bool {
        let (from, to) = self.ranges[at];
        let before = at.checked_sub(1).map(|before| self.ranges[before].1);
        let after = self.ranges.get(at + 1).map(|&(after, _)| after);
        from <= low
            && high <= to
            && before.is_none_or(|before| before.saturating_add(1) < from)
            && after.is_none_or(|after| to.saturating_add(1) < after)
    }

    /// Removes one number; false if it was not there.
    pub fn remove(&mut self, number: u64) -> bool {
        let after = self.ranges.partition_point(|&(low, _)| low <= number);
        let Some(at) = after.checked_sub(1) else { return false };
        let (low, high) = self.ranges[at];
        if number > high {
            return false;
        }
        match (low == number, high == number) {
            (true, true) => {
                self.ranges.remove(at);
            }
            (true, false) => self.ranges[at].0 = number + 1,
            (false, true) => self.ranges[at].1 = number - 1,
            (false, false) => {
                self.ranges[at].1 = number - 1;
                self.ranges.insert(at + 1, (number + 1, high));
            }
        }
        true
    }

    /// The set without these numbers, which are ascending.
    pub(crate) fn without(&self, numbers: &[u64]) -> Ranges {
        let mut ranges = Vec::new();
        let mut numbers = numbers.iter().copied().peekable();
        for &(low, high) in &self.ranges {
            let mut from = low;
            while let Some(number) = numbers.next_if(|&number| number <= high) {
                if number > from {
                    ranges.push((from, number - 1));
                }
                from = from.max(number + 1);
            }
            if from <= high {
                ranges.push((from, high));
            }
        }
        Ranges { ranges }
    }

    /// The first range of numbers, at or above `from`, that is in this set and not in `other`.
    pub fn first_beyond(&self, other: &Ranges, from: u64) -> Option<(u64, u64)> {
        let mut from = from;
        let mut mine = self.ranges.partition_point(|&(_, high)| high < from);
        let mut theirs = other.ranges.partition_point(|&(_, high)| high < from);
        while let Some(&(low, high)) = self.ranges.get(mine) {
            from = from.max(low);
            if from > high {
                mine += 1;
                continue;
            }
            match other.ranges.get(theirs) {
                Some(&(_, end)) if end < from => theirs += 1,
                Some(&(start, end)) if start <= from => from = end + 1,
                Some(&(start, _)) => return Some((from, high.min(start - 1))),
                None => return Some((from, high)),
            }
        }
        None
    }

    /// The numbers that are in this set and not in `other`.
    pub(crate) fn beyond(&self, other: &Ranges) -> Ranges {
        let mut ranges = Vec::new();
        let mut from = 1;
        while let Some((low, high)) = self.first_beyond(other, from) {
            ranges.push((low, high));
            from = high + 1;
        }
        Ranges { ranges }
    }

    /// How many numbers are in this set and not in `other`.
    pub fn count_beyond(&self, other: &Ranges) -> u64 {
        let mut count = 0;
        let mut from = 1;
        while let Some((low, high)) = self.first_beyond(other, from) {
            count += high - low + 1;
            from = high + 1;
        }
        count
    }

    /// Whether every number of this set is in `other`.
    pub fn is_subset_of(&self, other: &Ranges) -> bool {
        self.first_beyond(other, 1).is_none()
    }

    /// The part of the set within `low..=high`.
    pub fn within(&self, low: u64, high: u64) -> Ranges {
        let first = self.ranges.partition_point(|&(_, end)| end < low);
        let ranges = self.ranges[first..]
            .iter()
            .take_while(|&&(start, _)| start <= high)
            .map(|&(start, end)| (start.max(low), end.min(high)))
            .collect();
        Ranges { ranges }
    }

    /// Adds all of `other`.
    pub fn union(&mut self, other: &Ranges) {
        for &(low, high) in &other.ranges {
            self.insert_range(low, high);
        }
    }

    /// A superset with at most `most` ranges, at least one: the lowest holes are filled.
    pub(crate) fn coarse(&self, most: usize) -> Ranges {
        let filled = self.ranges.len().saturating_sub(most.max(1));
        let mut ranges = self.ranges[filled..].to_vec();
        if let (Some(first), Some(&(low, _))) = (ranges.first_mut(), self.ranges.first()) {
            first.0 = low;
        }
        Ranges { ranges }
    }

    /// A digest of the set: equal sets have equal digests, different sets differ except with a probability of
    /// 2⁻⁶⁴. O(r) for r ranges; r is 1 for a set without holes.
    pub fn digest(&self) -> u64 {
        self.ranges.iter().fold(0, |digest, &(low, high)| mix(digest ^ mix(low) ^ mix(high).rotate_left(32)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(numbers: &BTreeSet<u64>) -> Ranges {
        let mut ranges = Ranges::default();
        for &number in numbers {
            ranges.insert(number);
        }
        ranges
    }

    fn numbers() -> impl Strategy<Value = BTreeSet<u64>> {
        proptest::collection::btree_set(1u64..60, 0..50)
    }

    fn members(ranges: &Ranges) -> BTreeSet<u64> {
        ranges.as_slice().iter().flat_map(|&(low, high)| low..=high).collect()
    }

    proptest! {
        #[test]
        fn without_numbers_it_is_the_set_without_them(all in numbers(), out in numbers()) {
            let left: BTreeSet<u64> = all.difference(&out).copied().collect();
            let out: Vec<u64> = out.into_iter().collect();
            prop_assert_eq!(set(&all).without(&out), set(&left));
        }

        #[test]
        fn behaves_like_a_set(operations in proptest::collection::vec((0u8..3, 1u64..40, 0u64..6), 0..60)) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (operation, number, more) in operations {
                match operation {
                    0 => prop_assert_eq!(ranges.insert(number), model.insert(number)),
                    1 => prop_assert_eq!(ranges.remove(number), model.remove(&number)),
                    _ => {
                        ranges.insert_range(number, number + more);
                        model.extend(number..=number + more);
                    }
                }
                prop_assert_eq!(Ranges::checked(ranges.ranges.clone()), Some(ranges.clone()));
                prop_assert_eq!(members(&ranges), model.clone());
                prop_assert_eq!(ranges.count(), model.len() as u64);
                prop_assert_eq!(ranges.highest(), model.last().copied().unwrap_or(0));
                for number in 0..50 {
                    prop_assert_eq!(ranges.contains(number), model.contains(&number));
                }
                let holes = model.last().is_some_and(|&last| (model.len() as u64) < last);
                prop_assert_eq!(ranges.has_holes(), holes);
            }
        }

        #[test]
        fn difference_union_and_part(a in numbers(), b in numbers(), low in 1u64..60, more in 0u64..30) {
            let only_a: BTreeSet<u64> = a.difference(&b).copied().collect();
            prop_assert_eq!(members(&set(&a).beyond(&set(&b))), only_a);
            let (left, right) = (set(&a), set(&b));
            let mut difference = Ranges::default();
            let mut from = 1;
            while let Some((low, high)) = left.first_beyond(&right, from) {
                difference.insert_range(low, high);
                from = high + 1;
            }
            prop_assert_eq!(members(&difference), a.difference(&b).copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(left.count_beyond(&right), a.difference(&b).count() as u64);
            prop_assert_eq!(left.is_subset_of(&right), a.is_subset(&b));
            let mut union = left.clone();
            union.union(&right);
            prop_assert_eq!(members(&union), a.union(&b).copied().collect::<BTreeSet<_>>());
            let part = left.within(low, low + more);
            prop_assert_eq!(members(&part), a.range(low..=low + more).copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(left.digest() == right.digest(), a == b);
        }
    }

    #[test]
    fn a_coarse_set_has_fewer_ranges_and_all_numbers() {
        let fine = set(&BTreeSet::from([2, 4, 6, 7, 9]));
        assert_eq!(fine.coarse(2).as_slice(), [(2, 7), (9, 9)]);
        assert_eq!(fine.coarse(4), fine);
        assert_eq!(Ranges::default().coarse(2), Ranges::default());
    }

    #[test]
    fn ranges_from_outside_are_checked() {
        assert!(Ranges::checked(vec![(1, 3), (5, 5)]).is_some());
        assert!(Ranges::checked(vec![(0, 3)]).is_none(), "numbers start at 1");
        assert!(Ranges::checked(vec![(1, 3), (4, 5)]).is_none(), "adjacent ranges are one");
        assert!(Ranges::checked(vec![(3, 1)]).is_none(), "inverted");
        assert!(Ranges::checked(vec![(5, 6), (1, 2)]).is_none(), "descending");
        assert!(Ranges::checked(vec![(1, u64::MAX)]).is_none(), "no number may follow");
    }
}
