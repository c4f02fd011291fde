//! What is believed of the claims about other members.

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

/// How a claim came here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    /// Who sent it, as the transport vouches.
    pub(super) from: &'a NodeName,
    /// From where.
    pub(super) source: SocketAddr,
    /// Whether it is a line of a member list, rather than news.
    pub(super) list: bool,
    /// Whether what is new in it is to be passed on. Not what a newcomer learns from those who knew it long before.
    pub(super) relay: bool,
    /// Whether it is this node's task to tell everybody, and not only to pass it on.
    pub(super) announce: bool,
}

/// What became of a claim that a node is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was news, and is believed.
    Accepted,
    /// It was known.
    Known,
    /// Something else is held of the same life, or of a later one that is alive.
    Stale(Message),
    /// The life is not later than one known of this name.
    Outdated(Outdated),
    /// The present holder of the name is being probed.
    Pending,
    /// The present holder of the name lives.
    Taken(NameInUse),
    /// There is no room.
    Full,
    /// It makes no sense.
    Invalid,
}

impl Verdict {
    /// What the sender of the claim should know.
    pub(super) fn answer(self, replies: &mut Vec<Message>) {
        match self {
            Verdict::Stale(held) => replies.push(held),
            Verdict::Outdated(outdated) => replies.push(Message::Outdated(outdated)),
            Verdict::Taken(in_use) => replies.push(Message::NameInUse(in_use)),
            Verdict::Accepted | Verdict::Known | Verdict::Pending | Verdict::Full | Verdict::Invalid => {}
        }
    }
}

impl Membership {
    /// A claim that a node is alive, as the record says.
    pub(super) fn consider_alive(
        &mut self,
        record: NodeRecord,
        incarnation: u64,
        origin: Origin<'_>,
        now: Instant,
    ) -> Verdict {
        if let Err(error) = record.check().map_err(|error| error.to_string()).and_then(|()| {
            let absurd =
                incarnation > MAX_INCARNATION || !self.is_plausible_generation(record.id.generation, now);
            (!absurd).then_some(()).ok_or_else(|| "absurd generation or incarnation".to_owned())
        }) {
            tracing::debug!(node = %self.me.record.id, from = %origin.from, error, "claim refused");
            self.statistics.invalid += 1;
            return Verdict::Invalid;
        }
        if self.leaving.is_some() {
            return Verdict::Known;
        }
        if record.id.name == *self.me.name() {
            return self.consider_own_record(record, incarnation, origin, now);
        }
        let first_hand = record.id.name == *origin.from;
        let claimed = Standing::new(record.id.generation, incarnation, State::Alive);
        let Some(entry) = self.roster.get(record.id.name.as_str()) else {
            return self.consider_unknown(record, claimed, origin, now);
        };
        let held = &entry.member;
        let standing = held.standing();
        let moved = held.record.address != record.address;
        if first_hand && moved && held.state.is_active() {
            let same_instance = record.id.generation == standing.generation;
            // Of two addresses of one life the later incarnation's counts; an earlier one is an old message.
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

    /// A claim about a name that is not among the members; perhaps it once was.
    fn consider_unknown(
        &mut self,
        record: NodeRecord,
        claimed: Standing,
        origin: Origin<'_>,
        now: Instant,
    ) -> Verdict {
        if let Some(remembered) = self.forgotten.get(record.id.name.as_str())
            && remembered >= claimed
        {
            self.statistics.stale += 1;
            let outdated = Outdated { claimed: record.id.generation, known: remembered.generation };
            if outdated.claimed < outdated.known || remembered.state() == State::Left {
                return Verdict::Outdated(outdated);
            }
            // The same life, once held failed: it proves that it lives by refuting that.
            return Verdict::Stale(Message::Failed {
                id: record.id,
                incarnation: remembered.incarnation,
                accuser: self.me.name().clone(),
            });
        }
        self.accept_alive(record, claimed.incarnation, origin, now)
    }

    /// A claim that does not supersede what is held.
    fn stale_alive(
        &mut self,
        record: NodeRecord,
        incarnation: u64,
        first_hand: bool,
        now: Instant,
    ) -> Verdict {
        let name = record.id.name.clone();
        let Some(entry) = self.roster.get(name.as_str()) else { return Verdict::Known };
        let held = &entry.member;
        if record.id.generation == held.record.id.generation && incarnation == held.incarnation {
            // A suspicion overtook the record of its incarnation.
            if entry.record_incarnation < incarnation && held.state != State::Left {
                let changed = held.record != record;
                let announced = entry.announced;
                self.roster.change(name.as_str(), |entry| {
                    entry.member.record = record.clone();
                    entry.record_incarnation = incarnation;
                });
                if changed && announced {
                    self.events.push_back(Event::Updated(record));
                }
                return Verdict::Known;
            }
            if held.state == State::Alive {
                return Verdict::Known;
            }
        }
        self.statistics.stale += 1;
        let outdated = Outdated { claimed: record.id.generation, known: held.record.id.generation };
        if outdated.claimed < outdated.known {
            // An earlier life. If its own node says so, a clock was set back, and it must go beyond what is known; or it has done so,
            // and this was under way for longer than what told of it.
            return match first_hand {
                true => Verdict::Outdated(outdated),
                false => Verdict::Known,
            };
        }
        let answer = Message::claim(held, self.me.name());
        match (first_hand, held.state) {
            (true, State::Left) => Verdict::Outdated(outdated),
            // It must learn what is held against it, or it would never refute it and stay dead for us.
            (true, _) => Verdict::Stale(answer),
            (false, State::Failed) => {
                self.notify(&name, now);
                Verdict::Known
            }
            // Nobody refutes a good-bye: whoever has not heard of it shall.
            (false, State::Left) => Verdict::Stale(answer),
            (false, State::Alive | State::Suspect) => Verdict::Known,
        }
    }

    /// Believes a claim that supersedes everything held about the name.
    pub(super) fn accept_alive(
        &mut self,
        record: NodeRecord,
        incarnation: u64,
        origin: Origin<'_>,
        now: Instant,
    ) -> Verdict {
        let name = record.id.name.clone();
        let first_hand = name == *origin.from;
        let before = self.roster.get(name.as_str()).map(|entry| (entry.member.clone(), entry.announced));
        if before.is_none() && !self.free_capacity(now) {
            self.statistics.members_refused += 1;
            return Verdict::Full;
        }
        let me = &self.me.record.id;
        let event = match &before {
            None => {
                // What a list teaches may be thousands of members; each of them is news elsewhere, not here.
                if origin.list {
                    tracing::debug!(node = %me, member = %record.id, address = %record.address, "member learned");
                } else {
                    tracing::info!(node = %me, member = %record.id, address = %record.address, "member joined");
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
                    tracing::debug!(node = %me, member = %record.id, incarnation, "suspected member objected");
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
        Verdict::Accepted
    }

    /// Whether there is room for one more member, perhaps after forgetting the one that would be forgotten next.
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

    /// A claim that a node did not answer.
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
        let (state, held, confirmation_sent_at) =
            (entry.member.state, entry.member.incarnation, entry.confirmation_sent_at);
        if state.is_active() && incarnation >= held {
            self.suspect(&id.name, incarnation, accuser, origin, now);
        } else if state == State::Failed && incarnation > held {
            // It has refuted our verdict since, and was suspected again: so it is a member. Its record of that
            // incarnation is not known, and must not be told to others as if it were.
            let (record, known) = (entry.member.record.clone(), entry.record_incarnation);
            self.accept_alive(record, incarnation, Origin { relay: false, ..origin }, now);
            self.roster.change(id.name.as_str(), |entry| entry.record_incarnation = known);
            self.suspect(&id.name, incarnation, accuser, origin, now);
        } else if state == State::Failed && !origin.list && accuser != self.me.name() {
            // Long decided here, and not told to those who find it out only now. It is one voice more, and no verdict: this
            // one may be the error of a partition that has just healed, and the suspect shall have the time to object.
            self.statistics.stale += 1;
            // Two that both hold it failed answer each other's voices too: not at once, or they would never stop.
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

    /// Begins or confirms a suspicion of an active member.
    pub(super) fn suspect(
        &mut self,
        name: &NodeName,
        incarnation: u64,
        accuser: &NodeName,
        origin: Origin<'_>,
        now: Instant,
    ) {
        let members = self.alive_count();
        // This one is not suspected yet, and does not count.
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
            tracing::info!(node = %self.me.record.id, member = %id, incarnation, %accuser, "member suspected");
            self.statistics.suspicions += 1;
            self.events.push_back(Event::Suspected(id.clone()));
            self.notify(name, now);
            self.expect_fewer_confirmations();
            self.await_second_opinions(name, now);
            if accuser != self.me.name() {
                self.give_second_opinion(&id, now);
            }
        } else if confirmed {
            tracing::debug!(node = %self.me.record.id, member = %id, incarnation, %accuser, "suspicion confirmed");
            self.statistics.confirmations += 1;
        }
        if started || confirmed {
            // Every independent accuser is news of its own: it shortens the suspicion elsewhere too.
            let update = Message::Suspect { id, incarnation, accuser: accuser.clone() };
            self.queue_update(name, &update, origin);
        }
    }

    /// When most of the others are suspected or gone, those who are not are all there is to wait for. Else the last ones
    /// of a cluster would wait for the confirmations of the dead.
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

    /// Nothing is waited for any more that a suspicion of this member had led to.
    pub(super) fn cancel_suspicion(&mut self, name: &NodeName) {
        self.timers.cancel(&Timer::Suspicion(name.clone()));
        self.timers.cancel(&Timer::SecondOpinions(name.clone()));
    }

    /// The suspect has not objected in time.
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
        // If it lives after all, it should not have to wait until somebody tells it.
        self.notify(name, now);
    }

    /// A claim that a node has failed.
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
        let (state, held) = (entry.member.state, entry.member.incarnation);
        if state == State::Failed && incarnation > held {
            // Only a still higher incarnation refutes this.
            self.roster.change(id.name.as_str(), |entry| entry.member.incarnation = incarnation);
            self.changed_at = now;
            let update = Message::Failed { id: id.clone(), incarnation, accuser: accuser.clone() };
            return self.queue_update(&id.name, &update, origin);
        }
        if !state.is_active() || incarnation < held {
            return self.stale_accusation(id, origin, replies);
        }
        if origin.list || !self.is_unresponsive_suspect(&id.name, incarnation, now) {
            // Two sides of a healed partition hold each other's members failed. Believing them would let the error spread
            // to those who know better; a suspicion gives the node the time to object.
            self.suspect(&id.name, incarnation, accuser, origin, now);
            // Gossip brings verdicts as they fall: who has only missed the suspicion is not to wait for all of it again. The
            // suspect hears of ours at once.
            let enough = (!origin.list).then(|| self.config.probe_interval.mul_f64(1.5));
            return self.shorten_for_failed_report(&id.name, enough, now);
        }
        self.depart(&id.name, incarnation, State::Failed, accuser, Duration::ZERO, origin, now);
    }

    /// Whether a member has been suspected here for so long that an objection would have come, and was not heard from
    /// since. Who crashed has: its suspicion spread seconds before the first verdict. A verdict of which there was no
    /// suspicion before comes from somewhere else, where things may be seen otherwise.
    fn is_unresponsive_suspect(&self, name: &NodeName, incarnation: u64, now: Instant) -> bool {
        let Some(entry) = self.roster.get(name.as_str()) else { return true };
        let member = &entry.member;
        entry.suspicion.as_ref().filter(|_| member.incarnation == incarnation).is_some_and(|suspicion| {
            suspicion.age(now) >= self.config.probe_interval && !suspicion.was_heard_from(member.last_seen)
        })
    }

    /// Somebody's suspicion of this suspect has run out: it has the time to object, and no more.
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

    /// A claim that a node has said good-bye.
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

    /// The member a claim without a record is about, if this very life of it is held and the numbers make sense.
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

    /// No member is made of a claim that somebody is gone, but it is remembered: an older claim that it is alive may
    /// still be under way.
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

    /// An accusation against somebody who left is answered with that; others are simply late.
    fn stale_accusation(&mut self, id: &NodeId, origin: Origin<'_>, replies: &mut Vec<Message>) {
        let Some(entry) = self.roster.get(id.name.as_str()) else { return };
        self.statistics.stale += 1;
        if entry.member.state == State::Left && !origin.list {
            replies.push(Message::claim(&entry.member, self.me.name()));
        }
    }

    /// A member has failed or left.
    #[expect(clippy::too_many_arguments, reason = "each says something else about the same departure")]
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
            // The others may be well, and only this node cut off or forgotten.
            self.timers.set(Timer::Rejoin, now);
        }
    }

    /// Queues news about a member.
    fn queue_update(&mut self, name: &NodeName, update: &Message, origin: Origin<'_>) {
        if !origin.relay {
            // What is queued about it is older than this.
            self.broadcasts.remove(name.as_str());
            return;
        }
        let message = codec::encode(update);
        if !self.broadcasts.push(name.clone(), message, Urgency::Others, origin.announce) {
            self.statistics.broadcasts_dropped += 1;
        }
    }

    /// Tells a node what is held against it, so that it can refute it; not more often than once an interval, or two
    /// nodes that hold each other dead would never stop.
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

    /// This life was heard from directly.
    pub(super) fn touch(&mut self, id: &NodeId, now: Instant) {
        self.roster.note(id.name.as_str(), |entry| {
            if entry.member.record.id.generation == id.generation {
                entry.member.last_seen = Some(now);
            }
        });
    }
}
