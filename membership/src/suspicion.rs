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
}

impl Suspicion {
    /// `members` counts all active members, this node included.
    pub(crate) fn new(config: &Config, members: usize, accuser: NodeName, now: Instant) -> Self {
        let nodes = (members.max(1) as f64).log10().max(1.0);
        let shortest = config.probe_interval.mul_f64(nodes * f64::from(config.suspicion_multiplier));
        // With fewer others than confirmations wanted there is nobody to wait for.
        let wanted = (config.suspicion_multiplier as usize).saturating_sub(2);
        let wanted = if members.saturating_sub(2) < wanted { 0 } else { wanted };
        let longest = if wanted == 0 { shortest } else { shortest * config.suspicion_max_multiplier };
        Self {
            started: now,
            lost: Duration::ZERO,
            shortest,
            longest,
            wanted,
            accusers: BTreeSet::from([accuser]),
        }
    }

    /// Counts an accuser; true if it is a new one whose confirmation matters.
    pub(crate) fn confirm(&mut self, accuser: &NodeName) -> bool {
        self.accusers.len() <= self.wanted && self.accusers.insert(accuser.clone())
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
        suspicion.deadline().duration_since(start()).as_secs_f64()
    }

    #[test]
    fn confirmations_shorten_it_logarithmically_from_six_times_the_least() {
        let mut suspicion = Suspicion::new(&Config::lan(), 10, name("a"), start());
        assert_eq!(lasts(&suspicion), 24.0);
        assert!(!suspicion.confirm(&name("a")), "the same accuser twice is one accuser");
        assert_eq!(lasts(&suspicion), 24.0);
        assert!(suspicion.confirm(&name("b")));
        let expected = 24.0 - 20.0 * 2f64.ln() / 3f64.ln();
        assert!((lasts(&suspicion) - expected).abs() < 0.001, "{}", lasts(&suspicion));
        assert!(suspicion.confirm(&name("c")));
        assert_eq!(lasts(&suspicion), 4.0);
        assert!(!suspicion.confirm(&name("d")), "more than enough");
        assert_eq!(lasts(&suspicion), 4.0);
    }

    #[test]
    fn it_grows_with_the_logarithm_of_the_cluster() {
        let mut suspicion = Suspicion::new(&Config::lan(), 1000, name("a"), start());
        suspicion.confirm(&name("b"));
        suspicion.confirm(&name("c"));
        assert!((lasts(&suspicion) - 12.0).abs() < 0.001);
    }

    #[test]
    fn without_others_to_confirm_it_has_its_shortest_length() {
        assert_eq!(lasts(&Suspicion::new(&Config::lan(), 3, name("a"), start())), 4.0);
        assert_eq!(lasts(&Suspicion::new(&Config::lan(), 4, name("a"), start())), 24.0);
    }

    #[test]
    fn time_in_which_this_process_stood_still_does_not_count() {
        let mut suspicion = Suspicion::new(&Config::lan(), 2, name("a"), start());
        suspicion.prolong(Duration::from_secs(30));
        assert_eq!(lasts(&suspicion), 34.0);
    }
}
