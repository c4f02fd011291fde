//! Two nodes of one name: a newcomer waits until the present holder has been probed.

use std::net::SocketAddr;
use std::time::Instant;

use wire::{Destination, NodeId, NodeName};

use crate::event::{ConflictRole, Event, NameConflict, Purpose};
use crate::member::{NodeRecord, Standing, State};
use crate::message::{Message, NameInUse, Outdated};

use super::Membership;
use super::claims::{Origin, Verdict};
use super::probe::Reason;

/// A newcomer that waits.
#[derive(Debug)]
pub(super) struct Check {
    claimant: NodeRecord,
    incarnation: u64,
    holder: NodeId,
    holder_address: SocketAddr,
}

/// What was found about a claim lately: it need not be found again for every message of the claimant.
#[derive(Debug)]
pub(super) struct Ruling {
    in_use: NameInUse,
    pub(super) until: Instant,
}

impl Membership {
    /// A node at another address claims the name of an active member. It waits until that member has been probed, and
    /// the member is not disturbed.
    pub(super) fn check_holder(&mut self, claimant: NodeRecord, incarnation: u64, now: Instant) -> Verdict {
        let name = claimant.id.name.clone();
        let Some(entry) = self.roster.get(name.as_str()) else { return Verdict::Known };
        let holder = entry.member.record.id.clone();
        let holder_address = entry.member.record.address;
        if let Some(ruling) = self.rulings.get(&name)
            && ruling.until > now
            && ruling.in_use.holder == holder
            && ruling.in_use.claimant == claimant.id
            && ruling.in_use.claimant_address == claimant.address
        {
            return Verdict::Taken(ruling.in_use.clone());
        }
        if self.checks.contains_key(&name) {
            return Verdict::Pending;
        }
        if self.checks.len() >= self.config.max_pending_joins {
            self.statistics.pending_joins_refused += 1;
            return Verdict::Full;
        }
        tracing::info!(
            node = %self.me.record.id, claimant = %claimant.id, at = %claimant.address, holder = %holder,
            %holder_address, "a node claims the name of a member from another address; probing the member"
        );
        self.start_probe(holder.clone(), holder_address, Reason::NameCheck, now);
        self.checks.insert(name, Check { claimant, incarnation, holder, holder_address });
        Verdict::Pending
    }

    /// The holder lives: the claimant is refused, and both are told.
    pub(super) fn holder_answered(&mut self, name: &NodeName, now: Instant) {
        let Some(check) = self.checks.remove(name) else { return };
        let in_use = NameInUse {
            holder: check.holder,
            holder_address: check.holder_address,
            claimant: check.claimant.id,
            claimant_address: check.claimant.address,
        };
        let until = now + self.config.conflict_report_interval;
        if self.rulings.len() >= self.config.max_pending_joins {
            self.rulings.retain(|_, ruling| ruling.until > now);
        }
        if self.rulings.len() >= self.config.max_pending_joins {
            self.rulings.pop_first();
        }
        self.rulings.insert(name.clone(), Ruling { in_use: in_use.clone(), until });
        self.report_conflict(in_use, now);
    }

    /// The holder does not answer: the claimant takes its place.
    pub(super) fn holder_silent(&mut self, name: &NodeName, now: Instant) {
        let Some(check) = self.checks.remove(name) else { return };
        let Some(entry) = self.roster.get(name.as_str()) else { return };
        if entry.member.record.id != check.holder || entry.member.record.address != check.holder_address {
            // Decided otherwise meanwhile, by another member.
            return;
        }
        let standing = entry.member.standing();
        let holder_incarnation = entry.member.incarnation;
        let claimed = Standing::new(check.claimant.id.generation, check.incarnation, State::Alive);
        let me = self.me.name().clone();
        let source = self.me.record.address;
        let by_me = Origin { from: &me, source, list: false, relay: true, announce: true };
        if claimed > standing {
            self.accept_alive(check.claimant, check.incarnation, by_me, now);
            return;
        }
        // It may have the name, but not with a life that others must take for an old one.
        let outdated = Outdated { claimed: check.claimant.id.generation, known: check.holder.generation };
        let to = Destination { name: Some(name.clone()), address: check.claimant.address };
        self.send_messages(to, vec![Message::Outdated(outdated)], Purpose::Gossip);
        self.suspect(name, holder_incarnation, &me, by_me, now);
    }

    /// Somebody found that this node's name is borne twice, or that it has refused another.
    pub(super) fn told_of_conflict(&mut self, in_use: NameInUse, now: Instant) {
        let own = &self.me.record.id;
        if in_use.claimant == *own || in_use.holder == *own {
            self.report_conflict(in_use, now);
        }
    }

    /// Another node speaks under this node's own name, directly to it.
    pub(super) fn process_own_name(
        &mut self,
        source: SocketAddr,
        message: Message,
        now: Instant,
        replies: &mut Vec<Message>,
    ) {
        let (claimant, claimant_address) = match message {
            Message::Alive { record, .. } => (record.id, record.address),
            Message::Ping { generation, .. } => (NodeId::new(self.me.name().clone(), generation), source),
            Message::NameInUse(in_use) => return self.told_of_conflict(in_use, now),
            _ => return,
        };
        if claimant == self.me.record.id && claimant_address == self.me.record.address {
            return;
        }
        let in_use = self.held_by_us(claimant, claimant_address);
        if self.report_conflict(in_use.clone(), now) {
            replies.push(Message::NameInUse(in_use));
        }
    }

    /// The refusal of a node that wants this node's own name.
    pub(super) fn held_by_us(&self, claimant: NodeId, claimant_address: SocketAddr) -> NameInUse {
        NameInUse {
            holder: self.me.record.id.clone(),
            holder_address: self.me.record.address,
            claimant,
            claimant_address,
        }
    }

    /// Tells the owner, and if this node is neither of the two, both of them. Not more often than once an interval for
    /// each name; false if it was too soon.
    pub(super) fn report_conflict(&mut self, in_use: NameInUse, now: Instant) -> bool {
        let name = in_use.holder.name.clone();
        let interval = self.config.conflict_report_interval;
        if self.conflicts_reported.get(&name).is_some_and(|at| now < *at + interval) {
            return false;
        }
        if self.conflicts_reported.len() >= self.config.max_pending_joins {
            self.conflicts_reported.retain(|_, at| now < *at + interval);
        }
        if self.conflicts_reported.len() >= self.config.max_pending_joins {
            return false;
        }
        self.conflicts_reported.insert(name.clone(), now);
        self.statistics.name_conflicts += 1;
        let own = &self.me.record.id;
        let role = match () {
            () if in_use.holder == *own && in_use.holder_address == self.me.record.address => {
                ConflictRole::Holder
            }
            () if in_use.claimant == *own => ConflictRole::Claimant,
            () => ConflictRole::Witness,
        };
        let (holder, claimant) = (in_use.holder_address, in_use.claimant_address);
        let conflict = NameConflict { name: name.clone(), role, holder, claimant };
        tracing::debug!(node = %own, ?role, %conflict, "name conflict");
        self.events.push_back(Event::NameConflict(conflict));
        if role == ConflictRole::Witness {
            for address in [holder, claimant] {
                let to = Destination { name: Some(name.clone()), address };
                self.send_messages(to, vec![Message::NameInUse(in_use.clone())], Purpose::Gossip);
            }
        }
        true
    }
}
