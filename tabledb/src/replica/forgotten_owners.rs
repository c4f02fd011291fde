//! The superseded numbers of forgotten nodes.
//!
//! A node may return with the same instance after a partition longer than membership keeps failed members.
//! All its entries were dropped by then, but those that had been deleted or overwritten must not come back
//! with it. So the superseded numbers of each of its attachments are retained, and nothing else: they count
//! as seen when the attachment starts again.

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::{NodeId, NodeName};

use super::ranges::Ranges;

/// The most ranges retained, for all attachments together: 16 bytes each.
const MAX_RANGES: usize = 1 << 18;

/// The most attachments with retained numbers.
const MAX_ATTACHMENTS: usize = 1 << 15;

/// An attachment of a forgotten node.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
struct Kept {
    generation: u64,
    epoch: u64,
    superseded: Ranges,
    order: u64,
}

/// The superseded numbers of forgotten nodes; beyond the limits, the earliest forgotten go first.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct ForgottenOwners {
    kept: BTreeMap<(NodeName, Arc<str>), Kept>,
    by_age: BTreeMap<u64, (NodeName, Arc<str>)>,
    next: u64,
    ranges: usize,
}

impl ForgottenOwners {
    /// The owner is forgotten; `superseded` are the seen numbers of this attachment without a record.
    pub(crate) fn keep(&mut self, owner: &NodeId, network: &Arc<str>, epoch: u64, superseded: Ranges) {
        self.remove(&owner.name, network);
        if superseded.is_empty() {
            return;
        }
        let (key, order) = ((owner.name.clone(), network.clone()), self.next);
        self.next += 1;
        self.ranges += superseded.as_slice().len();
        self.by_age.insert(order, key.clone());
        self.kept.insert(key, Kept { generation: owner.generation, epoch, superseded, order });
        while self.ranges > MAX_RANGES || self.kept.len() > MAX_ATTACHMENTS {
            let Some((_, (name, network))) = self.by_age.pop_first() else { break };
            self.remove(&name, &network);
        }
    }

    /// The owner has returned with this attachment: returns its superseded numbers. Those of an earlier
    /// attachment are dropped, since it has ended.
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
        (held == wanted).then_some(kept.superseded)
    }

    /// This node has left the network.
    pub(crate) fn drop_network(&mut self, network: &Arc<str>) {
        let of_network = self.kept.keys().filter(|(_, kept)| kept == network);
        for (name, network) in of_network.cloned().collect::<Vec<_>>() {
            self.remove(&name, &network);
        }
    }

    fn remove(&mut self, owner: &NodeName, network: &Arc<str>) -> Option<Kept> {
        let kept = self.kept.remove(&(owner.clone(), network.clone()))?;
        self.by_age.remove(&kept.order);
        self.ranges -= kept.superseded.as_slice().len();
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(name: &str, generation: u64) -> NodeId {
        NodeId::new(NodeName::new(name).unwrap(), generation)
    }

    fn numbers(ranges: &[(u64, u64)]) -> Ranges {
        Ranges::checked(ranges.to_vec()).unwrap()
    }

    #[test]
    fn it_is_given_back_to_the_same_attachment_alone_and_once() {
        let (mut forgotten_owners, blue, red) = (ForgottenOwners::default(), "blue".into(), "red".into());
        let superseded = numbers(&[(2, 3)]);
        forgotten_owners.keep(&instance("a", 5), &blue, 4, superseded.clone());
        assert_eq!(forgotten_owners.take(&instance("a", 5), &red, 4), None, "another network");
        assert_eq!(forgotten_owners.take(&instance("b", 5), &blue, 4), None, "another node");
        assert_eq!(forgotten_owners.take(&instance("a", 5), &blue, 3), None, "an earlier one");
        assert_eq!(forgotten_owners.take(&instance("a", 4), &blue, 9), None, "an earlier instance");
        assert_eq!(forgotten_owners.take(&instance("a", 5), &blue, 4), Some(superseded.clone()));
        assert_eq!(forgotten_owners.take(&instance("a", 5), &blue, 4), None);
        for later in [(5, 5), (6, 1)] {
            forgotten_owners.keep(&instance("a", 5), &blue, 4, superseded.clone());
            assert_eq!(forgotten_owners.take(&instance("a", later.0), &blue, later.1), None);
            assert!(
                forgotten_owners.kept.is_empty() && forgotten_owners.by_age.is_empty(),
                "the earlier one has ended"
            );
        }
        forgotten_owners.keep(&instance("a", 5), &blue, 4, superseded.clone());
        forgotten_owners.keep(&instance("a", 5), &red, 4, superseded.clone());
        forgotten_owners.drop_network(&blue);
        assert_eq!((forgotten_owners.kept.len(), forgotten_owners.ranges), (1, 1));
        assert_eq!(forgotten_owners.take(&instance("a", 5), &red, 4), Some(superseded));
    }

    #[test]
    fn it_is_bounded_in_attachments_and_in_ranges_and_the_oldest_goes_first() {
        let (mut forgotten_owners, net) = (ForgottenOwners::default(), "net".into());
        let last = MAX_ATTACHMENTS as u64 + 9;
        for generation in 0..=last {
            forgotten_owners.keep(&instance(&format!("n{generation}"), 1), &net, 1, numbers(&[(1, 1)]));
        }
        assert_eq!(
            (forgotten_owners.kept.len(), forgotten_owners.by_age.len()),
            (MAX_ATTACHMENTS, MAX_ATTACHMENTS)
        );
        assert_eq!(forgotten_owners.take(&instance("n9", 1), &net, 1), None);
        assert!(forgotten_owners.take(&instance("n10", 1), &net, 1).is_some());
        let fragmented =
            numbers(&(1..=MAX_RANGES as u64).map(|number| (number * 2, number * 2)).collect::<Vec<_>>());
        forgotten_owners.keep(&instance("fragmented", 1), &net, 1, fragmented);
        assert_eq!((forgotten_owners.kept.len(), forgotten_owners.ranges), (1, MAX_RANGES));
        forgotten_owners.keep(&instance("another", 1), &net, 1, numbers(&[(1, 1)]));
        assert_eq!((forgotten_owners.kept.len(), forgotten_owners.ranges), (1, 1));
    }
}
