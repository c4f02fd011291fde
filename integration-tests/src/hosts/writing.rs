//! Writes, each recorded in the ledger before it is requested.
#![expect(clippy::disallowed_methods, reason = "real processes acknowledge writes in real time")]

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use networkdb_http::v1::model::ImportOutcome;
use parking_lot::Mutex;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinHandle;

use super::Failure;
use super::api::{Answer, ask};
use super::cluster::{Cluster, NETWORK, TABLE};
use super::ledger::Ledger;

/// Timeout of a write: a node that is frozen or cut off during a write answers late or never.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// The length of values, in bytes.
const VALUE_BYTES: usize = 40;

/// The kind of write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Create,
    Update,
    Delete,
}

/// Requests one write from the node in the namespace of this thread, and records the result.
async fn write(ledger: Arc<Mutex<Ledger>>, host: String, key: String, kind: Kind) -> Result<Answer, Failure> {
    let (id, value) = {
        let mut ledger = ledger.lock();
        let value = (kind != Kind::Delete).then(|| ledger.fresh_value(VALUE_BYTES));
        (ledger.begin(&host, &key, value.clone(), Instant::now()), value)
    };
    let method = match kind {
        Kind::Create => Method::POST,
        Kind::Update => Method::PUT,
        Kind::Delete => Method::DELETE,
    };
    let path = format!("/v1/networks/{NETWORK}/tables/{TABLE}/entries/{key}");
    let answer = ask(None, method, path, Bytes::from(value.unwrap_or_default()), WRITE_TIMEOUT).await;
    let mut ledger = ledger.lock();
    match &answer {
        Ok(answer) if answer.status.is_success() => ledger.acknowledge(&id, Instant::now()),
        Ok(_) => ledger.refuse(&id),
        Err(_) => ledger.give_up(&id, Instant::now()),
    }
    answer
}

impl Cluster {
    async fn write(&self, host: usize, key: &str, kind: Kind) -> Result<(), Failure> {
        let writing = write(self.ledger.clone(), self.name(host).to_owned(), key.to_owned(), kind);
        let answer = self.lab.inside(host).run(writing).await??;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(format!("{} refused to {kind:?} {key}: {}", self.name(host), answer.text()))
    }

    /// Creates an entry on a host.
    pub async fn create(&self, host: usize, key: &str) -> Result<(), Failure> {
        self.write(host, key, Kind::Create).await
    }

    /// Updates an entry on a host.
    pub async fn update(&self, host: usize, key: &str) -> Result<(), Failure> {
        self.write(host, key, Kind::Update).await
    }

    /// Deletes an entry on a host.
    pub async fn delete(&self, host: usize, key: &str) -> Result<(), Failure> {
        self.write(host, key, Kind::Delete).await
    }

    /// Creates `number` entries with values of `bytes` bytes on a host, by one import.
    pub async fn import(&self, host: usize, number: usize, bytes: usize) -> Result<(), Failure> {
        let (mut lines, mut ids) = (String::new(), Vec::new());
        let name = self.name(host).to_owned();
        {
            let mut ledger = self.ledger.lock();
            for entry in 0..number {
                let (key, value) = (format!("{name}-bulk-{entry}"), ledger.fresh_value(bytes));
                let _ = writeln!(lines, r#"{{"key":"{key}","value":"{value}"}}"#);
                ids.push(ledger.begin(&name, &key, Some(value), Instant::now()));
            }
        }
        let path = format!("/v1/networks/{NETWORK}/tables/{TABLE}/entries?mode=create");
        let outcome: ImportOutcome = self.ask(host, Method::POST, &path, Bytes::from(lines)).await?.json()?;
        if outcome.created != number as u64 {
            return Err(format!(
                "of {number} entries {name} imported {}: {:?}",
                outcome.created, outcome.errors
            ));
        }
        let mut ledger = self.ledger.lock();
        for id in &ids {
            ledger.acknowledge(id, Instant::now());
        }
        Ok(())
    }

    /// Makes these hosts write continuously: about half creates, a quarter updates and a quarter
    /// deletes, also of entries of other hosts, one write every `pause` on each host.
    pub fn load(&self, hosts: &[usize], pause: Duration, seed: u64) -> Load {
        let keys: Arc<Mutex<Vec<String>>> = Arc::default();
        self.load_with(hosts, pause, seed, true, || keys.clone())
    }

    /// The same without deletes; each host writes only its own keys.
    pub fn load_disjoint(&self, hosts: &[usize], pause: Duration, seed: u64) -> Load {
        self.load_with(hosts, pause, seed, false, Arc::default)
    }

    fn load_with(
        &self,
        hosts: &[usize],
        pause: Duration,
        seed: u64,
        deletes: bool,
        keys: impl Fn() -> Arc<Mutex<Vec<String>>>,
    ) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let tasks = hosts.iter().map(|host| {
            let writer = Writer {
                host: self.name(*host).to_owned(),
                prefix: format!("{}-{seed}", self.name(*host)),
                ledger: self.ledger.clone(),
                keys: keys(),
                deletes,
                stop: stop.clone(),
                acknowledged: acknowledged.clone(),
                rng: ChaCha8Rng::seed_from_u64(seed << 8 | *host as u64),
            };
            self.lab.inside(*host).spawn(writer.write_on(pause))
        });
        Load { tasks: tasks.collect(), stop: stop.clone(), acknowledged: acknowledged.clone() }
    }
}

/// Running writers.
#[derive(Debug)]
pub struct Load {
    tasks: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Load {
    /// How many writes have been acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits for the writes under way; returns how many were acknowledged, which must not be zero.
    pub async fn stop(mut self) -> Result<u64, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        for task in std::mem::take(&mut self.tasks) {
            task.await.map_err(|error| format!("a writer failed: {error}"))?;
        }
        match self.acknowledged() {
            0 => Err("no write was acknowledged, so nothing has been tested".to_owned()),
            number => Ok(number),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Writer {
    host: String,
    prefix: String,
    ledger: Arc<Mutex<Ledger>>,
    /// Keys that probably exist, shared with the other writers unless each writes only its own.
    keys: Arc<Mutex<Vec<String>>>,
    deletes: bool,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    rng: ChaCha8Rng,
}

impl Writer {
    async fn write_on(mut self, pause: Duration) {
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let old = self.keys.lock().choose(&mut self.rng).cloned();
            let (key, kind) = match (old, self.rng.random_range(0..4)) {
                (Some(old), 0) => (old, Kind::Update),
                (Some(old), 1) if self.deletes => (old, Kind::Delete),
                _ => {
                    number += 1;
                    (format!("{}-{number}", self.prefix), Kind::Create)
                }
            };
            let answer = write(self.ledger.clone(), self.host.clone(), key.clone(), kind).await;
            let done = answer.as_ref().is_ok_and(|answer| answer.status.is_success());
            // A missing key (not yet created, or deleted meanwhile) is no error.
            let missing = answer.is_ok_and(|answer| {
                matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::PRECONDITION_FAILED)
            });
            if done && kind == Kind::Create {
                self.keys.lock().push(key);
            } else if (done && kind == Kind::Delete) || (missing && kind == Kind::Update) {
                self.keys.lock().retain(|known| *known != key);
            }
            self.acknowledged.fetch_add(u64::from(done), Ordering::Relaxed);
            tokio::time::sleep(pause).await;
        }
    }
}
