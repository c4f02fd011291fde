//! Follows the changes that a host shows: it must never show again what it saw superseded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Bytes;
use networkdb_http::v1::model::{ChangeRecord, WatchRecord};
use parking_lot::Mutex;

use super::Failure;
use super::api;
use super::ledger::Ledger;

/// The observations of the followers on all hosts of a scenario.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Changes in all.
    pub(super) changes: u64,
    /// By instance of a host, then by value: when the value ceased to be shown there, and its
    /// owner.
    gone: HashMap<String, HashMap<String, (Instant, String)>>,
    /// The changes of each key that each instance of a host received, for error reports.
    received: HashMap<(String, String), Vec<String>>,
    /// Violations, with the history of the key.
    pub(super) wrong: Vec<String>,
}

/// All entries of a failed owner are hidden within this time.
const HIDING: Duration = Duration::from_millis(100);

/// Limit of changes kept for error reports; bulk loads are not kept.
const MAX_RECORDED: u64 = 100_000;

impl Seen {
    /// Records one change that `instance`, one process on one host, received.
    fn note(&mut self, instance: &str, change: &ChangeRecord, ledger: &Ledger, now: Instant) {
        self.changes += 1;
        let key_of_instance = (instance.to_owned(), change.key.clone());
        if self.changes <= MAX_RECORDED {
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
            let (previous, value) = (shown(&change.previous), shown(&change.value));
            let line = format!("{}: {previous} -> {value} of {}", ledger.when(now), change.owner);
            self.received.entry(key_of_instance.clone()).or_default().push(line);
        }
        if let Some(value) = &change.value {
            let what = match ledger.contains_value(value) {
                false => Some("which no node wrote"),
                true if self.was_known_superseded(instance, value, ledger) => {
                    Some("again, after that had been superseded")
                }
                true => None,
            };
            if let Some(what) = what {
                let key = &change.key;
                let received =
                    self.received.get(&key_of_instance).map(|lines| lines.join("\n  ")).unwrap_or_default();
                let written = ledger.history(key);
                self.wrong.push(format!(
                    "{instance} showed {key} as {value}, {what}; it received\n  {received}\nand \
                     these are the writes:\n{written}"
                ));
            }
        }
        if let Some(previous) = &change.previous {
            // The owner of the previous value is known only if it was deleted or hidden.
            let owner = if change.value.is_none() { change.owner.clone() } else { String::new() };
            self.gone.entry(instance.to_owned()).or_default().insert(previous.clone(), (now, owner));
        }
    }

    /// Whether this instance knew that the value is superseded. A value that was hidden because its
    /// owner failed may return, even if it was superseded while this host could not know it: then
    /// the owner's other entries, which were not superseded, were hidden with it.
    fn was_known_superseded(&self, instance: &str, value: &str, ledger: &Ledger) -> bool {
        let Some(gone) = self.gone.get(instance) else { return false };
        let Some((when, owner)) = gone.get(value) else { return false };
        let hidden = gone.iter().any(|(other, (then, whose))| {
            let together = then.max(when).duration_since(*then.min(when)) < HIDING;
            together && !owner.is_empty() && whose == owner && !ledger.superseded_by(other, *then)
        });
        ledger.superseded_by(value, *when) && !hidden
    }
}

/// Follows a table on the host of this thread, until the node or the task ends. `instance` names
/// this process: the next one on the host starts without observations.
#[expect(clippy::disallowed_methods, reason = "real processes show things in real time")]
pub(super) async fn follow(
    instance: String,
    (network, table): (&str, &str),
    seen: Arc<Mutex<Seen>>,
    ledger: Arc<Mutex<Ledger>>,
) -> Result<(), Failure> {
    let path = format!("/v1/watch?network={network}&table={table}");
    let mut body = api::open(Method::GET, &path, Bytes::new()).await?.into_body();
    let mut rest = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(|error| error.to_string())?.into_data() else { continue };
        rest.extend_from_slice(&bytes);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
        let now = Instant::now();
        let ledger = ledger.lock();
        let mut seen = seen.lock();
        for line in rest[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<WatchRecord>(line) {
                Ok(WatchRecord::Put(change) | WatchRecord::Delete(change)) => {
                    seen.note(&instance, &change, &ledger, now);
                }
                Ok(_) => {}
                Err(error) => {
                    seen.wrong.push(format!("{instance} sent its watcher an invalid record: {error}"))
                }
            }
        }
        drop((seen, ledger));
        rest.drain(..=end);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(value: Option<&str>, previous: Option<&str>) -> ChangeRecord {
        let (value, previous) = (value.map(str::to_owned), previous.map(str::to_owned));
        ChangeRecord {
            network: "n".to_owned(),
            table: "t".to_owned(),
            key: "k".to_owned(),
            value,
            value_base64: None,
            previous,
            previous_base64: None,
            owner: "h1".to_owned(),
            version: None,
            reason: None,
            cursor: String::new(),
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only a starting point")]
    fn a_hidden_value_may_return_and_a_superseded_one_may_not() {
        let mut now = Instant::now();
        let mut later = || {
            now += Duration::from_secs(1);
            now
        };
        let (mut ledger, mut seen) = (Ledger::default(), Seen::default());
        let write = |ledger: &mut Ledger, key: &str, value: Option<&str>, now| {
            let id = ledger.begin("h1", key, value.map(str::to_owned), now);
            ledger.acknowledge(&id, now);
        };
        write(&mut ledger, "k", Some("a"), later());
        write(&mut ledger, "other", Some("b"), later());
        // Its owner fails and returns.
        seen.note("h2#0", &change(Some("a"), None), &ledger, later());
        seen.note("h2#0", &change(None, Some("a")), &ledger, later());
        seen.note("h2#0", &change(Some("a"), None), &ledger, later());
        assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
        // Its owner fails and returns, and meanwhile it was deleted while this host was cut off.
        write(&mut ledger, "k", None, later());
        let hidden = later();
        seen.note("h2#0", &change(None, Some("a")), &ledger, hidden);
        seen.note("h2#0", &change(None, Some("b")), &ledger, hidden);
        seen.note("h2#0", &change(Some("a"), None), &ledger, later());
        assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
        // It receives the delete.
        seen.note("h2#0", &change(None, Some("a")), &ledger, later());
        seen.note("h3#0", &change(Some("a"), None), &ledger, later());
        assert!(seen.wrong.is_empty(), "h3 has not received it: {:?}", seen.wrong);
        seen.note("h2#1", &change(Some("a"), None), &ledger, later());
        assert!(seen.wrong.is_empty(), "the next instance remembers nothing: {:?}", seen.wrong);
        seen.note("h2#0", &change(Some("a"), None), &ledger, later());
        assert_eq!(seen.wrong.len(), 1, "{:?}", seen.wrong);
        seen.note("h2#0", &change(Some("forged"), None), &ledger, later());
        assert_eq!(seen.wrong.len(), 2, "{:?}", seen.wrong);
    }
}
