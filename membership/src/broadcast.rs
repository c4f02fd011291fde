//! Queue of updates to be gossiped, each of them a limited number of times.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wire::NodeName;

use crate::message::PacketBuilder;

/// The subject of an update. This node's own refutation or leave message goes first: a suspicion is
/// running, or this process is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    Ourselves,
    Others,
}

/// One transmission of an update in a datagram, to be refunded if the datagram could not be sent.
#[derive(Debug, Clone)]
pub(crate) struct Charge {
    subject: NodeName,
    id: u64,
    message: Arc<[u8]>,
    urgency: Urgency,
    times: u32,
}

#[derive(Debug)]
struct Update {
    message: Arc<[u8]>,
    id: u64,
    urgency: Urgency,
    times: u32,
    fresh: bool,
    /// Whether this node is the origin of the update and must send it to all members.
    origin: bool,
}

/// The queue: at most one update about each node. The least transmitted update goes first; of
/// equals, the newest.
#[derive(Debug)]
pub(crate) struct Broadcasts {
    by_subject: BTreeMap<NodeName, Update>,
    order: BTreeSet<(Urgency, u32, Reverse<u64>, NodeName)>,
    fresh: BTreeSet<(u64, NodeName)>,
    /// Never reset: in other systems, a reused number caused updates to be dropped.
    next_id: u64,
    most: usize,
}

/// How many messages that do not fit are skipped: the remaining bytes of a packet are not worth a
/// longer search.
const MAX_SKIPPED: usize = 16;

impl Broadcasts {
    pub(crate) fn new(most: usize) -> Self {
        Self { by_subject: BTreeMap::new(), order: BTreeSet::new(), fresh: BTreeSet::new(), next_id: 0, most }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_subject.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_subject.is_empty()
    }

    pub(crate) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Queues an update and replaces an older one about the same node. Returns false if the queue
    /// was full and the most transmitted update was dropped.
    pub(crate) fn push(
        &mut self,
        subject: NodeName,
        message: Vec<u8>,
        urgency: Urgency,
        origin: bool,
    ) -> bool {
        self.remove(subject.as_str());
        let id = self.next_id;
        self.next_id += 1;
        self.put(subject, Update { message: message.into(), id, urgency, times: 0, fresh: true, origin });
        if self.by_subject.len() <= self.most {
            return true;
        }
        if let Some((.., subject)) = self.order.last().cloned() {
            self.remove(subject.as_str());
        }
        false
    }

    fn put(&mut self, subject: NodeName, update: Update) {
        self.order.insert((update.urgency, update.times, Reverse(update.id), subject.clone()));
        if update.fresh {
            self.fresh.insert((update.id, subject.clone()));
        }
        self.by_subject.insert(subject, update);
    }

    pub(crate) fn remove(&mut self, subject: &str) {
        if let Some((subject, update)) = self.by_subject.remove_entry(subject) {
            self.fresh.remove(&(update.id, subject.clone()));
            self.order.remove(&(update.urgency, update.times, Reverse(update.id), subject));
        }
    }

    /// Fills a packet with the least transmitted updates and counts one transmission of each; an
    /// update that reaches `limit` is removed.
    pub(crate) fn fill(&mut self, packet: &mut PacketBuilder, limit: u32) -> Vec<Charge> {
        let mut chosen = Vec::new();
        let mut skipped = 0;
        for (.., subject) in &self.order {
            let Some(update) = self.by_subject.get(subject).filter(|update| update.times < limit) else {
                continue;
            };
            if packet.add(update.message.clone()) {
                chosen.push(subject.clone());
            } else {
                skipped += 1;
                if skipped == MAX_SKIPPED || packet.capacity() < 16 {
                    break;
                }
            }
        }
        // A fresh update remains fresh: piggybacking it to one node must not withhold it from the
        // others.
        chosen.into_iter().filter_map(|subject| self.charge(&subject, 1, limit, true)).collect()
    }

    /// Fills up to `most` packets with the least transmitted updates; no update is in two packets.
    pub(crate) fn fill_packets(
        &mut self,
        most: usize,
        budget: usize,
        limit: u32,
    ) -> Vec<(PacketBuilder, Vec<Charge>)> {
        let mut packets = vec![(PacketBuilder::new(budget), Vec::new())];
        for (.., subject) in &self.order {
            let (Some(update), Some((packet, chosen))) = (self.by_subject.get(subject), packets.last_mut())
            else {
                continue;
            };
            if packet.add(update.message.clone()) {
                chosen.push(subject.clone());
                continue;
            }
            if packets.len() == most {
                break;
            }
            let mut packet = PacketBuilder::new(budget);
            packet.add(update.message.clone());
            packets.push((packet, vec![subject.clone()]));
        }
        let mut charge = |subject: NodeName| self.charge(&subject, 1, limit, false);
        packets
            .into_iter()
            .map(|(packet, chosen)| (packet, chosen.into_iter().filter_map(&mut charge).collect::<Vec<_>>()))
            .filter(|(_, charges)| !charges.is_empty())
            .collect()
    }

    /// Fills a packet with fresh updates of local or remote origin and counts `times` transmissions
    /// of each.
    pub(crate) fn fill_fresh(
        &mut self,
        packet: &mut PacketBuilder,
        origin: bool,
        times: u32,
        limit: u32,
    ) -> Vec<Charge> {
        let mut chosen = Vec::new();
        for (_, subject) in &self.fresh {
            let Some(update) = self.by_subject.get(subject) else { continue };
            if update.origin == origin {
                if !packet.add(update.message.clone()) {
                    break;
                }
                chosen.push(subject.clone());
            }
        }
        chosen.into_iter().filter_map(|subject| self.charge(&subject, times, limit, false)).collect()
    }

    /// Leaves fresh updates to the periodic ticks, except those that were piggybacked often enough
    /// already.
    pub(crate) fn clear_fresh(&mut self, limit: u32) {
        for (_, subject) in std::mem::take(&mut self.fresh) {
            if let Some(update) = self.by_subject.get_mut(&subject) {
                update.fresh = false;
                if update.times >= limit {
                    self.remove(subject.as_str());
                }
            }
        }
    }

    fn charge(&mut self, subject: &NodeName, times: u32, limit: u32, stays_fresh: bool) -> Option<Charge> {
        let (subject, mut update) = self.by_subject.remove_entry(subject.as_str())?;
        self.fresh.remove(&(update.id, subject.clone()));
        self.order.remove(&(update.urgency, update.times, Reverse(update.id), subject.clone()));
        update.times += times;
        update.fresh &= stays_fresh;
        let charge = Charge {
            subject: subject.clone(),
            id: update.id,
            message: update.message.clone(),
            urgency: update.urgency,
            times: update.times,
        };
        if update.times < limit || update.fresh {
            self.put(subject, update);
        }
        Some(charge)
    }

    /// Refunds the transmission of an update that could not be sent, unless a newer update about
    /// the same node exists.
    pub(crate) fn refund(&mut self, charge: Charge) {
        match self.by_subject.remove_entry(charge.subject.as_str()) {
            Some((subject, mut update)) => {
                self.order.remove(&(update.urgency, update.times, Reverse(update.id), subject.clone()));
                if update.id == charge.id {
                    update.times = update.times.saturating_sub(1);
                }
                self.put(subject, update);
            }
            None if self.by_subject.len() < self.most => {
                let Charge { subject, id, message, urgency, times } = charge;
                let times = times.saturating_sub(1);
                self.put(subject, Update { message, id, urgency, times, fresh: false, origin: false });
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::split_packet;
    use crate::tests::name;

    fn queue(count: usize) -> Broadcasts {
        let mut queue = Broadcasts::new(100);
        for number in 0..count {
            assert!(queue.push(name(&format!("n{number}")), vec![number as u8; 40], Urgency::Others, true));
        }
        queue
    }

    fn fill(queue: &mut Broadcasts, budget: usize, limit: u32) -> (Vec<u8>, Vec<Charge>) {
        queue.clear_fresh(limit);
        let mut packet = PacketBuilder::new(budget);
        let charges = queue.fill(&mut packet, limit);
        let bytes = packet.finish();
        let firsts =
            split_packet(&bytes).expect("own packet").iter().map(|message| message[0]).collect::<Vec<u8>>();
        (firsts, charges)
    }

    #[test]
    fn the_least_sent_goes_first_and_nothing_is_sent_more_often_than_the_limit() {
        let mut queue = queue(5);
        let mut sent = [0; 5];
        for _ in 0..20 {
            // Capacity for two messages.
            for number in fill(&mut queue, 100, 4).0 {
                sent[usize::from(number)] += 1;
            }
        }
        assert_eq!(sent, [4; 5]);
        assert!(queue.is_empty() && queue.order.is_empty() && queue.fresh.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_not_charged() {
        let mut queue = queue(1);
        queue.push(name("big"), vec![9; 500], Urgency::Others, true);
        for _ in 0..3 {
            assert_eq!(fill(&mut queue, 100, 3).0, [0]);
        }
        assert_eq!(fill(&mut queue, 100, 3).0, [0; 0]);
        assert_eq!(fill(&mut queue, 1000, 3).0, [9], "it waited for capacity");
    }

    #[test]
    fn updates_about_this_node_go_first_however_often_they_were_sent() {
        let mut queue = queue(2);
        queue.push(name("me"), vec![7; 40], Urgency::Ourselves, true);
        assert_eq!(fill(&mut queue, 50, 3).0, [7]);
        assert_eq!(fill(&mut queue, 50, 3).0, [7]);
        assert_eq!(fill(&mut queue, 50, 3).0, [7]);
        assert_eq!(fill(&mut queue, 50, 3).0, [1], "then the newest");
    }

    #[test]
    fn a_newer_update_replaces_an_older_one_about_the_same_node_and_starts_from_zero() {
        let mut queue = queue(1);
        fill(&mut queue, 100, 3);
        fill(&mut queue, 100, 3);
        queue.push(name("n0"), vec![8; 40], Urgency::Others, true);
        assert_eq!(queue.len(), 1);
        for _ in 0..3 {
            assert_eq!(fill(&mut queue, 100, 3).0, [8]);
        }
        assert!(queue.is_empty());
    }

    #[test]
    fn a_refund_restores_a_removed_update_but_not_a_superseded_one() {
        let mut queue = queue(1);
        fill(&mut queue, 100, 2);
        let (_, charges) = fill(&mut queue, 100, 2);
        assert!(queue.is_empty());
        charges.into_iter().for_each(|charge| queue.refund(charge));
        assert_eq!(fill(&mut queue, 100, 2).0, [0]);
        assert!(queue.is_empty());

        queue.push(name("n0"), vec![1; 40], Urgency::Others, true);
        let (_, charges) = fill(&mut queue, 100, 2);
        queue.push(name("n0"), vec![2; 40], Urgency::Others, true);
        assert_eq!(fill(&mut queue, 100, 2).0, [2]);
        charges.into_iter().for_each(|charge| queue.refund(charge));
        assert_eq!(fill(&mut queue, 100, 2).0, [2]);
        assert!(queue.is_empty(), "the newer update was sent as often as allowed, no more");
    }

    #[test]
    fn packets_for_one_member_carry_no_update_twice() {
        let mut queue = queue(5);
        let packets = queue.fill_packets(2, 100, 9);
        let packets = packets.into_iter().map(|(packet, _)| packet.finish()).collect::<Vec<_>>();
        let firsts = |bytes: &[u8]| {
            split_packet(bytes).expect("own packet").iter().map(|message| message[0]).collect::<Vec<_>>()
        };
        assert_eq!(packets.iter().map(|bytes| firsts(bytes)).collect::<Vec<_>>(), [[4, 3], [2, 1]]);
        assert_eq!(fill(&mut queue, 50, 9).0, [0], "the update that was not sent yet");
        assert_eq!(queue.fill_packets(9, 1000, 9).len(), 1);
    }

    #[test]
    fn at_capacity_the_most_sent_update_is_dropped() {
        let mut queue = Broadcasts::new(2);
        assert!(queue.push(name("a"), vec![1; 40], Urgency::Others, true));
        fill(&mut queue, 1000, 9);
        assert!(queue.push(name("b"), vec![2; 40], Urgency::Others, true));
        assert!(!queue.push(name("c"), vec![3; 40], Urgency::Others, true));
        assert_eq!(fill(&mut queue, 1000, 9).0, [3, 2]);
    }

    #[test]
    fn a_piggybacked_update_stays_fresh_but_is_not_piggybacked_beyond_the_limit() {
        let mut queue = queue(1);
        let mut packet = PacketBuilder::new(1000);
        let times = (0..9).map(|_| queue.fill(&mut packet, 4).len()).sum::<usize>();
        assert_eq!((times, queue.has_fresh()), (4, true));
        let mut given_up = self::queue(1);
        assert_eq!((0..9).map(|_| given_up.fill(&mut packet, 4).len()).sum::<usize>(), 4);
        given_up.clear_fresh(4);
        assert!(given_up.is_empty(), "no update remains that would never be sent");
        assert_eq!(queue.fill_fresh(&mut packet, true, 3, 4).len(), 1);
        assert!(queue.is_empty() && !queue.has_fresh());
    }

    #[test]
    fn fresh_updates_are_taken_once_by_origin() {
        let mut queue = queue(2);
        queue.push(name("relayed"), vec![5; 40], Urgency::Others, false);
        let mut packet = PacketBuilder::new(1000);
        assert_eq!(queue.fill_fresh(&mut packet, true, 1, 9).len(), 2);
        assert_eq!(queue.fill_fresh(&mut packet, true, 1, 9).len(), 0);
        assert!(queue.has_fresh());
        queue.clear_fresh(9);
        assert_eq!(queue.fill_fresh(&mut packet, false, 1, 9).len(), 0);
        assert_eq!(queue.len(), 3, "what is no longer fresh is still queued");
    }
}
