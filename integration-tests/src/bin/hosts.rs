//! Scenarios on real hosts: the real binary in network namespaces, while links and processes fail.

use std::process::ExitCode;

use clap::Parser;
use integration_tests::hosts::{Flags, run_scenarios, scenarios};

/// Runs the real binary on real hosts (network namespaces on a bridge) while links and processes
/// fail. Must be root.
#[derive(Debug, Parser)]
#[command(name = "hosts")]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    // Most scenarios wait most of the time.
    run_scenarios(Arguments::parse().flags, scenarios::all(), 2 * processors)
}
