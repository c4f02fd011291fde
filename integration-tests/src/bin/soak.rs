//! Runs random histories, seed after seed, until one breaks a promise.

use std::cmp::Reverse;
use std::ops::RangeInclusive;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use integration_tests::history::{Coverage, Draw, Kind, Plan, run};

/// Runs random histories of operations and faults on simulated clusters, and checks every promise in each.
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Arguments {
    /// How many histories.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The kind of world.
    #[arg(long, value_enum, default_value = "old")]
    kind: Kind,
    /// The draws of the hard world, instead of all; may be given several times.
    #[arg(long, value_enum)]
    draw: Vec<Draw>,
    /// How many nodes, drawn for each history from a range such as 2..7, which is the usual; 8..30
    /// in the hard world.
    #[arg(long, value_parser = range)]
    nodes: Option<RangeInclusive<usize>>,
    /// How many operations and faults, drawn for each history; 30..150 is the usual, 20..60 in the
    /// hard world.
    #[arg(long, value_parser = range)]
    steps: Option<RangeInclusive<usize>>,
    /// How many histories at a time; by default the number of processors.
    #[arg(long)]
    threads: Option<usize>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Go on after a failure, and list the failing seeds at the end.
    #[arg(long)]
    keep_going: bool,
}

/// How many of the slowest histories are named.
const SLOWEST_SHOWN: usize = 20;

fn range(text: &str) -> Result<RangeInclusive<usize>, String> {
    let number = |text: &str| {
        text.parse::<usize>().map_err(|_| format!("{text:?} is not a number; write a range such as 2..7"))
    };
    let (low, high) = match text.split_once("..") {
        Some((low, high)) => (number(low)?, number(high.trim_start_matches('='))?),
        None => (number(text)?, number(text)?),
    };
    if low < 2 || high < low {
        return Err(format!("{text} is no range from 2 upwards; write for instance 2..7"));
    }
    Ok(low..=high)
}

fn plan(arguments: &Arguments) -> Plan {
    let mut plan = Plan::of(arguments.kind);
    plan.nodes = arguments.nodes.clone().unwrap_or(plan.nodes);
    plan.steps = arguments.steps.clone().unwrap_or(plan.steps);
    let draws = arguments.draw.iter().copied().collect();
    let mut again = String::from("SIM_TRACE=1 cargo run --release -p integration-tests --bin soak --");
    again += &format!(" --seeds 1 --from {{seed}} --kind {}", value_name(arguments.kind));
    if !arguments.draw.is_empty() {
        plan.draws = draws;
        again.extend(plan.draws.iter().map(|draw| format!(" --draw {}", value_name(*draw))));
    }
    let range = |range: &RangeInclusive<usize>| format!("{}..{}", range.start(), range.end());
    again += &format!(" --nodes {} --steps {}", range(&plan.nodes), range(&plan.steps));
    plan.replay = again;
    plan
}

fn value_name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plan = plan(&arguments);
    let bar = ProgressBar::new(arguments.seeds);
    bar.set_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} histories, {per_sec}, {eta} left")
            .expect("a valid template"),
    );
    let coverage = Mutex::new(Coverage::default());
    let slowest = Mutex::new([Vec::new(), Vec::new()]);
    let failed = Mutex::new(Vec::new());
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let threads =
        arguments.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= arguments.seeds {
                        break;
                    }
                    let seed = arguments.from + index;
                    // A failed history has printed its report; its state is not used afterwards.
                    match std::panic::catch_unwind(AssertUnwindSafe(|| run(seed, &plan))) {
                        Ok(history) => {
                            let mut slowest = slowest.lock().expect("never held over a panic");
                            let tables = history
                                .coverage
                                .longest_agreement
                                .max(history.coverage.longest_while_writing);
                            let taken = [history.coverage.longest_members, tables];
                            for (slowest, taken) in slowest.iter_mut().zip(taken) {
                                slowest.push((taken, seed));
                                slowest.sort_unstable_by_key(|slow| Reverse(*slow));
                                slowest.truncate(SLOWEST_SHOWN);
                            }
                            coverage.lock().expect("never held over a panic").add(&history.coverage);
                        }
                        Err(_) => {
                            failed.lock().expect("never held over a panic").push(seed);
                            stop.fetch_or(!arguments.keep_going, Ordering::Relaxed);
                        }
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    if let Ok(slowest) = slowest.into_inner() {
        for (slowest, on) in slowest.into_iter().zip(["on the members", "on what is in the tables"]) {
            let seeds = slowest.iter().map(|(taken, seed)| format!("{seed} ({:.3} s)", taken.as_secs_f64()));
            println!("slowest to agree {on}: seeds {}", seeds.collect::<Vec<_>>().join(", "));
        }
    }
    report(
        arguments.seeds,
        &plan,
        &coverage.into_inner().expect("all threads have ended"),
        failed.into_inner().unwrap_or_default(),
    )
}

fn report(seeds: u64, plan: &Plan, coverage: &Coverage, mut failed: Vec<u64>) -> ExitCode {
    println!("{coverage}");
    if !failed.is_empty() {
        failed.sort_unstable();
        println!("\na promise was broken with the seeds {failed:?}");
        return ExitCode::FAILURE;
    }
    let never = coverage.never(plan);
    if !never.is_empty() {
        println!(
            "\n{seeds} histories without a violation, but these never occurred and were not tested: {}",
            never.join(", ")
        );
        return ExitCode::FAILURE;
    }
    println!("\n{seeds} histories without a violation");
    ExitCode::SUCCESS
}
