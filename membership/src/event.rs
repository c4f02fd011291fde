//! Events that the machine reports to its caller, and the transmissions it requests.

use std::net::SocketAddr;

use wire::{Destination, NodeId, NodeName, StreamId};

use crate::member::NodeRecord;

/// A change of the membership. Events are reported in the order in which they happened.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: a driver of tables has to decide about each.
pub enum Event {
    /// A node became a member; it was unknown before, or its earlier instance had left or been
    /// removed.
    Joined(NodeRecord),
    /// A member changed its address or labels.
    Updated(NodeRecord),
    /// A member did not answer a probe. It remains a member and has some seconds to refute the
    /// suspicion.
    Suspected(NodeId),
    /// A suspected member refuted the suspicion: it is alive.
    Refuted(NodeId),
    /// A member failed. It is kept for a day because it may return.
    Failed(NodeId),
    /// A peer's member list contained a node that had failed before this node knew it. It is kept
    /// as long as the peers that knew it keep it, because it may return.
    LearnedFailed(NodeRecord),
    /// A member left. This instance never returns.
    Left(NodeId),
    /// A failed member returned as the same instance.
    Returned(NodeRecord),
    /// A later instance replaced one that was a member or had failed: all state of the old one is
    /// obsolete.
    Replaced {
        /// The instance that ended.
        old: NodeId,
        /// The record of the instance that is a member now.
        new: NodeRecord,
    },
    /// A member that failed or left was removed because its retention expired.
    Forgotten(NodeId),
    /// A seed answered and the member lists were exchanged.
    SeedAnswered {
        /// The address given to `join`.
        address: SocketAddr,
        /// The node that answered.
        id: NodeId,
    },
    /// A seed did not answer or refused. Reported once when the first attempt fails and once when
    /// the attempts end.
    SeedFailed {
        /// The address given to `join`.
        address: SocketAddr,
        /// The reason.
        reason: SeedFailure,
        /// Whether attempts continue. If not, they start again after `rejoin_interval` if no seed
        /// is a member by then.
        retrying: bool,
    },
    /// No seed is a member. The known addresses are being retried; the caller should resolve the
    /// names again and pass the result to `join`.
    SeedsMissing,
    /// Two live nodes use the same name. Reported at most once per name and
    /// `conflict_report_interval`.
    NameConflict(NameConflict),
    /// This node started a later instance because peers know an instance of its name that is not
    /// earlier.
    GenerationRaised(NodeId),
    /// Enough members acknowledged that this node left, or leaving timed out.
    LeaveCompleted,
}

/// Two live nodes use the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameConflict {
    /// The name.
    pub name: NodeName,
    /// The role of this node.
    pub role: ConflictRole,
    /// The address of the node that keeps the name.
    pub owner: SocketAddr,
    /// The address of the node that was refused or superseded.
    pub claimant: SocketAddr,
}

impl std::fmt::Display for NameConflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, owner, claimant, .. } = self;
        write!(
            f,
            "two live nodes use the name {name}: the node at {owner} keeps it, the node at {claimant} "
        )?;
        write!(f, "is refused; give one of them another name")
    }
}

/// The role of this node in a name conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
// Exhaustive: a conflict has these three sides.
pub enum ConflictRole {
    /// This node keeps the name.
    Owner,
    /// This node was refused or superseded.
    Claimant,
    /// This node detected the conflict and refused the claimant.
    Witness,
}

/// Why joining through a seed failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SeedFailure {
    /// The address is this node's own.
    #[error("it is this node itself")]
    Ourselves,
    /// The stream could not be opened, or it broke.
    #[error("it is not reachable, or the connection broke")]
    Unreachable,
    /// The seed did not answer in time.
    #[error("it did not answer in time")]
    TimedOut,
    /// The seed's answer was invalid.
    #[error("it sent an invalid message")]
    Misunderstood,
    /// Its member table is full.
    #[error("its member table is full")]
    Full,
    /// It is leaving the cluster.
    #[error("it is leaving the cluster")]
    Leaving,
    /// It rejected this node's record as invalid.
    #[error("it rejects this node's record as invalid")]
    Invalid,
    /// The current owner of this node's name is being probed.
    #[error("another node of this name is being probed")]
    Pending,
    /// It knows a later instance of this node.
    #[error("it knows a later instance of this node")]
    Outdated,
    /// Another live node owns this node's name.
    #[error("the name is in use by a live node at {owner}")]
    NameInUse {
        /// The address of that node.
        owner: SocketAddr,
    },
}

/// A transmission that the caller must perform.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: a driver that ignored one would break the protocol.
pub enum Transmit {
    /// Send these bytes as one datagram; it may be lost.
    Datagram {
        /// Pass this to `handle_unsent` if the datagram could not be sent locally.
        id: u64,
        /// The destination. Both name and address must match: a node of this name at another
        /// address must not receive the datagram.
        to: Destination,
        /// At most `datagram_budget` bytes, less `piggyback_reserve` for probes and their answers.
        bytes: Vec<u8>,
        /// The purpose of the datagram.
        purpose: Purpose,
    },
    /// Open a bidirectional stream, report the peer with `handle_stream_connected`, then transfer
    /// frames.
    OpenStream {
        /// This machine's number for it.
        stream: StreamId,
        /// The destination.
        to: Destination,
    },
    /// Abort the stream in both directions. No further call for it is needed.
    CloseStream {
        /// The stream.
        stream: StreamId,
    },
}

/// The purpose of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
// Exhaustive: a driver decides for each what it may drop.
pub enum Purpose {
    /// It expects an answer, and its target is suspected if none arrives: never drop it under load.
    Probe,
    /// It answers a probe.
    Ack,
    /// It carries updates; lost updates are retransmitted.
    Gossip,
}

wire::counters! {
    /// Counters since the machine was created. They never decrease.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    #[non_exhaustive]
    pub struct Statistics {
        /// Probes started.
        probes,
        /// Probes whose direct answer was late, so that indirect probes and a stream were used.
        probe_fallbacks,
        /// Probes that received no answer.
        probes_failed,
        /// Answers to probes that arrived after the timeout or were not expected.
        late_responses,
        /// Indirect probes made for other nodes.
        relayed_probes,
        /// Suspicions started, both own and received.
        suspicions,
        /// Independent confirmations of suspicions received.
        confirmations,
        /// Members that this node declared failed after its own suspicion timeout.
        failures_declared,
        /// Claims about this node that it refuted.
        refutations,
        /// Stalls of this process that were detected.
        stalls,
        /// Later instances this node started because peers knew one of its name that was not earlier.
        generations_raised,
        /// Name conflicts reported.
        name_conflicts,
        /// Messages that sent a node the claim about itself.
        notices,
        /// Datagrams that the caller reported as not sent.
        transmits_unsent,
        /// Comparisons of member lists started because digests differed.
        repairs,
        /// Comparisons of member lists that this node started.
        syncs,
        /// Comparisons of member lists that ended without lists because the digests agreed.
        syncs_equal,
        /// Inbound streams closed at once because the limit was reached.
        streams_refused,
        /// Streams aborted because they made no progress or exceeded their time limit.
        streams_timed_out,
        /// Packets received.
        packets,
        /// Messages received and decoded.
        messages,
    }
    /// Joining nodes that were refused because of a limit.
    joins_refused by limit {
        /// Joining nodes refused because too many waited for a probe of the current owner of their
        /// name.
        joins_refused_pending,
        /// Joining nodes refused because the member table was full.
        joins_refused_members,
    }
    /// What was not sent or not begun because a queue or a limit was full.
    dropped by queue {
        /// Out-of-turn probes that were not started because the limit was reached.
        dropped_hints,
        /// Indirect probe requests dropped because the limit was reached.
        dropped_relayed_probes,
        /// Messages with a claim about their receiver that were dropped because the queue was full.
        dropped_notices,
        /// Updates dropped because the gossip queue was full.
        dropped_updates,
        /// Datagrams dropped because the transmit queue was full.
        dropped_transmits,
    }
    /// Packets, messages, frames and claims of peers that changed nothing.
    ignored by reason {
        /// Packets, messages and frames that did not decode or were not expected.
        ignored_malformed,
        /// Messages in which a node used the name of another.
        ignored_wrong_name,
        /// Claims about third parties and indirect probe requests from peers that are not members.
        ignored_not_member,
        /// Probes addressed to another node.
        ignored_misdirected,
        /// Claims that were older than the known state.
        ignored_stale,
        /// Claims with a generation or incarnation above the limit, or with an invalid record.
        ignored_invalid,
    }
}
