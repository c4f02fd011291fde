//! Claims of peers about this node. Only this node knows its own state: it accepts none of them and
//! refutes them.

use std::time::Instant;

use rand::RngExt;
use wire::NodeId;
use wire::codec;

use crate::broadcast::Urgency;
use crate::event::Event;
use crate::member::{MAX_GENERATION, MAX_INCARNATION, NodeRecord, State};
use crate::message::{Message, NameInUse, Outdated};

use super::Membership;
use super::claims::{AliveOutcome, Origin};

/// A later instance's generation is greater by 1 to this many microseconds, up to about a second. The
/// next start of the process uses the wall time as its generation, which is greater still.
const LATER_SPREAD: u64 = 1 << 20;

impl Membership {
    /// Processes a peer's claim about the state of this node.
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
            self.statistics.ignored_invalid += 1;
            return;
        }
        let own = self.me.record.id.generation;
        match state {
            // An earlier instance of this node: the sender does not know the current one.
            _ if id.generation < own => {}
            // An instance that left cannot refute, and this node cannot speak for an instance that
            // it never was.
            State::Left => self.take_later_instance(id.generation, now),
            State::Failed if id.generation > own => self.take_later_instance(id.generation, now),
            // It may be an instance of another node; later claims will show.
            State::Alive | State::Suspect if id.generation > own => return,
            State::Alive | State::Suspect | State::Failed => {
                if incarnation >= self.me.incarnation {
                    tracing::info!(
                        node = %self.me.record.id, incarnation, "refuting the claim that this node is {state}"
                    );
                    self.statistics.refutations += 1;
                    // A suspicion indicates that this node answers slowly.
                    self.health.worse(1);
                    self.raise_incarnation(incarnation, now);
                }
            }
        }
        // The sender gets the refutation at once, whether it was issued now or long ago.
        replies.push(self.own_claim());
    }

    /// Processes a peer's claim that this node is alive with this record.
    pub(super) fn consider_own_record(
        &mut self,
        record: NodeRecord,
        incarnation: u64,
        origin: Origin<'_>,
        now: Instant,
    ) -> AliveOutcome {
        let own = &self.me.record;
        if record.id.generation < own.id.generation {
            self.statistics.ignored_stale += 1;
            // The sender does not know this instance.
            return AliveOutcome::Stale(self.own_claim());
        }
        if record.address != own.address {
            // A live node at another address uses this name, and peers have accepted it. Raising
            // the generation would start a contest; the operator must decide. If that node is gone,
            // peers will declare it failed.
            let in_use = NameInUse {
                owner: record.id,
                owner_address: record.address,
                claimant: own.id.clone(),
                claimant_address: own.address,
            };
            tracing::debug!(
                node = %own.id, from = %origin.from,
                "this node's name is reported alive at another address"
            );
            self.report_conflict(in_use, now);
            return AliveOutcome::Known;
        }
        if record.id.generation > own.id.generation {
            // An unknown instance at this node's own address: the clock was set back, and peers
            // know an earlier start of this process.
            self.take_later_instance(record.id.generation, now);
            return AliveOutcome::Stale(self.own_claim());
        }
        if incarnation > self.me.incarnation
            || (incarnation == self.me.incarnation && record != self.me.record)
        {
            self.statistics.refutations += 1;
            self.raise_incarnation(incarnation, now);
            return AliveOutcome::Stale(self.own_claim());
        }
        AliveOutcome::Known
    }

    /// Raises the incarnation above this one and announces it.
    pub(super) fn raise_incarnation(&mut self, above: u64, now: Instant) {
        if above >= MAX_INCARNATION {
            return self.take_later_instance(self.me.record.id.generation, now);
        }
        self.me.incarnation = self.me.incarnation.max(above) + 1;
        self.changed_at = now;
        self.announce();
    }

    /// Starts an instance later than this generation and the current one, and announces it. The
    /// distance is random: another process of this name, for example one that ran before or one
    /// restored from a snapshot of a virtual machine, may know the same generation and start a
    /// later instance too.
    pub(super) fn take_later_instance(&mut self, generation: u64, now: Instant) {
        let generation = generation.max(self.me.record.id.generation);
        if generation >= MAX_GENERATION - LATER_SPREAD {
            self.statistics.ignored_invalid += 1;
            return;
        }
        let before = self.me.record.id.clone();
        self.me.record.id.generation = generation + self.rng.random_range(1..=LATER_SPREAD);
        self.me.incarnation = 0;
        self.me.since = now;
        self.changed_at = now;
        self.statistics.generations_raised += 1;
        tracing::warn!(
            node = %self.me.record.id, %before,
            "started a later instance: peers know one of this name that is not this node's"
        );
        self.events.push_back(Event::GenerationRaised(self.me.record.id.clone()));
        self.announce();
    }

    /// Handles the refusal of this node's instance by a peer that knows one that is not earlier;
    /// that may be the one this node has started since.
    pub(super) fn outdated(&mut self, Outdated { claimed, known }: Outdated, now: Instant) {
        let own = self.me.record.id.generation;
        if !self.is_plausible_generation(known, now) {
            self.statistics.ignored_invalid += 1;
        } else if claimed >= own && known >= own && self.leaving.is_none() {
            self.take_later_instance(known, now);
        }
    }

    /// Queues this node's claim about itself.
    pub(super) fn announce(&mut self) {
        let message = codec::encode(&self.own_claim());
        let subject = self.me.name().clone();
        if !self.broadcasts.push(subject, message, Urgency::Ourselves, true) {
            self.statistics.dropped_updates += 1;
        }
    }
}
