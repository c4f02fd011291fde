//! Gossip, high watermarks and pulls alone must deliver lost writes without any comparison of
//! tables.
//!
//! Comparisons find within seconds whatever the faster ways miss. With them, a faster way that does
//! nothing would go unnoticed.

use std::time::Duration;

use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

use super::History;
use crate::check::{VersionVector, contains_all, intersection, union};
use crate::cluster::{Cluster, Key, MILLISECOND, Peer, SECOND};
use crate::fabric::{Link, Verdict};

/// More members find no more than these.
const MEMBERS: usize = 8;
/// The share of datagrams lost.
const LOSS: f64 = 0.3;
/// How long writes continue, one every ten milliseconds.
const WRITING: Duration = SECOND.saturating_mul(2);
/// How long after that a member may lack a write that it knows to be missing: high watermarks are
/// sent eight times, the last after sixteen seconds.
const KNOWN_WITHIN: Duration = SECOND.saturating_mul(32);

impl History {
    /// Members of a network write under the same few keys over a link that loses much, and nothing
    /// is compared. One of them ends in the middle. In the end no member has a hole in its version
    /// vector that another could fill. It may lack the last write of a writer: nothing announces
    /// that one.
    pub(super) fn spread_without_comparisons(&mut self) {
        // There are no promises about refused writes.
        if self.coverage.lying_clocks > 0 || self.coverage.small_limits > 0 {
            return;
        }
        let Some(network) = self.networks.choose(&mut self.rng).cloned() else { return };
        self.cluster.stop_checking();
        let mut running = self.cluster.running();
        running.shuffle(&mut self.rng);
        for peer in running {
            if self.cluster.members_of(&network).len() < MEMBERS
                && !self.cluster.networks_of(peer).contains(&network)
            {
                self.cluster.join_network([peer], &network);
            }
        }
        let members = self.cluster.members_of(&network);
        let all_ready = |cluster: &Cluster| members.iter().all(|member| cluster.is_ready(*member, &network));
        self.cluster.run_until("all writers are ready", 30 * SECOND, all_ready);
        if members.len() < 4 {
            return;
        }
        self.cluster.note("nothing is compared from here on");
        let latency = self.cluster.fabric().default_link().latency;
        self.cluster.set_links(Link { latency, loss: LOSS, ..Link::default() });
        let rule = self.cluster.rule(|message| match message.is_comparison() {
            true => Verdict::Drop,
            false => Verdict::Pass,
        });
        let ends_after = self.rng.random_range(20..WRITING.as_millis() as u32 / 10);
        let ends = *members.choose(&mut self.rng).unwrap_or(&members[0]);
        for tick in 0..WRITING.as_millis() as u32 / 10 {
            let writer =
                if tick == ends_after { ends } else { *members.choose(&mut self.rng).unwrap_or(&ends) };
            if tick == ends_after + 1 {
                self.cluster.crash(ends);
            }
            if self.cluster.is_running(writer) {
                self.write_to_one_of_six(writer, &network);
            }
            self.cluster.run_for(10 * MILLISECOND);
        }
        let members: Vec<Peer> = members.into_iter().filter(|member| *member != ends).collect();
        let version_vector = |cluster: &Cluster, member: &Peer| {
            cluster.inspect(*member, &network).map(|state| state.version_vector).unwrap_or_default()
        };
        let known = members
            .iter()
            .map(|member| version_vector(&self.cluster, member))
            .reduce(|all, one| union(&all, &one));
        let known = known.unwrap_or_default();
        let start = self.cluster.now();
        let missing = loop {
            let missing = members.iter().find_map(|member| {
                let version_vector = version_vector(&self.cluster, member);
                Some((*member, contains_all(&version_vector, &below_the_highest(&version_vector, &known))?))
            });
            if missing.is_none() || self.cluster.now() >= start + KNOWN_WITHIN {
                break missing;
            }
            self.cluster.run_for(50 * MILLISECOND);
        };
        self.cluster.remove_rule(rule);
        self.cluster.set_links(Link { latency, ..Link::default() });
        let taken = self.cluster.now() - start;
        self.coverage.uncompared += 1;
        self.coverage.longest_uncompared = self.coverage.longest_uncompared.max(taken);
        if let Some((member, dot)) = missing {
            let table_dump = self.cluster.table_dump(&network);
            self.cluster.note(&table_dump);
            panic!(
                "without comparisons {} lacks {dot} after {taken:?}, which another member has",
                self.cluster.name(member)
            );
        }
    }

    fn write_to_one_of_six(&mut self, writer: Peer, network: &str) {
        let name = format!("one of six {}", self.rng.random_range(0..6));
        let key = Key::new(network, "services", &name);
        self.writes += 1;
        let value = format!("{} {}", self.cluster.name(writer), self.writes);
        let result = match self.cluster.value(writer, key) {
            None => self.cluster.try_create(writer, key, value.as_bytes()),
            Some(_) if self.rng.random_bool(0.7) => self.cluster.try_update(writer, key, value.as_bytes()),
            Some(_) => self.cluster.try_delete(writer, key),
        };
        if let Err(error) = result {
            panic!("{} refused a write to {key}: {error}", self.cluster.name(writer));
        }
    }
}

/// The part of `known` below the highest numbers of this version vector.
fn below_the_highest(version_vector: &VersionVector, known: &VersionVector) -> VersionVector {
    let watermarks = version_vector
        .iter()
        .filter_map(|(attachment, seen)| Some((attachment.clone(), vec![(1, seen.last()?.1)])));
    intersection(known, &watermarks.collect())
}
