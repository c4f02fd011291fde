//! Gossip: sends fresh updates at once and repeats them at each tick until each was sent often
//! enough.

use std::time::Instant;

use wire::{Destination, NodeName};

use crate::broadcast::Charge;
use crate::event::Purpose;
use crate::message::PacketBuilder;
use crate::timers::Timer;

use super::Membership;

/// Maximum number of datagrams of fresh updates sent to a node at once; the ticks send the rest.
const MAX_FRESH_PACKETS: usize = 16;
/// Maximum number of notices sent at once.
const MAX_NOTICES_PER_FLUSH: usize = 64;

impl Membership {
    /// How often an update is sent in a cluster of the current size.
    pub(super) fn retransmit_limit(&self) -> u32 {
        // The smallest k with 10^k >= n + 1, in integers: the same on every machine.
        let mut power = 1u128;
        let mut digits = 0;
        while power < self.alive_count() as u128 + 1 {
            power *= 10;
            digits += 1;
        }
        self.config.retransmit_multiplier * digits.max(1)
    }

    /// Sends fresh updates, unless some were sent just now; then a timer does.
    pub(super) fn flush(&mut self, now: Instant) {
        let no_members = self.roster.active().len() == 0;
        if !self.broadcasts.is_empty()
            && !no_members
            && !self.timers.is_set(&Timer::Gossip)
            && !self.has_left()
        {
            self.timers.set(Timer::Gossip, now + self.config.gossip_interval);
        }
        // Without members, updates stay queued: they would count as sent and reach no node.
        let fresh = self.broadcasts.has_fresh() && !no_members;
        if !fresh && self.notices.is_empty() {
            return;
        }
        if let Some(at) = self.flushed_at.map(|at| at + self.config.gossip_delay)
            && now < at
        {
            self.timers.set(Timer::Flush, at);
            return;
        }
        self.flushed_at = Some(now);
        self.timers.cancel(&Timer::Flush);
        for _ in 0..MAX_NOTICES_PER_FLUSH {
            let Some((to, message)) = self.notices.pop_front() else { break };
            let mut packet = PacketBuilder::new(self.config.datagram_budget);
            packet.add(message.into());
            self.send_datagram(to, packet.finish(), Purpose::Gossip, Vec::new());
        }
        if fresh {
            self.send_fresh(now);
        }
        if !self.notices.is_empty() {
            self.timers.set(Timer::Flush, now + self.config.gossip_delay);
        }
    }

    fn send_fresh(&mut self, now: Instant) {
        let to_all = self.roster.active().len() <= self.config.broadcast_to_all;
        let most = if to_all { usize::MAX } else { self.config.broadcast_fanout };
        let all_or_some = self.choose_gossip_targets(most, now);
        self.send_fresh_to(true, &all_or_some);
        let some = self.choose_gossip_targets(self.config.gossip_fanout, now);
        self.send_fresh_to(false, &some);
        let limit = self.retransmit_limit();
        self.broadcasts.clear_fresh(limit);
    }

    /// Sends fresh updates of local or remote origin to these members.
    fn send_fresh_to(&mut self, origin: bool, members: &[NodeName]) {
        // Sending to all members counts as one tick; otherwise no transmissions would be left for
        // the members it missed.
        let times = u32::try_from(members.len().min(self.config.gossip_fanout)).unwrap_or(u32::MAX);
        let limit = self.retransmit_limit();
        for _ in 0..MAX_FRESH_PACKETS {
            let mut packet = PacketBuilder::new(self.config.datagram_budget);
            let charges = self.broadcasts.fill_fresh(&mut packet, origin, times, limit);
            if charges.is_empty() {
                break;
            }
            let bytes = packet.finish();
            for member in members {
                self.send_updates(member, bytes.clone(), charges.clone());
            }
        }
    }

    /// Sends queued updates to some random members, a few datagrams each.
    pub(super) fn gossip_tick(&mut self, now: Instant) {
        let members = self.choose_gossip_targets(self.config.gossip_fanout, now);
        let limit = self.retransmit_limit();
        for member in &members {
            let (most, budget) = (self.config.gossip_packets, self.config.datagram_budget);
            for (packet, charges) in self.broadcasts.fill_packets(most, budget, limit) {
                self.send_updates(member, packet.finish(), charges);
            }
        }
        if !self.broadcasts.is_empty() && !members.is_empty() {
            self.timers.set(Timer::Gossip, now + self.config.gossip_interval);
        }
    }

    fn send_updates(&mut self, member: &NodeName, bytes: Vec<u8>, charges: Vec<Charge>) {
        let Some(entry) = self.roster.get(member.as_str()) else { return };
        let to = Destination { name: Some(member.clone()), address: entry.member.record.address };
        self.send_datagram(to, bytes, Purpose::Gossip, charges);
    }
}
