use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use tabledb::{ChangeKind, Config, Limits};
use wire::{NodeId, NodeName};

use super::*;

/// Timeout of what a test waits for.
const TIMEOUT: Duration = Duration::from_secs(20);

fn database(limits: Limits) -> TableDb {
    let id = NodeId::new(NodeName::new("n").unwrap(), 1);
    let db = TableDb::new(Config { limits, ..Config::new(id) }).unwrap();
    db.join_network("net").unwrap();
    db
}

/// Waits until `holds`, and shows what there is instead after a timeout.
#[track_caller]
fn until<T: std::fmt::Debug>(
    mut found: impl FnMut() -> T,
    holds: impl Fn(&T) -> bool,
) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let waiting = async {
            while !holds(&found()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(TIMEOUT, waiting).await.is_err() {
            panic!("{caller}: still {:?} after 20 s", found());
        }
    }
}

impl WatchedTables {
    /// The cache, as the task has made it: a client's call would bring it up to date.
    fn cached(&self, table: &str) -> String {
        let watched = self.state.lock().tables[table].clone();
        let watched = watched.lock();
        text(&watched.cache)
    }

    fn weak(&self) -> Vec<Weak<Mutex<WatchedTable>>> {
        self.state.lock().tables.values().map(Arc::downgrade).collect()
    }
}

fn change(network: &str, key: &str, value: Option<&[u8]>) -> Change {
    Change {
        kind: if value.is_some() { ChangeKind::Create } else { ChangeKind::Delete },
        network: network.into(),
        table: "t".into(),
        key: key.into(),
        value: value.map(Into::into),
        previous: None,
        version: None,
        owner: NodeName::new("n").unwrap(),
        reason: value.is_none().then_some(tabledb::DeleteReason::Deleted),
    }
}

fn text(cache: &TableCache) -> String {
    let (mut writer, mut text) = (cache.clone().writer(), Vec::new());
    while writer(&mut text) {}
    String::from_utf8(text).unwrap()
}

#[test]
fn changes_are_applied_in_order() {
    let mut cache = TableCache::default();
    assert_eq!(text(&cache), "total elements: 0\n");
    for (key, value) in
        [("b", Some(&b"1"[..])), ("a", Some(b"")), ("b", Some(b"2")), ("c", Some(b"3")), ("c", None)]
    {
        cache.apply(WatchEvent::Change(change("net", key, value)));
    }
    assert_eq!(text(&cache), "total elements: 2\n0) k:`a` -> v:``\n1) k:`b` -> v:`2`\n");
}

#[test]
fn a_key_of_two_networks_counts_twice() {
    let mut cache = TableCache::default();
    cache.apply(WatchEvent::Change(change("net1", "k", Some(b"1"))));
    cache.apply(WatchEvent::Change(change("net2", "k", Some(b"2"))));
    cache.apply(WatchEvent::Change(change("net1", "k", None)));
    assert_eq!(text(&cache), "total elements: 1\n0) k:`k` -> v:`2`\n");
}

#[test]
fn a_watcher_that_lagged_starts_afresh() {
    let mut cache = TableCache::default();
    cache.apply(WatchEvent::Change(change("net", "a", Some(b"1"))));
    cache.apply(WatchEvent::Lagged);
    cache.apply(WatchEvent::Change(change("net", "b", Some(b"2"))));
    assert_eq!(text(&cache), "total elements: 1\n0) k:`b` -> v:`2`\n");
}

#[test]
fn elements_beyond_the_limit_are_left_out_and_counted() {
    let mut cache = TableCache::default();
    for key in ["a", "b", "c"] {
        cache.apply_change(change("net", key, Some(b"1")), 2);
    }
    cache.apply_change(change("net", "a", Some(b"2")), 2);
    assert_eq!(
        text(&cache),
        "total elements: 2\n0) k:`a` -> v:`2`\n1) k:`b` -> v:`1`\n1 changes beyond 1000000 elements were \
         left out\n"
    );
}

#[tokio::test]
async fn a_cache_follows_its_table_without_a_client() {
    let db = database(Limits::default());
    db.create("net", "t", "before", *b"1").unwrap();
    let watched_tables = WatchedTables::new(db.clone(), Handle::current());
    watched_tables.watch("t").unwrap();
    until(|| watched_tables.cached("t"), |text| text == "total elements: 1\n0) k:`before` -> v:`1`\n").await;
    db.create("net", "t", "after", *b"2").unwrap();
    let both = "total elements: 2\n0) k:`after` -> v:`2`\n1) k:`before` -> v:`1`\n";
    until(|| watched_tables.cached("t"), |text| text == both).await;
}

#[tokio::test]
async fn a_cache_that_fell_behind_is_read_again() {
    let db = database(Limits { watch_queue: 2, ..Limits::default() });
    db.create("net", "t", "gone", *b"1").unwrap();
    let watched_tables = WatchedTables::new(db.clone(), Handle::current());
    watched_tables.watch("t").unwrap();
    until(|| watched_tables.cached("t"), |text| text.contains("k:`gone`")).await;
    let watched = watched_tables.state.lock().tables["t"].clone();
    {
        // Nothing is applied meanwhile.
        let _busy = watched.lock();
        for key in ["a", "b", "c"] {
            db.create("net", "t", key, *b"1").unwrap();
        }
        db.delete("net", "t", "gone").unwrap();
    }
    let left = "total elements: 3\n0) k:`a` -> v:`1`\n1) k:`b` -> v:`1`\n2) k:`c` -> v:`1`\n";
    until(|| watched_tables.cached("t"), |text| text == left).await;
    assert_eq!(db.counters().watchers_lagged, 1);
}

struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_quiet_table_wakes_nothing_and_a_change_wakes_its_task_once() {
    let db = database(Limits::default());
    db.create("net", "t", "before", *b"1").unwrap();
    let watch = db.watch(WatchFilter { table: Some("t".into()), ..WatchFilter::default() });
    let watched = Arc::new(Mutex::new(WatchedTable::new(watch)));
    let one_thread = Arc::new(Semaphore::new(1));
    let following = Mutex::new(Box::pin(follow(watched.clone(), one_thread.clone())));
    let counted = Arc::new(Counted(AtomicUsize::new(0)));
    let waker = Waker::from(counted.clone());
    let poll = || following.lock().as_mut().poll(&mut Context::from_waker(&waker));
    // When the thread is free after a poll, the task awaits the watch.
    let awaits_the_watch = || poll().is_pending() && one_thread.available_permits() == 1;
    let woken = || counted.0.load(Ordering::Relaxed);
    until(awaits_the_watch, |awaits| *awaits).await;
    let before = woken();
    for key in ["a", "b", "c"] {
        db.create("net", "other", key, *b"1").unwrap();
    }
    assert_eq!(woken() - before, 0, "by changes of another table");
    for key in ["a", "b", "c"] {
        db.create("net", "t", key, *b"1").unwrap();
    }
    assert_eq!(woken() - before, 1, "by changes of the table");
    until(awaits_the_watch, |awaits| *awaits).await;
    assert!(text(&watched.lock().cache).starts_with("total elements: 4\n"));
    let before = woken();
    db.end_watches();
    assert_eq!(woken() - before, 1, "by the end");
    until(|| poll().is_ready(), |ended| *ended).await;
    assert!(text(&watched.lock().cache).starts_with("total elements: 4\n"), "the last state");
}

#[tokio::test]
async fn tasks_end_with_the_database_and_with_their_owner() {
    let db = database(Limits::default());
    let watched_tables = WatchedTables::new(db.clone(), Handle::current());
    for table in ["a", "b", "c"] {
        watched_tables.watch(table).unwrap();
    }
    let weak = watched_tables.weak();
    let left = || weak.iter().filter(|watched| watched.strong_count() > 0).count();
    assert_eq!(left(), 3);
    drop(watched_tables);
    until(left, |left| *left == 0).await;

    let watched_tables = WatchedTables::new(db.clone(), Handle::current());
    watched_tables.watch("a").unwrap();
    db.end_watches();
    let mut tasks = std::mem::take(&mut watched_tables.state.lock().tasks);
    let ended = tokio::time::timeout(TIMEOUT, tasks.join_next()).await.expect("it runs after 20 s");
    assert!(ended.unwrap().is_ok());
}

#[cfg(target_os = "linux")]
#[test]
fn watched_tables_own_no_threads() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        // A thread that applied changes ends soon after.
        .thread_keep_alive(Duration::from_millis(10))
        .build()
        .unwrap();
    runtime.block_on(async {
        let db = database(Limits::default());
        let before = threads();
        let all =
            (0..MAX_TABLES).map(|_| WatchedTables::new(db.clone(), Handle::current())).collect::<Vec<_>>();
        for watched_tables in &all {
            watched_tables.watch("t").unwrap();
        }
        // Other tests have threads too, but not as many.
        until(threads, |count| *count < before + MAX_TABLES / 10).await;
        db.create("net", "t", "k", *b"1").unwrap();
        for watched_tables in &all {
            until(|| watched_tables.cached("t"), |text| text.starts_with("total elements: 1\n")).await;
        }
        until(threads, |count| *count < before + MAX_TABLES / 10).await;
    });
}
