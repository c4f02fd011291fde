//! Follows what a host shows, change by change: what it has seen die it must never show again.

use std::collections::HashSet;
use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Bytes;
use node::http::v1::model::{ChangeRecord, WatchRecord};
use parking_lot::Mutex;

use super::Failure;
use super::api;
use super::ledger::Ledger;

/// What followers have seen on all hosts of a scenario.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Changes in all.
    pub(super) changes: u64,
    /// Host and value: it was shown there, and then superseded.
    dead: HashSet<(String, String)>,
    /// What should not have been seen, in sentences.
    pub(super) wrong: Vec<String>,
}

impl Seen {
    fn note(&mut self, host: &str, change: &ChangeRecord, ledger: &Ledger) {
        self.changes += 1;
        if let Some(value) = &change.value {
            match ledger.may_be_dead(value) {
                None => {
                    self.wrong.push(format!("{host} showed {} as {value}, which nobody wrote", change.key))
                }
                Some(_) if self.dead.contains(&(host.to_owned(), value.clone())) => {
                    let key = &change.key;
                    self.wrong.push(format!(
                        "{host} showed {key} as {value} again, after that had been superseded"
                    ));
                }
                Some(_) => {}
            }
        }
        // An entry that is only hidden, since its owner has failed, may come back.
        if let Some(previous) = &change.previous
            && ledger.may_be_dead(previous) == Some(true)
        {
            self.dead.insert((host.to_owned(), previous.clone()));
        }
    }
}

/// Follows a network on the host of this thread, until the node or the task ends.
pub(super) async fn follow(
    host: String,
    network: &str,
    seen: Arc<Mutex<Seen>>,
    ledger: Arc<Mutex<Ledger>>,
) -> Result<(), Failure> {
    let path = format!("/v1/watch?network={network}");
    let mut body = api::open(Method::GET, &path, Bytes::new()).await?.into_body();
    let mut rest = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(|error| error.to_string())?.into_data() else { continue };
        rest.extend_from_slice(&bytes);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
        let ledger = ledger.lock();
        let mut seen = seen.lock();
        for line in rest[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<WatchRecord>(line) {
                Ok(WatchRecord { change: Some(change), .. }) => seen.note(&host, &change, &ledger),
                Ok(_) => {}
                Err(error) => {
                    seen.wrong.push(format!("{host} said something strange to its watcher: {error}"))
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
    use std::time::Instant;

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
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only a starting point")]
    fn what_was_hidden_may_return_and_what_was_superseded_may_not() {
        let now = Instant::now();
        let (mut ledger, mut seen) = (Ledger::default(), Seen::default());
        let first = ledger.begin("h1", "k", Some("a".to_owned()), now);
        ledger.acknowledge(&first, now);
        seen.note("h2", &change(Some("a"), None), &ledger);
        seen.note("h2", &change(None, Some("a")), &ledger);
        seen.note("h2", &change(Some("a"), None), &ledger);
        assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
        ledger.begin("h1", "k", None, now);
        seen.note("h2", &change(None, Some("a")), &ledger);
        seen.note("h3", &change(Some("a"), None), &ledger);
        assert!(seen.wrong.is_empty(), "h3 has not heard of it: {:?}", seen.wrong);
        seen.note("h2", &change(Some("a"), None), &ledger);
        assert_eq!(seen.wrong.len(), 1, "{:?}", seen.wrong);
        seen.note("h2", &change(Some("forged"), None), &ledger);
        assert_eq!(seen.wrong.len(), 2, "{:?}", seen.wrong);
    }
}
