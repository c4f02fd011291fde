//! What a reader sees of an entry.

use std::sync::Arc;

use wire::NodeName;

/// The bytes of an entry's value. Cloning copies a pointer.
pub type Value = Arc<[u8]>;

/// One visible entry of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key, unique within its table.
    pub key: Arc<str>,
    /// The value, opaque bytes; may be empty.
    pub value: Value,
    /// The node that wrote this version last.
    pub owner: NodeName,
}
