//! The import of entries from JSON lines, as they arrive.

use axum::body::Body;
use http_body_util::BodyExt;
use tabledb::TableDb;

use super::model::{EntryRecord, ImportMode, ImportOutcome};
use crate::admission::Admission;
use crate::problem::{Problem, ProblemCode};

/// The longest line: the largest value, in base64 or with escaped control characters, and its key.
const MAX_LINE_BYTES: usize = 8 << 20;

/// The most failed lines that are reported one by one.
const MAX_ERRORS: usize = 20;

/// Reads `body` line by line into a table. Entries that were written before an error stay. A body that stalls
/// is an error.
pub(super) async fn import(
    db: &TableDb,
    network: &str,
    table: &str,
    mode: ImportMode,
    mut body: Body,
    admission: &Admission,
) -> Result<ImportOutcome, Problem> {
    let mut import = Import { db, network, table, mode, line: 0, outcome: ImportOutcome::default() };
    let mut lines = Lines::default();
    loop {
        let frame = tokio::time::timeout(admission.limits.body_time, body.frame()).await.map_err(|_| {
            admission.counters.refused_body_too_slow.increment();
            let sentence =
                format!("nothing arrived for {} seconds", admission.limits.body_time.as_secs_f64());
            import.stopped(ProblemCode::RequestTimeout, &sentence)
        })?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| import.stopped(ProblemCode::IncompleteBody, &error.to_string()))?;
        if let Ok(bytes) = frame.into_data() {
            lines.push(&bytes, |line| import.take(line)).map_err(|TooLong| {
                admission.counters.refused_body_too_large.increment();
                let sentence = format!("the next line has more than {MAX_LINE_BYTES} bytes");
                import.stopped(ProblemCode::BodyTooLarge, &sentence).with_limit(MAX_LINE_BYTES)
            })?;
        }
    }
    import.take(&lines.rest);
    Ok(import.outcome)
}

struct Import<'a> {
    db: &'a TableDb,
    network: &'a str,
    table: &'a str,
    mode: ImportMode,
    line: u64,
    outcome: ImportOutcome,
}

enum Taken {
    Created,
    Updated,
    Unchanged,
}

impl Import<'_> {
    fn take(&mut self, line: &[u8]) {
        self.line += 1;
        if line.trim_ascii().is_empty() {
            return;
        }
        match self.write(line) {
            Ok(Taken::Created) => self.outcome.created += 1,
            Ok(Taken::Updated) => self.outcome.updated += 1,
            Ok(Taken::Unchanged) => self.outcome.unchanged += 1,
            Err(error) => {
                self.outcome.failed += 1;
                if self.outcome.errors.len() < MAX_ERRORS {
                    self.outcome.errors.push(format!("line {}: {error}", self.line));
                }
            }
        }
    }

    fn write(&self, line: &[u8]) -> Result<Taken, String> {
        let record = serde_json::from_slice::<EntryRecord>(line).map_err(|error| {
            format!("{error}; expected an object such as {{\"key\":\"k\",\"value\":\"v\"}}")
        })?;
        let value = record.bytes()?;
        let (network, table, key) = (self.network, self.table, record.key.as_str());
        match self.mode {
            ImportMode::Create => self.db.create(network, table, key, value).map(|_| Taken::Created),
            ImportMode::Upsert => match self.db.get(network, table, key) {
                Some(entry) if *entry.value() == *value => Ok(Taken::Unchanged),
                Some(_) => self.db.upsert(network, table, key, value).map(|_| Taken::Updated),
                None => self.db.upsert(network, table, key, value).map(|_| Taken::Created),
            },
        }
        .map_err(|error| error.to_string())
    }

    fn stopped(&self, code: ProblemCode, why: &str) -> Problem {
        let written = self.outcome.created + self.outcome.updated;
        Problem::new(
            code,
            format_args!(
                "the import stopped after line {}: {why}; {written} entries were written",
                self.line
            ),
        )
    }
}

/// Splits the arriving bytes into lines.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

struct TooLong;

impl Lines {
    fn push(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) -> Result<(), TooLong> {
        let mut parts = bytes.split(|byte| *byte == b'\n');
        let mut part = parts.next().unwrap_or_default();
        for next in parts {
            if self.rest.is_empty() {
                take(part);
            } else {
                self.rest.extend_from_slice(part);
                take(&self.rest);
                self.rest.clear();
            }
            part = next;
        }
        self.rest.extend_from_slice(part);
        if self.rest.len() > MAX_LINE_BYTES { Err(TooLong) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use tabledb::Config;
    use wire::{NodeId, NodeName};

    use super::*;
    use crate::HttpConfig;

    fn db() -> TableDb {
        let db = TableDb::new(Config::new(NodeId::new(NodeName::new("n").unwrap(), 1))).unwrap();
        db.join_network("net").unwrap();
        db
    }

    async fn run(db: &TableDb, mode: ImportMode, text: &str) -> ImportOutcome {
        let admission = Admission::new(HttpConfig::default());
        import(db, "net", "tab", mode, Body::from(text.to_owned()), &admission).await.unwrap()
    }

    #[test]
    fn lines_are_found_however_they_are_split() {
        let text = b"one\ntwo\n\nfour and more\nlast";
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for piece in text.chunks(size) {
                assert!(lines.push(piece, |line| found.push(line.to_vec())).is_ok());
            }
            assert_eq!(found, [&b"one"[..], b"two", b"", b"four and more"], "pieces of {size}");
            assert_eq!(lines.rest, b"last");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        let piece = vec![b'x'; 1 << 20];
        let accepted = (0..20).take_while(|_| lines.push(&piece, |_| ()).is_ok()).count();
        assert_eq!(accepted, MAX_LINE_BYTES >> 20);
    }

    #[tokio::test]
    async fn an_upsert_creates_updates_and_skips_unchanged_entries() {
        let db = db();
        db.create("net", "tab", "old", b"1").unwrap();
        db.create("net", "tab", "same", b"1").unwrap();
        let outcome = run(
            &db,
            ImportMode::Upsert,
            "{\"key\":\"old\",\"value\":\"2\"}\n{\"key\":\"same\",\"value\":\"1\",\"owner\":\"x\"}\n\n{\"key\":\"new\",\"value_base64\":\"/w==\"}",
        )
        .await;
        let wanted = ImportOutcome { created: 1, updated: 1, unchanged: 1, ..ImportOutcome::default() };
        assert_eq!(outcome, wanted);
        assert_eq!(*db.get("net", "tab", "old").unwrap().value(), *b"2");
        assert_eq!(*db.get("net", "tab", "new").unwrap().value(), [0xff]);
    }

    #[tokio::test]
    async fn with_create_an_existing_key_fails_and_does_not_change() {
        let db = db();
        db.create("net", "tab", "old", b"1").unwrap();
        let outcome = run(&db, ImportMode::Create, "{\"key\":\"old\",\"value\":\"2\"}\n").await;
        assert_eq!((outcome.created, outcome.failed), (0, 1));
        assert!(
            outcome.errors[0].starts_with("line 1: entry old of table tab in network net exists already"),
            "{outcome:?}"
        );
        assert_eq!(*db.get("net", "tab", "old").unwrap().value(), *b"1");
    }

    #[tokio::test]
    async fn invalid_lines_are_reported_by_number_and_the_others_are_imported() {
        let db = db();
        let outcome =
            run(&db, ImportMode::Upsert, "{\"key\":\"a\",\"value\":\"1\"}\nnonsense\n{\"key\":\"b\"}\n")
                .await;
        assert_eq!((outcome.created, outcome.failed), (1, 2));
        assert!(outcome.errors[0].starts_with("line 2: "), "{outcome:?}");
        assert_eq!(outcome.errors[1], "line 3: there is neither a value nor a value_base64");
    }

    #[tokio::test]
    async fn only_the_first_errors_are_reported() {
        let outcome = run(&db(), ImportMode::Upsert, &"nonsense\n".repeat(100)).await;
        assert_eq!((outcome.failed, outcome.errors.len()), (100, MAX_ERRORS));
    }
}
