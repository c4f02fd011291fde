//! The result of the initial sync of a network that this node joined.

use std::fmt;

/// What this node holds of a network when its join is reported as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
// Exhaustive: a caller decides for each whether it goes on.
pub enum JoinOutcome {
    /// What other members had at the time of the join.
    Synchronised,
    /// Its own writes only: it knows no other member. Members that it hears of later are synchronised with
    /// then.
    Alone,
    /// Perhaps not all yet: there are members, but no initial sync with one of them has completed in time. It is
    /// tried again in the background.
    Unsynchronised,
}

impl fmt::Display for JoinOutcome {
    /// The result as a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Synchronised => "it holds what other members had",
            Self::Alone => "no other member is known yet",
            Self::Unsynchronised => {
                "no sync with another member has completed: entries may still be missing here"
            }
        })
    }
}
