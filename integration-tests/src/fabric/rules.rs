//! Rules that select single messages.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wire::NodeName;

use super::{EndpointId, Fabric, Location, Pending};

/// The first byte of a datagram, or of the first frame of a stream, for tables; all else is for
/// membership.
pub(crate) const TABLES: [u8; 1] = [1];
/// The first bytes of a datagram with writes and high watermarks.
pub(crate) const GOSSIP: [u8; 2] = [1, 0];
/// The first bytes of a datagram with attachment lists.
pub(crate) const ATTACHMENT_LISTS: [u8; 2] = [1, 1];

/// The first bytes of a datagram that reports the settled state of a network.
const SETTLED: [u8; 2] = [1, 2];
/// The first bytes of the first frame of a full sync.
const FULL_SYNC: [u8; 3] = [1, 0, 0];

/// The kind of a datagram, for the trace.
pub(crate) fn describe_datagram(bytes: &[u8]) -> String {
    let kind = match bytes {
        _ if bytes.starts_with(&GOSSIP) => "gossip",
        _ if bytes.starts_with(&ATTACHMENT_LISTS) => "attachment lists",
        _ => "members",
    };
    kind.to_owned()
}

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// A datagram.
    Datagram,
    /// The opening of a stream; it has no bytes.
    StreamOpening,
    /// One frame of a stream.
    Frame,
}

/// A message that a rule may inspect while it is sent.
#[derive(Debug)]
pub struct Message<'a> {
    /// When it is being sent.
    pub now: Duration,
    /// The sender's location.
    pub from: Location,
    /// The name of the sender.
    pub sender: &'a NodeName,
    /// The receiver's location.
    pub to: Location,
    /// The name of the receiver.
    pub receiver: &'a NodeName,
    /// Its kind.
    pub kind: MessageKind,
    /// Whether it is the first frame that the opener of a stream sends.
    pub first: bool,
    /// Its bytes as they are on the wire.
    pub bytes: &'a [u8],
}

impl Message<'_> {
    /// Whether it carries tables or attachment lists, not membership. Of a stream, the first frame
    /// decides.
    pub fn is_for_tables(&self) -> bool {
        let carries_type =
            self.kind == MessageKind::Datagram || self.kind == MessageKind::Frame && self.first;
        carries_type && self.bytes.starts_with(&TABLES)
    }

    /// Whether it carries attachment lists, in a datagram.
    pub fn is_attachment_lists(&self) -> bool {
        self.kind == MessageKind::Datagram && self.bytes.starts_with(&ATTACHMENT_LISTS)
    }

    /// Whether it compares the tables of two members: an exchange that finds all differences,
    /// whatever was lost.
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
    /// Nothing; the next rule applies.
    Pass,
    /// A datagram is lost, a stream does not open, or breaks at this frame.
    Drop,
    /// It is delayed by this much. What follows on the same stream waits too.
    Delay(Duration),
    /// A datagram is kept until it is released. Streams cannot be held: they pass.
    Hold,
}

/// The number under which a rule can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleId(u64);

pub(super) struct Rule {
    id: RuleId,
    decide: Box<dyn FnMut(&Message<'_>) -> Verdict>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A datagram that a rule withheld.
#[derive(Debug, Clone)]
pub struct HeldDatagram {
    pub(super) from: EndpointId,
    pub(super) to: EndpointId,
    pub(super) bytes: Arc<[u8]>,
}

impl HeldDatagram {
    /// The process that sent it.
    pub fn from(&self) -> EndpointId {
        self.from
    }

    /// The process it is for.
    pub fn to(&self) -> EndpointId {
        self.to
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Fabric {
    /// Asks `decide` about every message from now on.
    pub fn add_rule(&mut self, decide: impl FnMut(&Message<'_>) -> Verdict + 'static) -> RuleId {
        let id = RuleId(self.next_rule);
        self.next_rule += 1;
        self.rules.push(Rule { id, decide: Box::new(decide) });
        id
    }

    /// Removes a rule. Messages it withheld stay withheld.
    pub fn remove_rule(&mut self, id: RuleId) {
        self.rules.retain(|rule| rule.id != id);
    }

    /// The datagrams that rules withheld, oldest first. The fabric forgets them: deliver those that
    /// are to arrive.
    pub fn take_held(&mut self) -> Vec<HeldDatagram> {
        std::mem::take(&mut self.held)
    }

    /// Delivers a withheld datagram now, in the order of calls, once for each call.
    pub fn deliver(&mut self, held: &HeldDatagram) {
        let HeldDatagram { from, to, bytes } = held.clone();
        self.schedule.push(self.now, Pending::Datagram { from, to, sent: self.now, bytes });
    }

    /// Applies the rules in order.
    pub(super) fn decide(
        &mut self,
        from: EndpointId,
        to: EndpointId,
        kind: MessageKind,
        first: bool,
        bytes: &[u8],
    ) -> Verdict {
        if self.rules.is_empty() {
            return Verdict::Pass;
        }
        let (sender, receiver) = (&self.endpoints[from.0 as usize], &self.endpoints[to.0 as usize]);
        let message = Message {
            now: self.now,
            from: sender.location,
            sender: &sender.name,
            to: receiver.location,
            receiver: &receiver.name,
            kind,
            first,
            bytes,
        };
        for rule in &mut self.rules {
            let verdict = (rule.decide)(&message);
            if verdict != Verdict::Pass {
                return verdict;
            }
        }
        Verdict::Pass
    }
}
