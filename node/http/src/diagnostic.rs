//! The original's diagnostic calls: their parameters and responses.

use tabledb::{JoinError, LeaveError, TableDb, WriteError};

use super::diagnostic_errors::{Operation, join_refused, leave_refused, write_refused};
use super::query::{NotUtf8, Query};
use super::reply::{Details, Peer, Reply, ReplyWriter, ValueSpelling};
use super::value_text::{IllegalBase64, from_base64};
use super::watched_tables::WatchedTables;

/// Every path that the diagnostic endpoints serve, in the order of `/help`.
pub const PATHS: [&str; 18] = [
    "/",
    "/help",
    "/ready",
    "/join",
    "/clusterpeers",
    "/networkpeers",
    "/joinnetwork",
    "/leavenetwork",
    "/createentry",
    "/updateentry",
    "/deleteentry",
    "/getentry",
    "/gettable",
    "/networkstats",
    "/watchtable",
    "/watchedtableentries",
    "/myip",
    "/v1",
];

/// Whether calls of `path` change nothing. All unlisted paths count as changes, also `/watchtable`: it uses
/// memory for as long as the node runs.
pub(super) fn is_read_only(path: &str) -> bool {
    matches!(
        path,
        "/" | "/help"
            | "/ready"
            | "/myip"
            | "/clusterpeers"
            | "/networkpeers"
            | "/getentry"
            | "/gettable"
            | "/networkstats"
            | "/watchedtableentries"
    )
}

/// A diagnostic call with its parsed parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: the server answers each call.
pub enum Call {
    /// Check that the node runs.
    Ready,
    /// List all calls.
    Help,
    /// Show this node's advertised address.
    MyIp,
    /// Join through these seeds.
    Join(Vec<String>),
    /// List the live members of the cluster.
    ClusterPeers,
    /// List the members of a network.
    NetworkPeers(String),
    /// Join a network.
    JoinNetwork(String),
    /// Leave a network.
    LeaveNetwork(String),
    /// Read or change tables.
    Table(TableCall),
    /// Start to watch a table.
    WatchTable(String),
    /// List the entries of a watched table.
    WatchedTableEntries(String),
}

/// A call that needs only the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: the server answers each call.
pub enum TableCall {
    /// Show the counts of a network.
    NetworkStats(String),
    /// Create an entry.
    Create(EntryPath, Vec<u8>),
    /// Update an entry.
    Update(EntryPath, Vec<u8>),
    /// Delete an entry.
    Delete(EntryPath),
    /// Show an entry.
    Get(EntryPath, ValueSpelling),
    /// Show a table.
    Table {
        /// Its network.
        network: String,
        /// Its name.
        table: String,
        /// The encoding of values in the response.
        values: ValueSpelling,
    },
}

/// The path of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPath {
    /// The network, `nid`.
    pub network: String,
    /// The table, `tname`.
    pub table: String,
    /// The key, `key`.
    pub key: String,
}

/// Why the parameters of a call are invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ParameterError {
    Missing,
    NotUtf8(NotUtf8),
    Base64(IllegalBase64),
}

impl From<NotUtf8> for ParameterError {
    fn from(error: NotUtf8) -> Self {
        Self::NotUtf8(error)
    }
}

impl From<IllegalBase64> for ParameterError {
    fn from(error: IllegalBase64) -> Self {
        Self::Base64(error)
    }
}

impl Call {
    /// Parses a call, or returns the response to an invalid one.
    pub fn parse(path: &str, query: &Query) -> Result<Self, Reply> {
        let (call, usage) = match path {
            "/ready" => (Ok(Self::Ready), ""),
            "/help" => (Ok(Self::Help), ""),
            "/myip" => (Ok(Self::MyIp), ""),
            "/clusterpeers" => (Ok(Self::ClusterPeers), ""),
            "/join" => (
                text(query, "members").map(|members| Self::Join(split_members(&members))),
                "?members=ip1,ip2,...",
            ),
            "/networkpeers" => (text(query, "nid").map(Self::NetworkPeers), "?nid=test"),
            "/networkstats" => {
                (text(query, "nid").map(|nid| Self::Table(TableCall::NetworkStats(nid))), "?nid=test")
            }
            "/joinnetwork" => (text(query, "nid").map(Self::JoinNetwork), "?nid=network_id"),
            "/leavenetwork" => (text(query, "nid").map(Self::LeaveNetwork), "?nid=network_id"),
            "/createentry" | "/updateentry" => (
                entry_and_value(query).map(|(entry_path, value)| {
                    Self::Table(match path {
                        "/createentry" => TableCall::Create(entry_path, value),
                        _ => TableCall::Update(entry_path, value),
                    })
                }),
                "?tname=table_name&nid=network_id&key=k&value=v",
            ),
            "/deleteentry" => (
                entry_path(query).map(|entry_path| Self::Table(TableCall::Delete(entry_path))),
                "?tname=table_name&nid=network_id&key=k",
            ),
            "/getentry" => (
                entry_path(query)
                    .map(|entry_path| Self::Table(TableCall::Get(entry_path, value_spelling(query)))),
                "?tname=table_name&nid=network_id&key=k",
            ),
            "/gettable" => (table(query).map(Self::Table), "?tname=table_name&nid=network_id"),
            "/watchtable" => (text(query, "tname").map(Self::WatchTable), "?tname=table_name"),
            "/watchedtableentries" => {
                (text(query, "tname").map(Self::WatchedTableEntries), "?tname=table_name")
            }
            _ => {
                let usage = format!("URL path: {path} no method implemented check /help\n");
                return Err(Reply::wrong_call("not implemented", usage));
            }
        };
        call.map_err(|wrong| match wrong {
            ParameterError::Missing => Reply::wrong_call("missing parameter", format!("{path}{usage}")),
            ParameterError::NotUtf8(error) => Reply::fail(error),
            ParameterError::Base64(error) => Reply::fail(error),
        })
    }

    /// Whether the reply is text even if JSON was requested, as in the original's test tools.
    pub fn is_text_only(path: &str) -> bool {
        matches!(path, "/myip" | "/watchtable" | "/watchedtableentries")
    }
}

fn text(query: &Query, name: &'static str) -> Result<String, ParameterError> {
    query.text(name)?.map(str::to_owned).ok_or(ParameterError::Missing)
}

fn entry_path(query: &Query) -> Result<EntryPath, ParameterError> {
    Ok(EntryPath { table: text(query, "tname")?, network: text(query, "nid")?, key: text(query, "key")? })
}

fn entry_and_value(query: &Query) -> Result<(EntryPath, Vec<u8>), ParameterError> {
    let entry_path = entry_path(query)?;
    let value = query.bytes("value").ok_or(ParameterError::Missing)?;
    Ok(match value_spelling(query) {
        ValueSpelling::Raw => (entry_path, value.to_vec()),
        ValueSpelling::Base64 => (entry_path, from_base64(value)?),
    })
}

fn table(query: &Query) -> Result<TableCall, ParameterError> {
    let (table, network) = (text(query, "tname")?, text(query, "nid")?);
    Ok(TableCall::Table { network, table, values: value_spelling(query) })
}

fn value_spelling(query: &Query) -> ValueSpelling {
    if query.has("unsafe") { ValueSpelling::Raw } else { ValueSpelling::Base64 }
}

fn split_members(members: &str) -> Vec<String> {
    members.split(',').map(str::trim).filter(|member| !member.is_empty()).map(str::to_owned).collect()
}

/// The response to `/help`.
pub fn help() -> Reply {
    Reply::ok(Details::Info(PATHS.iter().flat_map(|path| [path, "\n"]).collect()))
}

/// The response to `/ready`.
pub fn ready() -> Reply {
    Reply::ok(Details::Info("OK".into()))
}

/// The response to `/join`.
pub fn joined<E: std::fmt::Display>(outcome: Result<usize, E>) -> Reply {
    match outcome {
        Ok(_) => Reply::done(),
        Err(error) => Reply::fail(format_args!("/join error in the DB join {error}")),
    }
}

/// The response to `/joinnetwork`.
pub fn joined_network<T>(outcome: Result<T, JoinError>) -> Reply {
    done(outcome.map_err(|error| join_refused(&error)))
}

/// The response to `/leavenetwork`.
pub fn left_network<T>(outcome: Result<T, LeaveError>) -> Reply {
    done(outcome.map_err(|error| leave_refused(&error)))
}

fn written<T>(operation: Operation, outcome: Result<T, WriteError>) -> Reply {
    done(outcome.map_err(|error| write_refused(operation, &error)))
}

/// The response to a call that yields only success or an error.
fn done<T>(outcome: Result<T, String>) -> Reply {
    match outcome {
        Ok(_) => Reply::done(),
        Err(error) => Reply::fail(error),
    }
}

/// The response to `/clusterpeers` and `/networkpeers`.
pub fn peers(peers: Vec<Peer>) -> Reply {
    Reply::ok(Details::Peers(peers))
}

/// The response to `/watchtable`.
pub fn watch_table(watched_tables: &WatchedTables, table: &str) -> Vec<u8> {
    match watched_tables.watch(table) {
        Ok(()) => b"OK\n".to_vec(),
        Err(error) => Reply::fail(error).render(super::reply::Spelling::Text),
    }
}

/// The response to `/watchedtableentries`.
pub fn watched_table_entries(watched_tables: &WatchedTables, table: &str) -> ReplyWriter {
    watched_tables.writer(table).unwrap_or_else(|| {
        let mut text = Some(format!("Table {table} not watched\n"));
        Box::new(move |piece| {
            piece.extend_from_slice(text.take().unwrap_or_default().as_bytes());
            false
        })
    })
}

/// The response to a call that needs only the tables.
pub fn handle_table_call(db: &TableDb, call: TableCall) -> Reply {
    match call {
        TableCall::NetworkStats(network) => Reply::ok(match db.statistics(&network) {
            Some(found) => Details::Statistics {
                entries: i64::try_from(found.entries).unwrap_or(i64::MAX),
                queue_length: i64::try_from(found.queue_length).unwrap_or(i64::MAX),
            },
            None => Details::Statistics { entries: -1, queue_length: -1 },
        }),
        TableCall::Create(EntryPath { network, table, key }, value) => {
            written(Operation::Create, db.create(&network, &table, &key, value))
        }
        TableCall::Update(EntryPath { network, table, key }, value) => {
            written(Operation::Update, db.update(&network, &table, &key, value))
        }
        TableCall::Delete(EntryPath { network, table, key }) => {
            written(Operation::Delete, db.delete(&network, &table, &key))
        }
        TableCall::Get(EntryPath { network, table, key }, values) => match db.get(&network, &table, &key) {
            Some(entry) => Reply::ok(Details::Entry(entry, values)),
            None => Reply::fail(format_args!(
                "could not get entry in table {table} with network id {network} and key {key}"
            )),
        },
        TableCall::Table { network, table, values } => {
            Reply::ok(Details::Entries(db.entries(&network, &table), values))
        }
    }
}

#[cfg(test)]
#[path = "diagnostic_tests.rs"]
mod tests;
