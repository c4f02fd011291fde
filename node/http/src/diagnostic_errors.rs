//! The sentences of the original for refused changes. Its tools compare them, so the diagnostic endpoints keep
//! them byte for byte, whatever the errors of the tables say.

use tabledb::{JoinError, LeaveError, WriteError};

/// What a call wanted to do with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Create,
    Update,
    Delete,
}

/// Why a change of an entry was refused. What the original has no sentence for keeps its own.
pub(super) fn write_refused(operation: Operation, error: &WriteError) -> String {
    match error {
        WriteError::AlreadyExists { network, table, key, .. } => format!(
            "cannot create entry in table {table} with network id {network} and key {key}, already exists"
        ),
        WriteError::NotFound { network, table, key } if operation == Operation::Delete => format!(
            "cannot delete entry {table} with network id {network} and key {key} does not exist or is already \
             being deleted"
        ),
        WriteError::NotFound { network, table, key } => format!(
            "cannot update entry as the entry in table {table} with network id {network} and key {key} does not \
             exist"
        ),
        // Limits of ours, and conditions, which no call of the original has.
        _ => error.to_string(),
    }
}

/// Why a network was not joined.
pub(super) fn join_refused(error: &JoinError) -> String {
    match error {
        JoinError::AlreadyJoined { network } => format!("networkdb: network {network} is already joined"),
        _ => error.to_string(),
    }
}

/// Why a network was not left.
pub(super) fn leave_refused(error: &LeaveError) -> String {
    match error {
        LeaveError::NotJoined { network } => {
            format!("could not find network {network} while trying to leave")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every variant of today, and what the callers of the original's endpoints receive.
    #[test]
    fn every_refusal_has_the_sentence_that_the_originals_tools_know() {
        let [network, table, key] = ["net", "tab", "k"].map(str::to_owned);
        let found = "1-2-3".parse().unwrap();
        let exists = WriteError::AlreadyExists {
            network: network.clone(),
            table: table.clone(),
            key: key.clone(),
            found,
        };
        let missing =
            WriteError::NotFound { network: network.clone(), table: table.clone(), key: key.clone() };
        let changed =
            WriteError::VersionMismatch { network: network.clone(), table, key, found: Some(found) };
        let too_long = WriteError::Length { what: "key", found: 9, allowed: 0..=8 };
        let (all, limit) = (|| network.clone(), 7);
        for (operation, error, sentence) in [
            (
                Operation::Create,
                exists,
                "cannot create entry in table tab with network id net and key k, already exists",
            ),
            (
                Operation::Update,
                missing.clone(),
                "cannot update entry as the entry in table tab with network id net and key k does not exist",
            ),
            (
                Operation::Delete,
                missing,
                "cannot delete entry tab with network id net and key k does not exist or is already being deleted",
            ),
            (
                Operation::Create,
                WriteError::NotJoined { network: all() },
                "network net is not joined on this node; join it before writing to it",
            ),
            (
                Operation::Update,
                changed,
                "entry k of table tab in network net has version 1-2-3, which is not the expected one; read it again",
            ),
            (Operation::Create, too_long, "the key has 9 bytes; 0 to 8 are allowed"),
            (
                Operation::Create,
                WriteError::NetworkFull { network: all(), limit },
                "network net holds 7 entries, its limit; delete some or raise the limit",
            ),
            (
                Operation::Create,
                WriteError::TooManyTables { network: all(), limit },
                "network net holds 7 tables, its limit; empty some or raise the limit",
            ),
            (
                Operation::Create,
                WriteError::NetworkBytes { network: all(), limit },
                "network net may hold 7 bytes of keys and values, and this write would exceed them; delete some \
                 or raise the limit",
            ),
        ] {
            assert_eq!(write_refused(operation, &error), sentence);
        }
        for (error, sentence) in [
            (JoinError::AlreadyJoined { network: all() }, "networkdb: network net is already joined"),
            (
                JoinError::Length { found: 0, allowed: 1..=255 },
                "the network name has 0 bytes; 1 to 255 are allowed",
            ),
            (
                JoinError::TooManyNetworks { limit },
                "this node is on 7 networks, its limit; leave one or raise the limit",
            ),
        ] {
            assert_eq!(join_refused(&error), sentence);
        }
        let error = LeaveError::NotJoined { network };
        assert_eq!(leave_refused(&error), "could not find network net while trying to leave");
    }
}
