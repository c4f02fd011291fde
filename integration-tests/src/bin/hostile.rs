//! Attacks a node of a cluster of real hosts, and checks the cluster.

use std::process::ExitCode;

use clap::Parser;
use integration_tests::hostile;
use integration_tests::hosts::{Flags, run_scenarios};

/// Attacks one node of a cluster of real hosts (network namespaces on a bridge), from outside and
/// by a modified peer, and checks that the cluster keeps working. Must be root.
#[derive(Debug, Parser)]
#[command(name = "hostile")]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    // No more: each uses all the processors it can get.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    run_scenarios(Arguments::parse().flags, hostile::all(), processors)
}
