//! Log lines: to the standard error, as text or JSON, and to readers over HTTP.

use std::io::{self, Write};

use networkdb_http::LogTail;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

use super::escaping::is_harmful;
use crate::settings::values::{LogFormat, log_targets};

/// Starts logging what `filter` selects, until the process ends, and what the readers of `tail` want.
pub(crate) fn start(filter: &str, format: LogFormat, tail: Option<&LogTail>) {
    // The filter was checked with the other settings.
    let targets = log_targets(filter).unwrap_or_default();
    let colours = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let lines = fmt::layer().with_writer(move || HarmlessWriter { to: std::io::stderr(), colours });
    let lines = match format {
        LogFormat::Text => lines.with_ansi(colours).with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // Fails only if the process has a global subscriber already. Then that one gets the lines.
    let _ = Registry::default().with(lines.with_filter(targets)).with(tail.map(tail_lines)).try_init();
}

/// The lines of this program's own parts, at the level that the readers want.
fn tail_lines<S>(tail: &LogTail) -> impl tracing_subscriber::Layer<S> + use<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let of_level = |level: Level| log_targets(&level.to_string()).unwrap_or_default();
    let (targets, handle) = reload::Layer::new(of_level(tail.level()));
    tail.on_level(move |level| {
        // Fails only if the subscriber is gone, and then nothing is written.
        let _ = handle.reload(of_level(level));
    });
    fmt::layer().json().flatten_event(true).with_writer(TailWriters(tail.clone())).with_filter(targets)
}

/// Writes to the tail what belongs to one event.
struct TailWriter(LogTail, Level);

struct TailWriters(LogTail);

impl<'a> MakeWriter<'a> for TailWriters {
    type Writer = TailWriter;

    fn make_writer(&self) -> TailWriter {
        TailWriter(self.0.clone(), Level::INFO)
    }

    fn make_writer_for(&self, event: &Metadata<'_>) -> TailWriter {
        TailWriter(self.0.clone(), *event.level())
    }
}

impl Write for TailWriter {
    /// The formatter writes each line at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write(self.1, &String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Escapes characters that control a terminal or mislead a reader: peers choose the names of nodes, networks
/// and keys. Line ends stay, and so do the colours that the formatter sets.
struct HarmlessWriter<W> {
    to: W,
    colours: bool,
}

/// The formatter's escape sequences: reset, bold, dim, italic, and the colours of levels. None of them hides
/// text.
const COLOURS: [&str; 9] = [
    "\u{1b}[0m",
    "\u{1b}[1m",
    "\u{1b}[2m",
    "\u{1b}[3m",
    "\u{1b}[31m",
    "\u{1b}[32m",
    "\u{1b}[33m",
    "\u{1b}[34m",
    "\u{1b}[35m",
];

impl<W: Write> HarmlessWriter<W> {
    fn spelled(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + 16);
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let colour = COLOURS.iter().find(|colour| self.colours && rest.starts_with(**colour));
            if let Some(colour) = colour {
                out.push_str(colour);
                rest = &rest[colour.len()..];
                continue;
            }
            if c != '\n' && is_harmful(c) {
                out.extend(c.escape_default())
            } else {
                out.push(c)
            }
            rest = &rest[c.len_utf8()..];
        }
        out
    }
}

impl<W: Write> Write for HarmlessWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        if text.chars().any(|c| c != '\n' && is_harmful(c)) {
            self.to.write_all(self.spelled(&text).as_bytes())?;
        } else {
            self.to.write_all(text.as_bytes())?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_control_character_of_a_name_reaches_the_terminal() {
        for colours in [false, true] {
            let kept = Kept::default();
            let writer = kept.clone();
            let lines = fmt::layer()
                .with_ansi(colours)
                .with_writer(move || HarmlessWriter { to: writer.clone(), colours });
            tracing::subscriber::with_default(Registry::default().with(lines), || {
                let name = "a\u{1b}[2J\u{1b}[8m\u{9b}2J\u{7f}\u{202e}b\u{200b}\r";
                tracing::info!(name, shown = %name, "received {name}");
            });
            let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            assert!(!text.contains("\u{1b}[2J") && !text.contains("\u{1b}[8m"), "{text:?}");
            let plain = |c: char| matches!(c, '\n' | '\u{1b}') || !is_harmful(c);
            assert!(text.chars().all(plain) && text.contains("u{202e}b"), "{text:?}");
            assert_eq!(text.contains('\u{1b}'), colours, "{text:?}");
        }
    }
}
