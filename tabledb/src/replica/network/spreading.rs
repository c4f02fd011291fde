//! Sending what there is to tell, and asking for what is missing.

use std::collections::BTreeSet;
use std::time::Instant;

use wire::NodeName;

use super::super::bundle::{BundleBuilder, Envelope};
use super::super::common::{Common, Transmit};
use super::super::message::SessionKind;
use super::super::news::{Flush, Item};
use super::super::timing::{DATAGRAM_BUDGET, DIRECT_MEMBERS, PUSH_FAN_OUT, RETRY, fan_out};
use super::super::view::Slot;
use super::Network;

impl Network {
    pub(super) fn flush(&mut self, common: &mut Common, now: Instant) {
        let members = self.members(common).len();
        let direct = members <= DIRECT_MEMBERS;
        let flush = self.news.take();
        let count = match flush {
            _ if direct => members,
            Flush::Backlog(_) => PUSH_FAN_OUT,
            Flush::Items(_) => fan_out(members),
        };
        let mut targets = self.sample_members(count, common);
        // A member that a push is chasing gets all of this on its stream.
        targets.retain(|peer| !self.pushing.contains_key(peer));
        match flush {
            Flush::Backlog(slots) => {
                common.counters.backlogs += 1;
                for peer in targets {
                    self.request(SessionKind::Push { relay: !direct }, peer, slots.clone(), common);
                }
            }
            Flush::Items(items) => self.send_items(items, &targets, !direct, common, now),
        }
    }

    fn send_items(
        &mut self,
        items: Vec<Item>,
        targets: &[NodeName],
        relay: bool,
        common: &mut Common,
        now: Instant,
    ) {
        if targets.is_empty() {
            return;
        }
        let mut large = BTreeSet::new();
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            let mut bundle = BundleBuilder::new(DATAGRAM_BUDGET, &self.name, common.clock.last());
            while let Some(item) = items.peek() {
                if !bundle.add_number(&self.store, item.dot, &item.replaced, now) {
                    break;
                }
                items.next();
            }
            if items.peek().is_none() {
                // Should one of several datagrams get lost, the last tells that there was more.
                for slot in bundle.attachments().to_vec() {
                    if !bundle.add_head(&self.store, slot) {
                        break;
                    }
                }
            }
            let slots = bundle.attachments().to_vec();
            let bytes = bundle.finish(&self.store, relay, Envelope::Datagram);
            if bytes.len() > DATAGRAM_BUDGET {
                // A single large entry. It goes over streams, at once.
                large.extend(slots);
                continue;
            }
            common.counters.gossip_sent += targets.len() as u64;
            for peer in targets {
                common.outbox.push_back(Transmit::Datagram { to: peer.clone(), bytes: bytes.clone() });
            }
        }
        if !large.is_empty() {
            for peer in targets {
                self.request(SessionKind::Push { relay }, peer.clone(), large.clone(), common);
            }
        }
    }

    /// Tells how far these attachments have been seen, and once all is still, what everything held amounts to: that
    /// also finds what no head can tell of, such as a number that is live here and dead there.
    pub(super) fn tell_heads(&mut self, slots: &[Slot], fan_out: usize, common: &mut Common, now: Instant) {
        let fingerprint = self.offered_fingerprint(now);
        let targets = self.sample_members(fan_out, common);
        if targets.is_empty() {
            return;
        }
        let mut slots = slots.iter().copied().peekable();
        while slots.peek().is_some() {
            let mut bundle = BundleBuilder::new(DATAGRAM_BUDGET, &self.name, common.clock.last());
            while let Some(&slot) = slots.peek() {
                if !bundle.add_head(&self.store, slot) {
                    break;
                }
                slots.next();
            }
            if bundle.is_empty() {
                break;
            }
            bundle.set_fingerprint(fingerprint);
            let bytes = bundle.finish(&self.store, false, Envelope::Datagram);
            common.counters.heads_sent += targets.len() as u64;
            for peer in &targets {
                common.outbox.push_back(Transmit::Datagram { to: peer.clone(), bytes: bytes.clone() });
            }
        }
    }

    pub(super) fn pull_missing(&mut self, common: &mut Common, now: Instant) {
        if self.may_pull_at().is_none_or(|at| at > now)
            || self.missing.values().all(|missing| missing.pull_at > now)
        {
            return;
        }
        if let Some((silent, _)) = self.pulling {
            // As good as over: another is asked, and it counts, or whoever is alone would go on for ever.
            return self.pulled(silent, common, now);
        }
        self.forget_arrived();
        let Some(due) = self.missing.values().find(|missing| missing.pull_at <= now) else { return };
        // Whoever told of it may not be a member, or not be known as one yet.
        let member = common.owners.is_member(due.holder.as_str(), &self.name);
        let holder = if member { Some(due.holder.clone()) } else { self.sample_members(1, common).pop() };
        let slots: BTreeSet<Slot> =
            self.missing.keys().filter(|slot| !self.receiving.is_coming(**slot, now)).copied().collect();
        for missing in self.missing.values_mut() {
            missing.pull_at = now + RETRY;
        }
        if let Some(holder) = holder.filter(|_| !slots.is_empty()) {
            common.counters.pulls += 1;
            self.request(SessionKind::Pull, holder, slots, common);
        }
    }
}
