//! The result of a scenario, and the table of all results.

use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, TableStyle};

use super::Failure;

/// The measurements of a scenario.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Durations, in the order in which they were measured.
    pub times: Vec<(&'static str, Duration)>,
    /// Counts.
    pub counts: Vec<(&'static str, u64)>,
    /// The total duration.
    pub took: Duration,
}

/// The result of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Its name.
    pub name: &'static str,
    /// Its measurements.
    pub report: Report,
    /// The result.
    pub result: Result<(), Failure>,
}

/// Aligned lines: scenario, durations and counts.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["scenario", "", "what", ""]);
    for outcome in outcomes {
        let verdict = if outcome.result.is_ok() { "passed" } else { "FAILED" };
        let report = &outcome.report;
        let times = report.times.iter().map(|(what, time)| (*what, seconds(*time)));
        let counts = report.counts.iter().map(|(what, number)| (*what, number.to_string()));
        let all = times.chain(counts).chain([("total", seconds(report.took))]);
        for (line, (what, value)) in all.enumerate() {
            let (name, verdict) = if line == 0 { (outcome.name, verdict) } else { ("", "") };
            table.add_row([name, verdict, what, &value]);
        }
    }
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if number == 3 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_aligned_and_failures_are_shown() {
        let report = Report {
            times: vec![("noticed", Duration::from_millis(7250))],
            counts: vec![("writes", 1234)],
            took: Duration::from_secs(31),
        };
        let outcomes = [
            Outcome { name: "partition", report: report.clone(), result: Ok(()) },
            Outcome { name: "freeze", report, result: Err("no".to_owned()) },
        ];
        let text = table(&outcomes);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 7, "{text}");
        assert!(
            lines[1].contains("partition") && lines[1].contains("passed") && lines[1].ends_with("7.25 s")
        );
        assert!(lines[4].contains("freeze") && lines[4].contains("FAILED"));
        assert!(lines.iter().skip(1).all(|line| line.len() == lines[1].len()), "{text}");
    }
}
