//! Every write there has been, as only an all-seeing observer knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use wire::NodeId;

use super::follower::Spot;
use super::state::{Dot, HeldEntry, Version};
use crate::cluster::Key;

/// The number of a write in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(usize);

/// One write.
#[derive(Debug, Clone)]
pub struct Wrote {
    /// When, in virtual time.
    pub at: Duration,
    /// Where.
    pub spot: (Arc<str>, Arc<str>, Arc<str>),
    /// Its version.
    pub version: Version,
    /// What was written; `None` for a delete.
    pub value: Option<Arc<[u8]>>,
    /// What the writer's store held before.
    pub replaced: Option<WriteId>,
}

/// All writes, and which attachments have ended.
#[derive(Debug, Default)]
pub struct Ledger {
    writes: Vec<Wrote>,
    by_dot: BTreeMap<(Arc<str>, Dot), WriteId>,
    by_spot: BTreeMap<Spot, Vec<WriteId>>,
    ended_lives: BTreeSet<NodeId>,
    /// Writes of the life in the network that are older than this number ended with an attachment.
    left: BTreeMap<(NodeId, Arc<str>), usize>,
    /// How many writes there were when the life's present stay in the network began.
    began: BTreeMap<(NodeId, Arc<str>), usize>,
    /// The writes during stays that had all the time and all the links it takes to hand on what they had done to others' entries.
    handed_on: BTreeMap<(NodeId, Arc<str>), Vec<Range<usize>>>,
    ties: u64,
}

/// Which write a value that somebody sees comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Write(WriteId),
    /// Several writes had this value.
    Ambiguous,
    Nobody,
}

impl Ledger {
    /// Takes down a write: what the writer held before and after it.
    pub(crate) fn wrote(
        &mut self,
        at: Duration,
        key: Key<'_>,
        before: Option<&HeldEntry>,
        after: &HeldEntry,
    ) {
        let spot: Spot = (key.network.into(), key.table.into(), key.key.into());
        let id = WriteId(self.writes.len());
        let replaced =
            before.and_then(|before| self.by_dot.get(&(spot.0.clone(), before.version.dot.clone())).copied());
        let others = self.by_spot.entry(spot.clone()).or_default();
        if others.iter().any(|other| self.writes[other.0].version.time == after.version.time) {
            self.ties += 1;
        }
        others.push(id);
        self.by_dot.insert((spot.0.clone(), after.version.dot.clone()), id);
        self.writes.push(Wrote {
            at,
            spot,
            version: after.version.clone(),
            value: after.value.clone(),
            replaced,
        });
    }

    pub(crate) fn joined(&mut self, life: &NodeId, network: &str) {
        self.left.insert((life.clone(), network.into()), self.writes.len());
        self.began.insert((life.clone(), network.into()), self.writes.len());
    }

    pub(crate) fn left(&mut self, life: &NodeId, network: &str) {
        self.left.insert((life.clone(), network.into()), self.writes.len());
    }

    /// What the life has written in its last stay in the network was handed on before it left; what it had written in an earlier
    /// one may be unknown to itself by then.
    pub(crate) fn handed_on(&mut self, life: &NodeId, network: &str) {
        let place = (life.clone(), network.into());
        let began = self.began.get(&place).copied().unwrap_or_default();
        self.handed_on.entry(place).or_default().push(began..self.writes.len());
    }

    /// Whether others know of the write, though its attachment may have ended.
    pub(crate) fn was_handed_on(&self, id: WriteId) -> bool {
        let write = self.get(id);
        let place = (write.version.dot.owner.clone(), write.spot.0.clone());
        self.handed_on.get(&place).is_some_and(|stays| stays.iter().any(|stay| stay.contains(&id.0)))
    }

    /// Where anything was written since then.
    pub(crate) fn written_since(&self, since: Duration) -> BTreeSet<&Spot> {
        self.writes.iter().rev().take_while(|write| write.at >= since).map(|write| &write.spot).collect()
    }

    pub(crate) fn life_ended(&mut self, life: &NodeId) {
        self.ended_lives.insert(life.clone());
    }

    /// How many writes there have been.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether nothing was ever written.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// How many writes had the Lamport time of another one to the same key.
    pub fn ties(&self) -> u64 {
        self.ties
    }

    pub(crate) fn get(&self, id: WriteId) -> &Wrote {
        &self.writes[id.0]
    }

    pub(crate) fn by_dot(&self, network: &str, dot: &Dot) -> Option<WriteId> {
        self.by_dot.get(&(network.into(), dot.clone())).copied()
    }

    pub(crate) fn spots(&self) -> impl Iterator<Item = (&Spot, &[WriteId])> {
        self.by_spot.iter().map(|(spot, writes)| (spot, writes.as_slice()))
    }

    pub(crate) fn origin(&self, spot: &Spot, value: &[u8]) -> Origin {
        let mut writes = self.by_spot.get(spot).into_iter().flatten();
        let mut matching = writes.by_ref().filter(|id| self.get(**id).value.as_deref() == Some(value));
        match (matching.next(), matching.next()) {
            (None, _) => Origin::Nobody,
            (Some(id), None) => Origin::Write(*id),
            (Some(_), Some(_)) => Origin::Ambiguous,
        }
    }

    /// Whether anything that would supersede it was ever written, known to whomever.
    pub(crate) fn may_be_superseded(&self, id: WriteId) -> bool {
        self.superseding(id).next().is_some()
    }

    /// What supersedes a write wherever both are known: greater versions, and what was written over it.
    pub(crate) fn superseding(&self, id: WriteId) -> impl Iterator<Item = WriteId> {
        let write = self.get(id);
        let others = self.by_spot.get(&write.spot).into_iter().flatten().copied();
        others.filter(move |other| {
            *other != id && (self.get(*other).version > write.version || self.descends(*other, id))
        })
    }

    /// The writes to the same key with greater versions.
    pub(crate) fn greater(&self, id: WriteId) -> impl Iterator<Item = WriteId> {
        let write = self.get(id);
        let others = self.by_spot.get(&write.spot).into_iter().flatten().copied();
        others.filter(move |other| self.get(*other).version > write.version)
    }

    /// Whether `later` was written by somebody who held `earlier`, or something that had replaced it.
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

    /// A write in words.
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
        self.ended_lives.contains(owner)
            || self.left.get(&(owner.clone(), write.spot.0.clone())).is_some_and(|mark| id.0 < *mark)
    }
}
