//! The tables of a network, shared by its readers and its single writer.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;
use parking_lot::RwLock;

use super::record_map::RecordMap;
use crate::Entry;
use crate::record::{Record, TablePlace};

/// A concurrent map by text. Callers choose the names, so the hash is keyed at random; every read uses it, so
/// it is fast.
pub(crate) type Map<V> = DashMap<Arc<str>, V, ahash::RandomState>;

/// One table of a network.
pub(crate) struct Table {
    pub(crate) name: Arc<str>,
    pub(crate) place: TablePlace,
    pub(crate) records: RecordMap,
    /// The network has no such table any more; a later one of this name is another.
    is_dropped: AtomicBool,
}

impl fmt::Debug for Table {
    /// Sorted by key: equal tables print equally.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("name", &self.name).field("records", &self.sorted()).finish()
    }
}

#[cfg(test)]
impl std::hash::Hash for Table {
    /// Sorted by key: the map has no order.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.name, self.sorted()).hash(state);
    }
}

impl Table {
    pub(crate) fn new(name: Arc<str>, place: TablePlace) -> Self {
        Self { name, place, records: RecordMap::default(), is_dropped: AtomicBool::new(false) }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Entry> {
        self.records.get(key).filter(Record::is_visible).map(Entry::of)
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.is_dropped.load(Ordering::Acquire)
    }

    fn drop_for_readers(&self) {
        self.is_dropped.store(true, Ordering::Release);
    }

    fn sorted(&self) -> Vec<Record> {
        let mut records: Vec<Record> = self.records.iter().collect();
        records.sort_unstable_by(|a, b| a.key_bytes().cmp(b.key_bytes()));
        records
    }

    /// The visible entries, in no particular order. Copies pointers, so that no lock is held while they are
    /// used.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.records.iter().filter(Record::is_visible).map(Entry::of).collect()
    }

    /// The same, until `keep_going` returns false.
    pub(crate) fn entries_while(&self, keep_going: impl FnMut() -> bool) -> Option<Vec<Entry>> {
        let mut entries = Vec::new();
        self.walk_while(keep_going, |record| {
            entries.extend(record.is_visible().then(|| Entry::of(record)));
        })?;
        Some(entries)
    }

    /// Calls `visit` for each record, in no particular order, until `keep_going` returns false.
    pub(crate) fn walk_while(
        &self,
        mut keep_going: impl FnMut() -> bool,
        mut visit: impl FnMut(Record),
    ) -> Option<()> {
        for record in self.records.iter() {
            if !keep_going() {
                return None;
            }
            visit(record);
        }
        Some(())
    }

    /// The number of visible entries, counted while `keep_going` returns true.
    pub(crate) fn count_while(&self, mut keep_going: impl FnMut() -> bool) -> Option<usize> {
        let mut count = 0;
        for record in self.records.iter() {
            if !keep_going() {
                return None;
            }
            count += usize::from(record.is_visible());
        }
        Some(count)
    }

    fn has_visible(&self) -> bool {
        self.records.any(Record::is_visible)
    }
}

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

    /// For the writer only: adds a table.
    pub(super) fn add(&self, table: Arc<Table>) {
        self.tables.write().insert(table.name.clone(), table);
    }

    /// For the writer only: removes tables without records, and returns them.
    pub(super) fn drop_empty_tables(&self) -> Vec<Arc<Table>> {
        let mut tables = self.tables.write();
        tables.extract_if(.., |_, table| table.records.is_empty()).map(|(_, table)| dropped(table)).collect()
    }

    /// For the writer only: removes all tables, so that a reader who still holds the view sees it empty.
    pub(super) fn clear(&self) {
        std::mem::take(&mut *self.tables.write()).into_values().map(dropped).for_each(drop);
    }
}

fn dropped(table: Arc<Table>) -> Arc<Table> {
    table.drop_for_readers();
    table
}
