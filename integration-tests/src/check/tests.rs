//! Each check bites: fed with what must never be, it says so.

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
        ledger.wrote(Duration::from_secs(10), Key::new(NET, "t", key), None, &entry(number, value));
    }
    ledger
}

fn state(entries: &[(&str, HeldEntry)], context: &[(u64, u64)]) -> NetworkState {
    let held = entries.iter().map(|(key, held)| (("t".to_owned(), (*key).to_owned()), held.clone()));
    let contexts = BTreeMap::from([((owner(), 1), context.to_vec())]);
    NetworkState { entries: held.collect(), contexts, refused: BTreeMap::new() }
}

/// A node that takes everything.
const NONE: Reasons = Reasons { value_bytes: usize::MAX, has_little_room: false, believed: u64::MAX };

fn counts(state: &NetworkState) -> NetworkStatistics {
    let [entries, hidden, tombstones, bytes] = state.recount();
    NetworkStatistics { entries, hidden, tombstones, bytes, ..NetworkStatistics::default() }
}

/// What the watchdog says of these states of these nodes, one a second from second 11 on.
fn verdict_of(states: &[(usize, NetworkState)], ledger: &Ledger) -> Result<(), String> {
    let (mut watchdog, network) = (Watchdog::default(), Arc::from(NET));
    for (second, (peer, state)) in (11..).zip(states) {
        let look = Look {
            network: &network,
            state,
            ledger,
            statistics: &counts(state),
            now: Duration::from_secs(second),
            reap_time: REAP_TIME,
            reasons: NONE,
            under_way: Duration::from_millis(500),
        };
        watchdog.look(Peer(*peer), &look)?;
    }
    Ok(())
}

/// The same of one node.
fn verdict(states: &[NetworkState]) -> Result<(), String> {
    let states: Vec<_> = states.iter().map(|state| (0, state.clone())).collect();
    verdict_of(&states, &ledger())
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
    assert_bites(&[state(&[], &[(4, 4)])], "which nobody wrote");
    assert_bites(&[state(&[("k", entry(2, Some("new")))], &[(1, 1)])], "which its context does not contain");
}

#[test]
fn an_entry_that_comes_back() {
    let old = [("k", entry(1, Some("old")))];
    let new = [("k", entry(2, Some("new")))];
    let states = [state(&old, &[(1, 1)]), state(&new, &[(1, 2)]), state(&old, &[(1, 1)])];
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
    assert_eq!(verdict(&[kept(99), kept(98)]), Ok(()));
    assert_bites(&[kept(101)], "2s longer than anybody had before");
    // Written at second 10, seen at seconds 11 and 12.
    assert_bites(&[kept(99), kept(99)], "1s longer than anybody had before");
    // Another has it from somewhere, and it has grown on the way.
    let elsewhere = |residual| verdict_of(&[(0, kept(99)), (1, kept(residual))], &ledger());
    assert_eq!(elsewhere(98), Ok(()));
    assert!(elsewhere(100).is_err_and(|what| what.contains("longer than anybody had before")));
    assert_bites(&[state(&[], &[(3, 3)])], "has reaped tombstone");
}

#[test]
fn counts_that_are_not_those_of_what_is_held() {
    let state = state(&[("k", entry(2, Some("new")))], &[(1, 2)]);
    let (ledger, network) = (ledger(), Arc::from(NET));
    let look = |statistics: NetworkStatistics| {
        let look = Look {
            network: &network,
            state: &state,
            ledger: &ledger,
            statistics: &statistics,
            now: Duration::from_secs(11),
            reap_time: REAP_TIME,
            reasons: NONE,
            under_way: Duration::ZERO,
        };
        Watchdog::default().look(Peer(0), &look)
    };
    let right = counts(&state);
    assert_eq!(right.bytes, "k".len() + "new".len());
    assert_eq!(look(right.clone()), Ok(()));
    assert!(look(NetworkStatistics { bytes: right.bytes + 1, ..right.clone() }).is_err());
    assert!(look(NetworkStatistics { tombstones: 1, ..right }).is_err());
}

#[test]
fn a_write_that_is_refused_without_a_reason() {
    let (ledger, network) = (ledger(), Arc::from(NET));
    let refuses = |reasons: Reasons| {
        let state =
            NetworkState { refused: BTreeMap::from([((owner(), 1), vec![(1, 1)])]), ..state(&[], &[]) };
        let look = Look {
            network: &network,
            state: &state,
            ledger: &ledger,
            statistics: &counts(&state),
            now: Duration::from_secs(11),
            reap_time: REAP_TIME,
            reasons,
            under_way: Duration::ZERO,
        };
        Watchdog::default().look(Peer(0), &look)
    };
    assert!(refuses(NONE).is_err());
    assert_eq!(refuses(Reasons { has_little_room: true, ..NONE }), Ok(()));
    assert_eq!(refuses(Reasons { value_bytes: 0, ..NONE }), Ok(()));
    assert_eq!(refuses(Reasons { believed: 0, ..NONE }), Ok(()));
}

#[test]
fn a_death_by_what_nobody_who_knew_the_dead_has_known() {
    // By another owner, of the same key, greater, and written without a sight of the first.
    let other = |number| {
        let dot = Dot { owner: NodeId::new(NodeName::new("b").unwrap(), 1), epoch: 1, number };
        HeldEntry { version: Version { time: 9, dot }, ..entry(9, Some("elsewhere")) }
    };
    let mut ledger = ledger();
    ledger.wrote(Duration::from_secs(10), Key::new(NET, "t", "k"), None, &other(1));
    let dead = state(&[], &[(2, 2)]);
    let found = verdict_of(&[(0, dead.clone())], &ledger);
    assert!(found.as_ref().is_err_and(|what| what.contains("nothing supersedes it")), "{found:?}");
    // Somebody who knows both may have told.
    let mut both = state(&[("k", other(1))], &[(2, 2)]);
    both.contexts.insert((other(1).version.dot.owner, 1), vec![(1, 1)]);
    assert_eq!(verdict_of(&[(1, both), (0, dead)], &ledger), Ok(()));
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

#[test]
fn a_stay_that_was_handed_on_says_nothing_of_an_earlier_one() {
    let mut ledger = Ledger::default();
    for number in 1..=2 {
        ledger.joined(&owner(), NET);
        ledger.wrote(Duration::from_secs(10), Key::new(NET, "t", "k"), None, &entry(number, Some("v")));
        ledger.left(&owner(), NET);
    }
    ledger.handed_on(&owner(), NET);
    let handed_on = |number| {
        let dot = entry(number, None).version.dot;
        ledger.by_dot(NET, &dot).map(|id| ledger.was_handed_on(id))
    };
    assert_eq!([1, 2].map(handed_on), [Some(false), Some(true)]);
}
