//! What replicas say to each other. Texts and values borrow from the bytes they came in.
//!
//! A datagram is one [`Datagram`]; a stream is a sequence of [`Frame`]s, each bounded by [`FRAME_BUDGET`] but for a
//! frame with a single larger entry. Only `wire::codec` knows how they become bytes.

use serde::{Deserialize, Serialize};
use wire::{NodeId, NodeName};

/// What a frame is filled up to, in bytes: large enough to keep a stream busy, small enough that the lock it is made
/// and applied under is held for less than a millisecond.
pub(crate) const FRAME_BUDGET: usize = 64 << 10;

/// An attachment, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct AttachmentId<'a> {
    #[serde(borrow)]
    pub(crate) owner: &'a str,
    pub(crate) generation: u64,
    pub(crate) epoch: u64,
}

/// News of one network: what gossip and sync both carry.
///
/// Attachments and tables are named once and then referred to by their place in the list. `events` comes last, so
/// that a bundle can be written while the events are picked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bundle<'a> {
    #[serde(borrow)]
    pub(crate) network: &'a str,
    /// The sender's clock; times are told as distances from it.
    pub(crate) clock: u64,
    /// Whether the receiver is to pass on what is news to it. Not where the sender reaches all members itself.
    pub(crate) relay: bool,
    /// Of everything the sender holds of the network, if it has been still of late; rides on heads.
    pub(crate) fingerprint: Option<u64>,
    #[serde(borrow)]
    pub(crate) attachments: Vec<AttachmentId<'a>>,
    #[serde(borrow)]
    pub(crate) tables: Vec<&'a str>,
    /// (attachment, greatest number seen): whoever has seen less asks.
    pub(crate) heads: Vec<(u32, u64)>,
    /// (attachment, first, last): seen by the sender, and dead.
    pub(crate) dead: Vec<(u32, u64, u64)>,
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
    /// What the writer's store held under the key, as (attachment, number).
    pub(crate) replaced: Vec<(u32, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EventBody<'a> {
    Value(#[serde(borrow)] &'a [u8]),
    Deleted { residual_ms: u64 },
}

/// The networks one node is on, told by that node alone. A higher (generation, version) replaces the whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct List {
    pub(crate) owner: NodeId,
    pub(crate) version: u64,
    /// Ascending by name, with the epoch of each.
    pub(crate) networks: Vec<(String, u64)>,
}

/// How far somebody's knowledge of a node's list goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListHead {
    pub(crate) owner: NodeId,
    pub(crate) version: u64,
}

/// What rides along with probes and acknowledgements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    pub(crate) generation: u64,
    /// The version of the sender's own list.
    pub(crate) version: u64,
    /// A digest of the versions of all lists the sender knows, its own included.
    pub(crate) lists: u64,
    /// (digest of the network's name, fingerprint) of networks shared with the receiver that have been still of late.
    pub(crate) fingerprints: Vec<(u64, u64)>,
}

/// The content of a datagram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Datagram<'a> {
    Gossip(#[serde(borrow)] Bundle<'a>),
    /// Lists, and the versions of those too long for a datagram: whoever knows less asks.
    Lists {
        lists: Vec<List>,
        heads: Vec<ListHead>,
        relay: bool,
    },
    /// What is settled of a network's attachments, in one that is never still.
    Settled {
        #[serde(borrow)]
        network: &'a str,
        settled: Vec<Settled>,
    },
}

/// What is live of an attachment up to a number, up to which the sender has seen everything for some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settled {
    /// A digest of whose it is. Two that are taken for each other cost a needless sync.
    pub(crate) attachment: u32,
    pub(crate) upto: u64,
    /// The digest of the live numbers up to it.
    pub(crate) live: u32,
}

/// What a stream is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SessionKind {
    /// Both sides tell each other everything, and compare what is live.
    Full,
    /// The opener lacks something and asks for it.
    Pull,
    /// The opener has more news than datagrams can carry. If `relay`, the receiver is to push it on once.
    Push { relay: bool },
    /// The lists of all nodes.
    Lists,
}

/// The opener's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Open<'a> {
    pub(crate) kind: SessionKind,
    /// Empty for lists.
    #[serde(borrow)]
    pub(crate) network: &'a str,
    pub(crate) clock: u64,
    /// The opener's own attachment to the network: it may be news to the other side.
    pub(crate) generation: u64,
    pub(crate) epoch: u64,
    /// Of the network, at the opener.
    pub(crate) fingerprint: u64,
    /// Nothing seems to be amiss: who has better to do may say so.
    pub(crate) periodic: bool,
    /// What the opener's wall clock shows, in microseconds since 1970: for people.
    pub(crate) wall: u64,
    /// What the opener says of its own copy.
    #[serde(borrow)]
    pub(crate) standing: Standing<'a>,
}

/// What a node says of its own copy of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing<'a> {
    Synchronised,
    /// Its first sync is not over. It holds what these held, who are not synchronised either.
    Unsynchronised(#[serde(borrow)] Vec<&'a str>),
    /// It is about to drop everything.
    Leaving,
}

impl Open<'_> {
    /// An exchange of lists, which is about no network.
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

/// What one side holds of one attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holding<'a> {
    #[serde(borrow)]
    pub(crate) attachment: AttachmentId<'a>,
    /// The version of the owner's list, as known here.
    pub(crate) list_version: u64,
    /// Whether its entries are shown here.
    pub(crate) shown: bool,
    /// What has been seen of it, as inclusive ranges.
    pub(crate) context: Vec<(u64, u64)>,
}

/// A range of numbers of one attachment, for comparing what is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    /// The place of the attachment in the list of the latest `Compare`.
    pub(crate) attachment: u32,
    pub(crate) low: u64,
    pub(crate) high: u64,
}

/// What is live in a span, and if it is little, exactly what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SpanState {
    /// The digests of equal parts of the span.
    Parts(Vec<(Span, u64)>),
    /// What is seen and what is live, read in one step: what is seen and not live is dead. With each live number the digest of its
    /// record.
    Exact { span: Span, seen: Vec<(u64, u64)>, live: Vec<(u64, u32)> },
}

/// One frame of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Frame<'a> {
    Open(#[serde(borrow)] Open<'a>),
    /// Nothing to do: the fingerprints are equal.
    Equal {
        clock: u64,
        /// The attachments that the sender does not show; for all others it vouches. `None` if they are too many for a
        /// frame: then it vouches only for its own.
        #[serde(borrow)]
        hidden: Option<Vec<AttachmentId<'a>>>,
    },
    /// Not now: there are too many sessions, or membership has not told of the opener yet.
    Busy,
    /// The receiver has opened a full session to the opener at the same time, and that one goes on.
    OpenedElsewhere,
    /// The receiver is not on that network; its list says so.
    NotMember(List),
    /// Part of what a side holds; `last` ends it.
    Holdings {
        clock: u64,
        #[serde(borrow)]
        holdings: Vec<Holding<'a>>,
        last: bool,
    },
    /// Attachments whose events the sender of this frame would refuse.
    Decline(#[serde(borrow)] Vec<AttachmentId<'a>>),
    /// Lists that the other side knows less of.
    Lists(Vec<List>),
    /// Part of the known list versions; `last` ends it.
    ListHeads {
        heads: Vec<ListHead>,
        last: bool,
    },
    /// Lists that are wanted.
    WantLists(Vec<NodeName>),
    /// Part of what the other side lacks.
    Chunk(#[serde(borrow)] Bundle<'a>),
    /// Everything the other side lacked has been sent.
    ChunksDone,
    /// From the opener: spans of the attachments named here, each with the digest of what is live in it there.
    Compare {
        #[serde(borrow)]
        attachments: Vec<AttachmentId<'a>>,
        spans: Vec<(Span, u64)>,
    },
    /// The answer: how many of the spans were looked at, and the state of those that differ. Spans refer to the
    /// attachments that the opener named.
    Compared {
        looked_at: u32,
        states: Vec<SpanState>,
        /// Digests of the keys under which the sender refuses writes: of others' entries it calls nothing there dead.
        refused_keys: Vec<u64>,
    },
    /// From the opener: its own exact state of spans that differ, referring to the same attachments.
    Told {
        states: Vec<SpanState>,
        /// As in [`Frame::Compared`].
        refused_keys: Vec<u64>,
    },
    /// From the opener: all is compared.
    Bye,
    /// To the opener's `Bye`, or `ChunksDone` where nothing is compared: all of it has been applied.
    Done,
    /// The answerer's wall clock, in microseconds since 1970, for people: told to an opener whose clock shows something else.
    WallClock {
        wall: u64,
    },
    /// From the responder, before its answer, if it is not simply synchronised.
    Standing(#[serde(borrow)] Standing<'a>),
}
