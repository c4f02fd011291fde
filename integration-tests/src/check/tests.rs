//! Each check reports a violation when it is given one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tabledb::NetworkStatistics;
use wire::{NodeId, NodeName};

use super::*;
use crate::cluster::{Key, Peer};

const NET: &str = "net";
const REAP_TIME: Duration = Duration::from_secs(100);

fn owner() -> NodeId {
    NodeId::new(NodeName::new("a").unwrap(), 1)
}

fn entry(number: u64, value: Option<&str>) -> HeldEntry {
    HeldEntry {
        version: Version { time: number, dot: Dot { owner: owner(), epoch: 1, number } },
        value: value.map(|value| value.as_bytes().into()),
        residual: value.is_none().then_some(REAP_TIME / 2),
        shown: value.is_some(),
    }
}

/// A put, a greater put of the same key, and a delete of another key, all at second 10.
fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    for (key, number, value) in [("k", 1, Some("old")), ("k", 2, Some("new")), ("deleted", 3, None)] {
        ledger.record(Duration::from_secs(10), Key::new(NET, "t", key), None, &entry(number, value));
    }
    ledger
}

fn state(entries: &[(&str, HeldEntry)], context: &[(u64, u64)]) -> NetworkState {
    let held = entries.iter().map(|(key, held)| (("t".to_owned(), (*key).to_owned()), held.clone()));
    let version_vector = BTreeMap::from([((owner(), 1), context.to_vec())]);
    NetworkState { entries: held.collect(), version_vector, refused: BTreeMap::new() }
}

/// The reasons of a node that refuses nothing.
const NONE: RefusalReasons =
    RefusalReasons { value_bytes: usize::MAX, has_small_limits: false, believed: u64::MAX };

fn counts(state: &NetworkState) -> NetworkStatistics {
    let [entries, hidden, tombstones, bytes] = state.recount();
    let mut counts = NetworkStatistics::default();
    (counts.entries, counts.hidden, counts.tombstones, counts.bytes) = (entries, hidden, tombstones, bytes);
    counts
}

/// The watchdog's verdict on these states of these nodes, one a second from second 11 on.
fn verdict_of(states: &[(usize, NetworkState)], ledger: &Ledger) -> Result<(), String> {
    let (mut watchdog, network) = (Watchdog::default(), Arc::from(NET));
    for (second, (peer, state)) in (11..).zip(states) {
        let inspection = Inspection {
            network: &network,
            state,
            ledger,
            statistics: &counts(state),
            now: Duration::from_secs(second),
            reap_time: REAP_TIME,
            reasons: NONE,
            under_way: Duration::from_millis(500),
        };
        watchdog.inspect(Peer(*peer), &inspection)?;
    }
    Ok(())
}

/// The same of one node.
fn verdict(states: &[NetworkState]) -> Result<(), String> {
    let states: Vec<_> = states.iter().map(|state| (0, state.clone())).collect();
    verdict_of(&states, &ledger())
}

#[track_caller]
fn assert_reported(states: &[NetworkState], complaint: &str) {
    let found = verdict(states);
    assert!(found.as_ref().is_err_and(|what| what.contains(complaint)), "{found:?}");
}

#[test]
fn a_correct_state_passes() {
    let new = ("k", entry(2, Some("new")));
    let deleted = ("deleted", entry(3, None));
    let first = state(&[("k", entry(1, Some("old")))], &[(1, 1)]);
    assert_eq!(
        verdict(&[first, state(std::slice::from_ref(&new), &[(1, 2)]), state(&[new, deleted], &[(1, 3)])]),
        Ok(())
    );
}

#[test]
fn a_version_vector_that_shrinks_is_reported() {
    let new = [("k", entry(2, Some("new")))];
    assert_reported(&[state(&new, &[(1, 2)]), state(&new, &[(2, 2)])], "shrank from [(1, 2)] to [(2, 2)]");
}

#[test]
fn a_version_vector_ahead_of_the_data_is_reported() {
    assert_reported(
        &[state(&[], &[(2, 2)])],
        "as superseded, but no process knew it with a write that supersedes it",
    );
    assert_reported(&[state(&[], &[(4, 4)])], "which no node wrote");
    assert_reported(
        &[state(&[("k", entry(2, Some("new")))], &[(1, 1)])],
        "which its version vector does not contain",
    );
}

#[test]
fn a_superseded_entry_that_returns_is_reported() {
    let old = [("k", entry(1, Some("old")))];
    let new = [("k", entry(2, Some("new")))];
    let states = [state(&old, &[(1, 1)]), state(&new, &[(1, 2)]), state(&old, &[(1, 1)])];
    assert_reported(&states, "which it had seen superseded");
}

#[test]
fn an_entry_that_differs_from_its_write_is_reported() {
    assert_reported(&[state(&[("k", entry(2, Some("forged")))], &[(2, 2)])], "but its write is");
    assert_reported(&[state(&[("another key", entry(2, Some("new")))], &[(2, 2)])], "but its write is");
}

#[test]
fn a_tombstone_kept_too_long_or_too_short_is_reported() {
    let kept = |residual| {
        let held = HeldEntry { residual: Some(Duration::from_secs(residual)), ..entry(3, None) };
        state(&[("deleted", held)], &[(3, 3)])
    };
    assert_eq!(verdict(&[kept(99), kept(98)]), Ok(()));
    assert_reported(&[kept(101)], "2s longer than any node before");
    // Written at second 10, seen at seconds 11 and 12.
    assert_reported(&[kept(99), kept(99)], "1s longer than any node before");
    // Another node has received it, with a longer remaining time.
    let elsewhere = |residual| verdict_of(&[(0, kept(99)), (1, kept(residual))], &ledger());
    assert_eq!(elsewhere(98), Ok(()));
    assert!(elsewhere(100).is_err_and(|what| what.contains("longer than any node before")));
    assert_reported(&[state(&[], &[(3, 3)])], "has reaped tombstone");
}

#[test]
fn counts_that_differ_from_the_entries_are_reported() {
    let state = state(&[("k", entry(2, Some("new")))], &[(1, 2)]);
    let (ledger, network) = (ledger(), Arc::from(NET));
    let inspection = |statistics: NetworkStatistics| {
        let inspection = Inspection {
            network: &network,
            state: &state,
            ledger: &ledger,
            statistics: &statistics,
            now: Duration::from_secs(11),
            reap_time: REAP_TIME,
            reasons: NONE,
            under_way: Duration::ZERO,
        };
        Watchdog::default().inspect(Peer(0), &inspection)
    };
    let right = counts(&state);
    assert_eq!(right.bytes, "k".len() + "new".len());
    assert_eq!(inspection(right.clone()), Ok(()));
    let mut wrong = right.clone();
    wrong.bytes += 1;
    assert!(inspection(wrong).is_err());
    let mut wrong = right;
    wrong.tombstones = 1;
    assert!(inspection(wrong).is_err());
}

#[test]
fn a_write_refused_without_a_reason_is_reported() {
    let (ledger, network) = (ledger(), Arc::from(NET));
    let refuses = |reasons: RefusalReasons| {
        let state =
            NetworkState { refused: BTreeMap::from([((owner(), 1), vec![(1, 1)])]), ..state(&[], &[]) };
        let inspection = Inspection {
            network: &network,
            state: &state,
            ledger: &ledger,
            statistics: &counts(&state),
            now: Duration::from_secs(11),
            reap_time: REAP_TIME,
            reasons,
            under_way: Duration::ZERO,
        };
        Watchdog::default().inspect(Peer(0), &inspection)
    };
    assert!(refuses(NONE).is_err());
    assert_eq!(refuses(RefusalReasons { has_small_limits: true, ..NONE }), Ok(()));
    assert_eq!(refuses(RefusalReasons { value_bytes: 0, ..NONE }), Ok(()));
    assert_eq!(refuses(RefusalReasons { believed: 0, ..NONE }), Ok(()));
}

#[test]
fn a_write_lost_to_one_that_no_node_knew_with_it_is_reported() {
    // By another owner, to the same key, greater, and written without knowledge of the first.
    let other = |number| {
        let dot = Dot { owner: NodeId::new(NodeName::new("b").unwrap(), 1), epoch: 1, number };
        HeldEntry { version: Version { time: 9, dot }, ..entry(9, Some("elsewhere")) }
    };
    let mut ledger = ledger();
    ledger.record(Duration::from_secs(10), Key::new(NET, "t", "k"), None, &other(1));
    let superseded = state(&[], &[(2, 2)]);
    let found = verdict_of(&[(0, superseded.clone())], &ledger);
    assert!(found.as_ref().is_err_and(|what| what.contains("no process knew it with")), "{found:?}");
    // A process that knows both may have reported it.
    let mut both = state(&[("k", other(1))], &[(2, 2)]);
    both.version_vector.insert((other(1).version.dot.owner, 1), vec![(1, 1)]);
    assert_eq!(verdict_of(&[(1, both), (0, superseded)], &ledger), Ok(()));
}

#[test]
fn an_update_relayed_more_than_once_by_a_replica_is_reported() {
    let mut relays = Relays::default();
    relays.add(&{
        let mut counters = tabledb::Counters::default();
        (counters.gossip_sent, counters.updates_learned) = (24, 2);
        counters
    });
    assert_eq!(relays.check(1), Ok(()), "one write, new to two replicas: eight datagrams for each");
    assert!(relays.check(0).is_err());
}

#[test]
fn an_attachment_that_was_handed_on_does_not_cover_an_earlier_one() {
    let mut ledger = Ledger::default();
    for number in 1..=2 {
        ledger.joined(&owner(), NET);
        ledger.record(Duration::from_secs(10), Key::new(NET, "t", "k"), None, &entry(number, Some("v")));
        ledger.left(&owner(), NET);
    }
    ledger.handed_on(&owner(), NET);
    let handed_on = |number| {
        let dot = entry(number, None).version.dot;
        ledger.by_dot(NET, &dot).map(|id| ledger.was_handed_on(id))
    };
    assert_eq!([1, 2].map(handed_on), [Some(false), Some(true)]);
}
