//! Escaping of characters that control a terminal or mislead a reader: texts of peers may contain them.

use std::borrow::Cow;

/// Whether a character controls a terminal or misleads a reader: it is a control character (C0, DEL, C1),
/// changes the direction of text, or has no width.
pub(crate) fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Escapes harmful characters.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    spelled(text, is_harmful, |c, out| out.push_str(&c.escape_default().to_string()))
}

/// Escapes harmful characters in JSON, with JSON's escapes. Line ends outside of strings stay.
pub(crate) fn harmless_json(json: &str) -> Cow<'_, str> {
    spelled(
        json,
        |c| c != '\n' && is_harmful(c),
        |c, out| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        },
    )
}

fn spelled(text: &str, which: impl Fn(char) -> bool, spell: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.chars().any(&which) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if which(c) { spell(c, &mut out) } else { out.push(c) }
    }
    out.into()
}
