//! What the application writes.

use std::time::Instant;

use super::Replica;
use super::network::Operation;
use crate::{Value, WriteError};

impl Replica {
    /// Adds an entry; an error if the key is live.
    pub fn create(
        &mut self,
        network: &str,
        table: &str,
        key: &str,
        value: impl Into<Value>,
        now: Instant,
    ) -> Result<(), WriteError> {
        self.write(network, table, key, Operation::Create(value.into()), now)
    }

    /// Replaces an entry, whichever node wrote it; an error if the key is not live.
    pub fn update(
        &mut self,
        network: &str,
        table: &str,
        key: &str,
        value: impl Into<Value>,
        now: Instant,
    ) -> Result<(), WriteError> {
        self.write(network, table, key, Operation::Update(value.into()), now)
    }

    /// Deletes an entry, whichever node wrote it; an error if the key is not live.
    pub fn delete(&mut self, network: &str, table: &str, key: &str, now: Instant) -> Result<(), WriteError> {
        self.write(network, table, key, Operation::Delete, now)
    }

    fn write(
        &mut self,
        network: &str,
        table: &str,
        key: &str,
        operation: Operation,
        now: Instant,
    ) -> Result<(), WriteError> {
        self.now = now;
        let limits = &self.node.config.limits;
        let length = |what, found, allowed| Err(WriteError::Length { what, found, allowed });
        if !(1..=limits.name_bytes).contains(&table.len()) {
            return length("table name", table.len(), format!("1 to {}", limits.name_bytes));
        }
        if key.len() > limits.key_bytes {
            return length("key", key.len(), format!("0 to {}", limits.key_bytes));
        }
        if let Operation::Create(value) | Operation::Update(value) = &operation
            && value.len() > limits.value_bytes
        {
            return length("value", value.len(), format!("0 to {}", limits.value_bytes));
        }
        let Some(&at) = self.by_name.get(network) else {
            return Err(WriteError::NotJoined { network: network.to_owned() });
        };
        let Some(target) = &mut self.networks[at] else {
            return Err(WriteError::NotJoined { network: network.to_owned() });
        };
        target.write(operation, table, key, &mut self.node, now)?;
        if self.node.wake {
            self.plan(at, now);
        }
        Ok(())
    }
}
