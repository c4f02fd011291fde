//! Claims that members are alive: which are accepted and what follows from them.

use std::net::SocketAddr;
use std::time::Instant;

use wire::codec;
use wire::{Destination, NodeId, NodeName};

use crate::broadcast::Urgency;
use crate::event::Event;
use crate::member::{MAX_INCARNATION, Member, NodeRecord, Standing, State};
use crate::message::{Message, NameInUse, Outdated};
use crate::roster::Entry;

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
            self.statistics.ignored_invalid += 1;
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
            self.statistics.ignored_stale += 1;
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
        self.statistics.ignored_stale += 1;
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
            self.statistics.joins_refused_members += 1;
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
        if same_instance {
            // An alive claim refutes the accusation; operators still see who made it.
            self.roster.note(name.as_str(), |old| {
                (entry.acknowledged, entry.accused) = (old.acknowledged, old.accused.take());
            });
        }
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

    /// Queues an update about a member.
    pub(super) fn queue_update(&mut self, name: &NodeName, update: &Message, origin: Origin<'_>) {
        if !origin.relay {
            // The queued update about it is older than this.
            self.broadcasts.remove(name.as_str());
            return;
        }
        let message = codec::encode(update);
        if !self.broadcasts.push(name.clone(), message, Urgency::Others, origin.announce) {
            self.statistics.dropped_updates += 1;
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
            self.statistics.dropped_notices += 1;
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
