//! Name conflicts: a node that claims the name of a member waits until the current owner was
//! probed.

use std::net::SocketAddr;
use std::time::Instant;

use wire::{Destination, NodeId, NodeName};

use crate::event::{ConflictRole, Event, NameConflict, Purpose};
use crate::member::{NodeRecord, Standing, State};
use crate::message::{Message, NameInUse, Outdated};

use super::Membership;
use super::claims::{AliveOutcome, Origin};
use super::probe::Reason;

/// A joining node that waits for the probe of the current owner of its name.
#[derive(Debug)]
pub(super) struct PendingJoin {
    claimant: NodeRecord,
    incarnation: u64,
    owner: NodeId,
    owner_address: SocketAddr,
}

/// A recent decision about a claim, so that not every message of the claimant causes a probe.
#[derive(Debug)]
pub(super) struct ConflictDecision {
    in_use: NameInUse,
    pub(super) until: Instant,
}

impl Membership {
    /// Handles a node at another address that claims the name of an active member. It waits until
    /// that member was probed; the member is not affected.
    pub(super) fn check_owner(
        &mut self,
        claimant: NodeRecord,
        incarnation: u64,
        now: Instant,
    ) -> AliveOutcome {
        let name = claimant.id.name.clone();
        let Some(entry) = self.roster.get(name.as_str()) else { return AliveOutcome::Known };
        let owner = entry.member.record.id.clone();
        let owner_address = entry.member.record.address;
        if let Some(decision) = self.conflict_decisions.get(&name)
            && decision.until > now
            && decision.in_use.owner == owner
            && decision.in_use.claimant == claimant.id
            && decision.in_use.claimant_address == claimant.address
        {
            return AliveOutcome::Taken(decision.in_use.clone());
        }
        if self.pending_joins.contains_key(&name) {
            return AliveOutcome::Pending;
        }
        if self.pending_joins.len() >= self.config.max_pending_joins {
            self.statistics.joins_refused_pending += 1;
            return AliveOutcome::Full;
        }
        tracing::info!(
            node = %self.me.record.id, claimant = %claimant.id, at = %claimant.address, owner = %owner,
            %owner_address, "a node claims the name of a member from another address; probing the member"
        );
        self.start_probe(owner.clone(), owner_address, Reason::NameCheck, now);
        self.pending_joins.insert(name, PendingJoin { claimant, incarnation, owner, owner_address });
        AliveOutcome::Pending
    }

    /// The owner is alive: refuses the claimant and reports the conflict to both.
    pub(super) fn owner_answered(&mut self, name: &NodeName, now: Instant) {
        let Some(pending) = self.pending_joins.remove(name) else { return };
        let in_use = NameInUse {
            owner: pending.owner,
            owner_address: pending.owner_address,
            claimant: pending.claimant.id,
            claimant_address: pending.claimant.address,
        };
        let until = now + self.config.conflict_report_interval;
        if self.conflict_decisions.len() >= self.config.max_pending_joins {
            self.conflict_decisions.retain(|_, decision| decision.until > now);
        }
        if self.conflict_decisions.len() >= self.config.max_pending_joins {
            self.conflict_decisions.pop_first();
        }
        self.conflict_decisions.insert(name.clone(), ConflictDecision { in_use: in_use.clone(), until });
        self.report_conflict(in_use, now);
    }

    /// The owner does not answer: the claimant replaces it.
    pub(super) fn owner_unresponsive(&mut self, name: &NodeName, now: Instant) {
        let Some(pending) = self.pending_joins.remove(name) else { return };
        let Some(entry) = self.roster.get(name.as_str()) else { return };
        if entry.member.record.id != pending.owner || entry.member.record.address != pending.owner_address {
            // Another member has decided otherwise meanwhile.
            return;
        }
        let standing = entry.member.standing();
        let owner_incarnation = entry.member.incarnation;
        let claimed = Standing::new(pending.claimant.id.generation, pending.incarnation, State::Alive);
        let me = self.me.name().clone();
        let source = self.me.record.address;
        let by_me = Origin { from: &me, source, list: false, relay: true, announce: true };
        if claimed > standing {
            self.accept_alive(pending.claimant, pending.incarnation, by_me, now);
            return;
        }
        // The claimant may have the name, but not with an instance that peers consider an old one.
        let outdated = Outdated { claimed: pending.claimant.id.generation, known: pending.owner.generation };
        let to = Destination { name: Some(name.clone()), address: pending.claimant.address };
        self.send_messages(to, vec![Message::Outdated(outdated)], Purpose::Gossip);
        self.suspect(name, owner_incarnation, &me, by_me, now);
    }

    /// Handles a peer's report that another node uses this node's name, or that this node claimed a
    /// name in use.
    pub(super) fn receive_conflict_report(&mut self, in_use: NameInUse, now: Instant) {
        let own = &self.me.record.id;
        if in_use.claimant == *own || in_use.owner == *own {
            self.report_conflict(in_use, now);
        }
    }

    /// Handles a message of another node that uses this node's own name.
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
            Message::NameInUse(in_use) => return self.receive_conflict_report(in_use, now),
            _ => return,
        };
        if claimant == self.me.record.id && claimant_address == self.me.record.address {
            return;
        }
        let in_use = self.owned_by_us(claimant, claimant_address);
        if self.report_conflict(in_use.clone(), now) {
            replies.push(Message::NameInUse(in_use));
        }
    }

    /// The refusal of a node that claims this node's own name.
    pub(super) fn owned_by_us(&self, claimant: NodeId, claimant_address: SocketAddr) -> NameInUse {
        NameInUse {
            owner: self.me.record.id.clone(),
            owner_address: self.me.record.address,
            claimant,
            claimant_address,
        }
    }

    /// Reports the conflict to the caller and, if this node is neither of the two, to both nodes.
    /// At most once per interval and name; returns false if it was too soon.
    pub(super) fn report_conflict(&mut self, in_use: NameInUse, now: Instant) -> bool {
        let name = in_use.owner.name.clone();
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
            () if in_use.owner == *own && in_use.owner_address == self.me.record.address => {
                ConflictRole::Owner
            }
            () if in_use.claimant == *own => ConflictRole::Claimant,
            () => ConflictRole::Witness,
        };
        let (owner, claimant) = (in_use.owner_address, in_use.claimant_address);
        let conflict = NameConflict { name: name.clone(), role, owner, claimant };
        tracing::debug!(node = %own, ?role, %conflict, "name conflict");
        self.events.push_back(Event::NameConflict(conflict));
        if role == ConflictRole::Witness {
            for address in [owner, claimant] {
                let to = Destination { name: Some(name.clone()), address };
                self.send_messages(to, vec![Message::NameInUse(in_use.clone())], Purpose::Gossip);
            }
        }
        true
    }
}
