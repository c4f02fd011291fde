//! `networkdb demo`: real nodes in one process, over real QUIC, losing and finding each other.

mod screen;
mod services;
mod stage;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::failure::Failure;
use screen::Screen;
use services::{Source, load};
use stage::{NETWORK, Stage, TABLE, Watch};
use story::Story;

/// What the demonstration can be told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DemoOptions {
    /// How many nodes, 2 to 9
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=9))]
    pub nodes: u8,
    /// Service records in the format of /etc/services [default: /etc/services, else a sample]
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// End by itself: status 0 if everything agreed, 1 if not
    #[arg(long)]
    pub once: bool,
    /// Show what the nodes log, on the standard error, such as debug or info,transport=debug
    #[arg(long, value_name = "LEVEL", value_parser = crate::settings::values::log_filter)]
    pub log_level: Option<String>,
}

/// How long each node may take to leave at the end.
const LEAVE_TIME: Duration = Duration::from_secs(1);

/// Runs the demonstration.
pub(crate) fn run(options: &DemoOptions) -> Result<ExitCode, Failure> {
    if let Some(level) = &options.log_level {
        crate::logging::start(level, crate::settings::values::LogFormat::Text);
    }
    let source = load(options.file.as_deref()).map_err(Failure::Unusable)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::unusable(format_args!("the system refused what nodes need: {error}")))?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = show(options, &source) => outcome,
            interrupted = tokio::signal::ctrl_c() => match interrupted {
                // As the shell tells a process that was interrupted.
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
    let watch = Watch::start();
    screen.line(format_args!(
        "networkdb {}: {count} nodes in this process, talking over QUIC",
        env!("CARGO_PKG_VERSION")
    ));
    let mut story = Story::begin(&mut screen, count).await?;
    let told = story.tell(source).await;
    let stage = story.stage;
    let outcome = match told {
        Ok(()) => {
            screen.line("");
            screen.done("everything agreed", watch.elapsed());
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => {
            screen.bad(&why);
            Err(Failure::Refused("the demonstration failed: see the step above".to_owned()))
        }
    };
    if !options.once {
        invite(&screen, &stage);
        tokio::signal::ctrl_c()
            .await
            .map_err(|error| Failure::unusable(format_args!("cannot listen for Ctrl-C: {error}")))?;
        screen.line("\nThe nodes leave.");
    }
    stage.end(LEAVE_TIME).await;
    outcome
}

/// What to try while the nodes stay up.
fn invite(screen: &Screen, stage: &Stage) {
    screen.line("\nThe nodes stay up. From another terminal, try:\n");
    for actor in stage.running() {
        screen.line(format_args!(
            "  curl '{}/gettable?nid={NETWORK}&tname={TABLE}&unsafe'   # {}",
            actor.url, actor.name
        ));
    }
    if let Some(actor) = stage.running().next() {
        screen.line(format_args!("  networkdb watch --network {NETWORK} --api {}", actor.url));
        screen
            .line(format_args!("  networkdb entry create {NETWORK} {TABLE} my/tcp 4711 --api {}", actor.url));
        screen.line(format_args!("  curl {}/help", actor.url));
    }
    screen.line("\nCtrl-C ends.");
}
