//! What is known about a node: its record, its state, and the order in which claims about it supersede each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use wire::NodeId;

/// The most bytes that a node's labels take in their encoding: every text with one byte before it for its length
/// (three, if it has more than 250 bytes), and one for the number of labels.
pub const MAX_LABEL_BYTES: usize = 512;

/// A generation above this is refused: half of the range is out of reach for microseconds since 1970, and a peer that
/// claims it must not be able to leave the others no room to go higher.
pub(crate) const MAX_GENERATION: u64 = u64::MAX / 2;
/// A generation further than this ahead of our own at our start, and the time since, is refused: 100 years in microseconds.
/// Whatever is claimed, the bound has moved on a moment later, so that the true owner of a name can always go higher. It is
/// so long because hosts without a clock of their own begin in 1970.
pub(crate) const MAX_LEAD: u64 = 100 * 366 * 24 * 3600 * 1_000_000;
/// An incarnation above this is refused: in a life that was driven so far the next life is taken.
pub(crate) const MAX_INCARNATION: u64 = u32::MAX as u64;

/// What travels with a node: which life it is, where it is reached, and the labels its operator gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The node's name and the life of it.
    pub id: NodeId,
    /// Where others reach it.
    pub address: SocketAddr,
    /// What its operator says about it; at most [`MAX_LABEL_BYTES`] in all.
    pub labels: BTreeMap<String, String>,
}

/// Why a record cannot be told to others, or was not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The labels are too long.
    #[error(
        "the labels of node {node} take {found} bytes; at most {MAX_LABEL_BYTES} are allowed, names, values and \
         lengths together"
    )]
    LabelsTooLong {
        /// Whose labels.
        node: NodeId,
        /// The size of their encoding in bytes.
        found: usize,
    },
    /// The address cannot be sent to.
    #[error("node {node} cannot be reached at {address}: an address and a port other than zero are needed")]
    Unreachable {
        /// Whose address.
        node: NodeId,
        /// The address.
        address: SocketAddr,
    },
    /// The generation is absurd.
    #[error("the generation of node {node} is absurd; at most {MAX_GENERATION} is allowed")]
    AbsurdGeneration {
        /// The life.
        node: NodeId,
    },
}

impl NodeRecord {
    /// Whether this record may be told to others.
    pub fn check(&self) -> Result<(), RecordError> {
        if self.id.generation > MAX_GENERATION {
            return Err(RecordError::AbsurdGeneration { node: self.id.clone() });
        }
        if self.address.port() == 0 || self.address.ip().is_unspecified() {
            return Err(RecordError::Unreachable { node: self.id.clone(), address: self.address });
        }
        // The count of the texts is a lower bound that costs no encoding.
        let text = self.labels.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>() + 1;
        let found = if text > MAX_LABEL_BYTES { text } else { wire::codec::encode(&self.labels).len() };
        if found > MAX_LABEL_BYTES {
            return Err(RecordError::LabelsTooLong { node: self.id.clone(), found });
        }
        Ok(())
    }
}

/// How a node stands. The order is that in which claims about the same incarnation supersede each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// It answers.
    Alive,
    /// It did not answer somebody's probe; it has until the end of the suspicion to object. Still a member.
    Suspect,
    /// It did not object in time.
    Failed,
    /// It said good-bye. Final for this life.
    Left,
}

impl State {
    /// Whether a node in this state is a member that is probed and gossiped to.
    pub fn is_active(self) -> bool {
        matches!(self, State::Alive | State::Suspect)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            State::Alive => "alive",
            State::Suspect => "suspect",
            State::Failed => "failed",
            State::Left => "left",
        })
    }
}

/// A node as this one sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What the node says about itself.
    pub record: NodeRecord,
    /// How often this life has refuted a claim or changed its record.
    pub incarnation: u64,
    /// How it stands.
    pub state: State,
    /// Since when it has stood so, here.
    pub since: Instant,
    /// When this life was last heard from directly, if ever.
    pub last_seen: Option<Instant>,
}

impl Member {
    /// The node's name.
    pub fn name(&self) -> &wire::NodeName {
        &self.record.id.name
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing::new(self.record.id.generation, self.incarnation, self.state)
    }
}

/// What a claim about a name says, apart from the record: the total order in which claims supersede each other.
///
/// A later life supersedes an earlier one. A life that left has left, whatever its incarnation. Else the higher
/// incarnation, which only the node itself can issue, supersedes the lower; and of the same incarnation the graver
/// state. Merging is taking the maximum: in any order, any number of times, the result is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Standing {
    pub(crate) generation: u64,
    left: bool,
    pub(crate) incarnation: u64,
    state: State,
}

impl Standing {
    pub(crate) fn new(generation: u64, incarnation: u64, state: State) -> Self {
        Self { generation, left: state == State::Left, incarnation, state }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::NodeName;

    fn standing() -> impl Strategy<Value = Standing> {
        let state =
            prop_oneof![Just(State::Alive), Just(State::Suspect), Just(State::Failed), Just(State::Left)];
        (0u64..3, 0u64..4, state)
            .prop_map(|(generation, incarnation, state)| Standing::new(generation, incarnation, state))
    }

    #[test]
    fn graver_states_and_higher_incarnations_and_later_lives_supersede() {
        let rising = [
            Standing::new(1, 0, State::Alive),
            Standing::new(1, 0, State::Suspect),
            Standing::new(1, 0, State::Failed),
            Standing::new(1, 1, State::Alive),
            Standing::new(1, 1, State::Failed),
            Standing::new(1, 0, State::Left),
            Standing::new(2, 0, State::Alive),
        ];
        assert!(rising.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(
            Standing::new(1, 9, State::Alive) < Standing::new(1, 0, State::Left),
            "a life that left has left"
        );
    }

    proptest! {
        #[test]
        fn any_order_and_any_repetition_of_claims_gives_the_same_standing(
            claims in proptest::collection::vec(standing(), 1..12),
            seed in any::<u64>(),
        ) {
            let expected = claims.iter().copied().reduce(Ord::max);
            let mut shuffled = claims.clone();
            shuffled.extend(claims.iter().take((seed % 5) as usize).copied());
            let count = shuffled.len();
            for at in 0..count {
                shuffled.swap(at, (seed as usize).wrapping_mul(at + 7) % count);
            }
            prop_assert_eq!(shuffled.into_iter().reduce(Ord::max), expected);
        }
    }

    #[test]
    fn labels_are_bounded_by_what_they_take_in_a_message() {
        let record = |labels: BTreeMap<String, String>| NodeRecord {
            id: NodeId::new(NodeName::new("a").expect("valid"), 1),
            address: "10.0.0.1:7946".parse().expect("valid"),
            labels,
        };
        let one = |length: usize| BTreeMap::from([("k".to_owned(), "v".repeat(length))]);
        assert_eq!(record(one(506)).check(), Ok(()));
        assert!(matches!(record(one(507)).check(), Err(RecordError::LabelsTooLong { found: 513, .. })));
        // Many short labels cost more for their lengths than for their texts.
        let many = (0..200).map(|i| (format!("{i:02x}"), String::new())).collect::<BTreeMap<_, _>>();
        assert!(record(many).check().is_err());
    }

    #[test]
    fn an_address_that_cannot_be_sent_to_and_an_absurd_generation_are_refused() {
        let mut record = NodeRecord {
            id: NodeId::new(NodeName::new("a").expect("valid"), 1),
            address: "10.0.0.1:0".parse().expect("valid"),
            labels: BTreeMap::new(),
        };
        assert!(matches!(record.check(), Err(RecordError::Unreachable { .. })));
        record.address = "0.0.0.0:1".parse().expect("valid");
        assert!(matches!(record.check(), Err(RecordError::Unreachable { .. })));
        record.address = "10.0.0.1:1".parse().expect("valid");
        record.id.generation = MAX_GENERATION + 1;
        assert!(matches!(record.check(), Err(RecordError::AbsurdGeneration { .. })));
    }
}
