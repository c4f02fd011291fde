//! The watched-table cache: the tables of `/watchtable`, as a watch delivers them.
//!
//! `/watchedtableentries` reads this cache and never the store: tools use it to check watches.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tabledb::{Change, TableDb, Value, Watch, WatchEvent, WatchFilter};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};

use super::reply::ReplyWriter;

/// The most watched tables.
pub const MAX_TABLES: usize = 1_024;

/// The most cache elements of a table.
pub const MAX_ELEMENTS: usize = 1_000_000;

/// The most events that a thread applies before another table has its turn, or the task its end.
const MAX_EVENTS_IN_A_TURN: usize = 10_000;

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
}

/// All watched tables of a node. A task for each awaits its watch; the tasks end with the database, or when
/// this is dropped.
///
/// What was awaited is applied by a thread that may block, one for all tables: it can be the search through a
/// large table.
#[derive(Debug)]
pub struct WatchedTables {
    db: TableDb,
    runtime: Handle,
    state: Mutex<State>,
    /// Who holds its permit may use the thread.
    one_thread: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<String, Arc<Mutex<WatchedTable>>>,
    tasks: JoinSet<()>,
}

/// A watch, and the cache of what it delivered.
#[derive(Debug)]
struct WatchedTable {
    watch: Watch,
    /// The event that the task awaited. It comes before all that the watch delivers later.
    awaited: Option<WatchEvent>,
    cache: TableCache,
}

impl WatchedTables {
    /// No table is watched yet. The tasks run on `runtime`.
    pub fn new(db: TableDb, runtime: Handle) -> Self {
        Self { db, runtime, state: Mutex::default(), one_thread: Arc::new(Semaphore::new(1)) }
    }

    /// Watches `table` in all networks from now on. Has no effect if it is watched already. May block: it
    /// reads the beginning of the table.
    pub fn watch(&self, table: &str) -> Result<(), WatchTableError> {
        let mut state = self.state.lock();
        if state.tables.contains_key(table) {
            return Ok(());
        }
        if state.tables.len() >= MAX_TABLES {
            return Err(WatchTableError::TooMany);
        }
        let watch = self.db.watch(WatchFilter { table: Some(table.to_owned()), ..WatchFilter::default() });
        let watched = Arc::new(Mutex::new(WatchedTable::new(watch)));
        state.tasks.spawn_on(follow(watched.clone(), self.one_thread.clone()), &self.runtime);
        state.tables.insert(table.to_owned(), watched);
        Ok(())
    }

    /// Writes the elements of a watched table as text; `None` if it is not watched. May block.
    pub fn writer(&self, table: &str) -> Option<ReplyWriter> {
        let watched = self.state.lock().tables.get(table)?.clone();
        let mut watched = watched.lock();
        while watched.apply(MAX_EVENTS_IN_A_TURN) == Applied::Some {}
        Some(watched.cache.clone().writer())
    }
}

/// Keeps a cache current until the database ends.
async fn follow(watched: Arc<Mutex<WatchedTable>>, one_thread: Arc<Semaphore>) {
    loop {
        let Ok(permit) = one_thread.acquire().await else { return };
        let table = watched.clone();
        let applying = spawn_blocking(move || table.lock().apply(MAX_EVENTS_IN_A_TURN));
        match applying.await {
            Ok(Applied::Some) => continue,
            Ok(Applied::All) => {}
            Ok(Applied::Last) | Err(_) => return,
        }
        drop(permit);
        poll_fn(|context| match watched.try_lock() {
            Some(mut watched) => watched.poll_event(context),
            // A client reads the cache, and may take the event. The thread waits for it, not the task.
            None => Poll::Ready(()),
        })
        .await;
    }
}

/// How many of the events were applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Applied {
    /// There may be more.
    Some,
    /// All that there are now.
    All,
    /// All that there ever are: the database has ended. The cache keeps the last state.
    Last,
}

impl WatchedTable {
    fn new(watch: Watch) -> Self {
        Self { watch, awaited: None, cache: TableCache::default() }
    }

    /// Waits for an event. To be called when all events have been applied: it never reads the store.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.awaited.is_none() {
            self.awaited = Some(ready!(self.watch.poll_recv(context)));
        }
        Poll::Ready(())
    }

    /// Applies at most `most` events. May block.
    fn apply(&mut self, most: usize) -> Applied {
        for _ in 0..most {
            match self.awaited.take().or_else(|| self.watch.try_next()) {
                None => return Applied::All,
                Some(WatchEvent::Closed) => return Applied::Last,
                Some(event) => self.cache.apply(event),
            }
        }
        Applied::Some
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
        // A copy: the key of a change holds the whole entry, also after it is replaced.
        let key = (Arc::from(&*change.key), change.network);
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
#[path = "watched_tables_tests.rs"]
mod tests;
