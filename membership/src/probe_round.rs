//! Round-robin probe order: every member is probed once per shuffled round, which bounds the time
//! until a failure is first detected (Das et al. 2002, section 4.3).

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use wire::NodeName;

use crate::roster::Roster;

/// The current round.
#[derive(Debug, Default)]
pub(crate) struct ProbeRound {
    order: Vec<NodeName>,
    next: usize,
}

impl ProbeRound {
    /// Inserts a new member at a random position in the remainder of the round.
    pub(crate) fn insert(&mut self, name: NodeName, active: usize, rng: &mut ChaCha8Rng) {
        // Churn within a round must not make it grow without bound: the next call starts a new
        // round.
        if self.order.len() > 2 * active + 16 {
            self.order.clear();
            self.next = 0;
            return;
        }
        self.order.push(name);
        let last = self.order.len() - 1;
        let index = rng.random_range(self.next..=last);
        self.order.swap(index, last);
    }

    /// The next member to probe.
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

    /// Like [`Self::next`], but prefers members of the remaining round to which a connection
    /// exists.
    pub(crate) fn next_connected(&mut self, roster: &Roster, rng: &mut ChaCha8Rng) -> Option<NodeName> {
        let waiting = self.order.iter().skip(self.next);
        let wanted =
            |name: &NodeName| roster.reachable_without_handshake(name) && roster.is_active(name.as_str());
        if let Some(index) = waiting.into_iter().position(wanted) {
            self.order.swap(self.next, self.next + index);
        }
        self.next(roster, rng)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }
}
