//! The command `watch`: it goes on, at another node if it can, when a node ends, breaks or hangs.

use std::cell::RefCell;
use std::io::{BufWriter, IsTerminal as _, Stdout, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use hyper::Method;

use super::api::{Api, Lines, parameter, read_line};
use super::arguments::WatchCommand;
use super::escaping::harmless;
use super::failure::Failure;
use super::output::{json_line, shown};
use networkdb_http::v1::ProblemCode;
use networkdb_http::v1::model::{ChangeRecord, WatchRecord};

/// The pauses before the nodes are tried again: the first, and the longest, of those that double.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What has been received and printed.
struct Printer {
    json: bool,
    terminal: bool,
    out: BufWriter<Stdout>,
    /// That of the last event.
    cursor: Option<String>,
    /// A node has sent something since this was last asked.
    has_progressed: bool,
}

impl Printer {
    /// Prints an event.
    fn take(&mut self, line: &[u8]) -> Result<(), Failure> {
        let record: WatchRecord = read_line(line)?;
        let (WatchRecord::Put(ChangeRecord { cursor, .. })
        | WatchRecord::Delete(ChangeRecord { cursor, .. })
        | WatchRecord::Synchronised { cursor, .. }
        | WatchRecord::Reset { cursor, .. }
        | WatchRecord::Closing { cursor }) = &record;
        self.cursor = Some(cursor.clone());
        if matches!(record, WatchRecord::Closing { .. }) {
            // This watch does not end.
            return Ok(());
        }
        self.has_progressed = true;
        if self.json {
            self.out.write_all(&json_line(line, self.terminal))?;
            return Ok(self.out.write_all(b"\n")?);
        }
        Ok(self.out.write_all(watch_line(&record).as_bytes())?)
    }
}

/// Watches until the reader of the output is gone, no node was ever reached, or one refuses the watch.
pub(super) async fn watch(command: WatchCommand) -> Result<ExitCode, Failure> {
    let WatchCommand { client, network, table, prefix, owner, exclude_own, max_silence } = command;
    let mut parameters = Vec::new();
    parameters.extend(network.map(|network| parameter("network", &network)));
    parameters.extend(table.map(|table| parameter("table", &table)));
    parameters.extend((!prefix.is_empty()).then(|| parameter("prefix", &prefix)));
    parameters.extend(owner.map(|owner| parameter("owner", &owner)));
    parameters.extend(exclude_own.then(|| "exclude_own".to_owned()));
    let terminal = std::io::stdout().is_terminal();
    let out = BufWriter::new(std::io::stdout());
    let printer =
        RefCell::new(Printer { json: client.json, terminal, out, cursor: None, has_progressed: false });
    let (mut at, mut failed, mut pause) = (0, 0, PAUSES.0);
    loop {
        let api = &client.apis[at];
        let cursor = printer.borrow().cursor.as_ref().map(|cursor| parameter("cursor", cursor));
        let query: Vec<_> = parameters.iter().cloned().chain(cursor).collect();
        let path = format!("/v1/watch?{}", query.join("&"));
        let why = match follow(api, &path, &printer, max_silence).await {
            Ok(()) => Failure::unusable(format_args!("the node at {api} is shutting down")),
            Err(why) => why,
        };
        let has_begun = {
            let mut printer = printer.borrow_mut();
            printer.out.flush()?;
            if std::mem::take(&mut printer.has_progressed) {
                (failed, pause) = (0, PAUSES.0);
            }
            printer.cursor.is_some()
        };
        failed += 1;
        let has_tried_all = failed % client.apis.len() == 0;
        let is_lasting = match &why {
            Failure::ReaderGone => true,
            Failure::Problem { .. } => !why.is(ProblemCode::TooManyWatches),
            // Before the first answer the addresses may be wrong.
            _ => !has_begun && has_tried_all,
        };
        if is_lasting {
            return Err(why);
        }
        at = (at + 1) % client.apis.len();
        say(&format!("{}; resuming at {}", why.sentence(), client.apis[at]));
        if has_tried_all {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// Tells the user what happens, beside the output.
fn say(sentence: &str) {
    // An error of the standard error cannot be reported.
    let _ = writeln!(std::io::stderr(), "networkdb: {}", harmless(sentence));
}

/// Prints what a node sends until it ends the stream.
async fn follow(
    api: &Api,
    path: &str,
    printer: &RefCell<Printer>,
    max_silence: Duration,
) -> Result<(), Failure> {
    let asked = tokio::time::timeout(max_silence, api.request(Method::GET, path, None));
    let response = asked.await.map_err(|_| api.silent(max_silence))??;
    let take = |line: &[u8]| printer.borrow_mut().take(line);
    // Lines that arrived together are written together, and at once.
    let pause = || Ok(printer.borrow_mut().out.flush()?);
    api.read_lines(response, Lines { take, pause, max_silence: Some(max_silence) }).await
}

/// `+` appeared, `~` changed, `-` disappeared. Nothing for what is said elsewhere.
fn watch_line(record: &WatchRecord) -> String {
    let (change, is_put) = match record {
        WatchRecord::Put(change) => (change, true),
        WatchRecord::Delete(change) => (change, false),
        WatchRecord::Reset { reason, .. } => {
            return format!("! all entries follow again ({})\n", harmless(reason));
        }
        WatchRecord::Synchronised { .. } | WatchRecord::Closing { .. } => return String::new(),
    };
    let ChangeRecord { network, table, key, owner, .. } = change;
    let entry = format!("{}/{}/{}", harmless(network), harmless(table), harmless(key));
    let value = shown(&change.value, &change.value_base64);
    let previous = shown(&change.previous, &change.previous_base64);
    let had_one = change.previous.is_some() || change.previous_base64.is_some();
    let owner = harmless(owner);
    match (is_put, &change.reason) {
        (true, _) if had_one => format!("~ {entry} = {value}, was {previous}  ({owner})\n"),
        (true, _) => format!("+ {entry} = {value}  ({owner})\n"),
        (false, Some(reason)) if reason != "deleted" => {
            format!("- {entry}, was {previous}  ({owner}: {})\n", harmless(reason))
        }
        (false, _) => format!("- {entry}, was {previous}  ({owner})\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watch_lines_for_people() {
        let line = |json: &str| watch_line(&serde_json::from_str(json).unwrap());
        let entry = r#""network":"n","table":"t","key":"k","owner":"a","cursor":"c""#;
        assert_eq!(line(&format!(r#"{{"event":"put",{entry},"value":"1"}}"#)), "+ n/t/k = 1  (a)\n");
        assert_eq!(
            line(&format!(r#"{{"event":"put",{entry},"value":"2","previous":"1"}}"#)),
            "~ n/t/k = 2, was 1  (a)\n"
        );
        let delete = |reason| {
            line(&format!(r#"{{"event":"delete",{entry},"previous_base64":"/w==","reason":"{reason}"}}"#))
        };
        assert_eq!(delete("deleted"), "- n/t/k, was base64:/w==  (a)\n");
        assert_eq!(delete("failed"), "- n/t/k, was base64:/w==  (a: failed)\n");
        assert!(line(r#"{"event":"reset","reason":"too_far_behind","cursor":"c"}"#).starts_with("! "));
        assert_eq!(line(r#"{"event":"synchronised","compared":true,"cursor":"c"}"#), "");
    }
}
