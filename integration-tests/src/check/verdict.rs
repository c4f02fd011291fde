//! Promises that hold once writes have stopped, links are mended and some seconds have passed.

use std::time::Duration;

use super::ledger::WriteId;
use super::state::NetworkState;
use crate::cluster::{Cluster, Peer, Refusals};

/// Nodes send high watermarks for sixteen seconds after an attachment's last change; a node that
/// lacks a write which no running node has requests it for four seconds more.
const LAST_WATERMARKS: Duration = Duration::from_secs(22);
/// After that, nodes must not send anything about tables for this long.
const QUIESCENCE: Duration = Duration::from_secs(5);
/// Each node compares member lists with a random other one every thirty seconds.
const MEMBER_LISTS: Duration = Duration::from_secs(150);
/// Within this time all exchanges under way have ended, and abandoned ones have been given up.
const STREAMS_END: Duration = Duration::from_secs(45);

impl Cluster {
    /// Checks every promise about a quiescent cluster.
    ///
    /// # Panics
    ///
    /// With a description of the violation, if a promise is broken.
    #[track_caller]
    pub fn assert_promises(&mut self) {
        self.inspect_all();
        for peer in self.running() {
            let instance = self.instance(peer);
            let result =
                instance.follower.as_ref().map_or(Ok(()), |follower| follower.compare_all(&instance.tables));
            if let Err(what) = result {
                self.violation(peer, what);
            }
        }
        for network in self.networks() {
            self.assert_convergence(&network);
            self.assert_no_lost_write(&network);
            self.assert_superseding_writes_are_known(&network);
        }
        self.assert_quiescent();
        self.assert_no_open_streams();
    }

    /// After the last high watermarks, members with equal tables are quiescent: no gossip, no high
    /// watermarks, no pulls. Only probes and periodic comparisons of fingerprints remain.
    #[track_caller]
    fn assert_quiescent(&mut self) {
        self.run_for(LAST_WATERMARKS);
        // The end of an instance that only some nodes remember is known to all when each node has
        // compared member lists with one of those, at random; until then some hold more departed
        // nodes than others.
        let mut latest = self.now() + MEMBER_LISTS;
        if self.any_node_refuses() {
            // Refused writes reach other members now and then, and cause more traffic.
            latest += self.comparison_time();
        }
        loop {
            let before = self.table_traffic();
            self.run_for(QUIESCENCE);
            let more =
                before.into_iter().zip(self.table_traffic()).find(|(before, after)| before.1 != after.1);
            let Some(((what, before), (_, after))) = more else { return };
            if self.now() < latest {
                continue;
            }
            for network in self.networks() {
                let table_dump = self.table_dump(&network);
                self.note(&table_dump);
            }
            panic!("{} {what} more within {QUIESCENCE:?} though there is nothing new", after - before);
        }
    }

    /// Once the cluster is quiescent, every stream has ended on both sides, except those that wait
    /// for an answer from an unused address.
    #[track_caller]
    fn assert_no_open_streams(&mut self) {
        let none_open = |cluster: &Cluster| {
            cluster.fabric().open_streams() == 0
                && cluster.running().into_iter().all(|peer| {
                    let waiting = cluster.fabric().streams_of(cluster.instance(peer).endpoint);
                    cluster.machine(peer).streams().all(|stream| waiting.contains(&stream))
                })
        };
        self.run_until("no stream is open any more", STREAMS_END, none_open);
    }

    /// The periodic requests and comparisons of a node that refuses writes are not counted: rule 12
    /// requires them.
    fn table_traffic(&self) -> [(&'static str, u64); 5] {
        let mut table_traffic =
            ["gossip", "high watermarks", "pulls", "pushes", "syncs for differing fingerprints"]
                .map(|what| (what, 0));
        for peer in self.running() {
            let counters = self.machine(peer).replica().counters();
            let tries = self.refuses_anything(peer);
            let of_peer = [
                counters.gossip_sent,
                counters.watermarks_sent,
                if tries { 0 } else { counters.pulls },
                counters.backlogs,
                if tries { 0 } else { counters.comparisons_fingerprint },
            ];
            for ((_, sum), count) in table_traffic.iter_mut().zip(of_peer) {
                *sum += count;
            }
        }
        table_traffic
    }

    /// Every network that a running node has joined.
    pub fn networks(&self) -> Vec<String> {
        let mut networks: Vec<String> =
            self.running().iter().flat_map(|peer| self.instance(*peer).joined.iter().cloned()).collect();
        networks.sort();
        networks.dedup();
        networks
    }

    /// Members show the same except for refused writes; and the same entries have the same digest.
    #[track_caller]
    fn assert_convergence(&mut self, network: &str) {
        let members = self.members_of(network);
        let Some(&first) = members.first() else { return };
        if let Some(difference) = self.difference_between_members(network, |_, _| false) {
            self.violation(first, format!("network {network} has not converged: {difference}"));
        }
        let digest = |cluster: &Cluster, peer: Peer| {
            cluster.instance(peer).tables.statistics(network).map(|statistics| statistics.digest)
        };
        for &other in &members[1..] {
            if digest(self, other) != digest(self, first)
                && self.visible(other, network) == self.visible(first, network)
            {
                let first = self.name(first).clone();
                self.violation(other, format!("shows what {first} shows of {network}, under another digest"));
            }
        }
    }

    /// Each visible value must be allowed by all writes to its key and by the writes that the
    /// member refuses. Members that refuse nothing show the same, so checking one of them suffices.
    #[track_caller]
    fn assert_no_lost_write(&mut self, network: &str) {
        let refused = Refusals::on(self, network);
        let (refusing, others): (Vec<Peer>, Vec<Peer>) =
            self.members_of(network).into_iter().partition(|member| refused.count(*member) > 0);
        let checked = others.into_iter().take(1).chain(refusing);
        let verdict = checked
            .into_iter()
            .find_map(|member| Some((member, self.find_wrong_value(member, network, &refused)?)));
        if let Some((member, verdict)) = verdict {
            self.violation(member, verdict);
        }
    }

    fn find_wrong_value(&self, member: Peer, network: &str, refused: &Refusals<'_>) -> Option<String> {
        let visible = self.visible(member, network);
        let state = self.inspect(member, network)?;
        for (entry_key, writes) in self.ledger.entry_keys().filter(|(entry_key, _)| *entry_key.0 == *network)
        {
            let table_key = (entry_key.1.to_string(), entry_key.2.to_string());
            if refused.concerns(member, &table_key) || refused.holds_superseded_elsewhere(member, &table_key)
            {
                continue;
            }
            let shown = visible.get(&table_key);
            let verdict = match shown {
                None => {
                    let must_be_shown =
                        |id: &&WriteId| self.must_be_kept(**id) && !self.is_superseded_for(&state, **id);
                    let lost = writes.iter().find(must_be_shown);
                    lost.map(|id| format!("{} is lost: nothing greater is known", self.ledger.describe(*id)))
                }
                Some((value, owner)) => {
                    let owns = |id: &&WriteId| {
                        let write = self.ledger.get(**id);
                        write.value.as_deref() == Some(value.as_slice())
                            && write.version.dot.owner.name.as_str() == owner
                    };
                    let candidates: Vec<WriteId> = writes.iter().filter(owns).copied().collect();
                    match candidates.first() {
                        None => Some(format!("{shown:?} is shown, which no node wrote")),
                        Some(_) if candidates.iter().any(|id| self.may_be_shown(*id)) => None,
                        Some(id) => {
                            let greater: Vec<String> =
                                self.ledger.greater(*id).map(|id| self.ledger.describe(id)).collect();
                            Some(format!(
                                "{} is shown; greater are {}",
                                self.ledger.describe(*id),
                                greater.join(", ")
                            ))
                        }
                    }
                }
            };
            if let Some(verdict) = verdict {
                return Some(format!("{}/{}/{}: {verdict}", entry_key.0, entry_key.1, entry_key.2));
            }
        }
        None
    }

    /// A write that a node has seen and does not hold must have been superseded by one that this
    /// node knows: not by one that it refused, nor by one that never reached it. A superseding
    /// write may be forgotten with its owner.
    #[track_caller]
    fn assert_superseding_writes_are_known(&mut self, network: &str) {
        for peer in self.members_of(network) {
            let Some(state) = self.inspect(peer, network) else { continue };
            let lost = state.superseded().find_map(|dot| {
                let id = self.ledger.by_dot(network, &dot)?;
                let is_lost = self.must_be_kept(id)
                    && !self.is_superseded_for(&state, id)
                    && !self.is_superseded_by_report(peer, &state, id);
                is_lost.then_some(id)
            });
            if let Some(id) = lost {
                let entry_key = &self.ledger.get(id).entry_key;
                let greater: Vec<String> =
                    self.ledger.superseding(id).map(|id| self.ledger.describe(id)).collect();
                let what = format!(
                    "{network}/{}/{}: {} is superseded here, but the writes that supersede it are \
                     not known here: {}",
                    entry_key.1,
                    entry_key.2,
                    self.ledger.describe(id),
                    greater.join(", ")
                );
                self.violation(peer, what);
            }
        }
    }

    /// Whether a node in this state knows a write that supersedes this one, or may have forgotten
    /// it with its owner.
    fn is_superseded_for(&self, state: &NetworkState, id: WriteId) -> bool {
        self.ledger
            .superseding(id)
            .any(|later| self.ledger.is_over(later) || state.has_seen(&self.ledger.get(later).version.dot))
    }

    /// Whether a member knows only by a report that a write is superseded, and refuses the
    /// superseding one. The report comes from a node that never held the write and knows nothing
    /// that supersedes it: this member, or another that refused nothing when it sent the report.
    fn is_superseded_by_report(&self, peer: Peer, state: &NetworkState, id: WriteId) -> bool {
        let refuses = |later: WriteId| {
            let dot = &self.ledger.get(later).version.dot;
            state.refused().any(|refused| refused == *dot) || self.is_too_far_ahead_for(peer, later)
        };
        let network = &self.ledger.get(id).entry_key.0;
        let knows_by_report = |member: Peer| {
            let dot = &self.ledger.get(id).version.dot;
            !self.watchdog.has_held(member, network, dot)
                && self
                    .inspect(member, network)
                    .is_some_and(|state| state.has_seen(dot) && !self.is_superseded_for(&state, id))
        };
        self.ledger.superseding(id).any(refuses) && self.members_of(network).into_iter().any(knows_by_report)
    }

    fn must_be_kept(&self, id: WriteId) -> bool {
        self.ledger.get(id).value.is_some() && !self.ledger.is_over(id)
    }

    /// A value may be shown if the greatest write ended with its owner, because no node may know
    /// any more what that superseded; or if the greatest write is a delete whose writer did not
    /// know this value, so long ago that the tombstone may have been reaped before the two met.
    fn may_be_shown(&self, id: WriteId) -> bool {
        let greatest = self.ledger.greater(id).max_by_key(|greater| &self.ledger.get(*greater).version);
        let gone = |greatest: WriteId| {
            let write = self.ledger.get(greatest);
            let reaped = write.value.is_none() && self.now() >= write.at + self.settings.reap_time;
            self.ledger.is_over(greatest) || reaped
        };
        let replaced = |later: WriteId| {
            // A write that a leaving node handed on must be kept, unless a receiver refused it, or
            // this node did, which forgets that with the leaving node. A write refused for its time
            // and forgotten in one step leaves no trace.
            let stands = self.ledger.was_handed_on(later)
                && !self.watchdog.was_refused(later)
                && !self.running().iter().any(|peer| self.is_too_far_ahead_for(*peer, later));
            (!self.ledger.is_over(later) || stands) && self.ledger.descends(later, id)
        };
        !self.ledger.is_over(id) && greatest.is_none_or(gone) && !self.ledger.greater(id).any(replaced)
    }

    /// Checks that the idle cluster sends no more than `budget` a node and second during `time`.
    #[track_caller]
    pub fn assert_idle(&mut self, time: Duration, budget: IdleBudget) {
        let before = self.fabric().traffic().clone();
        self.run_for(time);
        let after = self.fabric().traffic();
        let share = |count: u64| count as f64 / time.as_secs_f64() / self.running().len() as f64;
        let (datagrams, streams) =
            (share(after.datagrams - before.datagrams), share(after.streams - before.streams));
        assert!(
            datagrams <= budget.datagrams && streams <= budget.streams,
            "an idle node sends {datagrams:.2} datagrams and opens {streams:.3} streams a second; \
             {} and {} are allowed",
            budget.datagrams,
            budget.streams
        );
    }
}

/// The traffic budget of an idle node.
#[derive(Debug, Clone, Copy)]
pub struct IdleBudget {
    /// Datagrams a second: a probe and an answer, and a few for indirect probes.
    pub datagrams: f64,
    /// Streams a second: anti-entropy of members and of each network, every thirty seconds.
    pub streams: f64,
}
