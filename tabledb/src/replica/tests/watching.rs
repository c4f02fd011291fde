//! What watchers see.

use std::collections::BTreeMap;

use wire::{NodeId, NodeName};

use super::{Cluster, NET, TABLE};
use crate::replica::Taken;
use crate::{ChangeKind, Config, DeleteReason, TableDb, WatchEvent, WatchFilter, WriteError};

fn database(queue: usize) -> TableDb {
    let mut config = Config::new(NodeId::new(NodeName::new("me").unwrap(), 1));
    config.limits.watch_queue = queue;
    let database = TableDb::new(config).unwrap();
    database.join_network("net").unwrap();
    database
}

type Key = (String, String, String);

/// Applies a watcher's event to a map, checking that each change fits.
fn apply(map: &mut BTreeMap<Key, Vec<u8>>, event: WatchEvent) {
    let WatchEvent::Change(change) = event else {
        return map.clear();
    };
    let key = (change.network.to_string(), change.table.to_string(), change.key.to_string());
    let before = map.get(&key).cloned();
    assert_eq!(change.previous.as_deref().map(<[u8]>::to_vec), before, "the previous value of {key:?}");
    assert_eq!(change.version.is_some(), change.value.is_some(), "the version of {key:?}");
    match change.kind {
        ChangeKind::Create => assert!(before.is_none() && change.value.is_some()),
        ChangeKind::Update => assert!(before.is_some() && change.value.is_some()),
        ChangeKind::Delete => assert!(before.is_some() && change.value.is_none()),
    }
    match change.value {
        Some(value) => map.insert(key, value.to_vec()),
        None => map.remove(&key),
    };
}

#[test]
fn a_watch_starts_with_what_is_there_and_goes_on_without_a_gap() {
    let database = database(100);
    database.create("net", "t", "a", *b"1").unwrap();
    let mut watch = database.watch(WatchFilter::default());
    database.create("net", "t", "b", *b"2").unwrap();
    database.update("net", "t", "a", *b"3").unwrap();
    database.delete("net", "t", "b").unwrap();
    let mut map = BTreeMap::new();
    let mut seen = 0;
    while let Some(event) = watch.try_next() {
        apply(&mut map, event);
        seen += 1;
    }
    assert_eq!(seen, 4);
    assert_eq!(map.into_values().collect::<Vec<_>>(), [b"3".to_vec()]);
}

#[test]
fn a_change_has_the_version_that_its_write_returned() {
    let database = database(100);
    let before = database.create("net", "t", "a", *b"1").unwrap();
    let mut watch = database.watch(WatchFilter::default());
    let mut others = database.watch(WatchFilter { exclude_own: true, ..WatchFilter::default() });
    let created = database.create("net", "t", "b", *b"2").unwrap();
    let updated = database.update("net", "t", "a", *b"3").unwrap();
    database.delete("net", "t", "b").unwrap();
    let versions = std::iter::from_fn(|| watch.try_next()).map(|event| match event {
        WatchEvent::Change(change) => change.version,
        other => panic!("{other:?}"),
    });
    assert_eq!(versions.collect::<Vec<_>>(), [Some(before), Some(created), Some(updated), None]);
    assert_eq!(others.try_next(), None);
}

#[test]
fn filters_choose_network_table_and_owner() {
    let database = database(100);
    database.join_network("other").unwrap();
    let watch = |network: Option<&str>, table: Option<&str>, exclude_own| {
        database.watch(WatchFilter {
            network: network.map(str::to_owned),
            table: table.map(str::to_owned),
            exclude_own,
            ..WatchFilter::default()
        })
    };
    let mut all = watch(None, None, false);
    let mut net = watch(Some("net"), None, false);
    let mut table = watch(None, Some("t"), false);
    let mut both = watch(Some("other"), Some("t"), false);
    let mut others = watch(None, None, true);
    for (network, name) in [("net", "t"), ("net", "u"), ("other", "t"), ("other", "u")] {
        database.create(network, name, "k", *b"v").unwrap();
    }
    let mut count = |watch: &mut crate::Watch| std::iter::from_fn(|| watch.try_next()).count();
    assert_eq!([&mut all, &mut net, &mut table, &mut both, &mut others].map(&mut count), [4, 2, 2, 1, 0]);
}

#[test]
fn filters_choose_keys_by_prefix_and_entries_by_owner() {
    let mut cluster = Cluster::joined(2);
    let prefixes = ["", "we", "web/", "żó", "dns"].map(str::to_owned);
    let of_prefix = |prefix: String| WatchFilter { prefix, ..WatchFilter::default() };
    let of_second = WatchFilter { owner: Some(super::name(1)), ..WatchFilter::default() };
    let filters = prefixes.map(of_prefix).into_iter().chain([of_second]).collect::<Vec<_>>();
    let watch = |replica: &mut crate::Replica, filter: &WatchFilter| {
        let (snapshot, cursor) = replica.watch(filter);
        assert!(snapshot.is_empty());
        cursor
    };
    let mut cursors: Vec<_> = filters.iter().map(|filter| watch(&mut cluster.replicas[0], filter)).collect();
    for (owner, key) in [(0, "web/1"), (1, "web/2"), (1, "żółw"), (0, "w")] {
        cluster.create(owner, key, "1");
        cluster.settle();
    }
    // The first replica takes an entry of the second over, and the other way round.
    cluster.update(0, "web/2", "2");
    cluster.settle();
    cluster.update(1, "w", "2");
    cluster.settle();
    let received: Vec<String> = filters
        .iter()
        .zip(&mut cursors)
        .map(|(filter, cursor)| {
            let mut text = String::new();
            loop {
                match cursor.take() {
                    Taken::Change(recorded) => {
                        let change = &recorded.change;
                        text += &format!("{:?} {} {:?}, ", change.kind, change.key, change.reason);
                    }
                    Taken::Unread => drop(cursor.read(&cluster.replicas[0], filter)),
                    _ => return text,
                }
            }
        })
        .collect();
    let web = "Create web/1 None, Create web/2 None, Update web/2 None, ";
    assert_eq!(received[1..5], [web, web, "Create żółw None, ", ""]);
    assert_eq!(received[0].matches(", ").count(), 6, "{}", received[0]);
    let of_second = "Create web/2 None, Create żółw None, Delete web/2 Some(OtherOwner), Create w None, ";
    assert_eq!(received[5], of_second);
}

#[test]
fn a_watcher_that_lags_is_notified_and_starts_over() {
    let database = database(4);
    let mut watch = database.watch(WatchFilter::default());
    for n in 0..10 {
        database.create("net", "t", &format!("k{n}"), *b"v").unwrap();
    }
    let mut map = BTreeMap::new();
    let mut lagged = 0;
    while let Some(event) = watch.try_next() {
        lagged += usize::from(event == WatchEvent::Lagged);
        apply(&mut map, event);
    }
    assert_eq!((lagged, map.len()), (1, 10));
    database.delete("net", "t", "k3").unwrap();
    apply(&mut map, watch.try_next().unwrap());
    assert_eq!(map.len(), 9, "and goes on");
    assert_eq!(database.replica().counters().watchers_lagged, 1);
}

/// Takes all events that wait for a watcher.
fn follow(watch: &mut crate::Watch, map: &mut BTreeMap<Key, Vec<u8>>) -> usize {
    let mut lagged = 0;
    while let Some(event) = watch.try_next() {
        lagged += usize::from(event == WatchEvent::Lagged);
        apply(map, event);
    }
    lagged
}

/// All entries that readers see.
fn visible(database: &TableDb) -> BTreeMap<Key, Vec<u8>> {
    let mut map = BTreeMap::new();
    for network in database.networks() {
        for table in database.tables(&network) {
            for entry in database.entries(&network, &table) {
                map.insert((network.clone(), table.clone(), entry.key().to_string()), entry.value().to_vec());
            }
        }
    }
    map
}

#[test]
fn stalled_watchers_hold_no_more_bytes_than_the_limits() {
    let mut config = Config::new(NodeId::new(NodeName::new("me").unwrap(), 1));
    (config.limits.watch_bytes, config.limits.watch_bytes_total) = (100_000, 150_000);
    let database = TableDb::new(config).unwrap();
    database.join_network("net").unwrap();
    // Each with a log of its own; an active watcher shares the first.
    let mut stalled = [(None, None), (Some("net"), None), (None, Some("t"))].map(|(network, table)| {
        let [network, table] = [network, table].map(|name| name.map(str::to_owned));
        database.watch(WatchFilter { network, table, ..WatchFilter::default() })
    });
    let mut awake = database.watch(WatchFilter::default());
    let (mut shown, mut lagged, mut most) = (BTreeMap::new(), 0, 0);
    for n in 0..200 {
        let key = format!("k{}", n % 20);
        let written = database.create("net", "t", &key, [n; 10_000]);
        written.or_else(|_| database.update("net", "t", &key, [n; 10_000])).unwrap();
        most = most.max(database.watch_statistics().bytes);
        lagged += follow(&mut awake, &mut shown);
    }
    assert!((100_000..=150_000).contains(&most), "{most}");
    assert_eq!(lagged, 0, "an active watcher does not pay for stalled ones");
    for watch in &mut stalled {
        let mut shown = BTreeMap::new();
        assert_eq!(follow(watch, &mut shown), 1);
        assert_eq!(shown, visible(&database));
    }
    assert_eq!(database.watch_statistics().bytes, 0);
    drop(stalled);
    let held = database.watch(WatchFilter::default());
    database.create("net", "u", "k", [0; 10_000]).unwrap();
    let of_awake = 320 + 1 + 10_000;
    assert_eq!(
        database.watch_statistics().bytes,
        of_awake,
        "a change is held once for all with the same filter"
    );
    drop(held);
    assert_eq!(follow(&mut awake, &mut shown), 0);
    database.create("net", "u", "l", [0; 200_000]).unwrap();
    assert_eq!(follow(&mut awake, &mut shown), 0, "one change may be longer than the limit");
    assert_eq!(shown, visible(&database));
    assert_eq!(database.watch_statistics().bytes, 0);
}

#[test]
fn a_watch_does_not_hold_what_it_has_not_read() {
    let database = database(100);
    for n in 0..100 {
        database.create("net", "t", &format!("k{n:02}"), [n; 100]).unwrap();
    }
    let watch = database.watch(WatchFilter::default());
    let last = database.get("net", "t", "k99").unwrap().into_record();
    assert_eq!(last.holders(), 3, "the table, the index, and this test");
    drop(watch);
}

#[test]
fn a_watch_is_exact_whatever_happens_while_its_beginning_is_read() {
    use rand::{RngExt as _, SeedableRng as _};
    for seed in 0..200 {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let database = database(if seed % 2 == 0 { 8192 } else { 20 });
        database.join_network("other").unwrap();
        let step = |random: &mut rand_chacha::ChaCha8Rng| {
            let network = ["net", "other", "late"][random.random_range(0..3)];
            let table = ["a", "b", "c"][random.random_range(0..3)];
            let key = format!("key-{:02}", random.random_range(0..40));
            let value = vec![random.random::<u8>(); random.random_range(0..200)];
            // A refused write changes nothing.
            match random.random_range(0..50) {
                0 => drop(database.join_network("late")),
                1 => drop(database.leave_network("late")),
                2..15 => drop(database.delete(network, table, &key)),
                15..30 => drop(database.update(network, table, &key, value)),
                _ => drop(database.create(network, table, &key, value)),
            }
        };
        (0..300).for_each(|_| step(&mut random));
        // They share a log, and each is somewhere else in it.
        let mut watches = [(); 2].map(|()| (database.watch(WatchFilter::default()), BTreeMap::new()));
        for _ in 0..300 {
            step(&mut random);
            for (most, (watch, shown)) in [4, 3].into_iter().zip(&mut watches) {
                for _ in 0..random.random_range(0..most) {
                    if let Some(event) = watch.try_next() {
                        apply(shown, event);
                    }
                }
            }
        }
        for (watch, shown) in &mut watches {
            follow(watch, shown);
            assert_eq!(*shown, visible(&database), "seed {seed}");
        }
        assert_eq!(database.watch_statistics().bytes, 0);
    }
}

#[test]
fn leaving_a_network_deletes_what_was_seen_of_it() {
    let database = database(100);
    let mut watch = database.watch(WatchFilter::default());
    database.create("net", "t", "k", *b"").unwrap();
    database.leave_network("net").unwrap();
    let mut map = BTreeMap::new();
    apply(&mut map, watch.try_next().unwrap());
    assert_eq!(map.len(), 1, "an empty value is a value");
    let left = watch.try_next().unwrap();
    assert_eq!(reason(&left), Some(DeleteReason::NetworkLeft));
    apply(&mut map, left);
    assert_eq!((map.len(), watch.try_next()), (0, None));
    assert!(database.entries("net", "t").is_empty());
}

fn reason(event: &WatchEvent) -> Option<DeleteReason> {
    match event {
        WatchEvent::Change(change) => change.reason,
        _ => None,
    }
}

#[test]
fn only_a_delete_has_a_reason() {
    let database = database(100);
    let mut watch = database.watch(WatchFilter::default());
    let mut others = database.watch(WatchFilter { exclude_own: true, ..WatchFilter::default() });
    database.create("net", "t", "k", *b"1").unwrap();
    database.update("net", "t", "k", *b"2").unwrap();
    database.delete("net", "t", "k").unwrap();
    let reasons: Vec<_> = std::iter::from_fn(|| watch.try_next()).map(|event| reason(&event)).collect();
    assert_eq!(reasons, [None, None, Some(DeleteReason::Deleted)]);
    assert_eq!(others.try_next(), None);
}

#[test]
fn a_database_that_ends_closes_its_watches_and_deletes_nothing() {
    let database = database(100);
    let mut watch = database.watch(WatchFilter::default());
    database.create("net", "t", "k", *b"1").unwrap();
    database.end_watches();
    database.leave_network("net").unwrap();
    assert!(database.replica().is_off_all_networks());
    // Readers still see the last state, and no writes are taken.
    assert_eq!(database.get("net", "t", "k").unwrap().value()[..], *b"1");
    assert_eq!(database.entries("net", "t").len(), 1);
    assert_eq!(database.statistics("net").unwrap().entries, 1);
    assert_eq!(database.networks(), ["net"]);
    assert!(matches!(database.delete("net", "t", "k"), Err(WriteError::NotJoined { .. })));
    let mut map = BTreeMap::new();
    apply(&mut map, watch.try_next().unwrap());
    assert_eq!(map.len(), 1, "earlier changes are reported");
    for _ in 0..2 {
        assert_eq!(watch.try_next(), Some(WatchEvent::Closed));
        assert_eq!(watch.next_timeout(std::time::Duration::from_secs(3600)), Some(WatchEvent::Closed));
    }
    let mut late = database.watch(WatchFilter::default());
    assert_eq!(late.try_next(), Some(WatchEvent::Closed));
    assert_eq!(database.watch_statistics().watches, 0);
}

#[test]
fn dropped_watches_are_forgotten() {
    let database = database(100);
    for _ in 0..1000 {
        drop(database.watch(WatchFilter::default()));
    }
    let watch = database.watch(WatchFilter::default());
    assert_eq!(database.watch_statistics().watches, 1);
    drop(watch);
}

#[test]
fn a_change_holds_no_value_that_it_does_not_report() {
    let mut cluster = Cluster::joined(2);
    cluster.create(1, "k", "theirs");
    cluster.settle();
    let filter = WatchFilter { exclude_own: true, ..WatchFilter::default() };
    let (snapshot, mut cursor) = cluster.replicas[0].watch(&filter);
    while let Taken::Unread = cursor.take() {
        cursor.read(&cluster.replicas[0], &filter);
    }
    // For this watcher the entry disappears.
    cluster.update(0, "k", "ours, which may be long");
    let Taken::Change(recorded) = cursor.take() else { panic!("a change") };
    let change = &recorded.change;
    assert_eq!((&*change.key, change.reason), ("k", Some(DeleteReason::OtherOwner)));
    let record = cluster.replicas[0].table(NET, TABLE).unwrap().records.get("k").unwrap();
    assert_eq!(record.value(), b"ours, which may be long");
    assert_eq!(record.holders(), 3, "the table, the index, and this test");
    drop((snapshot, recorded));
}
