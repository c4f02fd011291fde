//! Checks of each node's tables against the ledger and against the last inspection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tabledb::NetworkStatistics;
use wire::NodeId;

use super::knowledge::{Knowledge, VersionVector, contains};
use super::ledger::{Ledger, WriteId};
use super::state::{Dot, NetworkState};
use crate::cluster::Peer;

/// Remembers the last inspections.
#[derive(Debug, Default)]
pub struct Watchdog {
    version_vector: BTreeMap<(Peer, Arc<str>), VersionVector>,
    /// The dots that each node held at the last inspection.
    held: BTreeMap<(Peer, Arc<str>), BTreeSet<Dot>>,
    /// The dots that each process has held at any inspection.
    ever_held: BTreeMap<(Peer, Arc<str>), BTreeSet<Dot>>,
    /// The latest time until which a node has kept each tombstone.
    kept_until: BTreeMap<(Arc<str>, Dot), Duration>,
    knowledge: Knowledge,
    /// The writes that each node's watcher saw superseded.
    superseded: BTreeMap<Peer, BTreeSet<WriteId>>,
    /// Writes that a node has ever refused.
    refused: BTreeSet<WriteId>,
    inspections: u64,
    tombstones_reaped: BTreeSet<(Arc<str>, Dot)>,
}

/// The state of one network on one node, and what is needed to check it.
pub(crate) struct Inspection<'a> {
    pub(crate) network: &'a Arc<str>,
    pub(crate) state: &'a NetworkState,
    pub(crate) ledger: &'a Ledger,
    /// The node's statistics of it.
    pub(crate) statistics: &'a NetworkStatistics,
    pub(crate) now: Duration,
    pub(crate) reap_time: Duration,
    /// The reasons for which the node may refuse writes.
    pub(crate) reasons: RefusalReasons,
    /// How long a message to the node may have been under way: its information on tombstones is
    /// that old.
    pub(crate) under_way: Duration,
}

/// Reasons to refuse a write; other refusals are violations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RefusalReasons {
    /// Values longer than this, in bytes.
    pub(crate) value_bytes: usize,
    /// Anything, because its limits are so small that they may be used up.
    pub(crate) has_small_limits: bool,
    /// Times later than this, in microseconds since 1970: the process accepted this time when it
    /// started, and accepts only later ones since.
    pub(crate) believed: u64,
}

/// Durations are sent in whole milliseconds, and clocks drift a little.
const ROUNDING: Duration = Duration::from_millis(50);

impl Watchdog {
    /// How often the tables of a node were inspected.
    pub fn inspections(&self) -> u64 {
        self.inspections
    }

    /// How many tombstones have been reaped somewhere.
    pub fn reaped(&self) -> usize {
        self.tombstones_reaped.len()
    }

    /// A new process of a node starts without the observations of the former one.
    pub(crate) fn forget_instance(&mut self, peer: Peer) {
        self.version_vector.retain(|(of, _), _| *of != peer);
        self.held.retain(|(of, _), _| *of != peer);
        self.ever_held.retain(|(of, _), _| *of != peer);
        self.superseded.remove(&peer);
        self.knowledge.end_periods(peer, None);
    }

    /// A node that leaves a network forgets its observations there.
    pub(crate) fn forget_network(&mut self, peer: Peer, network: &str, ledger: &Ledger) {
        self.version_vector.retain(|(of, name), _| *of != peer || **name != *network);
        self.held.retain(|(of, name), _| *of != peer || **name != *network);
        self.ever_held.retain(|(of, name), _| *of != peer || **name != *network);
        self.knowledge.end_periods(peer, Some(network));
        if let Some(superseded) = self.superseded.get_mut(&peer) {
            superseded.retain(|id| *ledger.get(*id).entry_key.0 != *network);
        }
    }

    pub(crate) fn saw_superseded(&mut self, peer: Peer, id: WriteId) {
        self.superseded.entry(peer).or_default().insert(id);
    }

    pub(crate) fn has_seen_superseded(&self, peer: Peer, id: WriteId) -> bool {
        self.superseded.get(&peer).is_some_and(|superseded| superseded.contains(&id))
    }

    /// A node that has forgotten an owner forgets its writes.
    pub(crate) fn forget_owner(&mut self, peer: Peer, owner: &NodeId, ledger: &Ledger) {
        if let Some(superseded) = self.superseded.get_mut(&peer) {
            superseded.retain(|id| ledger.get(*id).version.dot.owner != *owner);
        }
        for (_, held) in self.ever_held.iter_mut().filter(|((of, _), _)| *of == peer) {
            held.retain(|dot| dot.owner != *owner);
        }
    }

    /// Records what a process knows of a network, without a check.
    pub(crate) fn learn(&mut self, peer: Peer, network: &Arc<str>, state: &NetworkState) {
        self.knowledge.learn(peer, network, state);
    }

    /// Checks one node's state of one network.
    pub(crate) fn inspect(&mut self, peer: Peer, inspection: &Inspection<'_>) -> Result<(), String> {
        self.inspections += 1;
        self.knowledge.learn(peer, inspection.network, inspection.state);
        check_counts(inspection)?;
        self.check_entries(inspection)?;
        self.check_refused(inspection)?;
        self.check_residuals(inspection)?;
        self.check_superseded(inspection)?;
        self.check_resurrection(peer, inspection)?;
        self.check_growth(peer, inspection)
    }

    /// A dot that a node had seen and did not hold must never be held there again.
    fn check_resurrection(&mut self, peer: Peer, inspection: &Inspection<'_>) -> Result<(), String> {
        let key = (peer, inspection.network.clone());
        let now: BTreeSet<Dot> =
            inspection.state.entries.values().map(|entry| entry.version.dot.clone()).collect();
        self.ever_held.entry(key.clone()).or_default().extend(now.iter().cloned());
        let before = self.held.insert(key.clone(), now.clone()).unwrap_or_default();
        let Some(version_vector) = self.version_vector.get(&key) else { return Ok(()) };
        for dot in now.difference(&before) {
            if contains(version_vector, dot) {
                return Err(format!("holds {dot} of {}, which it had seen superseded", inspection.network));
            }
        }
        Ok(())
    }

    /// Each entry has been seen, and equals its write.
    fn check_entries(&self, inspection: &Inspection<'_>) -> Result<(), String> {
        let Inspection { network, state, ledger, .. } = *inspection;
        for ((table, key), entry) in &state.entries {
            let dot = &entry.version.dot;
            if !state.has_seen(dot) {
                return Err(format!(
                    "holds {dot} under {network}/{table}/{key}, which its version vector does not contain"
                ));
            }
            let Some(id) = ledger.by_dot(network, dot) else {
                return Err(format!("holds {dot} under {network}/{table}/{key}, which no node wrote"));
            };
            let write = ledger.get(id);
            if write.value != entry.value
                || write.version != entry.version
                || (&*write.entry_key.1, &*write.entry_key.2) != (table.as_str(), key.as_str())
            {
                return Err(format!(
                    "holds {entry:?} under {network}/{table}/{key}, but its write is {write:?}"
                ));
            }
        }
        Ok(())
    }

    /// Whether a process was seen holding a write since it joined the network, or last forgot the owner.
    pub(crate) fn has_held(&self, peer: Peer, network: &Arc<str>, dot: &Dot) -> bool {
        self.ever_held.get(&(peer, network.clone())).is_some_and(|held| held.contains(dot))
    }

    /// Whether a node has ever refused this write.
    pub(crate) fn was_refused(&self, id: WriteId) -> bool {
        self.refused.contains(&id)
    }

    /// Each refused write exists, and there is a reason to refuse it.
    fn check_refused(&mut self, inspection: &Inspection<'_>) -> Result<(), String> {
        let Inspection { network, state, ledger, reasons, .. } = *inspection;
        for dot in state.refused() {
            let Some(id) = ledger.by_dot(network, &dot) else {
                return Err(format!("refuses {dot} of {network}, which no node wrote"));
            };
            let write = ledger.get(id);
            let bytes = write.value.as_ref().map_or(0, |value| value.len());
            if !reasons.has_small_limits
                && bytes <= reasons.value_bytes
                && write.version.time <= reasons.believed
            {
                return Err(format!("refuses {dot} of {network} for no reason: {write:?}, {reasons:?}"));
            }
            self.refused.insert(id);
        }
        Ok(())
    }

    /// The remaining time of a tombstone only decreases, also when it is sent: no node keeps it
    /// longer than the one that has kept it longest so far, plus the transmission time, which
    /// receivers do not subtract.
    fn check_residuals(&mut self, inspection: &Inspection<'_>) -> Result<(), String> {
        let Inspection { network, state, ledger, now, under_way, .. } = *inspection;
        for entry in state.entries.values() {
            // An expired one waits for the next timer to be reaped.
            let Some(residual) = entry.residual.filter(|residual| !residual.is_zero()) else { continue };
            let dot = &entry.version.dot;
            let until = now + residual;
            let key = (network.clone(), dot.clone());
            // At first it is the writer's reap time.
            let written = || ledger.by_dot(network, dot).map(|id| ledger.get(id).at + inspection.reap_time);
            let Some(bound) = self.kept_until.get(&key).copied().or_else(written) else { continue };
            if until > bound + under_way + ROUNDING {
                return Err(format!(
                    "keeps tombstone {dot} of {network} for {residual:?}, {:?} longer than any node before",
                    until - bound
                ));
            }
            self.kept_until.insert(key, bound.max(until));
        }
        Ok(())
    }

    /// A dot that is seen and not held must have been superseded, or be an expired tombstone.
    fn check_superseded(&mut self, inspection: &Inspection<'_>) -> Result<(), String> {
        let Inspection { network, state, ledger, now, reap_time, .. } = *inspection;
        for dot in state.superseded() {
            let Some(id) = ledger.by_dot(network, &dot) else {
                return Err(format!("has seen {dot} of {network}, which no node wrote"));
            };
            if self.knowledge.is_superseded(id, state, ledger) {
                continue;
            }
            let write = ledger.get(id);
            if write.value.is_some() {
                return Err(format!(
                    "has recorded {dot} of {network}/{}/{} as superseded, but no process knew it \
                     with a write that supersedes it",
                    write.entry_key.1, write.entry_key.2
                ));
            }
            if now + ROUNDING < write.at + reap_time {
                return Err(format!(
                    "has reaped tombstone {dot} {:?} after the delete; {reap_time:?} is right",
                    now - write.at
                ));
            }
            self.tombstones_reaped.insert((network.clone(), dot));
        }
        Ok(())
    }

    /// Version vectors only grow while an attachment lasts.
    fn check_growth(&mut self, peer: Peer, inspection: &Inspection<'_>) -> Result<(), String> {
        let Inspection { network, state, .. } = *inspection;
        let before = self
            .version_vector
            .insert((peer, network.clone()), state.version_vector.clone())
            .unwrap_or_default();
        for (attachment, ranges) in before {
            let Some(now) = state.version_vector.get(&attachment) else { continue };
            let covered = |(low, high): &(u64, u64)| now.iter().any(|(from, to)| from <= low && high <= to);
            if !ranges.iter().all(covered) {
                return Err(format!(
                    "its version vector of {}@{} in {network} shrank from {ranges:?} to {now:?}",
                    attachment.0, attachment.1
                ));
            }
        }
        Ok(())
    }
}

/// A node's statistics of a network must match what it holds.
fn check_counts(inspection: &Inspection<'_>) -> Result<(), String> {
    let NetworkStatistics { entries, hidden, tombstones, bytes, .. } = *inspection.statistics;
    let (reported, held) = ([entries, hidden, tombstones, bytes], inspection.state.recount());
    match reported == held {
        true => Ok(()),
        false => Err(format!(
            "reports of {} that [shown, hidden, tombstones, bytes] are {reported:?}, and holds {held:?}",
            inspection.network
        )),
    }
}
