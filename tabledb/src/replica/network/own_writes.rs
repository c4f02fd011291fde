//! The application's writes: their conditions, and the new version.

use std::sync::Arc;
use std::time::Instant;

use super::super::load::{Full, Load};
use super::super::node_state::NodeState;
use super::super::store::{Body, Dot, Effect, Write as StoreWrite};
use super::super::update_queue::QueuedUpdate;
use super::super::view::Table;
use super::{Network, update_bytes};
use crate::{ArrivalPath, Limits, Operation, Version, Write, WriteError};

/// What is under the key of a write.
struct Found {
    table: Option<Arc<Table>>,
    /// The record, live or a tombstone.
    dot: Option<Dot>,
    /// The version of the entry, if there is one.
    live: Option<Version>,
}

impl Network {
    pub(crate) fn write(
        &mut self,
        write: Write<'_>,
        node: &mut NodeState,
        now: Instant,
    ) -> Result<Version, WriteError> {
        let found = self.find(&write);
        self.check(&write, &found, &self.store.load(), &node.config.limits)?;
        Ok(self.apply_own(write, found, 0, node, now))
    }

    /// Makes all of these writes, of different entries, or none. An error says which of them failed.
    pub(crate) fn write_batch(
        &mut self,
        batch: &[Write<'_>],
        node: &mut NodeState,
        now: Instant,
    ) -> Result<Vec<Version>, (usize, WriteError)> {
        let (mut load, mut together) = (self.store.load(), 0);
        for (index, write) in batch.iter().enumerate() {
            let (found, value) = (self.find(write), write.operation.value());
            self.check(write, &found, &load, &node.config.limits).map_err(|error| (index, error))?;
            load.add(write.table, found.table.as_deref(), write.key, value);
            together += update_bytes(write.table, write.key, value);
        }
        node.watchers.begin_step();
        let write = |write: &Write<'_>| {
            let found = self.find(write);
            // The first one says how much belongs together.
            self.apply_own(*write, found, std::mem::take(&mut together), node, now)
        };
        let versions = batch.iter().map(write).collect();
        node.watchers.end_step();
        Ok(versions)
    }

    fn find(&mut self, write: &Write<'_>) -> Found {
        let table = self.store.take_table(write.table);
        let present = table.as_ref().and_then(|table| {
            table.records.read(write.key, |record| {
                let version = record.is_visible().then(|| record.version());
                (record.dot(), version)
            })
        });
        Found { table, dot: present.map(|(dot, _)| dot), live: present.and_then(|(_, version)| version) }
    }

    /// Whether a write meets its condition, and a network with this load has room for it.
    fn check(
        &self,
        write: &Write<'_>,
        found: &Found,
        load: &Load<'_>,
        limits: &Limits,
    ) -> Result<(), WriteError> {
        let Write { table, key, operation } = *write;
        let target = || (self.name.to_string(), table.to_owned(), key.to_owned());
        match (operation, found.live) {
            (Operation::Create(_), Some(found)) => {
                let (network, table, key) = target();
                return Err(WriteError::AlreadyExists { network, table, key, found });
            }
            (Operation::Update(_) | Operation::Delete, None) => {
                let (network, table, key) = target();
                return Err(WriteError::NotFound { network, table, key });
            }
            (Operation::CompareAndSet(expected, _) | Operation::CompareAndDelete(expected), found)
                if found != Some(expected) =>
            {
                let (network, table, key) = target();
                return Err(WriteError::VersionMismatch { network, table, key, found });
            }
            _ => {}
        }
        let network = || self.name.to_string();
        match self.store.lacks_capacity(load, (table, found.table.as_ref()), key, operation.value(), limits) {
            None => Ok(()),
            Some(Full::Entries) => Err(WriteError::NetworkFull { network: network(), limit: limits.entries }),
            Some(Full::Tables) => Err(WriteError::TooManyTables { network: network(), limit: limits.tables }),
            Some(Full::Bytes) => Err(WriteError::NetworkBytes { network: network(), limit: limits.bytes }),
        }
    }

    /// Makes a write that has been checked. It is the first of a batch of `together` bytes, or of none.
    fn apply_own(
        &mut self,
        Write { table: table_name, key, operation }: Write<'_>,
        found: Found,
        together: usize,
        node: &mut NodeState,
        now: Instant,
    ) -> Version {
        let body = match operation.value() {
            Some(value) => Body::Live(value),
            None => Body::Tombstone { expires: now + node.config.reap_time },
        };
        let present = found.dot;
        let bytes = update_bytes(table_name, key, body.value());
        let table = found.table.unwrap_or_else(|| self.store.table_or_new(table_name));
        let (own, writer) =
            self.store.attachment(self.own).map_or((0, 0), |own| (own.seen().highest(), own.tag.digest));
        let dot = (self.own, own + 1);
        let time = node.clock.tick(now);
        let write = StoreWrite { dot, time, table: &table, key, body, replaced: present.as_slice(), present };
        let effect = self.store.apply(write, &mut node.watchers);
        if let Effect::Kept(former @ Some(_)) = &effect {
            node.arrivals.note((writer, dot.1), ArrivalPath::Local, None, former.as_ref(), now);
        }
        self.store.keep_table(table);
        self.supersede_refused(table_name, key, time);
        node.counters.writes += 1;
        self.note_change(now);
        // A backlog has no queue: no list is made for it.
        let replaced = present.filter(|_| !self.updates.has_backlog()).into_iter().collect();
        node.wake |= self.updates.push(QueuedUpdate { dot, replaced, together }, true, bytes, now);
        Version { time, writer, number: dot.1 }
    }
}
