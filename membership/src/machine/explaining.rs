//! What this node knows of a member, for operators.

use std::time::Instant;

use wire::NodeName;

use crate::explanation::{Accusation, Acknowledgement, MemberExplanation};
use crate::member::Member;
use crate::roster::{Accused, Entry};

use super::Membership;

impl Membership {
    /// What this node knows of the member of this name, itself included; `None` if it knows none.
    pub fn explain(&self, name: &str, now: Instant) -> Option<MemberExplanation> {
        if name == self.me.name().as_str() {
            return Some(MemberExplanation { last_seen: None, ..explain(&self.me, now) });
        }
        let entry = self.roster.get(name)?;
        let acknowledged = entry
            .acknowledged
            .map(|(at, round_trip)| Acknowledgement { age: now.saturating_duration_since(at), round_trip });
        let accusation = entry.accused.as_deref().map(|accused| accusation(accused, entry, now));
        Some(MemberExplanation { acknowledged, accusation, ..explain(&entry.member, now) })
    }

    /// A member is suspected, for the first time in this suspicion or by one more accuser.
    pub(super) fn note_accuser(&mut self, name: &NodeName, accuser: &NodeName, started: bool, now: Instant) {
        self.roster.note(name.as_str(), |entry| match &mut entry.accused {
            Some(accused) if !started => accused.confirmed_by.push(accuser.clone()),
            accused => *accused = Some(Box::new(Accused::new(accuser.clone(), now))),
        });
    }

    /// A member was declared failed by this claim.
    pub(super) fn note_failed_by(&mut self, name: &NodeName, accuser: &NodeName, now: Instant) {
        self.roster.note(name.as_str(), |entry| {
            let new = || Box::new(Accused::new(accuser.clone(), now));
            entry.accused.get_or_insert_with(new).failed_by = Some(accuser.clone());
        });
    }
}

fn explain(member: &Member, now: Instant) -> MemberExplanation {
    MemberExplanation {
        id: member.record.id.clone(),
        address: member.record.address,
        incarnation: member.incarnation,
        state: member.state,
        state_age: now.saturating_duration_since(member.since),
        last_seen: member.last_seen.map(|at| now.saturating_duration_since(at)),
        acknowledged: None,
        accusation: None,
    }
}

fn accusation(accused: &Accused, entry: &Entry, now: Instant) -> Accusation {
    let suspicion = entry.suspicion.as_deref();
    Accusation {
        age: now.saturating_duration_since(accused.at),
        accuser: accused.accuser.clone(),
        confirmed_by: accused.confirmed_by.clone(),
        failed_by: accused.failed_by.clone(),
        ends_in: suspicion.map(|suspicion| suspicion.deadline().saturating_duration_since(now)),
    }
}
