//! Leaving: the leave message goes to all or many members at once, is resent to those that have not
//! acknowledged it, and is bounded in time.

use std::collections::BTreeMap;
use std::time::Instant;

use wire::{Destination, NodeName};

use crate::event::{Event, Purpose};
use crate::member::State;
use crate::timers::Timer;

use super::Membership;

/// Leaving in progress.
#[derive(Debug)]
pub(super) struct Leaving {
    started: Instant,
    /// Members that have not acknowledged it yet, by the sequence number of their ping.
    unacknowledged: BTreeMap<u64, NodeName>,
    /// Number of acknowledgements that are still needed.
    wanted: usize,
    /// Whether streams were tried too.
    by_stream: bool,
    completed: bool,
}

impl Membership {
    /// Whether leaving is complete.
    pub(super) fn has_left(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| leaving.completed)
    }

    pub(super) fn start_leaving(&mut self, now: Instant) {
        if self.leaving.is_some() {
            return;
        }
        tracing::info!(node = %self.me.record.id, "leaving");
        self.me.state = State::Left;
        self.me.since = now;
        self.timers.clear();
        self.drop_all_streams();
        self.probes.clear();
        self.probing.clear();
        self.relays.clear();
        self.pending_joins.clear();
        for seed in self.seeds.keys().copied().collect::<Vec<_>>() {
            self.seeds.remove(&seed);
        }
        let to_all = self.roster.active().len() <= self.config.broadcast_to_all;
        let members = if to_all {
            // Queued updates about this node are obsolete, and all members receive the leave
            // message directly.
            let me = self.me.name().clone();
            self.broadcasts.remove(me.as_str());
            self.roster.active().names().to_vec()
        } else {
            self.announce();
            self.roster.active().sample(self.config.broadcast_fanout * 2, &[], &mut self.rng)
        };
        let mut unacknowledged = BTreeMap::new();
        for member in members {
            unacknowledged.insert(self.take_sequence(), member);
        }
        let wanted = self.config.leave_acks.min(unacknowledged.len());
        self.leaving =
            Some(Leaving { started: now, unacknowledged, wanted, by_stream: false, completed: false });
        if wanted == 0 {
            return self.finish_leaving();
        }
        self.timers.set(Timer::LeaveEnd, now + self.config.leave_timeout);
        self.resend_leave(now);
    }

    /// Resends the leave message to all members that have not acknowledged it. A ping in the same
    /// datagram is answered only after the leave message was read.
    pub(super) fn resend_leave(&mut self, now: Instant) {
        let Some(leaving) = &mut self.leaving else { return };
        if leaving.completed {
            return;
        }
        let unacknowledged = leaving
            .unacknowledged
            .iter()
            .map(|(sequence, name)| (*sequence, name.clone()))
            .collect::<Vec<_>>();
        let late = now >= leaving.started + self.config.leave_timeout / 4;
        let by_stream = late && !std::mem::replace(&mut leaving.by_stream, late);
        self.timers.set(Timer::LeaveRepeat, now + self.config.gossip_interval);
        for (index, (sequence, name)) in unacknowledged.into_iter().enumerate() {
            let Some(entry) = self.roster.get(name.as_str()) else { continue };
            let address = entry.member.record.address;
            let mut messages = vec![self.own_claim()];
            let target = entry.member.record.id.clone();
            messages.extend(self.probe_messages(&target, sequence));
            if by_stream && index < self.config.leave_acks {
                let packet = self.packet_of(messages);
                self.open_packet(name, address, packet, now);
            } else {
                let to = Destination { name: Some(name), address };
                self.send_messages(to, messages, Purpose::Probe);
            }
        }
    }

    /// Whether this acknowledges the leave message.
    pub(super) fn leave_acknowledged(&mut self, from: &NodeName, sequence: u64) -> bool {
        let Some(leaving) = &mut self.leaving else { return false };
        if leaving.unacknowledged.get(&sequence) != Some(from) {
            return false;
        }
        leaving.unacknowledged.remove(&sequence);
        leaving.wanted = leaving.wanted.saturating_sub(1);
        if leaving.wanted == 0 && !leaving.completed {
            self.finish_leaving();
        }
        true
    }

    pub(super) fn finish_leaving(&mut self) {
        let Some(leaving) = &mut self.leaving else { return };
        if std::mem::replace(&mut leaving.completed, true) {
            return;
        }
        self.timers.clear();
        self.drop_all_streams();
        self.events.push_back(Event::LeaveCompleted);
    }

    /// Joining after leaving starts a later instance, because the current one has left for good.
    pub(super) fn return_from_leaving(&mut self, now: Instant) {
        self.leaving = None;
        self.timers.clear();
        self.me.state = State::Alive;
        self.me.last_seen = Some(now);
        self.take_later_instance(self.me.record.id.generation, now);
        self.start_timers(now);
        for name in self.roster.suspects().clone() {
            let suspicion = self.roster.get(name.as_str()).and_then(|entry| entry.suspicion.as_ref());
            if let Some(suspicion) = suspicion {
                self.timers.set(Timer::Suspicion(name.clone()), suspicion.deadline());
                self.await_second_opinions(&name, now);
            }
        }
    }
}
