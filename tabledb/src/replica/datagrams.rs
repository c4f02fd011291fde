//! Datagrams and the digests of probes: gossip that names unknown instances is deferred until membership reports them.

use std::collections::BTreeMap;
use std::time::Instant;

use wire::{NodeId, NodeName, codec};

use super::counters::RefusalReason;
use super::message::{Bundle, Datagram, Digest, ListVersion};
use super::timing::DEFERRED_FOR;
use super::{Deferred, MessageError, Replica};
use crate::ArrivalPath;
use crate::digest::digest_bytes;

impl Replica {
    /// Handles the content of a datagram from an authenticated peer.
    pub fn handle_datagram(
        &mut self,
        from: &NodeName,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(), MessageError> {
        self.now = now;
        let datagram = self.decoded(codec::decode::<Datagram<'_>>(bytes))?;
        match datagram {
            Datagram::Gossip(bundle) => {
                if self.handle_bundle(from, &bundle, now) {
                    self.defer(from, bytes, now);
                }
            }
            // An attachment list comes from its author, or from another member of the cluster that relays it.
            Datagram::Lists { .. } if !self.node.owners.knows(from) => {
                self.node.counters.refuse(RefusalReason::UnknownInstance);
            }
            Datagram::Lists { lists, versions, relay } => {
                for list in &lists {
                    if self.handle_list(list, now) && relay {
                        self.list_gossip.add(list.owner.name.clone(), now);
                    }
                }
                if versions.iter().any(|theirs| self.node.owners.is_behind(theirs)) {
                    self.want_lists(from);
                }
                for theirs in versions {
                    self.check_author(&theirs.owner, theirs.version);
                }
            }
            Datagram::Settled { network, settled } => {
                if let Some(&at) = self.by_name.get(network)
                    && let Some(network) = &mut self.networks[at]
                    && network.members(&self.node).binary_search(from).is_ok()
                {
                    network.note_settled(from, &settled, &mut self.node, now);
                    // The pull of missing numbers may now be due earlier than the planned deadline.
                    self.plan(at, now);
                }
            }
        }
        Ok(())
    }

    /// Handles the digest that a peer attached to a probe or acknowledgement; the peer made it with
    /// [`Self::digest_for`].
    pub fn handle_digest(&mut self, from: &NodeName, bytes: &[u8], now: Instant) -> Result<(), MessageError> {
        self.now = now;
        let digest = self.decoded(codec::decode::<Digest>(bytes))?;
        let theirs =
            ListVersion { owner: NodeId::new(from.clone(), digest.generation), version: digest.version };
        if self.node.owners.is_behind(&theirs) || self.lists_differ(from, digest.lists, now) {
            self.want_lists(from);
        }
        let theirs: BTreeMap<u64, u64> = digest.fingerprints.into_iter().collect();
        for at in 0..self.networks.len() {
            let Some(network) = &mut self.networks[at] else { continue };
            let Some(&theirs) = theirs.get(&digest_bytes(network.name.as_bytes())) else { continue };
            if network.members(&self.node).binary_search(from).is_ok() {
                network.note_fingerprint(from, theirs, &mut self.node, now);
            }
        }
        Ok(())
    }

    /// The digest to attach to a probe or acknowledgement to `peer`, in at most `budget` bytes: the version
    /// of our attachment list, and the fingerprints of shared networks that are quiescent. `None` if the
    /// budget is too small.
    pub fn digest_for(&mut self, peer: &NodeName, budget: usize, now: Instant) -> Option<Vec<u8>> {
        self.now = now;
        const FIXED: usize = 32;
        const EACH: usize = 18;
        let most = budget.checked_sub(FIXED)? / EACH;
        let lists = self.node.owners.lists_digest();
        let mut fingerprints = Vec::new();
        for network in self.networks.iter_mut().flatten() {
            if fingerprints.len() == most {
                break;
            }
            if network.members(&self.node).binary_search(peer).is_ok()
                && let Some(fingerprint) = network.offered_fingerprint(now)
            {
                fingerprints.push((digest_bytes(network.name.as_bytes()), fingerprint));
            }
        }
        let digest = Digest {
            generation: self.node().generation,
            version: self.node.owners.own_version(),
            lists,
            fingerprints,
        };
        Some(codec::encode(&digest))
    }

    /// Applies gossip. Returns true if it names an instance, or comes from a sender, that is not known yet.
    fn handle_bundle(&mut self, from: &NodeName, bundle: &Bundle<'_>, now: Instant) -> bool {
        let Some(&at) = self.by_name.get(bundle.network) else {
            self.node.counters.refuse(RefusalReason::NotMember);
            return false;
        };
        let Some(network) = &mut self.networks[at] else { return false };
        match network.admit_sender(from, bundle, &mut self.node, now) {
            Ok(()) => {}
            Err(RefusalReason::UnknownInstance) => return true,
            Err(why) => {
                self.node.counters.refuse(why);
                return false;
            }
        }
        let applied = network.apply(bundle, from, ArrivalPath::Gossip, &mut self.node, now);
        self.node.counters.updates_learned += applied.learned;
        if applied.generation_conflict {
            self.node.report_generation_conflict();
        }
        if let Some(theirs) = bundle.fingerprint
            && network.members(&self.node).binary_search(from).is_ok()
        {
            network.note_fingerprint(from, theirs, &mut self.node, now);
        }
        self.plan(at, now);
        applied.unknown_instance
    }

    fn defer(&mut self, from: &NodeName, bytes: &[u8], now: Instant) {
        if self.deferred.len() >= self.node.config.limits.deferred {
            self.deferred.pop_front();
            self.node.counters.refuse(RefusalReason::UnknownInstance);
        }
        self.node.counters.deferred += 1;
        self.deferred.push_back(Deferred {
            from: from.clone(),
            bytes: bytes.to_vec(),
            until: now + DEFERRED_FOR,
        });
    }

    /// Handles deferred datagrams again: all of them, or those of one sender.
    pub(super) fn replay_deferred(&mut self, sender: Option<&NodeName>, now: Instant) {
        for deferred in std::mem::take(&mut self.deferred) {
            if sender.is_some_and(|sender| deferred.from != *sender) {
                self.deferred.push_back(deferred);
            } else if let Ok(Datagram::Gossip(bundle)) = codec::decode::<Datagram<'_>>(&deferred.bytes)
                && self.handle_bundle(&deferred.from, &bundle, now)
            {
                self.deferred.push_back(deferred);
            }
        }
    }
}
