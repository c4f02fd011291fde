//! The JSON of `/v1`, as the server writes it and the client commands read it.

mod batch;
mod log;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tabledb::{Entry, HiddenReason, Listed, NetworkStatistics};
use utoipa::ToSchema;

pub use self::batch::{Batch, BatchDelete, BatchOutcome, BatchPut, BatchWrite};
pub use self::log::{LogLevel, LogRecord};
pub use crate::problem::ProblemDocument;
use crate::value_text::{from_base64, to_base64};

/// A call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallView {
    /// Its method and path.
    pub call: String,
    /// What it does.
    pub what: String,
}

/// All calls below `/v1`, by path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Calls {
    /// The calls.
    pub calls: Vec<CallView>,
}

/// The responding node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its generation: the number of its instance.
    pub generation: u64,
    /// The address at which peers reach it.
    pub address: String,
    /// The version of the program.
    pub version: String,
    /// The time since its HTTP server started, in seconds.
    pub uptime_seconds: f64,
    /// The networks that it has joined, sorted.
    pub networks: Vec<String>,
}

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// Its name.
    pub name: String,
    /// Its known generation.
    pub generation: u64,
    /// The address at which peers reach it.
    pub address: String,
    /// `alive`, `suspect`, `failed` or `left`.
    pub state: String,
    /// The time since this node saw it enter that state, in seconds.
    pub state_seconds: f64,
    /// The labels that its operator gives it.
    pub labels: BTreeMap<String, String>,
    /// The time since this node last received a message from it directly, in seconds. 0 for the responding
    /// node; absent if never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_seconds: Option<f64>,
    /// The smoothed round-trip time to it, in seconds. Absent while this node has no connection with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_seconds: Option<f64>,
    /// Whether it is the responding node.
    pub this_node: bool,
}

/// All known members, sorted by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Members {
    /// The members.
    pub members: Vec<MemberView>,
}

/// Seeds to join through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "seeds": ["10.0.0.7:7946"] }))]
pub struct JoinRequest {
    /// Host names or addresses, with or without a port.
    pub seeds: Vec<String>,
}

/// The outcome of a join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinOutcome {
    /// The number of seeds that responded.
    pub answered: usize,
}

/// The outcome of joining a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkJoinOutcome {
    /// `synchronised`: the node holds what other members had. `alone`: it knows no other member.
    /// `unsynchronised`: entries may still be missing, and the node tries again in the background. `joining`:
    /// another call joined it, and its outcome is not known yet.
    pub result: String,
    /// The same as a sentence.
    pub outcome: String,
}

impl From<Option<tabledb::JoinOutcome>> for NetworkJoinOutcome {
    fn from(outcome: Option<tabledb::JoinOutcome>) -> Self {
        let sentence =
            outcome.map_or("its outcome is not known yet".to_owned(), |outcome| outcome.to_string());
        Self { result: word(outcome).to_owned(), outcome: sentence }
    }
}

/// The outcome of joining a network, as a word for programs.
fn word(outcome: Option<tabledb::JoinOutcome>) -> &'static str {
    match outcome {
        Some(tabledb::JoinOutcome::Synchronised) => "synchronised",
        Some(tabledb::JoinOutcome::Alone) => "alone",
        Some(tabledb::JoinOutcome::Unsynchronised) => "unsynchronised",
        None => "joining",
    }
}

/// The outcome of leaving a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaveOutcome {
    /// Whether another member has everything that this node had, or no other member is on the network.
    pub saved: bool,
    /// The number of members chosen for final syncs.
    pub wanted: usize,
    /// The number of final syncs that completed.
    pub completed: usize,
    /// The outcome as a sentence.
    pub outcome: String,
}

/// One network as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkView {
    /// Its name.
    pub network: String,
    /// Visible entries.
    pub entries: usize,
    /// Entries that are hidden because their owner failed or is not synced yet.
    pub hidden: usize,
    /// Tombstones of deleted entries.
    pub tombstones: usize,
    /// Entries of other nodes whose latest write is refused here, because of a limit or its time. The
    /// previous value stays.
    #[serde(default)]
    pub refused: usize,
    /// Updates waiting to be sent.
    pub queue_length: usize,
    /// Nodes on the network, this one included.
    pub peers: usize,
    /// Whether the node has synced with another member since it joined the network.
    pub synchronised: bool,
    /// How the join went, as [`NetworkJoinOutcome::result`] reported it, or `joining` until then. It stays when the
    /// node syncs with members later.
    #[serde(default)]
    pub join: String,
    /// Sixteen hexadecimal digits: equal on two nodes if and only if they show the same entries.
    pub digest: String,
}

impl NetworkView {
    /// The statistics of `network`, and how its join went, if that has been reported.
    pub fn new(network: &str, statistics: &NetworkStatistics, join: Option<tabledb::JoinOutcome>) -> Self {
        // The tables are synchronised a moment before that is reported.
        let synchronised = statistics.synchronised.then_some(tabledb::JoinOutcome::Synchronised);
        let join = word(join.or(synchronised));
        Self {
            network: network.to_owned(),
            entries: statistics.entries,
            hidden: statistics.hidden,
            tombstones: statistics.tombstones,
            refused: statistics.refused,
            queue_length: statistics.queue_length,
            peers: statistics.peers,
            synchronised: statistics.synchronised,
            join: join.to_owned(),
            digest: format!("{:016x}", statistics.digest),
        }
    }
}

/// The networks a node is on, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Networks {
    /// The networks.
    pub networks: Vec<NetworkView>,
}

/// The nodes on a network, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Peers {
    /// Their names.
    pub peers: Vec<String>,
}

/// A table of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TableView {
    /// Its name.
    pub table: String,
    /// Visible entries.
    pub entries: usize,
}

/// The tables of a network, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tables {
    /// The tables.
    pub tables: Vec<TableView>,
}

/// An entry; also a line of an export or an import.
///
/// The value is in exactly one of the two fields: as text if it is UTF-8, in base64 if not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "key": "web", "value": "10.0.0.7:80", "owner": "host-1", "version": "1-2-3" }))]
pub struct EntryRecord {
    /// The key.
    pub key: String,
    /// The value as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The value in standard base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// The node that wrote it last. An import ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Which write this is, for `If-Match`: the same on all nodes. An import ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why readers do not see it, if they do not: `owner_failed`, or `awaits_comparison` if its owner has
    /// returned and the entry may be stale. An import ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<String>,
}

impl EntryRecord {
    /// The value's bytes.
    ///
    /// # Errors
    /// If the record has no value, two values, or invalid base64.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
        only_value(self.value.as_deref(), self.value_base64.as_deref())
    }
}

/// The bytes of the value that is in exactly one of these two fields.
pub(super) fn only_value<'a>(text: Option<&'a str>, base64: Option<&str>) -> Result<Cow<'a, [u8]>, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.as_bytes().into()),
        (None, Some(base64)) => {
            from_base64(base64.as_bytes()).map(Cow::Owned).map_err(|error| error.to_string())
        }
        (None, None) => Err("there is neither a value nor a value_base64".to_owned()),
        (Some(_), Some(_)) => Err("there is both a value and a value_base64; only one is allowed".to_owned()),
    }
}

impl From<&Entry> for EntryRecord {
    fn from(entry: &Entry) -> Self {
        let (value, value_base64) = text_or_base64(entry.value());
        Self {
            key: entry.key().to_string(),
            value,
            value_base64,
            owner: Some(entry.owner().to_string()),
            version: Some(entry.version().to_string()),
            hidden: None,
        }
    }
}

impl From<&Listed> for EntryRecord {
    fn from(listed: &Listed) -> Self {
        let hidden = listed.hidden.map(|reason| hidden_word(reason).to_owned());
        Self { hidden, ..Self::from(&listed.entry) }
    }
}

/// Why readers do not see an entry, as a word for programs.
pub(super) fn hidden_word(reason: HiddenReason) -> &'static str {
    match reason {
        HiddenReason::AwaitsComparison => "awaits_comparison",
        // And what later versions of the store may add.
        _ => "owner_failed",
    }
}

/// Whether a list has the entries that readers do not see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
// Exhaustive: a list has them or not.
pub enum HiddenMode {
    /// It has them, each with the reason.
    Include,
    /// It has only visible entries.
    #[default]
    Exclude,
}

impl FromStr for HiddenMode {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        match word {
            "include" => Ok(Self::Include),
            "exclude" => Ok(Self::Exclude),
            _ => Err(()),
        }
    }
}

/// The outcome of a write of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WriteOutcome {
    /// The version of the write, as in the `ETag` of an entry.
    pub version: String,
    /// Which members have it, if the request asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<ReceiptView>,
}

/// Which members of the network have a write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceiptView {
    /// As many members were to have it.
    pub wanted: usize,
    /// The members that have it, the responding node included, sorted by name.
    pub known_by: Vec<String>,
    /// The members of which this is not known. Once enough have it, the others are not waited for.
    pub missing: Vec<MissingView>,
}

/// A member that is not known to have a write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissingView {
    /// The member.
    pub member: String,
    /// `not_arrived`; `refused` because of a limit or the write's time; or why there was no answer: `not_awaited` since
    /// enough others had answered, `late`, `failed`, `unreachable`, `busy`, `not_member`, `not_asked` or `invalid`.
    pub reason: String,
    /// The reason as a sentence.
    pub explanation: String,
}

/// An event of `/v1/watch`: a line, or the data of a server-sent event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
// Exhaustive: a client that ignored one would hold a wrong table.
pub enum WatchRecord {
    /// An entry appeared, or its value or owner changed.
    Put(ChangeRecord),
    /// An entry is not shown any more.
    Delete(ChangeRecord),
    /// The client has received everything that this node had: the end of the snapshot, or of what it had missed.
    Synchronised {
        /// Whether this node has compared each of the watched networks with another member since it joined them. If
        /// not, entries that other members have may be missing here. False if it has joined none of them.
        compared: bool,
        /// Where to resume.
        cursor: String,
    },
    /// Discard everything: all entries follow.
    Reset {
        /// `too_far_behind`: changes that the client has not received are no longer kept. `unknown_cursor`: this node
        /// cannot tell what the client has, for example because it started a moment ago. `other_filter`: the cursor is of
        /// a watch with another filter, or of one that excludes the own entries of another node. `incomplete`: the cursor
        /// is of the middle of a snapshot. `node_behind`: writes that the client has seen have not arrived here.
        /// `too_many_owners`: the cursor is valid only on the node that issued it, because what the client has does not
        /// fit in it.
        reason: String,
        /// Where to resume.
        cursor: String,
    },
    /// The node ends. Nothing follows, and the state of the entries is unknown: they were not deleted.
    Closing {
        /// Where to resume, on another node.
        cursor: String,
    },
}

/// A change in an event of `/v1/watch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeRecord {
    /// The network.
    pub network: String,
    /// The table.
    pub table: String,
    /// The key.
    pub key: String,
    /// The value now, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The value now in standard base64, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// The value before, if there was one and it was UTF-8. After a move to another node it may be absent although there
    /// was one, if it never arrived there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// The value before in standard base64, if it was not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_base64: Option<String>,
    /// The entry's owner; for a delete, the previous one.
    pub owner: String,
    /// The version of the entry now; absent from a delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The reason of a delete. `deleted`: a node deleted it, or overwrote it with a value that is not shown here.
    /// `failed`: its owner has failed; it is shown again if the owner returns. `left_network`, `left_cluster`: its owner
    /// has left; the latter also if the owner started anew or was forgotten. `node_left_network`: the responding node has
    /// left the network, and what happened to the entry is unknown. `other_owner`: it is still there, and the filter
    /// leaves out the entries of its present owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where to resume behind this event: an opaque text of up to 4,107 characters, see the parameter `cursor`.
    pub cursor: String,
}

/// The effect of an import on a key that exists already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
// Exhaustive: each decides what happens to an entry that exists.
pub enum ImportMode {
    /// Update it.
    #[default]
    Upsert,
    /// Keep it and count the line as failed.
    Create,
}

impl FromStr for ImportMode {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        match word {
            "upsert" => Ok(Self::Upsert),
            "create" => Ok(Self::Create),
            _ => Err(()),
        }
    }
}

/// The outcome of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportOutcome {
    /// Created entries.
    pub created: u64,
    /// Entries with a new value.
    pub updated: u64,
    /// Entries that had the value already.
    pub unchanged: u64,
    /// Lines that were not imported.
    pub failed: u64,
    /// The errors of the first failed lines, with line numbers.
    pub errors: Vec<String>,
}

/// Bytes as text if they are UTF-8, else in base64.
fn text_or_base64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(to_base64(bytes))),
    }
}

/// The identity of the node, and the identities that it accepts from peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Keys {
    /// `secret-file`, `certificates`, `development` (the public development secret), or `program` (set by the
    /// embedding program).
    pub kind: String,
    /// The file with the secrets, or with the node's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The accepted secrets, the primary one first; or the accepted authorities.
    pub keys: Vec<KeyView>,
}

/// A secret or an authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// Its fingerprint of sixteen hexadecimal digits, the same on all nodes.
    pub fingerprint: String,
    /// Whether the node authenticates with it.
    pub primary: bool,
    /// The number of open connections whose peers authenticated with it.
    pub connections: usize,
}

#[cfg(test)]
mod tests {
    use wire::NodeName;

    use super::*;

    fn json(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    fn entry(value: &[u8]) -> Entry {
        let owner = NodeName::new("n1").unwrap();
        Entry::new("k", value, owner, "1-2-3".parse().unwrap())
    }

    #[test]
    fn an_entry_is_text_or_base64_and_survives_a_round_trip() {
        assert_eq!(
            json(&EntryRecord::from(&entry("żółw".as_bytes()))),
            r#"{"key":"k","value":"żółw","owner":"n1","version":"1-2-3"}"#
        );
        assert_eq!(
            json(&EntryRecord::from(&entry(&[0xff, 0]))),
            r#"{"key":"k","value_base64":"/wA=","owner":"n1","version":"1-2-3"}"#
        );
        for value in [&b""[..], b"text", &[0xff, 0xfe]] {
            let line = json(&EntryRecord::from(&entry(value)));
            assert_eq!(serde_json::from_str::<EntryRecord>(&line).unwrap().bytes().unwrap(), value);
        }
    }

    #[test]
    fn a_record_needs_exactly_one_value() {
        for line in [r#"{"key":"k"}"#, r#"{"key":"k","value":"v","value_base64":"dg=="}"#] {
            assert!(serde_json::from_str::<EntryRecord>(line).unwrap().bytes().is_err(), "{line}");
        }
        let wrong = serde_json::from_str::<EntryRecord>(r#"{"key":"k","value_base64":"v"}"#).unwrap();
        assert_eq!(wrong.bytes(), Err("illegal base64 data at input byte 0".into()));
    }
}
