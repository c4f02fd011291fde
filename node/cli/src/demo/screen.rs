//! What the demonstration shows: quiet columns, colours on a terminal only, bars where they can move.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

const HEADING: Style = AnsiColor::Cyan.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const QUIET: Style = Style::new().dimmed();

const BAR_STYLE: Style = AnsiColor::Cyan.on_default();

/// How long a bar is.
const BAR: usize = 30;

/// The column in which times end.
const WIDTH: usize = 78;

/// On a terminal, the time to read a step before the next one begins. It is no part of any time that is shown.
const READING_TIME: Duration = Duration::from_millis(700);

/// The standard output. What cannot be written there is nowhere else to be said, so errors are not looked at.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: bool,
    steps: usize,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), steps: 0 }
    }

    /// A line as it is.
    pub(super) fn line(&self, text: impl Display) {
        let _ = writeln!(anstream::stdout(), "{text}");
    }

    /// What is only to be looked at by who wants to.
    pub(super) fn quiet(&self, text: impl Display) {
        self.line(format_args!("     {QUIET}{text}{QUIET:#}"));
    }

    /// The beginning of the next step.
    pub(super) async fn step(&mut self, title: impl Display) {
        if self.terminal && self.steps > 0 {
            tokio::time::sleep(READING_TIME).await;
        }
        self.steps += 1;
        self.line(format_args!("\n {HEADING}{:>2}  {title}{HEADING:#}", self.steps));
    }

    /// Something came true, after `took`.
    pub(super) fn done(&self, what: impl Display, took: Duration) {
        self.line(format_args!("   {GOOD}✓{GOOD:#} {}", columns(&what.to_string(), &time(took))));
    }

    /// All came to show the same, after `took`.
    pub(super) fn agreed(&self, what: impl Display, digest: u64, took: Duration) {
        // The first half tells two tables apart well enough for the eye; the whole digest comes at the end.
        let right = format!("{QUIET}{:08x}{QUIET:#}  {:>7}", digest >> 32, time(took));
        let invisible = format!("{QUIET}{QUIET:#}").len();
        self.line(format_args!("   {GOOD}✓{GOOD:#} {}", columns_with(&what.to_string(), &right, invisible)));
    }

    /// Something came true.
    pub(super) fn good(&self, what: impl Display) {
        self.line(format_args!("   {GOOD}✓{GOOD:#} {what}"));
    }

    /// Something did not come true.
    pub(super) fn bad(&self, what: impl Display) {
        self.line(format_args!("   {BAD}✗{BAD:#} {what}"));
    }

    /// Shows how `names` come closer to `goal` each.
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

/// How far each of several nodes has come.
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
    /// The row's node has `count` after `elapsed`.
    pub(super) fn set(&mut self, row: usize, count: usize, elapsed: Duration) {
        let Row { bar, count: shown, arrived, .. } = &mut self.rows[row];
        *shown = count;
        bar.set_position(u64::try_from(count).unwrap_or(u64::MAX));
        if count == self.goal && arrived.is_none() {
            *arrived = Some(elapsed);
            bar.set_message(time(elapsed));
        }
    }

    /// Takes the bars away and leaves a line for each in their place.
    pub(super) fn finish(self, screen: &Screen) {
        for row in &self.rows {
            row.bar.finish_and_clear();
        }
        // A terminal that cannot clear its lines keeps the bars, which is no harm.
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

/// `left`, and `right` flush with the right edge.
fn columns(left: &str, right: &str) -> String {
    columns_with(left, right, 0)
}

/// The same, where `invisible` characters of `right` only change colours.
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
    fn times_stand_under_each_other() {
        let (a, b) = (columns("short", "1 ms"), columns("a little longer", "123 ms"));
        assert_eq!(a.len(), b.len());
        let long = columns(&"x".repeat(100), "1 ms");
        assert!(long.ends_with("x  1 ms"), "{long}");
    }
}
