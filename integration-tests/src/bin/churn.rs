//! Joins and leaves a network on real nodes in one process for a given time, and reports the cost.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use integration_tests::churn::{Goals, Plan, run};

/// Makes nodes on loopback create entries, leave and join a network without a pause, over real
/// QUIC. Fails if a stream was given up, the tables agreed late, or streams or memory were not
/// released; with --strict also if it was slow. The defaults are goals for an idle machine.
#[derive(Debug, Parser)]
#[command(name = "churn")]
struct Arguments {
    /// How many nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// For how many seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Goal for joins and leaves a minute, all nodes together.
    #[arg(long, default_value_t = 20_000.0)]
    changes_a_minute: f64,
    /// Limit for one join or leave, in milliseconds.
    #[arg(long, default_value_t = 500)]
    slowest_ms: u64,
    /// Limit from the last change until all show the same, in milliseconds.
    #[arg(long, default_value_t = 500)]
    agreement_ms: u64,
    /// Limit for the growth of memory after the first fifth of the time, in mebibytes.
    #[arg(long, default_value_t = 16)]
    growth_mib: u64,
    /// Fail for lack of speed as well: too few joins and leaves, or a slow one.
    #[arg(long)]
    strict: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plan = Plan { nodes: arguments.nodes, duration: Duration::from_secs(arguments.seconds) };
    let goals = Goals {
        changes_a_minute: arguments.changes_a_minute,
        slowest: Duration::from_millis(arguments.slowest_ms),
        agreement: Duration::from_millis(arguments.agreement_ms),
        growth: arguments.growth_mib << 20,
    };
    match run(plan).await {
        Ok(report) => {
            println!("{report}");
            println!("speed: {}", report.speed(&goals));
            let mut missed = report.missed(&goals);
            if arguments.strict {
                missed.extend(report.slow(&goals));
            }
            if missed.is_empty() {
                return ExitCode::SUCCESS;
            }
            println!("\nmissed: {}", missed.join("; "));
            ExitCode::FAILURE
        }
        Err(what) => {
            eprintln!("{what}");
            ExitCode::from(2)
        }
    }
}
