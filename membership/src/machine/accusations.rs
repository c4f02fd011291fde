//! Claims that a member is suspect, has failed or has left, and what follows from them.

use std::time::{Duration, Instant};

use wire::{NodeId, NodeName};

use crate::event::Event;
use crate::forgotten::ClaimSource;
use crate::member::{MAX_INCARNATION, Standing, State};
use crate::message::Message;
use crate::roster::Entry;
use crate::suspicion::Suspicion;
use crate::timers::Timer;

use super::Membership;
use super::claims::Origin;

impl Membership {
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
            self.statistics.ignored_stale += 1;
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
            self.note_accuser(name, accuser, started, now);
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
            self.statistics.ignored_invalid += u64::from(self.leaving.is_none());
            return None;
        }
        let entry = self.roster.get(id.name.as_str())?;
        if entry.member.record.id.generation != id.generation {
            self.statistics.ignored_stale += 1;
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
        self.statistics.ignored_stale += 1;
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
        if state == State::Failed {
            self.note_failed_by(name, accuser, now);
        }
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
}
