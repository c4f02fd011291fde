//! The tables that `/watchtable` follows, as a watcher sees them.
//!
//! `/watchedtableentries` answers from what a watch delivered, never from the store: tools use it to check watches.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tabledb::{Change, TableDb, Value, Watch, WatchEvent, WatchFilter};

use super::reply::ReplyWriter;

/// At most this many tables are followed at a time.
pub const MAX_TABLES: usize = 1_024;

/// At most this many elements of a table are kept.
pub const MAX_ELEMENTS: usize = 1_000_000;

/// How often what the watches have queued is taken, though nobody asks: a queue that grows too long has to start anew.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a table is not followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// As many tables as allowed are followed.
    #[error(
        "{MAX_TABLES} tables are watched already, as many as may be; use /v1/watch, which ends with its caller"
    )]
    TooMany,
    /// The system gave no thread.
    #[error("the system gave no thread to watch tables with: {0}")]
    NoThread(#[from] std::io::Error),
}

/// All followed tables of a node. Dropping it ends the thread that follows them, and waits for it.
#[derive(Debug)]
pub struct Mirrors {
    db: TableDb,
    followed: Mutex<Followed>,
}

#[derive(Debug, Default)]
struct Followed {
    tables: BTreeMap<String, Arc<Mutex<Follower>>>,
    thread: Option<Thread>,
}

/// Takes what the watches have queued, every now and then. Dropping it ends it.
#[derive(Debug)]
struct Thread {
    /// Tells it of further tables; closed, it ends.
    more: Option<Sender<Weak<Mutex<Follower>>>>,
    handle: Option<JoinHandle<()>>,
}

/// A watch, and what it has delivered.
#[derive(Debug)]
struct Follower {
    watch: Watch,
    mirror: Mirror,
}

impl Mirrors {
    /// Follows no table yet.
    pub fn new(db: TableDb) -> Self {
        Self { db, followed: Mutex::default() }
    }

    /// Follows `table` in all networks from now on; harmless if it is followed already.
    pub fn follow(&self, table: &str) -> Result<(), FollowError> {
        let mut followed = self.followed.lock();
        if followed.tables.contains_key(table) {
            return Ok(());
        }
        if followed.tables.len() >= MAX_TABLES {
            return Err(FollowError::TooMany);
        }
        if followed.thread.is_none() {
            followed.thread = Some(Thread::start()?);
        }
        let watch = self.db.watch(WatchFilter { table: Some(table.to_owned()), ..WatchFilter::default() });
        let follower = Arc::new(Mutex::new(Follower { watch, mirror: Mirror::default() }));
        if let Some(more) = followed.thread.as_ref().and_then(|thread| thread.more.as_ref()) {
            // It lives for as long as this end does.
            let _ = more.send(Arc::downgrade(&follower));
        }
        followed.tables.insert(table.to_owned(), follower);
        Ok(())
    }

    /// Writes the elements of a followed table as text; `None` if it is not followed.
    pub fn writer(&self, table: &str) -> Option<ReplyWriter> {
        let follower = self.followed.lock().tables.get(table)?.clone();
        let mut follower = follower.lock();
        follower.take_queued();
        Some(follower.mirror.clone().writer())
    }

    /// Ends all watches; further calls to [`follow`](Self::follow) start anew.
    pub fn stop(&self) {
        drop(std::mem::take(&mut *self.followed.lock()));
    }
}

impl Drop for Mirrors {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Follower {
    fn take_queued(&mut self) {
        while let Some(event) = self.watch.try_next() {
            // What was seen last stays.
            if event == WatchEvent::Closed {
                break;
            }
            self.mirror.apply(event);
        }
    }
}

impl Thread {
    fn start() -> Result<Self, std::io::Error> {
        let (more, tables) = channel::<Weak<Mutex<Follower>>>();
        let run = move || {
            let mut followers = Vec::new();
            loop {
                match tables.recv_timeout(PAUSE) {
                    Ok(follower) => followers.push(follower),
                    Err(RecvTimeoutError::Timeout) => {
                        for follower in followers.iter().filter_map(Weak::upgrade) {
                            follower.lock().take_queued();
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
        };
        let handle = std::thread::Builder::new().name("watched-tables".into()).spawn(run)?;
        Ok(Self { more: Some(more), handle: Some(handle) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.more = None;
        if let Some(handle) = self.handle.take() {
            // One that panicked has nothing left to end.
            let _ = handle.join();
        }
    }
}

/// What a watch of one table delivered so far. Keys and values are shared with the store.
#[derive(Debug, Clone, Default)]
struct Mirror {
    elements: BTreeMap<(Arc<str>, Arc<str>), Value>,
    left_out: usize,
}

impl Mirror {
    fn apply(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Change(change) => self.apply_change(change, MAX_ELEMENTS),
            WatchEvent::Lagged => *self = Self::default(),
            WatchEvent::Closed => {}
        }
    }

    fn apply_change(&mut self, change: Change, most: usize) {
        let key = (change.key, change.network);
        match change.value {
            None => {
                self.elements.remove(&key);
            }
            Some(_) if self.elements.len() >= most && !self.elements.contains_key(&key) => {
                self.left_out += 1;
            }
            Some(value) => {
                self.elements.insert(key, value);
            }
        }
    }

    fn writer(self) -> ReplyWriter {
        let mut head = Some(format!("total elements: {}\n", self.elements.len()));
        let mut elements = self.elements.into_iter().enumerate();
        Box::new(move |piece| {
            if let Some(head) = head.take() {
                piece.extend_from_slice(head.as_bytes());
                return true;
            }
            if let Some((index, ((key, _network), value))) = elements.next() {
                piece.extend_from_slice(format!("{index}) k:`{key}` -> v:`").as_bytes());
                piece.extend_from_slice(&value);
                piece.extend_from_slice(b"`\n");
                return true;
            }
            if self.left_out > 0 {
                let note =
                    format!("{} changes beyond {MAX_ELEMENTS} elements were left out\n", self.left_out);
                piece.extend_from_slice(note.as_bytes());
            }
            false
        })
    }
}

#[cfg(test)]
mod tests {
    use tabledb::ChangeKind;
    use wire::NodeName;

    use super::*;

    fn change(network: &str, key: &str, value: Option<&[u8]>) -> Change {
        Change {
            kind: if value.is_some() { ChangeKind::Create } else { ChangeKind::Delete },
            network: network.into(),
            table: "t".into(),
            key: key.into(),
            value: value.map(Into::into),
            previous: None,
            owner: NodeName::new("n").unwrap(),
            reason: value.is_none().then_some(tabledb::DeleteReason::Deleted),
        }
    }

    fn text(mirror: &Mirror) -> String {
        let (mut writer, mut text) = (mirror.clone().writer(), Vec::new());
        while writer(&mut text) {}
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn changes_are_applied_in_order() {
        let mut mirror = Mirror::default();
        assert_eq!(text(&mirror), "total elements: 0\n");
        for (key, value) in
            [("b", Some(&b"1"[..])), ("a", Some(b"")), ("b", Some(b"2")), ("c", Some(b"3")), ("c", None)]
        {
            mirror.apply(WatchEvent::Change(change("net", key, value)));
        }
        assert_eq!(text(&mirror), "total elements: 2\n0) k:`a` -> v:``\n1) k:`b` -> v:`2`\n");
    }

    #[test]
    fn a_key_of_two_networks_counts_twice() {
        let mut mirror = Mirror::default();
        mirror.apply(WatchEvent::Change(change("net1", "k", Some(b"1"))));
        mirror.apply(WatchEvent::Change(change("net2", "k", Some(b"2"))));
        mirror.apply(WatchEvent::Change(change("net1", "k", None)));
        assert_eq!(text(&mirror), "total elements: 1\n0) k:`k` -> v:`2`\n");
    }

    #[test]
    fn a_watcher_that_lagged_starts_afresh() {
        let mut mirror = Mirror::default();
        mirror.apply(WatchEvent::Change(change("net", "a", Some(b"1"))));
        mirror.apply(WatchEvent::Lagged);
        mirror.apply(WatchEvent::Change(change("net", "b", Some(b"2"))));
        assert_eq!(text(&mirror), "total elements: 1\n0) k:`b` -> v:`2`\n");
    }

    #[test]
    fn what_is_beyond_the_bound_is_left_out_and_told() {
        let mut mirror = Mirror::default();
        for key in ["a", "b", "c"] {
            mirror.apply_change(change("net", key, Some(b"1")), 2);
        }
        mirror.apply_change(change("net", "a", Some(b"2")), 2);
        assert_eq!(
            text(&mirror),
            "total elements: 2\n0) k:`a` -> v:`2`\n1) k:`b` -> v:`1`\n1 changes beyond 1000000 elements were left out\n"
        );
    }
}
