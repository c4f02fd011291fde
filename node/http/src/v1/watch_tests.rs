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
        self.body_as(WatchForm::JsonLines, heartbeat)
    }

    fn body_as(&self, form: WatchForm, heartbeat: Duration) -> WatchBody {
        let permit = self.permits.take(Caller::Owner).unwrap();
        let watch = self.db.watch_resumable(WatchFilter::default(), None);
        let texts = Texts { form, cursors: Cursors::of(&ClusterName::default()) };
        WatchBody::start(watch, texts, permit, self.stop.subscribe(), heartbeat)
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

/// The next events, up to the one that `is_last` is true of.
async fn read(body: &mut WatchBody, mut is_last: impl FnMut(&WatchRecord) -> bool) -> Vec<WatchRecord> {
    let (mut text, mut records) = (Vec::new(), Vec::new());
    loop {
        text.extend_from_slice(&chunk(body).await.unwrap());
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            if line.len() > 1 {
                records.push(serde_json::from_slice(&line).unwrap());
            }
        }
        if records.last().is_some_and(&mut is_last) {
            return records;
        }
    }
}

fn is_synchronised(record: &WatchRecord) -> bool {
    matches!(record, WatchRecord::Synchronised { .. })
}

/// The kinds of events, with their keys.
fn kinds(records: &[WatchRecord]) -> Vec<String> {
    let kind = |record: &WatchRecord| match record {
        WatchRecord::Put(change) => format!("put {}", change.key),
        WatchRecord::Delete(change) => format!("delete {}", change.key),
        WatchRecord::Synchronised { compared, .. } => format!("synchronised {compared}"),
        WatchRecord::Reset { reason, .. } => format!("reset {reason}"),
        WatchRecord::Closing { .. } => "closing".to_owned(),
    };
    records.iter().map(kind).collect()
}

struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_filter_is_read_from_the_query() {
    let read = |query| {
        let given = Given::parse(query, WatchParameters::KNOWN)?;
        let WatchParameters { filter, cursor } = WatchParameters::read(&given)?;
        Ok::<_, Problem>((filter, cursor))
    };
    assert_eq!(read(""), Ok((WatchFilter::default(), None)));
    let filter = WatchFilter {
        network: Some("a/b".into()),
        table: Some("t".into()),
        prefix: "k".into(),
        owner: Some(NodeName::new("n1").unwrap()),
        exclude_own: true,
    };
    let all = "network=a%2Fb&table=t&prefix=k&owner=n1&exclude_own&cursor=c";
    assert_eq!(read(all), Ok((filter, Some("c".into()))));
    for wrong in ["netwrk=blue", "owner=", "exclude_own=perhaps"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

/// A parser of server-sent events, as browsers have it, reads the same.
#[tokio::test]
async fn server_sent_events_have_the_cursor_as_their_id() {
    let watched = Watched::new();
    watched.create("a", b"1\n2".to_vec());
    let mut body = watched.body_as(WatchForm::Events, Duration::from_millis(50));
    let mut all = String::new();
    while !all.ends_with("\n:\n\n") {
        all += &text(&mut body).await;
    }
    let mut events = all.split_terminator("\n\n");
    assert_eq!(events.next(), Some("retry: 1000"));
    for kind in ["put", "synchronised"] {
        let lines = events.next().unwrap().lines().collect::<Vec<_>>();
        let [id, event, data] = lines[..] else { panic!("{lines:?}") };
        assert_eq!(event, format!("event: {kind}"));
        let data: serde_json::Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((data["event"].as_str(), data["cursor"].as_str()), (Some(kind), id.strip_prefix("id: ")));
    }
    assert_eq!(events.next(), Some(":"));
}

/// The call that makes the change wakes the watch before it returns, so nothing looks at intervals.
#[tokio::test]
async fn a_change_and_a_shutdown_wake_the_watch_themselves() {
    let watched = Watched::new();
    watched.create("a", b"1".to_vec());
    let mut body = watched.body(HEARTBEAT_INTERVAL);
    assert_eq!(kinds(&read(&mut body, is_synchronised).await), ["put a", "synchronised false"]);
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
    assert!(text(&mut body).await.starts_with(r#"{"event":"closing","cursor":""#));
    assert_eq!(chunk(&mut body).await, None);
}

#[tokio::test]
async fn an_idle_watch_sends_empty_lines() {
    let watched = Watched::new();
    let mut body = watched.body(Duration::from_millis(5));
    assert_eq!(kinds(&read(&mut body, is_synchronised).await), ["synchronised false"]);
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
    let mut read_put = async || loop {
        while !lines.ends_with(b"}\n") {
            let chunk = chunk(&mut body).await.unwrap();
            assert!(chunk.len() <= MAX_CHUNK_BYTES, "{}", chunk.len());
            lines.extend_from_slice(&chunk);
        }
        let last = std::mem::take(&mut lines);
        let records = last.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        for record in records.map(|line| serde_json::from_slice::<WatchRecord>(line).unwrap()) {
            if let WatchRecord::Put(change) = record {
                return change;
            }
        }
    };
    let first = read_put().await;
    watched.db.update("net", "t", "a", vec![1; LONG]).unwrap();
    let second = read_put().await;
    assert!(first.value.is_some_and(|value| value == "\0".repeat(LONG)));
    assert!(second.value.is_some_and(|value| value == "\u{1}".repeat(LONG)));
    assert!(second.previous.is_some_and(|value| value == "\0".repeat(LONG)));
}

#[tokio::test]
async fn a_watch_that_lags_starts_over() {
    let watched = Watched::with(Limits { watch_queue: 2, ..Limits::default() });
    watched.create("a", b"1".to_vec());
    let mut body = watched.body(HEARTBEAT_INTERVAL);
    read(&mut body, is_synchronised).await;
    // Until it has no more to read, it does not need the queue.
    assert!(body.poll_chunk(&mut Context::from_waker(Waker::noop())).is_pending());
    for key in ["b", "c", "d"] {
        watched.create(key, b"1".to_vec());
    }
    let records = kinds(&read(&mut body, is_synchronised).await);
    assert_eq!(records, ["reset too_far_behind", "put a", "put b", "put c", "put d", "synchronised false"]);
}

/// A search through a large table would delay all other tasks of the runtime's thread.
#[test]
fn the_snapshot_after_a_lag_is_read_on_a_blocking_thread() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(1).build().unwrap().block_on(async {
        let watched = Watched::with(Limits { watch_queue: 2, ..Limits::default() });
        watched.create("a", b"1".to_vec());
        let mut body = watched.body(HEARTBEAT_INTERVAL);
        read(&mut body, is_synchronised).await;
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
        let records = kinds(&read(&mut body, is_synchronised).await);
        assert_eq!(records[..2], ["reset too_far_behind", "put a"]);
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
