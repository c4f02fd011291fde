//! The clocks of hosts. Each host has a monotonic clock, which stops while the host sleeps, and a
//! wall clock, which does not; both may drift, and the wall clock may be wrong and be set.

use std::time::{Duration, Instant};

use super::{Cluster, Peer, WALL_AT_START};

const MILLION: u128 = 1_000_000;

/// The clocks of one host.
#[derive(Debug, Clone)]
pub(crate) struct HostClock {
    /// The virtual time of the readings below.
    at: Duration,
    monotonic: Duration,
    /// Microseconds since 1970.
    wall: u64,
    /// By how many millionths both run fast.
    drift_ppm: i32,
    asleep: bool,
}

impl HostClock {
    /// Correct clocks.
    pub(crate) fn new(now: Duration) -> Self {
        let wall = WALL_AT_START + now.as_micros() as u64;
        Self { at: now, monotonic: now, wall, drift_ppm: 0, asleep: false }
    }

    fn elapsed(&self, now: Duration) -> Duration {
        let elapsed = now.saturating_sub(self.at).as_nanos();
        nanoseconds(elapsed * self.rate() / MILLION)
    }

    fn rate(&self) -> u128 {
        MILLION.saturating_add_signed(i128::from(self.drift_ppm)).max(1)
    }

    fn monotonic(&self, now: Duration) -> Duration {
        if self.asleep { self.monotonic } else { self.monotonic + self.elapsed(now) }
    }

    fn wall(&self, now: Duration) -> u64 {
        self.wall.saturating_add(self.elapsed(now).as_micros() as u64)
    }

    /// When the monotonic clock will show `monotonic`, if the host does not sleep.
    fn virtual_time(&self, monotonic: Duration) -> Duration {
        let ahead = monotonic.saturating_sub(self.monotonic).as_nanos();
        self.at + nanoseconds((ahead * MILLION).div_ceil(self.rate()))
    }

    /// Takes the present readings as the new starting point.
    fn settle(&mut self, now: Duration) {
        (self.monotonic, self.wall, self.at) = (self.monotonic(now), self.wall(now), now);
    }
}

fn nanoseconds(nanoseconds: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

impl Cluster {
    /// The monotonic time of a node's host.
    pub fn instant(&self, peer: Peer) -> Instant {
        self.base + self.nodes[peer.0].clock.monotonic(self.fabric.now())
    }

    /// The wall time of a node's host, in microseconds since 1970.
    pub fn wall(&self, peer: Peer) -> u64 {
        self.nodes[peer.0].clock.wall(self.fabric.now())
    }

    /// Sets the wall clock of a node's machine, as the production driver does before each call;
    /// returns the monotonic time for the call.
    pub(super) fn read_clocks(&mut self, peer: Peer) -> Instant {
        let (now, wall) = (self.instant(peer), Duration::from_micros(self.wall(peer)));
        if let Some(instance) = &mut self.nodes[peer.0].instance {
            instance.machine.handle_wall_clock(wall, now);
        }
        now
    }

    /// By how many microseconds a node's wall clock is ahead of the true time.
    pub fn clock_offset(&self, peer: Peer) -> i64 {
        self.wall(peer).wrapping_sub(WALL_AT_START + self.fabric.now().as_micros() as u64) as i64
    }

    /// Sets a node's wall clock, so that it is this many microseconds ahead of the true time, or behind it.
    pub fn set_clock_offset(&mut self, peer: Peer, microseconds: i64) {
        self.note(&format!("the clock of {} is set to {microseconds} µs off", self.nodes[peer.0].name));
        let now = self.fabric.now();
        let clock = &mut self.nodes[peer.0].clock;
        clock.settle(now);
        clock.wall = (WALL_AT_START + now.as_micros() as u64).saturating_add_signed(microseconds);
    }

    /// Makes both clocks of a node's host drift by this many millionths from now on; positive is
    /// fast.
    pub fn set_clock_drift(&mut self, peer: Peer, ppm: i32) {
        self.note(&format!("the clocks of {} run {ppm} ppm fast", self.nodes[peer.0].name));
        let now = self.fabric.now();
        let clock = &mut self.nodes[peer.0].clock;
        clock.settle(now);
        clock.drift_ppm = ppm;
        if self.is_running(peer) {
            self.plan_timer(peer);
        }
    }

    /// Suspends a node's host: its process and its monotonic clock stop, and messages sent to it
    /// are lost. Its wall clock goes on.
    pub fn sleep_host(&mut self, peer: Peer) {
        let endpoint = self.instance(peer).endpoint;
        let now = self.fabric.now();
        let clock = &mut self.nodes[peer.0].clock;
        clock.settle(now);
        clock.asleep = true;
        self.fabric.sleep(endpoint);
        self.nodes[peer.0].paused_at.get_or_insert(now);
    }

    /// Wakes a node's host.
    pub fn wake_host(&mut self, peer: Peer) {
        let endpoint = self.instance(peer).endpoint;
        let now = self.fabric.now();
        let clock = &mut self.nodes[peer.0].clock;
        clock.settle(now);
        clock.asleep = false;
        self.fabric.resume(endpoint);
        self.end_pause(peer);
        self.plan_timer(peer);
    }

    /// Suspends the hosts of these nodes for this long, all at once.
    pub fn sleep_hosts_for(&mut self, peers: &[Peer], time: Duration) {
        for &peer in peers {
            self.sleep_host(peer);
        }
        self.run_for(time);
        for &peer in peers {
            self.wake_host(peer);
        }
    }

    /// Whether a node's host is asleep.
    pub fn is_asleep(&self, peer: Peer) -> bool {
        self.nodes[peer.0].clock.asleep
    }

    /// Schedules a node's timer for the time that its machine wants.
    pub(super) fn plan_timer(&mut self, peer: Peer) {
        let node = &self.nodes[peer.0];
        let Some(instance) = &node.instance else { return };
        let deadline = instance.machine.poll_timeout();
        let deadline = deadline.map(|at| node.clock.virtual_time(at.saturating_duration_since(self.base)));
        self.fabric.set_timer(instance.endpoint, deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::SECOND;

    #[test]
    fn a_drifting_clock_shows_each_time_when_predicted() {
        for drift_ppm in [-300_000, -50, 0, 1, 50, 300_000] {
            let mut clock = HostClock { drift_ppm, ..HostClock::new(7 * SECOND) };
            clock.settle(11 * SECOND);
            for monotonic in [13 * SECOND, Duration::from_nanos(13_333_333_333)] {
                let at = clock.virtual_time(monotonic);
                assert!(clock.monotonic(at) >= monotonic, "{drift_ppm}");
                assert!(clock.monotonic(at - Duration::from_nanos(3)) < monotonic, "{drift_ppm}");
            }
        }
    }

    #[test]
    fn the_monotonic_clock_stops_during_sleep_and_the_wall_clock_does_not() {
        let mut clock = HostClock::new(SECOND);
        clock.settle(2 * SECOND);
        clock.asleep = true;
        clock.settle(5 * SECOND);
        clock.asleep = false;
        assert_eq!(clock.monotonic(6 * SECOND), 3 * SECOND);
        assert_eq!(clock.wall(6 * SECOND), WALL_AT_START + 6_000_000);
    }
}
