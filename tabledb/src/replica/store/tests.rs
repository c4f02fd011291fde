//! A store under random operations: its counts match its content, and its memory is bounded by its content.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use wire::{NodeId, NodeName};

use super::super::watchers::Watchers;
use super::{Body, Dot, Store, Tombstone, Visibility, Write};
use crate::record::{AttachmentIndex, Identity, Record};

fn instance(at: usize, generation: u64) -> NodeId {
    NodeId::new(NodeName::new(&format!("n{at}")).unwrap(), generation)
}

#[expect(clippy::disallowed_methods, reason = "only a starting point")]
fn start() -> Instant {
    Instant::now()
}

fn put(size: usize) -> Body<'static> {
    Body::Live(&[7; 64][..size])
}

/// A store with writers, each with the greatest number that it has used.
struct World {
    store: Store,
    watchers: Watchers,
    writers: Vec<(AttachmentIndex, u64)>,
    time: u64,
    now: Instant,
}

impl World {
    fn new(writers: usize) -> Self {
        let mut store = Store::new(Arc::from("net"), NodeName::new("n0").unwrap());
        let writers =
            (0..writers).map(|at| (store.attach(instance(at, 1), 1, Visibility::Shown), 0)).collect();
        Self { store, watchers: Watchers::default(), writers, time: 0, now: start() }
    }

    /// The next write of `at`; `late` is how much older than the newest it is.
    fn write(&mut self, at: usize, (table, key): (&str, &str), body: Body<'_>, late: u64, replaced: &[Dot]) {
        self.time += 2;
        let (index, number) = &mut self.writers[at];
        *number += 1;
        let dot = (*index, *number);
        let table = self.store.table_or_new(table);
        let time = self.time.saturating_sub(late);
        let write = Write { dot, time, table: &table, key, body, replaced, present: None };
        self.store.apply(write, &mut self.watchers);
    }

    fn present(&self, table: &str, key: &str) -> Option<Dot> {
        let table = self.store.view().table(table)?;
        table.records.get(key).map(|record| record.dot())
    }

    fn tombstone(&self, seconds: u64) -> Body<'static> {
        Body::Tombstone { expires: self.now + Duration::from_secs(seconds) }
    }
}

proptest! {
    #[test]
    fn the_counts_match_the_content(
        steps in proptest::collection::vec((0usize..8, 0usize..3, 0usize..5, 0usize..40, 0u64..9), 1..120)
    ) {
        let mut world = World::new(3);
        for (what, at, key, size, any) in steps {
            let (table, key) = (["t", "u"][key % 2], ["a", "bb", "ccc", "dddd", ""][key]);
            let replaced: Vec<Dot> = world.present(table, key).into_iter().collect();
            match what {
                // A writer that knew what it wrote over, late or not, and one that did not.
                0 => world.write(at, (table, key), put(size), any, &replaced),
                1 => world.write(at, (table, key), put(size), any, &[]),
                2 => {
                    let tombstone = world.tombstone(any);
                    world.write(at, (table, key), tombstone, any / 2, &replaced);
                }
                // What it replaced is under another key here.
                3 => {
                    let elsewhere: Vec<Dot> = world.present("t", "a").into_iter().collect();
                    world.write(at, (table, key), put(size), 0, &elsewhere);
                }
                4 => {
                    let (index, highest) = world.writers[at];
                    let low = highest.saturating_sub(any).max(1);
                    world.store.note_superseded(index, low, low + any / 2);
                    world.store.drop_superseded(index, low, &mut world.watchers);
                    world.writers[at].1 = highest.max(low + any / 2);
                }
                5 => {
                    world.now += Duration::from_secs(any);
                    world.store.reap(world.now);
                    world.store.sweep_empty_tables();
                }
                6 if any < 3 => {
                    let index = world.writers[at].0;
                    world.store.end(index, crate::DeleteReason::OwnerGone, &mut world.watchers);
                    let index = world.store.attach(instance(at, 1), any, Visibility::Shown);
                    world.writers[at] = (index, 0);
                }
                _ => {
                    let visibility = [Visibility::Shown, Visibility::OwnerFailed][size % 2];
                    world.store.set_visibility(world.writers[at].0, visibility, &mut world.watchers);
                }
            }
            prop_assert_eq!(world.store.recount(), Ok(()));
        }
        world.store.clear(&mut world.watchers);
        prop_assert_eq!((world.store.bytes(), world.store.recount()), (0, Ok(())));
    }
}

#[test]
fn superseded_tombstones_are_not_remembered() {
    // A key that is created and deleted for ever, by one writer and by two in turn; the reap time has not
    // passed once.
    let mut world = World::new(2);
    for round in 0..10_000 {
        let at = round % 2;
        let before: Vec<Dot> = world.present("t", "k").into_iter().collect();
        world.write(at, ("t", "k"), put(1), 0, &before);
        let replaced: Vec<Dot> = world.present("t", "k").into_iter().collect();
        let tombstone = world.tombstone(1800);
        world.write(1 - at, ("t", "k"), tombstone, 0, &replaced);
        assert!(world.store.expiries.held() <= 1, "{} times for one tombstone", world.store.expiries.held());
    }
    // Nor those of an owner that has left.
    world.store.end(world.writers[0].0, crate::DeleteReason::OwnerGone, &mut world.watchers);
    world.store.end(world.writers[1].0, crate::DeleteReason::OwnerGone, &mut world.watchers);
    assert_eq!(world.store.expiries.held(), 0);
}

/// A store in which one writer has put three keys and deleted the second.
fn three_keys() -> World {
    let mut world = World::new(1);
    for key in ["a", "b", "c"] {
        world.write(0, ("t", key), put(3), 0, &[]);
    }
    let replaced: Vec<Dot> = world.present("t", "b").into_iter().collect();
    let tombstone = world.tombstone(60);
    world.write(0, ("t", "b"), tombstone, 0, &replaced);
    world.store.fingerprint();
    world
}

/// Removes the record under a key from its table, and from nowhere else.
fn lose(store: &mut Store, key: &str) {
    let table = store.view.table("t").unwrap();
    let record = table.records.get(key).unwrap();
    assert!(table.records.remove(&record).is_some());
}

#[test]
fn every_break_of_rule_4_is_named() {
    type Break = fn(&mut Store, AttachmentIndex);
    let breaks: [(&str, Break); 9] = [
        ("its record is missing", |store, _| lose(store, "a")),
        ("leads to the record of another number", |store, index| {
            let live = &mut store.attachments.get_mut(&index).unwrap().live;
            let of_three = live.get(3).unwrap().clone();
            live.insert(1, of_three);
        }),
        ("its key has another record", |store, index| {
            let table = store.view.table("t").unwrap();
            let identity = Identity {
                tag: &store.attachments[&index].tag.clone(),
                number: 1,
                time: 99,
                table: (table.place, "t"),
            };
            let other = Record::new(identity, "a", Some(b"other"), &mut Vec::new());
            table.records.offer(&other, |_| true);
        }),
        ("its record has another digest", |store, index| {
            let table = store.view.table("t").unwrap();
            let held = store.attachments.get_mut(&index).unwrap();
            let identity =
                Identity { tag: &held.tag.clone(), number: 1, time: 2, table: (table.place, "another") };
            let other = Record::new(identity, "a", Some(&[7; 3]), &mut Vec::new());
            table.records.offer(&other, |_| true);
            held.live.insert(1, other);
        }),
        ("is not in the version vector", |store, index| {
            store.attachments.get_mut(&index).unwrap().seen.remove(1);
        }),
        ("not accounted for", |store, index| {
            store.attachments.get_mut(&index).unwrap().accounted = Some(Box::default());
        }),
        ("both live and a tombstone", |store, index| {
            let held = store.attachments.get_mut(&index).unwrap();
            let (record, expires) = (held.live.get(1).unwrap().clone(), start());
            held.tombstones.insert(1, Tombstone { record, expires });
        }),
        ("changed, not the fingerprint", |store, index| {
            store.attachments.get_mut(&index).unwrap().see(7, 7);
        }),
        ("leads elsewhere", |store, index| {
            store.attachments.get_mut(&index).unwrap().live.remove(1);
        }),
    ];
    for (expected, spoil) in breaks {
        let mut world = three_keys();
        let index = world.writers[0].0;
        let table = world.store.view.table("t").unwrap();
        let check = |store: &Store| {
            store.check_around((index, 1))?;
            store.check_fingerprint(index)?;
            store.check_key(&table, "a")
        };
        assert_eq!((check(&world.store), world.store.recount()), (Ok(()), Ok(())));
        spoil(&mut world.store, index);
        let found = check(&world.store).unwrap_err();
        assert!(found.contains(expected), "{found:?} instead of {expected:?}");
        assert!(world.store.recount().is_err(), "a recount does not find that {expected}");
    }
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "its record is missing")]
fn a_lost_record_is_found_by_the_next_write_beside_it() {
    let mut world = three_keys();
    // The number of the delete is 4.
    lose(&mut world.store, "b");
    world.write(0, ("t", "d"), put(1), 0, &[]);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "number 1 was live, and not in the index")]
fn a_lost_index_entry_is_found_when_its_record_is_overwritten() {
    let mut world = three_keys();
    let (index, _) = world.writers[0];
    world.store.attachments.get_mut(&index).unwrap().live.remove(1);
    world.write(0, ("t", "a"), put(1), 0, &[(index, 1)]);
}
