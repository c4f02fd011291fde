//! The end of random histories: all links are mended, and then all promises must hold.

use std::time::Duration;

use super::{AGREEMENT_WITHIN, History, MEMBERS_WITHIN};
use crate::cluster::{Cluster, MILLISECOND, SECOND};
use crate::fabric::Link;

impl History {
    /// Ends all faults.
    pub(super) fn end_faults(&mut self) {
        self.cluster.heal();
        self.resume_all();
        let latency = self.cluster.fabric().default_link().latency;
        self.cluster.set_links(Link { latency, ..Link::default() });
        if self.cluster.running().is_empty() {
            self.restart_some();
        }
        self.cluster.note("no faults from here on");
        self.cluster.declare_fault_free();
    }

    /// Waits for agreement, and checks.
    pub(super) fn end(&mut self) {
        // Measured from the heal, and not from the agreement on members: readers do not wait for
        // that.
        let (start, mut shown_since) = (self.cluster.now(), None);
        let mut next_check = start;
        let mut watch_tables = |cluster: &Cluster| {
            if cluster.now() < next_check {
                return;
            }
            next_check = cluster.now() + 20 * MILLISECOND;
            let agree = cluster.networks().iter().all(|network| show_the_same(cluster, network));
            match agree {
                true => shown_since = shown_since.or(Some(cluster.now())),
                false => shown_since = None,
            }
        };
        // Leaving nodes end by themselves.
        self.cluster.run_until("those that leave have left", 30 * SECOND, |cluster| {
            watch_tables(cluster);
            cluster.running().iter().all(|peer| !cluster.is_leaving(*peer))
        });
        let members = await_lasting_membership(&mut self.cluster, start, watch_tables);
        self.coverage.longest_members = self.coverage.longest_members.max(members);
        // A member that refuses something is compared with less often, and what others know to be
        // superseded may reach it in a comparison only.
        let refuses = self.coverage.lying_clocks > 0 || self.cluster.any_node_refuses();
        let within = if refuses { self.cluster.comparison_time() } else { AGREEMENT_WITHIN };
        for network in self.cluster.networks() {
            if !agree_within(&mut self.cluster, &network, within) {
                let difference = self.cluster.difference_between_members(&network, |_, _| false);
                let table_dump = self.cluster.table_dump(&network);
                self.cluster.note(&table_dump);
                panic!(
                    "after {within:?} the members of {network} do not agree: {}",
                    difference.unwrap_or_default()
                );
            }
        }
        let agreement = shown_since.unwrap_or(self.cluster.now()) - start;
        self.cluster.run_for(5 * SECOND);
        if !self.cluster.any_node_refuses() {
            self.coverage.longest_agreement = self.coverage.longest_agreement.max(agreement);
        } else {
            // Refused writes may have been superseded meanwhile. Writes that members missed for
            // that arrive with a periodic comparison.
            let within = self.cluster.comparison_time();
            for network in self.cluster.networks() {
                agree_within(&mut self.cluster, &network, within);
            }
        }
        self.cluster.assert_promises();
        self.coverage.count(&self.cluster);
    }
}

/// Whether all members show the same except for refused writes.
fn show_the_same(cluster: &Cluster, network: &str) -> bool {
    cluster.difference_between_members(network, |_, _| false).is_none()
}

/// Waits until all members show the same, and looks ten times a second: after each event would take minutes
/// of the processor in a large history.
fn agree_within(cluster: &mut Cluster, network: &str, within: Duration) -> bool {
    let mut next_check = cluster.now();
    let agreed = cluster.try_run_until(within, |cluster| {
        if cluster.now() < next_check {
            return false;
        }
        next_check = cluster.now() + 100 * MILLISECOND;
        show_the_same(cluster, network)
    });
    agreed.is_some()
}

/// Waits until the nodes agree on the members and still do so a while later: buffered messages and
/// suspicions under way may upset a first agreement.
fn await_lasting_membership(
    cluster: &mut Cluster,
    start: Duration,
    mut watch_tables: impl FnMut(&Cluster),
) -> Duration {
    let running = cluster.running();
    let mut agreed = Duration::ZERO;
    let lasting = |cluster: &Cluster| {
        watch_tables(cluster);
        match cluster.all_agree_on_members(&running) {
            true if agreed.is_zero() => agreed = cluster.now(),
            true => {}
            false => agreed = Duration::ZERO,
        }
        !agreed.is_zero() && cluster.now() >= agreed + 5 * SECOND
    };
    cluster.run_until("the nodes agree on the members", MEMBERS_WITHIN, lasting);
    agreed - start
}
