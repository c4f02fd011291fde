//! Errors of the caller, one enum per operation.

use std::ops::RangeInclusive;

use crate::Version;

/// Why a create, update or delete failed. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// This node is not on the network, or is leaving it.
    #[error("network {network} is not joined on this node; join it before writing to it")]
    NotJoined {
        /// The network in the request.
        network: String,
    },
    /// Create found a live entry.
    #[error(
        "entry {key} of table {table} in network {network} exists already, with version {found}; update it, or \
         choose another key"
    )]
    AlreadyExists {
        /// The network in the request.
        network: String,
        /// The table in the request.
        table: String,
        /// The key in the request.
        key: String,
        /// The version of the live entry.
        found: Version,
    },
    /// Update or delete found no live entry.
    #[error(
        "entry {key} of table {table} in network {network} does not exist; only an existing entry can be \
         updated or deleted"
    )]
    NotFound {
        /// The network in the request.
        network: String,
        /// The table in the request.
        table: String,
        /// The key in the request.
        key: String,
    },
    /// A conditional write found another version, or none.
    #[error(
        "entry {key} of table {table} in network {network} {}; read it again",
        found.map_or("does not exist".to_owned(), |found| {
            format!("has version {found}, which is not the expected one")
        })
    )]
    VersionMismatch {
        /// The network in the request.
        network: String,
        /// The table in the request.
        table: String,
        /// The key in the request.
        key: String,
        /// The version of the live entry, if there is one.
        found: Option<Version>,
    },
    /// A name, key or value is empty where it must not be, or exceeds the limit.
    #[error("the {what} has {found} bytes; {} to {} are allowed", allowed.start(), allowed.end())]
    Length {
        /// `table name`, `key` or `value`.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The allowed lengths.
        allowed: RangeInclusive<usize>,
    },
    /// The network holds as many entries as its limit allows.
    #[error("network {network} holds {limit} entries, its limit; delete some or raise the limit")]
    NetworkFull {
        /// The network in the request.
        network: String,
        /// The limit in force.
        limit: usize,
    },
    /// The network holds as many tables as its limit allows, and the requested table is not one of them.
    #[error("network {network} holds {limit} tables, its limit; empty some or raise the limit")]
    TooManyTables {
        /// The network in the request.
        network: String,
        /// The limit in force.
        limit: usize,
    },
    /// The write would make the keys and values of the network exceed the byte limit.
    #[error(
        "network {network} may hold {limit} bytes of keys and values, and this write would exceed them; \
         delete some or raise the limit"
    )]
    NetworkBytes {
        /// The network in the request.
        network: String,
        /// The limit in force.
        limit: usize,
    },
}

/// Why joining a network failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The node is on it already, or is still leaving it.
    #[error(
        "network {network} is joined on this node already, or is still being left; join it again after the leave"
    )]
    AlreadyJoined {
        /// The network in the request.
        network: String,
    },
    /// The name is empty or longer than the limit.
    #[error("the network name has {found} bytes; {} to {} are allowed", allowed.start(), allowed.end())]
    Length {
        /// Its length.
        found: usize,
        /// The allowed lengths.
        allowed: RangeInclusive<usize>,
    },
    /// The node is on as many networks as its limit allows.
    #[error("this node is on {limit} networks, its limit; leave one or raise the limit")]
    TooManyNetworks {
        /// The limit in force.
        limit: usize,
    },
}

/// Why leaving a network failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaveError {
    /// This node is not on it, or is leaving it already.
    #[error(
        "network {network} is not joined on this node, or is being left already; there is nothing to leave"
    )]
    NotJoined {
        /// The network in the request.
        network: String,
    },
}
