//! What membership reports about other instances, and this node's later instances.

use std::time::Instant;

use wire::{NodeId, NodeName};

use super::Replica;
use super::timing::UNLISTED_GRACE;

impl Replica {
    /// Membership reports this instance alive: for the first time, again after a failure, or in place of an
    /// earlier instance, whose entries are dropped.
    pub fn handle_owner_alive(&mut self, instance: &NodeId, now: Instant) {
        self.now = now;
        let owners = &mut self.node.owners;
        match owners.get(instance.name.as_str()).map(|owner| (owner.generation, owner.alive)) {
            Some((generation, _)) if generation > instance.generation => return,
            Some((generation, true)) if generation == instance.generation => return,
            Some((generation, false)) if generation == instance.generation => {
                owners.set_alive(instance.name.as_str(), true);
                for network in self.networks.iter_mut().flatten() {
                    network.owner_returned(&instance.name, &mut self.node, now);
                }
                self.want_lists(&instance.name);
            }
            former => {
                if former.is_some() {
                    self.end_owner(instance.name.as_str(), now);
                }
                match self.node.owners.add_instance(instance) {
                    Some(list) => {
                        self.handle_list(&list, now);
                    }
                    // Its attachment list is on its way by gossip or in an exchange of lists. If it is not,
                    // this node asks for it later.
                    None => {
                        self.unlisted_at.get_or_insert(now + UNLISTED_GRACE);
                    }
                }
                self.replay_deferred(None, now);
            }
        }
        self.replan_all();
    }

    /// Membership reports that this instance has failed: its entries are hidden, and kept.
    pub fn handle_owner_failed(&mut self, instance: &NodeId, now: Instant) {
        self.now = now;
        let owners = &mut self.node.owners;
        if !owners
            .get(instance.name.as_str())
            .is_some_and(|owner| owner.generation == instance.generation && owner.alive)
        {
            return;
        }
        owners.set_alive(instance.name.as_str(), false);
        self.node.requests.forget_peer(instance.name.as_str());
        for network in self.networks.iter_mut().flatten() {
            network.owner_failed(instance.name.as_str(), &mut self.node, now);
        }
        self.replan_all();
    }

    /// Membership has forgotten this instance a long time after its failure: its entries are dropped. Its
    /// superseded numbers are retained, since it may return.
    pub fn handle_owner_forgotten(&mut self, instance: &NodeId, now: Instant) {
        let known = self.node.owners.get(instance.name.as_str());
        if known.is_some_and(|owner| owner.generation == instance.generation) {
            for network in self.networks.iter_mut().flatten() {
                network.retain_superseded(instance.name.as_str(), &mut self.node);
            }
        }
        self.handle_owner_gone(instance, now);
    }

    /// Membership reports that this instance has left for good: its entries are dropped.
    pub fn handle_owner_gone(&mut self, instance: &NodeId, now: Instant) {
        self.now = now;
        let known = self.node.owners.get(instance.name.as_str());
        if known.is_some_and(|owner| owner.generation == instance.generation) {
            self.end_owner(instance.name.as_str(), now);
            self.replan_all();
        }
    }

    /// This node has joined a cluster through `peer`: it sends `peer` its attachment list, and asks for all
    /// others.
    pub fn handle_cluster_joined(&mut self, peer: &NodeName, now: Instant) {
        self.now = now;
        self.want_lists(peer);
        let me = self.node().name.clone();
        self.list_gossip.add(me, now);
    }

    /// Starts a new instance under the same name and writes our entries again in it. Called when an earlier
    /// process has used our generation.
    pub fn renew(&mut self, generation: u64, now: Instant) {
        self.now = now;
        if generation <= self.node().generation {
            return;
        }
        self.node.owners.renew(generation);
        let me = self.node().clone();
        for network in self.networks.iter_mut().flatten() {
            network.renew(me.clone(), &mut self.node, now);
        }
        self.announce_own_list(now);
        self.replan_all();
    }

    fn end_owner(&mut self, name: &str, now: Instant) {
        self.node.owners.remove(name);
        for network in self.networks.iter_mut().flatten() {
            network.owner_gone(name, &mut self.node, now);
        }
        self.node.requests.forget_peer(name);
        self.lists_compared.remove(name);
        self.node.skews.forget(name);
    }
}
