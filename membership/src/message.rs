//! Wire messages and their encoding.
//!
//! A packet is a list of length-prefixed messages, so that a receiver can skip a message it cannot
//! decode (for example one added by a newer version) and still process the others. A frame is one
//! value on a stream.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wire::codec::{self, DecodeError};
use wire::{NodeId, NodeName};

use crate::member::{Member, NodeRecord, State};

/// One message of a packet. It does not carry the sender's name: the transport authenticates the
/// sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Probe. `generation` and `incarnation` are the sender's.
    Ping {
        sequence: u64,
        target: NodeId,
        generation: u64,
        incarnation: u64,
    },
    /// Indirect probe: asks the receiver to ping `target` and to forward its answer.
    PingRequest {
        sequence: u64,
        target: NodeId,
        address: SocketAddr,
    },
    /// `id` is alive. `digest` is the digest of its member list, or `None` if a relay forwarded the
    /// answer.
    Ack {
        sequence: u64,
        id: NodeId,
        incarnation: u64,
        digest: Option<u64>,
    },
    /// The sender is alive, but the node it was asked to ping has not answered yet.
    Nack {
        sequence: u64,
    },
    /// The node is alive, as this record says.
    Alive {
        record: NodeRecord,
        incarnation: u64,
    },
    /// `accuser` got no answer from the node.
    Suspect {
        id: NodeId,
        incarnation: u64,
        accuser: NodeName,
    },
    /// The node did not refute the suspicion.
    Failed {
        id: NodeId,
        incarnation: u64,
        accuser: NodeName,
    },
    /// The node left the cluster.
    Left {
        id: NodeId,
        incarnation: u64,
    },
    /// The sender has discarded this failed instance and all earlier ones because their retention
    /// has expired.
    Forgotten {
        id: NodeId,
        incarnation: u64,
    },
    /// The sender does not know the receiver's current instance or incarnation and asks for its
    /// record.
    Introduce,
    Outdated(Outdated),
    /// Two live nodes use the same name.
    NameInUse(NameInUse),
}

/// The claimed instance is not later than one the sender already knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outdated {
    /// The claimed generation. If the receiver has moved to a later one since, the message is
    /// obsolete.
    pub(crate) claimed: u64,
    /// The receiver must choose a generation above this.
    pub(crate) known: u64,
}

impl Message {
    /// The claim that describes the known state of this member.
    pub(crate) fn claim(member: &Member, accuser: &NodeName) -> Self {
        let (id, incarnation, accuser) = (member.record.id.clone(), member.incarnation, accuser.clone());
        match member.state {
            State::Alive => Message::Alive { record: member.record.clone(), incarnation },
            State::Suspect => Message::Suspect { id, incarnation, accuser },
            State::Failed => Message::Failed { id, incarnation, accuser },
            State::Left => Message::Left { id, incarnation },
        }
    }

    /// The claimed state, instance and incarnation, if this message is a claim.
    pub(crate) fn standing(self) -> Option<(State, NodeId, u64)> {
        match self {
            Message::Alive { record, incarnation } => Some((State::Alive, record.id, incarnation)),
            Message::Suspect { id, incarnation, .. } => Some((State::Suspect, id, incarnation)),
            Message::Failed { id, incarnation, .. } => Some((State::Failed, id, incarnation)),
            Message::Left { id, incarnation } => Some((State::Left, id, incarnation)),
            _ => None,
        }
    }
}

/// Two live nodes use the same name: the current owner and the claimant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameInUse {
    pub(crate) owner: NodeId,
    pub(crate) owner_address: SocketAddr,
    pub(crate) claimant: NodeId,
    pub(crate) claimant_address: SocketAddr,
}

/// One value on a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Frame {
    /// Messages over the reliable path: a packet that would otherwise be a datagram.
    Packet(Vec<u8>),
    /// Request to compare member lists.
    Hello(Hello),
    /// Acceptance of the request. `equal`: the digests agree and no lists are needed.
    Welcome { hello: Hello, equal: bool },
    /// Rejection of the request.
    Refused(HelloRefusal),
    /// Part of a member list.
    Members(Vec<Claim>),
    /// The list is complete.
    End,
}

/// Describes the node that requests or accepts a comparison of member lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) occasion: Occasion,
    pub(crate) record: NodeRecord,
    pub(crate) incarnation: u64,
    pub(crate) digest: u64,
    /// The sender's claim about the receiver if it knows it in a state other than alive, so that
    /// the receiver can refute it at once.
    pub(crate) about_receiver: Option<(State, NodeId, u64)>,
}

/// Why member lists are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Occasion {
    /// The sender joins: its list follows at once, and both lists are needed.
    Join,
    /// Periodic sync between members: lists are sent only if the digests differ.
    Sync,
    /// The sender considers the receiver failed; otherwise like `Sync`.
    Reconnect,
}

/// Why a comparison was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HelloRefusal {
    /// The current owner of the name is being probed: retry after this many milliseconds.
    Pending(u32),
    /// Another live node owns the name.
    NameInUse(NameInUse),
    Outdated(Outdated),
    /// The sender connected to itself.
    Yourself,
    /// The member table is full.
    Full,
    /// The receiver is leaving the cluster.
    Leaving,
    /// The record is not valid.
    Invalid,
}

/// One entry of a member list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) record: NodeRecord,
    pub(crate) incarnation: u64,
    pub(crate) state: State,
    /// Seconds since it failed or left. The receiver must not keep the entry longer than its sender
    /// does.
    pub(crate) departed_for: u32,
}

/// Input from a peer that was rejected. It was dropped and counted; nothing else changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The bytes do not decode.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// The peer used the name of another node.
    #[error("node {authenticated} used the name {claimed}; a node may introduce only itself")]
    WrongName {
        /// The name in its message.
        claimed: NodeName,
        /// The name that the transport authenticated.
        authenticated: NodeName,
    },
    /// A frame arrived before `handle_stream_connected` named the peer of the stream.
    #[error("a frame arrived on a stream whose peer is unknown; call handle_stream_connected first")]
    UnknownPeer,
    /// A frame that is not expected at this point of the exchange.
    #[error("node {peer} sent {found} where {wanted} was expected")]
    Unexpected {
        /// Who sent it.
        peer: NodeName,
        /// The frame that was received.
        found: &'static str,
        /// The frame that was expected.
        wanted: &'static str,
    },
    /// The peer's member list exceeds the number of members this node accepts.
    #[error("node {peer} sent a list of more than {most} members")]
    ListTooLong {
        /// Who sent it.
        peer: NodeName,
        /// The maximum that is accepted.
        most: usize,
    },
}

impl Frame {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Frame::Packet(_) => "a packet",
            Frame::Hello(_) => "a hello",
            Frame::Welcome { .. } => "a welcome",
            Frame::Refused(_) => "a refusal",
            Frame::Members(_) => "members",
            Frame::End => "an end",
        }
    }
}

/// Upper bound of the bytes a message adds to a packet beyond its own.
pub(crate) const MESSAGE_OVERHEAD: usize = 3;
/// Upper bound of the bytes of a packet beyond its messages.
pub(crate) const PACKET_OVERHEAD: usize = 3;

/// Collects messages up to a size.
#[derive(Debug)]
pub(crate) struct PacketBuilder {
    messages: Vec<Arc<[u8]>>,
    remaining: usize,
}

impl PacketBuilder {
    pub(crate) fn new(budget: usize) -> Self {
        Self { messages: Vec::new(), remaining: budget.saturating_sub(PACKET_OVERHEAD) }
    }

    /// Adds the message if it fits.
    pub(crate) fn add(&mut self, message: Arc<[u8]>) -> bool {
        let size = message.len() + MESSAGE_OVERHEAD;
        if size > self.remaining {
            return false;
        }
        self.remaining -= size;
        self.messages.push(message);
        true
    }

    /// Limits the remaining capacity to at most this many bytes.
    pub(crate) fn limit_remaining(&mut self, most: usize) {
        self.remaining = self.remaining.min(most);
    }

    /// Size of the largest message that still fits, in bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.remaining.saturating_sub(MESSAGE_OVERHEAD)
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        codec::encode(&self.messages.iter().map(|message| &**message).collect::<Vec<&[u8]>>())
    }
}

/// Splits a packet into its encoded messages.
pub(crate) fn split_packet(bytes: &[u8]) -> Result<Vec<&[u8]>, DecodeError> {
    codec::decode(bytes)
}

/// Upper bound of the encoded size of a member-list entry.
pub(crate) fn claim_size(record: &NodeRecord) -> usize {
    let length = |text: &str| text.len() + if text.len() > 250 { 3 } else { 1 };
    let labels = record.labels.iter().map(|(name, value)| length(name) + length(value)).sum::<usize>();
    length(record.id.name.as_str()) + labels + 64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    pub(super) fn largest_record() -> NodeRecord {
        let record = NodeRecord {
            id: NodeId::new(NodeName::new(&"n".repeat(128)).expect("valid"), crate::member::MAX_GENERATION),
            address: "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().expect("valid"),
            labels: BTreeMap::from([("k".repeat(252), "v".repeat(253))]),
        };
        assert_eq!(record.check(), Ok(()), "the largest record that is allowed");
        assert_eq!(codec::encode(&record.labels).len(), crate::MAX_LABEL_BYTES);
        record
    }

    #[test]
    fn a_probes_answer_can_carry_the_largest_record_beside_itself() {
        let record = largest_record();
        let mut packet = PacketBuilder::new(crate::config::SMALLEST_DATAGRAM);
        let ack = Message::Ack {
            sequence: u64::MAX,
            id: record.id.clone(),
            incarnation: u64::MAX,
            digest: Some(u64::MAX),
        };
        assert!(packet.add(codec::encode(&ack).into()));
        assert!(packet.add(codec::encode(&Message::Alive { record, incarnation: u64::MAX }).into()));
    }

    #[test]
    fn the_size_of_a_list_entry_is_never_underestimated() {
        let record = largest_record();
        let claim = Claim {
            record: record.clone(),
            incarnation: u64::MAX,
            state: State::Left,
            departed_for: u32::MAX,
        };
        assert!(codec::encode(&claim).len() <= claim_size(&record));
    }

    #[test]
    fn a_packet_never_exceeds_its_budget_and_what_went_in_comes_out() {
        for size in [0, 1, 60, 250, 251, 300] {
            let mut packet = PacketBuilder::new(1150);
            let message: Arc<[u8]> = vec![7; size].into();
            let mut count = 0;
            while packet.add(message.clone()) {
                count += 1;
            }
            let bytes = packet.finish();
            assert!(bytes.len() <= 1150, "{} bytes for messages of {size}", bytes.len());
            assert_eq!(split_packet(&bytes).expect("decodes"), vec![&*message; count]);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_an_error_or_a_value_but_never_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..1500)
        ) {
            if let Ok(messages) = split_packet(&bytes) {
                for message in messages {
                    let _ = codec::decode::<Message>(message);
                }
            }
            let _ = codec::decode::<Message>(&bytes);
            let _ = codec::decode::<Frame>(&bytes);
        }
    }
}
