//! Looking inside: for people who ask why, and for the checks of a simulator.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wire::{NodeId, NodeName};

use super::Replica;
use super::ranges::Ranges;
use super::store::Visibility;
use super::view::Body;
use crate::Value;

/// Everything a replica holds of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedNetwork {
    /// By (table, key): the newest version, live, hidden or a tombstone.
    pub entries: BTreeMap<(String, String), InspectedEntry>,
    /// By owner: what has been seen of its writes.
    pub attachments: BTreeMap<NodeName, InspectedAttachment>,
    /// News waiting for its first sending.
    pub queue_length: usize,
}

/// One version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedEntry {
    /// Its Lamport time, in microseconds since 1970.
    pub time: u64,
    /// The life that wrote it.
    pub owner: NodeId,
    /// The epoch of the owner's attachment to the network.
    pub epoch: u64,
    /// Its number among the owner's writes in that epoch.
    pub number: u64,
    /// The value, or `None` for a tombstone.
    pub value: Option<Value>,
    /// Of a tombstone: how long it will still be kept.
    pub residual: Option<Duration>,
    /// Whether readers see it.
    pub visible: bool,
}

/// What is known of one owner's writes in one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedAttachment {
    /// The life it belongs to.
    pub owner: NodeId,
    /// Its epoch.
    pub epoch: u64,
    /// The numbers seen.
    pub context: Ranges,
    /// The numbers that were refused here, and have been neither taken nor found superseded since.
    pub refused: Ranges,
    /// The numbers that are live.
    pub live: Vec<u64>,
    /// Whether readers see its entries, or why not.
    pub shown: &'static str,
}

impl Replica {
    /// Up to which version each node's list of networks is known here, this node's own included; 0 before the first.
    pub fn list_versions(&self) -> Vec<(NodeId, u64)> {
        self.common.owners.list_heads().into_iter().map(|head| (head.owner, head.version)).collect()
    }

    /// Everything held of `network`; `None` if it is not joined. O(entries): for people and checks, not for programs.
    pub fn inspect(&self, network: &str, now: Instant) -> Option<InspectedNetwork> {
        let network = self.network(network)?;
        let mut entries = BTreeMap::new();
        for table in network.store.view().tables() {
            for record in &table.records {
                let (value, residual) = match &record.body {
                    Body::Live(value) => (Some(value.clone()), None),
                    Body::Tombstone { expires } => (None, Some(expires.saturating_duration_since(now))),
                };
                let entry = InspectedEntry {
                    time: record.time,
                    owner: record.tag.owner.clone(),
                    epoch: record.tag.epoch,
                    number: record.number,
                    visible: record.visible().is_some(),
                    value,
                    residual,
                };
                entries.insert((table.name.to_string(), record.key().to_string()), entry);
            }
        }
        let attachments = network.store.attachments().map(|(slot, held)| {
            let shown = match held.visibility() {
                Visibility::Shown => "shown",
                Visibility::OwnerFailed => "hidden: the owner has failed",
                Visibility::AwaitsComparison { .. } => "hidden: the owner is back and not compared yet",
            };
            let attachment = InspectedAttachment {
                owner: held.tag.owner.clone(),
                epoch: held.tag.epoch,
                context: held.context().clone(),
                refused: network.refusals.outstanding(slot, held),
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
