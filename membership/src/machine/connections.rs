//! Connections: which members can be reached without a handshake, and when a handshake is worth its
//! cost.
//!
//! Gossip does not need connections to all members. It spreads as fast over a few random ones, and
//! a node that opened a connection to each gossip target would connect to all members within
//! seconds of its start: with a hundred nodes that start at once on one host, that is more than its
//! processors can handle. So gossip uses the existing connections once there are enough for an
//! update to reach all members; probes open the others gradually.

use std::time::{Duration, Instant};

use wire::NodeName;

use super::Membership;

/// Number of new connections that gossip may open at once, and number of gossip intervals per
/// additional one.
const AT_ONCE: u32 = 4;
const INTERVALS_EACH: u32 = 2;

/// Upper bound of the time by which a handshake extends the timeout of a probe.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);

/// Rate limit of the connections that gossip opens.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    /// Time of the last refill.
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
    /// Number of connections that suffice for gossip: if each node has this many random ones, an
    /// update reaches all members.
    fn connections_enough(&self) -> usize {
        self.retransmit_limit().max(self.config.gossip_fanout as u32 + 1) as usize
    }

    /// Whether a handshake takes longer than the time limit for an answer.
    pub(super) fn handshakes_are_slow(&self) -> bool {
        self.handshake_time > self.config.probe_timeout
    }

    /// Time that a handshake adds to the timeout of a probe of this member.
    pub(super) fn handshake_with(&self, name: &NodeName) -> Duration {
        match self.roster.reachable_without_handshake(name) {
            true => Duration::ZERO,
            false => self.handshake_time.min(LONGEST_HANDSHAKE),
        }
    }

    /// Random gossip targets: connected members and, if these are too few, others as far as the
    /// rate limit permits.
    pub(super) fn choose_gossip_targets(&mut self, most: usize, now: Instant) -> Vec<NodeName> {
        let active = self.roster.active();
        let most = most.min(active.len());
        let Some(connected) = self.roster.connected_active() else {
            return match most == active.len() {
                true => active.names().to_vec(),
                false => active.sample(most, &[], &mut self.rng),
            };
        };
        let connected_count = connected.len();
        let far = active.len() - connected_count;
        self.allowance.refill(self.config.gossip_interval * INTERVALS_EACH, now);
        let missing = self.connections_enough().saturating_sub(connected_count).min(far);
        // At most half of the targets, so that some receive the update even if no handshake
        // succeeds.
        let most_new = if connected_count == 0 { most } else { most.div_ceil(2) };
        let new = missing.min(self.allowance.left as usize).min(most_new);
        let mut chosen = connected.sample(most - new, &[], &mut self.rng);
        if new > 0 {
            let known = connected.names().iter().collect::<Vec<_>>();
            let others = active.sample(new, &known, &mut self.rng);
            self.allowance.left -= others.len() as u32;
            chosen.extend(others);
        }
        chosen
    }
}
