//! Allowed differences between members of a network of which some refuse writes.
//!
//! No node is left out of a comparison: it must show all other entries like every member.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::checking::MAX_LEAD;
use super::{Cluster, Peer};
use crate::check::{NetworkState, WriteId};

/// A table and a key.
pub(crate) type TableKey = (String, String);

/// What a member shows under a key: the value and its owner.
type Shown<'a> = Option<&'a (Vec<u8>, String)>;

/// The refused writes of one network by member; computed on first use.
pub(crate) struct Refusals<'a> {
    cluster: &'a Cluster,
    network: &'a str,
    members: OnceCell<BTreeMap<Peer, (NetworkState, BTreeSet<TableKey>)>>,
}

impl<'a> Refusals<'a> {
    pub(crate) fn on(cluster: &'a Cluster, network: &'a str) -> Self {
        Self { cluster, network, members: OnceCell::new() }
    }

    fn members(&self) -> &BTreeMap<Peer, (NetworkState, BTreeSet<TableKey>)> {
        self.members.get_or_init(|| {
            let members = self.cluster.members_of(self.network).into_iter();
            let inspected = members.filter_map(|member| {
                let state = self.cluster.inspect(member, self.network)?;
                let writes = state.refused().filter_map(|dot| self.cluster.ledger.by_dot(self.network, &dot));
                // A member does not relay what it refuses, so others may receive it late, or never.
                let writes = writes.chain(self.cluster.unseen_refusable(member, self.network, &state));
                let entry_keys = writes.map(|id| &self.cluster.ledger.get(id).entry_key);
                let table_keys =
                    entry_keys.map(|(_, table, key)| (table.to_string(), key.to_string())).collect();
                Some((member, (state, table_keys)))
            });
            inspected.collect()
        })
    }

    /// How many keys a member refuses a write under.
    pub(crate) fn count(&self, member: Peer) -> usize {
        self.members().get(&member).map_or(0, |(_, table_keys)| table_keys.len())
    }

    /// Whether a member refuses a write under this key.
    pub(crate) fn concerns(&self, member: Peer, table_key: &TableKey) -> bool {
        self.members().get(&member).is_some_and(|(_, table_keys)| table_keys.contains(table_key))
    }

    /// Whether two members may show different entries under a key: one of them refuses a write
    /// there; or one does not know that its entry is superseded, because all that know it refuse a
    /// write there: they report nothing as superseded under that key.
    pub(crate) fn excuses(&self, table_key: &TableKey, one: Peer, other: Peer) -> bool {
        self.concerns(one, table_key)
            || self.concerns(other, table_key)
            || [one, other].into_iter().any(|member| self.holds_superseded_elsewhere(member, table_key))
    }

    /// Whether a member holds an entry that others know to be superseded, all of which refuse a
    /// write under that key.
    pub(crate) fn holds_superseded_elsewhere(&self, member: Peer, table_key: &TableKey) -> bool {
        let held = self.members().get(&member).and_then(|(state, _)| state.entries.get(table_key));
        let Some(dot) = held.map(|held| &held.version.dot) else { return false };
        let mut knowing = self.members().values().filter(|(state, _)| {
            state.has_seen(dot) && state.entries.get(table_key).is_none_or(|held| held.version.dot != *dot)
        });
        let mut any_node = false;
        knowing.all(|(_, table_keys)| {
            any_node = true;
            table_keys.contains(table_key)
        }) && any_node
    }
}

/// Each member compares with a random other every thirty seconds: until any two have compared, that
/// takes about as many rounds as there are members. Five times that is rarely exceeded.
const COMPARISONS_A_MEMBER: Duration = Duration::from_secs(150);

impl Cluster {
    /// How long it takes until every member has received what only a comparison brings. A write
    /// that members refuse is not relayed by them, and the members that accept it may have to
    /// compare with the writer itself.
    pub(crate) fn comparison_time(&self) -> Duration {
        COMPARISONS_A_MEMBER * self.running().len() as u32
    }

    /// The writes that a member has not seen, and would refuse for their time or length.
    fn unseen_refusable(&self, member: Peer, network: &str, state: &NetworkState) -> Vec<WriteId> {
        let believed = self.wall(member) + MAX_LEAD;
        let value_bytes = self.nodes[member.0].limits.value_bytes;
        let refusable = self
            .ledger
            .entry_keys()
            .filter(|(entry_key, _)| *entry_key.0 == *network)
            .flat_map(|(_, ids)| ids);
        let refusable = refusable.filter(|id| {
            let write = self.ledger.get(**id);
            let bytes = write.value.as_ref().map_or(0, |value| value.len());
            (write.version.time > believed || bytes > value_bytes)
                && !self.ledger.is_over(**id)
                && !state.has_seen(&write.version.dot)
        });
        refusable.copied().collect()
    }

    /// Whether any node refuses a write.
    pub(crate) fn any_node_refuses(&self) -> bool {
        self.running().iter().any(|peer| self.refuses_anything(*peer))
    }

    /// Whether a node refuses a write on any of its networks.
    pub(crate) fn refuses_anything(&self, peer: Peer) -> bool {
        let mut networks = self.instance(peer).joined.iter();
        networks.any(|network| {
            self.instance(peer).tables.statistics(network).is_some_and(|statistics| statistics.refused > 0)
        })
    }

    /// The first difference between the entries of members that neither refusals nor `is_excused`
    /// explain; the latter receives the key and both values. All members are compared with the one
    /// that refuses least.
    pub(crate) fn difference_between_members(
        &self,
        network: &str,
        is_excused: impl Fn(&TableKey, [Shown<'_>; 2]) -> bool,
    ) -> Option<String> {
        let members = self.members_of(network);
        let first = *members.first()?;
        let digest = |member: &Peer| {
            self.instance(*member)
                .tables
                .statistics(network)
                .map(|statistics| (statistics.digest, statistics.entries))
        };
        if members.iter().all(|member| digest(member) == digest(&first)) {
            return None;
        }
        let refused = Refusals::on(self, network);
        let reference = members.iter().copied().min_by_key(|member| refused.count(*member))?;
        let here = self.visible(reference, network);
        for other in members.into_iter().filter(|member| *member != reference) {
            let there = self.visible(other, network);
            let table_keys: BTreeSet<&TableKey> = here.keys().chain(there.keys()).collect();
            let differs = table_keys.into_iter().find(|table_key| {
                let shown = [here.get(*table_key), there.get(*table_key)];
                shown[0] != shown[1]
                    && !is_excused(table_key, shown)
                    && !refused.excuses(table_key, reference, other)
            });
            if let Some(table_key) = differs {
                return Some(format!(
                    "{network}/{}/{}: {} on {}, {} on {}",
                    table_key.0,
                    table_key.1,
                    text(here.get(table_key)),
                    self.name(reference),
                    text(there.get(table_key)),
                    self.name(other)
                ));
            }
        }
        None
    }
}

fn text(shown: Shown<'_>) -> String {
    match shown {
        None => "nothing".to_owned(),
        Some((value, owner)) => {
            format!("{:?} of {owner}", String::from_utf8_lossy(&value[..value.len().min(40)]))
        }
    }
}
