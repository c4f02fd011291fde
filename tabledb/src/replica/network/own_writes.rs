//! The application's writes: their conditions, and the new version.

use std::time::Instant;

use super::super::node_state::NodeState;
use super::super::store::{Body, Effect, Full, Write};
use super::super::update_queue::QueuedUpdate;
use super::{Network, update_bytes};
use crate::{ArrivalPath, Version, WriteError};

/// The operation of a caller on a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation<'a> {
    Create(&'a [u8]),
    Update(&'a [u8]),
    Upsert(&'a [u8]),
    CompareAndSet(Version, &'a [u8]),
    Delete,
    CompareAndDelete(Version),
}

impl<'a> Operation<'a> {
    /// The value that it writes.
    pub(crate) fn value(self) -> Option<&'a [u8]> {
        match self {
            Self::Create(value)
            | Self::Update(value)
            | Self::Upsert(value)
            | Self::CompareAndSet(_, value) => Some(value),
            Self::Delete | Self::CompareAndDelete(_) => None,
        }
    }
}

impl Network {
    pub(crate) fn write(
        &mut self,
        operation: Operation<'_>,
        table_name: &str,
        key: &str,
        node: &mut NodeState,
        now: Instant,
    ) -> Result<Version, WriteError> {
        if self.is_leaving() {
            return Err(WriteError::NotJoined { network: self.name.to_string() });
        }
        let target = || (self.name.to_string(), table_name.to_owned(), key.to_owned());
        let found = self.store.take_table(table_name);
        let present = found.as_ref().and_then(|table| {
            table.records.read(key, |record| {
                let version = record.is_visible().then(|| record.version());
                (record.dot(), version)
            })
        });
        let live = present.and_then(|(_, version)| version);
        let present = present.map(|(dot, _)| dot);
        let body = match operation {
            Operation::Create(_) if let Some(found) = live => {
                let (network, table, key) = target();
                return Err(WriteError::AlreadyExists { network, table, key, found });
            }
            Operation::Update(_) | Operation::Delete if live.is_none() => {
                let (network, table, key) = target();
                return Err(WriteError::NotFound { network, table, key });
            }
            Operation::CompareAndSet(expected, _) | Operation::CompareAndDelete(expected)
                if live != Some(expected) =>
            {
                let (network, table, key) = target();
                return Err(WriteError::VersionMismatch { network, table, key, found: live });
            }
            Operation::Create(value)
            | Operation::Update(value)
            | Operation::Upsert(value)
            | Operation::CompareAndSet(_, value) => Body::Live(value),
            Operation::Delete | Operation::CompareAndDelete(_) => {
                Body::Tombstone { expires: now + node.config.reap_time }
            }
        };
        let limits = &node.config.limits;
        let network = || self.name.to_string();
        match self.store.lacks_capacity(found.as_ref(), key, body.value(), limits) {
            None => {}
            Some(Full::Entries) => {
                return Err(WriteError::NetworkFull { network: network(), limit: limits.entries });
            }
            Some(Full::Tables) => {
                return Err(WriteError::TooManyTables { network: network(), limit: limits.tables });
            }
            Some(Full::Bytes) => {
                return Err(WriteError::NetworkBytes { network: network(), limit: limits.bytes });
            }
        }
        let bytes = update_bytes(table_name, key, body.value());
        let table = found.unwrap_or_else(|| self.store.table_or_new(table_name));
        let (own, writer) =
            self.store.attachment(self.own).map_or((0, 0), |own| (own.seen().highest(), own.tag.digest));
        let dot = (self.own, own + 1);
        let time = node.clock.tick(now);
        let write = Write { dot, time, table: &table, key, body, replaced: present.as_slice(), present };
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
        node.wake |= self.updates.push(QueuedUpdate { dot, replaced }, true, bytes, now);
        Ok(Version { time, writer, number: dot.1 })
    }
}
