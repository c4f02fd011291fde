//! The store compared with its lower bound: each operation next to the same one on a bare `DashMap` of the
//! same keys and values.
//!
//! `cargo bench -p tabledb --bench store` prints the times, then the ratios of the medians and the memory of
//! an entry.

use std::hint::black_box;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use dashmap::DashMap;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tabledb::{Config, NodeId, NodeName, SleepingWatches, TableDb, Watch, WatchFilter};

const ENTRIES: usize = 100_000;
const VALUE: [u8; 100] = [7; 100];

type Bare = DashMap<Arc<str>, Arc<[u8]>>;

fn key(n: usize) -> String {
    format!("k{n:09}")
}

fn database() -> TableDb {
    let tables = TableDb::new(Config::new(NodeId::new(NodeName::new("bench").unwrap(), 1))).unwrap();
    tables.join_network("net").unwrap();
    tables
}

fn filled(keys: &[String]) -> (TableDb, Bare) {
    let (tables, bare) = (database(), Bare::new());
    for key in keys {
        tables.create("net", "table", key, VALUE).unwrap();
        bare.insert(key.as_str().into(), VALUE.into());
    }
    (tables, bare)
}

fn writes(c: &mut Criterion, keys: &[String]) {
    let mut group = c.benchmark_group("create 100,000 entries");
    group.throughput(Throughput::Elements(ENTRIES as u64)).sample_size(20);
    group.bench_function("tabledb", |b| {
        b.iter_batched(
            database,
            |tables| {
                for key in keys {
                    tables.create("net", "table", key, VALUE).unwrap();
                }
                tables
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("bare DashMap", |b| {
        b.iter_batched(
            Bare::new,
            |bare| {
                for key in keys {
                    bare.insert(key.as_str().into(), VALUE.into());
                }
                bare
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();

    let mut group = c.benchmark_group("delete 100,000 entries");
    group.throughput(Throughput::Elements(ENTRIES as u64)).sample_size(20);
    group.bench_function("tabledb", |b| {
        b.iter_batched(
            || filled(keys).0,
            |tables| {
                for key in keys {
                    tables.delete("net", "table", key).unwrap();
                }
                tables
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("bare DashMap", |b| {
        b.iter_batched(
            || filled(keys).1,
            |bare| {
                for key in keys {
                    bare.remove(key.as_str());
                }
                bare
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();

    let (tables, bare) = filled(keys);
    let mut group = c.benchmark_group("update one of 100,000");
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    group.bench_function("tabledb", |b| {
        b.iter(|| tables.update("net", "table", &keys[rng.random_range(0..ENTRIES)], VALUE).unwrap());
    });
    group.bench_function("bare DashMap", |b| {
        b.iter(|| bare.insert(keys[rng.random_range(0..ENTRIES)].as_str().into(), VALUE.into()));
    });
    group.finish();
}

fn reads(c: &mut Criterion, keys: &[String]) {
    let (tables, bare) = filled(keys);
    for (threads, count) in [(1, 1_000), (1, ENTRIES), (2, 1_000), (2, ENTRIES)] {
        let keys = &keys[..count];
        let mut group = c.benchmark_group(format!("get one of {count}, {threads} thread(s)"));
        group.bench_function(BenchmarkId::from_parameter("tabledb, by reader"), |b| {
            b.iter_custom(|times| {
                on_threads(threads, times, keys, || {
                    let reader = tables.reader("net", "table");
                    move |key: &str| reader.get(key).is_some()
                })
            });
        });
        group.bench_function(BenchmarkId::from_parameter("tabledb, by name"), |b| {
            b.iter_custom(|times| {
                on_threads(threads, times, keys, || |key: &str| tables.get("net", "table", key).is_some())
            });
        });
        group.bench_function(BenchmarkId::from_parameter("bare DashMap"), |b| {
            b.iter_custom(|times| {
                on_threads(threads, times, keys, || |key: &str| bare.get(key).map(|v| v.clone()).is_some())
            });
        });
        group.finish();
    }
    let mut group = c.benchmark_group("walk 100,000");
    group.throughput(Throughput::Elements(ENTRIES as u64)).sample_size(20);
    group.bench_function("tabledb", |b| b.iter(|| tables.entries("net", "table").len()));
    group.bench_function("bare DashMap, sorted", |b| {
        b.iter(|| {
            let mut all: Vec<_> = bare.iter().map(|e| (e.key().clone(), e.value().clone())).collect();
            all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            all.len()
        });
    });
    group.finish();
}

/// Each thread makes `times` look-ups of random keys with a look-up of its own; the time is that of all threads
/// together.
fn on_threads<L: Fn(&str) -> bool>(
    threads: usize,
    times: u64,
    keys: &[String],
    look_up: impl Fn() -> L + Sync,
) -> Duration {
    let start = now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let look_up = &look_up;
            scope.spawn(move || {
                let (look_up, mut rng) = (look_up(), ChaCha8Rng::seed_from_u64(thread as u64));
                for _ in 0..times {
                    assert!(black_box(look_up(&keys[rng.random_range(0..keys.len())])));
                }
            });
        }
    });
    start.elapsed()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

/// Queueing: the time to create 10,000 entries on a node with members to send them to, none of which receives
/// anything.
fn queueing(c: &mut Criterion, keys: &[String]) {
    let mut group = c.benchmark_group("create with 10,000 queued");
    group.throughput(Throughput::Elements(10_000)).sample_size(20);
    group.bench_function("tabledb", |b| {
        b.iter_batched(
            || {
                let tables = database();
                let driver = tables.driver().unwrap();
                for at in 0..4 {
                    let instance = NodeId::new(NodeName::new(&format!("member-{at}")).unwrap(), 1);
                    driver.replica().handle_owner_alive(&instance, now());
                }
                tables
            },
            |tables| {
                for key in &keys[..10_000] {
                    tables.create("net", "table", key, VALUE).unwrap();
                }
                tables
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// From the memory of the process after filling, as the system reports it.
fn memory(keys: &[String]) {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
    };
    let before = resident();
    let tables = database();
    for key in keys {
        tables.create("net", "table", key, VALUE).unwrap();
    }
    let after_tables = resident();
    let bare = Bare::new();
    for key in keys {
        bare.insert(key.as_str().into(), VALUE.into());
    }
    let after_bare = resident();
    let each = |bytes: usize| bytes / keys.len();
    println!(
        "memory an entry (10 B key, 100 B value, {} entries): tabledb {} B, bare DashMap {} B",
        keys.len(),
        each(after_tables - before),
        each(after_bare - after_tables)
    );
    black_box((tables, bare));
}

/// Which watchers a create is measured with.
const WATCHED: [(&str, usize, &str); 4] = [
    ("no watcher", 0, "table"),
    ("one watcher of the table", 1, "table"),
    ("1,000 watchers of the table", 1_000, "table"),
    ("1,000 watchers of another table", 1_000, "other"),
];

/// A task that waits for a watch: its waker adds it to the tasks that are ready, as an executor does.
struct Task {
    number: usize,
    ready: Arc<Mutex<Vec<usize>>>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.ready.lock().unwrap().push(self.number);
    }
}

/// The cost of watchers to the one who writes: the median time of a create while all watchers sleep. What they do once
/// they are awake is not measured.
fn watched_writes(keys: &[String]) {
    let mut alone = None;
    for (name, count, table) in WATCHED {
        let tables = database();
        // Woken by another thread or task, as in a node.
        let (hand_over, handed_over) = mpsc::channel();
        tables.driver().unwrap().set_watch_notifier(move |watches| drop(hand_over.send(watches)));
        let ready = Arc::<Mutex<Vec<usize>>>::default();
        let filter = WatchFilter { table: Some(table.to_owned()), ..WatchFilter::default() };
        let mut watchers: Vec<(Watch, Waker)> = (0..count)
            .map(|number| {
                (tables.watch(filter.clone()), Arc::new(Task { number, ready: ready.clone() }).into())
            })
            .collect();
        let mut run = |tasks: &mut dyn Iterator<Item = usize>| {
            for number in tasks {
                let (watch, waker) = &mut watchers[number];
                while watch.poll_recv(&mut Context::from_waker(waker)).is_ready() {}
            }
        };
        run(&mut (0..count));
        let mut times = Vec::new();
        for key in &keys[..2_000] {
            let begin = now();
            tables.create("net", "table", key, VALUE).unwrap();
            times.push(begin.elapsed());
            handed_over.try_iter().for_each(drop::<SleepingWatches>);
            let woken = std::mem::take(&mut *ready.lock().unwrap());
            run(&mut woken.into_iter());
        }
        times.sort_unstable();
        let median = times[times.len() / 2].as_nanos() as f64 / 1e3;
        let alone = *alone.get_or_insert(median);
        println!("create with {name}: {median:.2} µs, {:.2} x", median / alone);
    }
}

fn main() {
    let many: Vec<String> = (0..1_000_000).map(key).collect();
    memory(&many);
    watched_writes(&many);
    let keys = &many[..ENTRIES];
    let mut c = Criterion::default().configure_from_args().measurement_time(Duration::from_secs(3));
    writes(&mut c, keys);
    queueing(&mut c, keys);
    reads(&mut c, keys);
    c.final_summary();
}
