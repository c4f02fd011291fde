//! How much a network holds, and which limit a write would exceed.

use std::sync::Arc;

use super::view::Table;
use crate::Limits;

/// The limit that a write would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Entries,
    Tables,
    Bytes,
}

/// How much a network holds, or will hold after the first writes of a batch.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    records: usize,
    /// The bytes of their keys and values.
    bytes: usize,
    /// The tables that the batch creates.
    new_tables: Vec<&'a str>,
}

impl<'a> Load<'a> {
    pub(crate) fn new(records: usize, bytes: usize) -> Self {
        Self { records, bytes, new_tables: Vec::new() }
    }

    /// Adds a write whose table has this name, and exists if it is given.
    pub(crate) fn add(&mut self, name: &'a str, table: Option<&Table>, key: &str, value: Option<&[u8]>) {
        let present = table.and_then(|table| Some(table.records.get(key)?.weight()));
        self.records += usize::from(present.is_none());
        self.bytes = self.bytes - present.unwrap_or(0) + weight(key, value);
        if table.is_none() && !self.new_tables.contains(&name) {
            self.new_tables.push(name);
        }
    }

    /// The limit that prevents a body from being stored under a key, if any. A write that makes a full network
    /// smaller is accepted. The table has this name, and exists if it is given; so many exist.
    pub(crate) fn lacks_capacity(
        &self,
        (name, table): (&str, Option<&Arc<Table>>),
        key: &str,
        value: Option<&[u8]>,
        tables: impl FnOnce() -> usize,
        limits: &Limits,
    ) -> Option<Full> {
        let weight = weight(key, value);
        let fits = self.records < limits.entries && self.bytes + weight <= limits.bytes;
        if fits && table.is_some() {
            return None;
        }
        let present = table.and_then(|table| Some(table.records.get(key)?.weight()));
        let after = self.bytes - present.unwrap_or(0) + weight;
        let is_new = table.is_none() && !self.new_tables.contains(&name);
        match present {
            _ if after > limits.bytes && after > self.bytes => Some(Full::Bytes),
            Some(_) => None,
            None if self.records >= limits.entries => Some(Full::Entries),
            None if is_new && tables() + self.new_tables.len() >= limits.tables => Some(Full::Tables),
            None => None,
        }
    }
}

fn weight(key: &str, value: Option<&[u8]>) -> usize {
    key.len() + value.map_or(0, <[u8]>::len)
}
