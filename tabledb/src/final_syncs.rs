//! The result of the final syncs of a network that this node left.

use std::fmt;

/// Whether the writes that only this node knew reached other members before it dropped its copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct FinalSyncs {
    /// The number of members to sync with: two, or all that stayed if there are fewer.
    pub wanted: usize,
    /// The number of final syncs that completed. One is enough to lose nothing, as long as that member is there.
    pub completed: usize,
}

impl FinalSyncs {
    /// Whether nothing is lost: a member that stays holds everything, or no member stays.
    pub fn saved(&self) -> bool {
        self.completed > 0 || self.wanted == 0
    }
}

impl fmt::Display for FinalSyncs {
    /// The result as a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, completed } = self;
        match (completed, wanted) {
            (0, 0) => write!(f, "no other member stayed on it"),
            (0, _) => write!(
                f,
                "no final sync with another member completed: \
                 writes and deletes that only this node knew are lost"
            ),
            (completed, wanted) if completed >= wanted => {
                let members = if *completed == 1 { "member holds" } else { "members hold" };
                write!(f, "{completed} other {members} everything that this node held")
            }
            _ => write!(f, "{completed} of {wanted} final syncs completed: what this node held is saved"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_states_whether_anything_is_lost() {
        let text = |wanted, completed| FinalSyncs { wanted, completed }.to_string();
        assert_eq!(text(0, 0), "no other member stayed on it");
        assert_eq!(text(2, 2), "2 other members hold everything that this node held");
        assert_eq!(text(1, 1), "1 other member holds everything that this node held");
        assert!(text(2, 1).starts_with("1 of 2"));
        assert!(text(2, 0).ends_with("are lost"));
        let saved = |wanted, completed| FinalSyncs { wanted, completed }.saved();
        assert_eq!([saved(0, 0), saved(2, 0), saved(2, 1), saved(2, 2)], [true, false, true, true]);
    }
}
