//! Attacks the HTTP side of a real node, and checks its memory and its health.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use integration_tests::formation::Processes;
use integration_tests::hosts::binary;
use integration_tests::http_siege::{Outcome, run_attacks};

/// Starts two nodes on loopback and attacks one of them with misbehaving HTTP clients: slow headers
/// and bodies, hang-ups, unread responses, pipelines, stalled watches. Status 1 if the node's
/// health was not answered in time, its memory grew beyond its limits, or the other node held it
/// failed.
#[derive(Debug, Parser)]
#[command(name = "http-siege")]
struct Arguments {
    /// The networkdb binary to run; by default the release build, which is brought up to date first
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), String> {
    let binary = arguments.binary.map_or_else(binary, Ok)?;
    let flags = ["--network", "blue", "--log-level", "warn"].map(str::to_owned);
    let mut nodes = Processes::new(binary, 2, flags.into())?;
    if nodes.start(Duration::from_secs(20))?.formed.is_none() {
        return Err("two nodes did not form a cluster".to_owned());
    }
    let outcomes = run_attacks(&mut nodes, |Outcome { name, rounds, slowest_health, asked, growth }| {
        println!(
            "{name:32} {rounds:8} rounds, health within {:4} ms ({} of {} tries again), memory +{} MiB",
            slowest_health.as_millis(),
            asked.1,
            asked.0,
            growth >> 20
        );
    })?;
    outcomes.iter().try_for_each(Outcome::check)
}
