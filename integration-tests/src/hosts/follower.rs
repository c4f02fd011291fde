//! Follows what a host shows, change by change: what it has seen die it must never show again.

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

/// What followers have seen on all hosts of a scenario.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Changes in all.
    pub(super) changes: u64,
    /// By life of a host, then by value: when it ceased to be shown there, and whose it was.
    gone: HashMap<String, HashMap<String, (Instant, String)>>,
    /// What each life of a host was told of each key, for the story of whatever turns out wrong.
    received: HashMap<(String, String), Vec<String>>,
    /// What should not have been seen, with the story of the key.
    pub(super) wrong: Vec<String>,
}

/// All that a failed owner has is hidden within this time.
const HIDING: Duration = Duration::from_millis(100);

/// So many changes are remembered for stories; bulk loads go without.
const MAX_RECORDED: u64 = 100_000;

impl Seen {
    /// Takes note of one change that `instance`, one process on one host, was told of.
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
            let what = match ledger.knows(value) {
                false => Some("which nobody wrote"),
                true if self.is_resurrected(instance, value, ledger) => {
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
                    "{instance} showed {key} as {value}, {what}; it was told\n  {received}\nand this was written:\n{written}"
                ));
            }
        }
        if let Some(previous) = &change.previous {
            // The owner of what is there now, where it was not deleted; of a deleted one it was the owner.
            let owner = if change.value.is_none() { change.owner.clone() } else { String::new() };
            self.gone.entry(instance.to_owned()).or_default().insert(previous.clone(), (now, owner));
        }
    }

    /// Whether this life was told that the value is superseded. What is hidden since its owner has failed may come
    /// back, also if it was superseded where this host did not hear of it: then the owner's other entries, which were
    /// not superseded, were hidden with it.
    fn is_resurrected(&self, instance: &str, value: &str, ledger: &Ledger) -> bool {
        let Some(gone) = self.gone.get(instance) else { return false };
        let Some((when, owner)) = gone.get(value) else { return false };
        let hidden = gone.iter().any(|(other, (then, whose))| {
            let together = then.max(when).duration_since(*then.min(when)) < HIDING;
            together && !owner.is_empty() && whose == owner && !ledger.superseded_by(other, *then)
        });
        ledger.superseded_by(value, *when) && !hidden
    }
}

/// Follows a table on the host of this thread, until the node or the task ends. `instance` names this process: the next
/// one on the host remembers nothing.
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
                Ok(WatchRecord { change: Some(change), .. }) => seen.note(&instance, &change, &ledger, now),
                Ok(_) => {}
                Err(error) => {
                    seen.wrong.push(format!("{instance} said something strange to its watcher: {error}"))
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
            reason: None,
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
        // Its owner fails and returns, and meanwhile it was deleted where this host could not hear of it.
        write(&mut ledger, "k", None, later());
        let hidden = later();
        seen.note("h2#0", &change(None, Some("a")), &ledger, hidden);
        seen.note("h2#0", &change(None, Some("b")), &ledger, hidden);
        seen.note("h2#0", &change(Some("a"), None), &ledger, later());
        assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
        // It is told of the delete.
        seen.note("h2#0", &change(None, Some("a")), &ledger, later());
        seen.note("h3#0", &change(Some("a"), None), &ledger, later());
        assert!(seen.wrong.is_empty(), "h3 has not heard of it: {:?}", seen.wrong);
        seen.note("h2#1", &change(Some("a"), None), &ledger, later());
        assert!(seen.wrong.is_empty(), "the next life remembers nothing: {:?}", seen.wrong);
        seen.note("h2#0", &change(Some("a"), None), &ledger, later());
        assert_eq!(seen.wrong.len(), 1, "{:?}", seen.wrong);
        seen.note("h2#0", &change(Some("forged"), None), &ledger, later());
        assert_eq!(seen.wrong.len(), 2, "{:?}", seen.wrong);
    }
}
