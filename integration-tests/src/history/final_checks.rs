//! How random histories end: everything is mended, and then everything must come right.

use std::time::Duration;

use super::{AGREEMENT_WITHIN, History, MEMBERS_WITHIN};
use crate::cluster::{Cluster, MILLISECOND, SECOND};
use crate::fabric::Link;

impl History {
    /// Mends everything.
    pub(super) fn heal_for_good(&mut self) {
        self.cluster.heal();
        self.resume_all();
        let latency = self.cluster.fabric().default_link().latency;
        self.cluster.set_links(Link { latency, ..Link::default() });
        if self.cluster.running().is_empty() {
            self.restart_some();
        }
        self.cluster.note("quiet from here on");
        self.cluster.declare_fault_free();
    }

    /// Waits for agreement, and checks.
    pub(super) fn end(&mut self) {
        // From the heal on, and not from the moment on at which they agree on who is there: readers do not wait for that.
        let (start, mut shown_since) = (self.cluster.now(), None);
        let mut look_at = start;
        let mut watch_tables = |cluster: &Cluster| {
            if cluster.now() < look_at {
                return;
            }
            look_at = cluster.now() + 20 * MILLISECOND;
            let agree = cluster.networks().iter().all(|network| show_the_same(cluster, network));
            match agree {
                true => shown_since = shown_since.or(Some(cluster.now())),
                false => shown_since = None,
            }
        };
        // Those that are leaving end by themselves.
        self.cluster.run_until("those that leave have left", 30 * SECOND, |cluster| {
            watch_tables(cluster);
            cluster.running().iter().all(|peer| !cluster.is_leaving(*peer))
        });
        let members = await_lasting_membership(&mut self.cluster, start, watch_tables);
        self.coverage.longest_members = self.coverage.longest_members.max(members);
        let within = match self.coverage.lying_clocks {
            0 => AGREEMENT_WITHIN,
            _ => self.cluster.until_all_have_compared(),
        };
        for network in self.cluster.networks() {
            let agreed = self.cluster.try_run_until(within, |cluster| show_the_same(cluster, &network));
            if agreed.is_none() {
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
            // What was refused may have come to nothing meanwhile. What it kept them from hearing comes with a periodic comparison.
            let within = self.cluster.until_all_have_compared();
            for network in self.cluster.networks() {
                let _ = self.cluster.try_run_until(within, |cluster| show_the_same(cluster, &network));
            }
        }
        self.cluster.assert_promises();
        self.coverage.count(&self.cluster);
    }
}

/// Whether all members show the same, but for what is refused.
fn show_the_same(cluster: &Cluster, network: &str) -> bool {
    cluster.difference_between_members(network, |_, _| false).is_none()
}

/// Until the nodes agree on who is there and still do so a while later: what had waited in buffers, and verdicts that
/// were under way, may upset a first agreement.
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
    cluster.run_until("the nodes agree on who is there", MEMBERS_WITHIN, lasting);
    agreed - start
}
