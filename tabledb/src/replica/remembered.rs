//! What is known to be dead of nodes that were forgotten.
//!
//! A node may return, in the same instance, after a partition longer than failed members are kept. Everything of it was
//! dropped by then; but what had been deleted or overwritten must not come back with it. Of each of its attachments the
//! numbers that were dead are kept, and nothing else: with them for a start, its entries are taken up again but for those.

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::{NodeId, NodeName};

use super::ranges::Ranges;

/// The most ranges kept, of all attachments together: 16 bytes each.
const MAX_RANGES: usize = 1 << 18;

/// The most attachments of which anything is kept.
const MAX_ATTACHMENTS: usize = 1 << 15;

/// An attachment of a forgotten node.
#[derive(Debug)]
struct Kept {
    generation: u64,
    epoch: u64,
    dead: Ranges,
    order: u64,
}

/// The dead numbers of forgotten nodes; those forgotten longest ago go first when there are too many.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    kept: BTreeMap<(NodeName, Arc<str>), Kept>,
    by_age: BTreeMap<u64, (NodeName, Arc<str>)>,
    next: u64,
    ranges: usize,
}

impl Remembered {
    /// The owner is forgotten; `dead` is what had been seen of this attachment and was not live.
    pub(crate) fn keep(&mut self, owner: &NodeId, network: &Arc<str>, epoch: u64, dead: Ranges) {
        self.remove(&owner.name, network);
        if dead.is_empty() {
            return;
        }
        let (key, order) = ((owner.name.clone(), network.clone()), self.next);
        self.next += 1;
        self.ranges += dead.as_slice().len();
        self.by_age.insert(order, key.clone());
        self.kept.insert(key, Kept { generation: owner.generation, epoch, dead, order });
        while self.ranges > MAX_RANGES || self.kept.len() > MAX_ATTACHMENTS {
            let Some((_, (name, network))) = self.by_age.pop_first() else { break };
            self.remove(&name, &network);
        }
    }

    /// The owner is back with this attachment: what is dead of it. An earlier one is over then, and what was kept of it
    /// goes.
    pub(crate) fn take(&mut self, owner: &NodeId, network: &Arc<str>, epoch: u64) -> Option<Ranges> {
        if self.kept.is_empty() {
            return None;
        }
        let kept = self.kept.get(&(owner.name.clone(), network.clone()))?;
        let (held, wanted) = ((kept.generation, kept.epoch), (owner.generation, epoch));
        if held > wanted {
            return None;
        }
        let kept = self.remove(&owner.name, network)?;
        (held == wanted).then_some(kept.dead)
    }

    /// The network is left here.
    pub(crate) fn drop_network(&mut self, network: &Arc<str>) {
        let of_network = self.kept.keys().filter(|(_, kept)| kept == network);
        for (name, network) in of_network.cloned().collect::<Vec<_>>() {
            self.remove(&name, &network);
        }
    }

    fn remove(&mut self, owner: &NodeName, network: &Arc<str>) -> Option<Kept> {
        let kept = self.kept.remove(&(owner.clone(), network.clone()))?;
        self.by_age.remove(&kept.order);
        self.ranges -= kept.dead.as_slice().len();
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(name: &str, generation: u64) -> NodeId {
        NodeId::new(NodeName::new(name).unwrap(), generation)
    }

    fn numbers(ranges: &[(u64, u64)]) -> Ranges {
        Ranges::checked(ranges.to_vec()).unwrap()
    }

    #[test]
    fn it_is_given_back_to_the_same_attachment_alone_and_once() {
        let (mut remembered, blue, red) = (Remembered::default(), "blue".into(), "red".into());
        let dead = numbers(&[(2, 3)]);
        remembered.keep(&life("a", 5), &blue, 4, dead.clone());
        assert_eq!(remembered.take(&life("a", 5), &red, 4), None, "another network");
        assert_eq!(remembered.take(&life("b", 5), &blue, 4), None, "another node");
        assert_eq!(remembered.take(&life("a", 5), &blue, 3), None, "an earlier one");
        assert_eq!(remembered.take(&life("a", 4), &blue, 9), None, "an earlier instance");
        assert_eq!(remembered.take(&life("a", 5), &blue, 4), Some(dead.clone()));
        assert_eq!(remembered.take(&life("a", 5), &blue, 4), None);
        for later in [(5, 5), (6, 1)] {
            remembered.keep(&life("a", 5), &blue, 4, dead.clone());
            assert_eq!(remembered.take(&life("a", later.0), &blue, later.1), None);
            assert!(remembered.kept.is_empty() && remembered.by_age.is_empty(), "the earlier one is over");
        }
        remembered.keep(&life("a", 5), &blue, 4, dead.clone());
        remembered.keep(&life("a", 5), &red, 4, dead.clone());
        remembered.drop_network(&blue);
        assert_eq!((remembered.kept.len(), remembered.ranges), (1, 1));
        assert_eq!(remembered.take(&life("a", 5), &red, 4), Some(dead));
    }

    #[test]
    fn it_is_bounded_in_attachments_and_in_ranges_and_the_oldest_goes_first() {
        let (mut remembered, net) = (Remembered::default(), "net".into());
        let last = MAX_ATTACHMENTS as u64 + 9;
        for generation in 0..=last {
            remembered.keep(&life(&format!("n{generation}"), 1), &net, 1, numbers(&[(1, 1)]));
        }
        assert_eq!((remembered.kept.len(), remembered.by_age.len()), (MAX_ATTACHMENTS, MAX_ATTACHMENTS));
        assert_eq!(remembered.take(&life("n9", 1), &net, 1), None);
        assert!(remembered.take(&life("n10", 1), &net, 1).is_some());
        let torn =
            numbers(&(1..=MAX_RANGES as u64).map(|number| (number * 2, number * 2)).collect::<Vec<_>>());
        remembered.keep(&life("torn", 1), &net, 1, torn);
        assert_eq!((remembered.kept.len(), remembered.ranges), (1, MAX_RANGES));
        remembered.keep(&life("another", 1), &net, 1, numbers(&[(1, 1)]));
        assert_eq!((remembered.kept.len(), remembered.ranges), (1, 1));
    }
}
