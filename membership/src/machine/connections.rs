//! Connections: whom it costs a handshake to send something, and for whom that is worth it.
//!
//! News needs no connection with everybody. It spreads as fast over a few random ones, and a node that made one for each
//! member it tells something would make all of them within seconds of its start: with a hundred that start at once on a
//! host, more than its processors can bear. So news goes over the connections that there are, as soon as these are enough
//! for an epidemic to reach everybody, and the others come about little by little, by probes.

use std::time::{Duration, Instant};

use wire::NodeName;

use super::Membership;

/// How many connections news may ask for at once, and how many intervals of gossip pass for each one more.
const AT_ONCE: u32 = 4;
const INTERVALS_EACH: u32 = 2;

/// So long at the most a probe waits for a handshake to become possible.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);

/// How many more connections news may ask for.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    /// When it was last looked how many have been added.
    at: Instant,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: AT_ONCE, at: now }
    }

    fn refill(&mut self, each: Duration, now: Instant) {
        while self.left < AT_ONCE && now.saturating_duration_since(self.at) >= each {
            self.left += 1;
            self.at += each;
        }
        if self.left == AT_ONCE {
            self.at = now;
        }
    }
}

impl Membership {
    /// How many connections are enough for news: with so many, taken at random by each, everybody is reached.
    fn connections_enough(&self) -> usize {
        self.retransmit_limit().max(self.config.gossip_fanout as u32 + 1) as usize
    }

    /// Whether a handshake takes longer than an answer is waited for.
    pub(super) fn handshakes_are_slow(&self) -> bool {
        self.handshake_time > self.config.probe_timeout
    }

    /// How much longer to wait for an answer from a member because of a handshake that comes first.
    pub(super) fn handshake_with(&self, name: &NodeName) -> Duration {
        match self.roster.reachable_without_handshake(name) {
            true => Duration::ZERO,
            false => self.handshake_time.min(LONGEST_HANDSHAKE),
        }
    }

    /// Random members to be told news: of those with whom there is a connection, and if these are too few, of the others
    /// as well, as far as handshakes are allowed for it.
    pub(super) fn choose_gossip_targets(&mut self, most: usize, now: Instant) -> Vec<NodeName> {
        let active = self.roster.active();
        let most = most.min(active.len());
        let Some(connected_active) = self.roster.connected_active() else {
            return match most == active.len() {
                true => active.names().to_vec(),
                false => active.sample(most, &[], &mut self.rng),
            };
        };
        let connected_count = connected_active.len();
        let far = active.len() - connected_count;
        self.allowance.refill(self.config.gossip_interval * INTERVALS_EACH, now);
        let missing = self.connections_enough().saturating_sub(connected_count).min(far);
        // Half of those chosen, so that what is said is heard by somebody even if no handshake succeeds.
        let most_new = if connected_count == 0 { most } else { most.div_ceil(2) };
        let new = missing.min(self.allowance.left as usize).min(most_new);
        let mut chosen = connected_active.sample(most - new, &[], &mut self.rng);
        if new > 0 {
            let known = connected_active.names().iter().collect::<Vec<_>>();
            let others = active.sample(new, &known, &mut self.rng);
            self.allowance.left -= others.len() as u32;
            chosen.extend(others);
        }
        chosen
    }
}
