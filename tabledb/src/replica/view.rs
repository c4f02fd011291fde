//! The tables of a network, shared by its readers and its single writer.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use dashmap::DashMap;
use parking_lot::RwLock;
use wire::NodeId;

use super::ranges::{digest_bytes, mix};
use crate::{Entry, Value, Version};

/// A concurrent map by text. Peers choose the keys, so the hash is keyed at random; every read uses it, so it
/// is fast.
pub(crate) type Map<V> = DashMap<Arc<str>, V, ahash::RandomState>;

/// The index of an attachment among all that this replica has ever held on a network. Indexes are never
/// reused, so a late message cannot be mistaken for one about a current attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttachmentIndex(pub(crate) u32);

/// The identity of an attachment. Each of its records points here: showing or hiding all of them is one
/// atomic store.
#[derive(Debug)]
pub(crate) struct Tag {
    pub(crate) index: AttachmentIndex,
    pub(crate) owner: NodeId,
    pub(crate) epoch: u64,
    /// A digest of the owner's instance and the epoch, the same on every machine.
    pub(crate) digest: u64,
    shown: AtomicBool,
}

impl Tag {
    pub(crate) fn new(index: AttachmentIndex, owner: NodeId, epoch: u64, shown: bool) -> Self {
        let digest = mix(digest_bytes(owner.name.as_str().as_bytes())
            ^ mix(owner.generation)
            ^ mix(epoch).rotate_left(17));
        Self { index, owner, epoch, digest, shown: AtomicBool::new(shown) }
    }

    pub(crate) fn is_shown(&self) -> bool {
        self.shown.load(Ordering::Acquire)
    }

    pub(crate) fn set_shown(&self, shown: bool) {
        self.shown.store(shown, Ordering::Release);
    }
}

#[cfg(test)]
impl std::hash::Hash for Tag {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let Self { index, owner, epoch, digest, shown } = self;
        (index, owner, epoch, digest, shown.load(Ordering::Acquire)).hash(state);
    }
}

/// The content of a record.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Body {
    Live(Value),
    /// Tombstones keep no value: no reader needs it, and it would be most of the memory. The time is boxed:
    /// tombstones are few, and every record would otherwise be larger by the size of an instant.
    Tombstone {
        expires: Box<Instant>,
    },
}

impl Body {
    /// The bytes of the value.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Live(value) => value.len(),
            Self::Tombstone { .. } => 0,
        }
    }
}

/// The newest version of a key: a value or a tombstone.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Record {
    pub(crate) time: u64,
    pub(crate) number: u64,
    pub(crate) tag: Arc<Tag>,
    pub(crate) body: Body,
}

/// The order of versions, the same on every node: a later Lamport time wins, and no two versions are equal.
pub(crate) type Rank<'a> = (u64, &'a NodeId, u64, u64);

impl Record {
    pub(crate) fn rank(&self) -> Rank<'_> {
        (self.time, &self.tag.owner, self.tag.epoch, self.number)
    }

    pub(crate) fn version(&self) -> Version {
        Version { time: self.time, writer: self.tag.digest, number: self.number }
    }

    /// The value, if it is visible to readers.
    pub(crate) fn visible(&self) -> Option<&Value> {
        match &self.body {
            Body::Live(value) if self.tag.is_shown() => Some(value),
            _ => None,
        }
    }

    /// Its share of the bytes of a network.
    pub(crate) fn weight(&self, key: &str) -> usize {
        key.len() + self.body.weight()
    }

    fn entry(&self, key: &Arc<str>) -> Option<Entry> {
        let value = self.visible()?.clone();
        let owner = self.tag.owner.name.clone();
        Some(Entry { key: key.clone(), value, owner, version: self.version() })
    }
}

/// One table of a network.
pub(crate) struct Table {
    pub(crate) name: Arc<str>,
    pub(crate) records: Map<Record>,
}

impl fmt::Debug for Table {
    /// Sorted by key: equal tables print equally.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records: BTreeMap<Arc<str>, Record> =
            self.records.iter().map(|record| (record.key().clone(), record.value().clone())).collect();
        f.debug_struct("Table").field("name", &self.name).field("records", &records).finish()
    }
}

#[cfg(test)]
impl std::hash::Hash for Table {
    /// Sorted by key: the map has no order.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let Self { name, records } = self;
        let mut records: Vec<_> = records.iter().collect();
        records.sort_unstable_by(|one, other| one.key().cmp(other.key()));
        (name, records.len()).hash(state);
        records.iter().for_each(|record| record.pair().hash(state));
    }
}

impl Table {
    pub(crate) fn get(&self, key: &str) -> Option<Entry> {
        let record = self.records.get(key)?;
        record.entry(record.key())
    }

    /// The visible entries, in no particular order. Copies pointers, so that no lock is held while they are
    /// used.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.records.iter().filter_map(|record| record.entry(record.key())).collect()
    }

    /// The same, until `keep_going` returns false.
    pub(crate) fn entries_while(&self, mut keep_going: impl FnMut() -> bool) -> Option<Vec<Entry>> {
        let mut entries = Vec::new();
        for record in &self.records {
            if !keep_going() {
                return None;
            }
            entries.extend(record.entry(record.key()));
        }
        Some(entries)
    }

    /// The number of visible entries, counted while `keep_going` returns true.
    pub(crate) fn count_while(&self, mut keep_going: impl FnMut() -> bool) -> Option<usize> {
        let mut count = 0;
        for record in &self.records {
            if !keep_going() {
                return None;
            }
            count += usize::from(record.visible().is_some());
        }
        Some(count)
    }

    fn has_visible(&self) -> bool {
        self.records.iter().any(|record| record.visible().is_some())
    }
}

/// The location of a record: its table and key.
pub(crate) type Location = (Arc<Table>, Arc<str>);

/// The tables of one network, for readers.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) name: Arc<str>,
    tables: RwLock<BTreeMap<Arc<str>, Arc<Table>>>,
}

#[cfg(test)]
impl std::hash::Hash for View {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let Self { name, tables } = self;
        (name, &*tables.read()).hash(state);
    }
}

impl View {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Self { name, tables: RwLock::default() }
    }

    pub(crate) fn table(&self, table: &str) -> Option<Arc<Table>> {
        self.tables.read().get(table).cloned()
    }

    pub(crate) fn get(&self, table: &str, key: &str) -> Option<Entry> {
        // The read lock is held across one lookup: cheaper than two writes to the table's reference count,
        // which every reader on every core would share.
        self.tables.read().get(table)?.get(key)
    }

    /// All tables, by name.
    pub(crate) fn tables(&self) -> Vec<Arc<Table>> {
        self.tables.read().values().cloned().collect()
    }

    /// The first table whose name is greater than `after`.
    pub(crate) fn table_after(&self, after: Option<&str>) -> Option<Arc<Table>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.tables.read().range::<str, _>((from, Bound::Unbounded)).next().map(|(_, table)| table.clone())
    }

    /// The number of tables, including those without visible entries.
    pub(crate) fn table_count(&self) -> usize {
        self.tables.read().len()
    }

    /// The names of tables with at least one visible entry, sorted.
    pub(crate) fn visible_tables(&self) -> Vec<Arc<str>> {
        self.tables()
            .into_iter()
            .filter(|table| table.has_visible())
            .map(|table| table.name.clone())
            .collect()
    }

    /// For the writer only: the table of that name, created if it does not exist.
    pub(crate) fn table_or_new(&self, table: &str) -> Arc<Table> {
        if let Some(found) = self.table(table) {
            return found;
        }
        let name: Arc<str> = table.into();
        let new = Arc::new(Table { name: name.clone(), records: Map::default() });
        self.tables.write().insert(name, new.clone());
        new
    }

    /// For the writer only: removes tables without records.
    pub(crate) fn drop_empty_tables(&self) {
        self.tables.write().retain(|_, table| !table.records.is_empty());
    }

    /// For the writer only: removes all tables, so that a reader who still holds the view sees it empty.
    pub(crate) fn clear(&self) {
        self.tables.write().clear();
    }
}
