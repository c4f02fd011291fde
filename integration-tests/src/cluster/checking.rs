//! The checks that run during a scenario.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use membership::State;
use tabledb::{Change, Limits, NetworkStatistics};
use wire::{NodeId, StreamId};

use super::{Cluster, Key, Peer};
use crate::check::{
    Inspection, NetworkState, Origin, RefusalReasons, Relays, WriteId, check_membership, check_queue,
    entry_key,
};

/// By how many microseconds the time of a write may be ahead of the receiver's clock.
pub(super) const MAX_LEAD: u64 = 3_600_000_000;
/// With at most this many entries and tombstones, a node's tables are inspected after every call
/// that changed them.
const HELD_FOR_EVERY_STEP: usize = 24;

impl Cluster {
    /// Drains the watcher of a node, and checks the changes it received.
    pub(super) fn follow(&mut self, peer: Peer) {
        let Some(instance) = self.nodes[peer.0].instance.as_mut() else { return };
        let Some(follower) = instance.follower.as_mut() else { return };
        let result = follower.drain().and_then(|changes| {
            follower.compare(&instance.tables, &changes)?;
            Ok(changes)
        });
        let endpoint = instance.endpoint;
        let result = result.and_then(|changes| {
            for change in changes {
                self.fabric.record_change(endpoint, change.clone());
                self.check_change(peer, &change)?;
            }
            Ok(())
        });
        if let Err(what) = result {
            self.violation(peer, what);
        }
    }

    fn check_change(&mut self, peer: Peer, change: &Change) -> Result<(), String> {
        let entry_key = entry_key(change);
        let path = format!("{}/{}/{}", entry_key.0, entry_key.1, entry_key.2);
        if let Some(previous) = &change.previous
            && let Origin::Write(id) = self.ledger.origin(&entry_key, previous)
        {
            if change.value.is_some() {
                self.watchdog.saw_superseded(peer, id);
            } else if self.holds_owner_for_alive(peer, id) && self.is_member(peer, &entry_key.0) {
                if !self.ledger.may_be_superseded(id) && !self.ledger.is_over(id) {
                    return Err(format!("{path} = {previous:?} vanished, though nothing superseded it"));
                }
                if self.ledger.may_be_superseded(id) {
                    self.watchdog.saw_superseded(peer, id);
                }
            }
        }
        let Some(value) = &change.value else { return Ok(()) };
        match self.ledger.origin(&entry_key, value) {
            Origin::Unknown => Err(format!("{path} = {value:?} is shown, which no node wrote")),
            Origin::Write(id) if self.watchdog.has_seen_superseded(peer, id) => Err(format!(
                "{path} = {:?} is shown again after it was superseded",
                String::from_utf8_lossy(&value[..value.len().min(40)])
            )),
            Origin::Write(_) | Origin::Ambiguous => Ok(()),
        }
    }

    /// Whether `peer` holds the writer alive: then its writes are not merely hidden.
    fn holds_owner_for_alive(&self, peer: Peer, id: WriteId) -> bool {
        let owner = &self.ledger.get(id).version.dot.owner;
        let instance = self.instance(peer);
        if instance.tables.node() == *owner {
            return true;
        }
        let member = instance.machine.membership().member(owner.name.as_str());
        member.is_some_and(|member| {
            member.record.id == *owner && matches!(member.state, State::Alive | State::Suspect)
        })
    }

    fn is_member(&self, peer: Peer, network: &str) -> bool {
        let instance = self.instance(peer);
        instance.joined.contains(network) && !instance.leaving
    }

    /// Notices when a node has taken a later generation by itself: it rewrites its entries as that
    /// instance.
    pub(super) fn notice_renewal(&mut self, peer: Peer) {
        let Some(instance) = self.nodes[peer.0].instance.as_mut() else { return };
        let id = instance.tables.node();
        if id == instance.id {
            return;
        }
        let former = std::mem::replace(&mut instance.id, id.clone());
        let networks: BTreeSet<String> =
            instance.joined.iter().chain(instance.departing.keys()).cloned().collect();
        let departing = instance.departing.clone();
        self.note_on(peer, format!("is {id} from now on"));
        self.ledger.instance_ended(&former);
        for network in &networks {
            let Some(state) = self.inspect(peer, network) else { continue };
            for ((table, key), entry) in state.entries {
                if entry.version.dot.owner == id {
                    let key = Key::new(network, &table, &key);
                    self.ledger.record(self.fabric.now(), key, None, &entry);
                }
            }
        }
        for network in departing.keys() {
            self.ledger.left(&id, network);
        }
    }

    /// Nodes with the same digest of members must hold the same members: differences that the
    /// digest omits would never be found.
    fn check_member_digests(&self) -> Result<(), (Peer, String)> {
        let mut by_digest = BTreeMap::new();
        for peer in self.running() {
            let membership = self.instance(peer).machine.membership();
            let held = membership.members().filter(|member| member.state != State::Left);
            let held: Vec<_> = held
                .map(|member| (&member.record.id, member.incarnation, member.state == State::Failed))
                .collect();
            let (other, others) =
                by_digest.entry(membership.digest()).or_insert_with(|| (peer, held.clone()));
            if *others != held {
                let what =
                    format!("has the digest of members of {}, but holds other members", self.name(*other));
                return Err((peer, format!("{what}: {held:?} here, {others:?} there")));
            }
        }
        Ok(())
    }

    /// The version of another node's attachment list, as known to a node, never decreases.
    fn check_list_versions(&mut self, peer: Peer) -> Result<(), String> {
        let Some(instance) = self.nodes[peer.0].instance.as_mut() else { return Ok(()) };
        let list_versions: BTreeMap<NodeId, u64> =
            instance.machine.replica().list_versions().into_iter().collect();
        let former = std::mem::replace(&mut instance.list_versions, list_versions);
        // An owner that was forgotten and has returned begins at 0.
        let older = |owner: &NodeId, version: u64| {
            instance.list_versions.get(owner).filter(|now| (1..version).contains(*now))
        };
        match former.iter().find_map(|(owner, &version)| Some((owner, version, older(owner, version)?))) {
            Some((owner, version, now)) => Err(format!(
                "knew version {version} of the attachment list of {owner}, and knows version {now}"
            )),
            None => Ok(()),
        }
    }

    /// Inspects every running node.
    pub(crate) fn inspect_all(&mut self) {
        if let Some(interval) = self.settings.inspection {
            self.next_inspection = self.now() + interval;
        }
        for peer in self.running() {
            if let Err(what) = check_membership(self.instance(peer).machine.membership()) {
                self.violation(peer, what);
            }
            self.inspect_tables(peer);
            let result = self.check_streams(peer).and_then(|()| self.check_list_versions(peer));
            if let Err(what) = result {
                self.violation(peer, what);
            }
        }
        if let Err((peer, what)) = self.check_member_digests() {
            self.violation(peer, what);
        }
        let result = self.relays().check(self.ledger.len());
        if let (Err(what), Some(peer)) = (result, self.running().first()) {
            self.violation(*peer, what);
        }
    }

    /// A node's machine must know every open stream: a stream that it forgot would never end, and
    /// the streams of a connection are limited.
    fn check_streams(&self, peer: Peer) -> Result<(), String> {
        let instance = self.instance(peer);
        if !self.fabric.is_running(instance.endpoint) {
            return Ok(());
        }
        // The reverse is possible for a moment: the machine learns late that a stream broke.
        let known: BTreeSet<StreamId> = instance.machine.streams().collect();
        match self.fabric.streams_of(instance.endpoint).into_iter().find(|stream| !known.contains(stream)) {
            Some(stream) => Err(format!("{stream:?} is open, though the machine considers it closed")),
            None => Ok(()),
        }
    }

    /// Checks after every call how much a node has sent and how much is queued, and inspects its
    /// tables whenever they have changed while they are small: so an error is found before the next
    /// one.
    pub(super) fn inspect_if_changed(&mut self, peer: Peer) {
        if self.settings.inspection.is_none() {
            return;
        }
        let written = self.ledger.len();
        let Some(instance) = self.nodes[peer.0].instance.as_mut() else { return };
        let counters = instance.machine.replica().counters();
        let mut relays = Relays::default();
        relays.add(&counters);
        let mut result = relays.check(written);
        let changes = [
            counters.writes,
            counters.updates_learned,
            counters.superseded_dropped,
            counters.reaped,
            counters.provisional,
        ];
        if std::mem::replace(&mut instance.changes, changes) != changes {
            let mut held = 0;
            for network in &instance.joined {
                let Some(statistics) = instance.tables.statistics(network) else { continue };
                held += statistics.entries + statistics.hidden + statistics.tombstones;
                result = result.and(check_queue(network, &statistics));
            }
            if held <= HELD_FOR_EVERY_STEP && result.is_ok() {
                self.inspect_tables(peer);
            }
        }
        if let Err(what) = result {
            self.violation(peer, what);
        }
    }

    fn inspect_tables(&mut self, peer: Peer) {
        let (now, instant) = (self.fabric.now(), self.instant(peer));
        let instance = self.instance(peer);
        let states: Vec<(Arc<str>, NetworkState, NetworkStatistics)> = instance
            .joined
            .iter()
            .filter_map(|network| {
                let state = NetworkState::of(&instance.machine.replica(), network, instant)?;
                Some((Arc::from(network.as_str()), state, instance.tables.statistics(network)?))
            })
            .collect();
        // It takes as long as the other checks; the store checks each of its changes itself.
        let is_due = self.watchdog.inspections().is_multiple_of(4);
        let recounted = is_due.then(|| instance.machine.replica().recount());
        if let Some(Err(difference)) = recounted {
            self.violation(peer, format!("has a store that disagrees with itself: {difference}"));
        }
        let under_way = self.longest_under_way();
        for (network, state, statistics) in states {
            let inspection = Inspection {
                network: &network,
                state: &state,
                ledger: &self.ledger,
                statistics: &statistics,
                now,
                reap_time: self.settings.reap_time,
                reasons: self.refusal_reasons(peer),
                under_way,
            };
            let mut result = self.watchdog.inspect(peer, &inspection);
            if result.is_err() {
                // The sender may not have been inspected since it learned of it. Version vectors
                // only grow, so it knows it now.
                for (other, state) in self.all_that_is_known(&network) {
                    self.watchdog.learn(other, &network, &state);
                }
                result = self.watchdog.inspect(peer, &inspection);
            }
            if let Err(what) = result {
                self.violation(peer, what);
            }
            let hidden = state.entries.values().filter(|entry| entry.value.is_some() && !entry.shown);
            let hidden: BTreeSet<NodeId> = hidden.map(|entry| entry.version.dot.owner.clone()).collect();
            if !hidden.is_empty() {
                self.check_hidden(peer, &network, &hidden);
            }
        }
    }

    fn refusal_reasons(&self, peer: Peer) -> RefusalReasons {
        let node = &self.nodes[peer.0];
        let (limits, usual) = (&node.limits, Limits::default());
        RefusalReasons {
            value_bytes: limits.value_bytes,
            has_small_limits: limits.entries < usual.entries || limits.bytes < usual.bytes,
            // The clock showed this when the process started.
            believed: node.last_generation + MAX_LEAD,
        }
    }

    /// Whether a process refused a new write for its time. It forgets refusals when the attachment
    /// ends.
    pub(crate) fn is_too_far_ahead_for(&self, peer: Peer, write: WriteId) -> bool {
        self.ledger.get(write).version.time > self.refusal_reasons(peer).believed
    }

    /// The state of a network on each process, including those that are leaving it.
    fn all_that_is_known(&self, network: &str) -> Vec<(Peer, NetworkState)> {
        let running = self.running().into_iter();
        running.filter_map(|peer| Some((peer, self.inspect(peer, network)?))).collect()
    }

    /// Records what a process knew when it ended, or began to leave the network.
    pub(super) fn learn_before_end(&mut self, peer: Peer, of: Option<&str>) {
        if self.settings.inspection.is_none() {
            return;
        }
        let instance = self.instance(peer);
        let networks: BTreeSet<String> =
            instance.joined.iter().chain(instance.departing.keys()).cloned().collect();
        for network in networks.into_iter().filter(|network| of.is_none_or(|of| of == network)) {
            if let Some(state) = self.inspect(peer, &network) {
                self.watchdog.learn(peer, &network.into(), &state);
            }
        }
    }

    /// The counters of sent and learned updates, of all processes so far.
    fn relays(&self) -> Relays {
        let mut relays = Relays::default();
        for (_, counters) in &self.ended {
            relays.add(counters);
        }
        for instance in self.nodes.iter().filter_map(|node| node.instance.as_ref()) {
            relays.add(&instance.machine.replica().counters());
        }
        relays
    }
}
