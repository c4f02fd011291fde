//! Claims about other members: which are accepted and what follows from them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wire::codec;
use wire::{Destination, NodeId, NodeName};

use crate::broadcast::Urgency;
use crate::event::Event;
use crate::forgotten::ClaimSource;
use crate::member::{MAX_INCARNATION, Member, NodeRecord, Standing, State};
use crate::message::{Message, NameInUse, Outdated};
use crate::roster::Entry;
use crate::suspicion::Suspicion;
use crate::timers::Timer;

use super::Membership;

/// How a claim was received.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    /// The authenticated sender.
    pub(super) from: &'a NodeName,
    /// The sender's address.
    pub(super) source: SocketAddr,
    /// Whether it is an entry of a member list rather than a gossiped update.
    pub(super) list: bool,
    /// Whether changes learned from it are gossiped. A joining node does not gossip what it learns
    /// from members.
    pub(super) relay: bool,
    /// Whether this node is the origin and sends the update to all members rather than only
    /// relaying it.
    pub(super) announce: bool,
}

/// Result of a claim that a node is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AliveOutcome {
    /// The claim was new and is accepted.
    Accepted,
    /// The claim was known.
    Known,
    /// This node knows a claim that supersedes it, about the same instance or about a later live
    /// one.
    Stale(Message),
    /// The instance is not later than one known of this name.
    Outdated(Outdated),
    /// The current owner of the name is being probed.
    Pending,
    /// The current owner of the name is alive.
    Taken(NameInUse),
    /// The member table is full.
    Full,
    /// The claim is invalid.
    Invalid,
}

impl AliveOutcome {
    /// Adds the answer to the sender of the claim.
    pub(super) fn answer(self, replies: &mut Vec<Message>) {
        match self {
            AliveOutcome::Stale(known) => replies.push(known),
            AliveOutcome::Outdated(outdated) => replies.push(Message::Outdated(outdated)),
            AliveOutcome::Taken(in_use) => replies.push(Message::NameInUse(in_use)),
            AliveOutcome::Accepted
            | AliveOutcome::Known
            | AliveOutcome::Pending
            | AliveOutcome::Full
            | AliveOutcome::Invalid => {}
        }
    }
}

impl Membership {
    /// Processes a claim that a node is alive with this record.
    pub(super) fn consider_alive(
        &mut self,
        record: NodeRecord,
        incarnation: u64,
        origin: Origin<'_>,
        now: Instant,
    ) -> AliveOutcome {
        if let Err(error) = record.check().map_err(|error| error.to_string()).and_then(|()| {
            let out_of_range =
                incarnation > MAX_INCARNATION || !self.is_plausible_generation(record.id.generation, now);
            (!out_of_range).then_some(()).ok_or_else(|| "generation or incarnation out of range".to_owned())
        }) {
            tracing::debug!(node = %self.me.record.id, from = %origin.from, error, "claim rejected");
            self.statistics.invalid += 1;
            return AliveOutcome::Invalid;
        }
        if self.leaving.is_some() {
            return AliveOutcome::Known;
        }
        if record.id.name == *self.me.name() {
            return self.consider_own_record(record, incarnation, origin, now);
        }
        let first_hand = record.id.name == *origin.from;
        let claimed = Standing::new(record.id.generation, incarnation, State::Alive);
        let Some(entry) = self.roster.get(record.id.name.as_str()) else {
            return self.consider_unknown(record, claimed, origin, now);
        };
        let known = &entry.member;
        let standing = known.standing();
        let moved = known.record.address != record.address;
        if first_hand && moved && known.state.is_active() {
            let same_instance = record.id.generation == standing.generation;
            // Of two addresses of one instance, the one with the later incarnation counts; the
            // earlier one is an old message.
            if !(same_instance && incarnation < standing.incarnation) {
                return self.check_owner(record, incarnation, now);
            }
        }
        if first_hand {
            self.touch(&record.id, now);
        }
        if claimed > standing {
            return self.accept_alive(record, incarnation, origin, now);
        }
        self.stale_alive(record, incarnation, first_hand, now)
    }

    /// Processes a claim about a name that is not a member; it may have been one before.
    fn consider_unknown(
        &mut self,
        record: NodeRecord,
        claimed: Standing,
        origin: Origin<'_>,
        now: Instant,
    ) -> AliveOutcome {
        if let Some(remembered) = self.forgotten.get(record.id.name.as_str())
            && remembered >= claimed
        {
            self.statistics.stale += 1;
            let outdated = Outdated { claimed: record.id.generation, known: remembered.generation };
            if outdated.claimed < outdated.known || remembered.state() == State::Left {
                return AliveOutcome::Outdated(outdated);
            }
            // The same instance, which this node considered failed: it proves that it is alive by
            // refuting that.
            return AliveOutcome::Stale(Message::Failed {
                id: record.id,
                incarnation: remembered.incarnation,
                accuser: self.me.name().clone(),
            });
        }
        self.accept_alive(record, claimed.incarnation, origin, now)
    }

    /// Processes a claim that does not supersede the known one.
    fn stale_alive(
        &mut self,
        record: NodeRecord,
        incarnation: u64,
        first_hand: bool,
        now: Instant,
    ) -> AliveOutcome {
        let name = record.id.name.clone();
        let Some(entry) = self.roster.get(name.as_str()) else { return AliveOutcome::Known };
        let known = &entry.member;
        if record.id.generation == known.record.id.generation && incarnation == known.incarnation {
            // A suspicion arrived before the record of its incarnation.
            if entry.record_incarnation < incarnation && known.state != State::Left {
                let changed = known.record != record;
                let announced = entry.announced;
                self.roster.change(name.as_str(), |entry| {
                    entry.member.record = record.clone();
                    entry.record_incarnation = incarnation;
                });
                if changed && announced {
                    self.events.push_back(Event::Updated(record));
                }
                return AliveOutcome::Known;
            }
            if known.state == State::Alive {
                return AliveOutcome::Known;
            }
        }
        self.statistics.stale += 1;
        let outdated = Outdated { claimed: record.id.generation, known: known.record.id.generation };
        if outdated.claimed < outdated.known {
            // An earlier instance. If the node itself sent the claim, its clock was set back and it
            // must choose a generation above the known one, or it has done so already and this
            // message was delayed.
            return match first_hand {
                true => AliveOutcome::Outdated(outdated),
                false => AliveOutcome::Known,
            };
        }
        let answer = Message::claim(known, self.me.name());
        match (first_hand, known.state) {
            (true, State::Left) => AliveOutcome::Outdated(outdated),
            // The node must receive the claim about it, or it would never refute it and remain
            // failed here.
            (true, _) => AliveOutcome::Stale(answer),
            (false, State::Failed) => {
                self.notify(&name, now);
                AliveOutcome::Known
            }
            // A leave message cannot be refuted: a node that has not received it gets it now.
            (false, State::Left) => AliveOutcome::Stale(answer),
            (false, State::Alive | State::Suspect) => AliveOutcome::Known,
        }
    }

    /// Accepts a claim that supersedes everything known about the name.
    pub(super) fn accept_alive(
        &mut self,
        record: NodeRecord,
        incarnation: u64,
        origin: Origin<'_>,
        now: Instant,
    ) -> AliveOutcome {
        let name = record.id.name.clone();
        let first_hand = name == *origin.from;
        let before = self.roster.get(name.as_str()).map(|entry| (entry.member.clone(), entry.announced));
        if before.is_none() && !self.free_capacity(now) {
            self.statistics.members_refused += 1;
            return AliveOutcome::Full;
        }
        let me = &self.me.record.id;
        let event = match &before {
            None => {
                // A list may introduce thousands of members, which other nodes logged when they
                // joined.
                if origin.list {
                    tracing::debug!(
                        node = %me, member = %record.id, address = %record.address, "member learned"
                    );
                } else {
                    tracing::info!(
                        node = %me, member = %record.id, address = %record.address, "member joined"
                    );
                }
                Some(Event::Joined(record.clone()))
            }
            Some((old, announced)) if old.record.id != record.id => {
                tracing::info!(node = %me, member = %record.id, earlier = %old.record.id, "member restarted");
                match *announced && old.state != State::Left {
                    true => Some(Event::Replaced { old: old.record.id.clone(), new: record.clone() }),
                    false => Some(Event::Joined(record.clone())),
                }
            }
            Some((old, announced)) => match old.state {
                State::Failed => {
                    tracing::info!(node = %me, member = %record.id, incarnation, "failed member returned");
                    match announced {
                        true => Some(Event::Returned(record.clone())),
                        false => Some(Event::Joined(record.clone())),
                    }
                }
                State::Suspect => {
                    tracing::debug!(
                        node = %me, member = %record.id, incarnation, "member refuted a suspicion"
                    );
                    self.events.push_back(Event::Refuted(record.id.clone()));
                    (old.record != record).then(|| Event::Updated(record.clone()))
                }
                State::Alive | State::Left => (old.record != record).then(|| Event::Updated(record.clone())),
            },
        };
        self.events.extend(event);
        let old = before.map(|(member, _)| member);
        let same_instance = old.as_ref().is_some_and(|old| old.record.id == record.id);
        let was_active = old.as_ref().is_some_and(|old| old.state.is_active());
        let last_seen = match (first_hand, same_instance) {
            (true, _) => Some(now),
            (false, true) => old.as_ref().and_then(|old| old.last_seen),
            (false, false) => None,
        };
        let since = match &old {
            Some(old) if same_instance && old.state == State::Alive => old.since,
            _ => now,
        };
        let state = State::Alive;
        let mut entry = Entry::new(Member { record, incarnation, state, since, last_seen });
        entry.announced = true;
        let update = Message::claim(&entry.member, self.me.name());
        self.roster.insert(entry);
        self.forgotten.remove(name.as_str());
        self.cancel_suspicion(&name);
        self.changed_at = now;
        if !was_active {
            self.probe_round.insert(name.clone(), self.roster.active().len(), &mut self.rng);
        }
        self.queue_update(&name, &update, origin);
        AliveOutcome::Accepted
    }

    /// Ensures capacity for one more member, if necessary by removing the departed member that is
    /// due next.
    fn free_capacity(&mut self, now: Instant) -> bool {
        if self.roster.len() + 1 < self.config.max_members {
            return true;
        }
        match self.roster.next_departed().cloned() {
            Some((_, name)) => {
                self.forget(&name, now);
                true
            }
            None => false,
        }
    }

    /// Processes a claim that a node did not answer a probe.
    pub(super) fn consider_suspect(
        &mut self,
        id: &NodeId,
        incarnation: u64,
        accuser: &NodeName,
        origin: Origin<'_>,
        now: Instant,
        replies: &mut Vec<Message>,
    ) {
        if id.name == *self.me.name() {
            return self.consider_own_state(id, incarnation, State::Suspect, now, replies);
        }
        let Some(entry) = self.entry_of_instance(id, incarnation) else { return };
        let (state, known, confirmation_sent_at) =
            (entry.member.state, entry.member.incarnation, entry.confirmation_sent_at);
        if state.is_active() && incarnation >= known {
            self.suspect(&id.name, incarnation, accuser, origin, now);
        } else if state == State::Failed && incarnation > known {
            // It has refuted the failure since and was suspected again, so it is a member. Its
            // record of that incarnation is not known, and the known record must not be gossiped as
            // that.
            let (record, record_incarnation) = (entry.member.record.clone(), entry.record_incarnation);
            self.accept_alive(record, incarnation, Origin { relay: false, ..origin }, now);
            self.roster.change(id.name.as_str(), |entry| entry.record_incarnation = record_incarnation);
            self.suspect(&id.name, incarnation, accuser, origin, now);
        } else if state == State::Failed && !origin.list && accuser != self.me.name() {
            // This node declared it failed long ago, and the sender only now suspects it. This node
            // adds a confirmation, not a failure claim: its own may be an error of a partition that
            // has just healed, and the suspect must have the time to refute.
            self.statistics.stale += 1;
            // Two nodes that both consider it failed answer each other's suspicions: a minimum time
            // between answers ends this.
            let due = confirmation_sent_at.is_none_or(|at| now >= at + self.config.notice_interval);
            if due {
                self.roster.note(id.name.as_str(), |entry| entry.confirmation_sent_at = Some(now));
                let accuser = self.me.name().clone();
                replies.push(Message::Suspect { id: id.clone(), incarnation, accuser });
            }
        } else {
            self.stale_accusation(id, origin, replies);
        }
    }

    /// Starts or confirms a suspicion of an active member.
    pub(super) fn suspect(
        &mut self,
        name: &NodeName,
        incarnation: u64,
        accuser: &NodeName,
        origin: Origin<'_>,
        now: Instant,
    ) {
        let members = self.alive_count();
        // This member is not counted as a suspect yet.
        let suspects = self.roster.suspects();
        let able = members.saturating_sub(suspects.len() + usize::from(!suspects.contains(name)));
        let config = &self.config;
        let Some((started, confirmed, deadline)) = self.roster.change(name.as_str(), |entry| {
            let running = entry.suspicion.as_mut().filter(|_| entry.member.incarnation == incarnation);
            let (started, confirmed) = match running {
                Some(suspicion) => (false, suspicion.confirm(accuser)),
                None => {
                    let suspicion = Suspicion::new(config, members, able, accuser.clone(), now);
                    entry.suspicion = Some(Box::new(suspicion));
                    if entry.member.state != State::Suspect {
                        entry.member.since = now;
                    }
                    entry.member.state = State::Suspect;
                    entry.member.incarnation = incarnation;
                    (true, false)
                }
            };
            (started, confirmed, entry.suspicion.as_ref().map(|suspicion| suspicion.deadline()))
        }) else {
            return;
        };
        if let Some(deadline) = deadline {
            self.timers.set(Timer::Suspicion(name.clone()), deadline);
        }
        let Some(id) = self.roster.get(name.as_str()).map(|entry| entry.member.record.id.clone()) else {
            return;
        };
        if started {
            tracing::info!(
                node = %self.me.record.id, member = %id, incarnation, %accuser, "member suspected"
            );
            self.statistics.suspicions += 1;
            self.events.push_back(Event::Suspected(id.clone()));
            self.notify(name, now);
            self.expect_fewer_confirmations();
            self.await_second_opinions(name, now);
            if accuser != self.me.name() {
                self.give_second_opinion(&id, now);
            }
        } else if confirmed {
            tracing::debug!(
                node = %self.me.record.id, member = %id, incarnation, %accuser, "suspicion confirmed"
            );
            self.statistics.confirmations += 1;
        }
        if started || confirmed {
            // Each independent accuser is gossiped: it shortens the suspicion at other members too.
            let update = Message::Suspect { id, incarnation, accuser: accuser.clone() };
            self.queue_update(name, &update, origin);
        }
    }

    /// Limits the expected confirmations to the members that are not suspected. Otherwise the last
    /// members of a cluster would wait for confirmations of failed ones.
    pub(super) fn expect_fewer_confirmations(&mut self) {
        let suspects = self.roster.suspects();
        let able = self.alive_count().saturating_sub(suspects.len());
        if able > self.config.suspicion_confirmations {
            return;
        }
        for name in suspects.clone() {
            let mut deadline = None;
            self.roster.note(name.as_str(), |entry| {
                if let Some(suspicion) = &mut entry.suspicion {
                    suspicion.expect_no_more_than(able);
                    deadline = Some(suspicion.deadline());
                }
            });
            if let Some(deadline) = deadline {
                self.timers.set(Timer::Suspicion(name), deadline);
            }
        }
    }

    /// Cancels the timers of a suspicion of this member.
    pub(super) fn cancel_suspicion(&mut self, name: &NodeName) {
        self.timers.cancel(&Timer::Suspicion(name.clone()));
        self.timers.cancel(&Timer::SecondOpinions(name.clone()));
    }

    /// Handles a suspicion that timed out without a refutation.
    pub(super) fn suspicion_over(&mut self, name: &NodeName, now: Instant) {
        let Some(entry) = self.roster.get(name.as_str()) else { return };
        if entry.member.state != State::Suspect {
            return;
        }
        let incarnation = entry.member.incarnation;
        self.statistics.failures_declared += 1;
        let me = self.me.name().clone();
        let origin =
            Origin { from: &me, source: self.me.record.address, list: false, relay: true, announce: true };
        self.depart(name, incarnation, State::Failed, &me, Duration::ZERO, origin, now);
        // If it is alive after all, it should learn of the claim at once.
        self.notify(name, now);
    }

    /// Processes a claim that a node has failed.
    pub(super) fn consider_failed(
        &mut self,
        id: &NodeId,
        incarnation: u64,
        accuser: &NodeName,
        origin: Origin<'_>,
        now: Instant,
        replies: &mut Vec<Message>,
    ) {
        if id.name == *self.me.name() {
            return self.consider_own_state(id, incarnation, State::Failed, now, replies);
        }
        let Some(entry) = self.entry_of_instance(id, incarnation) else {
            return self.remember_departure(id, incarnation, State::Failed, now);
        };
        let (state, known) = (entry.member.state, entry.member.incarnation);
        if state == State::Failed && incarnation > known {
            // Only an even higher incarnation refutes this.
            self.roster.change(id.name.as_str(), |entry| entry.member.incarnation = incarnation);
            self.changed_at = now;
            let update = Message::Failed { id: id.clone(), incarnation, accuser: accuser.clone() };
            return self.queue_update(&id.name, &update, origin);
        }
        if !state.is_active() || incarnation < known {
            return self.stale_accusation(id, origin, replies);
        }
        if origin.list || !self.is_unresponsive_suspect(&id.name, incarnation, now) {
            // Both sides of a healed partition consider each other's members failed. Accepting
            // these claims would spread the error to nodes that know better; a suspicion gives the
            // member time to refute.
            self.suspect(&id.name, incarnation, accuser, origin, now);
            // Gossip delivers failure claims as they are made: a node that only missed the
            // suspicion need not wait for its full timeout again. This node's suspicion reaches the
            // suspect at once.
            let enough = (!origin.list).then(|| self.config.probe_interval.mul_f64(1.5));
            return self.shorten_for_failed_report(&id.name, enough, now);
        }
        self.depart(&id.name, incarnation, State::Failed, accuser, Duration::ZERO, origin, now);
    }

    /// Whether this node has suspected a member long enough for a refutation to arrive and has not
    /// heard from it since. A crashed member fulfils this: its suspicion spread seconds before the
    /// first failure claim. A failure claim without a prior suspicion comes from a node with a
    /// different view.
    fn is_unresponsive_suspect(&self, name: &NodeName, incarnation: u64, now: Instant) -> bool {
        let Some(entry) = self.roster.get(name.as_str()) else { return true };
        let member = &entry.member;
        entry.suspicion.as_ref().filter(|_| member.incarnation == incarnation).is_some_and(|suspicion| {
            suspicion.age(now) >= self.config.probe_interval && !suspicion.was_heard_from(member.last_seen)
        })
    }

    /// Limits the suspicion of a member that a peer has declared failed to the time needed for a
    /// refutation.
    fn shorten_for_failed_report(&mut self, name: &NodeName, enough: Option<Duration>, now: Instant) {
        let mut deadline = None;
        self.roster.note(name.as_str(), |entry| {
            let last_seen = entry.member.last_seen;
            if let Some(suspicion) = &mut entry.suspicion {
                suspicion.shorten_for_failed_report(last_seen, enough, now);
                deadline = Some(suspicion.deadline());
            }
        });
        if let Some(deadline) = deadline {
            self.timers.set(Timer::Suspicion(name.clone()), deadline);
        }
    }

    /// Processes a claim that a node has left.
    pub(super) fn consider_left(
        &mut self,
        id: &NodeId,
        incarnation: u64,
        origin: Origin<'_>,
        now: Instant,
        replies: &mut Vec<Message>,
    ) {
        if id.name == *self.me.name() {
            return self.consider_own_state(id, incarnation, State::Left, now, replies);
        }
        let Some(entry) = self.entry_of_instance(id, incarnation) else {
            return self.remember_departure(id, incarnation, State::Left, now);
        };
        if entry.member.state != State::Left {
            let accuser = id.name.clone();
            self.depart(&id.name, incarnation, State::Left, &accuser, Duration::ZERO, origin, now);
        }
    }

    /// The member that a claim without a record refers to, if this instance of it is known and the
    /// numbers are within their limits.
    fn entry_of_instance(&mut self, id: &NodeId, incarnation: u64) -> Option<&Entry> {
        if incarnation > MAX_INCARNATION || self.leaving.is_some() {
            self.statistics.invalid += u64::from(self.leaving.is_none());
            return None;
        }
        let entry = self.roster.get(id.name.as_str())?;
        if entry.member.record.id.generation != id.generation {
            self.statistics.stale += 1;
            return None;
        }
        Some(entry)
    }

    /// Records a claim that an unknown node has failed or left. It does not create a member, but an
    /// older claim that the node is alive may still be in flight.
    fn remember_departure(&mut self, id: &NodeId, incarnation: u64, state: State, now: Instant) {
        let valid = incarnation <= MAX_INCARNATION && self.is_plausible_generation(id.generation, now);
        if valid && self.roster.get(id.name.as_str()).is_none() && self.leaving.is_none() {
            let standing = Standing::new(id.generation, incarnation, state);
            self.forgotten.keep(
                &id.name,
                standing,
                ClaimSource::Reported,
                now + self.config.memory_retention,
            );
        }
    }

    /// Answers an accusation of a node that left with its leave message; other stale accusations
    /// are only late.
    fn stale_accusation(&mut self, id: &NodeId, origin: Origin<'_>, replies: &mut Vec<Message>) {
        let Some(entry) = self.roster.get(id.name.as_str()) else { return };
        self.statistics.stale += 1;
        if entry.member.state == State::Left && !origin.list {
            replies.push(Message::claim(&entry.member, self.me.name()));
        }
    }

    /// Records that a member has failed or left.
    #[expect(clippy::too_many_arguments, reason = "each describes a different aspect of the same departure")]
    pub(super) fn depart(
        &mut self,
        name: &NodeName,
        incarnation: u64,
        state: State,
        accuser: &NodeName,
        departed_for: Duration,
        origin: Origin<'_>,
        now: Instant,
    ) {
        let forget_at = now + self.config.departed_retention.saturating_sub(departed_for);
        let Some((member, announced)) = self.roster.change(name.as_str(), |entry| {
            entry.member.state = state;
            entry.member.incarnation = entry.member.incarnation.max(incarnation);
            entry.member.since = now;
            entry.suspicion = None;
            entry.forget_at = Some(forget_at);
            (entry.member.clone(), entry.announced)
        }) else {
            return;
        };
        self.cancel_suspicion(name);
        self.changed_at = now;
        self.schedule_reap();
        let id = member.record.id.clone();
        tracing::info!(node = %self.me.record.id, member = %id, incarnation, %accuser, "member {state}");
        if announced {
            self.events.push_back(match state {
                State::Left => Event::Left(id),
                _ => Event::Failed(id),
            });
        }
        let update = Message::claim(&member, accuser);
        self.queue_update(name, &update, origin);
        self.expect_fewer_confirmations();
        if self.roster.active().len() == 0 && self.leaving.is_none() {
            // The other members may be alive, and this node cut off or removed by them.
            self.timers.set(Timer::Rejoin, now);
        }
    }

    /// Queues an update about a member.
    fn queue_update(&mut self, name: &NodeName, update: &Message, origin: Origin<'_>) {
        if !origin.relay {
            // The queued update about it is older than this.
            self.broadcasts.remove(name.as_str());
            return;
        }
        let message = codec::encode(update);
        if !self.broadcasts.push(name.clone(), message, Urgency::Others, origin.announce) {
            self.statistics.broadcasts_dropped += 1;
        }
    }

    /// Sends a node the claim about it so that it can refute it. At most once per interval, or two
    /// nodes that consider each other failed would never stop.
    pub(super) fn notify(&mut self, name: &NodeName, now: Instant) {
        let interval = self.config.notice_interval;
        let Some(entry) = self.roster.get(name.as_str()) else { return };
        if entry.notified_at.is_some_and(|at| now < at + interval) {
            return;
        }
        if self.notices.len() >= self.config.max_notices {
            self.statistics.notices_dropped += 1;
            return;
        }
        let message = codec::encode(&Message::claim(&entry.member, self.me.name()));
        let to = Destination { name: Some(name.clone()), address: entry.member.record.address };
        self.notices.push_back((to, message));
        self.statistics.notices += 1;
        self.roster.note(name.as_str(), |entry| entry.notified_at = Some(now));
    }

    /// Records that this instance was heard from directly.
    pub(super) fn touch(&mut self, id: &NodeId, now: Instant) {
        self.roster.note(id.name.as_str(), |entry| {
            if entry.member.record.id.generation == id.generation {
                entry.member.last_seen = Some(now);
            }
        });
    }
}
