//! When to dial: few at a time, each for as long as dials take at the moment, and after failures ever later.
//!
//! Whoever learns an address from others cannot tell that the node is there: a member may have named somebody else's. So an
//! address that has never answered is dialled ever more rarely, up to once a minute; one that has, or that this node's own people
//! have given it, every few seconds.
//!
//! A pure state machine: time goes in, decisions come out. What it learns is how long handshakes take here and now. A
//! hundred nodes that start at once on one host wait for each other's processor; whoever gives up after a fixed time and
//! begins again only adds to what all are waiting for. So the number of dials under way follows the times that dials take
//! (additive increase, multiplicative decrease), and so does the time after which one is given up (RFC 6298).
//!
//! Time is counted from any starting point, the same for all calls.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use wire::Destination;

use crate::config::{Limits, Timeouts};

/// How many dials may be under way at first.
const FIRST_WINDOW: f64 = 4.0;

/// A dial that takes so many times as long as the fastest one has waited for a processor, or in a queue.
const SLOW: u32 = 8;

/// What was measured loses half of its weight in this time: a storm of half a minute ago says nothing about now.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// The most destinations whose failures are remembered.
const MAX_FAILURES: usize = 16_384;

/// The most destinations of which it is remembered that they have answered.
const MAX_ANSWERED: usize = 16_384;

/// The most doublings of the pause after failures.
const MAX_DOUBLINGS: u32 = 16;

/// The bounds within which a [`DialPolicy`] decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialSettings {
    /// The most dials under way, however fast they are.
    pub most: usize,
    /// The least time after which a dial is given up; the time as long as nothing is measured.
    pub timeout: Duration,
    /// The most time after which a dial is given up.
    pub timeout_most: Duration,
    /// The pause after the first failure of a destination; it doubles.
    pub backoff: Duration,
    /// The longest pause.
    pub backoff_most: Duration,
    /// The longest pause of a destination that has a name, and has never answered.
    pub backoff_unanswered: Duration,
}

impl DialSettings {
    /// The bounds of an endpoint with these limits and times.
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
pub enum Turn {
    /// It may, and counts as begun: tell the end with [`DialPolicy::end`].
    Dial {
        /// After so long it is to be given up.
        timeout: Duration,
    },
    /// A dial to this address is under way.
    UnderWay,
    /// The last one failed; not before this time.
    NotBefore(Duration),
    /// As many are under way as may be.
    Full,
}

/// How a dial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialEnd {
    /// There is a connection.
    Connected,
    /// Nobody answered in time.
    Unanswered,
    /// One of the two sides does not want to talk to the other, or it cannot be dialled.
    Refused,
}

#[derive(Debug)]
struct Running {
    started: Duration,
    /// When it is given up.
    until: Duration,
    renewed: bool,
    /// It has taken so long that it no longer holds a place: it may be for somebody who is not there.
    overdue: bool,
}

#[derive(Debug)]
struct Failure {
    times: u32,
    until: Duration,
    /// When even the number of times is forgotten.
    forget_at: Duration,
}

/// What decides when to dial whom.
#[derive(Debug)]
pub struct DialPolicy {
    settings: DialSettings,
    running: BTreeMap<SocketAddr, Running>,
    failures: BTreeMap<Destination, Failure>,
    /// Who is where it is said to be.
    answered: BTreeSet<Destination>,
    /// How many may be under way, not counting overdue ones.
    window: f64,
    /// It doubles with each round of dials until there is the first sign of congestion.
    doubling: bool,
    shrunk_at: Option<Duration>,
    /// Smoothed time of a dial that succeeds, its mean deviation, and when that was last measured.
    measured: Option<(Duration, Duration, Duration)>,
    /// When a handshake last succeeded, whoever had begun it.
    last_handshake: Option<Duration>,
    fastest: Duration,
    /// How often the patience was doubled because nobody answered.
    doublings: u32,
    random: u64,
}

impl DialPolicy {
    /// A policy without experience. `seed` makes the pauses of different nodes different.
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
            last_handshake: None,
            fastest: Duration::MAX,
            doublings: 0,
            random: seed,
        }
    }

    /// How many dials are under way.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// How many dials may be under way now, besides overdue ones.
    pub fn window(&self) -> usize {
        self.window as usize
    }

    /// How long a dial may take before it no longer keeps others from their turn.
    pub fn overdue_timeout(&self, now: Duration) -> Duration {
        let expected = self.expected(now).unwrap_or(self.settings.timeout / 3);
        let overdue = expected.max(self.settings.timeout / 10) * 2u32.pow(self.doublings);
        overdue.min(self.settings.timeout_most / 3)
    }

    /// After how long a dial that begins now is given up.
    pub fn timeout(&self, now: Duration) -> Duration {
        (self.overdue_timeout(now) * 3).clamp(self.settings.timeout, self.settings.timeout_most)
    }

    /// How long nearly all dials take that succeed, as far as that was measured lately.
    pub fn expected(&self, now: Duration) -> Option<Duration> {
        let (smoothed, deviation, at) = self.measured?;
        let halvings = now.saturating_sub(at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        Some((smoothed + deviation * 4).mul_f64(0.5f64.powf(halvings)))
    }

    /// Asks for a turn for `to`.
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

    /// When a dial under way is to begin anew, as things stand: once it has lasted as long as one that began now might if there were
    /// no storm, and others have succeeded meanwhile. It was allowed longer because nobody answered, and its packets, which are
    /// repeated ever more rarely, may have met a cut that is mended.
    pub fn renewal_due(&self, to: &Destination, now: Duration) -> Option<Duration> {
        let running = self.running.get(&to.address).filter(|running| !running.renewed)?;
        self.last_handshake.filter(|at| *at >= running.started)?;
        let lasts = (self.expected(now).unwrap_or_default() * 3)
            .clamp(self.settings.timeout, self.settings.timeout_most);
        let due = running.started + lasts;
        (due < running.until).then_some(due)
    }

    /// Begins a dial anew if that is due, once. Returns after how long it is to be given up now.
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
                    // Those that are still there will answer again.
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

    /// A handshake succeeded, whoever had begun it. Forgets the failures of destinations that `is_connected` holds for: there is a
    /// connection with them after all.
    pub fn handshake_succeeded(&mut self, is_connected: impl Fn(&Destination) -> bool, now: Duration) {
        self.last_handshake = Some(now);
        self.failures.retain(|to, _| !is_connected(to));
    }

    /// Forgets the failures of one destination.
    pub fn clear_failure(&mut self, to: &Destination) {
        self.failures.remove(to);
    }

    /// Forgets all failures: what they failed for may have changed.
    pub fn clear_failures(&mut self) {
        self.failures.clear();
    }

    /// Whether this destination failed not long ago.
    pub fn has_failure(&self, to: &Destination) -> bool {
        self.failures.contains_key(to)
    }

    /// Forgets failures of long ago.
    pub fn purge(&mut self, now: Duration) {
        self.failures.retain(|_, failure| now < failure.forget_at);
    }

    fn measure(&mut self, taken: Duration, now: Duration) {
        self.last_handshake = Some(now);
        let (smoothed, deviation) = match self.measured {
            None => (taken, taken / 2),
            Some((smoothed, deviation, _)) => {
                (smoothed * 7 / 8 + taken / 8, deviation * 3 / 4 + smoothed.abs_diff(taken) / 4)
            }
        };
        self.measured = Some((smoothed, deviation, now));
        self.fastest = self.fastest.min(taken);
        self.doublings = 0;
        if taken > self.fastest * SLOW && taken > self.settings.timeout / 10 {
            self.shrink(taken, now);
            return;
        }
        // More at a time are tried only by those who use what they have.
        if self.running.len() + 1 >= self.window() {
            self.window += if self.doubling { 1.0 } else { 1.0 / self.window };
            self.window = self.window.min(self.settings.most.max(1) as f64);
        }
    }

    /// A dial got no answer, or none for long. If others did meanwhile, it says something about its destination alone.
    fn unanswered_since(&mut self, started: Duration, now: Duration) {
        if self.measured.is_some_and(|(_, _, at)| at >= started) {
            return;
        }
        let overdue = self.overdue_timeout(now);
        if self.shrink(overdue, now) && overdue * 2 <= self.settings.timeout_most / 3 {
            self.doublings += 1;
        }
    }

    /// Halves the window, unless that was done less than `pause` ago for the same reason.
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
        // A destination without a name is from the node's own people, not from a peer.
        let most = match to.name.is_none() || self.answered.contains(to) {
            true => self.settings.backoff_most,
            false => self.settings.backoff_unanswered.max(self.settings.backoff_most),
        };
        let most = most.max(self.settings.backoff);
        let pause = self.settings.backoff.saturating_mul(2u32.pow(times)).min(most);
        // Nodes that failed together must not try again together.
        let pause = pause / 2 + (pause / 2).mul_f64(self.draw());
        let until = now + pause;
        let times = (times + 1).min(MAX_DOUBLINGS);
        self.failures.insert(to.clone(), Failure { times, until, forget_at: until + 2 * most });
    }

    /// From 0 to 1 (splitmix64).
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
