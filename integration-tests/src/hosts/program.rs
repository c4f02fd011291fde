//! The programs that run scenarios: their flags, their progress, their report.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::scenarios::{CLOCKS, Scenario};
use super::{Failure, Outcome, Plan, binary, clocks, require, run_all, table};

/// The flags of such a program.
#[derive(Debug, Args)]
pub struct Flags {
    /// Only this scenario; may be repeated, or separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    scenario: Vec<String>,
    /// How many hosts each scenario has
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(5..=50))]
    hosts: u8,
    /// How many scenarios run side by side; by default as many as do not slow each other down here
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: Option<u8>,
    /// The networkdb binary to run; by default the release build, which is brought up to date first
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// One more flag for every node, such as --flag=--log-level=debug; may be repeated
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    flag: Vec<String>,
    /// Keep the logs of successful scenarios too, and print where they are
    #[arg(long)]
    keep_logs: bool,
    /// List the scenarios, and end
    #[arg(long)]
    list: bool,
}

/// Runs the chosen scenarios. `jobs` of them run side by side unless the flags say otherwise.
/// Status 0 if all passed, or none can be run here; 1 if one failed, 2 if they could not be
/// completed.
pub fn run_scenarios(flags: Flags, scenarios: Vec<Scenario>, jobs: usize) -> ExitCode {
    if flags.list {
        for scenario in scenarios {
            println!("{:16} {}", scenario.name, scenario.description);
        }
        return ExitCode::SUCCESS;
    }
    if let Err(why) = require() {
        println!("SKIPPED: {why}");
        return ExitCode::SUCCESS;
    }
    match run(flags, scenarios, jobs) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::from(2)
        }
    }
}

fn run(flags: Flags, scenarios: Vec<Scenario>, jobs: usize) -> Result<bool, Failure> {
    let chosen = choose(scenarios, &flags.scenario)?;
    let binary = flags.binary.map_or_else(binary, Ok)?;
    let jobs = flags.jobs.map_or(jobs, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot make a runtime: {error}"))?;
    let plan = Plan {
        binary,
        hosts: usize::from(flags.hosts),
        flags: flags.flag,
        spare: 0,
        wall_clocks: false,
        keep_logs: flags.keep_logs,
    };
    let outcomes = runtime.block_on(run_with_progress(chosen, plan, jobs));
    // Waits for cancelled scenarios: they are removing their hosts.
    drop(runtime);
    Ok(report(&outcomes?))
}

async fn run_with_progress(chosen: Vec<Scenario>, plan: Plan, jobs: usize) -> Result<Vec<Outcome>, Failure> {
    let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let bar = ProgressBar::new(chosen.len() as u64);
    bar.set_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} scenarios, {elapsed}").expect("a valid template"),
    );
    bar.enable_steady_tick(Duration::from_secs(1));
    let show = |line: String| {
        bar.suspend(|| println!("{line}"));
        bar.inc(u64::from(line.contains(": passed after") || line.contains(": FAILED after")));
    };
    let (progress, mut lines) = mpsc::unbounded_channel::<String>();
    // Dropped at a signal, which cancels all running scenarios.
    let (_under_way, cancelled) = watch::channel(());
    let running = run_all(chosen, plan, jobs, progress, cancelled);
    tokio::pin!(running);
    loop {
        tokio::select! {
            biased;
            Some(line) = lines.recv() => show(line),
            outcomes = &mut running => {
                while let Ok(line) = lines.try_recv() {
                    show(line);
                }
                bar.finish_and_clear();
                return outcomes;
            }
            _ = interrupt.recv() => return Err("interrupted; removing the hosts".to_owned()),
            _ = terminate.recv() => return Err("terminated; removing the hosts".to_owned()),
        }
    }
}

fn choose(all: Vec<Scenario>, names: &[String]) -> Result<Vec<Scenario>, Failure> {
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|scenario| scenario.name != **name)) {
        let known: Vec<_> = all.iter().map(|scenario| scenario.name).collect();
        return Err(format!("there is no scenario {unknown}; these are: {}", known.join(", ")));
    }
    let wanted = |scenario: &Scenario| match names.is_empty() {
        true => possible(scenario),
        false => names.iter().any(|name| name == scenario.name),
    };
    Ok(all.into_iter().filter(wanted).collect())
}

/// Whether a scenario that was not chosen by name can be run here; if not, prints why.
fn possible(scenario: &Scenario) -> bool {
    let needed = if scenario.name == CLOCKS { clocks::require() } else { Ok(()) };
    needed.map_err(|why| println!("SKIPPED: {}: {why}", scenario.name)).is_ok()
}

fn report(outcomes: &[Outcome]) -> bool {
    println!("\n{}", table(outcomes));
    let mut passed = true;
    for outcome in outcomes {
        if let Err(error) = &outcome.result {
            passed = false;
            println!("\n{} FAILED: {error}", outcome.name);
        }
    }
    if passed {
        println!(
            "\n{} scenarios: the same tables everywhere, no acknowledged write lost, nothing brought back",
            outcomes.len()
        );
    }
    passed
}
