//! Responses of the diagnostic endpoints, in two formats: text for people, JSON for the original's tools.

use std::borrow::Cow;
use std::io::Write as _;
use std::net::IpAddr;

use serde::Serialize;
use tabledb::Entry;

use super::query::Query;
use super::value_text::to_base64;

/// The format of a reply, which the caller chooses with `json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
// Exhaustive: the formats that Docker's tools ask for.
pub enum Spelling {
    /// The message, with the details on the following lines.
    Text,
    /// One line of JSON.
    Json,
    /// JSON indented by two spaces.
    PrettyJson,
}

impl Spelling {
    /// `json` with any value selects JSON, `json=pretty` indented JSON.
    pub fn of(query: &Query) -> Self {
        match query.bytes("json") {
            None => Self::Text,
            Some(b"pretty") => Self::PrettyJson,
            Some(_) => Self::Json,
        }
    }

    /// The `content-type` of a reply in this format.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json | Self::PrettyJson => "application/json",
        }
    }
}

/// The encoding of values, which the caller chooses with `unsafe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
// Exhaustive: the encodings that Docker's tools ask for.
pub enum ValueSpelling {
    /// Standard base64 with padding.
    Base64,
    /// The raw bytes. JSON can contain text only: there, bytes that are not UTF-8 become U+FFFD.
    Raw,
}

/// A node as `/clusterpeers` and `/networkpeers` list it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The node's name.
    pub name: String,
    /// Its advertised address; `None` if the node is on a network but its membership update has not arrived
    /// yet.
    pub ip: Option<IpAddr>,
}

/// The details after the message.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: each is shown as text and as JSON.
pub enum Details {
    /// Free text.
    Info(String),
    /// An error.
    Error(String),
    /// The usage of a call.
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
        /// Updates waiting to be sent.
        queue_length: i64,
    },
}

/// A reply of the diagnostic endpoints. Its HTTP status is always 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// `OK`, `FAIL`, or an error of the call.
    pub message: &'static str,
    /// The details, if any.
    pub details: Option<Details>,
}

impl Reply {
    /// Success without details.
    pub fn done() -> Self {
        Self { message: "OK", details: None }
    }

    /// Success with details.
    pub fn ok(details: Details) -> Self {
        Self { message: "OK", details: Some(details) }
    }

    /// A failure.
    pub fn fail(error: impl std::fmt::Display) -> Self {
        Self { message: "FAIL", details: Some(Details::Error(error.to_string())) }
    }

    /// An invalid call.
    pub fn wrong_call(message: &'static str, usage: impl Into<String>) -> Self {
        Self { message, details: Some(Details::Usage(usage.into())) }
    }

    /// The whole body of the response.
    pub fn render(&self, spelling: Spelling) -> Vec<u8> {
        let (mut writer, mut out) = (self.clone().writer(spelling), Vec::new());
        while writer(&mut out) {}
        out
    }

    /// Writes the body of the response in parts: each call appends an entry or a peer, until one returns
    /// false.
    pub fn writer(self, spelling: Spelling) -> ReplyWriter {
        match self.details {
            Some(Details::Peers(peers)) => {
                list_writer(self.message, spelling, peers, write_peer, |out, peer| {
                    out.json(&JsonPeer::from(peer));
                })
            }
            Some(Details::Entries(entries, values)) => list_writer(
                self.message,
                spelling,
                entries,
                move |out, index, entry| write_entry(out, index, entry, values),
                move |out, entry| out.json(&JsonEntry::new(entry, values)),
            ),
            _ => {
                let mut whole = Some(self.short(spelling));
                Box::new(move |out| {
                    out.extend_from_slice(&whole.take().unwrap_or_default());
                    false
                })
            }
        }
    }

    /// The body of a reply that is not a list.
    fn short(&self, spelling: Spelling) -> Vec<u8> {
        let reply =
            JsonReply { message: self.message, details: self.details.as_ref().and_then(JsonDetails::of) };
        let mut out = JsonWriter { spelling, out: Vec::new(), indentation: "" };
        match spelling {
            Spelling::Text => self.text(),
            Spelling::Json | Spelling::PrettyJson => {
                out.json(&reply);
                out.out
            }
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

/// Appends the next part of a reply; false after the last one.
pub type ReplyWriter = Box<dyn FnMut(&mut Vec<u8>) -> bool + Send>;

/// Writes a reply whose details are `list`: as text by `text`, as JSON by `json`.
fn list_writer<T: Send + 'static>(
    message: &'static str,
    spelling: Spelling,
    list: Vec<T>,
    text: impl Fn(&mut Vec<u8>, usize, &T) -> std::io::Result<()> + Send + 'static,
    json: impl Fn(&mut JsonWriter, &T) + Send + 'static,
) -> ReplyWriter {
    let size = list.len();
    let mut items = list.into_iter().enumerate();
    let mut begun = false;
    Box::new(move |out| {
        if !std::mem::replace(&mut begun, true) {
            let head = match (spelling, size) {
                (Spelling::Text, _) => format!("{message}\ntotal entries: {size}\n"),
                // The original's lists are `null` when they are empty.
                (Spelling::Json, 0) => {
                    format!(r#"{{"message":"{message}","details":{{"size":0,"entries":null}}}}"#)
                }
                (Spelling::Json, _) => {
                    format!(r#"{{"message":"{message}","details":{{"size":{size},"entries":["#)
                }
                (Spelling::PrettyJson, 0) => format!(
                    "{{\n  \"message\": \"{message}\",\n  \"details\": {{\n    \"size\": 0,\n    \"entries\": null\n  }}\n}}"
                ),
                (Spelling::PrettyJson, _) => format!(
                    "{{\n  \"message\": \"{message}\",\n  \"details\": {{\n    \"size\": {size},\n    \"entries\": [\n"
                ),
            };
            out.extend_from_slice(head.as_bytes());
            return size > 0;
        }
        let Some((index, item)) = items.next() else { return false };
        let more = index + 1 < size;
        if spelling == Spelling::Text {
            text(out, index, &item).expect("writing to memory cannot fail");
            return more;
        }
        let mut writer = JsonWriter { spelling, out: std::mem::take(out), indentation: "      " };
        json(&mut writer, &item);
        *out = writer.out;
        out.extend_from_slice(match (spelling, more) {
            (Spelling::PrettyJson, true) => b",\n",
            (Spelling::PrettyJson, false) => b"\n    ]\n  }\n}",
            (_, true) => b",",
            (_, false) => b"]}}",
        });
        more
    })
}

impl Details {
    fn write_text(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Self::Info(info) => write!(out, "{info}"),
            Self::Error(error) => write!(out, "Error: {error}"),
            Self::Usage(usage) => write!(out, "Usage: {usage}"),
            Self::Entry(entry, values) => write_entry(out, 0, entry, *values),
            Self::Statistics { entries, queue_length } => {
                writeln!(out, "entries: {entries}, qlen: {queue_length}")
            }
            // `writer` writes lists.
            Self::Peers(_) | Self::Entries(..) => Ok(()),
        }
    }
}

fn write_peer(out: &mut Vec<u8>, index: usize, peer: &Peer) -> std::io::Result<()> {
    match peer.ip {
        Some(ip) => writeln!(out, "{index}) {} -> {ip}", peer.name),
        None => writeln!(out, "{index}) orphan-{} -> invalid IP", peer.name),
    }
}

fn write_entry(out: &mut Vec<u8>, index: usize, entry: &Entry, values: ValueSpelling) -> std::io::Result<()> {
    write!(out, "{index}) k:`{}` -> v:`", entry.key())?;
    match values {
        ValueSpelling::Base64 => write!(out, "{}", to_base64(entry.value()))?,
        ValueSpelling::Raw => out.write_all(entry.value())?,
    }
    writeln!(out, "` owner:`{}`", entry.owner())
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
    Entry(JsonEntry<'a>),
    Statistics(JsonStatistics),
}

#[derive(Serialize)]
struct JsonPeer<'a> {
    /// A misspelling of the original that its tools read.
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
    /// A misspelling of the original that its tools read.
    #[serde(rename = "QueueLen")]
    odd_queue_length: i64,
    qlen: i64,
}

impl<'a> JsonDetails<'a> {
    /// The JSON of details that are not a list; `writer` writes lists.
    fn of(details: &'a Details) -> Option<Self> {
        Some(match details {
            Details::Info(info) => Self::Info { info },
            Details::Error(error) => Self::Error { error },
            Details::Usage(usage) => Self::Usage { usage },
            Details::Entry(entry, values) => Self::Entry(JsonEntry::new(entry, *values)),
            Details::Statistics { entries, queue_length } => Self::Statistics(JsonStatistics {
                entries: *entries,
                odd_queue_length: *queue_length,
                qlen: *queue_length,
            }),
            Details::Peers(_) | Details::Entries(..) => return None,
        })
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
            ValueSpelling::Base64 => to_base64(entry.value()).into(),
            ValueSpelling::Raw => String::from_utf8_lossy(entry.value()),
        };
        Self { key: entry.key(), value, owner: entry.owner().as_str() }
    }
}

/// Writes JSON in the original's format.
struct JsonWriter {
    spelling: Spelling,
    out: Vec<u8>,
    /// What each line of pretty JSON begins with.
    indentation: &'static str,
}

impl JsonWriter {
    /// Escapes the characters that are special in HTML, as the original does. They occur only inside of
    /// JSON's strings, and line ends only outside.
    fn json(&mut self, value: &impl Serialize) {
        let json = match self.spelling {
            Spelling::PrettyJson => serde_json::to_string_pretty(value),
            Spelling::Json | Spelling::Text => serde_json::to_string(value),
        };
        let json = json.expect("texts, numbers and lists have a JSON form");
        self.out.extend_from_slice(self.indentation_of_a_line());
        let mut rest = json.as_str();
        // 0xe2 begins U+2028 and U+2029, among others.
        let special = |byte: &u8| matches!(byte, b'<' | b'>' | b'&' | b'\n' | 0xe2);
        while let Some(at) = rest.as_bytes().iter().position(special) {
            self.out.extend_from_slice(&rest.as_bytes()[..at]);
            let character = rest[at..].chars().next().expect("it is where a character begins");
            rest = &rest[at + character.len_utf8()..];
            match character {
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    self.out.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
                }
                '\n' => {
                    self.out.push(b'\n');
                    self.out.extend_from_slice(self.indentation_of_a_line());
                }
                _ => self.out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        self.out.extend_from_slice(rest.as_bytes());
    }

    fn indentation_of_a_line(&self) -> &'static [u8] {
        match self.spelling {
            Spelling::PrettyJson => self.indentation.as_bytes(),
            Spelling::Json | Spelling::Text => b"",
        }
    }
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
