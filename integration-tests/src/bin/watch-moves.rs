//! Moves a client of /v1/watch between real nodes, and checks that it has exactly their table.

use std::process::ExitCode;

use clap::Parser;
use integration_tests::watch_moves::{Plan, run};

/// Makes three nodes on loopback write, delete, crash, leave and return, and moves a client of their watches from one to
/// the other, with its cursor. Fails if a change does not fit the client's table, if that is not the nodes' table in the
/// end, or if the client has to start over although nothing had happened to a node for a while.
#[derive(Debug, Parser)]
#[command(name = "watch-moves")]
struct Arguments {
    /// How often the client is moved.
    #[arg(long, default_value_t = 1000)]
    moves: usize,
    /// The seed of all choices; what happens depends on real time as well.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// No node crashes or leaves.
    #[arg(long)]
    calm: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { moves, seed, calm } = Arguments::parse();
    match run(Plan { moves, faults: !calm, seed }).await {
        Ok(report) => {
            print!("{report}");
            if report.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(what) => {
            eprintln!("{what}");
            ExitCode::from(2)
        }
    }
}
