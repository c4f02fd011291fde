//! The HTTP API beside a bare axum handler, and beside Redis where a `redis-server` is installed.
//!
//! `cargo bench -p networkdb-http [-- NAME...]`; with `--smoke` only to show that everything completes.
//!
//! Each server is a process of its own on loopback, so that its processor time and memory are its own; the clients are
//! this process. The servers take turns, so that other load of the machine meets all of them. Redis answers over its own
//! protocol and writes nothing to disk.

#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::process::ExitCode;
use std::time::Duration;

#[path = "http/client.rs"]
mod client;
#[path = "http/report.rs"]
mod report;
#[path = "http/requests.rs"]
mod requests;
#[path = "http/server.rs"]
mod server;
#[path = "http/watches.rs"]
mod watches;

/// What went wrong, as a sentence.
type Failure = String;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Size {
    rounds: usize,
    time: Duration,
    imported: usize,
    watches: &'static [usize],
    events: usize,
    idle: Duration,
}

const WHOLE: Size = Size {
    rounds: 5,
    time: Duration::from_secs(1),
    imported: 100_000,
    watches: &[1, 100, 1_000],
    events: 500,
    idle: Duration::from_secs(25),
};

const SMOKE: Size = Size {
    rounds: 1,
    time: Duration::from_millis(50),
    imported: 1_000,
    watches: &[1, 10],
    events: 20,
    idle: Duration::from_millis(200),
};

/// A measurement, by its name.
type Measurement = (&'static str, fn(&Size) -> Result<(), Failure>);

const MEASUREMENTS: [Measurement; 4] = [
    ("requests", requests::measure),
    ("import", requests::measure_imports),
    ("watches", watches::measure),
    ("idle", watches::measure_idle),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [server::ARGUMENT, kind] = words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        server::run(kind);
        return ExitCode::SUCCESS;
    }
    let size = if words.iter().any(|word| word == "--smoke") { SMOKE } else { WHOLE };
    let names: Vec<&String> = words.iter().filter(|word| *word != "--smoke").collect();
    let mut status = ExitCode::SUCCESS;
    for (name, measure) in MEASUREMENTS {
        if !names.is_empty() && !names.iter().any(|wanted| *wanted == name) {
            continue;
        }
        println!("\n== {name}, at a load of {}", report::load());
        if let Err(failure) = measure(&size) {
            println!("FAILED: {failure}");
            status = ExitCode::FAILURE;
        }
    }
    println!("\nThe load at the end is {}.", report::load());
    status
}
