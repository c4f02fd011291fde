//! What a reader sees of an entry.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use wire::NodeName;

use crate::Version;
use crate::record::{Identity, Record, TablePlace, Tag};

/// One visible entry of a table, as it was when it was read. Cloning copies a pointer.
#[derive(Clone)]
pub struct Entry(Record);

impl Entry {
    /// An entry that is in no table, for example for a test of what reads entries.
    pub fn new(key: &str, value: &[u8], owner: NodeName, version: Version) -> Self {
        let tag = Arc::new(Tag::of_writer(version.writer, owner));
        let identity =
            Identity { tag: &tag, number: version.number, time: version.time, table: (TablePlace(0), "") };
        Self(Record::new(identity, key, Some(value), &mut Vec::new()))
    }

    pub(crate) fn of(record: Record) -> Self {
        Self(record)
    }

    pub(crate) fn into_record(self) -> Record {
        self.0
    }

    /// The key, unique within its table.
    pub fn key(&self) -> &str {
        self.0.key()
    }

    pub(crate) fn key_bytes(&self) -> &[u8] {
        self.0.key_bytes()
    }

    /// The value, opaque bytes; may be empty.
    pub fn value(&self) -> &[u8] {
        self.0.value()
    }

    /// The node that wrote this version.
    pub fn owner(&self) -> &NodeName {
        &self.0.tag().owner.name
    }

    /// Which write this is, see [`TableDb::compare_and_set`](crate::TableDb::compare_and_set).
    pub fn version(&self) -> Version {
        self.0.version()
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        let parts = |entry: &Self| (entry.version(), entry.0.key_bytes().len());
        self.0.is_same(&other.0)
            || parts(self) == parts(other)
                && self.owner() == other.owner()
                && (self.key(), self.value()) == (other.key(), other.value())
    }
}

impl Eq for Entry {}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key())
            .field("value", &self.value())
            .field("owner", self.owner())
            .field("version", &self.version())
            .finish()
    }
}

/// The key of a changed entry: text. Cloning copies a pointer.
#[derive(Clone)]
pub struct Key(Source<str>);

/// The bytes of an entry's value. Cloning copies a pointer.
#[derive(Clone)]
pub struct Value(Source<[u8]>);

/// Where the bytes are.
enum Source<T: ?Sized> {
    /// In the record of an entry.
    Record(Record),
    /// In an allocation of their own.
    Own(Arc<T>),
}

impl<T: ?Sized> Clone for Source<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Record(record) => Self::Record(record.clone()),
            Self::Own(own) => Self::Own(own.clone()),
        }
    }
}

impl Key {
    pub(crate) fn of(record: &Record) -> Self {
        Self(Source::Record(record.clone()))
    }
}

impl Value {
    pub(crate) fn of(record: &Record) -> Self {
        Self(Source::Record(record.clone()))
    }
}

impl Deref for Key {
    type Target = str;
    fn deref(&self) -> &str {
        match &self.0 {
            Source::Record(record) => record.key(),
            Source::Own(key) => key,
        }
    }
}

impl Deref for Value {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::Record(record) => record.value(),
            Source::Own(value) => value,
        }
    }
}

impl From<&str> for Key {
    fn from(key: &str) -> Self {
        Self(Source::Own(key.into()))
    }
}

impl From<Arc<str>> for Key {
    fn from(key: Arc<str>) -> Self {
        Self(Source::Own(key))
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self(Source::Own(value.into()))
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self(Source::Own(value.into()))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        self
    }
}

/// Both compare, hash and print as what they hold.
macro_rules! as_held {
    ($($type:ident)*) => {
        $(
            impl fmt::Debug for $type {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    (**self).fmt(f)
                }
            }

            impl PartialEq for $type {
                fn eq(&self, other: &Self) -> bool {
                    **self == **other
                }
            }

            impl Eq for $type {}

            impl PartialOrd for $type {
                fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                    Some(self.cmp(other))
                }
            }

            impl Ord for $type {
                fn cmp(&self, other: &Self) -> Ordering {
                    (**self).cmp(&**other)
                }
            }

            impl Hash for $type {
                fn hash<H: Hasher>(&self, state: &mut H) {
                    (**self).hash(state);
                }
            }
        )*
    };
}

as_held!(Key Value);
