//! In which order members are probed: a shuffled round, so that each is probed once in every round and the time until
//! a failure is first noticed is bounded (Das et al. 2002, section 4.3).

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use wire::NodeName;

use crate::roster::Roster;

/// The present round.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    order: Vec<NodeName>,
    next: usize,
}

impl Ring {
    /// Puts a new member at a random place in what is left of the round.
    pub(crate) fn insert(&mut self, name: NodeName, active: usize, rng: &mut ChaCha8Rng) {
        // Members that come and go within a round must not make it grow for ever: the next one starts afresh.
        if self.order.len() > 2 * active + 16 {
            self.order.clear();
            self.next = 0;
            return;
        }
        self.order.push(name);
        let last = self.order.len() - 1;
        let place = rng.random_range(self.next..=last);
        self.order.swap(place, last);
    }

    /// The member to be probed next.
    pub(crate) fn next(&mut self, roster: &Roster, rng: &mut ChaCha8Rng) -> Option<NodeName> {
        for _ in 0..2 {
            while let Some(name) = self.order.get(self.next) {
                self.next += 1;
                if roster.is_active(name.as_str()) {
                    return Some(name.clone());
                }
            }
            self.order = roster.active().names().to_vec();
            self.order.shuffle(rng);
            self.next = 0;
        }
        None
    }

    /// The same, but of those whose turn has not come in this round first those with whom there is a connection.
    pub(crate) fn next_near(&mut self, roster: &Roster, rng: &mut ChaCha8Rng) -> Option<NodeName> {
        let waiting = self.order.iter().skip(self.next);
        let wanted = |name: &NodeName| roster.is_near(name) && roster.is_active(name.as_str());
        if let Some(place) = waiting.into_iter().position(wanted) {
            self.order.swap(self.next, self.next + place);
        }
        self.next(roster, rng)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }
}
