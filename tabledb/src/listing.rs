//! What a caller asks of a sorted list of a table, and what is in it.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::Entry;

/// Which entries of a table to list: by default all visible ones.
#[derive(Debug, Clone, Copy, Default)]
// Exhaustive: callers build it from its defaults.
pub struct Listing<'a> {
    /// Only keys that begin with this.
    pub prefix: &'a str,
    /// Only keys behind this one, in the order of their bytes.
    pub after: Option<&'a str>,
    /// The most entries.
    pub limit: Option<NonZeroUsize>,
    /// Entries that readers do not see as well.
    pub hidden: bool,
}

/// An entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// The entry.
    pub entry: Entry,
    /// Why readers do not see it, if they do not.
    pub hidden: Option<HiddenReason>,
}

/// Why readers do not see an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum HiddenReason {
    /// Its owner has failed.
    OwnerFailed,
    /// Its owner has returned, and the entry may be stale: a comparison with a node that shows it is awaited.
    AwaitsComparison,
}
