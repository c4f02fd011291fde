//! Several writes in one step.

use super::{Cluster, NET, TABLE};
use crate::{
    BatchError, Config, MAX_BATCH_WRITES, Operation, TableDb, Version, WatchFilter, Write, WriteError,
};

fn put<'a>(table: &'a str, key: &'a str, value: &'a str) -> Write<'a> {
    Write { table, key, operation: Operation::Upsert(value.as_bytes()) }
}

fn delete(key: &str) -> Write<'_> {
    Write { table: TABLE, key, operation: Operation::Delete }
}

impl Cluster {
    fn write_batch(&mut self, at: usize, batch: &[Write<'_>]) -> Result<Vec<Version>, BatchError> {
        let now = self.now;
        self.replicas[at].write_batch(NET, batch, now)
    }
}

#[test]
fn a_batch_is_made_whole_or_not_at_all() {
    let mut cluster = Cluster::joined(2);
    cluster.create(0, "old", "1");
    let moved = [put(TABLE, "new", "1"), delete("old")];
    let versions = cluster.write_batch(0, &moved).unwrap();
    let entry = cluster.replicas[0].views().get(NET).unwrap().get(TABLE, "new").unwrap();
    assert_eq!((versions.len(), versions[0]), (2, entry.version()));
    cluster.settle();
    assert_eq!(cluster.shown(1).into_iter().collect::<Vec<_>>(), [("new".into(), "1".into())]);

    let before = cluster.shown(0);
    let refused = cluster.write_batch(0, &[put(TABLE, "more", "2"), delete("new"), delete("old")]);
    let [network, table, key] = [NET, TABLE, "old"].map(str::to_owned);
    let missing = WriteError::NotFound { network, table, key };
    assert_eq!(refused, Err(BatchError::Write { index: 2, error: missing }));
    assert_eq!(cluster.shown(0), before);
}

#[test]
fn a_batch_that_writes_an_entry_twice_or_is_too_long_is_refused() {
    let mut cluster = Cluster::joined(1);
    let refused = cluster.write_batch(0, &[put("other", "k", "1"), put(TABLE, "k", "1"), delete("k")]);
    let twice = BatchError::SameEntry { first: 1, second: 2, table: TABLE.into(), key: "k".into() };
    assert_eq!(refused, Err(twice));
    let keys: Vec<_> = (0..=MAX_BATCH_WRITES).map(|number| number.to_string()).collect();
    let batch: Vec<_> = keys.iter().map(|key| put(TABLE, key, "")).collect();
    assert_eq!(cluster.write_batch(0, &batch), Err(BatchError::TooLong { found: MAX_BATCH_WRITES + 1 }));
    assert_eq!(cluster.write_batch(0, &batch[1..]).unwrap().len(), MAX_BATCH_WRITES);
}

#[test]
fn a_batch_for_a_network_that_is_not_joined_is_refused_even_if_it_is_empty() {
    let mut cluster = Cluster::strangers(1, |_| {});
    let not_joined = WriteError::NotJoined { network: NET.to_owned() };
    for batch in [&[][..], &[put(TABLE, "k", "1")]] {
        assert_eq!(cluster.write_batch(0, batch), Err(BatchError::Network(not_joined.clone())));
    }
}

/// Each of the writes alone would have room.
#[test]
fn the_limits_hold_for_all_writes_of_a_batch_together() {
    let mut cluster = Cluster::strangers(1, |config| {
        (config.limits.entries, config.limits.tables, config.limits.bytes) = (3, 2, 100);
    });
    cluster.join(0);
    cluster.create(0, "k", &"x".repeat(49));
    let long = "x".repeat(30);
    for (batch, index) in [
        (&[put(TABLE, "a", ""), put(TABLE, "b", ""), put(TABLE, "c", "")][..], 2),
        (&[put("second", "a", ""), put("third", "a", "")], 1),
        (&[put(TABLE, "a", &long), put(TABLE, "b", &long)], 1),
    ] {
        match cluster.write_batch(0, batch) {
            Err(BatchError::Write { index: found, .. }) => assert_eq!(found, index, "{batch:?}"),
            other => panic!("{other:?} for {batch:?}"),
        }
    }
    assert_eq!(cluster.shown(0).len(), 1);
    let batch = [delete("k"), put("second", "a", &long), put("second", "b", &long)];
    assert_eq!(cluster.write_batch(0, &batch).map(|versions| versions.len()), Ok(3));
}

/// The datagram before it has room for half of it.
#[test]
fn a_batch_that_fits_into_a_datagram_arrives_in_one_step() {
    let mut cluster = Cluster::joined(2);
    cluster.held = Some(Vec::new());
    cluster.create(0, "first", "sent at once");
    cluster.exchange();
    let value = "x".repeat(100);
    cluster.create(0, "before", &value.repeat(6));
    let keys: Vec<_> = (0..6).map(|number| format!("batch {number}")).collect();
    let batch: Vec<_> = keys.iter().map(|key| put(TABLE, key, &value)).collect();
    cluster.write_batch(0, &batch).unwrap();
    cluster.settle();
    let mut steps = Vec::new();
    for (from, to, bytes) in cluster.held.take().unwrap() {
        cluster.deliver(from, to, &bytes);
        steps.push(cluster.shown(1).keys().filter(|key| key.starts_with("batch")).count());
    }
    assert!(steps.iter().all(|&shown| shown == 0 || shown == keys.len()), "{steps:?}");
    assert_eq!((steps.first(), steps.last()), (Some(&0), Some(&keys.len())));
}

#[test]
fn a_watch_finds_a_batch_whole_or_not_at_all() {
    const WRITES: usize = 20;
    const BATCHES: usize = 100;
    let tables = TableDb::new(Config::starting_now(super::name(0))).unwrap();
    tables.join_network(NET).unwrap();
    let mut watch = tables.watch(WatchFilter::default());
    assert_eq!(watch.try_next(), None);
    let reading = std::thread::spawn(move || {
        let (mut found, mut all) = (Vec::new(), 0);
        while all < WRITES * BATCHES {
            found.push(std::iter::from_fn(|| watch.try_next()).count());
            all += found.last().unwrap();
        }
        found
    });
    let keys: Vec<_> = (0..WRITES).map(|number| number.to_string()).collect();
    let batch: Vec<_> = keys.iter().map(|key| put(TABLE, key, "v")).collect();
    for _ in 0..BATCHES {
        tables.write_batch(NET, &batch).unwrap();
    }
    let found = reading.join().unwrap();
    let parts: Vec<_> = found.iter().filter(|&found| found % WRITES != 0).collect();
    assert!(parts.is_empty(), "{parts:?} changes of a batch of {WRITES}");
}
