//! Log lines: to the standard error, as text or JSON.

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt};

use crate::config_values::LogFormat;

/// Starts logging what `filter` names, for as long as the process lives.
pub(crate) fn start(filter: &str, format: LogFormat) {
    // The filter was checked with the other settings.
    let targets = filter.parse::<Targets>().unwrap_or_default();
    let colours = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(colours).with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // Fails only if somebody in this process logs already: then that is where our lines go.
    let _ = Registry::default().with(lines.with_filter(targets)).try_init();
}
