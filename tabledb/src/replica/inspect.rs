//! Inspection of the internal state, for operators and for the checks of a simulator.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wire::{NodeId, NodeName};

use super::Replica;
use super::ranges::Ranges;
use super::store::{Held, Visibility};
use crate::Value;

/// Everything a replica holds of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedNetwork {
    /// By (table, key): the newest version, live, hidden or a tombstone.
    pub entries: BTreeMap<(String, String), InspectedEntry>,
    /// By owner: the state of its attachment.
    pub attachments: BTreeMap<NodeName, InspectedAttachment>,
    /// Updates that wait to be sent for the first time.
    pub queue_length: usize,
}

/// One version.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedEntry {
    /// Its Lamport time, in microseconds since 1970.
    pub time: u64,
    /// The instance that wrote it.
    pub owner: NodeId,
    /// The epoch of the owner's attachment to the network.
    pub epoch: u64,
    /// Its number among the owner's writes in that epoch.
    pub number: u64,
    /// The value, or `None` for a tombstone.
    pub value: Option<Value>,
    /// For a tombstone: the time until it is reaped.
    pub residual: Option<Duration>,
    /// Whether readers see it.
    pub visible: bool,
}

/// The state of one owner's attachment in one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedAttachment {
    /// The owner's instance.
    pub owner: NodeId,
    /// Its epoch.
    pub epoch: u64,
    /// The numbers seen.
    pub seen: Ranges,
    /// The numbers of refused writes that have since been neither applied nor superseded.
    pub refused: Ranges,
    /// The numbers that are live.
    pub live: Vec<u64>,
    /// Whether readers see its entries, or why not.
    pub shown: &'static str,
}

impl Replica {
    /// The version of each node's attachment list as known here, including this node's own; 0 before the
    /// first.
    pub fn list_versions(&self) -> Vec<(NodeId, u64)> {
        self.node.owners.list_versions().into_iter().map(|list| (list.owner, list.version)).collect()
    }

    /// Checks that what is held of each network agrees with itself: every number in a version vector has the
    /// record that it leads to, or none (rule 4 of ALGORITHM.md), and everything that is counted as it changes
    /// equals a recount. Returns the first difference, which would be a fault of this crate. O(entries): for
    /// operators and checks, not for programs. Debug builds check what a change touches, after each change.
    pub fn recount(&self) -> Result<(), String> {
        let networks = self.networks.iter().flatten().chain(self.ended.values());
        networks.into_iter().try_for_each(|network| {
            network.store.recount().map_err(|difference| format!("{}: {difference}", network.name))
        })
    }

    /// Everything held of `network`; `None` if it is not joined. O(entries): for operators and checks, not
    /// for programs.
    pub fn inspect(&self, network: &str, now: Instant) -> Option<InspectedNetwork> {
        let network = self.network(network)?;
        let mut entries = BTreeMap::new();
        for (_, held) in
            network.store.attachments().flat_map(|(_, attachment)| attachment.held_within(0, u64::MAX))
        {
            let record = held.record();
            let (value, residual) = match held {
                Held::Live(record) => (Some(Value::of(record)), None),
                Held::Tombstone(tombstone) => (None, Some(tombstone.expires.saturating_duration_since(now))),
            };
            let entry = InspectedEntry {
                time: record.time(),
                owner: record.tag().owner.clone(),
                epoch: record.tag().epoch,
                number: record.number(),
                visible: record.is_visible(),
                value,
                residual,
            };
            let table = &network.store.table_of(record).name;
            entries.insert((table.to_string(), record.key().to_owned()), entry);
        }
        let attachments = network.store.attachments().map(|(index, held)| {
            let shown = match held.visibility() {
                Visibility::Shown => "shown",
                Visibility::OwnerFailed => "hidden: the owner has failed",
                Visibility::AwaitsComparison => "hidden: the owner has returned and is not compared yet",
            };
            let attachment = InspectedAttachment {
                owner: held.tag.owner.clone(),
                epoch: held.tag.epoch,
                seen: held.seen().clone(),
                refused: network.refusals.outstanding(index, held),
                live: held.live().iter().map(|(number, _)| number).collect(),
                shown,
            };
            (held.tag.owner.name.clone(), attachment)
        });
        Some(InspectedNetwork {
            entries,
            attachments: attachments.collect(),
            queue_length: network.queue_length(),
        })
    }
}
