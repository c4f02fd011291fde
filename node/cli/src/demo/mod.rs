//! `networkdb demo`: a cluster of real nodes in one process, over real QUIC.

mod cluster;
mod scenario;
mod screen;
mod services;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::failure::Failure;
use cluster::{DemoCluster, NETWORK, Stopwatch, TABLE};
use scenario::Scenario;
use screen::Screen;
use services::{Source, load};

/// Options of the demonstration.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DemoOptions {
    /// The number of nodes, 2 to 9
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=9))]
    pub nodes: u8,
    /// Service records in the format of /etc/services [default: /etc/services, else a sample]
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// Exit at the end: status 0 if all nodes agree, 1 if not
    #[arg(long)]
    pub once: bool,
    /// Print the nodes' log to the standard error at this level, such as debug or info,transport=debug
    #[arg(long, value_name = "LEVEL", value_parser = crate::settings::values::log_filter)]
    pub log_level: Option<String>,
}

/// Timeout for each node to leave at the end.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs the demonstration.
pub(crate) fn run(options: &DemoOptions) -> Result<ExitCode, Failure> {
    if let Some(level) = &options.log_level {
        crate::logging::start(level, crate::settings::values::LogFormat::Text, None);
    }
    let source = load(options.file.as_deref()).map_err(Failure::Unusable)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::unusable(format_args!("cannot start the async runtime: {error}")))?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = show(options, &source) => outcome,
            interrupted = tokio::signal::ctrl_c() => match interrupted {
                // The exit status of a process that SIGINT ended.
                Ok(()) => Ok(ExitCode::from(130)),
                Err(error) => Err(Failure::unusable(format_args!("cannot listen for Ctrl-C: {error}"))),
            },
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn show(options: &DemoOptions, source: &Source) -> Result<ExitCode, Failure> {
    let mut screen = Screen::new();
    let count = usize::from(options.nodes);
    let stopwatch = Stopwatch::start();
    screen.line(format_args!(
        "networkdb {}: {count} nodes in this process, connected over QUIC",
        env!("CARGO_PKG_VERSION")
    ));
    let mut scenario = Scenario::begin(&mut screen, count).await?;
    let outcome = scenario.run(source).await;
    let cluster = scenario.cluster;
    let outcome = match outcome {
        Ok(()) => {
            screen.line("");
            screen.done("everything agreed", stopwatch.elapsed());
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => {
            screen.bad(&why);
            Err(Failure::Refused("the demonstration failed: see the step above".to_owned()))
        }
    };
    if !options.once {
        invite(&screen, &cluster);
        tokio::signal::ctrl_c()
            .await
            .map_err(|error| Failure::unusable(format_args!("cannot listen for Ctrl-C: {error}")))?;
        screen.line("\nThe nodes leave.");
    }
    cluster.end(LEAVE_TIMEOUT).await;
    outcome
}

/// Prints commands to try while the nodes run.
fn invite(screen: &Screen, cluster: &DemoCluster) {
    screen.line("\nThe nodes keep running. From another terminal, try:\n");
    for demo_node in cluster.running() {
        screen.line(format_args!(
            "  curl '{}/gettable?nid={NETWORK}&tname={TABLE}&unsafe'   # {}",
            demo_node.url, demo_node.name
        ));
    }
    if let Some(demo_node) = cluster.running().next() {
        screen.line(format_args!("  networkdb watch {NETWORK} --api {}", demo_node.url));
        screen.line(format_args!(
            "  networkdb entry create {NETWORK} {TABLE} my/tcp 4711 --api {}",
            demo_node.url
        ));
        screen.line(format_args!("  curl {}/help", demo_node.url));
    }
    screen.line("\nCtrl-C ends.");
}
