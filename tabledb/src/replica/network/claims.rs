//! Unbacked claims: a peer reports a live entry as superseded, and has not sent the write that superseded it.
//!
//! Such a claim is true in two cases. The write was a delete, and its tombstone was reaped; or the writer's attachment has ended,
//! and its records went with it. In both this node must have missed the write. It cannot have missed it if it agreed with that peer
//! less than the reap time ago, and since then no attachment ended and no member returned after an absence that long. Then the
//! claim is withheld: the entry stays, the claim is counted, and logged with the name of the peer. Only the owner is believed of
//! its own entries at any time.
//!
//! An entry of this node that stays contested is written again under a new number: a member that was deceived takes it up again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use wire::NodeName;

use super::super::common::Common;
use super::super::news::Item;
use super::super::store::{Dot, Write};
use super::super::timing::{CLAIM_LOG_PAUSE, CONTESTED_PATIENCE};
use super::super::view::Body;
use super::{Network, news_bytes};

/// So many contested entries of our own are remembered. The rest is written again when it is contested the next time.
const MAX_CONTESTED: usize = 4096;

/// When a peer agreed with this node last.
#[derive(Debug, Clone, Copy)]
struct Agreement {
    /// `None`: never yet. The time then counts from the first claim.
    at: Option<Instant>,
    /// How many gaps there had been by then.
    gaps: u64,
}

/// What is needed to judge claims that no write comes with.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Events in which this node may have missed the superseding write: attachments that ended, members that returned after
    /// longer than the reap time.
    gaps: u64,
    agreements: BTreeMap<NodeName, Agreement>,
    away_since: BTreeMap<NodeName, Instant>,
    /// Own live numbers that a peer reported as superseded.
    contested: BTreeSet<u64>,
    /// When what is still live of them is written again.
    rewrite_at: Option<Instant>,
    logged_at: Option<Instant>,
    unlogged: u64,
}

impl Claims {
    /// An attachment of another node was taken up.
    pub(super) fn taken_up(&mut self, owner: &NodeName) {
        self.agreements.insert(owner.clone(), Agreement { at: None, gaps: self.gaps });
    }

    /// An attachment of another node ended.
    pub(super) fn ended(&mut self, owner: &NodeName) {
        self.agreements.remove(owner);
        self.away_since.remove(owner);
        self.gaps += 1;
    }

    /// This node's own attachment ended; numbers begin anew.
    pub(super) fn own_ended(&mut self) {
        self.contested.clear();
        self.rewrite_at = None;
    }

    pub(super) fn failed(&mut self, owner: &NodeName, now: Instant) {
        self.away_since.entry(owner.clone()).or_insert(now);
    }

    pub(super) fn returned(&mut self, owner: &str, common: &Common, now: Instant) {
        if let Some(since) = self.away_since.remove(owner)
            && now.saturating_duration_since(since) >= common.config.reap_time
        {
            self.gaps += 1;
        }
    }

    /// Nothing is live here that the peer knows to be superseded, and the other way round.
    pub(super) fn agreed(&mut self, peer: &NodeName, now: Instant) {
        if let Some(agreement) = self.agreements.get_mut(peer) {
            *agreement = Agreement { at: Some(now), gaps: self.gaps };
        }
    }

    /// Whether this node may have missed what the peer knows.
    fn may_have_missed(&mut self, peer: &NodeName, common: &Common, now: Instant) -> bool {
        let Some(agreement) = self.agreements.get_mut(peer) else { return true };
        let at = *agreement.at.get_or_insert(now);
        agreement.gaps != self.gaps || now.saturating_duration_since(at) >= common.config.reap_time
    }

    fn contest(&mut self, number: u64, now: Instant) {
        if self.contested.len() < MAX_CONTESTED {
            self.contested.insert(number);
        }
        self.rewrite_at.get_or_insert(now + CONTESTED_PATIENCE);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.rewrite_at
    }

    /// Lets all agreements be as long ago as the reap time.
    #[cfg(test)]
    pub(super) fn age(&mut self) {
        self.gaps += 1;
    }
}

impl Network {
    /// Whether the word of a peer that a live number is superseded is followed.
    pub(crate) fn believes_claim(
        &mut self,
        peer: &NodeName,
        (slot, number): Dot,
        common: &mut Common,
        now: Instant,
    ) -> bool {
        let Some(held) = self.store.attachment(slot) else { return false };
        if held.tag.owner.name == *peer || self.claims.may_have_missed(peer, common, now) {
            return true;
        }
        common.counters.claims_withheld += 1;
        if slot == self.own {
            self.claims.contest(number, now);
        }
        if self.claims.logged_at.is_some_and(|at| now < at + CLAIM_LOG_PAUSE) {
            self.claims.unlogged += 1;
            return false;
        }
        self.claims.logged_at = Some(now);
        tracing::warn!(
            network = &*self.name,
            peer = peer.as_str(),
            owner = held.tag.owner.name.as_str(),
            number,
            others = std::mem::take(&mut self.claims.unlogged),
            "a peer reports a live entry as superseded without the superseding write; the entry stays"
        );
        false
    }

    /// Writes again what peers went on contesting. As old as it was: it does not win over what others have made of it since.
    pub(super) fn rewrite_contested(&mut self, common: &mut Common, now: Instant) {
        if self.claims.rewrite_at.is_none_or(|at| at > now) {
            return;
        }
        self.claims.rewrite_at = None;
        let contested = std::mem::take(&mut self.claims.contested);
        if self.is_leaving() {
            return;
        }
        for number in contested {
            let Some(own) = self.store.attachment(self.own) else { return };
            let Some((table, key)) = own.live().get(number).cloned() else { continue };
            let Some(record) = table.records.get(&*key) else { continue };
            let (Body::Live(value), time) = (&record.body, record.time) else { continue };
            let body = Body::Live(value.clone());
            drop(record);
            let (former, dot) = ((self.own, number), (self.own, own.context().highest() + 1));
            let bytes = news_bytes(&table.name, &key, &body);
            let write = Write { dot, time, table: &table, key: &key, body, replaced: &[former] };
            self.store.apply(write, &mut common.watchers);
            common.counters.contested_rewritten += 1;
            common.wake |= self.news.push(Item { dot, replaced: vec![former] }, true, bytes, now);
            self.note_change(now);
        }
    }

    /// A peer agrees with this node.
    pub(crate) fn note_agreement(&mut self, peer: &NodeName, now: Instant) {
        self.claims.agreed(peer, now);
    }

    #[cfg(test)]
    pub(crate) fn age_agreements(&mut self) {
        self.claims.age();
    }
}
