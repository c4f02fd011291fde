//! Differences between the wall clocks of peers and ours, for operators.
//!
//! They do not influence the protocol, which checks each time by itself. But the other nodes refuse the
//! writes of a node whose clock is hours ahead, and an operator has to correct that clock.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use wire::NodeName;

/// A difference above this is logged and counted. Smaller ones may come from ordinary clocks and slow
/// messages.
const NOTABLE: Duration = Duration::from_secs(60);

/// The minimum pause between two log lines.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// The known differences per peer.
#[derive(Default)]
pub(crate) struct Skews {
    /// Microseconds by which each peer's clock was ahead of ours (negative: behind) at its latest report.
    ahead: BTreeMap<NodeName, i64>,
    logged_at: Option<Instant>,
}

impl fmt::Debug for Skews {
    /// Without values that depend on message delays: replicas that differ in nothing else print equally.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Skews").finish_non_exhaustive()
    }
}

#[cfg(test)]
impl std::hash::Hash for Skews {
    /// Without values, as in the debug form: nothing is decided by them.
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {
        let Self { ahead: _, logged_at: _ } = self;
    }
}

/// How far the clocks of peers are from ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockSkew {
    /// The greatest difference between a peer's wall clock and ours, either way.
    pub largest: Duration,
    /// The number of peers that differ by more than a minute.
    pub peers_beyond: usize,
}

/// Whether two wall clocks, in microseconds, differ notably.
pub(crate) fn is_notable(one: u64, other: u64) -> bool {
    Duration::from_micros(one.abs_diff(other)) > NOTABLE
}

impl Skews {
    /// A peer has reported its wall clock; ours showed `wall`. The peer is known to membership, which bounds
    /// the map.
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
            "the clock of {peer} is {seconds} s {how} that of {me}; \
             beyond an hour, writes of the node ahead are refused: correct the clock"
        );
    }

    /// A peer is no longer a member.
    pub(crate) fn forget(&mut self, peer: &str) {
        self.ahead.remove(peer);
    }

    /// The summary for operators and metrics.
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
