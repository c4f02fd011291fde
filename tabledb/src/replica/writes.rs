//! What the application writes.

use std::collections::HashMap;
use std::time::Instant;

use super::Replica;
use super::network::Network;
use super::node_state::NodeState;
use crate::{BatchError, Limits, MAX_BATCH_WRITES, Operation, Version, Write, WriteError};

impl Replica {
    /// Adds an entry; an error if the key is live.
    pub fn create(
        &mut self,
        network: &str,
        table: &str,
        key: &str,
        value: impl AsRef<[u8]>,
        now: Instant,
    ) -> Result<Version, WriteError> {
        self.write(network, Write { table, key, operation: Operation::Create(value.as_ref()) }, now)
    }

    /// Replaces an entry, whichever node wrote it; an error if the key is not live.
    pub fn update(
        &mut self,
        network: &str,
        table: &str,
        key: &str,
        value: impl AsRef<[u8]>,
        now: Instant,
    ) -> Result<Version, WriteError> {
        self.write(network, Write { table, key, operation: Operation::Update(value.as_ref()) }, now)
    }

    /// Adds an entry, or replaces it, whichever node wrote it.
    pub fn upsert(
        &mut self,
        network: &str,
        table: &str,
        key: &str,
        value: impl AsRef<[u8]>,
        now: Instant,
    ) -> Result<Version, WriteError> {
        self.write(network, Write { table, key, operation: Operation::Upsert(value.as_ref()) }, now)
    }

    /// Replaces an entry; an error unless it has the version `expected` here.
    pub fn compare_and_set(
        &mut self,
        network: &str,
        table: &str,
        key: &str,
        expected: Version,
        value: impl AsRef<[u8]>,
        now: Instant,
    ) -> Result<Version, WriteError> {
        self.write(
            network,
            Write { table, key, operation: Operation::CompareAndSet(expected, value.as_ref()) },
            now,
        )
    }

    /// Deletes an entry; an error unless it has the version `expected` here. Returns the version of the delete.
    pub fn compare_and_delete(
        &mut self,
        network: &str,
        table: &str,
        key: &str,
        expected: Version,
        now: Instant,
    ) -> Result<Version, WriteError> {
        self.write(network, Write { table, key, operation: Operation::CompareAndDelete(expected) }, now)
    }

    /// Deletes an entry, whichever node wrote it; an error if the key is not live. Returns the version of the delete.
    pub fn delete(
        &mut self,
        network: &str,
        table: &str,
        key: &str,
        now: Instant,
    ) -> Result<Version, WriteError> {
        self.write(network, Write { table, key, operation: Operation::Delete }, now)
    }

    /// Makes all of these writes in one step, or none: their conditions are checked as if they were made one
    /// after the other. Returns their versions.
    pub fn write_batch(
        &mut self,
        network: &str,
        batch: &[Write<'_>],
        now: Instant,
    ) -> Result<Vec<Version>, BatchError> {
        if batch.len() > MAX_BATCH_WRITES {
            return Err(BatchError::TooLong { found: batch.len() });
        }
        let mut written = HashMap::with_capacity(batch.len());
        for (second, &Write { table, key, .. }) in batch.iter().enumerate() {
            if let Some(first) = written.insert((table, key), second) {
                return Err(BatchError::SameEntry { first, second, table: table.into(), key: key.into() });
            }
        }
        let failed = |index| move |error| BatchError::Write { index, error };
        for (index, write) in batch.iter().enumerate() {
            check_lengths(write, &self.node.config.limits).map_err(failed(index))?;
        }
        let writing = |target: &mut Network, node: &mut NodeState| {
            target.write_batch(batch, node, now).map_err(|(index, error)| failed(index)(error))
        };
        self.write_to(network, now, writing).map_err(BatchError::Network)?
    }

    fn write(&mut self, network: &str, write: Write<'_>, now: Instant) -> Result<Version, WriteError> {
        check_lengths(&write, &self.node.config.limits)?;
        self.write_to(network, now, |target, node| target.write(write, node, now))?
    }

    /// Lets `writing` write to a network, and plans what follows from it.
    fn write_to<T>(
        &mut self,
        network: &str,
        now: Instant,
        writing: impl FnOnce(&mut Network, &mut NodeState) -> T,
    ) -> Result<T, WriteError> {
        self.now = now;
        let not_joined = || WriteError::NotJoined { network: network.to_owned() };
        let &at = self.by_name.get(network).ok_or_else(not_joined)?;
        let target =
            self.networks[at].as_mut().filter(|target| !target.is_leaving()).ok_or_else(not_joined)?;
        let written = writing(target, &mut self.node);
        if self.node.wake {
            self.plan(at, now);
        }
        Ok(written)
    }
}

fn check_lengths(write: &Write<'_>, limits: &Limits) -> Result<(), WriteError> {
    let Write { table, key, operation } = write;
    let value = operation.value().map_or(0, <[u8]>::len);
    for (what, found, allowed) in [
        ("table name", table.len(), 1..=limits.name_bytes),
        ("key", key.len(), 0..=limits.key_bytes),
        ("value", value, 0..=limits.value_bytes),
    ] {
        if !allowed.contains(&found) {
            return Err(WriteError::Length { what, found, allowed });
        }
    }
    Ok(())
}
