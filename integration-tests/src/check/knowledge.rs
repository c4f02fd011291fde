//! Which process has ever known which write. A lost write must have been superseded by one that
//! some process knew together with it: a greater write that no process knew together with it
//! supersedes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wire::NodeId;

use super::ledger::{Ledger, WriteId};
use super::state::{Dot, NetworkState};
use crate::cluster::Peer;

/// By owner and epoch, the numbers seen, as inclusive ranges, ascending.
pub(crate) type VersionVector = BTreeMap<(NodeId, u64), Vec<(u64, u64)>>;

/// One attachment of one process to one network.
#[derive(Debug, Default)]
struct AttachmentPeriod {
    known: VersionVector,
    over: bool,
}

/// The writes that each process has ever known, by network and attachment.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    periods: BTreeMap<Arc<str>, BTreeMap<Peer, Vec<AttachmentPeriod>>>,
    /// Writes that some process knew together with a superseding one.
    superseded: BTreeSet<WriteId>,
}

impl Knowledge {
    /// Records what a process knows of a network now.
    pub(crate) fn learn(&mut self, peer: Peer, network: &Arc<str>, state: &NetworkState) {
        let periods = self.periods.entry(network.clone()).or_default().entry(peer).or_default();
        if periods.last().is_none_or(|period| period.over) {
            periods.push(AttachmentPeriod::default());
        }
        let Some(period) = periods.last_mut() else { return };
        for (attachment, ranges) in &state.version_vector {
            match period.known.get_mut(attachment) {
                // Version vectors only grow while an attachment lasts: that is checked elsewhere.
                Some(known) if known != ranges => known.clone_from(ranges),
                Some(_) => {}
                None => drop(period.known.insert(attachment.clone(), ranges.clone())),
            }
        }
    }

    /// The process has ended, or has left the network: it learns nothing more of it.
    pub(crate) fn end_periods(&mut self, peer: Peer, of: Option<&str>) {
        for (network, by_peer) in &mut self.periods {
            if of.is_none_or(|of| *of == **network)
                && let Some(period) = by_peer.get_mut(&peer).and_then(|periods| periods.last_mut())
            {
                period.over = true;
            }
        }
    }

    /// Whether a process has ever known both this write and one that supersedes it: the writer that
    /// overwrote it, or a receiver of both. All may have forgotten writes of an attachment that has
    /// ended.
    pub(crate) fn is_superseded(&mut self, id: WriteId, state: &NetworkState, ledger: &Ledger) -> bool {
        if self.superseded.contains(&id) {
            return true;
        }
        let write = ledger.get(id);
        let (network, dot) = (&write.entry_key.0, &write.version.dot);
        let mut forgotten = false;
        for later in ledger.superseding(id) {
            let superseding = &ledger.get(later).version.dot;
            let met = state.has_seen(superseding)
                || ledger.descends(later, id)
                || self.some_node_knew_both(network, dot, superseding);
            if met {
                self.superseded.insert(id);
                return true;
            }
            forgotten |= ledger.is_over(later);
        }
        forgotten
    }

    fn some_node_knew_both(&self, network: &str, one: &Dot, other: &Dot) -> bool {
        let periods = self.periods.get(network).into_iter().flat_map(|by_peer| by_peer.values().flatten());
        periods.into_iter().any(|period| contains(&period.known, one) && contains(&period.known, other))
    }
}

/// Whether this version vector contains a write.
pub(crate) fn contains(version_vector: &VersionVector, dot: &Dot) -> bool {
    let ranges = version_vector.get(&(dot.owner.clone(), dot.epoch));
    ranges.is_some_and(|ranges| ranges.iter().any(|(low, high)| (*low..=*high).contains(&dot.number)))
}

/// A dot of the second that the first lacks; `None` if there is none.
pub(crate) fn contains_all(version_vector: &VersionVector, wanted: &VersionVector) -> Option<Dot> {
    dots(wanted).find(|dot| !contains(version_vector, dot))
}

/// Each write that this version vector contains.
pub(super) fn dots(version_vector: &VersionVector) -> impl Iterator<Item = Dot> {
    version_vector.iter().flat_map(|((owner, epoch), ranges)| {
        let numbers = ranges.iter().flat_map(|(low, high)| *low..=*high);
        numbers.map(|number| Dot { owner: owner.clone(), epoch: *epoch, number })
    })
}

/// The union of two version vectors.
pub(crate) fn union(one: &VersionVector, other: &VersionVector) -> VersionVector {
    let mut either = one.clone();
    for (attachment, ranges) in other {
        let mut all = either.remove(attachment).unwrap_or_default();
        all.extend(ranges);
        all.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::with_capacity(all.len());
        for (low, high) in all {
            match joined.last_mut() {
                Some(last) if low <= last.1 + 1 => last.1 = last.1.max(high),
                _ => joined.push((low, high)),
            }
        }
        either.insert(attachment.clone(), joined);
    }
    either
}

/// The intersection of two version vectors.
pub(crate) fn intersection(one: &VersionVector, other: &VersionVector) -> VersionVector {
    let mut both = VersionVector::new();
    for (attachment, ranges) in one {
        let Some(others) = other.get(attachment) else { continue };
        let common: Vec<(u64, u64)> = ranges
            .iter()
            .flat_map(|(low, high)| {
                others.iter().filter_map(move |(from, to)| {
                    let (low, high) = (*low.max(from), *high.min(to));
                    (low <= high).then_some((low, high))
                })
            })
            .collect();
        both.insert(attachment.clone(), common);
    }
    both
}
