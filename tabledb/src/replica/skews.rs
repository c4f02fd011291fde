//! By how much the wall clocks of peers differ from ours, for a person to read.
//!
//! Nothing is decided by it: each time is judged for itself. But a node whose clock is hours ahead is not believed by the others,
//! and somebody has to set that clock.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use wire::NodeName;

/// From here on a difference is logged and counted: within it, an ordinary clock is right, and whatever is on its way for long.
const NOTABLE: Duration = Duration::from_secs(60);

/// So often a difference is logged.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// What is known of the clocks of peers.
#[derive(Default)]
pub(crate) struct Skews {
    /// Microseconds by which each peer's clock was ahead of ours when it told last, or behind.
    ahead: BTreeMap<NodeName, i64>,
    logged_at: Option<Instant>,
}

impl fmt::Debug for Skews {
    /// Without what depends on how long messages take: replicas that differ in nothing else are the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Skews").finish_non_exhaustive()
    }
}

/// How far the clocks of peers are from ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockSkew {
    /// The greatest difference between a peer's wall clock and ours, either way.
    pub largest: Duration,
    /// How many peers differ by more than a minute.
    pub peers_beyond: usize,
}

/// Whether two wall clocks, in microseconds, show something else.
pub(crate) fn is_notable(one: u64, other: u64) -> bool {
    Duration::from_micros(one.abs_diff(other)) > NOTABLE
}

impl Skews {
    /// A peer has told its wall time; ours was `wall`. The peer is one that membership knows: there are no more of them than members.
    pub(crate) fn note(&mut self, me: &NodeName, peer: &NodeName, theirs: u64, wall: u64, now: Instant) {
        let ahead = i64::try_from(i128::from(theirs) - i128::from(wall)).unwrap_or(i64::MAX);
        self.ahead.insert(peer.clone(), ahead);
        let off = Duration::from_micros(ahead.unsigned_abs());
        if !is_notable(theirs, wall) || self.logged_at.is_some_and(|at| now < at + LOG_PAUSE) {
            return;
        }
        self.logged_at = Some(now);
        let seconds = off.as_secs();
        let how = if ahead > 0 { "ahead of" } else { "behind" };
        tracing::warn!(
            node = me.as_str(),
            peer = peer.as_str(),
            "the clock of {peer} is {seconds} s {how} that of {me}; beyond an hour, what the one ahead writes is refused: set the clock"
        );
    }

    /// A peer is no member any more.
    pub(crate) fn forget(&mut self, peer: &str) {
        self.ahead.remove(peer);
    }

    /// For people and metrics.
    pub(crate) fn summary(&self) -> ClockSkew {
        let off = self.ahead.values().map(|ahead| Duration::from_micros(ahead.unsigned_abs()));
        ClockSkew {
            largest: off.clone().max().unwrap_or_default(),
            peers_beyond: off.filter(|off| *off > NOTABLE).count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only a starting point")]
    fn the_greatest_difference_either_way_is_kept_and_forgotten_with_the_peer() {
        let (now, name) = (Instant::now(), |text| NodeName::new(text).unwrap());
        let mut skews = Skews::default();
        assert_eq!(skews.summary(), ClockSkew::default());
        let hour = 3_600_000_000;
        skews.note(&name("me"), &name("near"), hour + 1_000_000, hour, now);
        skews.note(&name("me"), &name("ahead"), 2 * hour, hour, now);
        skews.note(&name("me"), &name("behind"), 0, hour + 60_000_001, now);
        let largest = Duration::from_secs(3660) + Duration::from_micros(1);
        assert_eq!(skews.summary(), ClockSkew { largest, peers_beyond: 2 });
        skews.note(&name("me"), &name("behind"), hour, hour, now);
        assert_eq!(skews.summary(), ClockSkew { largest: Duration::from_secs(3600), peers_beyond: 1 });
        skews.forget("ahead");
        assert_eq!(skews.summary(), ClockSkew { largest: Duration::from_secs(1), peers_beyond: 0 });
        skews.note(&name("me"), &name("absurd"), u64::MAX, 0, now);
        assert_eq!(skews.summary().peers_beyond, 1);
    }
}
