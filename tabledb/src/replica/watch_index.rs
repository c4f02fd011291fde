//! The logs of watchers, found by what a change concerns: for a change that no watcher wants, next to nothing is
//! looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::NodeName;

use super::watch_log::WatchLog;
use crate::WatchFilter;
use crate::change::RecordedChange;

/// What belongs to every name, and what belongs to one.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
struct ByName<T> {
    every: T,
    one: BTreeMap<String, T>,
}

impl<T: Default> ByName<T> {
    fn of(&mut self, name: Option<&str>) -> &mut T {
        match name {
            None => &mut self.every,
            Some(name) => self.one.entry(name.to_owned()).or_default(),
        }
    }

    /// What an event with this name concerns.
    fn concerned(&self, name: &str) -> impl Iterator<Item = &T> {
        std::iter::once(&self.every).chain(self.one.get(name))
    }

    fn values(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.every).chain(self.one.values())
    }

    /// Removes the names for which `keep` returns false. Returns whether anything is left.
    fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) -> bool {
        self.one.retain(|_, value| keep(value));
        keep(&mut self.every) || !self.one.is_empty()
    }
}

/// What belongs to the keys that begin with a prefix: for each length that a prefix has, one look-up finds what a key
/// concerns.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
struct ByPrefix<T>(BTreeMap<usize, BTreeMap<String, T>>);

impl<T> Default for ByPrefix<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Default> ByPrefix<T> {
    fn of(&mut self, prefix: &str) -> &mut T {
        self.0.entry(prefix.len()).or_default().entry(prefix.to_owned()).or_default()
    }

    fn concerned<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a T> {
        self.0.range(..=key.len()).filter_map(move |(&length, prefixes)| prefixes.get(key.get(..length)?))
    }

    fn values(&self) -> impl Iterator<Item = &T> {
        self.0.values().flat_map(BTreeMap::values)
    }

    fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) -> bool {
        self.0.retain(|_, prefixes| {
            prefixes.retain(|_, value| keep(value));
            !prefixes.is_empty()
        });
        !self.0.is_empty()
    }
}

/// The logs of watchers that differ only in whether they exclude our own entries. `None` without such watchers.
#[derive(Debug, Default)]
struct Logs {
    with_own: Option<Arc<WatchLog>>,
    without_own: Option<Arc<WatchLog>>,
}

impl Logs {
    fn iter(&self) -> impl Iterator<Item = &Arc<WatchLog>> {
        self.with_own.iter().chain(&self.without_own)
    }
}

#[cfg(test)]
impl std::hash::Hash for Logs {
    /// Without the waiting changes: they are not state of the replica.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let Self { with_own, without_own } = self;
        [with_own, without_own].map(|log| log.as_ref().map(watchers_of)).hash(state);
    }
}

/// The watchers that read a log: each holds it, and so does the index.
pub(super) fn watchers_of(log: &Arc<WatchLog>) -> usize {
    Arc::strong_count(log) - 1
}

/// The logs by network, table, prefix and owner.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct WatchIndex(ByName<ByName<ByPrefix<ByName<Logs>>>>);

/// A log that a change concerns, and the owners whose entries its watchers want.
pub(super) struct Concerned<'a> {
    pub(super) log: &'a Arc<WatchLog>,
    pub(super) owner: Option<&'a NodeName>,
    pub(super) exclude_own: bool,
}

impl WatchIndex {
    /// The place of the log for a filter.
    pub(super) fn place_for(&mut self, filter: &WatchFilter) -> &mut Option<Arc<WatchLog>> {
        let WatchFilter { network, table, prefix, owner, exclude_own } = filter;
        let of_table = self.0.of(network.as_deref()).of(table.as_deref());
        let logs = of_table.of(prefix).of(owner.as_ref().map(NodeName::as_str));
        if *exclude_own { &mut logs.without_own } else { &mut logs.with_own }
    }

    /// All logs.
    pub(super) fn logs(&self) -> impl Iterator<Item = &Arc<WatchLog>> {
        let tables = self.0.values().flat_map(ByName::values);
        tables.flat_map(ByPrefix::values).flat_map(ByName::values).flat_map(Logs::iter)
    }

    /// Whether any watcher wants changes of `network`.
    pub(super) fn wants(&self, network: &str) -> bool {
        let tables = self.0.concerned(network).flat_map(ByName::values);
        tables.flat_map(ByPrefix::values).flat_map(ByName::values).any(|logs| logs.iter().next().is_some())
    }

    /// The logs of the watchers that may see this change.
    pub(super) fn concerned<'a>(
        &'a self,
        recorded: &'a RecordedChange,
    ) -> impl Iterator<Item = Concerned<'a>> + 'a {
        let RecordedChange { change, former_owner, .. } = recorded;
        let now = Some(&change.owner);
        let former = former_owner.as_ref().filter(|former| **former != change.owner);
        let tables = self.0.concerned(&change.network).flat_map(|tables| tables.concerned(&change.table));
        tables.flat_map(|table| table.concerned(&change.key)).flat_map(move |owners| {
            let of_one = [now, former].into_iter().flatten();
            let of_one = of_one.filter_map(|owner| Some((Some(owner), owners.one.get(owner.as_str())?)));
            let all = std::iter::once((None, &owners.every)).chain(of_one);
            all.flat_map(|(owner, Logs { with_own, without_own })| {
                let with_own = with_own.iter().map(move |log| Concerned { log, owner, exclude_own: false });
                let without = without_own.iter().map(move |log| Concerned { log, owner, exclude_own: true });
                with_own.chain(without)
            })
        })
    }

    /// Removes the logs that no watcher reads any more.
    pub(super) fn remove_abandoned(&mut self) {
        let is_read = |log: &mut Arc<WatchLog>| watchers_of(log) > 0;
        self.0.retain(|network| {
            network.retain(|prefixes| {
                prefixes.retain(|owners| {
                    owners.retain(|Logs { with_own, without_own }| {
                        with_own.take_if(|log| !is_read(log));
                        without_own.take_if(|log| !is_read(log));
                        with_own.is_some() || without_own.is_some()
                    })
                })
            })
        });
    }
}
