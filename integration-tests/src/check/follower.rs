//! A watcher that applies the changes it receives to an empty map, and reports any that does not
//! fit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tabledb::{Change, ChangeKind, Entry, TableDb, Value, Version, Watch, WatchEvent, WatchFilter};
use wire::NodeName;

/// Network, table, key.
pub(crate) type EntryKey = (Arc<str>, Arc<str>, Arc<str>);

/// Value, owner, version.
type Shown = (Value, NodeName, Version);

/// All changes that a watcher received, combined.
#[derive(Debug)]
pub struct Follower {
    watch: Watch,
    shown: BTreeMap<EntryKey, Shown>,
    received: Vec<Change>,
    lagged: u64,
    /// The node has ended: no more changes follow.
    closed: bool,
}

impl Follower {
    /// Follows everything on a node.
    pub(crate) fn new(tables: &TableDb) -> Self {
        Self {
            watch: tables.watch(WatchFilter::default()),
            shown: BTreeMap::new(),
            received: Vec::new(),
            lagged: 0,
            closed: false,
        }
    }

    /// Every change it received.
    pub fn received(&self) -> &[Change] {
        &self.received
    }

    /// How often it fell behind and started over.
    pub fn lagged(&self) -> u64 {
        self.lagged
    }

    /// Applies the changes received since the last call, and returns them.
    pub(crate) fn drain(&mut self) -> Result<Vec<Change>, String> {
        let mut changes = Vec::new();
        while let Some(event) = self.watch.try_next() {
            match event {
                WatchEvent::Lagged => {
                    self.lagged += 1;
                    self.shown.clear();
                }
                WatchEvent::Closed => {
                    self.closed = true;
                    break;
                }
                WatchEvent::Change(change) => {
                    self.apply(&change)?;
                    self.received.push(change.clone());
                    changes.push(change);
                }
            }
        }
        Ok(changes)
    }

    /// Whether each of the changed entries is what a reader sees now.
    pub(crate) fn compare(&self, tables: &TableDb, changes: &[Change]) -> Result<(), String> {
        if self.closed {
            return Ok(());
        }
        let entry_keys: BTreeSet<EntryKey> = changes.iter().map(entry_key).collect();
        for entry_key in entry_keys {
            let (network, table, key) = &entry_key;
            let read = tables.get(network, table, key);
            let read = read.as_ref().map(shown);
            let received = self.shown.get(&entry_key).cloned();
            if read != received {
                return Err(format!(
                    "the watcher received {} of {network}/{table}/{key}, and a reader finds {}",
                    text(received.as_ref()),
                    text(read.as_ref())
                ));
            }
        }
        Ok(())
    }

    /// Whether readers see exactly what the watcher received.
    pub(crate) fn compare_all(&self, tables: &TableDb) -> Result<(), String> {
        if self.closed {
            return Ok(());
        }
        let mut read = BTreeMap::new();
        for network in tables.networks() {
            let network: Arc<str> = network.into();
            for table in tables.tables(&network) {
                let entries = tables.entries(&network, &table);
                let table: Arc<str> = table.into();
                for entry in entries {
                    let entry_key = (network.clone(), table.clone(), entry.key().into());
                    read.insert(entry_key, shown(&entry));
                }
            }
        }
        if read == self.shown {
            return Ok(());
        }
        let entry_keys: BTreeSet<&EntryKey> = read.keys().chain(self.shown.keys()).collect();
        let entry_key =
            entry_keys.into_iter().find(|entry_key| read.get(*entry_key) != self.shown.get(*entry_key));
        let Some(entry_key) = entry_key else { return Ok(()) };
        Err(format!(
            "the watcher received {} of {}/{}/{}, and a reader finds {}",
            text(self.shown.get(entry_key)),
            entry_key.0,
            entry_key.1,
            entry_key.2,
            text(read.get(entry_key))
        ))
    }

    fn apply(&mut self, change: &Change) -> Result<(), String> {
        let entry_key = entry_key(change);
        let before = self.shown.get(&entry_key);
        let fits = match change.kind {
            ChangeKind::Create => before.is_none() && change.previous.is_none() && change.value.is_some(),
            ChangeKind::Update => {
                change.value.is_some()
                    && change.previous.is_some()
                    && before.map(|(value, ..)| value) == change.previous.as_ref()
            }
            ChangeKind::Delete => {
                change.value.is_none()
                    && change.previous.is_some()
                    && before.map(|(value, ..)| value) == change.previous.as_ref()
            }
        };
        if !fits || change.version.is_some() != change.value.is_some() {
            return Err(format!("the watcher had {} and received {change:?}", text(before)));
        }
        match (&change.value, change.version) {
            (Some(value), Some(version)) => {
                self.shown.insert(entry_key, (value.clone(), change.owner.clone(), version))
            }
            _ => self.shown.remove(&entry_key),
        };
        Ok(())
    }
}

fn shown(entry: &Entry) -> Shown {
    (entry.value().into(), entry.owner().clone(), entry.version())
}

pub(crate) fn entry_key(change: &Change) -> EntryKey {
    (change.network.clone(), change.table.clone(), (*change.key).into())
}

fn text(shown: Option<&Shown>) -> String {
    match shown {
        None => "nothing".into(),
        Some((value, owner, version)) => {
            let value = String::from_utf8_lossy(&value[..value.len().min(40)]);
            format!("{value:?} of {owner}, version {version}")
        }
    }
}
