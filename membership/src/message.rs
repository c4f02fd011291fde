//! What goes over the wire, and how it becomes bytes.
//!
//! A packet is a list of messages, each with its length before it, so that one that does not decode (or that a newer
//! version added) is skipped without losing the others. A frame is one value on a stream.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wire::codec::{self, DecodeError};
use wire::{NodeId, NodeName};

use crate::member::{Member, NodeRecord, State};

/// One message of a packet. The sender's name is not in it: the transport vouches for that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Are you there? `generation` and `incarnation` are the sender's.
    Ping {
        sequence: u64,
        target: NodeId,
        generation: u64,
        incarnation: u64,
    },
    /// Please ping `target` for me and pass its answer on.
    PingRequest {
        sequence: u64,
        target: NodeId,
        address: SocketAddr,
    },
    /// `id` is there, and `digest` is the fingerprint of its member list; without one if the answer was passed on.
    Ack {
        sequence: u64,
        id: NodeId,
        incarnation: u64,
        digest: Option<u64>,
    },
    /// I am there, but the node you asked me to ping has not answered me yet.
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
    /// The node has not objected to the suspicion.
    Failed {
        id: NodeId,
        incarnation: u64,
        accuser: NodeName,
    },
    /// The node said good-bye.
    Left {
        id: NodeId,
        incarnation: u64,
    },
    /// This failed instance, and any earlier one, is no longer kept by the sender, its time being over.
    Forgotten {
        id: NodeId,
        incarnation: u64,
    },
    /// I do not know you as you are now: send me your record.
    Introduce,
    Outdated(Outdated),
    /// Two living nodes bear one name.
    NameInUse(NameInUse),
}

/// The life that you speak for is not later than one already known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outdated {
    /// The generation spoken for. The answer may come when the receiver has taken a later one: then it is no news.
    pub(crate) claimed: u64,
    /// Take one above this.
    pub(crate) known: u64,
}

impl Message {
    /// How this member is held to stand.
    pub(crate) fn claim(member: &Member, accuser: &NodeName) -> Self {
        let (id, incarnation, accuser) = (member.record.id.clone(), member.incarnation, accuser.clone());
        match member.state {
            State::Alive => Message::Alive { record: member.record.clone(), incarnation },
            State::Suspect => Message::Suspect { id, incarnation, accuser },
            State::Failed => Message::Failed { id, incarnation, accuser },
            State::Left => Message::Left { id, incarnation },
        }
    }

    /// Which state of which life this claims, if it is a claim.
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

/// Two living nodes bear one name: who has it, and who wanted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameInUse {
    pub(crate) holder: NodeId,
    pub(crate) holder_address: SocketAddr,
    pub(crate) claimant: NodeId,
    pub(crate) claimant_address: SocketAddr,
}

/// One value on a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Frame {
    /// The reliable path of a probe: what else would have been a datagram.
    Packet(Vec<u8>),
    /// Let us compare our member lists.
    Hello(Hello),
    /// Yes, and this is me. `equal`: the fingerprints agree, no lists are needed.
    Welcome { hello: Hello, equal: bool },
    /// No.
    Refused(Refusal),
    /// Part of a member list.
    Members(Vec<Claim>),
    /// The list is complete.
    End,
}

/// Who opens or answers a comparison of member lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) occasion: Occasion,
    pub(crate) record: NodeRecord,
    pub(crate) incarnation: u64,
    pub(crate) digest: u64,
    /// How the sender holds the receiver, if it is known and not simply alive: so that it can object at once.
    pub(crate) against: Option<(State, NodeId, u64)>,
}

/// Why member lists are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Occasion {
    /// The sender wants to become a member: its list follows at once, both lists are wanted.
    Join,
    /// Both are members: lists only if the fingerprints differ.
    Sync,
    /// The receiver was held to have failed: as `Sync`.
    Reconnect,
}

/// Why a comparison was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// The present holder of the name is being probed: ask again after so many milliseconds.
    Pending(u32),
    /// Another living node has the name.
    NameInUse(NameInUse),
    Outdated(Outdated),
    /// You have called yourself.
    Yourself,
    /// There is no room for another member.
    Full,
    /// The node is leaving.
    Leaving,
    /// The record is not valid.
    Invalid,
}

/// A line of a member list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) record: NodeRecord,
    pub(crate) incarnation: u64,
    pub(crate) state: State,
    /// For how many seconds it has been gone, if it failed or left: what is re-taught must not be kept longer.
    pub(crate) departed_for: u32,
}

/// Bytes from a peer that could not be used. They were dropped and counted; nothing else has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The bytes are not what they should be.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// The peer speaks for another node.
    #[error("node {authenticated} spoke as {claimed}; a node may introduce only itself")]
    WrongName {
        /// The name its messages gave.
        claimed: NodeName,
        /// The name the transport vouches for.
        authenticated: NodeName,
    },
    /// A frame came before anybody said who answered the stream.
    #[error(
        "a frame arrived on a stream of which nobody said who answered it; call handle_stream_connected first"
    )]
    UnknownPeer,
    /// A frame that has no place at this point of the exchange.
    #[error("node {peer} sent {found} where {wanted} was due")]
    Unexpected {
        /// Who sent it.
        peer: NodeName,
        /// What came.
        found: &'static str,
        /// What should have come.
        wanted: &'static str,
    },
    /// The member list of the peer is longer than any this node could hold.
    #[error("node {peer} sent a list of more than {most} members")]
    ListTooLong {
        /// Who sent it.
        peer: NodeName,
        /// The most that are accepted.
        most: usize,
    },
}

impl Frame {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Frame::Packet(_) => "a packet",
            Frame::Hello(_) => "a greeting",
            Frame::Welcome { .. } => "a welcome",
            Frame::Refused(_) => "a refusal",
            Frame::Members(_) => "members",
            Frame::End => "an end",
        }
    }
}

/// An upper bound of what a message takes in a packet beside its own bytes.
pub(crate) const MESSAGE_OVERHEAD: usize = 3;
/// An upper bound of what a packet takes beside its messages.
pub(crate) const PACKET_OVERHEAD: usize = 3;

/// Collects messages up to a size.
#[derive(Debug)]
pub(crate) struct PacketBuilder {
    messages: Vec<Arc<[u8]>>,
    room: usize,
}

impl PacketBuilder {
    pub(crate) fn new(budget: usize) -> Self {
        Self { messages: Vec::new(), room: budget.saturating_sub(PACKET_OVERHEAD) }
    }

    /// Adds the message if it fits.
    pub(crate) fn add(&mut self, message: Arc<[u8]>) -> bool {
        let size = message.len() + MESSAGE_OVERHEAD;
        if size > self.room {
            return false;
        }
        self.room -= size;
        self.messages.push(message);
        true
    }

    /// Leaves room for this many more bytes at most.
    pub(crate) fn limit_room(&mut self, most: usize) {
        self.room = self.room.min(most);
    }

    /// The most bytes a message may have that still fits.
    pub(crate) fn room(&self) -> usize {
        self.room.saturating_sub(MESSAGE_OVERHEAD)
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        codec::encode(&self.messages.iter().map(|message| &**message).collect::<Vec<&[u8]>>())
    }
}

/// The messages of a packet, each still in bytes.
pub(crate) fn split_packet(bytes: &[u8]) -> Result<Vec<&[u8]>, DecodeError> {
    codec::decode(bytes)
}

/// An upper bound of the encoding of a line of a member list.
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
        assert_eq!(record.check(), Ok(()), "the largest that is allowed");
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
    fn the_size_of_a_line_of_a_list_is_never_underestimated() {
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
