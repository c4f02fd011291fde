//! Measures how soon crashes are known everywhere, and how often running nodes are declared failed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use integration_tests::detection::{Alarms, Conditions, crashes, false_alarms};
use integration_tests::jobs::do_all;
use membership::Config;

/// Measures in virtual time how soon a crash is known to all other nodes, and how often a running
/// node is declared failed while datagrams are lost and one random node is paused every ten
/// seconds. With the LAN preset.
#[derive(Debug, Parser)]
#[command(name = "detection")]
struct Arguments {
    /// How many nodes; several numbers with commas between them.
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000")]
    nodes: Vec<usize>,
    /// How many hours the search for false failures lasts, in virtual time.
    #[arg(long, default_value_t = 1.0)]
    hours: f64,
    /// How many nodes crash, one after the other.
    #[arg(long, default_value_t = 20)]
    crashes: usize,
    /// How many packets of a hundred are lost; several numbers with commas between them.
    #[arg(long, value_delimiter = ',', default_value = "10")]
    loss_percent: Vec<f64>,
    /// For how long a node is paused; several numbers with commas between them.
    #[arg(long, value_delimiter = ',', default_value = "1000")]
    pause_ms: Vec<u64>,
    /// The seed of all random draws.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Another least length of a suspicion than the preset's, in probe intervals.
    #[arg(long)]
    suspicion_multiplier: Option<u32>,
    /// Another number of confirmations than the preset's.
    #[arg(long)]
    confirmations: Option<usize>,
    /// Another number of second opinions than the preset's.
    #[arg(long)]
    second_opinions: Option<usize>,
    /// Write the results here.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// A crash among at most this many nodes must be known everywhere within [`KNOWN_WITHIN`].
const NODES_OF_THE_GOAL: usize = 100;
const KNOWN_WITHIN: Duration = Duration::from_secs(10);

enum Job {
    Crashes { nodes: usize, loss: f64 },
    Alarms { nodes: usize, conditions: Conditions },
}

enum Found {
    Crashes { nodes: usize, loss: f64, times: Vec<Duration> },
    Alarms { nodes: usize, conditions: Conditions, alarms: Alarms },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(missed) if missed.is_empty() => ExitCode::SUCCESS,
        Ok(missed) => {
            println!("\nmissed: {}", missed.join("; "));
            ExitCode::FAILURE
        }
        Err(what) => {
            eprintln!("{what}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<Vec<String>, String> {
    if let Some(loss) = arguments.loss_percent.iter().find(|loss| !(0.0..=90.0).contains(*loss)) {
        return Err(format!("--loss-percent is {loss}; 0 to 90 is allowed"));
    }
    if let Some(nodes) = arguments.nodes.iter().find(|nodes| **nodes < 2) {
        return Err(format!("--nodes is {nodes}; other nodes detect a crash, so 2 is the least"));
    }
    let mut config = Config::lan();
    config.suspicion_multiplier = arguments.suspicion_multiplier.unwrap_or(config.suspicion_multiplier);
    config.suspicion_confirmations = arguments.confirmations.unwrap_or(config.suspicion_confirmations);
    config.second_opinions = arguments.second_opinions.unwrap_or(config.second_opinions);
    config.validate().map_err(|error| error.to_string())?;
    let jobs = jobs(arguments);
    let time = Duration::from_secs_f64(arguments.hours * 3600.0);
    let minutes = time.as_secs() / 60;
    let weight = |job: &Job| match job {
        Job::Crashes { nodes, .. } => (arguments.crashes * nodes) as u64,
        Job::Alarms { nodes, .. } => minutes * *nodes as u64,
    };
    let bar = ProgressBar::new(jobs.iter().map(weight).sum());
    bar.set_style(
        ProgressStyle::with_template("{bar:40} {percent} % {msg} {eta} left").expect("a valid template"),
    );
    let found = do_all(&jobs, |job| match *job {
        Job::Crashes { nodes, loss } => {
            bar.set_message(format!("crashes among {nodes} nodes"));
            let progress = || bar.inc(nodes as u64);
            let times = crashes(nodes, arguments.crashes, loss, &config, arguments.seed, progress);
            Found::Crashes { nodes, loss, times }
        }
        Job::Alarms { nodes, conditions } => {
            bar.set_message(format!("false alarms among {nodes} nodes"));
            let progress = || bar.inc(nodes as u64);
            let alarms = false_alarms(nodes, time, conditions, &config, arguments.seed, progress);
            Found::Alarms { nodes, conditions, alarms }
        }
    });
    bar.finish_and_clear();
    if let Some(path) = &arguments.out {
        std::fs::write(path, csv(&found))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(report(&found, arguments.hours))
}

fn jobs(arguments: &Arguments) -> Vec<Job> {
    let mut nodes = arguments.nodes.clone();
    // The longest first.
    nodes.sort_unstable_by(|a, b| b.cmp(a));
    let mut losses = vec![0.0];
    losses.extend(arguments.loss_percent.iter().map(|percent| percent / 100.0).filter(|loss| *loss > 0.0));
    let mut jobs = Vec::new();
    for nodes in nodes {
        if arguments.hours > 0.0 {
            for loss in &arguments.loss_percent {
                for pause in &arguments.pause_ms {
                    let conditions = Conditions { loss: loss / 100.0, pause: Duration::from_millis(*pause) };
                    jobs.push(Job::Alarms { nodes, conditions });
                }
            }
        }
        if arguments.crashes > 0 {
            jobs.extend(losses.iter().map(|loss| Job::Crashes { nodes, loss: *loss }));
        }
    }
    jobs
}

fn csv(found: &[Found]) -> String {
    let header =
        "measured,nodes,loss,pause_ms,crash_known_ms,accusations,false_failures,longest_suspicion_ms\n";
    let mut text = header.to_owned();
    for found in found {
        match found {
            Found::Crashes { nodes, loss, times } => {
                for time in times {
                    text.push_str(&format!("crash,{nodes},{loss},0,{},,,\n", time.as_millis()));
                }
            }
            Found::Alarms { nodes, conditions, alarms } => text.push_str(&format!(
                "alarms,{nodes},{},{},,{},{},{}\n",
                conditions.loss,
                conditions.pause.as_millis(),
                alarms.accusations,
                alarms.false_failures,
                alarms.longest_suspicion.as_millis()
            )),
        }
    }
    text
}

/// Prints both tables; returns the goals that were missed.
fn report(found: &[Found], hours: f64) -> Vec<String> {
    let mut missed = Vec::new();
    println!("Virtual seconds until all other nodes know of a crash");
    println!("{:>8}{:>8}{:>9}{:>10}{:>10}", "nodes", "loss", "crashes", "median", "worst");
    for found in found.iter().rev() {
        let Found::Crashes { nodes, loss, times } = found else { continue };
        let mut times = times.clone();
        times.sort_unstable();
        let (median, worst) = (times[(times.len() - 1) / 2], times[times.len() - 1]);
        println!(
            "{nodes:>8}{:>8}{:>9}{:>10.1}{:>10.1}",
            format!("{:.0} %", loss * 100.0),
            times.len(),
            median.as_secs_f64(),
            worst.as_secs_f64()
        );
        if *nodes <= NODES_OF_THE_GOAL && *loss == 0.0 && worst > KNOWN_WITHIN {
            missed.push(format!("a crash among {nodes} nodes was known everywhere only after {worst:?}"));
        }
    }
    println!("\nRunning nodes declared failed in {hours} virtual hours, one node paused every 10 s");
    println!(
        "{:>8}{:>8}{:>9}{:>12}{:>13}{:>16}{:>20}",
        "nodes", "loss", "pause", "lost", "accusations", "false failures", "longest suspicion"
    );
    for found in found.iter().rev() {
        let Found::Alarms { nodes, conditions, alarms } = found else { continue };
        println!(
            "{nodes:>8}{:>8}{:>9}{:>12}{:>13}{:>16}{:>20}",
            format!("{:.0} %", conditions.loss * 100.0),
            format!("{:.1} s", conditions.pause.as_secs_f64()),
            alarms.lost,
            alarms.accusations,
            alarms.false_failures,
            format!("{:.2} s", alarms.longest_suspicion.as_secs_f64())
        );
        if alarms.false_failures > 0 {
            missed.push(format!("{} false failures among {nodes} nodes", alarms.false_failures));
        }
    }
    missed
}
