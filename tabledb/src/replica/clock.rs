//! The hybrid logical clock that gives versions their time.

use std::time::{Duration, Instant};

/// A hybrid logical clock (Kulkarni et al. 2014): a Lamport clock that is never behind the wall clock, in
/// microseconds since 1970.
///
/// The wall clock ensures that a new node's writes are not older than existing ones. It is read repeatedly,
/// since the monotonic clock stops while a host sleeps. A step back of the wall clock changes neither the
/// time of our writes nor which times of others we accept. One clock serves all networks of a node, so a
/// network that is left and joined again needs no stored clock.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Clock {
    last: u64,
    /// The latest reading of the wall clock, and when it was made.
    wall: (u64, Instant),
    /// The greatest reading of the wall clock, and when it was made. The times of other nodes are checked
    /// against it plus the monotonic time since.
    greatest: (u64, Instant),
}

/// The maximum by which a peer may push the clock ahead of our own wall time: one hour. Without it, one
/// broken clock or one malicious peer could write versions that no node can overwrite.
pub(crate) const MAX_LEAD: Duration = Duration::from_secs(3600);

/// Within this time, a burst of writes uses the monotonic clock alone: reading another clock for each write
/// would be noticeable.
const READ_EVERY: Duration = Duration::from_millis(1);

/// The time at `now` of a clock that showed `time` at `at`, by the monotonic clock.
fn continued((time, at): (u64, Instant), now: Instant) -> u64 {
    if now == at {
        // The common case: the wall clock has just been read for this write.
        return time;
    }
    time.saturating_add(now.saturating_duration_since(at).as_micros() as u64)
}

impl Clock {
    /// A clock that starts at `started`, when the wall showed `wall` since 1970.
    pub(crate) fn new(started: Instant, wall: Duration) -> Self {
        let reading = (wall.as_micros() as u64, started);
        Self { last: reading.0, wall: reading, greatest: reading }
    }

    /// Whether the last reading of the wall clock is old enough for another.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.wall.1) >= READ_EVERY
    }

    /// The wall clock was read.
    pub(crate) fn read(&mut self, wall: Duration, now: Instant) {
        let wall = wall.as_micros() as u64;
        self.wall = (wall, now);
        self.greatest = (continued(self.greatest, now).max(wall), now);
    }

    /// The wall time, in microseconds since 1970.
    pub(crate) fn wall(&self, now: Instant) -> u64 {
        continued(self.wall, now)
    }

    /// How long before `now` the wall showed `time`; 0 if it has not shown it yet.
    pub(crate) fn since(&self, time: u64, now: Instant) -> Duration {
        Duration::from_micros(self.wall(now).saturating_sub(time))
    }

    /// The time of a new write: later than any time seen.
    pub(crate) fn tick(&mut self, now: Instant) -> u64 {
        self.last = (self.last + 1).max(self.wall(now));
        self.last
    }

    /// Whether `time` is acceptable: at most [`MAX_LEAD`] ahead of the wall time.
    pub(crate) fn believes(&self, time: u64, now: Instant) -> bool {
        time <= continued(self.greatest, now).saturating_add(MAX_LEAD.as_micros() as u64)
    }

    /// Advances the clock to a time of another node; the caller has checked it with
    /// [`believes`](Self::believes).
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
    fn is_read_again_after_a_millisecond_and_goes_on_until_then() {
        let start = Instant::now();
        let mut clock = Clock::new(start, Duration::from_secs(1000));
        let within = start + Duration::from_micros(999);
        assert!(!clock.is_due(within));
        assert_eq!(clock.tick(within), 1_000_000_999);
        let after = start + Duration::from_millis(1);
        assert!(clock.is_due(after));
        clock.read(Duration::from_secs(1000), after);
        assert!(!clock.is_due(after));
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
    #[test]
    #[expect(clippy::disallowed_methods, reason = "only a starting point")]
    fn the_wall_clock_is_followed_when_the_monotonic_clock_stopped() {
        let start = Instant::now();
        let mut clock = Clock::new(start, Duration::from_secs(1000));
        // Two hours of sleep, in which the monotonic clock stopped.
        let awake = start + Duration::from_millis(1);
        clock.read(Duration::from_secs(8200), awake);
        assert!(clock.believes(8_200_000_000, awake));
        assert_eq!(clock.tick(awake), 8_200_000_000);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only a starting point")]
    fn a_step_back_takes_back_neither_our_time_nor_what_we_believe() {
        let start = Instant::now();
        let mut clock = Clock::new(start, Duration::from_secs(10_000));
        let before = clock.tick(start);
        let later = start + Duration::from_secs(60);
        clock.read(Duration::from_secs(2800), later);
        assert_eq!(clock.tick(later), before + 1);
        assert!(clock.believes(10_060_000_000, later), "the others' clocks were not set back");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only a starting point")]
    fn a_wrong_time_that_nothing_was_written_at_is_gone_when_the_clock_is_right_again() {
        let start = Instant::now();
        let mut clock = Clock::new(start, Duration::from_secs(1000));
        clock.read(Duration::from_secs(1_000_000), start);
        clock.read(Duration::from_secs(1001), start);
        assert_eq!(clock.tick(start), 1_001_000_000);
    }
}
