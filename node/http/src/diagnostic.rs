//! The original's diagnostic calls: what each asks for, and how it is answered.

use tabledb::TableDb;

use super::mirror::Mirrors;
use super::query::{NotUtf8, Query};
use super::reply::{Details, Peer, Reply, ReplyWriter, ValueSpelling};
use super::value_text::{IllegalBase64, from_base64};

/// Every path the diagnostic server answers, in the order of `/help`.
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

/// Whether calls of `path` leave everything as it is. Whatever is not known to do so counts as changing something;
/// following a table does: it takes a thread and memory for as long as the node runs.
pub(super) fn only_looks(path: &str) -> bool {
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

/// One diagnostic call, its parameters read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// The node runs.
    Ready,
    /// What can be called.
    Help,
    /// This node's advertised address.
    MyIp,
    /// Join through these seeds.
    Join(Vec<String>),
    /// The living members of the cluster.
    ClusterPeers,
    /// The members of a network.
    NetworkPeers(String),
    /// Put this node on a network.
    JoinNetwork(String),
    /// Take this node off a network.
    LeaveNetwork(String),
    /// Something that only looks at or changes tables.
    Table(TableCall),
    /// Follow a table.
    WatchTable(String),
    /// What following a table has shown.
    WatchedTableEntries(String),
}

/// A call that needs nothing but the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableCall {
    /// Counts of a network.
    NetworkStats(String),
    /// Make an entry.
    Create(Place, Vec<u8>),
    /// Change an entry.
    Update(Place, Vec<u8>),
    /// Delete an entry.
    Delete(Place),
    /// Show an entry.
    Get(Place, ValueSpelling),
    /// Show a table.
    Table {
        /// Its network.
        network: String,
        /// Its name.
        table: String,
        /// How values are to be shown.
        values: ValueSpelling,
    },
}

/// Where an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The network, `nid`.
    pub network: String,
    /// The table, `tname`.
    pub table: String,
    /// The key, `key`.
    pub key: String,
}

/// Why a call was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wrong {
    Missing,
    NotUtf8(NotUtf8),
    Base64(IllegalBase64),
}

impl From<NotUtf8> for Wrong {
    fn from(error: NotUtf8) -> Self {
        Self::NotUtf8(error)
    }
}

impl From<IllegalBase64> for Wrong {
    fn from(error: IllegalBase64) -> Self {
        Self::Base64(error)
    }
}

impl Call {
    /// What `path` with `query` asks for, or the answer to a call that makes no sense.
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
                placed_value(query).map(|(place, value)| {
                    Self::Table(match path {
                        "/createentry" => TableCall::Create(place, value),
                        _ => TableCall::Update(place, value),
                    })
                }),
                "?tname=table_name&nid=network_id&key=k&value=v",
            ),
            "/deleteentry" => (
                place(query).map(|place| Self::Table(TableCall::Delete(place))),
                "?tname=table_name&nid=network_id&key=k",
            ),
            "/getentry" => (
                place(query).map(|place| Self::Table(TableCall::Get(place, value_spelling(query)))),
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
            Wrong::Missing => Reply::wrong_call("missing parameter", format!("{path}{usage}")),
            Wrong::NotUtf8(error) => Reply::fail(error),
            Wrong::Base64(error) => Reply::fail(error),
        })
    }

    /// Whether the reply is text even if JSON was asked for, as with the original's test tools.
    pub fn speaks_text_only(path: &str) -> bool {
        matches!(path, "/myip" | "/watchtable" | "/watchedtableentries")
    }
}

fn text(query: &Query, name: &'static str) -> Result<String, Wrong> {
    query.text(name)?.map(str::to_owned).ok_or(Wrong::Missing)
}

fn place(query: &Query) -> Result<Place, Wrong> {
    Ok(Place { table: text(query, "tname")?, network: text(query, "nid")?, key: text(query, "key")? })
}

fn placed_value(query: &Query) -> Result<(Place, Vec<u8>), Wrong> {
    let place = place(query)?;
    let value = query.bytes("value").ok_or(Wrong::Missing)?;
    Ok(match value_spelling(query) {
        ValueSpelling::Raw => (place, value.to_vec()),
        ValueSpelling::Base64 => (place, from_base64(value)?),
    })
}

fn table(query: &Query) -> Result<TableCall, Wrong> {
    let (table, network) = (text(query, "tname")?, text(query, "nid")?);
    Ok(TableCall::Table { network, table, values: value_spelling(query) })
}

fn value_spelling(query: &Query) -> ValueSpelling {
    if query.has("unsafe") { ValueSpelling::Raw } else { ValueSpelling::Base64 }
}

fn split_members(members: &str) -> Vec<String> {
    members.split(',').map(str::trim).filter(|member| !member.is_empty()).map(str::to_owned).collect()
}

/// The answer to `/help`.
pub fn help() -> Reply {
    Reply::ok(Details::Info(PATHS.iter().flat_map(|path| [path, "\n"]).collect()))
}

/// The answer to `/ready`.
pub fn ready() -> Reply {
    Reply::ok(Details::Info("OK".into()))
}

/// The answer to `/join`.
pub fn joined<E: std::fmt::Display>(outcome: Result<usize, E>) -> Reply {
    match outcome {
        Ok(_) => Reply::done(),
        Err(error) => Reply::fail(format_args!("/join error in the DB join {error}")),
    }
}

/// The answer to a call that yields nothing but success or an error.
pub fn done<E: std::fmt::Display>(outcome: Result<(), E>) -> Reply {
    match outcome {
        Ok(()) => Reply::done(),
        Err(error) => Reply::fail(error),
    }
}

/// The answer to `/clusterpeers` and `/networkpeers`.
pub fn peers(peers: Vec<Peer>) -> Reply {
    Reply::ok(Details::Peers(peers))
}

/// The answer to `/watchtable`.
pub fn watch_table(mirrors: &Mirrors, table: &str) -> Vec<u8> {
    match mirrors.follow(table) {
        Ok(()) => b"OK\n".to_vec(),
        Err(error) => Reply::fail(error).render(super::reply::Spelling::Text),
    }
}

/// The answer to `/watchedtableentries`.
pub fn watched_table_entries(mirrors: &Mirrors, table: &str) -> ReplyWriter {
    mirrors.writer(table).unwrap_or_else(|| {
        let mut text = Some(format!("Table {table} not watched\n"));
        Box::new(move |piece| {
            piece.extend_from_slice(text.take().unwrap_or_default().as_bytes());
            false
        })
    })
}

/// The answer to a call that needs nothing but the tables.
pub fn answer_table_call(db: &TableDb, call: TableCall) -> Reply {
    match call {
        TableCall::NetworkStats(network) => Reply::ok(match db.statistics(&network) {
            Some(found) => Details::Statistics {
                entries: i64::try_from(found.entries).unwrap_or(i64::MAX),
                queue_length: i64::try_from(found.queue_length).unwrap_or(i64::MAX),
            },
            None => Details::Statistics { entries: -1, queue_length: -1 },
        }),
        TableCall::Create(Place { network, table, key }, value) => {
            done(db.create(&network, &table, &key, value))
        }
        TableCall::Update(Place { network, table, key }, value) => {
            done(db.update(&network, &table, &key, value))
        }
        TableCall::Delete(Place { network, table, key }) => done(db.delete(&network, &table, &key)),
        TableCall::Get(Place { network, table, key }, values) => match db.get(&network, &table, &key) {
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
