//! What others say about this node. It alone knows, and believes none of it; it objects.

use std::time::Instant;

use rand::RngExt;
use wire::NodeId;
use wire::codec;

use crate::broadcast::Urgency;
use crate::event::Event;
use crate::member::{MAX_GENERATION, MAX_INCARNATION, NodeRecord, State};
use crate::message::{Message, NameInUse, Outdated};

use super::Membership;
use super::claims::{Origin, Verdict};

/// A later life is later by 1 to this many, in microseconds: a second. The next start of the process, whose generation is the wall
/// time, is then later still.
const LATER_SPREAD: u64 = 1 << 20;

impl Membership {
    /// Somebody says that this node stands so.
    pub(super) fn consider_own_state(
        &mut self,
        id: &NodeId,
        incarnation: u64,
        state: State,
        now: Instant,
        replies: &mut Vec<Message>,
    ) {
        if self.leaving.is_some() {
            return;
        }
        if incarnation > MAX_INCARNATION || !self.is_plausible_generation(id.generation, now) {
            self.statistics.invalid += 1;
            return;
        }
        let own = self.me.record.id.generation;
        match state {
            // An earlier life of ours: whoever still holds it does not know this one.
            _ if id.generation < own => {}
            // A life that left cannot object any more, and one that we never lived is not ours to speak for.
            State::Left => self.take_later_instance(id.generation, now),
            State::Failed if id.generation > own => self.take_later_instance(id.generation, now),
            // It may be another node's life; what follows will tell.
            State::Alive | State::Suspect if id.generation > own => return,
            State::Alive | State::Suspect | State::Failed => {
                if incarnation >= self.me.incarnation {
                    tracing::info!(
                        node = %self.me.record.id, incarnation, "refuting the claim that this node is {state}"
                    );
                    self.statistics.refutations += 1;
                    // To be suspected is a sign that this node is slow to answer.
                    self.health.worse(1);
                    self.raise_incarnation(incarnation, now);
                }
            }
        }
        // The sender at least shall know at once, whether this was refuted now or long ago.
        replies.push(self.own_claim());
    }

    /// Somebody says that this node is alive as the record says.
    pub(super) fn consider_own_record(
        &mut self,
        record: NodeRecord,
        incarnation: u64,
        origin: Origin<'_>,
        now: Instant,
    ) -> Verdict {
        let own = &self.me.record;
        if record.id.generation < own.id.generation {
            self.statistics.stale += 1;
            // Whoever sent that does not know this life.
            return Verdict::Stale(self.own_claim());
        }
        if record.address != own.address {
            // A living node elsewhere bears this name, and others have accepted it. To outbid it would start a duel;
            // a person has to decide. If it is gone, others will say that it failed.
            let in_use = NameInUse {
                owner: record.id,
                owner_address: record.address,
                claimant: own.id.clone(),
                claimant_address: own.address,
            };
            tracing::debug!(node = %own.id, from = %origin.from, "own name reported alive elsewhere");
            self.report_conflict(in_use, now);
            return Verdict::Known;
        }
        if record.id.generation > own.id.generation {
            // A life at our own address that is not ours: the clock was set back, and it is remembered.
            self.take_later_instance(record.id.generation, now);
            return Verdict::Stale(self.own_claim());
        }
        if incarnation > self.me.incarnation
            || (incarnation == self.me.incarnation && record != self.me.record)
        {
            self.statistics.refutations += 1;
            self.raise_incarnation(incarnation, now);
            return Verdict::Stale(self.own_claim());
        }
        Verdict::Known
    }

    /// Goes above this incarnation, and tells everybody.
    pub(super) fn raise_incarnation(&mut self, above: u64, now: Instant) {
        if above >= MAX_INCARNATION {
            return self.take_later_instance(self.me.record.id.generation, now);
        }
        self.me.incarnation = self.me.incarnation.max(above) + 1;
        self.changed_at = now;
        self.announce();
    }

    /// Takes a life later than this generation and the present one, and tells everybody. By how much later is left to chance:
    /// another process of this name, one that went before it or one that a virtual machine was set back to, may know the same
    /// generation and take a later one too.
    pub(super) fn take_later_instance(&mut self, generation: u64, now: Instant) {
        let generation = generation.max(self.me.record.id.generation);
        if generation >= MAX_GENERATION - LATER_SPREAD {
            self.statistics.invalid += 1;
            return;
        }
        let before = self.me.record.id.clone();
        self.me.record.id.generation = generation + self.rng.random_range(1..=LATER_SPREAD);
        self.me.incarnation = 0;
        self.me.since = now;
        self.changed_at = now;
        self.statistics.generations_raised += 1;
        tracing::warn!(
            node = %self.me.record.id, %before, "took a later life: the others know one of this name that is not ours"
        );
        self.events.push_back(Event::GenerationRaised(self.me.record.id.clone()));
        self.announce();
    }

    /// A node refuses a life of this one because it holds one that is not earlier: perhaps the very one that was taken since.
    pub(super) fn outdated(&mut self, Outdated { claimed, known }: Outdated, now: Instant) {
        let own = self.me.record.id.generation;
        if !self.is_plausible_generation(known, now) {
            self.statistics.invalid += 1;
        } else if claimed >= own && known >= own && self.leaving.is_none() {
            self.take_later_instance(known, now);
        }
    }

    /// Queues what this node says about itself.
    pub(super) fn announce(&mut self) {
        let message = codec::encode(&self.own_claim());
        let subject = self.me.name().clone();
        if !self.broadcasts.push(subject, message, Urgency::Ourselves, true) {
            self.statistics.broadcasts_dropped += 1;
        }
    }
}
