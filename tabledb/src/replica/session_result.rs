//! How sessions end, and what a full sync's peer claims about its own copy.

use wire::{NodeName, StreamId};

use super::message::Standing;
use crate::record::AttachmentIndex;

/// The result of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Outcome {
    Completed,
    Failed,
    /// Both sides had opened one; the other one goes on.
    OpenedElsewhere,
    /// The peer has no capacity for it now.
    TurnedAway,
    /// The peer is not on the network, or has just left it. This is a response, not a failure.
    NotMember,
}

/// The claim of a full sync's peer about its own copy.
#[derive(Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum PeerStanding {
    #[default]
    Synchronised,
    /// It holds what these nodes held, which are not synchronised either.
    Unsynchronised(Vec<NodeName>),
    Leaving,
}

impl From<&Standing<'_>> for PeerStanding {
    fn from(standing: &Standing<'_>) -> Self {
        match standing {
            Standing::Synchronised => Self::Synchronised,
            Standing::Leaving => Self::Leaving,
            Standing::Unsynchronised(names) => {
                Self::Unsynchronised(names.iter().filter_map(|name| NodeName::new(name).ok()).collect())
            }
        }
    }
}

/// The node that opened a full sync.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Opener {
    ThisNode {
        /// Only the anti-entropy period caused it, no known difference.
        periodic: bool,
    },
    Peer,
}

/// How a full sync ended, and what it has shown of the peer's copy.
#[derive(Debug)]
pub(crate) struct FullSyncResult<'a> {
    pub(crate) stream: StreamId,
    pub(crate) peer: &'a NodeName,
    pub(crate) opener: Opener,
    pub(crate) outcome: Outcome,
    pub(crate) standing: &'a PeerStanding,
    /// Attachments that the peer shows.
    pub(crate) shown: &'a [AttachmentIndex],
}
