//! Several writes in one step.

use crate::{Version, WriteError};

/// The most writes of one batch. The replica is locked while they are made, for about a millisecond.
pub const MAX_BATCH_WRITES: usize = 1_000;

/// A write, of a batch or alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write<'a> {
    /// The table, created if it does not exist.
    pub table: &'a str,
    /// The key of the entry.
    pub key: &'a str,
    /// What to do with it.
    pub operation: Operation<'a>,
}

/// What a write does with the entry under its key, and on which condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// Adds it with this value; an error if the key is live.
    Create(&'a [u8]),
    /// Replaces it, whichever node wrote it; an error if the key is not live.
    Update(&'a [u8]),
    /// Adds or replaces it.
    Upsert(&'a [u8]),
    /// Replaces it; an error unless it has this version.
    CompareAndSet(Version, &'a [u8]),
    /// Deletes it, whichever node wrote it; an error if the key is not live.
    Delete,
    /// Deletes it; an error unless it has this version.
    CompareAndDelete(Version),
}

impl<'a> Operation<'a> {
    /// The value that it writes; `None` if it deletes.
    pub fn value(self) -> Option<&'a [u8]> {
        match self {
            Self::Create(value)
            | Self::Update(value)
            | Self::Upsert(value)
            | Self::CompareAndSet(_, value) => Some(value),
            Self::Delete | Self::CompareAndDelete(_) => None,
        }
    }
}

/// Why a batch failed. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// One of its writes failed.
    #[error("write {index} of the batch: {error}")]
    Write {
        /// Which one, from 0 on.
        index: usize,
        /// Why.
        error: WriteError,
    },
    /// This node is not on the network, or is leaving it.
    #[error(transparent)]
    Network(WriteError),
    /// Two of its writes are to the same entry.
    #[error(
        "writes {first} and {second} of the batch are both to entry {key} of table {table}; a batch writes an \
         entry once"
    )]
    SameEntry {
        /// The first of them, from 0 on.
        first: usize,
        /// The second of them.
        second: usize,
        /// The table of both.
        table: String,
        /// The key of both.
        key: String,
    },
    /// It has too many writes.
    #[error("the batch has {found} writes; at most {MAX_BATCH_WRITES} are allowed")]
    TooLong {
        /// How many it has.
        found: usize,
    },
}
