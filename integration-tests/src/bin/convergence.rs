//! Measures how fast changes spread, beside the results of the original.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use integration_tests::convergence::{Conditions, Perturbation, Sample, measure};

/// The results of NetworkDB's own measurement: no latency, virtual time.
const ORIGINAL: &str = include_str!("../../data/original-convergence.csv");

/// Measures in virtual time how fast one change reaches every node, beside the results of the original.
#[derive(Debug, Parser)]
#[command(name = "convergence")]
struct Arguments {
    /// How often each change is measured.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// How many nodes; several numbers with commas between them.
    #[arg(long, value_delimiter = ',', default_value = "2,3,5,10,25")]
    nodes: Vec<usize>,
    /// Which changes; all by default.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How long each packet takes, one way.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// How many packets of a hundred are lost.
    #[arg(long, default_value_t = 0.0)]
    loss_percent: f64,
    /// The first run's seed; the others follow it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write every measurement here, with the original's columns.
    #[arg(long)]
    out: Option<PathBuf>,
}

type Cell = (Perturbation, usize);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(all_converged) => ExitCode::from(u8::from(!all_converged)),
        Err(what) => {
            eprintln!("{what}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool, String> {
    if !(0.0..=90.0).contains(&arguments.loss_percent) {
        return Err(format!("--loss-percent is {}; 0 to 90 is allowed", arguments.loss_percent));
    }
    let perturbations = perturbations(&arguments.only)?;
    let cells: Vec<Cell> = perturbations
        .into_iter()
        .flat_map(|perturbation| arguments.nodes.iter().map(move |nodes| (perturbation, *nodes)))
        .filter(|(perturbation, nodes)| *nodes >= perturbation.least_nodes())
        .collect();
    let samples = measure_all(&cells, arguments);
    if let Some(path) = &arguments.out {
        std::fs::write(path, csv(&samples))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    let comparable = arguments.latency_ms == 0 && arguments.loss_percent == 0.0;
    print_table(&samples, &original()?, comparable);
    Ok(samples.values().flatten().all(|sample| sample.converged == sample.wanted))
}

fn perturbations(only: &[String]) -> Result<Vec<Perturbation>, String> {
    if only.is_empty() {
        return Ok(Perturbation::ALL.to_vec());
    }
    let named = |name: &String| {
        Perturbation::ALL.into_iter().find(|perturbation| perturbation.name() == name).ok_or_else(|| {
            let names = Perturbation::ALL.map(Perturbation::name).join(", ");
            format!("--only {name} is not a change that can be measured; these are: {names}")
        })
    };
    only.iter().map(named).collect()
}

/// Measures on all processors; the results do not depend on how many there are.
fn measure_all(cells: &[Cell], arguments: &Arguments) -> BTreeMap<Cell, Vec<Sample>> {
    let conditions = Conditions {
        latency: Duration::from_millis(arguments.latency_ms),
        loss: arguments.loss_percent / 100.0,
    };
    let jobs: Vec<(Cell, u64)> =
        cells.iter().flat_map(|cell| (0..arguments.runs).map(move |run| (*cell, run))).collect();
    let bar = ProgressBar::new(jobs.len() as u64);
    bar.set_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} {msg} {eta}").expect("a valid template"),
    );
    let results = Mutex::new(BTreeMap::new());
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((cell, run)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    bar.set_message(format!("{} with {} nodes", cell.0.name(), cell.1));
                    let sample = measure(cell.0, cell.1, conditions, arguments.seed + run);
                    results
                        .lock()
                        .expect("no thread panics while it holds this")
                        .insert((*cell, *run), sample);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut samples: BTreeMap<Cell, Vec<Sample>> = BTreeMap::new();
    for ((cell, _), sample) in results.into_inner().expect("all threads have ended") {
        samples.entry(cell).or_default().push(sample);
    }
    samples
}

fn csv(samples: &BTreeMap<Cell, Vec<Sample>>) -> String {
    let header =
        "Perturbation,Nodes,Converged,VirtualConvergence(ns),Polls,GossipDeliveries,BulkSyncDeliveries\n";
    let lines = samples.iter().flat_map(|((perturbation, nodes), samples)| {
        samples.iter().map(move |sample| {
            format!(
                "{},{nodes},{},{},{},{},{}\n",
                perturbation.name(),
                sample.converged,
                sample.taken.as_nanos(),
                sample.polls,
                sample.deliveries.gossip,
                sample.deliveries.table_streams
            )
        })
    });
    std::iter::once(header.to_owned()).chain(lines).collect()
}

/// The original's results, in milliseconds, by name and number of nodes.
fn original() -> Result<BTreeMap<(String, usize), Vec<f64>>, String> {
    let mut results: BTreeMap<(String, usize), Vec<f64>> = BTreeMap::new();
    for line in ORIGINAL.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |index: usize| -> Result<u64, String> {
            let field = fields.get(index).copied().unwrap_or("");
            field.parse().map_err(|_| {
                format!("the original's results have {field:?} where a number should be: {line}")
            })
        };
        let (name, nodes, nanoseconds) = (fields[0].to_owned(), number(1)? as usize, number(3)?);
        results.entry((name, nodes)).or_default().push(nanoseconds as f64 / 1e6);
    }
    Ok(results)
}

struct Distribution {
    median: f64,
    ninetieth: f64,
    worst: f64,
}

impl Distribution {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values.get(((values.len() as f64 * share).ceil() as usize).max(1) - 1).copied();
        Some(Self { median: at(0.5)?, ninetieth: at(0.9)?, worst: at(1.0)? })
    }
}

fn print_table(
    samples: &BTreeMap<Cell, Vec<Sample>>,
    original: &BTreeMap<(String, usize), Vec<f64>>,
    comparable: bool,
) {
    println!("Virtual milliseconds until every node has caught up with one change");
    if !comparable {
        println!("(the original was measured without latency and loss)");
    }
    println!(
        "{:<25}{:>6}{:>6} │{:>10}{:>10}{:>10} │{:>10}{:>10}{:>10} │{:>8}",
        "", "nodes", "runs", "median", "90 %", "worst", "original", "90 %", "worst", "ratio"
    );
    for ((perturbation, nodes), samples) in samples {
        let missed = samples.iter().filter(|sample| sample.converged < sample.wanted).count();
        let Some(ours) =
            Distribution::of(samples.iter().map(|sample| sample.taken.as_secs_f64() * 1e3).collect())
        else {
            continue;
        };
        let theirs = original.get(&(perturbation.name().to_owned(), *nodes));
        let theirs = theirs.and_then(|values| Distribution::of(values.clone()));
        let (right, ratio) = match theirs {
            None => (format!("{:>10}{:>10}{:>10}", "–", "–", "–"), "–".to_owned()),
            Some(theirs) => {
                let ratio = match ours.median * theirs.median {
                    0.0 => "–".to_owned(),
                    _ => format!("{:.0} ×", theirs.median / ours.median),
                };
                (format!("{:>10.0}{:>10.0}{:>10.0}", theirs.median, theirs.ninetieth, theirs.worst), ratio)
            }
        };
        println!(
            "{:<25}{nodes:>6}{:>6} │{:>10.0}{:>10.0}{:>10.0} │{right} │{ratio:>8}{}",
            perturbation.name(),
            samples.len(),
            ours.median,
            ours.ninetieth,
            ours.worst,
            if missed > 0 { format!("  {missed} did not converge") } else { String::new() }
        );
    }
}
