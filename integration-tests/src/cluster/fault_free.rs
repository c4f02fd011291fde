//! What is promised when nothing hinders anybody: judged from the moment from which a scenario says so.

use std::collections::BTreeSet;
use std::time::Duration;

use membership::State;

use super::{Cluster, MILLISECOND, Peer, SECOND};
use crate::check::{VersionVector, contains_all, intersection};

/// How long entries may stay hidden though their owner is back, and there is a connection with it.
const HIDDEN_AT_MOST: Duration = Duration::from_secs(1);
/// How long a dial may take that began while the owner was cut off: others can tell that it is back before it can be asked.
const DIALLED_WITHIN: Duration = Duration::from_secs(3);
/// What has been known and seen for so long, everybody has been told of.
const SETTLED: Duration = Duration::from_secs(5);

/// What all who had long been on a network knew of it when somebody joined it.
#[derive(Debug)]
pub(crate) struct JoinBaseline {
    known: VersionVector,
    at: Duration,
}

/// How often something was judged, and what was the worst of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Newcomers that said they were ready, and what they held then was looked at.
    pub ready: u64,
    /// The longest that one of them took.
    pub longest_ready: Duration,
    /// Times a node held entries hidden whose owner was back.
    pub hidden: u64,
    /// The longest that such entries were found hidden.
    pub longest_hidden: Duration,
}

/// What of these promises is judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EnabledChecks {
    pub(crate) readiness: bool,
    pub(crate) hidden: bool,
}

impl Cluster {
    /// From here on nothing hinders anybody any more.
    pub fn declare_fault_free(&mut self) {
        self.fault_free_since = Some(self.now());
    }

    /// From here on only what a scenario asks is looked at.
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

    /// What has been judged so far of what is promised when nothing hinders anybody.
    pub fn checked(&self) -> Checked {
        self.checked
    }

    /// Takes down what there is for a newcomer to learn, if all is well and has been for a while.
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

    /// Whether it knows of everybody, and everybody of it.
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

    /// Who says that it is ready holds what those who had been there held when it joined.
    pub(super) fn check_readiness(&mut self, peer: Peer, network: &str) {
        let now = self.now();
        let Some(mut join_baseline) = self.instance_mut(peer).join_baseline.remove(network) else { return };
        // What has ended meanwhile need not be learned.
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
                format!("says it is ready on {network}, and has not heard of {missing}, which all knew");
            self.violation(peer, what);
        }
    }

    /// What a node holds of an owner that is back is shown soon.
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
            let what = format!("hides what {owner} wrote in {network}, {longest:?} after it came back");
            self.violation(peer, what);
        }
    }

    /// The first difference between what members of a network show, but for what was written within the last `moment`, for what
    /// is shown of owners that have ended or left the network, of which some may not have heard, and for what is refused.
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

    /// Lets time pass, at most `within`, until members show the same of all `networks` but for what was written within the
    /// last `moment`; calls `meanwhile` every twenty milliseconds. Returns how long it took, or how they differ.
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

    /// Whether everybody who joined networks while all was well says it is ready; `None` if so, else who is not.
    pub fn not_ready(&self) -> Option<String> {
        self.running().into_iter().find_map(|peer| {
            let instance = self.instance(peer);
            let mut waits = instance.joined.iter().filter(|network| !instance.ready.contains(*network));
            waits.next().map(|network| format!("{} on {network}", self.name(peer)))
        })
    }
}

/// How soon those who join networks when all is well must be ready there.
pub const READY_WITHIN: Duration = SECOND.saturating_mul(5);
