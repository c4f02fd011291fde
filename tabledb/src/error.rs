//! What a caller can do wrong, one enum an operation.

/// Why a create, update or delete was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// This node is not on the network, or is about to leave it.
    #[error("network {network} is not joined on this node; join it before writing to it")]
    NotJoined {
        /// The network asked for.
        network: String,
    },
    /// Create found a live entry.
    #[error("cannot create entry in table {table} with network id {network} and key {key}, already exists")]
    AlreadyExists {
        /// The network asked for.
        network: String,
        /// The table asked for.
        table: String,
        /// The key asked for.
        key: String,
    },
    /// Update found no live entry.
    #[error(
        "cannot update entry as the entry in table {table} with network id {network} and key {key} does not exist"
    )]
    CannotUpdate {
        /// The network asked for.
        network: String,
        /// The table asked for.
        table: String,
        /// The key asked for.
        key: String,
    },
    /// Delete found no live entry.
    #[error(
        "cannot delete entry {table} with network id {network} and key {key} does not exist or is already being deleted"
    )]
    CannotDelete {
        /// The network asked for.
        network: String,
        /// The table asked for.
        table: String,
        /// The key asked for.
        key: String,
    },
    /// A name, key or value is empty where it may not be, or longer than the limit.
    #[error("the {what} has {found} bytes; {allowed} are allowed")]
    Length {
        /// `table name`, `key` or `value`.
        what: &'static str,
        /// How long it is.
        found: usize,
        /// What would be right, such as `1 to 255`.
        allowed: String,
    },
    /// The network holds as many entries as its limit allows.
    #[error("network {network} holds {limit} entries, its limit; delete some or raise the limit")]
    NetworkFull {
        /// The network asked for.
        network: String,
        /// The limit in force.
        limit: usize,
    },
    /// The network holds as many tables as its limit allows, and the one asked for is not among them.
    #[error("network {network} holds {limit} tables, its limit; empty some or raise the limit")]
    TooManyTables {
        /// The network asked for.
        network: String,
        /// The limit in force.
        limit: usize,
    },
    /// The keys and values of the network would have more bytes than its limit allows.
    #[error(
        "network {network} may hold {limit} bytes of keys and values, and this would be more; delete some or raise the limit"
    )]
    NetworkBytes {
        /// The network asked for.
        network: String,
        /// The limit in force.
        limit: usize,
    },
}

/// Why a network was not joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// It is joined already, or still being left.
    #[error("networkdb: network {network} is already joined")]
    AlreadyJoined {
        /// The network asked for.
        network: String,
    },
    /// The name is empty or longer than the limit.
    #[error("the network name has {found} bytes; {allowed} are allowed")]
    Length {
        /// How long it is.
        found: usize,
        /// What would be right.
        allowed: String,
    },
    /// The node is on as many networks as its limit allows.
    #[error("this node is on {limit} networks, its limit; leave one or raise the limit")]
    TooManyNetworks {
        /// The limit in force.
        limit: usize,
    },
}

/// Why a network was not left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaveError {
    /// This node is not on it.
    #[error("could not find network {network} while trying to leave")]
    NotJoined {
        /// The network asked for.
        network: String,
    },
}
