//! A database by itself against a plain map: every answer, every error, and the events of a watcher.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tabledb::{
    Change, ChangeKind, Config, Driver, Limits, Origin, TableDb, Version, Watch, WatchEvent, WatchFilter,
    WriteError,
};
use wire::NodeId;

use crate::input::Input;
use crate::world::name;

const NETWORKS: [&str; 2] = ["blue", "green"];
const TABLES: [&str; 3] = ["t", "u", ""];
const KEY_BYTES: usize = 8;
const VALUE_BYTES: usize = 64;

type Place = (&'static str, &'static str, String);

#[derive(Default)]
struct Model {
    /// What is visible.
    entries: BTreeMap<Place, Vec<u8>>,
    joined: BTreeMap<&'static str, bool>,
}

impl Model {
    fn is_joined(&self, network: &str) -> bool {
        self.joined.get(network).copied().unwrap_or(false)
    }
}

struct Pair {
    db: TableDb,
    driver: Driver,
    /// The version of some entry, as read before an earlier write.
    last_read: Option<Version>,
    model: Model,
    now: Instant,
}

/// Does to both what `bytes` say; panics as soon as they differ.
pub fn run(bytes: &[u8]) {
    let now = Instant::now();
    let limits =
        Limits { key_bytes: KEY_BYTES, value_bytes: VALUE_BYTES, watch_queue: 16, ..Limits::default() };
    let config =
        Config { limits, reap_time: Duration::from_secs(1), ..Config::new(NodeId::new(name("n"), 1000)) };
    let origin = Origin { now, wall_clock: Duration::from_secs(1_700_000_000), seed: 7 };
    let db = TableDb::starting_at(config, origin).expect("the settings fit together");
    let mut pair = Pair {
        driver: db.driver().expect("it was just made"),
        db,
        model: Model::default(),
        last_read: None,
        now,
    };
    let mut watch = pair.db.watch(WatchFilter::default());
    let mut watched = BTreeMap::new();
    let mut input = Input::new(bytes);
    while !input.is_empty() {
        pair.step(&mut input);
        if input.below(4) == 0 {
            follow(&mut watch, &mut watched);
            assert_eq!(watched, pair.model.entries, "the events of a watcher");
        }
    }
    pair.compare();
    follow(&mut watch, &mut watched);
    assert_eq!(watched, pair.model.entries, "the events of a watcher");
}

impl Pair {
    fn step(&mut self, input: &mut Input<'_>) {
        let network = NETWORKS[input.below(NETWORKS.len())];
        let table = TABLES[input.below(TABLES.len())];
        match input.below(10) {
            0 => {
                let joined = self.driver.replica().join_network(network, self.now).is_ok();
                assert_eq!(joined, !self.model.is_joined(network), "joining {network}");
                self.model.joined.insert(network, true);
            }
            1 => {
                let left = self.driver.replica().leave_network(network, self.now).is_ok();
                assert_eq!(left, self.model.is_joined(network), "leaving {network}");
                self.model.joined.insert(network, false);
                self.model.entries.retain(|place, _| place.0 != network);
                // Alone, it has left at once or at the next time-out.
                self.pass(Duration::from_secs(3));
            }
            2 => self.pass(Duration::from_millis(1 << input.below(13))),
            3 => self.compare(),
            what => self.write(what, network, table, input),
        }
    }

    fn write(&mut self, what: usize, network: &'static str, table: &'static str, input: &mut Input<'_>) {
        let key = "abcdefghijk"[..input.below(11)].to_owned();
        let value = if what == 6 { Vec::new() } else { vec![input.byte(); input.below(VALUE_BYTES + 4)] };
        let place = (network, table, key.clone());
        let known = self.model.entries.contains_key(&place);
        let too_long = key.len() > KEY_BYTES || table.is_empty() || value.len() > VALUE_BYTES;
        let present = self.db.get(network, table, &key).map(|entry| entry.version());
        // Two of three conditional writes expect what is there.
        let current = if what == 9 && input.below(3) > 0 { present } else { None };
        let none = "1-2-3".parse().expect("it has the form of a version");
        let expected = current.or(self.last_read).unwrap_or(none);
        self.last_read = present.or(self.last_read);
        let mut replica = self.driver.replica();
        let outcome = match what {
            4 | 7 => replica.create(network, table, &key, value.as_slice(), self.now).map(Some),
            5 => replica.update(network, table, &key, value.as_slice(), self.now).map(Some),
            8 => replica.upsert(network, table, &key, value.as_slice(), self.now).map(Some),
            9 => {
                replica.compare_and_set(network, table, &key, expected, value.as_slice(), self.now).map(Some)
            }
            _ => replica.delete(network, table, &key, self.now).map(|_| None),
        };
        drop(replica);
        if let Ok(version @ Some(_)) = outcome {
            let read = self.db.get(network, table, &key).map(|entry| entry.version());
            assert_eq!(read, version, "the version of {place:?}");
        }
        let agrees = match &outcome {
            Ok(_) if what == 8 => self.model.is_joined(network) && !too_long,
            Ok(_) if what == 9 => self.model.is_joined(network) && !too_long && present == Some(expected),
            Ok(_) => self.model.is_joined(network) && !too_long && known == (what == 5 || what == 6),
            Err(WriteError::Length { .. }) => too_long,
            Err(WriteError::NotJoined { .. }) => !self.model.is_joined(network),
            Err(WriteError::AlreadyExists { found, .. }) => {
                known && (what == 4 || what == 7) && Some(*found) == present
            }
            Err(WriteError::NotFound { .. }) => !known && (what == 5 || what == 6),
            Err(WriteError::VersionMismatch { found, .. }) => {
                what == 9 && present != Some(expected) && *found == present
            }
            Err(_) => false,
        };
        assert!(agrees, "{outcome:?} for {place:?}, known {known}, too long {too_long}");
        if outcome.is_ok() {
            if what == 6 {
                self.model.entries.remove(&place);
            } else {
                self.model.entries.insert(place, value);
            }
        }
    }

    fn pass(&mut self, pause: Duration) {
        let until = self.now + pause;
        let mut replica = self.driver.replica();
        for _ in 0..10_000 {
            match replica.poll_timeout().filter(|due| *due <= until) {
                Some(due) => {
                    self.now = due.max(self.now);
                    replica.handle_timeout(self.now);
                    while replica.poll_transmit(self.now).is_some() {}
                    while replica.poll_event().is_some() {}
                }
                None => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!("ten thousand time-outs within {pause:?}");
    }

    fn compare(&self) {
        for network in NETWORKS {
            let found = self.db.tables(network);
            let mut wanted = self
                .model
                .entries
                .keys()
                .filter(|place| place.0 == network)
                .map(|place| place.1)
                .collect::<Vec<_>>();
            wanted.dedup();
            assert_eq!(found, wanted, "the tables of {network}");
            for table in TABLES {
                let found = self.db.entries(network, table);
                let found = found.iter().map(|entry| (entry.key(), entry.value())).collect::<Vec<_>>();
                let wanted =
                    self.model.entries.iter().filter(|(place, _)| place.0 == network && place.1 == table);
                let wanted =
                    wanted.map(|(place, value)| (place.2.as_str(), value.as_slice())).collect::<Vec<_>>();
                assert_eq!(found, wanted, "table {table} of {network}");
                for (key, value) in wanted {
                    let entry = self.db.get(network, table, key);
                    assert_eq!(entry.map(|entry| entry.value().to_vec()).as_deref(), Some(value));
                }
            }
        }
    }
}

/// Applies what waits for a watcher, each change to what it must be a change of.
fn follow(watch: &mut Watch, watched: &mut BTreeMap<Place, Vec<u8>>) {
    while let Some(event) = watch.try_next() {
        let WatchEvent::Change(Change { kind, network, table, key, value, previous, .. }) = event else {
            watched.clear();
            continue;
        };
        let network = NETWORKS.into_iter().find(|name| **name == *network).expect("a network of the model");
        let table = TABLES.into_iter().find(|name| **name == *table).expect("a table of the model");
        let place = (network, table, key.to_string());
        let before = match &value {
            Some(value) => watched.insert(place, value.to_vec()),
            None => watched.remove(&place),
        };
        assert_eq!(before.as_deref(), previous.as_deref(), "what was there before");
        let wanted = match (before.is_some(), value.is_some()) {
            (false, true) => ChangeKind::Create,
            (true, true) => ChangeKind::Update,
            _ => ChangeKind::Delete,
        };
        assert_eq!(kind, wanted);
    }
}
