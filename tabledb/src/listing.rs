//! What a caller asks of a sorted list of a table, and what is in it.

use std::cmp::Ordering;
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

/// The first entries by key of those that are added, in about twice their memory: a part of a long list costs no sorted
/// copy of the whole table.
#[derive(Debug)]
pub(crate) struct FirstByKey {
    most: usize,
    listed: Vec<Listed>,
    /// The last of the first ones so far, once there are that many: only keys before it are among them.
    last: Option<Entry>,
}

impl FirstByKey {
    /// The first `most`, at least one.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, listed: Vec::new(), last: None }
    }

    /// Whether an entry under this key can be among the first ones.
    pub(crate) fn may_be_among_them(&self, key: &[u8]) -> bool {
        self.last.as_ref().is_none_or(|last| key < last.key_bytes())
    }

    pub(crate) fn add(&mut self, listed: Listed) {
        self.listed.push(listed);
        if self.listed.len() >= self.most.saturating_mul(2) {
            let (_, last, _) = self.listed.select_nth_unstable_by(self.most - 1, by_key);
            self.last = Some(last.entry.clone());
            self.listed.truncate(self.most);
        }
    }

    /// The first ones, by key.
    pub(crate) fn sorted(mut self) -> Vec<Listed> {
        self.listed.sort_unstable_by(by_key);
        self.listed.truncate(self.most);
        self.listed
    }
}

fn by_key(one: &Listed, other: &Listed) -> Ordering {
    one.entry.key_bytes().cmp(other.entry.key_bytes())
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Config, TableDb};
    use wire::{NodeId, NodeName};

    proptest! {
        #[test]
        fn the_parts_of_a_list_are_the_list(keys in proptest::collection::btree_set("[a-c]{0,4}", 0..60), limit in 1..9_usize) {
            let tables = TableDb::new(Config::new(NodeId::new(NodeName::new("n").unwrap(), 1))).unwrap();
            tables.join_network("net").unwrap();
            for key in &keys {
                tables.create("net", "table", key, b"").unwrap();
            }
            let wanted: Vec<&str> = keys.iter().map(String::as_str).filter(|key| key.starts_with('a')).collect();
            let (mut found, mut more) = (Vec::<String>::new(), true);
            while more {
                let after = found.last().map(String::as_str);
                let part = Listing { prefix: "a", after, limit: NonZeroUsize::new(limit), hidden: false };
                let (listed, follows) = tables.list("net", "table", part, || true).unwrap();
                prop_assert!(listed.len() <= limit && (listed.len() == limit || !follows));
                found.extend(listed.iter().map(|listed| listed.entry.key().to_owned()));
                more = follows;
            }
            prop_assert_eq!(found, wanted);
        }
    }
}
