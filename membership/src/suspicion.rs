//! Suspicion timeouts (Dadgar et al. 2018, section IV-B).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use wire::NodeName;

use crate::config::Config;

/// A running suspicion. The more members suspect independently, the sooner it ends.
#[derive(Debug, Clone)]
pub(crate) struct Suspicion {
    started: Instant,
    /// How long this process stalled since then: time in which it could not read a refutation.
    lost: Duration,
    shortest: Duration,
    longest: Duration,
    wanted: usize,
    accusers: BTreeSet<NodeName>,
    /// A peer has reported the member as failed: no further confirmations are needed.
    failed_reported: bool,
}

impl Suspicion {
    /// `members` counts all active members including this node. `able` of them are not suspected
    /// themselves and can confirm the suspicion; this includes the accuser.
    pub(crate) fn new(config: &Config, members: usize, able: usize, accuser: NodeName, now: Instant) -> Self {
        // The suspect needs time to answer, and its refutation must reach all members, if necessary
        // by periodic gossip alone.
        let spreading = config.gossip_interval.mul_f64(2.0 * (members.max(1) as f64).log10());
        let shortest = config.probe_interval * config.suspicion_multiplier + spreading;
        let mut suspicion = Self {
            started: now,
            lost: Duration::ZERO,
            shortest,
            longest: shortest * config.suspicion_max_multiplier,
            wanted: config.suspicion_confirmations,
            accusers: BTreeSet::from([accuser]),
            failed_reported: false,
        };
        suspicion.expect_no_more_than(able);
        suspicion
    }

    /// Records an accuser. Returns true if it is new and its confirmation matters.
    pub(crate) fn confirm(&mut self, accuser: &NodeName) -> bool {
        self.accusers.len() <= self.wanted && self.accusers.insert(accuser.clone())
    }

    /// How many confirmations are missing.
    pub(crate) fn missing(&self) -> usize {
        (self.wanted + 1).saturating_sub(self.accusers.len())
    }

    /// Whether this member is one of the accusers.
    pub(crate) fn is_by(&self, accuser: &NodeName) -> bool {
        self.accusers.contains(accuser)
    }

    /// Limits the expected accusers to `able` members, the first accuser included.
    pub(crate) fn expect_no_more_than(&mut self, able: usize) {
        self.wanted = self.wanted.min(able.saturating_sub(1));
    }

    /// Handles the claim of a peer that the member has failed. The suspicion timed out at that
    /// peer, so only the time for a refutation remains. If the member was heard from after this
    /// suspicion began, that time starts now. Otherwise `enough` limits it, if given: after a
    /// crash, other members have already waited for the full suspicion timeout.
    pub(crate) fn shorten_for_failed_report(
        &mut self,
        last_seen: Option<Instant>,
        enough: Option<Duration>,
        now: Instant,
    ) {
        if self.failed_reported {
            return;
        }
        self.failed_reported = true;
        self.wanted = 0;
        if self.was_heard_from(last_seen) {
            (self.started, self.lost) = (now, Duration::ZERO);
        } else if let Some(enough) = enough {
            self.shortest = self.shortest.min(enough);
        }
    }

    /// How long it has run, without the time in which this process stalled.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started + self.lost)
    }

    /// Whether this node heard from the suspect after the suspicion began.
    pub(crate) fn was_heard_from(&self, last_seen: Option<Instant>) -> bool {
        last_seen.is_some_and(|at| at > self.started)
    }

    /// Extends the suspicion by the time this process stalled.
    pub(crate) fn prolong(&mut self, by: Duration) {
        self.lost += by;
    }

    pub(crate) fn deadline(&self) -> Instant {
        let confirmations = self.accusers.len() - 1;
        let share = match self.wanted {
            0 => 1.0,
            wanted => ((confirmations + 1) as f64).ln() / ((wanted + 1) as f64).ln(),
        };
        let shrunk = self.longest - (self.longest - self.shortest).mul_f64(share.clamp(0.0, 1.0));
        self.started + self.lost + shrunk.max(self.shortest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{name, start};

    fn lasts(suspicion: &Suspicion) -> f64 {
        let millis = suspicion.deadline().duration_since(start()).as_secs_f64() * 1000.0;
        millis.round() / 1000.0
    }

    fn among(members: usize, able: usize) -> Suspicion {
        Suspicion::new(&Config::lan(), members, able, name("a"), start())
    }

    #[test]
    fn confirmations_shorten_it_logarithmically_from_six_times_the_least() {
        let mut suspicion = among(10, 9);
        assert_eq!(lasts(&suspicion), 20.4);
        assert!(!suspicion.confirm(&name("a")), "the same accuser twice is one accuser");
        assert_eq!(lasts(&suspicion), 20.4);
        assert!(suspicion.confirm(&name("b")));
        assert_eq!(lasts(&suspicion), 11.9, "half of the way at the second of four accusers");
        assert!(suspicion.confirm(&name("c")) && suspicion.confirm(&name("d")));
        assert_eq!(lasts(&suspicion), 3.4);
        assert!(!suspicion.confirm(&name("e")), "more than enough");
        assert_eq!(lasts(&suspicion), 3.4);
    }

    #[test]
    fn it_grows_by_the_time_a_refutation_needs_to_spread() {
        for (members, least) in [(2, 3.12), (100, 3.8), (1000, 4.2), (10_000, 4.6)] {
            let mut suspicion = among(members, members - 1);
            for accuser in ["b", "c", "d"] {
                suspicion.confirm(&name(accuser));
            }
            assert_eq!(lasts(&suspicion), least, "{members}");
        }
    }

    #[test]
    fn it_waits_for_no_more_members_than_can_confirm_it() {
        assert_eq!(lasts(&among(2, 1)), 3.12);
        let mut one_other = among(3, 2);
        assert!(lasts(&one_other) > 18.0);
        one_other.confirm(&name("b"));
        assert_eq!(lasts(&one_other), 3.191);
        let mut left_alone = among(10, 9);
        left_alone.expect_no_more_than(1);
        assert_eq!(lasts(&left_alone), 3.4);
        left_alone.expect_no_more_than(9);
        assert_eq!(lasts(&left_alone), 3.4, "it does not grow again");
    }

    #[test]
    fn time_in_which_this_process_stalled_does_not_count() {
        let mut suspicion = among(2, 1);
        suspicion.prolong(Duration::from_secs(30));
        assert_eq!(lasts(&suspicion), 33.12);
    }
}
