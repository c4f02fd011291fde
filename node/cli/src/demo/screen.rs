//! The output of the demonstration: columns, and on a terminal colours and progress bars.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

const HEADING: Style = AnsiColor::Cyan.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const DIM: Style = Style::new().dimmed();

const BAR_STYLE: Style = AnsiColor::Cyan.on_default();

/// The length of a bar.
const BAR: usize = 30;

/// The column at which times are right-aligned.
const WIDTH: usize = 78;

/// On a terminal, the pause between steps, to read them. Displayed times do not include it.
const READING_TIME: Duration = Duration::from_millis(700);

/// The standard output. Write errors are ignored: there is no other output to report them.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: bool,
    steps: usize,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), steps: 0 }
    }

    /// Prints a line.
    pub(super) fn line(&self, text: impl Display) {
        let _ = writeln!(anstream::stdout(), "{text}");
    }

    /// Prints a dimmed detail.
    pub(super) fn detail(&self, text: impl Display) {
        self.line(format_args!("     {DIM}{text}{DIM:#}"));
    }

    /// Begins the next step.
    pub(super) async fn step(&mut self, title: impl Display) {
        if self.terminal && self.steps > 0 {
            tokio::time::sleep(READING_TIME).await;
        }
        self.steps += 1;
        self.line(format_args!("\n {HEADING}{:>2}  {title}{HEADING:#}", self.steps));
    }

    /// A condition became true, after `took`.
    pub(super) fn done(&self, what: impl Display, took: Duration) {
        self.line(format_args!("   {GOOD}✓{GOOD:#} {}", columns(&what.to_string(), &time(took))));
    }

    /// All nodes agreed, after `took`.
    pub(super) fn agreed(&self, what: impl Display, digest: u64, took: Duration) {
        // Half of the digest is enough to compare two tables by eye. The end shows the whole digest.
        let right = format!("{DIM}{:08x}{DIM:#}  {:>7}", digest >> 32, time(took));
        let invisible = format!("{DIM}{DIM:#}").len();
        self.line(format_args!("   {GOOD}✓{GOOD:#} {}", columns_with(&what.to_string(), &right, invisible)));
    }

    /// A condition is true.
    pub(super) fn good(&self, what: impl Display) {
        self.line(format_args!("   {GOOD}✓{GOOD:#} {what}"));
    }

    /// A condition is not true.
    pub(super) fn bad(&self, what: impl Display) {
        self.line(format_args!("   {BAD}✗{BAD:#} {what}"));
    }

    /// Shows the progress of each of `names` to `goal`.
    pub(super) fn progress(&self, names: &[String], goal: usize) -> Progress {
        let target =
            if self.terminal { ProgressDrawTarget::stdout_with_hz(30) } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let style = ProgressStyle::with_template("     {prefix}  {bar:30.cyan/dim}  {pos:>5}/{len}  {msg}")
            .expect("the template is well-formed")
            .progress_chars("━━─");
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
        let goal_length = u64::try_from(goal).unwrap_or(u64::MAX);
        let rows = names
            .iter()
            .map(|name| {
                let bar = bars.add(ProgressBar::new(goal_length).with_style(style.clone()));
                bar.set_prefix(format!("{name:width$}"));
                bar.tick();
                Row { name: format!("{name:width$}"), bar, count: 0, arrived: None }
            })
            .collect();
        Progress { rows, bars, goal, terminal: self.terminal }
    }
}

/// The progress of several nodes.
#[derive(Debug)]
pub(super) struct Progress {
    rows: Vec<Row>,
    bars: MultiProgress,
    goal: usize,
    terminal: bool,
}

#[derive(Debug)]
struct Row {
    name: String,
    bar: ProgressBar,
    count: usize,
    arrived: Option<Duration>,
}

impl Progress {
    /// Sets the count of a row's node, `elapsed` after the start.
    pub(super) fn set(&mut self, row: usize, count: usize, elapsed: Duration) {
        let Row { bar, count: shown, arrived, .. } = &mut self.rows[row];
        *shown = count;
        bar.set_position(u64::try_from(count).unwrap_or(u64::MAX));
        if count == self.goal && arrived.is_none() {
            *arrived = Some(elapsed);
            bar.set_message(time(elapsed));
        }
    }

    /// Replaces each bar by a line.
    pub(super) fn finish(self, screen: &Screen) {
        for row in &self.rows {
            row.bar.finish_and_clear();
        }
        // On a terminal that cannot clear lines, the bars stay.
        let _ = self.bars.clear();
        for Row { name, bar: _, count, arrived } in self.rows {
            let when = arrived.map_or("never".to_owned(), time);
            if self.terminal && arrived.is_some() {
                let bar = "━".repeat(BAR);
                let line = columns(&format!("{name}  {bar}  {count} of {}", self.goal), &when);
                screen.line(format_args!(
                    "     {}",
                    line.replace(&bar, &format!("{BAR_STYLE}{bar}{BAR_STYLE:#}"))
                ));
            } else {
                screen.line(format_args!(
                    "     {}",
                    columns(&format!("{name}  {count} of {}", self.goal), &when)
                ));
            }
        }
    }
}

/// A line with `left`, and with `right` aligned to the right edge.
fn columns(left: &str, right: &str) -> String {
    columns_with(left, right, 0)
}

/// The same, if `invisible` characters of `right` are escape sequences.
fn columns_with(left: &str, right: &str, invisible: usize) -> String {
    let right_width = right.chars().count() - invisible;
    let gap = (WIDTH - 5).saturating_sub(left.chars().count() + right_width).max(2);
    format!("{left}{:gap$}{right}", "")
}

/// A duration with about three digits.
pub(super) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        0.0..0.01 => format!("{:.1} ms", seconds * 1e3),
        0.01..1.0 => format!("{:.0} ms", seconds * 1e3),
        1.0..100.0 => format!("{seconds:.2} s"),
        _ => format!("{seconds:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_about_three_digits() {
        for (micros, text) in
            [(0, "0.0 ms"), (840, "0.8 ms"), (14_400, "14 ms"), (999_000, "999 ms"), (1_234_000, "1.23 s")]
        {
            assert_eq!(time(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn times_are_aligned() {
        let (a, b) = (columns("short", "1 ms"), columns("a little longer", "123 ms"));
        assert_eq!(a.len(), b.len());
        let long = columns(&"x".repeat(100), "1 ms");
        assert!(long.ends_with("x  1 ms"), "{long}");
    }
}
