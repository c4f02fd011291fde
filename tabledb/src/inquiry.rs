//! What one member of a network asks another about it. [`Replica::answer`](crate::Replica::answer) answers; the
//! caller moves questions and answers.
//!
//! A question is at most [`MAX_QUESTION_BYTES`], an answer about [`MAX_ANSWER_BYTES`]. New kinds go to the end of the
//! enums: a node that does not know a kind cannot decode it, and answers nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::NodeId;

use crate::{EntryExplanation, HiddenReason, Version};

/// The longest encoded question, in bytes.
pub const MAX_QUESTION_BYTES: usize = 128 << 10;

/// The size up to which an answer is filled, in bytes; one key more may follow.
pub const MAX_ANSWER_BYTES: usize = 256 << 10;

/// The most keys of one [`TableQuestion::Explain`].
pub const MAX_EXPLAINED_KEYS: usize = 32;

/// The most parts of one [`TableQuestion::Parts`], of all its attachments together.
pub const MAX_PARTS: usize = 8192;

/// A question about a network that both nodes have joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TableQuestion {
    /// What is known about these keys?
    Explain {
        /// The network.
        network: String,
        /// Tables and keys, at most [`MAX_EXPLAINED_KEYS`].
        keys: Vec<(String, String)>,
    },
    /// What is held, in brief?
    Digests {
        /// The network.
        network: String,
    },
    /// What is live in those parts of these attachments that differ from mine?
    Parts {
        /// The network.
        network: String,
        /// The attachments, with at most [`MAX_PARTS`] parts.
        attachments: Vec<AttachmentParts>,
    },
    /// Has this write of mine arrived? Answered when it has, or when the time is over.
    Known {
        /// The network.
        network: String,
        /// The write.
        version: Version,
        /// How long to wait for it.
        within: Duration,
    },
}

/// The live writes of one attachment as digests of equal parts of its numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AttachmentParts {
    /// The attachment's owner.
    pub owner: NodeId,
    /// Its epoch.
    pub epoch: u64,
    /// The numbers in a part. The first begins with 1, the last has no end.
    pub width: u64,
    /// The digest of the live numbers of each part.
    pub digests: Vec<u64>,
}

/// The answer to a [`TableQuestion`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TableAnswer {
    /// The answering node is not on the network, or does not know that the asking one is.
    NotMember,
    /// In the order of the keys.
    Explained(Vec<EntryExplanation>),
    /// What is held, in brief.
    Digests(NetworkDigests),
    /// The parts that differ.
    Parts(DifferingParts),
    /// Whether the write has arrived.
    Known(Possession),
}

/// Whether a node has a write of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Possession {
    /// It holds the write, or has seen one that supersedes it.
    Holds,
    /// The write has not arrived.
    Lacks,
    /// The node refuses the write, because of a limit or of its time.
    Refuses,
}

/// What a node holds of a network, in brief.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NetworkDigests {
    /// A digest of the visible entries, as [`NetworkStatistics::digest`](crate::NetworkStatistics::digest).
    pub digest: u64,
    /// Visible entries.
    pub entries: u64,
    /// Hidden entries.
    pub hidden: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Writes of other nodes that are refused.
    pub refused: u64,
    /// Whether the network has been synchronised with another member.
    pub synchronised: bool,
    /// The attachments with entries, by owner; the first ones, if not all fit.
    pub attachments: Vec<AttachmentDigest>,
    /// There are more attachments, which did not fit.
    pub more: bool,
}

/// The entries of one attachment, in brief.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AttachmentDigest {
    /// Its owner.
    pub owner: NodeId,
    /// Its epoch.
    pub epoch: u64,
    /// A digest of its live numbers and their records.
    pub live: u64,
    /// Its live entries.
    pub entries: u64,
    /// Why readers do not see them, if they do not.
    pub hidden: Option<HiddenReason>,
}

/// The parts of attachments that differ, with what is live in them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DifferingParts {
    /// The parts, in the order of the question.
    pub parts: Vec<PartContent>,
    /// There are more, which did not fit.
    pub more: bool,
}

/// What is live in a part of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PartContent {
    /// The index of the attachment in the question.
    pub attachment: u32,
    /// The index of the part.
    pub part: u32,
    /// Whether all of it is here, not only its first numbers.
    pub whole: bool,
    /// The live numbers, ascending.
    pub live: Vec<LiveWrite>,
}

/// A live write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LiveWrite {
    /// Its number.
    pub number: u64,
    /// The digest of its record.
    pub digest: u32,
    /// Its table.
    pub table: String,
    /// Its key.
    pub key: String,
}
