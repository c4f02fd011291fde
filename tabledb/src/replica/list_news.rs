//! Spreading news of lists to the whole cluster: who is on which network is everybody's business, what is in its tables
//! is not.

use std::collections::BTreeMap;
use std::time::Instant;

use rand::seq::IndexedRandom;
use wire::{NodeId, NodeName, codec};

use super::common::{Common, Transmit};
use super::message::{Datagram, List, ListHead};
use super::timing::{DATAGRAM_BUDGET, DIRECT_MEMBERS, FAN_OUT, FLUSH_DELAY, LISTS_AGAIN_AFTER};

/// Lists that changed lately, told at once and again after a while, then no more.
#[derive(Debug, Default)]
pub(crate) struct ListNews {
    /// Whose list, when it is to be told next, and how often it has been.
    due: BTreeMap<NodeName, (Instant, usize)>,
}

impl ListNews {
    /// The list of `owner` is news here.
    pub(crate) fn add(&mut self, owner: NodeName, now: Instant) {
        self.due.insert(owner, (now + FLUSH_DELAY, 0));
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due.values().map(|&(at, _)| at).min()
    }

    /// Tells what is due.
    pub(crate) fn flush(&mut self, common: &mut Common, now: Instant) {
        let mut names = Vec::new();
        self.due.retain(|name, (at, told)| {
            if *at > now {
                return true;
            }
            names.push(name.clone());
            let again = LISTS_AGAIN_AFTER.get(*told);
            *told += 1;
            match again {
                Some(&after) => {
                    *at = now + after;
                    true
                }
                None => false,
            }
        });
        if names.is_empty() {
            return;
        }
        let alive: Vec<NodeName> =
            common.owners.others().filter(|(_, owner)| owner.alive).map(|(name, _)| name.clone()).collect();
        let direct = alive.len() <= DIRECT_MEMBERS;
        let count = if direct { alive.len() } else { FAN_OUT };
        let targets: Vec<NodeName> = alive.sample(&mut common.rng, count).cloned().collect();
        if targets.is_empty() {
            return;
        }
        for bytes in pack(names.iter().filter_map(|name| common.owners.list_of(name.as_str())), !direct) {
            for to in &targets {
                common.outbox.push_back(Transmit::Datagram { to: to.clone(), bytes: bytes.clone() });
            }
        }
    }
}

/// Packs lists into datagrams; of one that is too long for any, only the version is told.
fn pack(all: impl Iterator<Item = List>, relay: bool) -> Vec<Vec<u8>> {
    const OVERHEAD: usize = 32;
    let mut datagrams = Vec::new();
    let (mut lists, mut heads, mut used) = (Vec::new(), Vec::new(), OVERHEAD);
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
                heads: std::mem::take(&mut heads),
                relay,
            };
            datagrams.push(codec::encode(&datagram));
            used = OVERHEAD;
        }
        used += size;
        match fits {
            true => lists.push(list),
            false => heads.push(ListHead { owner: id, version: list.version }),
        }
    }
    if !lists.is_empty() || !heads.is_empty() {
        datagrams.push(codec::encode(&Datagram::Lists { lists, heads, relay }));
    }
    datagrams
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(name: &str, networks: usize) -> List {
        let networks = (0..networks).map(|n| (format!("network-{n:05}"), n as u64)).collect();
        List { owner: NodeId::new(NodeName::new(name).unwrap(), u64::MAX), version: u64::MAX, networks }
    }

    #[test]
    fn every_list_is_told_within_the_datagram_budget() {
        let lists: Vec<List> = (0..40).map(|n| list(&format!("node-{n}"), n * 3)).collect();
        let datagrams = pack(lists.iter().cloned(), true);
        let mut told = 0;
        for bytes in &datagrams {
            assert!(bytes.len() <= DATAGRAM_BUDGET, "{}", bytes.len());
            let Ok(Datagram::Lists { lists, heads, .. }) = codec::decode(bytes) else { panic!("not lists") };
            told += lists.len() + heads.len();
        }
        assert_eq!(told, lists.len());
        assert!(datagrams.len() > 3);
    }
}
