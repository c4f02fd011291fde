//! The other alive members of a network: those with which a session may be opened.

use std::sync::Arc;

use rand::seq::IndexedRandom;
use wire::NodeName;

use super::super::super::node_state::NodeState;
use super::super::super::owners::Owners;

#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Members {
    network: Arc<str>,
    /// Ascending; `None` after a change.
    known: Option<Vec<NodeName>>,
}

impl Members {
    pub(super) fn new(network: Arc<str>) -> Self {
        Self { network, known: None }
    }

    pub(super) fn changed(&mut self) {
        self.known = None;
    }

    /// All of them, ascending. O(cluster) after a change, else O(1).
    pub(super) fn all(&mut self, owners: &Owners) -> &[NodeName] {
        self.known.get_or_insert_with(|| owners.members_of(&self.network).cloned().collect())
    }

    /// A uniform random sample of `count` members, or all if there are fewer.
    pub(super) fn sample(&mut self, count: usize, node: &mut NodeState) -> Vec<NodeName> {
        self.all(&node.owners).sample(&mut node.rng, count).cloned().collect()
    }
}
