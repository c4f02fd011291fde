//! The trace: events in order, kept for people to read, and hashed to compare runs.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use tabledb::{Change, Value};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::fabric::{DropReason, EndpointId};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TraceEvent {
    Datagram { from: EndpointId, to: EndpointId, sent: Duration, bytes: Arc<[u8]> },
    DatagramDropped { from: EndpointId, to: Option<EndpointId>, reason: DropReason, bytes: Arc<[u8]> },
    Dialled { from: EndpointId, to: EndpointId },
    DialFailed { from: EndpointId, reason: DropReason },
    StreamOpened { number: u64, from: EndpointId, to: EndpointId },
    Frame { number: u64, from: EndpointId, to: EndpointId, sent: Duration, bytes: Arc<[u8]> },
    StreamFinished { number: u64, to: EndpointId },
    StreamBroken { number: u64, to: EndpointId },
    ConnectionLost { at: EndpointId, peer: EndpointId },
    Timer { at: EndpointId },
    Seen { at: EndpointId, change: Box<Change> },
    Note { at: Option<EndpointId>, text: Box<str> },
}

/// Describes the bytes of messages for the reader of a trace.
#[derive(Debug, Clone, Copy)]
pub struct Describe {
    /// Of a datagram.
    pub datagram: fn(&[u8]) -> String,
    /// Of a stream frame.
    pub frame: fn(&[u8]) -> String,
}

impl Default for Describe {
    fn default() -> Self {
        Self { datagram: |_| String::new(), frame: |_| String::new() }
    }
}

impl TraceEvent {
    /// Whether it is an action, report or visible change rather than traffic.
    fn is_notable(&self) -> bool {
        matches!(self, TraceEvent::Seen { .. } | TraceEvent::Note { .. })
    }
}

/// An event with its number.
type Numbered = (u64, Duration, TraceEvent);

/// The last events of a run, and a hash over all events.
pub struct Trace {
    recent: VecDeque<Numbered>,
    /// The last notable ones, which in an idle cluster are much older than the last traffic.
    story: VecDeque<Numbered>,
    capacity: usize,
    hash: Xxh3,
    count: u64,
    names: Vec<String>,
    describe: Describe,
    /// Print every line as it is recorded.
    print_all: bool,
}

impl Trace {
    /// Keeps the last `capacity` events.
    pub(crate) fn new(capacity: usize, describe: Describe) -> Self {
        let print_all = std::env::var_os("SIM_TRACE").is_some_and(|value| value == "1");
        Self {
            recent: VecDeque::with_capacity(capacity.min(4096)),
            story: VecDeque::new(),
            capacity,
            hash: Xxh3::new(),
            count: 0,
            names: Vec::new(),
            describe,
            print_all,
        }
    }

    pub(crate) fn add_endpoint(&mut self, name: String) {
        self.names.push(name);
    }

    /// Equal for two runs if the same events occurred in the same order at the same times with the
    /// same bytes.
    pub fn hash(&self) -> u64 {
        self.hash.digest()
    }

    /// The number of events so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn record(&mut self, now: Duration, event: TraceEvent) {
        self.count += 1;
        self.update_hash(now, &event);
        if self.print_all {
            eprintln!("{}", self.line(now, &event));
        }
        if self.capacity == 0 {
            return;
        }
        for list in
            [Some(&mut self.recent), event.is_notable().then_some(&mut self.story)].into_iter().flatten()
        {
            if list.len() == self.capacity {
                list.pop_front();
            }
            list.push_back((self.count, now, event.clone()));
        }
    }

    fn update_hash(&mut self, now: Duration, event: &TraceEvent) {
        let at = |id: &EndpointId| u64::from(id.0);
        let values = match event {
            TraceEvent::Datagram { from, to, sent, bytes } => {
                [1, at(from), at(to), sent.as_nanos() as u64, xxh3_64(bytes)]
            }
            TraceEvent::DatagramDropped { from, to, reason, bytes } => {
                [2, at(from), to.as_ref().map_or(u64::MAX, at), *reason as u64, xxh3_64(bytes)]
            }
            TraceEvent::Dialled { from, to } => [3, at(from), at(to), 0, 0],
            TraceEvent::DialFailed { from, reason } => [4, at(from), *reason as u64, 0, 0],
            TraceEvent::StreamOpened { number, from, to } => [5, *number, at(from), at(to), 0],
            TraceEvent::Frame { number, from, to, sent, bytes } => {
                [6, *number, at(from) << 32 | at(to), sent.as_nanos() as u64, xxh3_64(bytes)]
            }
            TraceEvent::StreamFinished { number, to } => [7, *number, at(to), 0, 0],
            TraceEvent::StreamBroken { number, to } => [8, *number, at(to), 0, 0],
            TraceEvent::ConnectionLost { at: here, peer } => [9, at(here), at(peer), 0, 0],
            TraceEvent::Timer { at: here } => [10, at(here), 0, 0, 0],
            TraceEvent::Seen { at: here, change } => {
                let value = change.value.as_deref().map_or(0, xxh3_64);
                let path =
                    [&*change.network, &*change.table, &*change.key].map(|part| xxh3_64(part.as_bytes()));
                [
                    12,
                    at(here),
                    change.kind as u64,
                    value,
                    path[0] ^ path[1].rotate_left(21) ^ path[2].rotate_left(42),
                ]
            }
            TraceEvent::Note { at: here, text } => {
                [11, here.as_ref().map_or(u64::MAX, at), xxh3_64(text.as_bytes()), 0, 0]
            }
        };
        let mut bytes = [0; 48];
        bytes[..8].copy_from_slice(&(now.as_nanos() as u64).to_le_bytes());
        for (chunk, value) in bytes[8..].chunks_exact_mut(8).zip(values) {
            chunk.copy_from_slice(&value.to_le_bytes());
        }
        self.hash.update(&bytes);
    }

    /// The notable events, one a line, oldest first, and then the last events of all kinds. Timers
    /// are left out; of probes that arrived only the number is shown.
    pub fn tail(&self) -> String {
        let mut text = String::from(
            "time in seconds; n#2 is the second process of node n; → arrived, ✗ did not, \
             · did or reported; SIM_TRACE=1 prints all as it happens\n",
        );
        let first = self.recent.front().map_or(self.count, |(number, ..)| *number);
        let earlier = self.story.iter().take_while(|(number, ..)| *number < first);
        for (_, now, event) in earlier {
            let _ = writeln!(text, "{}", self.line(*now, event));
        }
        if first > 1 {
            let _ = writeln!(text, "… and from here on all kinds of events:");
        }
        let mut probes = 0;
        let flush_probes = |text: &mut String, probes: &mut u64| {
            if *probes > 0 {
                let _ = writeln!(text, "{:>14} {probes} datagrams about members", "…");
                *probes = 0;
            }
        };
        for (_, now, event) in &self.recent {
            match event {
                TraceEvent::Timer { .. } => continue,
                TraceEvent::Datagram { bytes, .. } if (self.describe.datagram)(bytes) == "members" => {
                    probes += 1;
                    continue;
                }
                _ => {}
            }
            flush_probes(&mut text, &mut probes);
            let _ = writeln!(text, "{}", self.line(*now, event));
        }
        flush_probes(&mut text, &mut probes);
        text
    }

    fn name(&self, id: EndpointId) -> &str {
        self.names.get(id.0 as usize).map_or("?", String::as_str)
    }

    fn line(&self, now: Duration, event: &TraceEvent) -> String {
        let time = format!("{:>14.6}", now.as_secs_f64());
        match event {
            TraceEvent::Datagram { from, to, sent, bytes } => format!(
                "{time} {} → {} datagram of {} B{}  {}",
                self.name(*from),
                self.name(*to),
                bytes.len(),
                under_way(now, *sent),
                (self.describe.datagram)(bytes)
            ),
            TraceEvent::DatagramDropped { from, to, reason, bytes } => format!(
                "{time} {} ✗ {} datagram of {} B dropped: {reason}  {}",
                self.name(*from),
                to.map_or("no process", |to| self.name(to)),
                bytes.len(),
                (self.describe.datagram)(bytes)
            ),
            TraceEvent::Dialled { from, to } => {
                format!("{time} {} ⇄ {} connected", self.name(*from), self.name(*to))
            }
            TraceEvent::DialFailed { from, reason } => {
                format!("{time} {} ✗ no connection: {reason}", self.name(*from))
            }
            TraceEvent::StreamOpened { number, from, to } => {
                format!("{time} {} → {} stream {number} opened", self.name(*from), self.name(*to))
            }
            TraceEvent::Frame { number, from, to, sent, bytes } => format!(
                "{time} {} → {} stream {number} frame of {} B{}  {}",
                self.name(*from),
                self.name(*to),
                bytes.len(),
                under_way(now, *sent),
                (self.describe.frame)(bytes)
            ),
            TraceEvent::StreamFinished { number, to } => {
                format!("{time} {} sees the end of stream {number}", self.name(*to))
            }
            TraceEvent::StreamBroken { number, to } => {
                format!("{time} {} sees stream {number} break", self.name(*to))
            }
            TraceEvent::ConnectionLost { at, peer } => {
                format!("{time} {} lost its connection with {}", self.name(*at), self.name(*peer))
            }
            TraceEvent::Timer { at } => format!("{time} {} timer", self.name(*at)),
            TraceEvent::Seen { at, change } => {
                let text = |value: &Option<Value>| match value {
                    None => "nothing".to_owned(),
                    Some(value) => format!("{:?}", String::from_utf8_lossy(&value[..value.len().min(40)])),
                };
                format!(
                    "{time} {} sees {}/{}/{}: {} → {} of {}",
                    self.name(*at),
                    change.network,
                    change.table,
                    change.key,
                    text(&change.previous),
                    text(&change.value),
                    change.owner
                )
            }
            TraceEvent::Note { at, text } => match at {
                Some(at) => format!("{time} {} · {text}", self.name(*at)),
                None => format!("{time} — {text}"),
            },
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace")
            .field("count", &self.count)
            .field("hash", &self.hash())
            .finish_non_exhaustive()
    }
}

fn under_way(now: Duration, sent: Duration) -> String {
    match now.saturating_sub(sent) {
        Duration::ZERO => String::new(),
        taken => format!(" after {taken:?}"),
    }
}
