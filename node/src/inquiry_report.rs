//! What members answered to a question of this node.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use membership::MemberExplanation;
use tabledb::EntryExplanation;
use tabledb::inquiry::NetworkDigests;
use wire::NodeName;

/// The number of a running inquiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InquiryId(pub(crate) u64);

/// What one member answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberAnswer<T> {
    /// The member.
    pub member: NodeName,
    /// Its answer, or why there is none.
    pub answer: Result<T, NoAnswer>,
}

/// Why there is no answer of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoAnswer {
    /// It is known to have failed or left, and was not asked.
    #[error("it has failed or left")]
    Failed,
    /// It did not answer in time: it hangs, or is about to be found failed.
    #[error("it did not answer in time")]
    Late,
    /// No stream to it opened, or it closed the stream: it is down, or its version does not know the question.
    #[error("it cannot be reached, or closed the stream without an answer")]
    Unreachable,
    /// Enough others had answered before.
    #[error("enough other members had answered before")]
    NotAwaited,
    /// It answers as many questions as it may.
    #[error("it is busy with other questions")]
    Busy,
    /// It is not on the network, or does not know that this node is.
    #[error("it is not on the network, or does not know yet that this node is")]
    NotMember,
    /// It answered something else.
    #[error("its answer cannot be read")]
    Invalid,
}

/// Why nobody was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InquiryError {
    /// This node is not on the network.
    #[error("network {network} is not joined on this node")]
    NotJoined {
        /// The network in the request.
        network: String,
    },
    /// This node knows no such member.
    #[error("this node knows no member {name}")]
    UnknownMember {
        /// The name in the request.
        name: String,
    },
    /// As many questions are open as may be.
    #[error("this node asks {limit} questions already, its limit; ask again in a moment")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The node was stopped meanwhile.
    #[error("this node has been stopped")]
    Stopped,
}

/// Whether the members of a network show the same entries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgreementReport {
    /// The network.
    pub network: String,
    /// What each member holds, in brief, by name.
    pub members: Vec<MemberAnswer<NetworkDigests>>,
    /// Keys under which members that answered hold something else.
    pub differences: Vec<Difference>,
    /// There are more of them, or not all could be found in time.
    pub more: bool,
    /// How long this node has known that a member differs from it, without having asked; zero if it knows of none.
    pub disagreement: Duration,
}

impl AgreementReport {
    /// Whether all members that answered show the same entries.
    pub fn agree(&self) -> bool {
        let mut digests = self.members.iter().filter_map(|row| Some(row.answer.as_ref().ok()?.digest));
        let first = digests.next();
        digests.all(|digest| Some(digest) == first)
    }
}

/// A key under which members hold something else.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The table.
    pub table: String,
    /// The key.
    pub key: String,
    /// Why, as far as the answers tell.
    pub reason: DifferenceReason,
    /// What each member holds, by name.
    pub members: Vec<MemberAnswer<EntryExplanation>>,
}

/// Why members hold something else under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DifferenceReason {
    /// A member refuses a write under the key, because of a limit or of its time.
    Refused,
    /// A member hides the entry, because its owner has failed there or is not compared yet.
    Hidden,
    /// A member has not synchronised the network yet.
    Unsynchronised,
    /// Members hold two writes of one version: two processes took the same generation.
    Conflict,
    /// A member holds an older write, or none: the latest has not arrived there.
    NotArrived,
}

impl fmt::Display for DifferenceReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Refused => "a member refuses a write under this key, because of a limit or of its time",
            Self::Hidden => {
                "a member hides the entry: it considers the owner failed, or has not compared it yet"
            }
            Self::Unsynchronised => "a member has not synchronised the network yet",
            Self::Conflict => "two processes with the same name and generation wrote different values",
            Self::NotArrived => "the latest write has not arrived at a member",
        })
    }
}

/// How many members are to have a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KnownBy {
    /// All members of the network, also those that have failed.
    All,
    /// More than half of them.
    Majority,
    /// As many, this node included.
    Members(usize),
}

impl KnownBy {
    /// The number among so many members of a network, this node included.
    pub fn of(self, members: usize) -> usize {
        match self {
            Self::All => members,
            Self::Majority => members / 2 + 1,
            Self::Members(count) => count,
        }
    }
}

/// A text is not a number of members.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither all, majority nor a number of members from 1")]
pub struct KnownByError(String);

impl FromStr for KnownBy {
    type Err = KnownByError;

    fn from_str(text: &str) -> Result<Self, KnownByError> {
        match text {
            "all" => Ok(Self::All),
            "majority" => Ok(Self::Majority),
            number => match number.parse() {
                Ok(count) if count > 0 => Ok(Self::Members(count)),
                _ => Err(KnownByError(number.chars().take(64).collect())),
            },
        }
    }
}

impl fmt::Display for KnownBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.pad("all"),
            Self::Majority => f.pad("majority"),
            Self::Members(count) => write!(f, "{count}"),
        }
    }
}

/// Which members have a write.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// As many members were to have it, this node included.
    pub wanted: usize,
    /// The members that have it, this node included, by name.
    pub known_by: Vec<NodeName>,
    /// The members of which this is not known.
    pub missing: Vec<(NodeName, Missing)>,
}

impl Receipt {
    /// Whether as many members have it as were wanted.
    pub fn is_complete(&self) -> bool {
        self.known_by.len() >= self.wanted
    }
}

/// Why a member is not known to have a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {
    /// It has not arrived there.
    #[error("it has not arrived there")]
    NotArrived,
    /// The member refuses it.
    #[error("the member refuses it, because of a limit or of its time")]
    Refused,
    /// The member gave no answer.
    #[error(transparent)]
    NoAnswer(NoAnswer),
}

/// The result of an inquiry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InquiryReport {
    /// What each member of the network knows about an entry.
    Entry(Vec<MemberAnswer<EntryExplanation>>),
    /// What each member of the cluster knows of a member; `None` where it is unknown.
    Member(Vec<MemberAnswer<Option<MemberExplanation>>>),
    /// Whether the members of a network agree.
    Agreement(AgreementReport),
    /// Which members have a write.
    Receipt(Receipt),
}
