//! The JSON of a batch of writes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Writes that are made in one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// The writes, in order, each to another entry.
    #[schema(max_items = 1000)]
    pub writes: Vec<BatchWrite>,
}

/// A write of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum BatchWrite {
    /// Creates or replaces an entry.
    Put(BatchPut),
    /// Deletes an entry.
    Delete(BatchDelete),
}

/// A write that creates or replaces an entry, whichever node wrote it. The value is in exactly one of the two fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchPut {
    /// The table.
    pub table: String,
    /// The key.
    pub key: String,
    /// The value as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The value in standard base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// Only over the entry of this version; `*` only if there is an entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
    /// With `*`: only if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_none_match: Option<String>,
}

/// A write that deletes an entry, whichever node wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchDelete {
    /// The table.
    pub table: String,
    /// The key.
    pub key: String,
    /// Only the entry of this version; `*` is the same as none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchOutcome {
    /// The version of each write, in order.
    pub versions: Vec<String>,
}
