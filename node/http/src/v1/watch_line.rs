//! The text of a watch's event, written a piece at a time: a line can be a dozen times as long as the memory
//! that one watch may use for text.

use std::collections::VecDeque;

use tabledb::{Change, ChangeKind, DeleteReason, Key, ResetReason, ResumableEvent, Value};

use super::watch_form::WatchForm;
use crate::value_text::to_base64;

/// The bytes of a name or value in one piece. A multiple of three, because base64 writes three bytes as four
/// characters.
const RAW_BYTES: usize = 3 << 10;

/// The longest piece. JSON writes a control character as six.
pub(super) const MAX_PIECE_BYTES: usize = 6 * RAW_BYTES;

/// The rest of an event that is a [`WatchRecord`](super::model::WatchRecord). It shares keys and values with the
/// store.
#[derive(Debug)]
pub(super) struct WatchLine {
    parts: VecDeque<Part>,
}

#[derive(Debug)]
enum Part {
    /// What every such line contains.
    Fixed(&'static str),
    /// The inside of a JSON string, from this byte on.
    Name(Key, usize),
    /// A value that is UTF-8, in the same form.
    Text(Value, usize),
    /// The base64 of a value, from this byte on.
    Base64(Value, usize),
}

impl WatchLine {
    /// The text of an event in a form, with the cursor behind it.
    pub(super) fn new(event: ResumableEvent, cursor: &str, form: WatchForm) -> Self {
        let mut line = Self { parts: VecDeque::new() };
        if form == WatchForm::Events {
            line.fixed("id: ");
            line.name(cursor);
            line.fixed("\nevent: ");
            line.fixed(name_of(&event));
            line.fixed("\ndata: ");
        }
        line.fixed(r#"{"event":""#);
        line.fixed(name_of(&event));
        match event {
            ResumableEvent::Change(change) => line.change(change),
            ResumableEvent::Synchronised { compared } => {
                line.fixed(if compared { r#"","compared":true"# } else { r#"","compared":false"# });
            }
            ResumableEvent::Reset(reason) => {
                line.fixed(r#"","reason":""#);
                line.fixed(reset_text(reason));
                line.fixed(r#"""#);
            }
            ResumableEvent::Closed => line.fixed(r#"""#),
        }
        line.fixed(r#","cursor":""#);
        line.name(cursor);
        line.fixed(match form {
            WatchForm::JsonLines => "\"}\n",
            WatchForm::Events => "\"}\n\n",
        });
        line
    }

    /// Appends the next piece; false if there is none.
    pub(super) fn write_piece(&mut self, chunk: &mut Vec<u8>) -> bool {
        let Some(part) = self.parts.front_mut() else { return false };
        let is_complete = match part {
            Part::Fixed(text) => {
                chunk.extend_from_slice(text.as_bytes());
                true
            }
            Part::Name(name, at) => write_text(chunk, name.as_bytes(), at),
            Part::Text(value, at) => write_text(chunk, value, at),
            Part::Base64(value, at) => {
                let end = value.len().min(*at + RAW_BYTES);
                chunk.extend_from_slice(to_base64(&value[*at..end]).as_bytes());
                *at = end;
                end == value.len()
            }
        };
        if is_complete {
            self.parts.pop_front();
        }
        true
    }

    fn change(&mut self, change: Change) {
        let Change { kind: _, network, table, key, value, previous, version, owner, reason } = change;
        self.fixed(r#"","network":""#);
        self.name(network);
        self.fixed(r#"","table":""#);
        self.name(table);
        self.fixed(r#"","key":""#);
        self.name(key);
        self.value(value, r#"","value":""#, r#"","value_base64":""#);
        self.value(previous, r#"","previous":""#, r#"","previous_base64":""#);
        self.fixed(r#"","owner":""#);
        self.name(owner.as_str());
        if let Some(version) = version {
            self.fixed(r#"","version":""#);
            self.name(&*version.to_string());
        }
        if let Some(reason) = reason {
            self.fixed(r#"","reason":""#);
            self.fixed(reason_text(reason));
        }
        self.fixed(r#"""#);
    }

    fn fixed(&mut self, text: &'static str) {
        self.parts.push_back(Part::Fixed(text));
    }

    fn name(&mut self, name: impl Into<Key>) {
        self.parts.push_back(Part::Name(name.into(), 0));
    }

    fn value(&mut self, value: Option<Value>, before_text: &'static str, before_base64: &'static str) {
        let Some(value) = value else { return };
        if std::str::from_utf8(&value).is_ok() {
            self.fixed(before_text);
            self.parts.push_back(Part::Text(value, 0));
        } else {
            self.fixed(before_base64);
            self.parts.push_back(Part::Base64(value, 0));
        }
    }
}

fn name_of(event: &ResumableEvent) -> &'static str {
    match event {
        ResumableEvent::Change(Change { kind: ChangeKind::Delete, .. }) => "delete",
        ResumableEvent::Change(_) => "put",
        ResumableEvent::Synchronised { .. } => "synchronised",
        ResumableEvent::Reset(_) => "reset",
        ResumableEvent::Closed => "closing",
    }
}

fn reason_text(reason: DeleteReason) -> &'static str {
    match reason {
        DeleteReason::Deleted => "deleted",
        DeleteReason::OwnerFailed => "failed",
        DeleteReason::OwnerLeft => "left_network",
        DeleteReason::OwnerGone => "left_cluster",
        DeleteReason::NetworkLeft => "node_left_network",
        DeleteReason::OtherOwner => "other_owner",
    }
}

fn reset_text(reason: ResetReason) -> &'static str {
    match reason {
        ResetReason::TooFarBehind => "too_far_behind",
        ResetReason::OtherFilter => "other_filter",
        ResetReason::Incomplete => "incomplete",
        ResetReason::NodeBehind => "node_behind",
        ResetReason::TooManyOwners => "too_many_owners",
        // And what later versions of the store may add.
        _ => "unknown_cursor",
    }
}

/// Appends the next piece of a text as the inside of a JSON string. True after the last one.
fn write_text(chunk: &mut Vec<u8>, text: &[u8], at: &mut usize) -> bool {
    let mut end = text.len().min(*at + RAW_BYTES);
    // A piece ends between characters. A character has at most four bytes.
    while text.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    // All of it is UTF-8, so nothing is replaced.
    let piece = String::from_utf8_lossy(&text[*at..end]);
    let quoted = serde_json::to_string(&piece).expect("a text has a JSON form");
    chunk.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
    *at = end;
    end == text.len()
}

#[cfg(test)]
mod tests {
    use wire::NodeName;

    use super::super::model::WatchRecord;
    use super::*;

    /// The text, and the longest of its pieces.
    fn written(event: ResumableEvent, form: WatchForm) -> (String, usize) {
        let (mut line, mut text, mut longest) = (WatchLine::new(event, "c-1", form), Vec::new(), 0);
        loop {
            let before = text.len();
            if !line.write_piece(&mut text) {
                return (String::from_utf8(text).unwrap(), longest);
            }
            longest = longest.max(text.len() - before);
        }
    }

    fn line(event: ResumableEvent) -> String {
        written(event, WatchForm::JsonLines).0
    }

    fn update(key: &str, value: &[u8], previous: &[u8]) -> Change {
        Change {
            kind: ChangeKind::Update,
            network: "net".into(),
            table: "tab".into(),
            key: key.into(),
            value: Some(value.into()),
            previous: Some(previous.into()),
            version: Some("1-2-3".parse().unwrap()),
            owner: NodeName::new("n1").unwrap(),
            reason: None,
        }
    }

    #[test]
    fn an_event_is_the_record_that_clients_read() {
        let change = update("k", b"new", &[0xff]);
        let put = concat!(
            r#"{"event":"put","network":"net","table":"tab","key":"k","value":"new","#,
            r#""previous_base64":"/w==","owner":"n1","version":"1-2-3","cursor":"c-1"}"#,
        );
        let event = ResumableEvent::Change(change.clone());
        assert_eq!(line(event.clone()), format!("{put}\n"));
        assert_eq!(written(event, WatchForm::Events).0, format!("id: c-1\nevent: put\ndata: {put}\n\n"));
        let reason = Some(DeleteReason::NetworkLeft);
        let deleted = Change { kind: ChangeKind::Delete, value: None, version: None, reason, ..change };
        assert_eq!(
            line(ResumableEvent::Change(deleted)),
            concat!(
                r#"{"event":"delete","network":"net","table":"tab","key":"k","previous_base64":"/w==","#,
                r#""owner":"n1","reason":"node_left_network","cursor":"c-1"}"#,
                "\n"
            )
        );
        for (event, text) in [
            (ResumableEvent::Closed, r#"{"event":"closing","cursor":"c-1"}"#),
            (
                ResumableEvent::Reset(ResetReason::TooFarBehind),
                r#"{"event":"reset","reason":"too_far_behind","cursor":"c-1"}"#,
            ),
            (
                ResumableEvent::Synchronised { compared: true },
                r#"{"event":"synchronised","compared":true,"cursor":"c-1"}"#,
            ),
        ] {
            let written = line(event);
            assert_eq!(written, format!("{text}\n"));
            let record: WatchRecord = serde_json::from_str(&written).unwrap();
            assert_eq!(serde_json::to_string(&record).unwrap(), text);
        }
    }

    /// Long values of characters of every length, at every offset in a piece, and of control characters.
    #[test]
    fn a_long_line_is_written_in_short_pieces_and_read_back_the_same() {
        let texts = ["\0", "\"\\\n/", "aż€🐢", "€", "🐢"].map(|text| text.repeat(5 * RAW_BYTES));
        for text in &texts {
            for offset in 0..4 {
                let text = format!("{}{text}", &"xyz"[..offset.min(3)]);
                let bytes = [text.as_bytes(), &[0xff]].concat();
                let event = ResumableEvent::Change(update(&text, text.as_bytes(), &bytes));
                let (line, longest) = written(event, WatchForm::JsonLines);
                assert!(longest <= MAX_PIECE_BYTES, "{longest}");
                let record: WatchRecord = serde_json::from_str(&line).unwrap();
                assert!(serde_json::to_string(&record).unwrap() + "\n" == line, "another form");
                let WatchRecord::Put(change) = record else { panic!("{record:?}") };
                assert!(change.key == text, "the key of {offset}");
                assert!(change.value.as_ref() == Some(&text), "the value of {offset}");
                assert!(change.previous_base64 == Some(to_base64(&bytes)), "the previous value of {offset}");
            }
        }
    }
}
