//! Sending updates and high watermarks.

use std::collections::BTreeSet;
use std::time::Instant;

use wire::NodeName;

use super::super::bundle::{BundleBuilder, Envelope};
use super::super::node_state::{NodeState, Transmit};
use super::super::timing::{DATAGRAM_BUDGET, DIRECT_MEMBERS, PUSH_FAN_OUT, fan_out};
use super::super::update_queue::{Flush, QueuedUpdate};
use super::Network;
use crate::record::AttachmentIndex;

impl Network {
    pub(super) fn flush(&mut self, node: &mut NodeState, now: Instant) {
        let members = self.members(node).len();
        let direct = members <= DIRECT_MEMBERS;
        let flush = self.updates.take(now);
        let count = match flush {
            _ if direct => members,
            Flush::Backlog(_) => PUSH_FAN_OUT,
            Flush::Updates(_) => fan_out(members),
        };
        let targets = self.scheduler.gossip_targets(count, node);
        match flush {
            Flush::Backlog(indexes) => {
                node.counters.backlogs += 1;
                self.scheduler.push(&indexes, !direct, targets, node);
            }
            Flush::Updates(updates) => self.send_updates(updates, &targets, !direct, node, now),
        }
    }

    fn send_updates(
        &mut self,
        updates: Vec<QueuedUpdate>,
        targets: &[NodeName],
        relay: bool,
        node: &mut NodeState,
        now: Instant,
    ) {
        if targets.is_empty() {
            return;
        }
        let mut large = BTreeSet::new();
        let mut updates = updates.into_iter().peekable();
        while updates.peek().is_some() {
            let mut bundle = BundleBuilder::new(DATAGRAM_BUDGET, &self.name, node.clock.last());
            while let Some(update) = updates.peek() {
                if !bundle.is_empty() && !bundle.has_room_for(update.together) {
                    break;
                }
                if !bundle.add_number(&self.store, update.dot, &update.replaced, now) {
                    break;
                }
                updates.next();
            }
            if updates.peek().is_none() {
                // If one of several datagrams is lost, the watermarks in the last one reveal it.
                for index in bundle.attachments().to_vec() {
                    if !bundle.add_watermark(&self.store, index) {
                        break;
                    }
                }
            }
            let indexes = bundle.attachments().to_vec();
            let bytes = bundle.finish(&self.store, relay, Envelope::Datagram);
            if bytes.len() > DATAGRAM_BUDGET {
                // A single large entry is pushed over a stream at once.
                large.extend(indexes);
                continue;
            }
            node.counters.gossip_sent += targets.len() as u64;
            for peer in targets {
                node.outbox.push_back(Transmit::Datagram { to: peer.clone(), bytes: bytes.clone() });
            }
        }
        if !large.is_empty() {
            self.scheduler.push(&large, relay, targets.iter().cloned(), node);
        }
    }

    /// Sends the high watermarks of these attachments, and the fingerprint if the network is quiescent. The
    /// fingerprint also reveals differences that no watermark shows, such as a number that is live here and
    /// superseded there.
    pub(super) fn send_watermarks(
        &mut self,
        indexes: &[AttachmentIndex],
        fan_out: usize,
        node: &mut NodeState,
        now: Instant,
    ) {
        let fingerprint = self.offered_fingerprint(now);
        let targets = self.scheduler.sample_members(fan_out, node);
        if targets.is_empty() {
            return;
        }
        let mut indexes = indexes.iter().copied().peekable();
        while indexes.peek().is_some() {
            let mut bundle = BundleBuilder::new(DATAGRAM_BUDGET, &self.name, node.clock.last());
            while let Some(&index) = indexes.peek() {
                if !bundle.add_watermark(&self.store, index) {
                    break;
                }
                indexes.next();
            }
            if bundle.is_empty() {
                break;
            }
            bundle.set_fingerprint(fingerprint);
            let bytes = bundle.finish(&self.store, false, Envelope::Datagram);
            node.counters.watermarks_sent += targets.len() as u64;
            for peer in &targets {
                node.outbox.push_back(Transmit::Datagram { to: peer.clone(), bytes: bytes.clone() });
            }
        }
    }
}
