//! The output of the commands: aligned columns for people, JSON for programs.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, TableStyle};
use serde::Serialize;

use super::escaping::{harmless, harmless_json};
use super::failure::Failure;

/// The most characters of a value in a table; `entry get` and `export` print the whole value.
const SHOWN_CHARACTERS: usize = 60;

/// Columns with headings, separated by two blanks. A heading that begins with '#' marks a right-aligned
/// column of numbers.
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

/// Prints a text.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// Prints JSON on one line.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string(value).map_err(Failure::unusable)?;
    let stdout = std::io::stdout();
    let line = json_line(json.as_bytes(), stdout.is_terminal());
    let mut stdout = stdout.lock();
    stdout.write_all(&line)?;
    Ok(stdout.write_all(b"\n")?)
}

/// Prints a sentence for people, or an object with only `done` for programs.
pub(super) fn print_done(json: bool, sentence: &str) -> Result<(), Failure> {
    if json { print("{\"done\":true}\n") } else { print(&format!("{sentence}\n")) }
}

/// A value in a table or a line: shortened, and with control characters escaped.
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

/// A line of JSON from a node, ready to print: unchanged for programs, escaped for a terminal.
pub(super) fn json_line(line: &[u8], terminal: bool) -> Cow<'_, [u8]> {
    if !terminal {
        return line.into();
    }
    match String::from_utf8_lossy(line) {
        Cow::Borrowed(text) => match harmless_json(text) {
            Cow::Borrowed(text) => text.as_bytes().into(),
            Cow::Owned(text) => text.into_bytes().into(),
        },
        Cow::Owned(text) => harmless_json(&text).into_owned().into_bytes().into(),
    }
}

/// An age, for people.
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
    fn characters_that_control_a_terminal_or_mislead_a_reader_are_escaped() {
        for harmful in [
            '\u{1b}',
            '\u{7f}',
            '\u{9b}',
            '\r',
            '\u{202e}',
            '\u{2066}',
            '\u{200b}',
            '\u{feff}',
            '\u{2028}',
            '\u{e0041}',
        ] {
            let text = format!("a{harmful}b");
            let spelled = harmless(&text).into_owned();
            assert!(spelled.is_ascii() && !spelled.contains(harmful), "{spelled:?}");
            let json = serde_json::to_string(&text).unwrap();
            let line = String::from_utf8(json_line(json.as_bytes(), true).into_owned()).unwrap();
            assert!(line.is_ascii() && !line.contains(harmful), "{line:?}");
            assert_eq!(
                serde_json::from_str::<String>(&line).unwrap(),
                text,
                "the same text for a JSON parser"
            );
            assert_eq!(
                *json_line(json.as_bytes(), false),
                *json.as_bytes(),
                "programs get the line unchanged"
            );
        }
        for plain in ["żółw", "節点", "é", "\u{1f980}", "a b"] {
            assert_eq!(harmless(plain), plain);
        }
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
