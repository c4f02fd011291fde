//! Coverage of random histories. A fault that never occurred in a run was not tested by it.

use std::fmt;
use std::time::Duration;

use membership::Event;
use networkdb::NodeEvent;
use tabledb::Counters;

use super::{Draw, Kind, Plan};
use crate::cluster::Cluster;
use crate::fabric::DropReason;

/// Counts of the hard world only.
const HARD: [&str; 5] = [
    "networks",
    "networks joined at once by one, more than eight",
    "newcomers whose readiness was checked",
    "writes that went on while agreement was checked",
    "times entries were found hidden after their owner returned",
];

/// Counts over one or many histories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it, and each is printed with a description")]
pub struct Coverage {
    pub events: u64,
    pub writes: u64,
    pub bursts: u64,
    pub ties: u64,
    pub network_joins: u64,
    pub network_leaves: u64,
    pub leaves: u64,
    pub crashes: u64,
    pub restarts: u64,
    pub pauses: u64,
    pub partitions: u64,
    pub long_partitions: u64,
    pub one_way_cuts: u64,
    pub broken_streams: u64,
    pub lost_datagrams: u64,
    pub too_large_datagrams: u64,
    pub duplicated_datagrams: u64,
    pub reordered_datagrams: u64,
    pub suspicions: u64,
    pub failures: u64,
    pub false_failures: u64,
    pub returns: u64,
    pub replacements: u64,
    pub reaped_tombstones: u64,
    pub full_syncs: u64,
    pub failed_syncs: u64,
    pub comparisons_fingerprint: u64,
    pub periodic_finds: u64,
    pub pulls: u64,
    pub backlogs: u64,
    pub superseded_entries: u64,
    pub provisional_attachments: u64,
    pub deferred_datagrams: u64,
    pub shown_uncompared: u64,
    pub refused_writes: u64,
    pub refused_updates: u64,
    pub refused_times: u64,
    pub networks: u64,
    pub wrong_clocks: u64,
    pub lying_clocks: u64,
    pub clock_jumps: u64,
    pub sleeps: u64,
    pub small_limits: u64,
    pub short_retentions: u64,
    pub priced_handshakes: u64,
    pub forgotten: u64,
    pub duplicated_instances: u64,
    pub uncompared: u64,
    pub last_deletes: u64,
    pub many_left: u64,
    pub many_joined: u64,
    pub writes_while_checked: u64,
    pub checked_ready: u64,
    pub found_hidden: u64,
    pub longest_while_writing: Duration,
    pub longest_ready: Duration,
    pub longest_hidden: Duration,
    pub longest_members: Duration,
    pub longest_agreement: Duration,
    pub longest_uncompared: Duration,
}

impl Coverage {
    /// Adds the counts of one cluster up to its end.
    pub(super) fn count(&mut self, cluster: &Cluster) {
        let traffic = cluster.fabric().traffic();
        let dropped = |reason| traffic.dropped.get(&reason).copied().unwrap_or(0);
        self.lost_datagrams += dropped(DropReason::Lost);
        self.too_large_datagrams += dropped(DropReason::TooLarge);
        self.duplicated_datagrams += traffic.duplicated;
        self.reordered_datagrams += traffic.reordered;
        self.broken_streams += traffic.broken_streams;
        self.ties += cluster.ledger.ties();
        self.reaped_tombstones += cluster.watchdog.reaped() as u64;
        self.events += cluster.fabric().trace().count();
        let checked = cluster.checked();
        self.checked_ready += checked.ready;
        self.found_hidden += checked.hidden;
        self.longest_ready = self.longest_ready.max(checked.longest_ready);
        self.longest_hidden = self.longest_hidden.max(checked.longest_hidden);
        for peer in cluster.running() {
            self.count_counters(&cluster.machine(peer).replica().counters());
            for (_, event) in cluster.events(peer) {
                self.count_event(event, cluster);
            }
        }
        for (events, counters) in &cluster.ended {
            self.count_counters(counters);
            for event in events {
                self.count_event(event, cluster);
            }
        }
    }

    fn count_counters(&mut self, counters: &Counters) {
        self.full_syncs += counters.syncs_completed;
        self.failed_syncs += counters.syncs_failed;
        self.comparisons_fingerprint += counters.comparisons_fingerprint;
        self.periodic_finds += counters.periodic_finds;
        self.pulls += counters.pulls;
        self.backlogs += counters.backlogs;
        self.superseded_entries += counters.superseded_dropped;
        self.provisional_attachments += counters.provisional;
        self.deferred_datagrams += counters.deferred;
        self.shown_uncompared += counters.shown_uncompared;
        self.refused_times += counters.refused_future;
        self.refused_updates += counters.refused_full
            + counters.refused_bytes
            + counters.refused_too_long
            + counters.refused_tables;
    }

    fn count_event(&mut self, event: &NodeEvent, cluster: &Cluster) {
        let NodeEvent::Membership(event) = event else { return };
        match event {
            Event::Suspected(_) => self.suspicions += 1,
            Event::Failed(id) => {
                self.failures += 1;
                self.false_failures += u64::from(cluster.is_alive(id));
            }
            Event::Returned(_) => self.returns += 1,
            Event::Replaced { .. } => self.replacements += 1,
            Event::Forgotten(_) => self.forgotten += 1,
            _ => {}
        }
    }

    /// Adds the counts of another history.
    pub fn add(&mut self, other: &Coverage) {
        for ((_, mine), (_, theirs)) in self.counts_mut().into_iter().zip(other.counts()) {
            *mine += theirs;
        }
        for ((_, mine), (_, theirs)) in self.longest_mut().into_iter().zip(other.clone().longest_mut()) {
            *mine = (*mine).max(*theirs);
        }
    }

    /// The draws of the plan that never occurred.
    pub fn never(&self, plan: &Plan) -> Vec<&'static str> {
        let hidden = |name: &str| {
            if name == "attachments shown uncompared" {
                // A fallback for a comparison that fails: it need not occur.
                return true;
            }
            let needs = match name {
                "clocks that are up to half an hour off" | "clocks that jumped" | "hosts that slept" => {
                    Some(Draw::Clocks)
                }
                "clocks that are hours off" | "events refused for their time" => Some(Draw::Liars),
                "nodes with small limits"
                | "writes refused for lack of capacity"
                | "events refused for lack of capacity" => Some(Draw::Limits),
                "times holes were filled without comparisons" => Some(Draw::Uncompared),
                "instances run by two processes" => Some(Draw::Doubles),
                "clusters in which handshakes cost something" => Some(Draw::Handshakes),
                "clusters that keep the departed for a minute" | "departed nodes forgotten" => {
                    Some(Draw::Retention)
                }
                "deletes just before all networks are left"
                | "networks left at once by one, more than eight" => Some(Draw::Leaving),
                "networks joined at once by one, more than eight" => Some(Draw::Networks),
                _ => None,
            };
            match (plan.kind, needs) {
                (Kind::Hard, Some(draw)) => !plan.draws.contains(&draw),
                (Kind::Hard, None) => false,
                (Kind::Old, needs) => needs.is_some() || HARD.contains(&name),
            }
        };
        let never = self.counts().into_iter().filter(|(name, count)| *count == 0 && !hidden(name));
        never.map(|(name, _)| name).collect()
    }

    fn longest_mut(&mut self) -> Vec<(&'static str, &mut Duration)> {
        vec![
            ("longest from the heal until the nodes agreed on the members", &mut self.longest_members),
            ("longest from the heal until they showed the same", &mut self.longest_agreement),
            (
                "longest from the heal until they showed the same while writes went on",
                &mut self.longest_while_writing,
            ),
            ("longest until a newcomer was ready, without faults", &mut self.longest_ready),
            (
                "longest that entries were found hidden after their owner returned, without faults",
                &mut self.longest_hidden,
            ),
            (
                "longest until all holes were filled, with three of ten datagrams lost and \
                 without comparisons",
                &mut self.longest_uncompared,
            ),
        ]
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        self.clone().counts_mut().into_iter().map(|(name, count)| (name, *count)).collect()
    }

    fn counts_mut(&mut self) -> Vec<(&'static str, &mut u64)> {
        vec![
            ("events", &mut self.events),
            ("writes", &mut self.writes),
            ("bursts of writes", &mut self.bursts),
            ("equal Lamport times", &mut self.ties),
            ("networks joined later", &mut self.network_joins),
            ("networks left", &mut self.network_leaves),
            ("graceful leaves", &mut self.leaves),
            ("crashes", &mut self.crashes),
            ("restarts", &mut self.restarts),
            ("pauses", &mut self.pauses),
            ("partitions", &mut self.partitions),
            ("partitions beyond the reap time", &mut self.long_partitions),
            ("one-way cuts", &mut self.one_way_cuts),
            ("broken streams", &mut self.broken_streams),
            ("lost datagrams", &mut self.lost_datagrams),
            ("too large datagrams", &mut self.too_large_datagrams),
            ("duplicated datagrams", &mut self.duplicated_datagrams),
            ("reordered datagrams", &mut self.reordered_datagrams),
            ("suspicions", &mut self.suspicions),
            ("failures detected", &mut self.failures),
            ("failures declared of running nodes", &mut self.false_failures),
            ("returns of failed nodes", &mut self.returns),
            ("instances replaced by later ones", &mut self.replacements),
            ("tombstones reaped", &mut self.reaped_tombstones),
            ("full syncs completed", &mut self.full_syncs),
            ("full syncs cut short", &mut self.failed_syncs),
            ("syncs because fingerprints differed", &mut self.comparisons_fingerprint),
            ("periodic syncs that found something", &mut self.periodic_finds),
            ("pulls of what was missing", &mut self.pulls),
            ("backlogs pushed over streams", &mut self.backlogs),
            ("entries a peer knew to be superseded", &mut self.superseded_entries),
            ("attachments known before the attachment list", &mut self.provisional_attachments),
            ("datagrams deferred for membership", &mut self.deferred_datagrams),
            ("attachments shown uncompared", &mut self.shown_uncompared),
            ("networks", &mut self.networks),
            ("networks joined at once by one, more than eight", &mut self.many_joined),
            ("newcomers whose readiness was checked", &mut self.checked_ready),
            ("writes that went on while agreement was checked", &mut self.writes_while_checked),
            ("times entries were found hidden after their owner returned", &mut self.found_hidden),
            ("times holes were filled without comparisons", &mut self.uncompared),
            ("instances run by two processes", &mut self.duplicated_instances),
            ("clocks that are up to half an hour off", &mut self.wrong_clocks),
            ("clocks that are hours off", &mut self.lying_clocks),
            ("clocks that jumped", &mut self.clock_jumps),
            ("hosts that slept", &mut self.sleeps),
            ("events refused for their time", &mut self.refused_times),
            ("nodes with small limits", &mut self.small_limits),
            ("writes refused for lack of capacity", &mut self.refused_writes),
            ("events refused for lack of capacity", &mut self.refused_updates),
            ("clusters that keep the departed for a minute", &mut self.short_retentions),
            ("clusters in which handshakes cost something", &mut self.priced_handshakes),
            ("departed nodes forgotten", &mut self.forgotten),
            ("deletes just before all networks are left", &mut self.last_deletes),
            ("networks left at once by one, more than eight", &mut self.many_left),
        ]
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.counts() {
            writeln!(f, "{count:>12}  {name}")?;
        }
        let mut copy = self.clone();
        let longest: Vec<String> = copy
            .longest_mut()
            .into_iter()
            .map(|(name, longest)| format!("{:>12}  {name}", text(*longest)))
            .collect();
        write!(f, "{}", longest.join("\n"))
    }
}

fn text(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}
