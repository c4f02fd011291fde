//! Rules that pick out single messages.

use std::fmt;
use std::time::Duration;

use wire::NodeName;

use super::Location;

/// How a datagram, or the first frame of a stream, begins that is for tables; all else is for membership.
pub(crate) const TABLES: [u8; 1] = [1];
/// How a datagram begins that carries writes, and heads of what was written.
pub(crate) const GOSSIP: [u8; 2] = [1, 0];
/// How a datagram begins that carries lists of networks.
pub(crate) const ATTACHMENT_LISTS: [u8; 2] = [1, 1];

/// How a datagram begins that tells what is settled of a network.
const SETTLED: [u8; 2] = [1, 2];
/// How the first frame of a full sync begins.
const FULL_SYNC: [u8; 3] = [1, 0, 0];

/// The kind of a datagram, for the trace.
pub(crate) fn describe_datagram(bytes: &[u8]) -> String {
    let kind = match bytes {
        _ if bytes.starts_with(&GOSSIP) => "gossip",
        _ if bytes.starts_with(&ATTACHMENT_LISTS) => "lists",
        _ => "members",
    };
    kind.to_owned()
}

/// What kind of thing is being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// A datagram.
    Datagram,
    /// The opening of a stream; it has no bytes.
    StreamOpening,
    /// One frame of a stream.
    Frame,
}

/// A message that a rule may look at while it is being sent.
#[derive(Debug)]
pub struct Message<'a> {
    /// When it is being sent.
    pub now: Duration,
    /// From where.
    pub from: Location,
    /// The name of the sender.
    pub sender: &'a NodeName,
    /// To where.
    pub to: Location,
    /// The name of the receiver.
    pub receiver: &'a NodeName,
    /// How it travels.
    pub kind: MessageKind,
    /// Whether it is the first frame that the opener of a stream sends.
    pub first: bool,
    /// Its bytes as they are on the wire.
    pub bytes: &'a [u8],
}

impl Message<'_> {
    /// Whether it carries tables or lists, not membership. Of a stream, the first frame tells.
    pub fn is_for_tables(&self) -> bool {
        let carries_type =
            self.kind == MessageKind::Datagram || self.kind == MessageKind::Frame && self.first;
        carries_type && self.bytes.starts_with(&TABLES)
    }

    /// Whether it carries the lists of networks that nodes are on, in a datagram.
    pub fn is_attachment_lists(&self) -> bool {
        self.kind == MessageKind::Datagram && self.bytes.starts_with(&ATTACHMENT_LISTS)
    }

    /// Whether it compares what two members hold of a network: all that finds differences by itself, whatever was lost.
    pub fn is_comparison(&self) -> bool {
        match self.kind {
            MessageKind::Datagram => self.bytes.starts_with(&SETTLED),
            MessageKind::Frame => self.first && self.bytes.starts_with(&FULL_SYNC),
            MessageKind::StreamOpening => false,
        }
    }

    /// Whether it carries writes to tables, in a datagram.
    pub fn is_gossip(&self) -> bool {
        self.kind == MessageKind::Datagram && self.bytes.starts_with(&GOSSIP)
    }
}

/// What a rule does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing; the next rule is asked.
    Pass,
    /// A datagram vanishes, a stream does not open, or breaks at this frame.
    Drop,
    /// It is under way for so much longer. What follows on the same stream waits too.
    Delay(Duration),
    /// A datagram is kept until it is released. Streams cannot be held: they pass.
    Hold,
}

/// The number under which a rule can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleId(pub(super) u64);

pub(super) struct Rule {
    pub(super) id: RuleId,
    pub(super) decide: Box<dyn FnMut(&Message<'_>) -> Verdict>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule").field("id", &self.id).finish_non_exhaustive()
    }
}
