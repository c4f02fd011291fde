//! What the commands print: aligned columns for people, JSON for programs.

use std::borrow::Cow;
use std::io::Write as _;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, TableStyle};
use serde::Serialize;

use super::failure::Failure;

/// Longer values are cut in tables; `entry get` and `export` show all.
const SHOWN_CHARACTERS: usize = 60;

/// Columns under headings, two blanks apart; a heading that begins with '#' stands over numbers, flush right.
pub(crate) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.iter().map(|heading| heading.trim_start_matches('#')));
    table.add_rows(rows);
    for (column, heading) in table.column_iter_mut().zip(headings) {
        column.set_padding((0, 2));
        if heading.starts_with('#') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Prints a text as it is.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// Prints JSON in one line.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string(value).map_err(Failure::unusable)?;
    print(&(json + "\n"))
}

/// Prints a sentence for people, or an object with nothing but `done` for programs.
pub(super) fn print_done(json: bool, sentence: &str) -> Result<(), Failure> {
    if json { print("{\"done\":true}\n") } else { print(&format!("{sentence}\n")) }
}

/// A value in a table or a line: shortened, and harmless to a terminal.
pub(super) fn shown(text: &Option<String>, base64: &Option<String>) -> String {
    let whole = match (text, base64) {
        (Some(text), _) => harmless(text),
        (None, Some(base64)) => format!("base64:{base64}").into(),
        (None, None) => "".into(),
    };
    match whole.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole.into_owned(),
    }
}

/// Control characters could move the cursor or worse: they are spelled out.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars()
            .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
            .collect::<String>()
            .into()
    } else {
        text.into()
    }
}

/// An age as people say it.
pub(super) fn age(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs() {
        0 if seconds < 1.0 => "now".to_owned(),
        seconds @ 0..60 => format!("{seconds} s ago"),
        seconds @ 60..3600 => format!("{} min ago", seconds / 60),
        seconds @ 3600..86400 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_also_with_wide_characters() {
        let rows =
            [vec!["node-1".into(), "7".into(), "x".into()], vec!["節点".into(), "123".into(), "y z".into()]];
        assert_eq!(
            table(&["NAME", "#COUNT", "MORE"], rows),
            "NAME    COUNT  MORE\nnode-1      7  x\n節点      123  y z\n"
        );
    }

    #[test]
    fn long_lines_are_not_broken() {
        let long = "x".repeat(500);
        assert_eq!(table(&["A"], [vec![long.clone()]]), format!("A\n{long}\n"));
    }

    #[test]
    fn values_are_short_and_harmless() {
        assert_eq!(shown(&Some("a\u{1b}[2J\nb".into()), &None), "a\\u{1b}[2J\\nb");
        assert_eq!(shown(&None, &Some("/w==".into())), "base64:/w==");
        assert_eq!(shown(&Some("ż".repeat(61)), &None), format!("{}…", "ż".repeat(60)));
        assert_eq!(shown(&Some("ż".repeat(60)), &None), "ż".repeat(60));
    }

    #[test]
    fn ages() {
        for (seconds, text) in [
            (0.0, "now"),
            (0.9, "now"),
            (1.2, "1 s ago"),
            (90.0, "1 min ago"),
            (7300.0, "2 h ago"),
            (2e5, "2 days ago"),
        ] {
            assert_eq!(age(seconds), text);
        }
        assert_eq!(age(f64::NAN), "0 s ago");
    }
}
