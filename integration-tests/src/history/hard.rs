//! Histories of the hard world: many nodes on many networks, with different clocks, limits and
//! retentions, and writes that continue while agreement is checked.

use std::time::Duration;

use networkdb::NodeEvent;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tabledb::Limits;

use super::{Coverage, Draw, History, Outcome, Plan, REAP_TIME, TABLES, random_link};
use crate::cluster::{
    Cluster, DESCRIBE, EnabledChecks, Key, MILLISECOND, Peer, READY_WITHIN, SECOND, Settings,
};
use crate::fabric::{FabricConfig, HandshakePrice};
use crate::formation::production;

/// A hundred nodes and a thousand attachments find no more than thirty nodes and these.
const ATTACHMENTS: usize = 160;
/// By how many microseconds clocks may be wrong: any two differ by less than the accepted lead of a
/// time.
pub(super) const WRONG_BY: i64 = 1_700_000_000;
/// Writes of the last moment need not be everywhere yet.
const MOMENT: Duration = SECOND;
/// All other entries are the same everywhere this soon after the heal, whatever the faults were,
/// and remain so.
const AGREEMENT_WITHIN: Duration = Duration::from_secs(5);
/// The same if a node has refused a write meanwhile, and none does any more: pairs of nodes find one after
/// the other what was ignored.
const AGREEMENT_AFTER_REFUSALS: Duration = Duration::from_secs(10);
/// Timeout where that is not promised.
pub(super) const TIMEOUT: Duration = Duration::from_secs(180);
/// How long writes continue after that.
const WRITES_CONTINUE: Duration = Duration::from_secs(2);
/// The price of a handshake, as on two busy processors that all nodes share.
const HANDSHAKES: HandshakePrice = HandshakePrice { work: MILLISECOND, shared_cores: 2, most_half_open: 128 };
/// Limit for leaving networks.
const LEFT_WITHIN: Duration = Duration::from_secs(6);

pub(super) fn run(seed: u64, plan: &Plan) -> Outcome {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::MAX - 1);
    let draws = &plan.draws;
    // Rather few than many: each node costs time, and ten suffice for most errors.
    let count = (0..3).map(|_| rng.random_range(plan.nodes.clone())).min().unwrap_or(*plan.nodes.start());
    let steps = rng.random_range(plan.steps.clone());
    let mut membership = membership::Config::lan();
    let forgetful = rng.random_bool(0.3) && draws.contains(&Draw::Retention);
    if forgetful {
        membership.departed_retention = Duration::from_secs(60);
        membership.memory_retention = Duration::from_secs(180);
        membership.reap_interval = Duration::from_secs(5);
    }
    // From a generator of their own: the rest of a history is the same with and without them.
    let mut separate_rng = ChaCha8Rng::seed_from_u64(seed);
    separate_rng.set_stream(u64::MAX - 2);
    let priced = draws.contains(&Draw::Handshakes) && separate_rng.random_bool(0.5);
    let doubled = draws.contains(&Draw::Doubles) && separate_rng.random_bool(0.25);
    let uncompared = draws.contains(&Draw::Uncompared) && separate_rng.random_bool(0.5);
    let settings = Settings {
        fabric: FabricConfig {
            dialling: priced.then(production),
            handshakes: priced.then_some(HANDSHAKES),
            seed,
            link: random_link(&mut rng),
            trace_lines: 600,
            describe: DESCRIBE,
            ..FabricConfig::default()
        },
        membership,
        reap_time: REAP_TIME,
        watched: true,
        inspection: Some(2 * SECOND),
        replay: Some(plan.replay.replace("{seed}", &seed.to_string())),
        record_events: true,
    };
    let mut cluster = Cluster::new(settings);
    cluster.enabled_checks =
        EnabledChecks { readiness: draws.contains(&Draw::Readiness), hidden: draws.contains(&Draw::Hidden) };
    let mut coverage = Coverage::default();
    coverage.short_retentions += u64::from(forgetful);
    coverage.priced_handshakes += u64::from(priced);
    let peers: Vec<Peer> = (1..=count).map(|number| cluster.add(&format!("n{number}"))).collect();
    // Not in all histories: nodes that refuse writes are exempt from many checks, and the promises
    // to all others must be tested too.
    let refuses = draws.contains(&Draw::Liars) || draws.contains(&Draw::Limits);
    let refusing = if refuses { rng.random_range(0..3) } else { 2 };
    for &peer in &peers {
        let hardship = rng.random_range(0..10);
        if hardship < 3 && draws.contains(&Draw::Clocks) {
            // Any two clocks differ by less than the accepted lead of a time.
            cluster.set_clock_offset(peer, rng.random_range(-WRONG_BY..WRONG_BY));
            coverage.wrong_clocks += 1;
        } else if hardship < 4 && refusing == 0 && draws.contains(&Draw::Liars) {
            let hours = rng.random_range(2..12) * if rng.random_bool(0.5) { 1 } else { -1 };
            cluster.set_clock_offset(peer, hours * 3_600_000_000);
            coverage.lying_clocks += 1;
        } else if (4..6).contains(&hardship) && refusing == 1 && draws.contains(&Draw::Limits) {
            cluster.set_limits(peer, small_limits(&mut rng));
            coverage.small_limits += 1;
        }
        cluster.start_instance(peer, &peers);
    }
    cluster.enabled_checks.hidden &= coverage.lying_clocks == 0;
    let most = match rng.random_range(0..6) {
        0..3 => 4,
        3..5 => 12,
        _ => 40,
    };
    let networks = rng.random_range(1..=if draws.contains(&Draw::Networks) { most } else { 4 });
    let joins = (ATTACHMENTS as f64 / (count * networks) as f64).min(0.7);
    coverage.networks += networks as u64;
    let mut history = History {
        cluster,
        rng,
        peers,
        networks: (1..=networks).map(|number| format!("net{number}")).collect(),
        joins,
        draws: draws.clone(),
        writes: 0,
        coverage,
    };
    history.begin();
    for _ in 0..steps {
        history.step();
    }
    history.end_hard();
    if uncompared {
        history.spread_without_comparisons();
    }
    if doubled {
        history.run_one_instance_twice();
    }
    Outcome { coverage: history.coverage, trace_hash: history.cluster.trace_hash() }
}

/// Smaller limits than others have: such nodes refuse what they cannot hold.
fn small_limits(rng: &mut ChaCha8Rng) -> Limits {
    let mut limits = Limits::default();
    match rng.random_range(0..3) {
        0 => limits.value_bytes = rng.random_range(8..2_000),
        1 => limits.entries = rng.random_range(4..40),
        _ => limits.bytes = rng.random_range(200..20_000),
    }
    limits.sessions = rng.random_range(4..16);
    limits
}

impl History {
    fn end_hard(&mut self) {
        self.end_faults();
        self.agree_while_writing();
        if self.draws.contains(&Draw::Leaving) {
            self.leave_many();
        }
        self.join_many();
        self.end();
    }

    /// All members show the same soon after the heal, though writes continue.
    fn agree_while_writing(&mut self) {
        let checked = self.draws.contains(&Draw::Agreement);
        // A node that refuses a write ignores fingerprints, and receives some writes in periodic
        // comparisons only.
        let mut has_refused = self.cluster.any_node_refuses();
        let start = self.cluster.now();
        let (mut rng, networks) = (self.rng.clone(), self.networks.clone());
        let mut writer = Writer { rng: &mut rng, networks: &networks, written: 0, begin: self.writes };
        let agreed = self.cluster.agree_meanwhile(MOMENT, AGREEMENT_WITHIN, |cluster| {
            writer.write(cluster);
            has_refused |= cluster.any_node_refuses();
        });
        let taken = self.cluster.now() - start;
        match agreed {
            Err(difference) if checked && !has_refused => {
                panic!("{taken:?} after the heal members do not agree: {difference}")
            }
            Ok(_) if checked && !has_refused => {
                self.coverage.longest_while_writing = self.coverage.longest_while_writing.max(taken);
            }
            _ => {}
        }
        // Earlier they may agree by chance, before members have learned of each other what was cut
        // off.
        let promised = start + AGREEMENT_WITHIN;
        let until = self.cluster.now().max(promised) + WRITES_CONTINUE;
        while self.cluster.now() < until {
            for _ in 0..10 {
                self.cluster.run_for(20 * MILLISECOND);
                writer.write(&mut self.cluster);
            }
            let networks = self.cluster.networks();
            let difference =
                networks.iter().find_map(|network| self.cluster.difference_but_for(network, MOMENT));
            has_refused |= self.cluster.any_node_refuses();
            let Some(difference) = difference.filter(|_| checked && !has_refused) else { continue };
            self.coverage.longest_while_writing = self.cluster.now() - start;
            if self.cluster.now() >= promised {
                panic!("members that had agreed no longer do: {difference}");
            }
        }
        if checked && has_refused && !self.cluster.any_node_refuses() {
            let agreed = self
                .cluster
                .agree_meanwhile(MOMENT, AGREEMENT_AFTER_REFUSALS, |cluster| writer.write(cluster));
            if let Err(difference) = agreed
                && !self.cluster.any_node_refuses()
            {
                panic!(
                    "{AGREEMENT_AFTER_REFUSALS:?} after the last refusal members do not agree: {difference}"
                );
            }
        }
        let written = writer.written;
        self.coverage.writes_while_checked += written;
        self.writes += written;
        self.rng = rng;
    }

    /// One node deletes entries on each of its networks and leaves them all: its last deletes must
    /// be kept.
    fn leave_many(&mut self) {
        let Some(peer) = self.random_running() else { return };
        if self.cluster.running().len() < 3 || self.cluster.has_limits(peer) {
            return;
        }
        let networks = self.cluster.networks_of(peer);
        let before = self.cluster.events(peer).len();
        for network in &networks {
            for key in self.cluster.visible(peer, network).into_keys().take(2) {
                if self.cluster.try_delete(peer, Key::new(network, &key.0, &key.1)).is_ok() {
                    self.coverage.last_deletes += 1;
                }
            }
        }
        for network in &networks {
            if self.cluster.try_leave_network(peer, network).is_ok() {
                self.coverage.network_leaves += 1;
            }
        }
        self.coverage.many_left += u64::from(networks.len() > 8);
        self.cluster
            .run_until("many networks are left", LEFT_WITHIN, |cluster| cluster.is_off_networks(peer));
        // Without faults, another member must have received all writes.
        for (_, event) in &self.cluster.events(peer)[before..] {
            if let NodeEvent::NetworkLeft { network, final_syncs } = event
                && final_syncs.wanted > 0
                && final_syncs.completed == 0
            {
                panic!("{} left {network}, and handed on nothing", self.cluster.name(peer));
            }
        }
    }

    /// One node joins many networks at once, and must be ready soon.
    fn join_many(&mut self) {
        let running = self.cluster.running();
        self.cluster
            .run_until("all agree on the members", TIMEOUT, |cluster| cluster.all_agree_on_members(&running));
        self.cluster.run_for(5 * SECOND);
        let mut able = self.cluster.running();
        able.retain(|peer| !self.cluster.has_limits(*peer) && !self.cluster.is_leaving(*peer));
        let Some(&peer) = able.choose(&mut self.rng) else { return };
        let mut joined = 0;
        for network in self.networks.clone() {
            joined += u64::from(self.cluster.try_join_network(peer, &network).is_ok());
        }
        self.coverage.network_joins += joined;
        self.coverage.many_joined += u64::from(joined > 8);
        let within = if self.draws.contains(&Draw::Readiness) { READY_WITHIN } else { TIMEOUT };
        if self.cluster.try_run_until(within, |cluster| cluster.not_ready().is_none()).is_none() {
            let who = self.cluster.not_ready().unwrap_or_default();
            panic!("{within:?} after the join this is not ready: {who}");
        }
    }
}

/// Writes on random nodes, one after the other.
struct Writer<'a> {
    rng: &'a mut ChaCha8Rng,
    networks: &'a [String],
    written: u64,
    begin: u64,
}

impl Writer<'_> {
    fn write(&mut self, cluster: &mut Cluster) {
        let mut writers = cluster.running();
        writers.retain(|peer| !cluster.is_leaving(*peer));
        let Some(&peer) = writers.choose(self.rng) else { return };
        let joined = cluster.networks_of(peer);
        let Some(network) = joined.choose(self.rng).filter(|network| self.networks.contains(network)) else {
            return;
        };
        // One of forty keys is written in each tick of twenty milliseconds; most are older than the
        // last moment.
        let name = format!("w{}", self.rng.random_range(0..200));
        let key = Key::new(network, TABLES[self.rng.random_range(0..TABLES.len())], &name);
        let value = format!("{} {}", cluster.name(peer), self.begin + self.written + 1);
        let result = match cluster.value(peer, key) {
            None => cluster.try_create(peer, key, value.as_bytes()),
            Some(_) if self.rng.random_bool(0.7) => cluster.try_update(peer, key, value.as_bytes()),
            Some(_) => cluster.try_delete(peer, key),
        };
        match result {
            Ok(()) => self.written += 1,
            Err(tabledb::WriteError::NotJoined { .. }) => {}
            Err(error) if cluster.has_limits(peer) && super::is_of_limits(&error) => {}
            Err(error) => panic!("{} refused a write to {key}: {error}", cluster.name(peer)),
        }
    }
}
