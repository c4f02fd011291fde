use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use http_body_util::BodyExt as _;
use tabledb::{Config, Limits};
use tokio::sync::watch::{Sender, channel};
use wire::{NodeId, NodeName};

use super::super::model::WatchRecord;
use super::*;
use crate::permits::{Caller, Permits};

/// Timeout of what a test waits for.
const TIMEOUT: Duration = Duration::from_secs(20);

struct Watched {
    db: TableDb,
    stop: Sender<bool>,
    permits: Arc<Permits>,
}

impl Watched {
    fn with(limits: Limits) -> Self {
        let id = NodeId::new(NodeName::new("n1").unwrap(), 1);
        let db = TableDb::new(Config { limits, ..Config::new(id) }).unwrap();
        db.join_network("net").unwrap();
        Self { db, stop: channel(false).0, permits: Permits::new(1, 1) }
    }

    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn body(&self, heartbeat: Duration) -> WatchBody {
        let permit = self.permits.take(Caller::Owner).unwrap();
        WatchBody::start(self.db.clone(), WatchFilter::default(), permit, self.stop.subscribe(), heartbeat)
    }

    fn create(&self, key: &str, value: Vec<u8>) {
        self.db.create("net", "t", key, value).unwrap();
    }
}

async fn chunk(body: &mut WatchBody) -> Option<Bytes> {
    let frame = tokio::time::timeout(TIMEOUT, body.frame()).await.expect("no chunk after 20 s");
    frame.map(|frame| frame.unwrap().into_data().unwrap())
}

async fn text(body: &mut WatchBody) -> String {
    String::from_utf8(chunk(body).await.unwrap().into()).unwrap()
}

struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_filter_is_read_from_the_query() {
    let filter = |query| {
        let given = Given::parse(query, WatchParameters::KNOWN)?;
        let WatchParameters { network, table, exclude_own } = WatchParameters::read(&given)?;
        Ok::<_, Problem>((network, table, exclude_own))
    };
    assert_eq!(filter(""), Ok((None, None, false)));
    let read = filter("network=a%2Fb&table=t&exclude_own");
    assert_eq!(read, Ok((Some("a/b".into()), Some("t".into()), true)));
    assert!(filter("netwrk=blue").is_err());
}

/// The call that makes the change wakes the watch before it returns, so nothing looks at intervals.
#[tokio::test]
async fn a_change_and_a_shutdown_wake_the_watch_themselves() {
    let watched = Watched::new();
    let mut body = watched.body(HEARTBEAT_INTERVAL);
    watched.create("a", b"1".to_vec());
    assert!(text(&mut body).await.contains(r#""key":"a""#));
    let woken = Arc::new(Counted(AtomicUsize::new(0)));
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    assert!(body.poll_chunk(&mut context).is_pending());
    watched.create("b", b"2".to_vec());
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert!(text(&mut body).await.contains(r#""key":"b""#));
    assert!(body.poll_chunk(&mut context).is_pending());
    watched.stop.send_replace(true);
    assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    assert_eq!(text(&mut body).await, "{\"event\":\"closed\"}\n");
    assert_eq!(chunk(&mut body).await, None);
}

#[tokio::test]
async fn an_idle_watch_sends_empty_lines() {
    let watched = Watched::new();
    let mut body = watched.body(Duration::from_millis(5));
    for _ in 0..3 {
        assert_eq!(text(&mut body).await, "\n");
    }
    watched.create("a", b"1".to_vec());
    while text(&mut body).await == "\n" {}
    assert_eq!(text(&mut body).await, "\n");
}

/// In JSON each line has more than a megabyte.
#[tokio::test]
async fn an_event_beyond_the_bound_is_sent_in_chunks_within_it() {
    const LONG: usize = 256 << 10;
    let watched = Watched::new();
    watched.create("a", vec![0; LONG]);
    let mut body = watched.body(HEARTBEAT_INTERVAL);
    let mut lines = Vec::new();
    let mut read_line = async || {
        while !lines.ends_with(b"}\n") {
            let chunk = chunk(&mut body).await.unwrap();
            assert!(chunk.len() <= MAX_CHUNK_BYTES, "{}", chunk.len());
            lines.extend_from_slice(&chunk);
        }
        serde_json::from_slice::<WatchRecord>(&std::mem::take(&mut lines)).unwrap().change.unwrap()
    };
    let first = read_line().await;
    watched.db.update("net", "t", "a", vec![1; LONG]).unwrap();
    let second = read_line().await;
    assert!(first.value.is_some_and(|value| value == "\0".repeat(LONG)));
    assert!(second.value.is_some_and(|value| value == "\u{1}".repeat(LONG)));
    assert!(second.previous.is_some_and(|value| value == "\0".repeat(LONG)));
}

#[tokio::test]
async fn a_watch_that_lags_starts_over() {
    let watched = Watched::with(Limits { watch_queue: 2, ..Limits::default() });
    let mut body = watched.body(HEARTBEAT_INTERVAL);
    watched.create("a", b"1".to_vec());
    assert!(text(&mut body).await.contains(r#""key":"a""#));
    // Until it has no more to read, it does not need the queue.
    assert!(body.poll_chunk(&mut Context::from_waker(Waker::noop())).is_pending());
    for key in ["b", "c", "d"] {
        watched.create(key, b"1".to_vec());
    }
    let mut lines = String::new();
    while lines.lines().count() < 5 {
        lines += &text(&mut body).await;
    }
    let keys = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let keys =
        keys.map(|line| line.get("key").map_or("lagged".to_owned(), |key| key.as_str().unwrap().to_owned()));
    assert_eq!(keys.collect::<Vec<_>>(), ["lagged", "a", "b", "c", "d"]);
}

/// A search through a large table would delay all other tasks of the runtime's thread.
#[test]
fn the_snapshot_after_a_lag_is_read_on_a_blocking_thread() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(1).build().unwrap().block_on(async {
        let watched = Watched::with(Limits { watch_queue: 2, ..Limits::default() });
        let mut body = watched.body(HEARTBEAT_INTERVAL);
        watched.create("a", b"1".to_vec());
        assert!(text(&mut body).await.contains(r#""key":"a""#));
        let mut context = Context::from_waker(Waker::noop());
        assert!(body.poll_chunk(&mut context).is_pending());
        for key in ["b", "c", "d"] {
            watched.create(key, b"1".to_vec());
        }
        let (release, released) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || released.recv());
        for _ in 0..3 {
            assert!(body.poll_chunk(&mut context).is_pending(), "read while the blocking thread is busy");
        }
        drop(release);
        assert!(busy.await.unwrap().is_err());
        let lines = text(&mut body).await;
        assert!(lines.starts_with("{\"event\":\"lagged\"}\n{\"event\":\"create\""), "{lines}");
    });
}

#[tokio::test]
async fn a_watch_ends_with_its_body_and_releases_its_permit() {
    let watched = Watched::new();
    watched.create("a", b"1".to_vec());
    let mut body = watched.body(HEARTBEAT_INTERVAL);
    text(&mut body).await;
    assert!(watched.permits.take(Caller::Owner).is_none());
    drop(body);
    assert!(watched.permits.take(Caller::Owner).is_some());
}

/// The threads of this process.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[cfg(target_os = "linux")]
#[test]
fn a_thousand_quiet_watches_own_no_threads() {
    const WATCHES: usize = 1000;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        // Threads that read snapshots end soon after them.
        .thread_keep_alive(Duration::from_millis(10))
        .build()
        .unwrap();
    runtime.block_on(async {
        let watched = Watched { permits: Permits::new(WATCHES, WATCHES), ..Watched::new() };
        watched.create("before", b"1".to_vec());
        let before = threads();
        let mut bodies = (0..WATCHES).map(|_| watched.body(HEARTBEAT_INTERVAL)).collect::<Vec<_>>();
        for body in &mut bodies {
            assert!(text(body).await.contains(r#""key":"before""#));
            assert!(body.poll_chunk(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        // Other tests have threads too, but not as many.
        let few = tokio::time::timeout(TIMEOUT, async {
            while threads() > before + WATCHES / 10 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(few.await.is_ok(), "{before} threads before {WATCHES} watches, {} with them", threads());
        watched.create("after", b"2".to_vec());
        for body in &mut bodies {
            assert!(text(body).await.contains(r#""key":"after""#));
        }
    });
}
