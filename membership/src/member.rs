//! The state kept about a node: its record, its state, and the order in which claims about it
//! supersede each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use wire::NodeId;

/// Maximum size of a node's encoded labels in bytes. Each name and each value counts with a length
/// prefix of one byte (three above 250 bytes), and the number of labels takes one byte.
pub const MAX_LABEL_BYTES: usize = 512;

/// Largest generation that is accepted. Half of the range is out of reach for microseconds since
/// 1970; a peer that claims a generation at the limit must not prevent other nodes from choosing a
/// higher one.
pub(crate) const MAX_GENERATION: u64 = u64::MAX / 2;
/// How far a generation may be ahead of this node's own generation at start plus the time since:
/// 100 years in microseconds. The limit advances with time, so the legitimate owner of a name can
/// always choose a higher generation a moment later. It is this large because a host without a
/// real-time clock starts in 1970.
pub(crate) const MAX_LEAD: u64 = 100 * 366 * 24 * 3600 * 1_000_000;
/// Largest incarnation that is accepted. A node whose incarnation reaches it starts a new instance.
pub(crate) const MAX_INCARNATION: u64 = u32::MAX as u64;

/// The record a node announces about itself: its instance, its address and its labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The node's name and generation.
    pub id: NodeId,
    /// The address at which peers reach it.
    pub address: SocketAddr,
    /// Labels set by its operator; at most [`MAX_LABEL_BYTES`] in total.
    pub labels: BTreeMap<String, String>,
}

/// Why a record cannot be announced, or was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The labels are too long.
    #[error(
        "the labels of node {node} take {found} bytes; at most {MAX_LABEL_BYTES} are allowed for names, \
         values and length prefixes together"
    )]
    LabelsTooLong {
        /// The node with these labels.
        node: NodeId,
        /// Their encoded size in bytes.
        found: usize,
    },
    /// The address is not a valid destination.
    #[error("node {node} cannot be reached at {address}: an address and a port other than zero are needed")]
    Unreachable {
        /// The node with this address.
        node: NodeId,
        /// The address.
        address: SocketAddr,
    },
    /// The generation is above the limit.
    #[error("the generation of node {node} is out of range; at most {MAX_GENERATION} is allowed")]
    GenerationOutOfRange {
        /// The instance.
        node: NodeId,
    },
}

impl NodeRecord {
    /// Checks that this record may be announced to peers.
    pub fn check(&self) -> Result<(), RecordError> {
        if self.id.generation > MAX_GENERATION {
            return Err(RecordError::GenerationOutOfRange { node: self.id.clone() });
        }
        if self.address.port() == 0 || self.address.ip().is_unspecified() {
            return Err(RecordError::Unreachable { node: self.id.clone(), address: self.address });
        }
        // The sum of the string lengths is a lower bound that needs no encoding.
        let text = self.labels.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>() + 1;
        let found = if text > MAX_LABEL_BYTES { text } else { wire::codec::encode(&self.labels).len() };
        if found > MAX_LABEL_BYTES {
            return Err(RecordError::LabelsTooLong { node: self.id.clone(), found });
        }
        Ok(())
    }
}

/// The state of a node. Of two claims about the same incarnation, the one with the greater state
/// supersedes the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
// Exhaustive: the order of claims is defined over these states.
pub enum State {
    /// It answers probes.
    Alive,
    /// It did not answer a probe of some member. It remains a member and can refute until the
    /// suspicion ends.
    Suspect,
    /// It did not refute the suspicion in time.
    Failed,
    /// It left the cluster. Final for this instance.
    Left,
}

impl State {
    /// Whether a node in this state is probed and receives gossip.
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

/// A node as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The record that the node announced.
    pub record: NodeRecord,
    /// Counts how often this instance refuted a claim or changed its record.
    pub incarnation: u64,
    /// Its state.
    pub state: State,
    /// When this node recorded the current state.
    pub since: Instant,
    /// When this node last received something directly from this instance, if ever.
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

/// A claim about a name without its record: the total order in which claims supersede each other.
///
/// A later instance supersedes an earlier one. `Left` is final for an instance, whatever its
/// incarnation. Otherwise the higher incarnation, which only the node itself can issue, supersedes
/// the lower; at equal incarnation the graver state wins. Merging takes the maximum, so the result
/// does not depend on order or repetition.
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
    fn graver_states_and_higher_incarnations_and_later_instances_supersede() {
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
            "an instance that left remains left"
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
    fn labels_are_limited_by_their_encoded_size() {
        let record = |labels: BTreeMap<String, String>| NodeRecord {
            id: NodeId::new(NodeName::new("a").expect("valid"), 1),
            address: "10.0.0.1:7946".parse().expect("valid"),
            labels,
        };
        let one = |length: usize| BTreeMap::from([("k".to_owned(), "v".repeat(length))]);
        assert_eq!(record(one(506)).check(), Ok(()));
        assert!(matches!(record(one(507)).check(), Err(RecordError::LabelsTooLong { found: 513, .. })));
        // Many short labels need more bytes for their length prefixes than for their text.
        let many = (0..200).map(|i| (format!("{i:02x}"), String::new())).collect::<BTreeMap<_, _>>();
        assert!(record(many).check().is_err());
    }

    #[test]
    fn an_invalid_address_and_a_generation_out_of_range_are_rejected() {
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
        assert!(matches!(record.check(), Err(RecordError::GenerationOutOfRange { .. })));
    }
}
