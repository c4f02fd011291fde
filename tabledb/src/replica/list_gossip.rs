//! Gossip of attachment lists to the whole cluster: every node knows which nodes are on which network; only
//! members know what is in its tables.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use rand::seq::IndexedRandom;
use wire::{NodeId, NodeName, codec};

use super::message::{AttachmentList, Datagram, ListVersion};
use super::node_state::{NodeState, Transmit};
use super::timing::{
    DATAGRAM_BUDGET, DIRECT_MEMBERS, LISTS_AGAIN_AFTER, LISTS_AGAIN_FAN_OUT, LISTS_DELAY, LISTS_PAUSE,
    fan_out,
};

/// Recently changed lists, sent at once and twice more, then no longer.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct ListGossip {
    /// The owner of each list, when it is sent next, and how often it has been sent.
    due: BTreeMap<NodeName, (Instant, usize)>,
    /// The same by time: the next deadline is computed after every datagram, and there may be as many lists
    /// as nodes.
    order: BTreeSet<(Instant, NodeName)>,
    /// Nothing is sent before this time.
    pause_until: Option<Instant>,
}

impl ListGossip {
    /// The list of `owner` is new here.
    pub(crate) fn add(&mut self, owner: NodeName, now: Instant) {
        self.schedule(owner, now + LISTS_DELAY, 0);
    }

    fn schedule(&mut self, owner: NodeName, at: Instant, times_sent: usize) {
        if let Some((before, _)) = self.due.insert(owner.clone(), (at, times_sent)) {
            self.order.remove(&(before, owner.clone()));
        }
        self.order.insert((at, owner));
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let &(at, _) = self.order.first()?;
        Some(self.pause_until.map_or(at, |pause| at.max(pause)))
    }

    /// Removes the owners whose lists are due; those to be sent again are scheduled.
    fn take_due(&mut self, now: Instant) -> Due {
        let mut due = Due::default();
        if self.next_deadline().is_none_or(|at| at > now) {
            return due;
        }
        while self.order.first().is_some_and(|&(at, _)| at <= now)
            && let Some((_, name)) = self.order.pop_first()
        {
            let times_sent = self.due.remove(&name).map_or(0, |(_, times_sent)| times_sent);
            if let Some(&after) = LISTS_AGAIN_AFTER.get(times_sent) {
                self.schedule(name.clone(), now + after, times_sent + 1);
            }
            match times_sent {
                0 => due.first.push(name),
                _ => due.again.push(name),
            }
        }
        self.pause_until = Some(now + LISTS_PAUSE);
        due
    }

    /// Sends the lists that are due.
    pub(crate) fn flush(&mut self, node: &mut NodeState, now: Instant) {
        let due = self.take_due(now);
        if due.first.is_empty() && due.again.is_empty() {
            return;
        }
        let NodeState { owners, connections, rng, outbox, .. } = node;
        let alive = owners.alive().count();
        let direct = alive <= DIRECT_MEMBERS;
        let fan_out = if direct { alive } else { fan_out(alive) };
        let again = if direct { alive } else { LISTS_AGAIN_FAN_OUT };
        // Established connections spread it as well: each node has some with random others.
        let mut listeners: Vec<&NodeName> = match direct {
            true => Vec::new(),
            false => connections.established(|peer| owners.is_alive(peer)).collect(),
        };
        if listeners.is_empty() {
            listeners = owners.alive().collect();
        }
        for (names, count) in [(due.first, fan_out), (due.again, again)] {
            let targets: Vec<&NodeName> = listeners.sample(rng, count).copied().collect();
            if targets.is_empty() {
                return;
            }
            for bytes in pack(names.iter().filter_map(|name| owners.list_of(name.as_str())), !direct) {
                for &to in &targets {
                    outbox.push_back(Transmit::Datagram { to: to.clone(), bytes: bytes.clone() });
                }
            }
        }
    }
}

/// The owners whose lists are due, in an order that depends only on when they arrived.
#[derive(Debug, Default, PartialEq, Eq)]
struct Due {
    /// For the first time.
    first: Vec<NodeName>,
    /// Once more.
    again: Vec<NodeName>,
}

/// Packs lists into datagrams. Of a list too long for a datagram, only the version is sent.
fn pack(all: impl Iterator<Item = AttachmentList>, relay: bool) -> Vec<Vec<u8>> {
    const OVERHEAD: usize = 32;
    let mut datagrams = Vec::new();
    let (mut lists, mut versions, mut used) = (Vec::new(), Vec::new(), OVERHEAD);
    for list in all {
        let id = NodeId::clone(&list.owner);
        let whole = 27
            + id.name.as_str().len()
            + list.networks.iter().map(|(name, _)| name.len() + 12).sum::<usize>();
        let fits = whole + OVERHEAD <= DATAGRAM_BUDGET;
        let size = if fits { whole } else { 27 + id.name.as_str().len() };
        if used + size > DATAGRAM_BUDGET {
            let datagram = Datagram::Lists {
                lists: std::mem::take(&mut lists),
                versions: std::mem::take(&mut versions),
                relay,
            };
            datagrams.push(codec::encode(&datagram));
            used = OVERHEAD;
        }
        used += size;
        match fits {
            true => lists.push(list),
            false => versions.push(ListVersion { owner: id, version: list.version }),
        }
    }
    if !lists.is_empty() || !versions.is_empty() {
        datagrams.push(codec::encode(&Datagram::Lists { lists, versions, relay }));
    }
    datagrams
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn list(name: &str, networks: usize) -> AttachmentList {
        let networks = (0..networks).map(|n| (format!("network-{n:05}"), n as u64)).collect();
        AttachmentList {
            owner: NodeId::new(NodeName::new(name).unwrap(), u64::MAX),
            version: u64::MAX,
            networks,
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only a starting point")]
    fn due_lists_are_sent_in_order_of_time_and_a_fixed_number_of_times() {
        let (start, name) = (Instant::now(), |name: &str| NodeName::new(name).unwrap());
        let mut gossip = ListGossip::default();
        gossip.add(name("b"), start);
        gossip.add(name("a"), start + LISTS_DELAY / 2);
        // A newer version of the same list replaces the older one.
        gossip.add(name("b"), start + LISTS_DELAY / 2);
        assert_eq!(gossip.take_due(start + LISTS_DELAY), Due::default());
        let mut rounds = Vec::new();
        while let Some(at) = gossip.next_deadline() {
            let Due { first, again } = gossip.take_due(at);
            rounds.push((first.len(), again.len()));
        }
        assert_eq!(rounds, [(2, 0), (0, 2), (0, 2)]);
        assert_eq!((rounds.len(), gossip.due.len()), (1 + LISTS_AGAIN_AFTER.len(), 0));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only a starting point")]
    fn lists_that_arrive_one_after_the_other_are_sent_together_after_a_pause() {
        let start = Instant::now();
        let mut gossip = ListGossip::default();
        let mut sent = Vec::new();
        for millisecond in 0..60 {
            let now = start + Duration::from_millis(millisecond);
            gossip.add(NodeName::new(&format!("n{millisecond}")).unwrap(), now);
            sent.extend(Some(gossip.take_due(now).first.len()).filter(|count| *count > 0));
        }
        assert_eq!(sent, [1, 20, 20], "the first at once");
    }

    #[test]
    fn every_list_is_sent_within_the_datagram_budget() {
        let lists: Vec<AttachmentList> = (0..40).map(|n| list(&format!("node-{n}"), n * 3)).collect();
        let datagrams = pack(lists.iter().cloned(), true);
        let mut packed = 0;
        for bytes in &datagrams {
            assert!(bytes.len() <= DATAGRAM_BUDGET, "{}", bytes.len());
            let Ok(Datagram::Lists { lists, versions, .. }) = codec::decode(bytes) else {
                panic!("not lists")
            };
            packed += lists.len() + versions.len();
        }
        assert_eq!(packed, lists.len());
        assert!(datagrams.len() > 3);
    }
}
