//! A set of names that supports uniform random sampling.

use std::collections::BTreeMap;

use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use wire::NodeName;

/// A set of names with insert and remove in O(log n) and sampling of m names in O(m).
#[derive(Debug, Default)]
pub(crate) struct SampleSet {
    names: Vec<NodeName>,
    indices: BTreeMap<NodeName, usize>,
}

impl SampleSet {
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn names(&self) -> &[NodeName] {
        &self.names
    }

    pub(crate) fn insert(&mut self, name: &NodeName) {
        if !self.indices.contains_key(name) {
            self.indices.insert(name.clone(), self.names.len());
            self.names.push(name.clone());
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if let Some(index) = self.indices.remove(name) {
            self.names.swap_remove(index);
            if let Some(moved) = self.names.get(index) {
                self.indices.insert(moved.clone(), index);
            }
        }
    }

    /// min(count, n) distinct names, where n is the number of names that are not excluded; every
    /// choice is equally likely.
    pub(crate) fn sample(&self, count: usize, exclude: &[&NodeName], rng: &mut ChaCha8Rng) -> Vec<NodeName> {
        // Drawing as many more names as are excluded suffices, and a uniform sample from which
        // excluded names are dropped remains uniform.
        let drawn = count.saturating_add(exclude.len()).min(self.names.len());
        index::sample(rng, self.names.len(), drawn)
            .into_iter()
            .map(|index| &self.names[index])
            .filter(|name| !exclude.contains(name))
            .take(count)
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use std::collections::BTreeSet;

    fn name(number: usize) -> NodeName {
        NodeName::new(&format!("n{number}")).expect("valid")
    }

    fn filled(count: usize) -> SampleSet {
        let mut set = SampleSet::default();
        (0..count).for_each(|number| set.insert(&name(number)));
        set
    }

    proptest! {
        #[test]
        fn a_sample_has_the_requested_size_or_all_names(
            count in 0usize..40, wanted in 0usize..50, excluded in 0usize..5, seed in any::<u64>()
        ) {
            let set = filled(count);
            let excluded = (0..excluded).map(|number| name(number * 3)).collect::<Vec<_>>();
            let left = (0..count).filter(|number| !excluded.contains(&name(*number))).count();
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let drawn = set.sample(wanted, &excluded.iter().collect::<Vec<_>>(), &mut rng);
            prop_assert_eq!(drawn.len(), wanted.min(left));
            prop_assert!(drawn.iter().all(|name| !excluded.contains(name)));
            prop_assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), drawn.len(), "no name twice");
        }

        #[test]
        fn the_set_equals_a_model_of_its_operations(
            operations in proptest::collection::vec((any::<bool>(), 0usize..12), 0..80)
        ) {
            let (mut set, mut model) = (SampleSet::default(), BTreeSet::new());
            for (insert, number) in operations {
                if insert {
                    set.insert(&name(number));
                    model.insert(name(number));
                } else {
                    set.remove(name(number).as_str());
                    model.remove(name(number).as_str());
                }
                prop_assert_eq!(set.names().iter().cloned().collect::<BTreeSet<_>>(), model.clone());
                prop_assert_eq!(set.len(), model.len());
            }
        }
    }

    #[test]
    fn every_name_is_drawn_equally_often() {
        let set = filled(20);
        let excluded = name(7);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut counts = BTreeMap::<NodeName, u32>::new();
        for _ in 0..19_000 {
            for drawn in set.sample(3, &[&excluded], &mut rng) {
                *counts.entry(drawn).or_default() += 1;
            }
        }
        assert_eq!(counts.len(), 19, "all but the excluded one");
        // 3,000 expected for each, with a standard deviation of about 50.
        assert!(counts.values().all(|count| (2700..3300).contains(count)), "{counts:?}");
    }
}
