//! The tables that `/watchtable` follows, as a watcher sees them.
//!
//! `/watchedtableentries` answers from what a watch delivered, never from the store: tools use it to check watches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tabledb::{Change, TableDb, Value, Watch, WatchEvent, WatchFilter};

use super::reply::ReplyWriter;

/// At most this many tables are followed at a time, a thread each.
pub const MAX_TABLES: usize = 64;

/// At most this many elements of a table are kept.
pub const MAX_ELEMENTS: usize = 1_000_000;

/// How soon a follower notices that it is no longer wanted.
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
    #[error("the system gave no thread to watch the table with: {0}")]
    NoThread(#[from] std::io::Error),
}

/// All followed tables of a node. Dropping it ends the followers and waits for them.
#[derive(Debug)]
pub struct Mirrors {
    db: TableDb,
    followed: Mutex<BTreeMap<String, Follower>>,
}

#[derive(Debug)]
struct Follower {
    mirror: Arc<Mutex<Mirror>>,
    unwanted: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Mirrors {
    /// Follows no table yet.
    pub fn new(db: TableDb) -> Self {
        Self { db, followed: Mutex::default() }
    }

    /// Follows `table` in all networks from now on; harmless if it is followed already.
    pub fn follow(&self, table: &str) -> Result<(), FollowError> {
        let mut followed = self.followed.lock();
        if followed.contains_key(table) {
            return Ok(());
        }
        if followed.len() >= MAX_TABLES {
            return Err(FollowError::TooMany);
        }
        let watch = self.db.watch(WatchFilter { table: Some(table.to_owned()), ..WatchFilter::default() });
        followed.insert(table.to_owned(), Follower::start(watch)?);
        Ok(())
    }

    /// Writes the elements of a followed table as text; `None` if it is not followed.
    pub fn writer(&self, table: &str) -> Option<ReplyWriter> {
        let mirror = self.followed.lock().get(table)?.mirror.clone();
        let elements = mirror.lock().clone();
        Some(elements.writer())
    }

    /// Ends all followers and waits for them; further calls to [`follow`](Self::follow) start anew.
    pub fn stop(&self) {
        let followers = std::mem::take(&mut *self.followed.lock());
        for follower in followers.values() {
            follower.unwanted.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Mirrors {
    /// Tells all followers first, so that they end side by side.
    fn drop(&mut self) {
        self.stop();
    }
}

impl Follower {
    fn start(mut watch: Watch) -> Result<Self, std::io::Error> {
        let mirror = Arc::new(Mutex::new(Mirror::default()));
        let unwanted = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("watched-table".into()).spawn({
            let (mirror, unwanted) = (mirror.clone(), unwanted.clone());
            move || {
                while !unwanted.load(Ordering::Relaxed) {
                    match watch.next_timeout(PAUSE) {
                        // What was seen last stays.
                        Some(WatchEvent::Closed) => break,
                        Some(event) => mirror.lock().apply(event),
                        None => {}
                    }
                }
            }
        })?;
        Ok(Self { mirror, unwanted, thread: Some(thread) })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.unwanted.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A follower that panicked has nothing left to end.
            let _ = thread.join();
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
