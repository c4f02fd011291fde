//! What the application writes.

use std::time::Instant;

use super::Replica;
use super::network::own_writes::Operation;
use crate::{Version, WriteError};

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
        self.write(network, table, key, Operation::Create(value.as_ref()), now)
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
        self.write(network, table, key, Operation::Update(value.as_ref()), now)
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
        self.write(network, table, key, Operation::Upsert(value.as_ref()), now)
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
        self.write(network, table, key, Operation::CompareAndSet(expected, value.as_ref()), now)
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
        self.write(network, table, key, Operation::CompareAndDelete(expected), now)
    }

    /// Deletes an entry, whichever node wrote it; an error if the key is not live. Returns the version of the delete.
    pub fn delete(
        &mut self,
        network: &str,
        table: &str,
        key: &str,
        now: Instant,
    ) -> Result<Version, WriteError> {
        self.write(network, table, key, Operation::Delete, now)
    }

    fn write(
        &mut self,
        network: &str,
        table: &str,
        key: &str,
        operation: Operation<'_>,
        now: Instant,
    ) -> Result<Version, WriteError> {
        self.now = now;
        let limits = &self.node.config.limits;
        let length = |what, found, allowed| Err(WriteError::Length { what, found, allowed });
        if !(1..=limits.name_bytes).contains(&table.len()) {
            return length("table name", table.len(), 1..=limits.name_bytes);
        }
        if key.len() > limits.key_bytes {
            return length("key", key.len(), 0..=limits.key_bytes);
        }
        if let Some(value) = operation.value()
            && value.len() > limits.value_bytes
        {
            return length("value", value.len(), 0..=limits.value_bytes);
        }
        let Some(&at) = self.by_name.get(network) else {
            return Err(WriteError::NotJoined { network: network.to_owned() });
        };
        let Some(target) = &mut self.networks[at] else {
            return Err(WriteError::NotJoined { network: network.to_owned() });
        };
        let version = target.write(operation, table, key, &mut self.node, now)?;
        if self.node.wake {
            self.plan(at, now);
        }
        Ok(version)
    }
}
