//! The messages between replicas. Texts and values borrow from the received bytes.
//!
//! A datagram is one [`Datagram`]; a stream is a sequence of [`Frame`]s, each at most [`FRAME_BUDGET`] bytes,
//! except a frame with a single larger entry. Only `wire::codec` knows their encoding.

use serde::{Deserialize, Serialize};
use wire::{NodeId, NodeName, codec};

/// The size up to which a frame is filled, in bytes: large enough to keep a stream busy, small enough that
/// the lock is held for less than a millisecond while the frame is built or applied.
pub(crate) const FRAME_BUDGET: usize = 64 << 10;

/// The identity of an attachment on the wire.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct AttachmentId<'a> {
    #[serde(borrow)]
    pub(crate) owner: &'a str,
    pub(crate) generation: u64,
    pub(crate) epoch: u64,
}

/// A delta of one network: the content of gossip and of sync chunks.
///
/// Attachments and tables are named once; the rest refers to them by their index. `events` comes last, so
/// that a bundle can be encoded while its events are selected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bundle<'a> {
    #[serde(borrow)]
    pub(crate) network: &'a str,
    /// The sender's clock; times are encoded as distances from it.
    pub(crate) clock: u64,
    /// Whether the receiver relays the updates that are new to it. False where the sender reaches all members
    /// itself.
    pub(crate) relay: bool,
    /// The fingerprint of everything the sender holds of the network, if it is quiescent; sent with high
    /// watermarks.
    pub(crate) fingerprint: Option<u64>,
    #[serde(borrow)]
    pub(crate) attachments: Vec<AttachmentId<'a>>,
    #[serde(borrow)]
    pub(crate) tables: Vec<&'a str>,
    /// (attachment, greatest number seen): a receiver that has seen less pulls.
    pub(crate) watermarks: Vec<(u32, u64)>,
    /// (attachment, first, last): seen by the sender, and superseded or deleted.
    pub(crate) superseded: Vec<(u32, u64, u64)>,
    #[serde(borrow)]
    pub(crate) events: Vec<Event<'a>>,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event<'a> {
    pub(crate) attachment: u32,
    pub(crate) number: u64,
    /// The bundle's clock minus the event's Lamport time.
    pub(crate) age: u64,
    pub(crate) table: u32,
    #[serde(borrow)]
    pub(crate) key: &'a str,
    #[serde(borrow)]
    pub(crate) body: EventBody<'a>,
    /// The dots that the writer's store held under the key, as (attachment, number).
    pub(crate) replaced: Vec<(u32, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EventBody<'a> {
    Value(#[serde(borrow, serialize_with = "codec::serialize_bytes")] &'a [u8]),
    Deleted { residual_ms: u64 },
}

/// The networks of one node; only that node issues versions of it. A higher (generation, version) replaces
/// the whole list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct AttachmentList {
    pub(crate) owner: NodeId,
    pub(crate) version: u64,
    /// Ascending by name, with the epoch of each.
    pub(crate) networks: Vec<(String, u64)>,
}

/// The version up to which the sender knows a node's attachment list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct ListVersion {
    pub(crate) owner: NodeId,
    pub(crate) version: u64,
}

/// The digest attached to probes and acknowledgements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    pub(crate) generation: u64,
    /// The version of the sender's own attachment list.
    pub(crate) version: u64,
    /// A digest of the versions of all attachment lists that the sender knows, including its own.
    pub(crate) lists: u64,
    /// (digest of the network's name, fingerprint) of the quiescent networks shared with the receiver.
    pub(crate) fingerprints: Vec<(u64, u64)>,
}

/// The content of a datagram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Datagram<'a> {
    Gossip(#[serde(borrow)] Bundle<'a>),
    /// Attachment lists, and the versions of those too long for a datagram: a receiver that knows less asks
    /// for them.
    Lists {
        lists: Vec<AttachmentList>,
        versions: Vec<ListVersion>,
        relay: bool,
    },
    /// The settled part of a network's attachments, sent while the network is not quiescent.
    Settled {
        #[serde(borrow)]
        network: &'a str,
        settled: Vec<Settled>,
    },
}

/// The live numbers of an attachment up to a number up to which the sender has seen all for some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settled {
    /// A digest of the attachment's identity. A collision costs a needless sync.
    pub(crate) attachment: u32,
    pub(crate) upto: u64,
    /// The digest of the live numbers up to it.
    pub(crate) live: u32,
}

/// The purpose of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum SessionKind {
    /// Both sides exchange all updates that the other lacks, and compare their live numbers.
    Full,
    /// The opener asks for updates that it lacks.
    Pull,
    /// The opener has more updates than datagrams can carry. If `relay`, the receiver pushes them on once.
    Push { relay: bool },
    /// An exchange of the attachment lists of all nodes.
    Lists,
}

/// The opener's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Open<'a> {
    pub(crate) kind: SessionKind,
    /// Empty for an exchange of lists.
    #[serde(borrow)]
    pub(crate) network: &'a str,
    pub(crate) clock: u64,
    /// The opener's own attachment to the network, which the responder may not know yet.
    pub(crate) generation: u64,
    pub(crate) epoch: u64,
    /// The opener's fingerprint of the network.
    pub(crate) fingerprint: u64,
    /// Only the anti-entropy period caused this sync, no known difference: a busy responder may turn it away.
    pub(crate) periodic: bool,
    /// The opener's wall clock, in microseconds since 1970, for operators.
    pub(crate) wall: u64,
    /// The opener's claim about its own copy.
    #[serde(borrow)]
    pub(crate) standing: Standing<'a>,
}

/// A node's claim about its own copy of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing<'a> {
    Synchronised,
    /// Its initial sync has not completed. It holds what these nodes held, which are not synchronised either.
    Unsynchronised(#[serde(borrow)] Vec<&'a str>),
    /// It is about to drop everything.
    Leaving,
}

impl Open<'_> {
    /// An exchange of attachment lists, which is about no network.
    pub(crate) fn lists(clock: u64, generation: u64, wall: u64) -> Self {
        Self {
            kind: SessionKind::Lists,
            network: "",
            clock,
            generation,
            epoch: 0,
            fingerprint: 0,
            periodic: false,
            wall,
            standing: Standing::Synchronised,
        }
    }
}

/// One attachment in the version vector of a side. Fragmented ones are sent in several parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionVectorEntry<'a> {
    #[serde(borrow)]
    pub(crate) attachment: AttachmentId<'a>,
    /// The version of the owner's attachment list, as known to the sender.
    pub(crate) list_version: u64,
    /// Whether the sender shows its entries.
    pub(crate) shown: bool,
    /// The numbers seen, as inclusive ranges.
    pub(crate) seen: Vec<(u64, u64)>,
}

/// A range of numbers of one attachment, for comparing live numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Span {
    /// The index of the attachment in the latest `Compare`.
    pub(crate) attachment: u32,
    pub(crate) low: u64,
    pub(crate) high: u64,
}

/// The live numbers in a span: exactly if they are few, else as digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum SpanState {
    /// The digests of equal parts of the span.
    Parts(Vec<(Span, u64)>),
    /// The numbers seen and the live ones, read in one step: a number that is seen and not live is
    /// superseded. Each live number comes with the digest of its record.
    Exact { span: Span, seen: Vec<(u64, u64)>, live: Vec<(u64, u32)> },
}

/// One frame of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Frame<'a> {
    Open(#[serde(borrow)] Open<'a>),
    /// The fingerprints are equal: nothing to sync.
    Equal {
        clock: u64,
        /// The attachments that the sender does not show; the receiver may show all others. `None` if they
        /// are too many for a frame: then it may show only the sender's own.
        #[serde(borrow)]
        hidden: Option<Vec<AttachmentId<'a>>>,
    },
    /// Not now: too many sessions are open, or membership has not reported the opener yet.
    Busy,
    /// The receiver has opened a full sync with the opener at the same time, which goes on.
    OpenedElsewhere,
    /// The receiver is not on that network, as its attachment list shows.
    NotMember(AttachmentList),
    /// Part of a side's version vector; `last` marks the final part.
    VersionVector {
        clock: u64,
        #[serde(borrow)]
        entries: Vec<VersionVectorEntry<'a>>,
        last: bool,
    },
    /// Attachments of which the sender of this frame would refuse events.
    Decline(#[serde(borrow)] Vec<AttachmentId<'a>>),
    /// Attachment lists of which the receiver knows an older version.
    Lists(Vec<AttachmentList>),
    /// Part of the known list versions; `last` marks the final part.
    ListVersions {
        versions: Vec<ListVersion>,
        last: bool,
    },
    /// The owners of lists that the sender asks for.
    WantLists(Vec<NodeName>),
    /// Part of the updates that the receiver lacks.
    Chunk(#[serde(borrow)] Bundle<'a>),
    /// All updates that the receiver lacked have been sent.
    ChunksDone,
    /// From the opener: spans of the attachments named here, each with the opener's digest of its live
    /// numbers.
    Compare {
        #[serde(borrow)]
        attachments: Vec<AttachmentId<'a>>,
        spans: Vec<(Span, u64)>,
    },
    /// The response: the number of spans that were compared, and the state of those that differ. Spans refer
    /// to the attachments that the opener named.
    Compared {
        looked_at: u32,
        states: Vec<SpanState>,
        /// Digests of the keys under which the sender refuses writes: the receiver drops no entries of third
        /// nodes under them.
        refused_keys: Vec<u64>,
    },
    /// From the opener: its own exact state of spans that differ, referring to the same attachments.
    DeadSpans {
        states: Vec<SpanState>,
        /// As in [`Frame::Compared`].
        refused_keys: Vec<u64>,
    },
    /// From the opener: the comparison is complete.
    Close,
    /// To the opener's `Close`, or to `ChunksDone` where nothing is compared: everything has been applied.
    Done,
    /// The responder's wall clock, in microseconds since 1970, for operators. Sent if the opener's clock
    /// differs notably.
    WallClock {
        wall: u64,
    },
    /// From the responder, before its response, unless it is synchronised.
    Standing(#[serde(borrow)] Standing<'a>),
}
