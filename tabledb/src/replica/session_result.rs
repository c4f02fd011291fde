//! How sessions end, and what a full sync's peer claims about its own copy.

use wire::NodeName;

use super::message::Standing;

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
