//! The watched-table cache: the tables of `/watchtable`, as a watch delivers them.
//!
//! `/watchedtableentries` reads this cache and never the store: tools use it to check watches.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tabledb::{Change, TableDb, Value, Watch, WatchEvent, WatchFilter};

use super::reply::ReplyWriter;

/// The most watched tables.
pub const MAX_TABLES: usize = 1_024;

/// The most cache elements of a table.
pub const MAX_ELEMENTS: usize = 1_000_000;

/// The interval at which the queues of all watches are drained: a watch whose queue overflows has to start
/// anew.
const DRAIN_INTERVAL: Duration = Duration::from_millis(200);

/// Why a table is not watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchTableError {
    /// The limit of watched tables is reached.
    #[error(
        "{MAX_TABLES} tables are watched already, which is the limit; use /v1/watch, which ends with its \
         client"
    )]
    TooMany,
    /// The system refused a thread.
    #[error("the system refused a thread to watch tables: {0}")]
    NoThread(#[from] std::io::Error),
}

/// All watched tables of a node. Dropping it ends the thread that drains their watches, and waits for it.
#[derive(Debug)]
pub struct WatchedTables {
    db: TableDb,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<String, Arc<Mutex<WatchedTable>>>,
    thread: Option<Thread>,
}

/// The thread that drains the watches at an interval. Dropping this ends it.
#[derive(Debug)]
struct Thread {
    /// Sends further tables to the thread, which ends when this closes.
    sender: Option<Sender<Weak<Mutex<WatchedTable>>>>,
    handle: Option<JoinHandle<()>>,
}

/// A watch, and the cache of what it delivered.
#[derive(Debug)]
struct WatchedTable {
    watch: Watch,
    cache: TableCache,
}

impl WatchedTables {
    /// No table is watched yet.
    pub fn new(db: TableDb) -> Self {
        Self { db, state: Mutex::default() }
    }

    /// Watches `table` in all networks from now on. Has no effect if it is watched already.
    pub fn watch(&self, table: &str) -> Result<(), WatchTableError> {
        let mut state = self.state.lock();
        if state.tables.contains_key(table) {
            return Ok(());
        }
        if state.tables.len() >= MAX_TABLES {
            return Err(WatchTableError::TooMany);
        }
        if state.thread.is_none() {
            state.thread = Some(Thread::start()?);
        }
        let watch = self.db.watch(WatchFilter { table: Some(table.to_owned()), ..WatchFilter::default() });
        let watched = Arc::new(Mutex::new(WatchedTable { watch, cache: TableCache::default() }));
        if let Some(sender) = state.thread.as_ref().and_then(|thread| thread.sender.as_ref()) {
            // The thread runs for as long as the sender exists.
            let _ = sender.send(Arc::downgrade(&watched));
        }
        state.tables.insert(table.to_owned(), watched);
        Ok(())
    }

    /// Writes the elements of a watched table as text; `None` if it is not watched.
    pub fn writer(&self, table: &str) -> Option<ReplyWriter> {
        let watched = self.state.lock().tables.get(table)?.clone();
        let mut watched = watched.lock();
        watched.take_queued();
        Some(watched.cache.clone().writer())
    }

    /// Ends all watches; further calls to [`watch`](Self::watch) start anew.
    pub fn stop(&self) {
        drop(std::mem::take(&mut *self.state.lock()));
    }
}

impl Drop for WatchedTables {
    fn drop(&mut self) {
        self.stop();
    }
}

impl WatchedTable {
    fn take_queued(&mut self) {
        while let Some(event) = self.watch.try_next() {
            // The cache keeps the last state.
            if event == WatchEvent::Closed {
                break;
            }
            self.cache.apply(event);
        }
    }
}

impl Thread {
    fn start() -> Result<Self, std::io::Error> {
        let (sender, receiver) = channel::<Weak<Mutex<WatchedTable>>>();
        let run = move || {
            let mut tables = Vec::new();
            loop {
                match receiver.recv_timeout(DRAIN_INTERVAL) {
                    Ok(watched) => tables.push(watched),
                    Err(RecvTimeoutError::Timeout) => {
                        for watched in tables.iter().filter_map(Weak::upgrade) {
                            watched.lock().take_queued();
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
        };
        let handle = std::thread::Builder::new().name("watched-tables".into()).spawn(run)?;
        Ok(Self { sender: Some(sender), handle: Some(handle) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(handle) = self.handle.take() {
            // An error means that the thread panicked, so it has ended too.
            let _ = handle.join();
        }
    }
}

/// The cache of one table. Keys and values are shared with the store.
#[derive(Debug, Clone, Default)]
struct TableCache {
    elements: BTreeMap<(Arc<str>, Arc<str>), Value>,
    left_out: usize,
}

impl TableCache {
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
}
