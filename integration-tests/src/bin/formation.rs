//! Starts many nodes at once, and measures when they have formed a cluster and at what cost.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use integration_tests::fabric::HandshakePrice;
use integration_tests::formation::{
    Counted, Formation, Processes, Simulated, handshake_cost, in_one_process, production, simulate,
};
use integration_tests::hosts::binary;

/// Starts many nodes at once, as real processes on loopback or all in this process, and measures
/// until every node holds every node alive. Status 1 if the deadline passes first.
#[derive(Debug, Parser)]
#[command(name = "formation")]
struct Arguments {
    /// How many processes of the real binary; several numbers with commas between them
    #[arg(long, value_delimiter = ',')]
    processes: Vec<usize>,
    /// Kill all nodes when they have formed a cluster, and start all again at once
    #[arg(long)]
    restart: bool,
    /// How many nodes in this process; several numbers with commas between them
    #[arg(long, value_delimiter = ',')]
    nodes: Vec<usize>,
    /// How many nodes in virtual time, with and without the dial policy; several numbers with
    /// commas between them
    #[arg(long, value_delimiter = ',')]
    simulated: Vec<usize>,
    /// Measure the processor time of this many handshakes, one after the other
    #[arg(long, default_value_t = 0)]
    handshakes: u32,
    /// The price of a handshake on the processor of each side there, in microseconds
    #[arg(long, default_value_t = 1000)]
    handshake_us: u64,
    /// How many processors all nodes share there; 0 if each has one of its own
    #[arg(long, default_value_t = 2)]
    cores: usize,
    /// Leave out the runs without the policy
    #[arg(long)]
    only_policy: bool,
    /// The deadline in seconds
    #[arg(long, default_value_t = 120)]
    deadline: u64,
    /// The networkdb binary to run; by default the release build, which is brought up to date first
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// One more flag for every process, such as --flag=--network=blue; may be repeated
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    flag: Vec<String>,
}

/// Goals for a hundred processes on two cores: time from the last start on, and processor time.
const PROCESSES_FORMED_WITHIN: Duration = Duration::from_secs(10);
const PROCESSOR_OF_A_PROCESS: Duration = Duration::from_millis(150);

/// Goals for two hundred nodes in one process.
const NODES_FORMED_WITHIN: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Arguments) -> Result<bool, String> {
    let Arguments { processes, restart, nodes, simulated, deadline, binary: chosen, flag, .. } = arguments;
    if processes.is_empty() && nodes.is_empty() && simulated.is_empty() && arguments.handshakes == 0 {
        return Err("give a number of nodes or handshakes: --processes 100, --nodes 200, --simulated 100, \
             or --handshakes 1000"
            .to_owned());
    }
    let deadline = Duration::from_secs(deadline);
    let mut all_formed = true;
    if !processes.is_empty() {
        let binary = chosen.map_or_else(binary, Ok)?;
        for count in processes {
            let mut cluster = Processes::new(binary.clone(), count, flag.clone())?;
            let formation = cluster.start(deadline)?;
            all_formed &= report("processes", &formation, PROCESSES_FORMED_WITHIN);
            if restart {
                cluster.kill();
                let formation = cluster.start(deadline)?;
                all_formed &= report("processes after a power cut", &formation, PROCESSES_FORMED_WITHIN);
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot make a runtime: {error}"))?;
    if arguments.handshakes > 0 {
        let cost = runtime.block_on(handshake_cost(arguments.handshakes))?;
        println!(
            "a handshake takes {:.0} µs of a processor, of both sides together, after {} of them",
            cost.as_secs_f64() * 1e6,
            arguments.handshakes
        );
    }
    for count in nodes {
        let formations = runtime.block_on(in_one_process(count, deadline, restart))?;
        let whats = ["nodes in one process", "nodes in one process after a power cut"];
        for (what, formation) in whats.into_iter().zip(&formations) {
            all_formed &= report(what, formation, NODES_FORMED_WITHIN);
        }
    }
    let limits = transport::Limits::default();
    let price = HandshakePrice {
        work: Duration::from_micros(arguments.handshake_us),
        shared_cores: arguments.cores,
        // Nodes that share processors are on one host: they have the same address.
        most_half_open: if arguments.cores == 0 { limits.handshakes } else { limits.handshakes_per_address },
    };
    for count in simulated {
        if !arguments.only_policy {
            print_result("every node dials at any time", count, &simulate(count, price, None, deadline, 1));
        }
        let result = simulate(count, price, Some(production()), deadline, 1);
        print_result("by the policy", count, &result);
        all_formed &= result.formed.is_some();
    }
    Ok(all_formed)
}

/// Prints the result in virtual time.
fn print_result(how: &str, nodes: usize, result: &Simulated) {
    let formed = result
        .formed
        .map_or("NOT FORMED".to_owned(), |formed| format!("formed after {:.1} s", formed.as_secs_f64()));
    println!("{nodes} simulated nodes, {how}: {formed}");
    println!(
        "    dials: {} begun, {} without an answer, {} wasted; {:.1} s of processor time for handshakes",
        result.dials,
        result.unanswered,
        result.in_vain,
        result.processor.as_secs_f64()
    );
    let a_node = |count: u64| count as f64 / nodes as f64;
    println!(
        "    a node: {:.1} dials, {:.1} handshakes, {:.1} kB about members, {:.1} kB about attachment lists",
        a_node(result.dials),
        a_node(result.handshakes),
        a_node(result.member_bytes) / 1000.0,
        a_node(result.list_bytes) / 1000.0
    );
}

/// Prints the result. Returns whether the cluster has formed.
fn report(what: &str, formation: &Formation, within: Duration) -> bool {
    let Formation { nodes, starting, formed, incomplete, processor, counted, load } = formation;
    let outcome = match formed {
        Some(formed) => format!(
            "formed {:.1} s after the last start, {:.2} of the goal",
            formed.as_secs_f64(),
            formed.as_secs_f64() / within.as_secs_f64()
        ),
        None => format!("NOT FORMED, up to {incomplete} are not complete"),
    };
    let goal = PROCESSOR_OF_A_PROCESS.as_secs_f64() * *nodes as f64;
    println!("{nodes} {what}: {outcome}");
    println!("    started within {:.1} s, load {load:.1}", starting.as_secs_f64());
    println!(
        "    processor time {:.1} s, {:.2} of the goal",
        processor.as_secs_f64(),
        processor.as_secs_f64() / goal
    );
    let Counted {
        dials_started,
        dials_succeeded,
        dials_failed_unanswered,
        dials_failed_refused,
        dials_failed_capped,
        ..
    } = counted;
    println!(
        "    dials: {dials_started} begun, {dials_succeeded} succeeded, {dials_failed_unanswered} without \
         an answer, {dials_failed_refused} refused; {dials_failed_capped} put off"
    );
    println!(
        "    handshakes of others: {} accepted, {} not finished, {} too many, {} too many from an address, \
         {} to prove an address; no capacity {}",
        counted.handshakes_accepted,
        counted.handshakes_failed_unfinished,
        counted.handshakes_failed_capped,
        counted.handshakes_failed_capped_by_address,
        counted.handshakes_retried,
        counted.refused_capacity
    );
    println!(
        "    connections: {} replaced, {} lost; members: {} suspected, {} declared failed; {} stalls",
        counted.connections_closed_replaced,
        counted.connections_closed_lost,
        counted.suspicions,
        counted.failures_declared,
        counted.stalls
    );
    formed.is_some()
}
