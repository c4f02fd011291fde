//! When to dial: few dials at a time, each with a timeout that follows the measured handshake times, and
//! with exponential backoff after failures.
//!
//! A node that learns an address from a peer cannot know whether a node is there: a member may have
//! announced the address of a third party. So the backoff of an address that has never answered grows to
//! a minute. It stays at a few seconds for an address that has answered, or that comes from this node's
//! own configuration.
//!
//! This is a pure state machine: time goes in, decisions come out. It learns how long handshakes take
//! here and now. A hundred nodes that start at once on one host compete for the processor; a node that
//! gives up after a fixed time and starts again only adds load. So the number of concurrent dials
//! follows the handshake times (additive increase, multiplicative decrease), and so does the timeout
//! (RFC 6298).
//!
//! A dial that nobody answers is a sign of congestion only while this node hears from nobody. If
//! datagrams of connected peers arrive, the fault is the destination's.
//!
//! Time is counted from any starting point, the same for all calls.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use wire::Destination;

use crate::config::{Limits, Timeouts};

/// The initial number of concurrent dials.
const FIRST_WINDOW: f64 = 4.0;

/// A dial that takes this many times as long as the fastest one was delayed by a busy processor or a
/// queue.
const SLOW: u32 = 8;

/// The weight of a measurement halves in this time: a storm of half a minute ago is no evidence about
/// now.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// The most destinations whose failures are remembered.
const MAX_FAILURES: usize = 16_384;

/// The most destinations that are remembered as having answered.
const MAX_ANSWERED: usize = 16_384;

/// How often a running dial should ask whether it is to begin again.
pub const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);

/// The most times that the backoff doubles.
const MAX_DOUBLINGS: u32 = 16;

/// The bounds of a [`DialPolicy`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DialSettings {
    /// The most concurrent dials, however fast they are.
    pub most: usize,
    /// The shortest timeout of a dial, and its timeout before anything is measured.
    pub timeout: Duration,
    /// The longest timeout of a dial.
    pub timeout_most: Duration,
    /// The backoff after the first failure of a destination. It doubles with each further one.
    pub backoff: Duration,
    /// The longest backoff.
    pub backoff_most: Duration,
    /// The longest backoff of a destination that has a name and has never answered.
    pub backoff_unanswered: Duration,
}

impl DialSettings {
    /// The bounds of an endpoint with these limits and timeouts.
    pub fn of(limits: &Limits, timeouts: &Timeouts) -> Self {
        Self {
            most: limits.dials,
            timeout: timeouts.dial,
            timeout_most: timeouts.dial_most.max(timeouts.dial),
            backoff: timeouts.dial_backoff,
            backoff_most: timeouts.dial_backoff_most,
            backoff_unanswered: timeouts.dial_backoff_unanswered,
        }
    }
}

/// Whether a destination may be dialled now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
// Exhaustive: a caller of the policy has to act on each.
pub enum Turn {
    /// Dial now. The dial counts as running until [`DialPolicy::end`].
    Dial {
        /// Give the dial up after this time.
        timeout: Duration,
    },
    /// A dial to this address is running.
    UnderWay,
    /// The last dial failed. Do not dial before this time.
    NotBefore(Duration),
    /// As many dials as allowed are running.
    Full,
}

/// How a dial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
// Exhaustive: the policy learns from each what the caller saw.
pub enum DialEnd {
    /// There is a connection.
    Connected,
    /// No answer arrived in time.
    Unanswered,
    /// One side refused the other, or the address cannot be dialled.
    Refused,
}

#[derive(Debug)]
struct Running {
    started: Duration,
    /// When it is given up.
    until: Duration,
    renewed: bool,
    /// It has taken so long that it no longer counts against the window: the address may have no node.
    overdue: bool,
}

#[derive(Debug)]
struct Failure {
    times: u32,
    until: Duration,
    /// When even the number of failures is forgotten.
    forget_at: Duration,
}

/// Decides when to dial which destination.
#[derive(Debug)]
pub struct DialPolicy {
    settings: DialSettings,
    running: BTreeMap<SocketAddr, Running>,
    failures: BTreeMap<Destination, Failure>,
    /// Destinations that have answered.
    answered: BTreeSet<Destination>,
    /// How many dials may run, not counting overdue ones.
    window: f64,
    /// Slow start: the window doubles with each round of dials until the first sign of congestion.
    doubling: bool,
    shrunk_at: Option<Duration>,
    /// Smoothed time of a successful dial, its mean deviation, and the time of the last measurement.
    measured: Option<(Duration, Duration, Duration)>,
    /// When something last arrived from a peer: a datagram, or the end of a handshake.
    last_heard: Option<Duration>,
    fastest: Duration,
    /// How often the timeout was doubled because no dial was answered and nobody was heard.
    doublings: u32,
    random: u64,
}

impl DialPolicy {
    /// A policy without measurements. The `seed` makes the backoffs of different nodes different.
    pub fn new(settings: DialSettings, seed: u64) -> Self {
        let window = FIRST_WINDOW.min(settings.most as f64).max(1.0);
        Self {
            settings,
            running: BTreeMap::new(),
            failures: BTreeMap::new(),
            answered: BTreeSet::new(),
            window,
            doubling: true,
            shrunk_at: None,
            measured: None,
            last_heard: None,
            fastest: Duration::MAX,
            doublings: 0,
            random: seed,
        }
    }

    /// How many dials are running.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// How many dials may run now, not counting overdue ones.
    pub fn window(&self) -> usize {
        self.window as usize
    }

    /// How long a dial may take before it is overdue, so that it no longer counts against the window.
    pub fn overdue_timeout(&self, now: Duration) -> Duration {
        let expected = self.expected(now).unwrap_or(self.settings.timeout / 3);
        let overdue = expected.max(self.settings.timeout / 10) * 2u32.pow(self.doublings);
        overdue.min(self.settings.timeout_most / 3)
    }

    /// The timeout of a dial that begins now.
    pub fn timeout(&self, now: Duration) -> Duration {
        (self.overdue_timeout(now) * 3).clamp(self.settings.timeout, self.settings.timeout_most)
    }

    /// How long nearly all successful dials take, as far as was measured recently.
    pub fn expected(&self, now: Duration) -> Option<Duration> {
        let (smoothed, deviation, at) = self.measured?;
        let halvings = now.saturating_sub(at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        Some((smoothed + deviation * 4).mul_f64(0.5f64.powf(halvings)))
    }

    /// Asks whether `to` may be dialled now.
    pub fn begin(&mut self, to: &Destination, now: Duration) -> Turn {
        if let Some(failure) = self.failures.get(to)
            && now < failure.until
        {
            return Turn::NotBefore(failure.until);
        }
        if self.running.contains_key(&to.address) {
            return Turn::UnderWay;
        }
        self.mark_overdue(now);
        let holding = self.running.values().filter(|running| !running.overdue).count();
        if self.running.len() >= self.settings.most || holding >= self.window() {
            return Turn::Full;
        }
        let timeout = self.timeout(now);
        let running = Running { started: now, until: now + timeout, renewed: false, overdue: false };
        self.running.insert(to.address, running);
        Turn::Dial { timeout }
    }

    /// When a running dial should begin again, as far as is known now: once it has lasted as long as a
    /// dial without congestion may, and another peer was heard meanwhile. Its timeout was long because
    /// nobody was heard. QUIC repeats its first packet at growing intervals, so a dial that began during
    /// a network partition would notice its end late.
    pub fn renewal_due(&self, to: &Destination, now: Duration) -> Option<Duration> {
        let running = self.running.get(&to.address).filter(|running| !running.renewed)?;
        self.last_heard.filter(|at| *at >= running.started)?;
        let lasts = (self.expected(now).unwrap_or_default() * 3)
            .clamp(self.settings.timeout, self.settings.timeout_most);
        let due = running.started + lasts;
        (due < running.until).then_some(due)
    }

    /// Begins a dial again if that is due, once for each dial. Returns its new timeout.
    pub fn renew(&mut self, to: &Destination, now: Duration) -> Option<Duration> {
        self.renewal_due(to, now).filter(|due| *due <= now)?;
        let timeout = self.timeout(now);
        let running = Running { started: now, until: now + timeout, renewed: true, overdue: false };
        self.running.insert(to.address, running);
        Some(timeout)
    }

    /// A dial to `to` that [`Self::begin`] allowed has ended.
    pub fn end(&mut self, to: &Destination, end: DialEnd, now: Duration) {
        let Some(running) = self.running.remove(&to.address) else { return };
        let taken = now.saturating_sub(running.started);
        match end {
            DialEnd::Connected => {
                self.failures.remove(to);
                if self.answered.len() >= MAX_ANSWERED {
                    // Destinations that still exist will answer again.
                    self.answered.clear();
                }
                self.answered.insert(to.clone());
                self.measure(taken, now);
            }
            DialEnd::Unanswered => {
                if !running.overdue {
                    self.unanswered_since(running.started, now);
                }
                self.remember_failure(to, now);
            }
            DialEnd::Refused => self.remember_failure(to, now),
        }
    }

    /// A handshake succeeded, dialled or accepted. Clears the failures of the destinations for which
    /// `is_connected` holds.
    pub fn handshake_succeeded(&mut self, is_connected: impl Fn(&Destination) -> bool, now: Duration) {
        self.hear(now);
        self.failures.retain(|to, _| !is_connected(to));
    }

    /// Something arrived from a peer at this time, a datagram for example.
    pub fn hear(&mut self, at: Duration) {
        if self.last_heard < Some(at) {
            self.last_heard = Some(at);
            self.doublings = 0;
        }
    }

    /// Clears the failures of one destination.
    pub fn clear_failure(&mut self, to: &Destination) {
        self.failures.remove(to);
    }

    /// Clears all failures, because their causes may have changed.
    pub fn clear_failures(&mut self) {
        self.failures.clear();
    }

    /// Whether a recent failure of this destination is remembered.
    pub fn has_failure(&self, to: &Destination) -> bool {
        self.failures.contains_key(to)
    }

    /// Removes expired failures.
    pub fn purge(&mut self, now: Duration) {
        self.failures.retain(|_, failure| now < failure.forget_at);
    }

    fn measure(&mut self, taken: Duration, now: Duration) {
        self.hear(now);
        let (smoothed, deviation) = match self.measured {
            None => (taken, taken / 2),
            Some((smoothed, deviation, _)) => {
                (smoothed * 7 / 8 + taken / 8, deviation * 3 / 4 + smoothed.abs_diff(taken) / 4)
            }
        };
        self.measured = Some((smoothed, deviation, now));
        self.fastest = self.fastest.min(taken);
        if taken > self.fastest * SLOW && taken > self.settings.timeout / 10 {
            self.shrink(taken, now);
            return;
        }
        // Only a node that uses its whole window learns whether a larger one works.
        if self.running.len() + 1 >= self.window() {
            self.window += if self.doubling { 1.0 } else { 1.0 / self.window };
            self.window = self.window.min(self.settings.most.max(1) as f64);
        }
    }

    /// A dial was not answered, or is overdue. If another peer was heard meanwhile, only its destination
    /// is at fault.
    fn unanswered_since(&mut self, started: Duration, now: Duration) {
        if self.last_heard.is_some_and(|at| at >= started) {
            return;
        }
        let overdue = self.overdue_timeout(now);
        if self.shrink(overdue, now) && overdue * 2 <= self.settings.timeout_most / 3 {
            self.doublings += 1;
        }
    }

    /// Halves the window, unless it was halved less than `pause` ago.
    fn shrink(&mut self, pause: Duration, now: Duration) -> bool {
        if self.shrunk_at.is_some_and(|at| now < at + pause) {
            return false;
        }
        self.shrunk_at = Some(now);
        self.doubling = false;
        self.window = (self.window / 2.0).max(1.0);
        true
    }

    fn mark_overdue(&mut self, now: Duration) {
        let overdue = self.overdue_timeout(now);
        let late: Vec<_> = self
            .running
            .iter_mut()
            .filter(|(_, running)| !running.overdue && now >= running.started + overdue)
            .map(|(_, running)| {
                running.overdue = true;
                running.started
            })
            .collect();
        for started in late {
            self.unanswered_since(started, now);
        }
    }

    fn remember_failure(&mut self, to: &Destination, now: Duration) {
        let times = self.failures.get(to).map_or(0, |failure| failure.times);
        if times == 0 && self.failures.len() >= MAX_FAILURES {
            self.purge(now);
            if self.failures.len() >= MAX_FAILURES {
                return;
            }
        }
        // A destination without a name comes from this node's own configuration, not from a peer.
        let most = match to.name.is_none() || self.answered.contains(to) {
            true => self.settings.backoff_most,
            false => self.settings.backoff_unanswered.max(self.settings.backoff_most),
        };
        let most = most.max(self.settings.backoff);
        let pause = self.settings.backoff.saturating_mul(2u32.pow(times)).min(most);
        // Random jitter: nodes that failed together must not retry together.
        let pause = pause / 2 + (pause / 2).mul_f64(self.draw());
        let until = now + pause;
        let times = (times + 1).min(MAX_DOUBLINGS);
        self.failures.insert(to.clone(), Failure { times, until, forget_at: until + 2 * most });
    }

    /// A random number from 0 to 1 (splitmix64).
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) as f64 / u64::MAX as f64
    }
}

#[cfg(test)]
#[path = "dial_policy_tests.rs"]
mod tests;
