//! A machine restored from a snapshot: the same instance runs twice from there, unaware of it.

use rand::seq::{IndexedRandom, SliceRandom};

use super::History;
use super::hard::TIMEOUT;
use crate::cluster::{Cluster, Key, Peer};

impl History {
    /// Two processes run as one instance, one after the other, each reachable by some nodes only.
    /// Both write the same number of entries; the writes of the second must be kept by all.
    ///
    /// The ledger assumes one write a dot: from here on it is not used.
    pub(super) fn run_one_instance_twice(&mut self) {
        let mut running = self.cluster.running();
        running.shuffle(&mut self.rng);
        let [peer, witnesses @ ..] = running.as_slice() else { return };
        let (peer, [one, other, rest @ ..]) = (*peer, witnesses) else { return };
        let Some(network) = self.networks.choose(&mut self.rng).cloned() else { return };
        // There are no promises about refused writes.
        if self.coverage.lying_clocks > 0 || self.coverage.small_limits > 0 {
            return;
        }
        let generation = self.cluster.wall(peer).max(self.cluster.id(peer).generation + 1);
        self.cluster.note("one instance runs twice from here on");
        self.cluster.stop_checking();
        self.cluster.crash(peer);
        for witness in [*one, *other] {
            if !self.cluster.networks_of(witness).contains(&network) {
                self.cluster.join_network([witness], &network);
            }
        }
        let (left, right) = rest.split_at(rest.len() / 2);
        let sides = [[&[*one], left].concat(), [&[*other], right].concat()];
        let key = Key::new(&network, "services", "lived twice");
        for (at, value) in ["first", "second"].into_iter().enumerate() {
            let here: Vec<Peer> = sides[at].iter().chain([&peer]).copied().collect();
            self.cluster.heal();
            self.cluster.partition(&[&here, &sides[1 - at]]);
            self.cluster.start_instance_as(peer, generation, &here);
            self.cluster.join_network([peer], &network);
            self.cluster.run_until("its own side holds it alive", TIMEOUT, |cluster| {
                cluster.all_agree_on_members(&here)
            });
            self.cluster.create(peer, key, value);
            let witness = sides[at][0];
            self.cluster.run_until("its own side shows what it wrote", TIMEOUT, |cluster| {
                cluster.shows(witness, key, value)
            });
            if at == 0 {
                self.cluster.crash(peer);
            }
        }
        self.coverage.duplicated_instances += 1;
        self.cluster.heal();
        let members = self.cluster.members_of(&network);
        let all_show = |cluster: &Cluster| members.iter().all(|member| cluster.shows(*member, key, "second"));
        if self.cluster.try_run_until(TIMEOUT, all_show).is_none() {
            let table_dump = self.cluster.table_dump(&network);
            self.cluster.note(&table_dump);
            panic!(
                "two processes were {}, and not all show what the second of them wrote",
                self.cluster.id(peer)
            );
        }
    }
}
