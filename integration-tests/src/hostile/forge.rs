//! Messages of a modified peer: those of tables and membership, as they are on the wire, but with
//! any content.
//!
//! The formats are defined here once more, because the crates do not let others make such messages.
//! If they no longer matched, the attacks would fail: each requires counters that only well-formed
//! messages can raise.

use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use wire::{NodeId, NodeName, codec};

/// The first byte of datagrams and streams: the component that they are for.
const FOR_MEMBERSHIP: u8 = 0;
const FOR_TABLES: u8 = 1;

/// An attachment: owner, generation, epoch.
pub(super) type AttachmentId<'a> = (&'a str, u64, u64);

/// Updates of one network.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Bundle<'a> {
    pub(super) network: &'a str,
    pub(super) clock: u64,
    pub(super) relay: bool,
    pub(super) fingerprint: Option<u64>,
    pub(super) attachments: Vec<AttachmentId<'a>>,
    pub(super) tables: Vec<&'a str>,
    pub(super) high_watermarks: Vec<(u32, u64)>,
    pub(super) superseded: Vec<(u32, u64, u64)>,
    pub(super) events: Vec<Event<'a>>,
}

/// One write.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Event<'a> {
    pub(super) attachment: u32,
    pub(super) number: u64,
    /// The bundle's clock minus the event's time.
    pub(super) age: u64,
    pub(super) table: u32,
    pub(super) key: &'a str,
    pub(super) body: Body<'a>,
    pub(super) replaced: Vec<(u32, u64)>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) enum Body<'a> {
    Value(&'a [u8]),
    #[expect(dead_code, reason = "keeps the index of the other variant")]
    Deleted {
        residual_ms: u64,
    },
}

#[derive(Serialize)]
enum TablesDatagram<'a, 'b> {
    Gossip(&'b Bundle<'a>),
    AttachmentLists {
        attachment_lists: Vec<AttachmentList>,
        high_watermarks: Vec<(NodeId, u64)>,
        relay: bool,
    },
}

/// The attachment list of a node: owner, version, and each network with its epoch.
#[derive(Debug, Clone, Serialize)]
pub(super) struct AttachmentList {
    pub(super) owner: NodeId,
    pub(super) version: u64,
    pub(super) networks: Vec<(String, u64)>,
}

impl Bundle<'_> {
    /// As a datagram of gossip.
    pub(super) fn datagram(&self) -> Vec<u8> {
        let mut bytes = vec![FOR_TABLES];
        codec::encode_into(&TablesDatagram::Gossip(self), &mut bytes);
        bytes
    }
}

/// Attachment lists as a datagram of gossip.
pub(super) fn attachment_lists(attachment_lists: Vec<AttachmentList>) -> Vec<u8> {
    let mut bytes = vec![FOR_TABLES];
    codec::encode_into(
        &TablesDatagram::AttachmentLists { attachment_lists, high_watermarks: Vec::new(), relay: true },
        &mut bytes,
    );
    bytes
}

#[derive(Serialize)]
struct NodeRecord {
    id: NodeId,
    address: SocketAddr,
    labels: BTreeMap<String, String>,
}

/// Claims about a node in a packet of membership, in the order of the variants on the wire.
#[derive(Serialize)]
#[expect(dead_code, reason = "the first variants keep the indexes of the others")]
enum Message {
    Ping,
    PingRequest,
    Ack,
    Nack,
    Alive { record: NodeRecord, incarnation: u64 },
    Suspect { id: NodeId, incarnation: u64, accuser: NodeName },
    Failed { id: NodeId, incarnation: u64, accuser: NodeName },
    Left { id: NodeId, incarnation: u64 },
}

/// An untrue claim about a node.
#[derive(Debug, Clone)]
pub(super) enum FalseClaim {
    /// It is alive, here.
    Alive(SocketAddr),
    /// It does not answer.
    Suspect(NodeName),
    /// It has failed.
    Failed(NodeName),
    /// It has left.
    Left,
}

/// A membership datagram with this claim about an instance.
pub(super) fn claim(id: &NodeId, incarnation: u64, false_claim: FalseClaim) -> Vec<u8> {
    let id = id.clone();
    let message = match false_claim {
        FalseClaim::Alive(address) => {
            Message::Alive { record: NodeRecord { id, address, labels: BTreeMap::new() }, incarnation }
        }
        FalseClaim::Suspect(accuser) => Message::Suspect { id, incarnation, accuser },
        FalseClaim::Failed(accuser) => Message::Failed { id, incarnation, accuser },
        FalseClaim::Left => Message::Left { id, incarnation },
    };
    let packet = codec::encode(&vec![codec::encode(&message)]);
    let mut bytes = vec![FOR_MEMBERSHIP];
    bytes.extend_from_slice(&(packet.len() as u16).to_le_bytes());
    bytes.extend_from_slice(&packet);
    bytes
}

/// The beginning of a stream for tables, whose first frame declares a list of this length and ends
/// there.
pub(super) fn unbounded_list(length: u64) -> Vec<u8> {
    let mut bytes = vec![FOR_TABLES];
    // The variant of declined attachments: its first field is their number.
    codec::encode_into(&6_u32, &mut bytes);
    codec::encode_into(&length, &mut bytes);
    bytes
}
