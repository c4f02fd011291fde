//! Instances of removed members, so that stale member lists cannot re-introduce them.
//!
//! In other systems nodes re-introduced dead members to each other for hours through full member
//! lists: each node removed them at a different time and learned them again from a peer that had
//! not. An instance recorded here is accepted as alive again only on proof: with a higher
//! incarnation or, if it had left, as a later instance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use wire::NodeName;

use crate::member::Standing;

/// Why a standing is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ClaimSource {
    /// A peer claimed it for a name that was not a member here.
    Reported,
    /// It was a member here and its retention expired.
    ForgottenHere,
}

/// The last standing of each name that is no longer a member.
#[derive(Debug)]
pub(crate) struct ForgottenInstances {
    by_name: BTreeMap<NodeName, (Standing, ClaimSource, Instant)>,
    by_time: BTreeSet<(Instant, NodeName)>,
    most: usize,
}

impl ForgottenInstances {
    pub(crate) fn new(most: usize) -> Self {
        Self { by_name: BTreeMap::new(), by_time: BTreeSet::new(), most }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Standing> {
        self.by_name.get(name).map(|(standing, ..)| *standing)
    }

    /// The standing of a member that this node removed.
    pub(crate) fn forgotten_here(&self, name: &str) -> Option<Standing> {
        let (standing, source, _) = self.by_name.get(name)?;
        (*source == ClaimSource::ForgottenHere).then_some(*standing)
    }

    /// Records the standing until `until`, unless a greater one is recorded. At capacity, the
    /// record that expires first is evicted.
    pub(crate) fn keep(&mut self, name: &NodeName, standing: Standing, source: ClaimSource, until: Instant) {
        if let Some((known, known_source, until)) = self.by_name.get(name).copied() {
            if (known, known_source) >= (standing, source) {
                return;
            }
            self.by_time.remove(&(until, name.clone()));
        }
        self.by_name.insert(name.clone(), (standing, source, until));
        self.by_time.insert((until, name.clone()));
        if self.by_name.len() > self.most
            && let Some((_, name)) = self.by_time.pop_first()
        {
            self.by_name.remove(&name);
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if let Some((name, (.., until))) = self.by_name.remove_entry(name) {
            self.by_time.remove(&(until, name));
        }
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((until, _)) = self.by_time.first()
            && *until <= now
            && let Some((_, name)) = self.by_time.pop_first()
        {
            self.by_name.remove(&name);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::State;
    use crate::tests::{name, start};
    use std::time::Duration;

    #[test]
    fn the_greatest_standing_is_kept_until_it_expires() {
        let second = Duration::from_secs(1);
        let mut forgotten = ForgottenInstances::new(10);
        let left = Standing::new(5, 0, State::Left);
        forgotten.keep(&name("a"), left, ClaimSource::ForgottenHere, start() + second);
        forgotten.keep(
            &name("a"),
            Standing::new(5, 9, State::Failed),
            ClaimSource::ForgottenHere,
            start() + second * 9,
        );
        assert_eq!(forgotten.get("a"), Some(left));
        forgotten.expire(start() + second / 2);
        assert_eq!(forgotten.get("a"), Some(left));
        forgotten.expire(start() + second);
        assert_eq!((forgotten.get("a"), forgotten.len(), forgotten.by_time.len()), (None, 0, 0));
    }

    #[test]
    fn its_size_is_bounded_and_the_oldest_goes_first() {
        let mut forgotten = ForgottenInstances::new(3);
        for number in 0..100u32 {
            let standing = Standing::new(1, 0, State::Failed);
            let until = start() + Duration::from_secs(number.into());
            forgotten.keep(&name(&format!("n{number}")), standing, ClaimSource::Reported, until);
        }
        assert_eq!((forgotten.len(), forgotten.by_time.len()), (3, 3));
        assert!(forgotten.get("n99").is_some() && forgotten.get("n96").is_none());
    }
}
