//! Which lives have been forgotten, so that nobody can teach them to us again.
//!
//! Full member lists used to re-teach the dead to each other for hours in other systems: each node forgot them at its
//! own time and learned them again from one that had not. A life remembered here is not believed alive again unless
//! it proves that it is: by a higher incarnation, or, if it had left, by a later life.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use wire::NodeName;

use crate::member::Standing;

/// How a standing came to be remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trace {
    /// Somebody claimed it of a name that was no member here.
    Heard,
    /// It was a member here, and its time was over.
    Forgotten,
}

/// The last standing of forgotten names.
#[derive(Debug)]
pub(crate) struct Memory {
    by_name: BTreeMap<NodeName, (Standing, Trace, Instant)>,
    by_time: BTreeSet<(Instant, NodeName)>,
    most: usize,
}

impl Memory {
    pub(crate) fn new(most: usize) -> Self {
        Self { by_name: BTreeMap::new(), by_time: BTreeSet::new(), most }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Standing> {
        self.by_name.get(name).map(|(standing, ..)| *standing)
    }

    /// The standing of a member that was forgotten here.
    pub(crate) fn forgotten(&self, name: &str) -> Option<Standing> {
        let (standing, trace, _) = self.by_name.get(name)?;
        (*trace == Trace::Forgotten).then_some(*standing)
    }

    /// Remembers the standing until then, unless a greater one is remembered. With no room the one that would go next
    /// goes now.
    pub(crate) fn keep(&mut self, name: &NodeName, standing: Standing, trace: Trace, until: Instant) {
        if let Some((held, held_trace, until)) = self.by_name.get(name).copied() {
            if (held, held_trace) >= (standing, trace) {
                return;
            }
            self.by_time.remove(&(until, name.clone()));
        }
        self.by_name.insert(name.clone(), (standing, trace, until));
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
    fn the_greatest_standing_stays_until_its_time_is_over() {
        let second = Duration::from_secs(1);
        let mut memory = Memory::new(10);
        let left = Standing::new(5, 0, State::Left);
        memory.keep(&name("a"), left, Trace::Forgotten, start() + second);
        memory.keep(&name("a"), Standing::new(5, 9, State::Failed), Trace::Forgotten, start() + second * 9);
        assert_eq!(memory.get("a"), Some(left));
        memory.expire(start() + second / 2);
        assert_eq!(memory.get("a"), Some(left));
        memory.expire(start() + second);
        assert_eq!((memory.get("a"), memory.len(), memory.by_time.len()), (None, 0, 0));
    }

    #[test]
    fn its_size_is_bounded_and_the_oldest_goes_first() {
        let mut memory = Memory::new(3);
        for number in 0..100u32 {
            let standing = Standing::new(1, 0, State::Failed);
            let until = start() + Duration::from_secs(number.into());
            memory.keep(&name(&format!("n{number}")), standing, Trace::Heard, until);
        }
        assert_eq!((memory.len(), memory.by_time.len()), (3, 3));
        assert!(memory.get("n99").is_some() && memory.get("n96").is_none());
    }
}
