//! One version of a key, in one allocation.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use triomphe::ThinArc;
use wire::{NodeId, NodeName};

use crate::Version;
use crate::digest::{digest_bytes, mix, record_digest};

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

    /// For an entry that is in no table.
    pub(crate) fn of_writer(digest: u64, owner: NodeName) -> Self {
        let (index, owner) = (AttachmentIndex(0), NodeId::new(owner, 0));
        Self { index, owner, epoch: 0, digest, shown: AtomicBool::new(true) }
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

/// The place of a table among those of its network. Places are reused once their table is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TablePlace(pub(crate) u32);

/// The counter of pointers is before it, the key behind it. A reader needs both, and mostly from two lines of the
/// cache: what is compared first is beside the counter, so that both lines are loaded at once.
#[derive(Debug)]
#[repr(C)]
struct Header {
    key_length: u32,
    is_live: bool,
    tag: Arc<Tag>,
    time: u64,
    number: u64,
    /// See [`record_digest`]; 0 for a tombstone.
    digest: u32,
    table: TablePlace,
}

/// The version of a key: a value or a tombstone. Cloning copies a pointer.
///
/// Header, key and value are one allocation, to which both the map of its table and the index of its
/// attachment point. It never changes. Tombstones keep no value: no reader needs it, and it would be most of
/// the memory.
#[derive(Clone)]
pub(crate) struct Record(ThinArc<Header, u8>);

/// The bytes that a buffer keeps between two records.
const MAX_BUFFER: usize = 64 << 10;

/// What identifies a new record, and where it belongs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity<'a> {
    pub(crate) tag: &'a Arc<Tag>,
    pub(crate) number: u64,
    pub(crate) time: u64,
    pub(crate) table: (TablePlace, &'a str),
}

/// The order of versions, the same on every node: a later Lamport time wins, and no two versions are equal.
pub(crate) type Rank<'a> = (u64, &'a NodeId, u64, u64);

impl Record {
    /// A record with this value; a tombstone without one. `buffer` is empty before and after.
    pub(crate) fn new(of: Identity<'_>, key: &str, value: Option<&[u8]>, buffer: &mut Vec<u8>) -> Self {
        let Identity { tag, number, time, table: (table, name) } = of;
        let header = Header {
            time,
            number,
            tag: tag.clone(),
            digest: value.map_or(0, |value| record_digest(time, name, key, value)),
            table,
            // Limits are far below that.
            key_length: key.len() as u32,
            is_live: value.is_some(),
        };
        buffer.extend_from_slice(key.as_bytes());
        buffer.extend_from_slice(value.unwrap_or_default());
        let record = Self(ThinArc::from_header_and_slice(header, buffer));
        buffer.clear();
        buffer.shrink_to(MAX_BUFFER);
        record
    }

    fn header(&self) -> &Header {
        &self.0.header.header
    }

    pub(crate) fn time(&self) -> u64 {
        self.header().time
    }

    pub(crate) fn number(&self) -> u64 {
        self.header().number
    }

    pub(crate) fn tag(&self) -> &Arc<Tag> {
        &self.header().tag
    }

    pub(crate) fn dot(&self) -> (AttachmentIndex, u64) {
        (self.header().tag.index, self.header().number)
    }

    pub(crate) fn digest(&self) -> u32 {
        self.header().digest
    }

    pub(crate) fn table(&self) -> TablePlace {
        self.header().table
    }

    pub(crate) fn is_live(&self) -> bool {
        self.header().is_live
    }

    /// Whether readers see it.
    pub(crate) fn is_visible(&self) -> bool {
        self.is_live() && self.tag().is_shown()
    }

    pub(crate) fn key_bytes(&self) -> &[u8] {
        &self.0.slice[..self.header().key_length as usize]
    }

    /// Whether it is, or was, under this key of this table.
    pub(crate) fn is_under(&self, table: TablePlace, key: &str) -> bool {
        self.table() == table && self.key_bytes() == key.as_bytes()
    }

    pub(crate) fn key(&self) -> &str {
        std::str::from_utf8(self.key_bytes()).expect("it was made from text")
    }

    /// The value; empty for a tombstone.
    pub(crate) fn value(&self) -> &[u8] {
        &self.0.slice[self.header().key_length as usize..]
    }

    pub(crate) fn rank(&self) -> Rank<'_> {
        let tag = self.tag();
        (self.time(), &tag.owner, tag.epoch, self.number())
    }

    pub(crate) fn version(&self) -> Version {
        Version { time: self.time(), writer: self.tag().digest, number: self.number() }
    }

    /// Its share of the bytes of a network: those of the key and the value.
    pub(crate) fn weight(&self) -> usize {
        self.0.slice.len()
    }

    /// How many pointers to it there are.
    #[cfg(test)]
    pub(crate) fn holders(&self) -> usize {
        ThinArc::strong_count(&self.0)
    }

    /// Whether both are one allocation.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self.header(), other.header())
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("rank", &self.rank())
            .field("key", &self.key())
            .field("value", &self.is_live().then(|| self.value()))
            .finish()
    }
}

#[cfg(test)]
impl std::hash::Hash for Record {
    /// Without the place of the table, which depends on the order in which tables were made.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let Header { time, number, tag, digest, table: _, key_length, is_live } = self.header();
        (time, number, tag, digest, key_length, is_live, &self.0.slice).hash(state);
    }
}
