//! What the diagnostic endpoints answer, and its two spellings: text for people, JSON for the original's tools.

use std::borrow::Cow;
use std::io::Write as _;
use std::net::IpAddr;

use serde::{Serialize, Serializer};
use tabledb::Entry;

use super::query::Query;
use super::value_text::to_base64;

/// How a reply is spelled, as the caller chose with `json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// The message, and the details on the lines after it.
    Text,
    /// One line of JSON.
    Json,
    /// JSON indented by two spaces.
    PrettyJson,
}

impl Spelling {
    /// `json` asks for JSON whatever its value, `json=pretty` for indented JSON.
    pub fn of(query: &Query) -> Self {
        match query.bytes("json") {
            None => Self::Text,
            Some(b"pretty") => Self::PrettyJson,
            Some(_) => Self::Json,
        }
    }

    /// The `content-type` of a reply spelled so.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json | Self::PrettyJson => "application/json",
        }
    }
}

/// How values are spelled, as the caller chose with `unsafe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueSpelling {
    /// Standard base64 with padding.
    Base64,
    /// The bytes themselves. JSON has room for text only: there, what is not UTF-8 becomes U+FFFD.
    Raw,
}

/// A node as `/clusterpeers` and `/networkpeers` list it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The node's name.
    pub name: String,
    /// Its advertised address; `None` if the cluster does not know the node, as between two pieces of news.
    pub ip: Option<IpAddr>,
}

/// What follows the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Details {
    /// Free text.
    Info(String),
    /// Why it failed.
    Error(String),
    /// How it is called.
    Usage(String),
    /// Nodes.
    Peers(Vec<Peer>),
    /// Entries of a table.
    Entries(Vec<Entry>, ValueSpelling),
    /// One entry.
    Entry(Entry, ValueSpelling),
    /// Counts of a network; −1 twice for a network that is not joined.
    Statistics {
        /// Visible entries.
        entries: i64,
        /// News waiting to be sent.
        queue_length: i64,
    },
}

/// A reply of the diagnostic endpoints. The HTTP status is 200 whatever it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// `OK`, `FAIL`, or what is wrong with the call.
    pub message: &'static str,
    /// What there is to add.
    pub details: Option<Details>,
}

impl Reply {
    /// It was done; there is nothing to add.
    pub fn done() -> Self {
        Self { message: "OK", details: None }
    }

    /// It was done, and this is what came of it.
    pub fn ok(details: Details) -> Self {
        Self { message: "OK", details: Some(details) }
    }

    /// It could not be done.
    pub fn fail(error: impl std::fmt::Display) -> Self {
        Self { message: "FAIL", details: Some(Details::Error(error.to_string())) }
    }

    /// The call itself is wrong.
    pub fn wrong_call(message: &'static str, usage: impl Into<String>) -> Self {
        Self { message, details: Some(Details::Usage(usage.into())) }
    }

    /// The body of the answer.
    pub fn render(&self, spelling: Spelling) -> Vec<u8> {
        match spelling {
            Spelling::Text => self.text(),
            Spelling::Json => escape_for_html(serde_json::to_string(&JsonReply::from(self))),
            Spelling::PrettyJson => escape_for_html(serde_json::to_string_pretty(&JsonReply::from(self))),
        }
    }

    fn text(&self) -> Vec<u8> {
        let mut out = self.message.as_bytes().to_vec();
        if let Some(details) = &self.details {
            out.push(b'\n');
            details.write_text(&mut out).expect("writing to memory cannot fail");
        }
        out
    }
}

impl Details {
    fn write_text(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Self::Info(info) => write!(out, "{info}"),
            Self::Error(error) => write!(out, "Error: {error}"),
            Self::Usage(usage) => write!(out, "Usage: {usage}"),
            Self::Peers(peers) => {
                writeln!(out, "total entries: {}", peers.len())?;
                peers.iter().enumerate().try_for_each(|(index, peer)| match peer.ip {
                    Some(ip) => writeln!(out, "{index}) {} -> {ip}", peer.name),
                    None => writeln!(out, "{index}) orphan-{} -> invalid IP", peer.name),
                })
            }
            Self::Entries(entries, values) => {
                writeln!(out, "total entries: {}", entries.len())?;
                entries
                    .iter()
                    .enumerate()
                    .try_for_each(|(index, entry)| write_entry(out, index, entry, *values))
            }
            Self::Entry(entry, values) => write_entry(out, 0, entry, *values),
            Self::Statistics { entries, queue_length } => {
                writeln!(out, "entries: {entries}, qlen: {queue_length}")
            }
        }
    }
}

fn write_entry(out: &mut Vec<u8>, index: usize, entry: &Entry, values: ValueSpelling) -> std::io::Result<()> {
    write!(out, "{index}) k:`{}` -> v:`", entry.key)?;
    match values {
        ValueSpelling::Base64 => write!(out, "{}", to_base64(&entry.value))?,
        ValueSpelling::Raw => out.write_all(&entry.value)?,
    }
    writeln!(out, "` owner:`{}`", entry.owner)
}

#[derive(Serialize)]
struct JsonReply<'a> {
    message: &'static str,
    details: Option<JsonDetails<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum JsonDetails<'a> {
    Info { info: &'a str },
    Error { error: &'a str },
    Usage { usage: &'a str },
    Peers(JsonList<JsonPeer<'a>>),
    Entries(JsonList<JsonEntry<'a>>),
    Entry(JsonEntry<'a>),
    Statistics(JsonStatistics),
}

/// The original's lists are `null` when they are empty.
struct JsonList<T>(Vec<T>);

impl<T: Serialize> Serialize for JsonList<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct List<'a, T> {
            size: usize,
            entries: Option<&'a [T]>,
        }
        List { size: self.0.len(), entries: (!self.0.is_empty()).then_some(self.0.as_slice()) }
            .serialize(serializer)
    }
}

#[derive(Serialize)]
struct JsonPeer<'a> {
    /// A slip of the original's, and just what its tools read.
    #[serde(rename = "-=name")]
    odd_name: Cow<'a, str>,
    ip: String,
    name: &'a str,
}

#[derive(Serialize)]
struct JsonEntry<'a> {
    key: &'a str,
    value: Cow<'a, str>,
    owner: &'a str,
}

#[derive(Serialize)]
struct JsonStatistics {
    entries: i64,
    /// A slip of the original's, and just what its tools read.
    #[serde(rename = "QueueLen")]
    odd_queue_length: i64,
    qlen: i64,
}

impl<'a> From<&'a Reply> for JsonReply<'a> {
    fn from(reply: &'a Reply) -> Self {
        Self { message: reply.message, details: reply.details.as_ref().map(JsonDetails::from) }
    }
}

impl<'a> From<&'a Details> for JsonDetails<'a> {
    fn from(details: &'a Details) -> Self {
        match details {
            Details::Info(info) => Self::Info { info },
            Details::Error(error) => Self::Error { error },
            Details::Usage(usage) => Self::Usage { usage },
            Details::Peers(peers) => Self::Peers(JsonList(peers.iter().map(JsonPeer::from).collect())),
            Details::Entries(entries, values) => {
                Self::Entries(JsonList(entries.iter().map(|entry| JsonEntry::new(entry, *values)).collect()))
            }
            Details::Entry(entry, values) => Self::Entry(JsonEntry::new(entry, *values)),
            Details::Statistics { entries, queue_length } => Self::Statistics(JsonStatistics {
                entries: *entries,
                odd_queue_length: *queue_length,
                qlen: *queue_length,
            }),
        }
    }
}

impl<'a> From<&'a Peer> for JsonPeer<'a> {
    fn from(peer: &'a Peer) -> Self {
        match peer.ip {
            Some(ip) => Self { odd_name: Cow::from(&peer.name), ip: ip.to_string(), name: &peer.name },
            None => {
                Self { odd_name: format!("orphan-{}", peer.name).into(), ip: String::new(), name: &peer.name }
            }
        }
    }
}

impl<'a> JsonEntry<'a> {
    fn new(entry: &'a Entry, values: ValueSpelling) -> Self {
        let value = match values {
            ValueSpelling::Base64 => to_base64(&entry.value).into(),
            ValueSpelling::Raw => String::from_utf8_lossy(&entry.value),
        };
        Self { key: &entry.key, value, owner: entry.owner.as_str() }
    }
}

/// Spells the characters that are dangerous in HTML as the original does; outside of strings JSON has none of them.
fn escape_for_html(json: serde_json::Result<String>) -> Vec<u8> {
    let json = json.expect("texts, numbers and lists have a JSON form");
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => out.push(character),
        }
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use wire::NodeName;

    use super::*;

    fn entry(key: &str, value: &[u8]) -> Entry {
        Entry { key: key.into(), value: value.into(), owner: NodeName::new("node-1").unwrap() }
    }

    #[track_caller]
    fn assert_spelled(reply: &Reply, text: &str, json: &str) {
        assert_eq!(String::from_utf8(reply.render(Spelling::Text)).unwrap(), text);
        assert_eq!(String::from_utf8(reply.render(Spelling::Json)).unwrap(), json);
    }

    #[test]
    fn a_reply_without_details_is_its_message() {
        assert_spelled(&Reply::done(), "OK", r#"{"message":"OK","details":null}"#);
    }

    #[test]
    fn free_text() {
        let reply = Reply::ok(Details::Info("OK".into()));
        assert_spelled(&reply, "OK\nOK", r#"{"message":"OK","details":{"info":"OK"}}"#);
    }

    #[test]
    fn failures() {
        let reply = Reply::fail("no such thing");
        assert_spelled(
            &reply,
            "FAIL\nError: no such thing",
            r#"{"message":"FAIL","details":{"error":"no such thing"}}"#,
        );
    }

    #[test]
    fn wrong_calls_escape_ampersands_in_json_as_the_original_does() {
        let reply = Reply::wrong_call("missing parameter", "/x?a=b&c=d");
        assert_spelled(
            &reply,
            "missing parameter\nUsage: /x?a=b&c=d",
            r#"{"message":"missing parameter","details":{"usage":"/x?a=b\u0026c=d"}}"#,
        );
    }

    #[test]
    fn an_empty_list_has_null_entries() {
        let json = r#"{"message":"OK","details":{"size":0,"entries":null}}"#;
        assert_spelled(&Reply::ok(Details::Peers(vec![])), "OK\ntotal entries: 0\n", json);
        let none = Details::Entries(vec![], ValueSpelling::Base64);
        assert_spelled(&Reply::ok(none), "OK\ntotal entries: 0\n", json);
    }

    #[test]
    fn peers() {
        let reply = Reply::ok(Details::Peers(vec![
            Peer { name: "a".into(), ip: Some([10, 0, 0, 1].into()) },
            Peer { name: "b".into(), ip: Some("fd00::2".parse().unwrap()) },
            Peer { name: "c".into(), ip: None },
        ]));
        assert_spelled(
            &reply,
            "OK\ntotal entries: 3\n0) a -> 10.0.0.1\n1) b -> fd00::2\n2) orphan-c -> invalid IP\n",
            concat!(
                r#"{"message":"OK","details":{"size":3,"entries":["#,
                r#"{"-=name":"a","ip":"10.0.0.1","name":"a"},"#,
                r#"{"-=name":"b","ip":"fd00::2","name":"b"},"#,
                r#"{"-=name":"orphan-c","ip":"","name":"c"}]}}"#
            ),
        );
    }

    #[test]
    fn entries_in_base64_and_raw() {
        let entries = vec![entry("k1", b"hello"), entry("k2", b"")];
        assert_spelled(
            &Reply::ok(Details::Entries(entries.clone(), ValueSpelling::Base64)),
            "OK\ntotal entries: 2\n0) k:`k1` -> v:`aGVsbG8=` owner:`node-1`\n1) k:`k2` -> v:`` owner:`node-1`\n",
            concat!(
                r#"{"message":"OK","details":{"size":2,"entries":["#,
                r#"{"key":"k1","value":"aGVsbG8=","owner":"node-1"},"#,
                r#"{"key":"k2","value":"","owner":"node-1"}]}}"#
            ),
        );
        assert_spelled(
            &Reply::ok(Details::Entries(entries, ValueSpelling::Raw)),
            "OK\ntotal entries: 2\n0) k:`k1` -> v:`hello` owner:`node-1`\n1) k:`k2` -> v:`` owner:`node-1`\n",
            concat!(
                r#"{"message":"OK","details":{"size":2,"entries":["#,
                r#"{"key":"k1","value":"hello","owner":"node-1"},"#,
                r#"{"key":"k2","value":"","owner":"node-1"}]}}"#
            ),
        );
    }

    #[test]
    fn one_entry_is_a_line_of_its_own() {
        assert_spelled(
            &Reply::ok(Details::Entry(entry("k", b"<v>"), ValueSpelling::Raw)),
            "OK\n0) k:`k` -> v:`<v>` owner:`node-1`\n",
            r#"{"message":"OK","details":{"key":"k","value":"\u003cv\u003e","owner":"node-1"}}"#,
        );
    }

    #[test]
    fn raw_bytes_are_kept_in_text_and_marked_in_json() {
        let reply = Reply::ok(Details::Entry(entry("k", &[b'a', 0xff]), ValueSpelling::Raw));
        assert_eq!(reply.render(Spelling::Text), b"OK\n0) k:`k` -> v:`a\xff` owner:`node-1`\n");
        let json = String::from_utf8(reply.render(Spelling::Json)).unwrap();
        assert!(json.contains("\"value\":\"a\u{fffd}\""), "{json}");
    }

    #[test]
    fn statistics() {
        assert_spelled(
            &Reply::ok(Details::Statistics { entries: 12, queue_length: 3 }),
            "OK\nentries: 12, qlen: 3\n",
            r#"{"message":"OK","details":{"entries":12,"QueueLen":3,"qlen":3}}"#,
        );
        assert_spelled(
            &Reply::ok(Details::Statistics { entries: -1, queue_length: -1 }),
            "OK\nentries: -1, qlen: -1\n",
            r#"{"message":"OK","details":{"entries":-1,"QueueLen":-1,"qlen":-1}}"#,
        );
    }

    #[test]
    fn pretty_json_is_indented_by_two_spaces() {
        let reply =
            Reply::ok(Details::Peers(vec![Peer { name: "a".into(), ip: Some([10, 0, 0, 1].into()) }]));
        assert_eq!(
            String::from_utf8(reply.render(Spelling::PrettyJson)).unwrap(),
            "{\n  \"message\": \"OK\",\n  \"details\": {\n    \"size\": 1,\n    \"entries\": [\n      {\n        \
             \"-=name\": \"a\",\n        \"ip\": \"10.0.0.1\",\n        \"name\": \"a\"\n      }\n    ]\n  }\n}"
        );
    }

    #[test]
    fn the_spelling_is_chosen_by_the_query() {
        for (query, spelling) in [
            ("", Spelling::Text),
            ("unsafe", Spelling::Text),
            ("json", Spelling::Json),
            ("json=1", Spelling::Json),
            ("json=pretty", Spelling::PrettyJson),
        ] {
            assert_eq!(Spelling::of(&Query::parse(query)), spelling, "{query}");
        }
    }
}
