//! Tells stories of real hosts: the real binary in network namespaces, while links and processes fail.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use integration_tests::hosts::{self, Outcome, scenarios};
use tokio::signal::unix::{SignalKind, signal};

/// Runs the real binary on real hosts (network namespaces on a bridge) while links and processes fail. Must be root.
#[derive(Debug, Parser)]
#[command(name = "hosts")]
struct Arguments {
    /// Only this scenario; may be repeated, or separated by commas.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    scenario: Vec<String>,
    /// How many hosts each scenario has.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(4..=50))]
    hosts: u8,
    /// How many scenarios are told side by side; twice the number of processors by default.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: Option<u8>,
    /// The networkdb binary to run; by default the release build, which is brought up to date first.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Say which scenarios there are, and end.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        for scenario in scenarios::all() {
            println!("{:16} {}", scenario.name, scenario.story);
        }
        return ExitCode::SUCCESS;
    }
    if let Err(why) = hosts::require() {
        println!("SKIPPED: {why}");
        return ExitCode::SUCCESS;
    }
    match run(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Arguments) -> Result<bool, String> {
    let chosen = choose(&arguments.scenario)?;
    let binary = arguments.binary.map_or_else(hosts::binary, Ok)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = arguments.jobs.map_or(2 * processors, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot make a runtime: {error}"))?;
    let outcomes = runtime.block_on(async {
        let told = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
        let (mut interrupt, mut terminate) = (told(SignalKind::interrupt())?, told(SignalKind::terminate())?);
        let bar = ProgressBar::new(chosen.len() as u64);
        bar.set_style(
            ProgressStyle::with_template("{bar:40} {pos}/{len} scenarios, {elapsed}")
                .expect("a valid template"),
        );
        bar.enable_steady_tick(std::time::Duration::from_secs(1));
        let (say, mut said) = tokio::sync::mpsc::unbounded_channel::<String>();
        // Dropped at a signal: whatever is under way ends then.
        let (_under_way, cancelled) = tokio::sync::watch::channel(());
        let hosts = usize::from(arguments.hosts);
        let telling = hosts::tell_all(chosen, binary, hosts, jobs, say, cancelled);
        tokio::pin!(telling);
        loop {
            tokio::select! {
                outcomes = &mut telling => {
                    bar.finish_and_clear();
                    return outcomes;
                }
                Some(line) = said.recv() => {
                    bar.suspend(|| println!("{line}"));
                    bar.inc(u64::from(line.contains(": well after") || line.contains(": FAILED after")));
                }
                _ = interrupt.recv() => return Err("interrupted; the hosts are being taken away".to_owned()),
                _ = terminate.recv() => return Err("terminated; the hosts are being taken away".to_owned()),
            }
        }
    });
    // Waits for scenarios that a signal cut short: they are taking their hosts away.
    drop(runtime);
    report(&outcomes?)
}

fn choose(names: &[String]) -> Result<Vec<scenarios::Scenario>, String> {
    let all = scenarios::all();
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|scenario| scenario.name != **name)) {
        let known: Vec<_> = all.iter().map(|scenario| scenario.name).collect();
        return Err(format!("there is no scenario {unknown}; these are: {}", known.join(", ")));
    }
    let wanted =
        |scenario: &scenarios::Scenario| names.is_empty() || names.iter().any(|name| name == scenario.name);
    Ok(all.into_iter().filter(wanted).collect())
}

fn report(outcomes: &[Outcome]) -> Result<bool, String> {
    println!("\n{}", hosts::table(outcomes));
    let mut well = true;
    for outcome in outcomes {
        if let Err(error) = &outcome.result {
            well = false;
            println!("\n{} FAILED: {error}", outcome.name);
        }
    }
    if well {
        println!(
            "\n{} scenarios: the same tables everywhere, no acknowledged write lost, nothing brought back",
            outcomes.len()
        );
    }
    Ok(well)
}
