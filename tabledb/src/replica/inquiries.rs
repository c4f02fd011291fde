//! Answers to what members ask about a network: from the present state, in one step, bounded.

use std::time::{Duration, Instant};

use wire::{NodeId, NodeName};

use super::Replica;
use super::network::Network;
use super::store::{Attachment, Held, Store, Visibility};
use crate::inquiry::{
    AttachmentDigest, AttachmentParts, DifferingParts, LiveWrite, MAX_ANSWER_BYTES, MAX_EXPLAINED_KEYS,
    MAX_PARTS, NetworkDigests, PartContent, Possession, TableAnswer, TableQuestion,
};
use crate::record::{AttachmentIndex, Record};
use crate::{Arrival, ArrivalPath, EntryExplanation, EntryState, HeldWrite, HiddenReason, Version};

/// About the bytes of a number in an answer, beside its table and its key.
const LIVE_WRITE_BYTES: usize = 24;

/// About the bytes of an attachment in an answer, beside its owner's name.
const DIGEST_BYTES: usize = 48;

/// The numbers that a part should have.
const PART_NUMBERS: u64 = 32;

impl Visibility {
    fn hidden(self) -> Option<HiddenReason> {
        match self {
            Self::Shown => None,
            Self::OwnerFailed => Some(HiddenReason::OwnerFailed),
            Self::AwaitsComparison => Some(HiddenReason::AwaitsComparison),
        }
    }
}

impl Replica {
    /// Answers what the authenticated member `from` asks. [`TableQuestion::Known`] is answered by what is known now:
    /// a caller that waits asks again after it has passed bytes to the replica.
    ///
    /// O(1) for a key, O(attachments) for digests, O(entries of the attachments) for parts.
    pub fn answer(&self, from: &NodeName, question: &TableQuestion, now: Instant) -> TableAnswer {
        let network = match question {
            TableQuestion::Explain { network, .. }
            | TableQuestion::Digests { network }
            | TableQuestion::Parts { network, .. }
            | TableQuestion::Known { network, .. } => network,
        };
        let is_member = *from == self.node().name || self.node.owners.is_member(from.as_str(), network);
        let Some(joined) = self.network(network).filter(|_| is_member) else {
            return TableAnswer::NotMember;
        };
        match question {
            TableQuestion::Explain { keys, .. } => {
                let keys = keys.iter().take(MAX_EXPLAINED_KEYS);
                let explained = keys.map(|(table, key)| self.explain_in(joined, table, key, now));
                TableAnswer::Explained(explained.collect())
            }
            TableQuestion::Digests { .. } => TableAnswer::Digests(joined.digests()),
            TableQuestion::Parts { attachments, .. } => {
                TableAnswer::Parts(differing_parts(&joined.store, attachments))
            }
            TableQuestion::Known { version, .. } => {
                TableAnswer::Known(possession(&joined.store, from.as_str(), *version))
            }
        }
    }

    /// What is known about the entry under a key; `None` for a network not joined.
    pub fn explain(&self, network: &str, table: &str, key: &str, now: Instant) -> Option<EntryExplanation> {
        Some(self.explain_in(self.network(network)?, table, key, now))
    }

    /// The nodes on `network`, this one included, with whether each is alive; sorted. Failed nodes are on the networks
    /// that they were on.
    pub fn network_members(&self, network: &str) -> Vec<(NodeName, bool)> {
        let others = self.node.owners.others();
        let on_network = others.filter(|(name, _)| self.node.owners.is_member(name.as_str(), network));
        let mut members: Vec<_> = on_network.map(|(name, owner)| (name.clone(), owner.alive)).collect();
        if self.by_name.contains_key(network) {
            members.push((self.node().name.clone(), true));
        }
        members.sort_unstable();
        members
    }

    fn explain_in(&self, network: &Network, table: &str, key: &str, now: Instant) -> EntryExplanation {
        let store = &network.store;
        let record = store.view().table(table).and_then(|table| table.records.get(key));
        let held = record.as_ref().and_then(|record| {
            let (index, number) = record.dot();
            let attachment = store.attachment(index)?;
            Some((attachment, attachment.get(number)?))
        });
        EntryExplanation {
            state: match held {
                None => EntryState::Absent,
                Some((_, Held::Tombstone(_))) => EntryState::Deleted,
                Some((attachment, Held::Live(_))) => {
                    attachment.visibility().hidden().map_or(EntryState::Visible, EntryState::Hidden)
                }
            },
            held: held.map(|(attachment, held)| self.held_write(network, attachment, held, now)),
            refused: network.refusals.refused_under(store, table, key),
            synchronised: network.is_synced(),
        }
    }

    fn held_write(
        &self,
        network: &Network,
        attachment: &Attachment,
        held: Held<'_>,
        now: Instant,
    ) -> HeldWrite {
        let record = held.record();
        let is_own = record.tag().index == network.own();
        let own = || Arrival { path: ArrivalPath::Local, from: None, age: None, replaced: None };
        let kept = self.node.arrivals.find(record.version(), now);
        HeldWrite {
            version: record.version(),
            owner: attachment.tag.owner.clone(),
            epoch: attachment.tag.epoch,
            bytes: record.value().len() as u64,
            digest: record.digest(),
            residual: match held {
                Held::Live(_) => None,
                Held::Tombstone(tombstone) => Some(tombstone.expires.saturating_duration_since(now)),
            },
            arrival: kept.or_else(|| is_own.then(own)),
        }
    }
}

impl Network {
    fn digests(&self) -> NetworkDigests {
        let (entries, hidden, tombstones) = self.store.counts();
        let with_entries = self.store.attachments().map(|(_, held)| held);
        let mut attachments: Vec<_> = with_entries.filter(|held| !held.live().is_empty()).collect();
        attachments.sort_unstable_by(|a, b| a.tag.owner.cmp(&b.tag.owner));
        let count = attachments.len();
        let mut budget = MAX_ANSWER_BYTES;
        let fitting = attachments.into_iter().map_while(|held| {
            budget = budget.checked_sub(held.tag.owner.name.as_str().len() + DIGEST_BYTES)?;
            Some(AttachmentDigest {
                owner: held.tag.owner.clone(),
                epoch: held.tag.epoch,
                live: held.live_digest(),
                entries: held.live().len() as u64,
                hidden: held.visibility().hidden(),
            })
        });
        let attachments: Vec<_> = fitting.collect();
        NetworkDigests {
            digest: self.store.visible_digest(),
            entries: entries as u64,
            hidden: hidden as u64,
            tombstones: tombstones as u64,
            refused: self.refused() as u64,
            synchronised: self.is_synced(),
            more: attachments.len() < count,
            attachments,
        }
    }
}

/// The attachment of this instance and epoch, if it is held.
fn attachment<'a>(store: &'a Store, owner: &NodeId, epoch: u64) -> Option<(AttachmentIndex, &'a Attachment)> {
    let held = store.of_owner(owner.name.as_str());
    held.filter(|(_, held)| held.tag.owner == *owner && held.tag.epoch == epoch)
}

/// Whether a write of `writer` is held or superseded here.
fn possession(store: &Store, writer: &str, version: Version) -> Possession {
    let held = store.of_owner(writer).map(|(_, held)| held);
    let Some(held) = held.filter(|held| held.tag.digest == version.writer) else {
        return Possession::Lacks;
    };
    if held.seen().contains(version.number) {
        Possession::Holds
    } else if held.accounted().contains(version.number) {
        Possession::Refuses
    } else {
        Possession::Lacks
    }
}

impl AttachmentParts {
    /// The first and the last number of a part.
    fn bounds(&self, part: usize) -> (u64, u64) {
        let width = self.width.max(1);
        let low = (part as u64).saturating_mul(width).saturating_add(1);
        let is_last = part + 1 >= self.digests.len();
        (low, if is_last { u64::MAX } else { low.saturating_add(width - 1) })
    }

    /// The live numbers of an attachment in at most `most` parts; one empty part if it is not held here.
    fn of(store: &Store, owner: &NodeId, epoch: u64, most: usize) -> Self {
        let held = attachment(store, owner, epoch).map(|(_, held)| held);
        let highest = held.and_then(|held| held.live().iter().last().map(|(number, _)| number)).unwrap_or(0);
        let count = (highest / PART_NUMBERS + 1).min(most.max(1) as u64);
        let mut parts = Self {
            owner: owner.clone(),
            epoch,
            width: highest / count + 1,
            digests: vec![0; count as usize],
        };
        for part in 0..parts.digests.len() {
            let (low, high) = parts.bounds(part);
            parts.digests[part] = held.map_or(0, |held| held.live_within(low, high).0);
        }
        parts
    }
}

fn live_write(store: &Store, number: u64, record: &Record) -> LiveWrite {
    let (table, key) = (store.table_of(record).name.to_string(), record.key().to_owned());
    LiveWrite { number, digest: record.digest(), table, key }
}

/// What is live here in the parts whose digests differ.
fn differing_parts(store: &Store, asked: &[AttachmentParts]) -> DifferingParts {
    let mut differing = DifferingParts::default();
    let (mut budget, mut parts_left) = (MAX_ANSWER_BYTES, MAX_PARTS);
    for (index, of) in asked.iter().enumerate() {
        let held = attachment(store, &of.owner, of.epoch).map(|(_, held)| held);
        for (part, theirs) in of.digests.iter().enumerate() {
            if parts_left == 0 || budget == 0 {
                differing.more = true;
                return differing;
            }
            parts_left -= 1;
            let (low, high) = of.bounds(part);
            if held.map_or(0, |held| held.live_within(low, high).0) == *theirs {
                continue;
            }
            let mut content =
                PartContent { attachment: index as u32, part: part as u32, whole: true, live: Vec::new() };
            for (number, record) in held.into_iter().flat_map(|held| held.live().range(low, high)) {
                let write = live_write(store, number, record);
                let bytes = write.table.len() + write.key.len() + LIVE_WRITE_BYTES;
                content.whole = bytes <= budget;
                if !content.whole {
                    budget = 0;
                    break;
                }
                budget -= bytes;
                content.live.push(write);
            }
            budget = budget.saturating_sub(LIVE_WRITE_BYTES);
            differing.parts.push(content);
        }
    }
    differing
}

/// What a node compares of a network with one member.
impl Replica {
    /// The parts of these attachments as held here, for a member that differs in them; `None` for a network not
    /// joined. The attachments share [`MAX_PARTS`].
    pub fn parts_of(&self, network: &str, attachments: &[(NodeId, u64)]) -> Option<Vec<AttachmentParts>> {
        let store = &self.network(network)?.store;
        let most = MAX_PARTS / attachments.len().max(1);
        Some(
            attachments
                .iter()
                .map(|(owner, epoch)| AttachmentParts::of(store, owner, *epoch, most))
                .collect(),
        )
    }

    /// The tables and keys that are live here and not there, or there and not here, or differ, by a member's answer to
    /// these parts; at most `most`.
    pub fn differing_keys(
        &self,
        network: &str,
        asked: &[AttachmentParts],
        answer: &DifferingParts,
        most: usize,
    ) -> Vec<(String, String)> {
        let Some(store) = self.network(network).map(|network| &network.store) else { return Vec::new() };
        let mut keys = Vec::new();
        for content in &answer.parts {
            let Some(of) = asked.get(content.attachment as usize) else { continue };
            if content.part as usize >= of.digests.len() {
                continue;
            }
            let (low, mut high) = of.bounds(content.part as usize);
            if !content.whole {
                high = content.live.last().map_or(low - 1, |last| last.number).min(high);
            }
            let held = attachment(store, &of.owner, of.epoch).map(|(_, held)| held);
            let ours = held.into_iter().flat_map(|held| held.live().range(low, high));
            let mut ours: Vec<LiveWrite> =
                ours.map(|(number, record)| live_write(store, number, record)).collect();
            ours.retain(|write| !content.live.contains(write));
            let theirs = content.live.iter().filter(|write| {
                let record = held.and_then(|held| held.live().get(write.number));
                record.is_none_or(|record| record.digest() != write.digest)
            });
            for write in ours.iter().chain(theirs) {
                let key = (write.table.clone(), write.key.clone());
                if keys.len() >= most {
                    return keys;
                }
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        keys
    }

    /// The first live keys of an attachment, at most `most`.
    pub fn first_keys(
        &self,
        network: &str,
        owner: &NodeId,
        epoch: u64,
        most: usize,
    ) -> Vec<(String, String)> {
        let Some(store) = self.network(network).map(|network| &network.store) else { return Vec::new() };
        let held = attachment(store, owner, epoch).map(|(_, held)| held);
        let records = held.into_iter().flat_map(|held| held.live().iter()).take(most);
        records
            .map(|(number, record)| live_write(store, number, record))
            .map(|write| (write.table, write.key))
            .collect()
    }

    /// How long this node has known that a member of the network holds other entries, at most; zero if it knows of
    /// none.
    pub(super) fn disagreement(&self, network: &Network) -> Duration {
        network.disagreements.longest(self.now)
    }
}
