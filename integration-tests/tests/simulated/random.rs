//! Random histories: a few of what the soak binary runs by the thousand, in `.ci/run` too.

use integration_tests::history::{Coverage, Kind, Plan, run};

const REPLAY: &str =
    "SIM_TRACE=1 cargo run --release -p integration-tests --bin soak -- --seeds 1 --from {seed}";

fn plan() -> Plan {
    Plan { replay: REPLAY.to_owned(), ..Plan::default() }
}

/// Most are short: each has a world of its own to begin with, and costs a third.
fn short() -> Plan {
    Plan { steps: 10..=40, replay: format!("{REPLAY} --steps 10..40"), ..Plan::default() }
}

fn histories(from: u64, count: u64, plan: &Plan) -> Coverage {
    let mut met = Coverage::default();
    for seed in from..from + count {
        met.add(&run(seed, plan).coverage);
    }
    met
}

fn hard() -> Plan {
    Plan {
        nodes: 8..=16,
        steps: 20..=30,
        replay: format!("{REPLAY} --kind hard --nodes 8..16 --steps 20..30"),
        ..Plan::of(Kind::Hard)
    }
}

// Several tests, so that they run side by side.

#[test]
fn histories_1_to_40_keep_every_promise_and_meet_every_misfortune() {
    let met = histories(1, 40, &plan());
    assert_eq!(met.never(&plan()), Vec::<&str>::new(), "what never happened is not tried");
}

#[test]
fn short_histories_1001_to_1010_keep_every_promise() {
    histories(1_001, 10, &short());
}

#[test]
fn hard_histories_1_and_2_keep_every_promise() {
    histories(1, 2, &hard());
}

#[test]
fn one_seed_gives_one_trace() {
    assert_eq!(run(13, &hard()), run(13, &hard()));
    for seed in 1..=2 {
        let (first, second) = (run(seed, &plan()), run(seed, &plan()));
        assert_eq!(first, second, "seed {seed}");
        assert_ne!(first.trace_hash, run(seed + 1_000, &plan()).trace_hash);
    }
}
