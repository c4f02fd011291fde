//! The records of a table by key: a hash map for many readers and one writer.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::RwLock;

use crate::record::Record;

/// The number of parts, each with a lock of its own. No power of two: the size of each is one, and sixteen would
/// leave them half empty at round numbers of entries.
const SHARDS: usize = 20;

/// Each in a cache line of its own: readers of different parts do not slow each other down.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard(RwLock<HashTable<Record>>);

/// The records of a table. A lock is held for one look-up or one change, never while code of the crate's users runs.
///
/// `DashMap` keeps a key beside its value, and never replaces it. Here the record is both, so that an entry
/// is one allocation and one pointer in the map (ARCHITECTURE.md).
#[derive(Debug)]
pub(crate) struct RecordMap {
    shards: Box<[Shard]>,
    /// Peers choose the keys, so the hash is keyed at random; every read uses it, so it is fast.
    hasher: ahash::RandomState,
}

/// The result of offering a record.
#[derive(Debug)]
pub(crate) enum Offered {
    /// There was none under its key.
    Inserted,
    /// It took the place of this one.
    Replaced(Record),
    /// The one under its key stayed.
    Declined,
}

impl Default for RecordMap {
    fn default() -> Self {
        let shards = std::iter::repeat_with(Shard::default).take(SHARDS).collect();
        Self { shards, hasher: ahash::RandomState::default() }
    }
}

impl RecordMap {
    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    fn shard(&self, hash: u64) -> &RwLock<HashTable<Record>> {
        // The table in the part uses the lowest bits and the highest seven.
        &self.shards[(hash >> 48) as usize % SHARDS].0
    }

    pub(crate) fn get(&self, key: &str) -> Option<Record> {
        self.read(key, Record::clone)
    }

    /// What `of` takes from the record under a key, if there is one. It is called with a lock held.
    pub(crate) fn read<T>(&self, key: &str, of: impl FnOnce(&Record) -> T) -> Option<T> {
        let key = key.as_bytes();
        let hash = self.hash(key);
        self.shard(hash).read().find(hash, |record| record.key_bytes() == key).map(of)
    }

    /// Puts a record under its key, if there is none or `replaces` is true of the present one.
    pub(crate) fn offer(&self, record: &Record, replaces: impl FnOnce(&Record) -> bool) -> Offered {
        let key = record.key_bytes();
        let hash = self.hash(key);
        let mut shard = self.shard(hash).write();
        let entry = shard.entry(hash, |other| other.key_bytes() == key, |other| self.hash(other.key_bytes()));
        match entry {
            Entry::Vacant(vacant) => {
                vacant.insert(record.clone());
                Offered::Inserted
            }
            Entry::Occupied(mut present) if replaces(present.get()) => {
                Offered::Replaced(std::mem::replace(present.get_mut(), record.clone()))
            }
            Entry::Occupied(_) => Offered::Declined,
        }
    }

    /// Removes the record under the key of this one, and returns it.
    pub(crate) fn remove(&self, record: &Record) -> Option<Record> {
        let key = record.key_bytes();
        let hash = self.hash(key);
        let mut shard = self.shard(hash).write();
        let found = shard.find_entry(hash, |other| other.key_bytes() == key).ok()?;
        Some(found.remove().0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.0.read().is_empty())
    }

    /// Whether this is true of any record. It is called with a lock held.
    pub(crate) fn any(&self, holds: impl Fn(&Record) -> bool) -> bool {
        self.shards.iter().any(|shard| shard.0.read().iter().any(&holds))
    }

    /// All records, in no particular order. Copies the pointers of one part at a time.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Record> {
        self.shards.iter().flat_map(|shard| shard.0.read().iter().cloned().collect::<Vec<_>>())
    }
}
