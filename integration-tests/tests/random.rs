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
fn histories_1_to_40_keep_every_promise() {
    histories(1, 40);
}

#[test]
fn histories_41_to_80_keep_every_promise() {
    histories(41, 40);
}

#[test]
fn histories_81_to_200_keep_every_promise_and_meet_every_misfortune() {
    let met = histories(81, 120);
    assert_eq!(met.never(), Vec::<&str>::new(), "what never happened is not tried");
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in 1..=12 {
        let (first, second) = (run(seed, &plan()), run(seed, &plan()));
        assert_eq!(first, second, "seed {seed}");
        assert_ne!(first.trace_hash, run(seed + 1_000, &plan()).trace_hash);
    }
}
