//! Random misfortunes, after which everything must be well again.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::network::Network;
use crate::{Config, Event};

const SECOND: Duration = Duration::from_secs(1);

/// Some minutes of crashes, restarts, pauses, departures, cuts and loss, then peace. Returns how often each befell.
fn misfortunes(seed: u64) -> [u32; 7] {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = rng.random_range(3..10);
    let mut network = Network::joined(seed, Config::lan(), count);
    let mut generations = vec![1; count];
    let mut befell = [0; 7];
    let seeds = [0, 1];
    for _ in 0..40 {
        network.run(SECOND.mul_f64(rng.random_range(0.01..4.0)));
        let place = rng.random_range(0..count);
        let kind = rng.random_range(0..7);
        befell[kind] += 1;
        match kind {
            0 => network.crash(place),
            1 => {
                // Now and then the clock has gone back, and sometimes it has stood still.
                let step = rng.random_range(-1..4i64);
                generations[place] = (generations[place] as i64 + step).max(1) as u64;
                network.restart(place, generations[place]);
                network.join(place, &seeds);
            }
            2 => network.pause(place, SECOND.mul_f64(rng.random_range(0.1..20.0))),
            3 if network.runs(place) => network.call(place, |machine, now| machine.leave(now)),
            3 | 4 => {
                let some = (0..count).filter(|_| rng.random_bool(0.5)).collect::<Vec<_>>();
                let others = (0..count).filter(|place| !some.contains(place)).collect::<Vec<_>>();
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
    for (place, generation) in generations.into_iter().enumerate() {
        if !network.runs(place) {
            network.restart(place, generation + 5);
        }
        network.join(place, &seeds);
    }
    network.until("all are well again", SECOND * 90, |network| network.all_know_all());
    network.run(SECOND * 30);
    network.forget_events();
    network.run(SECOND * 60);
    assert!(network.all_know_all(), "seed {seed}: it lasts");
    let events = network.events().collect::<Vec<_>>();
    assert!(events.iter().all(|(_, event)| matches!(event, Event::Forgotten(_))), "seed {seed}: {events:?}");
    befell
}

#[test]
fn whatever_befalls_a_cluster_it_is_one_again_when_the_misfortunes_end() {
    let mut befell = [0; 7];
    for seed in 0..20 {
        for (sum, count) in befell.iter_mut().zip(misfortunes(seed)) {
            *sum += count;
        }
    }
    assert!(befell.iter().all(|count| *count > 50), "every kind of misfortune befell: {befell:?}");
}
