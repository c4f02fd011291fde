//! Random faults, after which the cluster must converge.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::network::Network;
use crate::{Config, Event};

const SECOND: Duration = Duration::from_secs(1);

/// Some minutes of crashes, restarts, pauses, departures, cuts and loss, then none. Returns how
/// often each kind occurred.
fn faults(seed: u64) -> [u32; 7] {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = rng.random_range(3..10);
    let mut network = Network::joined(seed, Config::lan(), count);
    let mut generations = vec![1; count];
    let mut counts = [0; 7];
    let seeds = [0, 1];
    for _ in 0..40 {
        network.run(SECOND.mul_f64(rng.random_range(0.01..4.0)));
        let node = rng.random_range(0..count);
        let kind = rng.random_range(0..7);
        counts[kind] += 1;
        match kind {
            0 => network.crash(node),
            1 => {
                // Sometimes the clock went back, and sometimes it did not advance.
                let step = rng.random_range(-1..4i64);
                generations[node] = (generations[node] as i64 + step).max(1) as u64;
                network.restart(node, generations[node]);
                network.join(node, &seeds);
            }
            2 => network.pause(node, SECOND.mul_f64(rng.random_range(0.1..20.0))),
            3 if network.runs(node) => network.call(node, |machine, now| machine.leave(now)),
            3 | 4 => {
                let some = (0..count).filter(|_| rng.random_bool(0.5)).collect::<Vec<_>>();
                let others = (0..count).filter(|node| !some.contains(node)).collect::<Vec<_>>();
                let both_ways = rng.random_bool(0.7);
                network.cut(&some, &others, both_ways);
            }
            5 => network.heal(),
            _ => network.loss = if rng.random_bool(0.5) { rng.random_range(0.0..0.4) } else { 0.0 },
        }
    }
    network.heal();
    network.loss = 0.0;
    network.run(SECOND * 20);
    for (node, generation) in generations.into_iter().enumerate() {
        if !network.runs(node) {
            network.restart(node, generation + 5);
        }
        network.join(node, &seeds);
    }
    network.until("the cluster has converged", SECOND * 90, |network| network.converged());
    network.run(SECOND * 30);
    network.forget_events();
    network.run(SECOND * 60);
    assert!(network.converged(), "seed {seed}: it remains so");
    let events = network.events().collect::<Vec<_>>();
    assert!(events.iter().all(|(_, event)| matches!(event, Event::Forgotten(_))), "seed {seed}: {events:?}");
    counts
}

#[test]
fn a_cluster_converges_after_random_faults_end() {
    let mut counts = [0; 7];
    for seed in 0..20 {
        for (sum, count) in counts.iter_mut().zip(faults(seed)) {
            *sum += count;
        }
    }
    assert!(counts.iter().all(|count| *count > 50), "every kind of fault occurred: {counts:?}");
}
