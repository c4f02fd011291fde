//! Promises that hold without faults, checked from the moment that a scenario declares.

use std::collections::BTreeSet;
use std::time::Duration;

use membership::State;

use super::{Cluster, MILLISECOND, Peer, SECOND};
use crate::check::{VersionVector, contains_all, intersection};

/// How long entries may stay hidden after their owner has returned and is connected.
const HIDDEN_AT_MOST: Duration = Duration::from_secs(1);
/// How long a dial may take that began while the owner was cut off: other nodes can report its
/// return before it can be dialled.
const DIALLED_WITHIN: Duration = Duration::from_secs(3);
/// After this long, every node has received an update.
const SETTLED: Duration = Duration::from_secs(5);

/// The writes that all settled members of a network knew when a node joined it.
#[derive(Debug)]
pub(crate) struct JoinBaseline {
    known: VersionVector,
    at: Duration,
}

/// How often a promise was checked, and the worst case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Newcomers that reported that they were ready, and were checked.
    pub ready: u64,
    /// The longest that one of them took.
    pub longest_ready: Duration,
    /// Times a node kept entries hidden whose owner had returned.
    pub hidden: u64,
    /// The longest that such entries were found hidden.
    pub longest_hidden: Duration,
}

/// Which of these promises are checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EnabledChecks {
    pub(crate) readiness: bool,
    pub(crate) hidden: bool,
}

impl Cluster {
    /// From here on there are no faults.
    pub fn declare_fault_free(&mut self) {
        self.fault_free_since = Some(self.now());
    }

    /// From here on only the scenario's own checks apply.
    pub(crate) fn stop_checking(&mut self) {
        self.settings.inspection = None;
        self.next_inspection = Duration::MAX;
        self.settings.watched = false;
        self.enabled_checks = EnabledChecks::default();
        for node in &mut self.nodes {
            if let Some(instance) = &mut node.instance {
                instance.follower = None;
            }
        }
    }

    /// The checks so far of promises that hold without faults.
    pub fn checked(&self) -> Checked {
        self.checked
    }

    /// Records what a newcomer has to learn, if there have been no faults for a while.
    pub(super) fn record_join_baseline(&mut self, peer: Peer, network: &str) {
        let settled = |since: Duration| self.now() >= since + SETTLED;
        if !self.fault_free_since.is_some_and(settled) || !self.sees_all(peer) {
            return;
        }
        let holders: Vec<Peer> = self
            .members_of(network)
            .into_iter()
            .filter(|member| self.is_settled_on(*member, network))
            .collect();
        let known = holders
            .iter()
            .filter_map(|holder| Some(self.inspect(*holder, network)?.version_vector))
            .reduce(|one, other| intersection(&one, &other));
        let at = self.now();
        if let Some(known) = known {
            self.instance_mut(peer).join_baseline.insert(network.to_owned(), JoinBaseline { known, at });
        }
    }

    /// Whether the node and all others hold each other for alive.
    fn sees_all(&self, peer: Peer) -> bool {
        let running = self.running();
        running.iter().all(|other| {
            *other == peer
                || (self.state_of(peer, *other) == Some(State::Alive)
                    && self.state_of(*other, peer) == Some(State::Alive))
        })
    }

    fn is_settled_on(&self, member: Peer, network: &str) -> bool {
        self.is_ready(member, network) && !self.instance(member).join_baseline.contains_key(network)
    }

    /// A node that reports that it is ready must know what the settled members knew when it joined.
    pub(super) fn check_readiness(&mut self, peer: Peer, network: &str) {
        let now = self.now();
        let Some(mut join_baseline) = self.instance_mut(peer).join_baseline.remove(network) else { return };
        // Writes of attachments that have ended meanwhile need not be known.
        join_baseline.known.retain(|(owner, epoch), _| {
            let owner = self.running().into_iter().find(|running| self.instance(*running).id == *owner);
            let own = |owner: Peer| self.inspect(owner, network).map(|state| state.version_vector);
            owner.and_then(own).is_some_and(|version_vector| {
                version_vector
                    .keys()
                    .any(|(by, of)| of == epoch && Some(by) == owner.map(|owner| &self.instance(owner).id))
            })
        });
        let Some(state) = self.inspect(peer, network) else { return };
        self.checked.ready += 1;
        self.checked.longest_ready = self.checked.longest_ready.max(now - join_baseline.at);
        if self.enabled_checks.readiness
            && let Some(missing) = contains_all(&state.version_vector, &join_baseline.known)
            && !state.refused().any(|refused| refused == missing)
        {
            let what =
                format!("reports that it is ready on {network} without {missing}, which all members knew");
            self.violation(peer, what);
        }
    }

    /// Entries of an owner that has returned must be shown soon.
    pub(super) fn check_hidden(&mut self, peer: Peer, network: &str, hidden: &BTreeSet<wire::NodeId>) {
        let now = self.now();
        let Some(fault_free_since) = self.fault_free_since else { return };
        let instance = self.instance(peer);
        let mut longest: Option<(Duration, wire::NodeId)> = None;
        for owner in hidden {
            let member = instance.machine.membership().member(owner.name.as_str());
            let is_back =
                member.is_some_and(|member| member.record.id == *owner && member.state == State::Alive);
            if let Some(&since) = instance.returned.get(owner).filter(|_| is_back) {
                let since = since.max(fault_free_since);
                let reached = self
                    .running()
                    .into_iter()
                    .map(|there| self.instance(there))
                    .find(|there| there.id == *owner);
                let reached =
                    reached.and_then(|there| self.fabric.connected_since(instance.endpoint, there.endpoint));
                let reached = reached.unwrap_or(Duration::MAX).min(since + DIALLED_WITHIN);
                let taken = now.saturating_sub(since.max(reached));
                if longest.as_ref().is_none_or(|(longest, _)| taken > *longest) {
                    longest = Some((taken, owner.clone()));
                }
            }
        }
        let Some((longest, owner)) = longest else { return };
        self.checked.hidden += 1;
        self.checked.longest_hidden = self.checked.longest_hidden.max(longest);
        if self.enabled_checks.hidden && longest > HIDDEN_AT_MOST {
            let what = format!("hides what {owner} wrote in {network}, {longest:?} after it returned");
            self.violation(peer, what);
        }
    }

    /// The first difference between the entries that members of a network show, except those
    /// written within the last `moment`, those of owners that have ended or left the network, of
    /// which some may not know yet, and refused ones.
    pub fn difference_but_for(&self, network: &str, moment: Duration) -> Option<String> {
        let recent = self.ledger.written_since(self.now().saturating_sub(moment));
        let recent: BTreeSet<(&str, &str)> = recent
            .into_iter()
            .filter(|entry_key| *entry_key.0 == *network)
            .map(|entry_key| (&*entry_key.1, &*entry_key.2))
            .collect();
        let ended: BTreeSet<&str> = self
            .nodes
            .iter()
            .filter(|node| {
                node.instance
                    .as_ref()
                    .is_none_or(|instance| instance.leaving || !instance.joined.contains(network))
            })
            .map(|node| node.name.as_str())
            .collect();
        self.difference_between_members(network, |table_key, shown| {
            recent.contains(&(table_key.0.as_str(), table_key.1.as_str()))
                || shown.into_iter().flatten().any(|(_, owner)| ended.contains(owner.as_str()))
        })
    }

    /// Advances time, at most `within`, until members show the same of all `networks` except writes
    /// of the last `moment`; calls `meanwhile` every twenty milliseconds. Returns how long it took,
    /// or how they differ.
    pub fn agree_meanwhile(
        &mut self,
        moment: Duration,
        within: Duration,
        mut meanwhile: impl FnMut(&mut Cluster),
    ) -> Result<Duration, String> {
        let start = self.now();
        loop {
            let networks = self.networks();
            let difference = networks.iter().find_map(|network| self.difference_but_for(network, moment));
            let Some(difference) = difference else { return Ok(self.now() - start) };
            if self.now() >= start + within {
                return Err(difference);
            }
            for _ in 0..5 {
                self.run_for(20 * MILLISECOND);
                meanwhile(self);
            }
        }
    }

    /// A node that joined networks without faults and is not ready yet; `None` if all are.
    pub fn not_ready(&self) -> Option<String> {
        self.running().into_iter().find_map(|peer| {
            let instance = self.instance(peer);
            let mut waits = instance.joined.iter().filter(|network| !instance.ready.contains(*network));
            waits.next().map(|network| format!("{} on {network}", self.name(peer)))
        })
    }
}

/// How soon a node must be ready after it joined networks without faults.
pub const READY_WITHIN: Duration = SECOND.saturating_mul(5);
