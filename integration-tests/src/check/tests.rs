//! Each check bites: fed with what must never be, it says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

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
        residual: value.is_none().then_some(REAP_TIME),
        shown: value.is_some(),
    }
}

/// A put, a greater put of the same key, and a delete of another key, all at second 10.
fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    for (key, number, value) in [("k", 1, Some("old")), ("k", 2, Some("new")), ("deleted", 3, None)] {
        ledger.wrote(Duration::from_secs(10), Key::new(NET, "t", key), None, &entry(number, value));
    }
    ledger
}

fn state(entries: &[(&str, HeldEntry)], context: &[(u64, u64)]) -> NetworkState {
    let held = entries.iter().map(|(key, held)| (("t".to_owned(), (*key).to_owned()), held.clone()));
    NetworkState { entries: held.collect(), contexts: BTreeMap::from([((owner(), 1), context.to_vec())]) }
}

/// What the watchdog says of these states, one a second from second 11 on.
fn verdict(states: &[NetworkState]) -> Result<(), String> {
    let (mut watchdog, ledger, network) = (Watchdog::default(), ledger(), Arc::from(NET));
    for (second, state) in (11..).zip(states) {
        let now = Duration::from_secs(second);
        watchdog
            .look(Peer(0), &Look { network: &network, state, ledger: &ledger, now, reap_time: REAP_TIME })?;
    }
    Ok(())
}

#[track_caller]
fn assert_bites(states: &[NetworkState], complaint: &str) {
    let found = verdict(states);
    assert!(found.as_ref().is_err_and(|what| what.contains(complaint)), "{found:?}");
}

#[test]
fn what_is_right_is_not_complained_of() {
    let new = ("k", entry(2, Some("new")));
    let deleted = ("deleted", entry(3, None));
    let first = state(&[("k", entry(1, Some("old")))], &[(1, 1)]);
    assert_eq!(
        verdict(&[first, state(std::slice::from_ref(&new), &[(1, 2)]), state(&[new, deleted], &[(1, 3)])]),
        Ok(())
    );
}

#[test]
fn a_context_that_shrinks() {
    let new = [("k", entry(2, Some("new")))];
    assert_bites(&[state(&new, &[(1, 2)]), state(&new, &[(2, 2)])], "shrank from [(1, 2)] to [(2, 2)]");
}

#[test]
fn a_context_that_runs_ahead_of_the_data() {
    assert_bites(&[state(&[], &[(2, 2)])], "as dead, and nothing supersedes it");
    assert_bites(&[state(&[], &[(1, 1), (4, 4)])], "which nobody wrote");
    assert_bites(&[state(&[("k", entry(2, Some("new")))], &[(1, 1)])], "which its context does not contain");
}

#[test]
fn an_entry_that_comes_back() {
    let old = [("k", entry(1, Some("old")))];
    let states = [state(&old, &[(1, 1)]), state(&[], &[(1, 1)]), state(&old, &[(1, 1)])];
    assert_bites(&states, "which it had seen die");
}

#[test]
fn an_entry_that_nobody_wrote_so() {
    assert_bites(&[state(&[("k", entry(2, Some("forged")))], &[(2, 2)])], "what was written is");
    assert_bites(&[state(&[("another key", entry(2, Some("new")))], &[(2, 2)])], "what was written is");
}

#[test]
fn a_tombstone_that_is_kept_too_long_or_not_long_enough() {
    let kept = |residual| {
        let held = HeldEntry { residual: Some(Duration::from_secs(residual)), ..entry(3, None) };
        state(&[("deleted", held)], &[(3, 3)])
    };
    assert_bites(&[kept(50), kept(51)], "has grown from 50s to 51s");
    assert_bites(&[kept(101)], "has grown from 100s to 101s");
    assert_bites(&[state(&[], &[(3, 3)])], "has reaped tombstone");
}

#[test]
fn news_that_is_sent_more_often_than_once_by_each() {
    let mut relays = Relays::default();
    relays.add(&{
        let mut counters = tabledb::Counters::default();
        (counters.gossip_sent, counters.news) = (24, 2);
        counters
    });
    assert_eq!(relays.check(1), Ok(()), "one write, and news twice: eight datagrams for each");
    assert!(relays.check(0).is_err());
}
