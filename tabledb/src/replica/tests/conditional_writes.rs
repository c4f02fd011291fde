//! Writes that depend on what is under the key.

use super::{Cluster, NET, TABLE};
use crate::{Entry, Version, WriteError};

impl Cluster {
    fn entry(&self, at: usize) -> Option<Entry> {
        self.replicas[at].views().get(NET)?.get(TABLE, "k")
    }

    fn compare_and_set(&mut self, at: usize, expected: Version, value: &str) -> Result<Version, WriteError> {
        let now = self.now;
        self.replicas[at].compare_and_set(NET, TABLE, "k", expected, value.as_bytes(), now)
    }

    fn compare_and_delete(&mut self, at: usize, expected: Version) -> Result<(), WriteError> {
        let now = self.now;
        self.replicas[at].compare_and_delete(NET, TABLE, "k", expected, now).map(drop)
    }
}

fn mismatch(found: Option<Version>) -> WriteError {
    let [network, table, key] = [NET, TABLE, "k"].map(str::to_owned);
    WriteError::VersionMismatch { network, table, key, found }
}

#[test]
fn an_entry_has_the_version_that_its_write_returned_on_every_node() {
    let mut cluster = Cluster::joined(3);
    let now = cluster.now;
    let created = cluster.replicas[0].create(NET, TABLE, "k", *b"1", now).unwrap();
    cluster.settle();
    let updated = cluster.replicas[1].upsert(NET, TABLE, "k", *b"2", now).unwrap();
    assert_ne!(created, updated);
    assert_eq!(cluster.entry(0).unwrap().version(), created, "it has not heard of the other yet");
    cluster.settle();
    for at in 0..3 {
        assert_eq!(cluster.entry(at).unwrap().version(), updated);
    }
}

#[test]
fn an_upsert_creates_and_replaces_whoever_wrote() {
    let mut cluster = Cluster::joined(2);
    for (at, value) in [(0, b"1"), (1, b"2"), (0, b"3")] {
        let now = cluster.now;
        cluster.replicas[at].upsert(NET, TABLE, "k", *value, now).unwrap();
        cluster.settle();
        assert_eq!(cluster.entry(1 - at).unwrap().value(), value);
    }
    cluster.delete(1, "k");
    cluster.settle();
    let now = cluster.now;
    cluster.replicas[0].upsert(NET, TABLE, "k", *b"again", now).unwrap();
    cluster.settle();
    assert_eq!(cluster.entry(1).unwrap().value(), b"again");
}

#[test]
fn a_conditional_write_takes_exactly_the_version_it_expects() {
    let mut cluster = Cluster::joined(2);
    cluster.create(0, "k", "1");
    let first = cluster.entry(0).unwrap().version();
    let second = cluster.compare_and_set(0, first, "2").unwrap();
    assert_eq!(cluster.compare_and_set(0, first, "3"), Err(mismatch(Some(second))));
    assert_eq!(cluster.compare_and_delete(0, first), Err(mismatch(Some(second))));
    assert_eq!(cluster.entry(0).unwrap().value(), b"2");
    cluster.settle();
    assert_eq!(cluster.compare_and_delete(1, second), Ok(()));
    cluster.settle();
    assert_eq!(cluster.entry(0), None);
    assert_eq!(cluster.compare_and_set(0, second, "4"), Err(mismatch(None)));
}

#[test]
fn a_refused_write_says_what_it_found() {
    let mut cluster = Cluster::joined(2);
    let now = cluster.now;
    let refused = |cluster: &mut Cluster, what: &str| {
        let replica = &mut cluster.replicas[0];
        let outcome = match what {
            "create" => replica.create(NET, TABLE, "k", *b"2", now).map(drop),
            "update" => replica.update(NET, TABLE, "k", *b"2", now).map(drop),
            _ => replica.delete(NET, TABLE, "k", now).map(drop),
        };
        outcome.expect_err(what)
    };
    let [network, table, key] = [NET, TABLE, "k"].map(str::to_owned);
    let missing = WriteError::NotFound { network: network.clone(), table: table.clone(), key: key.clone() };
    let sentence = format!(
        "entry k of table {TABLE} in network {NET} does not exist; only an existing entry can be updated or deleted"
    );
    assert_eq!(missing.to_string(), sentence);
    for what in ["update", "delete"] {
        assert_eq!(refused(&mut cluster, what), missing, "{what} before the create");
    }
    let found = cluster.replicas[1].create(NET, TABLE, "k", *b"1", now).unwrap();
    cluster.settle();
    let exists = WriteError::AlreadyExists { network, table, key, found };
    assert_eq!(refused(&mut cluster, "create"), exists);
    let sentence = format!(
        "entry k of table {TABLE} in network {NET} exists already, with version {found}; update it, or choose \
         another key"
    );
    assert_eq!(exists.to_string(), sentence);
    cluster.delete(1, "k");
    cluster.settle();
    for what in ["update", "delete"] {
        assert_eq!(refused(&mut cluster, what), missing, "{what} after the delete");
    }
}

/// The replicas have no consensus: the later write stays.
#[test]
fn of_two_nodes_that_replace_one_version_at_once_both_succeed_and_agree_afterwards() {
    let mut cluster = Cluster::joined(2);
    cluster.create(0, "k", "1");
    cluster.settle();
    let seen = cluster.entry(1).unwrap().version();
    let written = [0, 1].map(|at| cluster.compare_and_set(at, seen, &format!("of {at}")).unwrap());
    cluster.settle();
    let left = [0, 1].map(|at| cluster.entry(at).unwrap().version());
    assert_eq!(left[0], left[1]);
    assert!(written.contains(&left[0]));
}
