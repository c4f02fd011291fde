//! The ledger of all writes of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tabledb::Value;
use wire::NodeId;

use super::follower::EntryKey;
use super::state::{Dot, HeldEntry, Version};
use crate::cluster::Key;

/// The number of a write in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(usize);

/// One write.
#[derive(Debug, Clone)]
pub struct RecordedWrite {
    /// The virtual time.
    pub at: Duration,
    /// The path of the entry.
    pub entry_key: (Arc<str>, Arc<str>, Arc<str>),
    /// Its version.
    pub version: Version,
    /// What was written; `None` for a delete.
    pub value: Option<Value>,
    /// The write that the writer's store held before.
    pub replaced: Option<WriteId>,
}

/// All writes, and which attachments have ended.
#[derive(Debug, Default)]
pub struct Ledger {
    writes: Vec<RecordedWrite>,
    by_dot: BTreeMap<(Arc<str>, Dot), WriteId>,
    by_entry_key: BTreeMap<EntryKey, Vec<WriteId>>,
    ended_instances: BTreeSet<NodeId>,
    /// Writes of the instance in the network that are older than this number ended with an
    /// attachment.
    left: BTreeMap<(NodeId, Arc<str>), usize>,
    /// The number of writes when the instance's present attachment to the network began.
    began: BTreeMap<(NodeId, Arc<str>), usize>,
    /// The writes during attachments that had enough time and links to hand on their changes to the
    /// entries of other owners.
    handed_on: BTreeMap<(NodeId, Arc<str>), Vec<Range<usize>>>,
    ties: u64,
}

/// The write from which a visible value comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Write(WriteId),
    /// Several writes had this value.
    Ambiguous,
    Unknown,
}

impl Ledger {
    /// Records a write: the entry that the writer held before and after it.
    pub(crate) fn record(
        &mut self,
        at: Duration,
        key: Key<'_>,
        before: Option<&HeldEntry>,
        after: &HeldEntry,
    ) {
        let entry_key: EntryKey = (key.network.into(), key.table.into(), key.key.into());
        let id = WriteId(self.writes.len());
        let replaced = before
            .and_then(|before| self.by_dot.get(&(entry_key.0.clone(), before.version.dot.clone())).copied());
        let others = self.by_entry_key.entry(entry_key.clone()).or_default();
        if others.iter().any(|other| self.writes[other.0].version.time == after.version.time) {
            self.ties += 1;
        }
        others.push(id);
        self.by_dot.insert((entry_key.0.clone(), after.version.dot.clone()), id);
        self.writes.push(RecordedWrite {
            at,
            entry_key,
            version: after.version.clone(),
            value: after.value.clone(),
            replaced,
        });
    }

    pub(crate) fn joined(&mut self, instance: &NodeId, network: &str) {
        self.left.insert((instance.clone(), network.into()), self.writes.len());
        self.began.insert((instance.clone(), network.into()), self.writes.len());
    }

    pub(crate) fn left(&mut self, instance: &NodeId, network: &str) {
        self.left.insert((instance.clone(), network.into()), self.writes.len());
    }

    /// The instance handed on the writes of its last attachment to the network before it left; of
    /// earlier attachments it may have forgotten writes by then.
    pub(crate) fn handed_on(&mut self, instance: &NodeId, network: &str) {
        let attachment = (instance.clone(), network.into());
        let began = self.began.get(&attachment).copied().unwrap_or_default();
        self.handed_on.entry(attachment).or_default().push(began..self.writes.len());
    }

    /// Whether other nodes know the write, though its attachment may have ended.
    pub(crate) fn was_handed_on(&self, id: WriteId) -> bool {
        let write = self.get(id);
        let attachment = (write.version.dot.owner.clone(), write.entry_key.0.clone());
        self.handed_on
            .get(&attachment)
            .is_some_and(|periods| periods.iter().any(|period| period.contains(&id.0)))
    }

    /// The paths of all writes since then.
    pub(crate) fn written_since(&self, since: Duration) -> BTreeSet<&EntryKey> {
        self.writes.iter().rev().take_while(|write| write.at >= since).map(|write| &write.entry_key).collect()
    }

    pub(crate) fn instance_ended(&mut self, instance: &NodeId) {
        self.ended_instances.insert(instance.clone());
    }

    /// How many writes there have been.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether nothing was ever written.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// How many writes had the Lamport time of another write to the same key.
    pub fn ties(&self) -> u64 {
        self.ties
    }

    pub(crate) fn get(&self, id: WriteId) -> &RecordedWrite {
        &self.writes[id.0]
    }

    pub(crate) fn by_dot(&self, network: &str, dot: &Dot) -> Option<WriteId> {
        self.by_dot.get(&(network.into(), dot.clone())).copied()
    }

    pub(crate) fn entry_keys(&self) -> impl Iterator<Item = (&EntryKey, &[WriteId])> {
        self.by_entry_key.iter().map(|(entry_key, writes)| (entry_key, writes.as_slice()))
    }

    pub(crate) fn origin(&self, entry_key: &EntryKey, value: &[u8]) -> Origin {
        let mut writes = self.by_entry_key.get(entry_key).into_iter().flatten();
        let mut matching = writes.by_ref().filter(|id| self.get(**id).value.as_deref() == Some(value));
        match (matching.next(), matching.next()) {
            (None, _) => Origin::Unknown,
            (Some(id), None) => Origin::Write(*id),
            (Some(_), Some(_)) => Origin::Ambiguous,
        }
    }

    /// Whether any write that supersedes it exists, known to other nodes or not.
    pub(crate) fn may_be_superseded(&self, id: WriteId) -> bool {
        self.superseding(id).next().is_some()
    }

    /// The writes that supersede a write wherever both are known: greater versions, and later
    /// writes over it.
    pub(crate) fn superseding(&self, id: WriteId) -> impl Iterator<Item = WriteId> {
        let write = self.get(id);
        let others = self.by_entry_key.get(&write.entry_key).into_iter().flatten().copied();
        others.filter(move |other| {
            *other != id && (self.get(*other).version > write.version || self.descends(*other, id))
        })
    }

    /// The writes to the same key with greater versions.
    pub(crate) fn greater(&self, id: WriteId) -> impl Iterator<Item = WriteId> {
        let write = self.get(id);
        let others = self.by_entry_key.get(&write.entry_key).into_iter().flatten().copied();
        others.filter(move |other| self.get(*other).version > write.version)
    }

    /// Whether the writer of `later` held `earlier`, or a write that had replaced it.
    pub(crate) fn descends(&self, later: WriteId, earlier: WriteId) -> bool {
        let mut at = Some(later);
        while let Some(id) = at {
            if id == earlier {
                return true;
            }
            at = self.get(id).replaced;
        }
        false
    }

    /// Describes a write.
    pub(crate) fn describe(&self, id: WriteId) -> String {
        let write = self.get(id);
        let what = match &write.value {
            Some(value) => format!("{:?}", String::from_utf8_lossy(&value[..value.len().min(40)])),
            None => "delete".to_owned(),
        };
        let replaced = match write.replaced {
            Some(replaced) => format!(", replacing {}", self.get(replaced).version.dot),
            None => String::new(),
        };
        let over = if self.is_over(id) { ", of an attachment that has ended" } else { "" };
        format!(
            "{what} ({} at {:?}, time {}{replaced}{over})",
            write.version.dot, write.at, write.version.time
        )
    }

    /// Whether the attachment in which it was written has ended.
    pub(crate) fn is_over(&self, id: WriteId) -> bool {
        let write = self.get(id);
        let owner = &write.version.dot.owner;
        self.ended_instances.contains(owner)
            || self.left.get(&(owner.clone(), write.entry_key.0.clone())).is_some_and(|mark| id.0 < *mark)
    }
}
