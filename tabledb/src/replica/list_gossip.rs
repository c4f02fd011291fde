//! Spreading news of lists to the whole cluster: who is on which network is everybody's business, what is in its tables
//! is not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use rand::seq::IndexedRandom;
use wire::{NodeId, NodeName, codec};

use super::message::{AttachmentList, Datagram, ListVersion};
use super::node_state::{NodeState, Transmit};
use super::timing::{
    DATAGRAM_BUDGET, DIRECT_MEMBERS, FLUSH_DELAY, LISTS_AGAIN_AFTER, LISTS_AGAIN_FAN_OUT, LISTS_PAUSE,
    fan_out,
};

/// Lists that changed lately, told at once and again after a while, then no more.
#[derive(Debug, Default)]
pub(crate) struct ListGossip {
    /// Whose list, when it is to be told next, and how often it has been.
    due: BTreeMap<NodeName, (Instant, usize)>,
    /// The same by time: the next deadline is asked for after every datagram, and there may be as many lists as nodes.
    order: BTreeSet<(Instant, NodeName)>,
    /// Nothing is told before.
    pause_until: Option<Instant>,
}

impl ListGossip {
    /// The list of `owner` is news here.
    pub(crate) fn add(&mut self, owner: NodeName, now: Instant) {
        self.schedule(owner, now + FLUSH_DELAY, 0);
    }

    fn schedule(&mut self, owner: NodeName, at: Instant, told: usize) {
        if let Some((before, _)) = self.due.insert(owner.clone(), (at, told)) {
            self.order.remove(&(before, owner.clone()));
        }
        self.order.insert((at, owner));
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let &(at, _) = self.order.first()?;
        Some(self.pause_until.map_or(at, |pause| at.max(pause)))
    }

    /// Takes out whose lists are due; those that are to be told again stay for later.
    fn take_due(&mut self, now: Instant) -> Due {
        let mut due = Due::default();
        if self.next_deadline().is_none_or(|at| at > now) {
            return due;
        }
        while self.order.first().is_some_and(|&(at, _)| at <= now)
            && let Some((_, name)) = self.order.pop_first()
        {
            let told = self.due.remove(&name).map_or(0, |(_, told)| told);
            if let Some(&after) = LISTS_AGAIN_AFTER.get(told) {
                self.schedule(name.clone(), now + after, told + 1);
            }
            match told {
                0 => due.news.push(name),
                _ => due.again.push(name),
            }
        }
        self.pause_until = Some(now + LISTS_PAUSE);
        due
    }

    /// Tells what is due.
    pub(crate) fn flush(&mut self, node: &mut NodeState, now: Instant) {
        let due = self.take_due(now);
        if due.news.is_empty() && due.again.is_empty() {
            return;
        }
        let NodeState { owners, connections, rng, outbox, .. } = node;
        let alive = owners.alive().count();
        let direct = alive <= DIRECT_MEMBERS;
        let fan_out = if direct { alive } else { fan_out(alive) };
        let again = if direct { alive } else { LISTS_AGAIN_FAN_OUT };
        // It spreads as well over the connections that there are: each node has some with random others.
        let mut listeners: Vec<&NodeName> = match direct {
            true => Vec::new(),
            false => connections.established(|peer| owners.is_alive(peer)).collect(),
        };
        if listeners.is_empty() {
            listeners = owners.alive().collect();
        }
        for (names, count) in [(due.news, fan_out), (due.again, again)] {
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

/// Whose lists are to be told now, in an order that depends on nothing but when they came.
#[derive(Debug, Default, PartialEq, Eq)]
struct Due {
    /// For the first time.
    news: Vec<NodeName>,
    /// Once more.
    again: Vec<NodeName>,
}

/// Packs lists into datagrams; of one that is too long for any, only the version is told.
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
    fn what_is_due_comes_by_time_and_is_told_so_often_and_no_more() {
        let (start, name) = (Instant::now(), |name: &str| NodeName::new(name).unwrap());
        let mut news = ListGossip::default();
        news.add(name("b"), start);
        news.add(name("a"), start + FLUSH_DELAY / 2);
        // Newer news of the same list takes the place of the older.
        news.add(name("b"), start + FLUSH_DELAY / 2);
        assert_eq!(news.take_due(start + FLUSH_DELAY), Due::default());
        let mut told = Vec::new();
        while let Some(at) = news.next_deadline() {
            let Due { news, again } = news.take_due(at);
            told.push((news.len(), again.len()));
        }
        assert_eq!(told, [(2, 0), (0, 2), (0, 2)]);
        assert_eq!((told.len(), news.due.len()), (1 + LISTS_AGAIN_AFTER.len(), 0));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only a starting point")]
    fn lists_that_come_one_after_the_other_are_told_together_after_a_pause() {
        let start = Instant::now();
        let mut news = ListGossip::default();
        let mut tellings = Vec::new();
        for millisecond in 0..60 {
            let now = start + Duration::from_millis(millisecond);
            news.add(NodeName::new(&format!("n{millisecond}")).unwrap(), now);
            tellings.extend(Some(news.take_due(now).news.len()).filter(|count| *count > 0));
        }
        assert_eq!(tellings, [1, 20, 20], "the first at once");
    }

    #[test]
    fn every_list_is_told_within_the_datagram_budget() {
        let lists: Vec<AttachmentList> = (0..40).map(|n| list(&format!("node-{n}"), n * 3)).collect();
        let datagrams = pack(lists.iter().cloned(), true);
        let mut told = 0;
        for bytes in &datagrams {
            assert!(bytes.len() <= DATAGRAM_BUDGET, "{}", bytes.len());
            let Ok(Datagram::Lists { lists, versions, .. }) = codec::decode(bytes) else {
                panic!("not lists")
            };
            told += lists.len() + versions.len();
        }
        assert_eq!(told, lists.len());
        assert!(datagrams.len() > 3);
    }
}
