//! Log lines: to the standard error, as text or JSON.

use std::io::{self, Write};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt};

use super::output::is_harmful;
use crate::config_values::LogFormat;

/// Starts logging what `filter` names, for as long as the process lives.
pub(crate) fn start(filter: &str, format: LogFormat) {
    // The filter was checked with the other settings.
    let targets = filter.parse::<Targets>().unwrap_or_default();
    let colours = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let lines = fmt::layer().with_writer(|| HarmlessWriter(std::io::stderr()));
    let lines = match format {
        LogFormat::Text => lines.with_ansi(colours).with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // Fails only if somebody in this process logs already: then that is where our lines go.
    let _ = Registry::default().with(lines.with_filter(targets)).try_init();
}

/// Spells out what would harm a terminal, or the eye of whoever reads the log: names of peers, networks and keys are anybody's.
/// Line ends stay, and so do the colours that the formatter itself sets; the escape characters of others it spells out.
struct HarmlessWriter<W>(W);

impl<W: Write> Write for HarmlessWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let keeps = |c: char| matches!(c, '\n' | '\u{1b}') || !is_harmful(c);
        if text.chars().all(keeps) {
            self.0.write_all(line)?;
        } else {
            let spell = |c: char| if keeps(c) { c.to_string() } else { c.escape_default().to_string() };
            self.0.write_all(text.chars().map(spell).collect::<String>().as_bytes())?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
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
    fn nothing_of_a_name_reaches_the_terminal_that_harms_it() {
        for colours in [false, true] {
            let kept = Kept::default();
            let writer = kept.clone();
            let lines = fmt::layer().with_ansi(colours).with_writer(move || HarmlessWriter(writer.clone()));
            tracing::subscriber::with_default(Registry::default().with(lines), || {
                let name = "a\u{1b}[2J\u{9b}2J\u{7f}\u{202e}b\u{200b}\r";
                tracing::info!(name, shown = %name, "said {name}");
            });
            let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            assert!(!text.contains("\u{1b}[2J"), "{text:?}");
            let plain = |c: char| matches!(c, '\n' | '\u{1b}') || !is_harmful(c);
            assert!(text.chars().all(plain) && text.contains("u{202e}b"), "{text:?}");
            assert_eq!(text.contains('\u{1b}'), colours, "{text:?}");
        }
    }
}
