//! How long a suspect has to object (Dadgar et al. 2018, section IV-B).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use wire::NodeName;

use crate::config::Config;

/// A suspicion under way: the more members suspect independently, the sooner it ends.
#[derive(Debug, Clone)]
pub(crate) struct Suspicion {
    started: Instant,
    /// How long this process stood still since: time in which no objection could be read.
    lost: Duration,
    shortest: Duration,
    longest: Duration,
    wanted: usize,
    accusers: BTreeSet<NodeName>,
    /// Somebody's suspicion of it has run out: no confirmations are waited for.
    judged: bool,
}

impl Suspicion {
    /// `members` counts all active members, this node included; of them, `able` are not suspected themselves and can
    /// confirm it, the accuser included.
    pub(crate) fn new(config: &Config, members: usize, able: usize, accuser: NodeName, now: Instant) -> Self {
        // The suspect needs time to answer, and its objection to reach everybody, if need be by the ticks.
        let spreading = config.gossip_interval.mul_f64(2.0 * (members.max(1) as f64).log10());
        let shortest = config.probe_interval * config.suspicion_multiplier + spreading;
        let mut suspicion = Self {
            started: now,
            lost: Duration::ZERO,
            shortest,
            longest: shortest * config.suspicion_max_multiplier,
            wanted: config.suspicion_confirmations,
            accusers: BTreeSet::from([accuser]),
            judged: false,
        };
        suspicion.expect_no_more_than(able);
        suspicion
    }

    /// Counts an accuser; true if it is a new one whose confirmation matters.
    pub(crate) fn confirm(&mut self, accuser: &NodeName) -> bool {
        self.accusers.len() <= self.wanted && self.accusers.insert(accuser.clone())
    }

    /// How many confirmations it still waits for.
    pub(crate) fn missing(&self) -> usize {
        (self.wanted + 1).saturating_sub(self.accusers.len())
    }

    /// Whether this member is one of those who suspect.
    pub(crate) fn is_by(&self, accuser: &NodeName) -> bool {
        self.accusers.contains(accuser)
    }

    /// There is nobody to wait for beyond `able` members, the first accuser included.
    pub(crate) fn expect_no_more_than(&mut self, able: usize) {
        self.wanted = self.wanted.min(able.saturating_sub(1));
    }

    /// Somebody claims that it has failed: a suspicion has run out there, and only the time to object is still waited
    /// for. If it was heard from since this one began, that time begins now. Else `enough` is enough, if it is given: with a
    /// crash, everybody else has given the suspect the whole time already.
    pub(crate) fn judge(&mut self, last_seen: Option<Instant>, enough: Option<Duration>, now: Instant) {
        if self.judged {
            return;
        }
        self.judged = true;
        self.wanted = 0;
        if self.is_doubted(last_seen) {
            (self.started, self.lost) = (now, Duration::ZERO);
        } else if let Some(enough) = enough {
            self.shortest = self.shortest.min(enough);
        }
    }

    /// For how long it has run, without the time in which no objection could be read.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started + self.lost)
    }

    /// Whether the suspect was heard from since it began.
    pub(crate) fn is_doubted(&self, last_seen: Option<Instant>) -> bool {
        last_seen.is_some_and(|at| at > self.started)
    }

    /// Adds time in which this process stood still.
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
    fn it_grows_by_the_time_an_objection_needs_to_spread() {
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
    fn time_in_which_this_process_stood_still_does_not_count() {
        let mut suspicion = among(2, 1);
        suspicion.prolong(Duration::from_secs(30));
        assert_eq!(lasts(&suspicion), 33.12);
    }
}
