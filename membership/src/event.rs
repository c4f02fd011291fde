//! What the owner of the machine is told, and what it is asked to do.

use std::net::SocketAddr;

use wire::{Destination, NodeId, NodeName, StreamId};

use crate::member::NodeRecord;

/// Something that happened to the membership, in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A node became a member that was not known, or whose earlier life had left or been forgotten.
    Joined(NodeRecord),
    /// A member changed its address or labels.
    Updated(NodeRecord),
    /// A member did not answer a probe. It stays a member, and has some seconds to object.
    Suspected(NodeId),
    /// A suspected member objected: it is alive.
    Refuted(NodeId),
    /// A member has failed. It is kept for a day, for it may return.
    Failed(NodeId),
    /// Another's list told of a node that had failed before this one knew it. It is kept as long as those who knew it keep
    /// it, for it may return.
    LearnedFailed(NodeRecord),
    /// A member said good-bye. This life of it never returns.
    Left(NodeId),
    /// A failed member is back, in the same life.
    Returned(NodeRecord),
    /// A later life has taken the place of one that was a member or had failed: whatever belonged to the old is over.
    Replaced {
        /// The life that is over.
        old: NodeId,
        /// The life that is a member now.
        new: NodeRecord,
    },
    /// A member that failed or left long ago is no longer kept.
    Forgotten(NodeId),
    /// A seed answered, and the member lists have been exchanged.
    SeedAnswered {
        /// The address given to `join`.
        address: SocketAddr,
        /// Who answered there.
        id: NodeId,
    },
    /// A seed did not answer, or refused. Told once when it is first tried in vain and once when it is given up.
    SeedFailed {
        /// The address given to `join`.
        address: SocketAddr,
        /// Why.
        reason: SeedFailure,
        /// Whether it is still being tried. If not, it will be again after `rejoin_interval`, if by then no seed is a
        /// member.
        retrying: bool,
    },
    /// None of the seeds is a member. They are being tried again where they were; names should be resolved anew and
    /// given to `join`.
    SeedsMissing,
    /// Two living nodes bear one name. Told at most once per `conflict_report_interval` and name.
    NameConflict(NameConflict),
    /// This node has taken a later life, because the others knew one of its name that was not earlier.
    GenerationRaised(NodeId),
    /// Enough members know that this node has left, or the time for it is over.
    LeaveCompleted,
}

/// Two living nodes bear one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameConflict {
    /// The name.
    pub name: NodeName,
    /// Which side this node is on.
    pub role: ConflictRole,
    /// Where the node is that keeps the name.
    pub owner: SocketAddr,
    /// Where the node is that was refused, or has been superseded.
    pub claimant: SocketAddr,
}

impl std::fmt::Display for NameConflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, owner, claimant, .. } = self;
        write!(
            f,
            "two living nodes are called {name}: the one at {owner} keeps the name, the one at {claimant} "
        )?;
        write!(f, "is refused; give one of them another name")
    }
}

/// Which side of a name conflict this node is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictRole {
    /// It keeps the name.
    Owner,
    /// It was refused, or superseded.
    Claimant,
    /// It found out, and refused the claimant.
    Witness,
}

/// Why a seed did not take us in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeedFailure {
    /// The address is this node's own.
    #[error("it is this node itself")]
    Ourselves,
    /// No stream could be opened, or it broke.
    #[error("it is not reachable, or the connection broke")]
    Unreachable,
    /// Nothing came for too long.
    #[error("it did not answer in time")]
    TimedOut,
    /// What it sent was not understood.
    #[error("it sent something that was not understood")]
    Misunderstood,
    /// It has no room for another member.
    #[error("it has no room for another member")]
    Full,
    /// It is about to leave.
    #[error("it is leaving the cluster")]
    Leaving,
    /// It found this node's record not valid.
    #[error("it finds this node's record not valid")]
    Invalid,
    /// The holder of this node's name is being probed.
    #[error("another node of this name is being probed")]
    Pending,
    /// It knows a later life of this node.
    #[error("it knows a later life of this node")]
    Outdated,
    /// Another living node has this node's name.
    #[error("the name is in use by a living node at {owner}")]
    NameInUse {
        /// Where that node is.
        owner: SocketAddr,
    },
}

/// Something to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transmit {
    /// Send these bytes, all or none of them; they may be lost.
    Datagram {
        /// To be given to `handle_unsent` if it is already known here that they cannot be sent.
        id: u64,
        /// Where to. The name matters as much as the address: a node of the same name elsewhere must not get it.
        to: Destination,
        /// At most `datagram_budget` bytes, less `piggyback_reserve` for probes and their answers.
        bytes: Vec<u8>,
        /// What they are for.
        purpose: Purpose,
    },
    /// Open a bidirectional stream, say who answered with `handle_stream_connected`, then move frames.
    OpenStream {
        /// This machine's number for it.
        stream: StreamId,
        /// Where to.
        to: Destination,
    },
    /// Break off the stream in both directions. Nothing more needs to be said about it.
    CloseStream {
        /// Which one.
        stream: StreamId,
    },
}

/// What a datagram is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It asks for an answer, and somebody is accused if there is none: never shed it.
    Probe,
    /// It answers a probe.
    Ack,
    /// It carries news; what is lost is sent again.
    Gossip,
}

/// Counters since the machine was made. They never go back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Probes started.
    pub probes: u64,
    /// Probes of which the direct answer was late, so that others and the reliable path were asked.
    pub probe_fallbacks: u64,
    /// Probes without any answer.
    pub probes_failed: u64,
    /// Probes by a lost connection that were left to the ring, because enough were under way.
    pub hints_dropped: u64,
    /// Answers that came after the verdict, or that nobody waited for.
    pub late_answers: u64,
    /// Probes made for others.
    pub relayed_probes: u64,
    /// Requests to probe for others that were dropped, because enough were under way.
    pub relayed_probes_dropped: u64,
    /// Suspicions that began here, own and learned.
    pub suspicions: u64,
    /// Independent confirmations of suspicions.
    pub confirmations: u64,
    /// Members that failed by this node's own verdict.
    pub failures_declared: u64,
    /// Claims about this node that it refuted.
    pub refutations: u64,
    /// Times this process was found to have stood still.
    pub stalls: u64,
    /// Later lives this node took.
    pub generations_raised: u64,
    /// Reports of name conflicts.
    pub name_conflicts: u64,
    /// Newcomers refused because as many were waiting as may.
    pub pending_joins_refused: u64,
    /// Newcomers refused because there was no room for another member.
    pub members_refused: u64,
    /// Messages telling a node what is held against it.
    pub notices: u64,
    /// Such messages dropped because too many were queued.
    pub notices_dropped: u64,
    /// News dropped because too much was queued.
    pub broadcasts_dropped: u64,
    /// Datagrams dropped because too many waited to be polled.
    pub transmits_dropped: u64,
    /// Datagrams reported as not sent.
    pub transmits_unsent: u64,
    /// Member lists compared because fingerprints differed.
    pub repairs: u64,
    /// Comparisons of member lists that this node started.
    pub syncs: u64,
    /// Comparisons that ended without lists because the fingerprints agreed.
    pub syncs_equal: u64,
    /// Streams of others closed at once, because as many were open as may.
    pub streams_refused: u64,
    /// Streams given up because nothing moved, or for too long.
    pub streams_timed_out: u64,
    /// Packets received.
    pub packets: u64,
    /// Messages received that were understood.
    pub messages: u64,
    /// Packets, messages and frames that did not decode or had no place where they came.
    pub malformed: u64,
    /// Messages in which a node spoke as another.
    pub wrong_name: u64,
    /// Claims about third parties, and requests to probe them, from peers that are not members.
    pub refused_not_member: u64,
    /// Probes meant for another node.
    pub misdirected: u64,
    /// Claims that were older than what is known.
    pub stale: u64,
    /// Claims with an absurd generation or incarnation, or a record that is not valid.
    pub invalid: u64,
}
