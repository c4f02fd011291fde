//! Random histories: a few dozen of what the soak binary runs by the thousand.

use integration_tests::history::{Met, Plan, run};

fn plan() -> Plan {
    Plan {
        replay: "SIM_TRACE=1 cargo run --release -p integration-tests --bin soak -- --seeds 1 --from {seed}"
            .into(),
        ..Plan::default()
    }
}

fn histories(from: u64, count: u64) -> Met {
    let mut met = Met::default();
    for seed in from..from + count {
        met.add(&run(seed, &plan()).met);
    }
    met
}

// Several tests, so that they run side by side.

#[test]
fn histories_1_to_30_keep_every_promise() {
    histories(1, 30);
}

#[test]
fn histories_31_to_60_keep_every_promise() {
    histories(31, 30);
}

#[test]
fn histories_61_to_120_keep_every_promise_and_meet_every_misfortune() {
    let met = histories(61, 60);
    assert_eq!(met.never(), Vec::<&str>::new(), "what never happened is not tried");
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in 1..=6 {
        let (first, second) = (run(seed, &plan()), run(seed, &plan()));
        assert_eq!(first, second, "seed {seed}");
        assert_ne!(first.trace_hash, run(seed + 1_000, &plan()).trace_hash);
    }
}
