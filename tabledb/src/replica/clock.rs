//! The Lamport clock that versions are taken from.

use std::time::{Duration, Instant};

/// A Lamport clock (Lamport 1978) that is never behind the wall time at start-up plus the monotonic time since, in
/// microseconds since 1970.
///
/// The wall time keeps a newcomer's writes from being born older than what the cluster holds; the monotonic time keeps
/// a step of the wall clock from doing harm. One clock serves all networks of a node: a network that is left and
/// joined again then needs no memory of its own.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    last: u64,
    wall_at_start: u64,
    started: Instant,
}

/// How far ahead of our own wall time a peer may push the clock: one hour. Beyond it, one broken clock or one
/// malicious peer could write versions that nobody can ever overwrite.
pub(crate) const MAX_LEAD: Duration = Duration::from_secs(3600);

impl Clock {
    /// A clock that starts at `started`, when the wall showed `wall` since 1970.
    pub(crate) fn new(started: Instant, wall: Duration) -> Self {
        let wall_at_start = wall.as_micros() as u64;
        Self { last: wall_at_start, wall_at_start, started }
    }

    fn wall(&self, now: Instant) -> u64 {
        self.wall_at_start + now.saturating_duration_since(self.started).as_micros() as u64
    }

    /// The time for a new write: later than anything seen.
    pub(crate) fn tick(&mut self, now: Instant) -> u64 {
        self.last = (self.last + 1).max(self.wall(now));
        self.last
    }

    /// Whether `time` is believable: not further ahead of the wall than [`MAX_LEAD`].
    pub(crate) fn believes(&self, time: u64, now: Instant) -> bool {
        time <= self.wall(now) + MAX_LEAD.as_micros() as u64
    }

    /// Takes note of a time somebody else used; the caller has asked [`believes`](Self::believes).
    pub(crate) fn observe(&mut self, time: u64) {
        self.last = self.last.max(time);
    }

    /// The greatest time used or seen.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only a starting point")]
    fn grows_with_every_write_every_observation_and_the_wall() {
        let start = Instant::now();
        let mut clock = Clock::new(start, Duration::from_secs(1000));
        let first = clock.tick(start);
        assert!(first > 1_000_000_000);
        assert_eq!(clock.tick(start), first + 1);
        clock.observe(first + 500);
        assert_eq!(clock.tick(start), first + 501);
        let later = start + Duration::from_secs(1);
        assert_eq!(clock.tick(later), 1_001_000_000);
        clock.observe(5);
        assert_eq!(clock.last(), 1_001_000_000, "never goes back");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only a starting point")]
    fn does_not_believe_the_far_future() {
        let start = Instant::now();
        let clock = Clock::new(start, Duration::from_secs(1000));
        assert!(clock.believes(4_600_000_000, start));
        assert!(!clock.believes(4_600_000_001, start));
        assert!(clock.believes(4_600_000_001, start + Duration::from_millis(1)));
    }
}
