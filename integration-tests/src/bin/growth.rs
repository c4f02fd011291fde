//! Measures how the cost of a change, and of an idle cluster, grows with the number of nodes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use integration_tests::growth::{Change, Growth, Rate, measure};
use integration_tests::jobs::do_all;
use plotters::prelude::*;

/// Measures in virtual time how the time until one change has reached every node, the traffic it
/// causes, and the traffic of an idle cluster grow with the number of nodes. With the LAN preset, a
/// millisecond of latency, one network.
#[derive(Debug, Parser)]
#[command(name = "growth")]
struct Arguments {
    /// How many nodes; several numbers with commas between them. Three thousand take a quarter of
    /// an hour and 17 GB.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,3000")]
    nodes: Vec<usize>,
    /// How many changes are measured in each cluster.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// The seed of all random draws.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Measure nothing, but show what runs with --out have written here.
    #[arg(long, value_name = "FILE.csv", conflicts_with_all = ["nodes", "runs", "seed"])]
    from: Vec<PathBuf>,
    /// Write the results here.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Draw the results here.
    #[arg(long)]
    plot: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let found = if arguments.from.is_empty() { measure_all(arguments)? } else { read_all(&arguments.from)? };
    print_table(&found);
    if let Some(path) = &arguments.out {
        std::fs::write(path, csv(&found))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    if let Some(path) = &arguments.plot {
        plot(&found, path).map_err(|error| format!("cannot draw {}: {error}", path.display()))?;
    }
    Ok(())
}

fn measure_all(arguments: &Arguments) -> Result<Vec<Growth>, String> {
    if let Some(nodes) = arguments.nodes.iter().find(|nodes| **nodes < 2) {
        return Err(format!("--nodes is {nodes}; a change spreads among 2 at least"));
    }
    let mut nodes = arguments.nodes.clone();
    nodes.sort_unstable();
    nodes.dedup();
    let changes = arguments.runs as usize;
    let bar = ProgressBar::new(nodes.iter().map(|nodes| nodes * (changes + 2)).sum::<usize>() as u64);
    bar.set_style(
        ProgressStyle::with_template("{bar:40} {percent} % {msg} {eta} left").expect("a valid template"),
    );
    bar.set_message("forming clusters");
    let mut found = do_all(&nodes.iter().rev().copied().collect::<Vec<_>>(), |&nodes| {
        measure(nodes, changes, arguments.seed, || {
            bar.inc(nodes as u64);
            bar.set_message(format!("{nodes} nodes"));
        })
    });
    bar.finish_and_clear();
    found.reverse();
    Ok(found)
}

/// What [`csv`] wrote, by the number of nodes.
fn read_all(paths: &[PathBuf]) -> Result<Vec<Growth>, String> {
    let mut found = BTreeMap::<usize, Growth>::new();
    for path in paths {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        for (at, line) in text.lines().enumerate().skip(1) {
            let numbers: Result<Vec<f64>, _> = line.split(',').map(str::parse).collect();
            let Ok(&[nodes, _, taken_us, messages, bytes, members, members_bytes, tables, tables_bytes]) =
                numbers.as_deref()
            else {
                return Err(format!("{}:{}: \"{line}\" is not nine numbers", path.display(), at + 1));
            };
            let growth = found.entry(nodes as usize).or_insert_with(|| Growth {
                nodes: nodes as usize,
                idle_membership: Rate { messages: members, bytes: members_bytes },
                idle_tables: Rate { messages: tables, bytes: tables_bytes },
                changes: Vec::new(),
            });
            let taken = Duration::from_micros(taken_us as u64);
            growth.changes.push(Change { taken, traffic: Rate { messages, bytes } });
        }
    }
    if found.is_empty() {
        Err("there are no results in the files".to_owned())
    } else {
        Ok(found.into_values().collect())
    }
}

/// One line of the results: medians and worsts over the changes in a cluster.
struct Summary {
    nodes: usize,
    median_ms: f64,
    worst_ms: f64,
    messages: f64,
    bytes: f64,
    idle_messages: f64,
    idle_membership_bytes: f64,
    idle_tables_bytes: f64,
}

impl Summary {
    fn of(growth: &Growth) -> Self {
        let mut times: Vec<f64> =
            growth.changes.iter().map(|change| change.taken.as_secs_f64() * 1e3).collect();
        times.sort_by(f64::total_cmp);
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
        Self {
            nodes: growth.nodes,
            median_ms: times[(times.len() - 1) / 2],
            worst_ms: times[times.len() - 1],
            messages: mean(growth.changes.iter().map(|change| change.traffic.messages).collect()),
            bytes: mean(growth.changes.iter().map(|change| change.traffic.bytes).collect()),
            idle_messages: growth.idle_membership.messages + growth.idle_tables.messages,
            idle_membership_bytes: growth.idle_membership.bytes,
            idle_tables_bytes: growth.idle_tables.bytes,
        }
    }
}

fn print_table(found: &[Growth]) {
    println!(
        "{:>8} │{:^21}│{:^23}│{:^32}",
        "", "one change, virtual ms", "one change, a node", "idle, a node and second"
    );
    println!(
        "{:>8} │{:>10}{:>11} │{:>11}{:>11} │{:>10}{:>12}{:>10}",
        "nodes", "median", "worst", "messages", "bytes", "messages", "B members", "B tables"
    );
    for line in found.iter().map(Summary::of) {
        println!(
            "{:>8} │{:>10.0}{:>11.0} │{:>11.1}{:>11.0} │{:>10.2}{:>12.0}{:>10.1}",
            line.nodes,
            line.median_ms,
            line.worst_ms,
            line.messages,
            line.bytes,
            line.idle_messages,
            line.idle_membership_bytes,
            line.idle_tables_bytes
        );
    }
}

fn csv(found: &[Growth]) -> String {
    let mut text = "nodes,change,taken_us,messages,bytes,idle_membership_messages,idle_membership_bytes,\
                    idle_tables_messages,idle_tables_bytes\n"
        .to_owned();
    for growth in found {
        let (members, tables) = (growth.idle_membership, growth.idle_tables);
        for (number, change) in growth.changes.iter().enumerate() {
            text.push_str(&format!(
                "{},{},{},{:.3},{:.1},{:.4},{:.2},{:.4},{:.2}\n",
                growth.nodes,
                number + 1,
                change.taken.as_micros(),
                change.traffic.messages,
                change.traffic.bytes,
                members.messages,
                members.bytes,
                tables.messages,
                tables.bytes
            ));
        }
    }
    text
}

/// Three panels over the number of nodes, on a logarithmic axis: logarithmic growth is a straight
/// line.
fn plot(found: &[Growth], path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let lines: Vec<Summary> = found.iter().map(Summary::of).collect();
    let root = SVGBackend::new(path, (1080, 360)).into_drawing_area();
    root.fill(&WHITE)?;
    let panels = root.split_evenly((1, 3));
    let points = |value: fn(&Summary) -> f64| -> Vec<(f64, f64)> {
        lines.iter().map(|line| (line.nodes as f64, value(line))).collect()
    };
    let time = points(|line| line.median_ms);
    let worst = points(|line| line.worst_ms);
    panel(&panels[0], "one change reaches all, ms", &[("median", time), ("worst", worst)])?;
    let bytes = points(|line| line.bytes);
    panel(&panels[1], "traffic of one change, bytes a node", &[("sent", bytes)])?;
    let members = points(|line| line.idle_membership_bytes);
    let tables = points(|line| line.idle_tables_bytes);
    panel(&panels[2], "idle, bytes a node and second", &[("members", members), ("tables", tables)])?;
    root.present()?;
    Ok(())
}

type Line<'a> = (&'a str, Vec<(f64, f64)>);

fn panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    lines: &[Line<'_>],
) -> Result<(), Box<dyn std::error::Error>> {
    let all = || lines.iter().flat_map(|(_, points)| points);
    let least = all().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let most = all().map(|point| point.0).fold(0.0, f64::max);
    let highest = all().map(|point| point.1).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d((least * 0.8..most * 1.25).log_scale(), 0.0..highest * 1.2)?;
    chart
        .configure_mesh()
        .x_desc("nodes")
        .x_labels(4)
        .x_label_formatter(&|nodes| format!("{nodes:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (index, (name, points)) in lines.iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        chart
            .draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, color.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::MiddleLeft)
        .background_style(WHITE)
        .border_style(TRANSPARENT)
        .draw()?;
    Ok(())
}
