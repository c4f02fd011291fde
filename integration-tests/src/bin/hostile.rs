//! Attacks a node of a cluster of real hosts, and watches the cluster go on.

use std::process::ExitCode;

use clap::Parser;
use integration_tests::hostile;
use integration_tests::hosts::{Flags, run_scenarios};

/// Lets strangers and a modified peer loose on one node of a cluster of real hosts (network namespaces on a bridge), and
/// judges whether the cluster goes on. Must be root.
#[derive(Debug, Parser)]
#[command(name = "hostile")]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    // No more: each takes all the processors it can get.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    run_scenarios(Arguments::parse().flags, hostile::all(), processors)
}
