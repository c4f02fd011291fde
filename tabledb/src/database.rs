//! The thread-safe handle that programs embed.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use wire::{NodeId, NodeName};

use crate::host_clock::{monotonic_now, wall_clock};
use crate::listing::FirstByKey;
use crate::replica::{NotResumed, Replica, Resumed, View};
use crate::resumable_watch::Progress;
use crate::shared::{ReplicaGuard, Shared};
use crate::{
    BatchError, ClockSkew, Config, ConfigError, Counters, Entry, HiddenReason, JoinError, Latencies,
    LeaveError, Listed, Listing, NetworkStatistics, Origin, ResetReason, ResumableWatch, ResumePoint,
    SleepingWatches, SyncProgress, TableReader, Version, Watch, WatchFilter, WatchStatistics, Write,
    WriteError,
};

/// Replicated per-network tables. Cloning copies a pointer; all clones are one database.
///
/// Reads use concurrent maps and never wait for the network or for a writer of another key. Writes take one
/// short lock. No thread, socket or async runtime is involved: by itself this is a local store; a node, or any
/// program that moves the bytes of its [`Driver`], replicates it.
///
/// # Examples
/// ```
/// use tabledb::{Config, NodeName, TableDb};
///
/// let tables = TableDb::new(Config::starting_now(NodeName::new("host-1")?))?;
/// tables.join_network("blue")?;
/// tables.create("blue", "services", "web", *b"10.0.0.7:80")?;
/// assert_eq!(tables.get("blue", "services", "web").unwrap().value(), b"10.0.0.7:80");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TableDb {
    shared: Arc<Shared>,
}

impl fmt::Debug for TableDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableDb").field("networks", &self.shared.views.len()).finish_non_exhaustive()
    }
}

/// Drives the replication of a database: moves the bytes of its replication state machine. A database has one
/// driver, see [`TableDb::driver`], so nobody else can touch the machine of a running node.
///
/// `examples/by_hand.rs` drives two databases in one process.
///
/// # Examples
/// ```
/// use tabledb::{Config, NodeName, TableDb};
///
/// let tables = TableDb::new(Config::starting_now(NodeName::new("host-1")?))?;
/// let driver = tables.driver().expect("nobody has taken it");
/// assert!(tables.driver().is_none());
/// let due = driver.replica().poll_timeout();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Driver(TableDb);

impl Driver {
    /// The replication state machine, locked until the guard is dropped. Reads and writes of the database wait
    /// for it meanwhile, but for reads of entries.
    pub fn replica(&self) -> ReplicaGuard<'_> {
        self.0.replica()
    }

    /// The database.
    pub fn tables(&self) -> &TableDb {
        &self.0
    }

    /// Sets a callback that runs, without a lock held, after a call on the database gave the replica
    /// something to send earlier than its last reported deadline. Can be set once; later calls have no
    /// effect.
    pub fn set_waker(&self, waker: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.shared.waker.set(Box::new(waker));
    }

    /// Sets a callback that has watches woken by another thread or task than the one that makes a change: it gets
    /// them, without a lock held, if more than eight sleep, so that a write costs the same for ten watchers and for ten
    /// thousand. Without it, the thread that makes the change wakes each of them.
    ///
    /// The callback returns at once. Its watches should be woken soon: until then they do not wake for later changes
    /// either. They wait at the latest until the [`SleepingWatches`] are dropped. Can be set once; later calls have no
    /// effect.
    pub fn set_watch_notifier(&self, notifier: impl Fn(SleepingWatches) + Send + Sync + 'static) {
        let _ = self.0.shared.watch_notifier.set(Box::new(notifier));
    }
}

impl TableDb {
    /// An empty database, starting now.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let wall_clock = wall_clock();
        Self::starting_at(
            config,
            Origin { now: monotonic_now(), wall_clock, seed: wall_clock.as_nanos() as u64 },
        )
    }

    /// An empty database that starts from given times and randomness. Calls that take no time of their own
    /// still use the machine's clock; a simulation goes through [`Self::driver`].
    pub fn starting_at(config: Config, origin: Origin) -> Result<Self, ConfigError> {
        let replica = Replica::new(config, origin)?;
        Ok(Self { shared: Shared::new(replica) })
    }

    /// The right to drive the replication: the first time. `None` later, and for the database of a node, which
    /// drives it itself.
    pub fn driver(&self) -> Option<Driver> {
        let taken = self.shared.driven.swap(true, Ordering::AcqRel);
        (!taken).then(|| Driver(self.clone()))
    }

    pub(crate) fn replica(&self) -> ReplicaGuard<'_> {
        self.shared.replica()
    }

    /// This node's current instance.
    pub fn node(&self) -> NodeId {
        self.replica().node().clone()
    }

    /// Joins a network. It can be used at once, even by a single node.
    pub fn join_network(&self, network: &str) -> Result<(), JoinError> {
        self.change(|replica, now| replica.join_network(network, now))
    }

    /// Leaves a network. From this call on, the network takes no writes. Its tables are dropped when the
    /// writes that only this node knew have reached other members, after a few seconds at the latest.
    pub fn leave_network(&self, network: &str) -> Result<(), LeaveError> {
        self.change(|replica, now| replica.leave_network(network, now))
    }

    /// The networks this node is on, sorted.
    pub fn networks(&self) -> Vec<String> {
        self.replica().networks()
    }

    /// The nodes on `network` that are alive, this one included, sorted; also for networks not joined here.
    pub fn network_peers(&self, network: &str) -> Vec<NodeName> {
        self.replica().network_peers(network)
    }

    /// Counts of a network; `None` if it is not joined here.
    pub fn statistics(&self, network: &str) -> Option<NetworkStatistics> {
        self.replica().statistics(network)
    }

    /// Counts of all watches.
    pub fn watch_statistics(&self) -> WatchStatistics {
        self.replica().watch_statistics()
    }

    /// What the replication has done since the database was made.
    pub fn counters(&self) -> Counters {
        self.replica().counters()
    }

    /// How long writes of other nodes and full syncs took since the database was made.
    pub fn latencies(&self) -> Latencies {
        self.replica().latencies().clone()
    }

    /// How far the initial syncs of the joined networks are. O(networks), and O(cluster) for each that is not
    /// synchronised and whose members have changed since the last call.
    pub fn sync_progress(&self) -> SyncProgress {
        self.replica().sync_progress()
    }

    /// How far the wall clocks of peers are from this node's.
    pub fn clock_skew(&self) -> ClockSkew {
        self.replica().clock_skew()
    }

    /// The tables of `network` with at least one visible entry, sorted.
    pub fn tables(&self, network: &str) -> Vec<String> {
        let tables = self.view(network).map(|view| view.visible_tables()).unwrap_or_default();
        tables.iter().map(|name| name.to_string()).collect()
    }

    /// Adds an entry; an error if the key is live. O(log n) in the number of this node's entries in the
    /// network.
    pub fn create(
        &self,
        network: &str,
        table: &str,
        key: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<Version, WriteError> {
        self.change(|replica, now| replica.create(network, table, key, value, now))
    }

    /// Replaces an entry, whichever node wrote it; an error if the key is not live. This node owns the entry
    /// afterwards.
    pub fn update(
        &self,
        network: &str,
        table: &str,
        key: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<Version, WriteError> {
        self.change(|replica, now| replica.update(network, table, key, value, now))
    }

    /// Adds an entry, or replaces it, whichever node wrote it. This node owns it afterwards.
    pub fn upsert(
        &self,
        network: &str,
        table: &str,
        key: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<Version, WriteError> {
        self.change(|replica, now| replica.upsert(network, table, key, value, now))
    }

    /// Replaces an entry; an error unless it still has the version `expected`.
    ///
    /// This protects the caller from all writes that this node knows: of its own threads, and of other nodes as
    /// soon as they have arrived. It is no consensus. Of two nodes that replace the same version at the same
    /// time both succeed, and the write with the later time stays, everywhere.
    ///
    /// # Examples
    /// ```
    /// # use tabledb::{Config, NodeName, TableDb, WriteError};
    /// # let tables = TableDb::new(Config::starting_now(NodeName::new("host-1")?))?;
    /// # tables.join_network("blue")?;
    /// tables.create("blue", "services", "web", "10.0.0.7:80")?;
    /// let seen = tables.get("blue", "services", "web").unwrap();
    /// let replaced = tables.compare_and_set("blue", "services", "web", seen.version(), "10.0.0.8:80")?;
    /// let late = tables.compare_and_set("blue", "services", "web", seen.version(), "too late");
    /// assert!(matches!(late, Err(WriteError::VersionMismatch { found, .. }) if found == Some(replaced)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compare_and_set(
        &self,
        network: &str,
        table: &str,
        key: &str,
        expected: Version,
        value: impl AsRef<[u8]>,
    ) -> Result<Version, WriteError> {
        self.change(|replica, now| replica.compare_and_set(network, table, key, expected, value, now))
    }

    /// Deletes an entry; an error unless it still has the version `expected`. Returns the version of the delete. What
    /// [`Self::compare_and_set`] says of other nodes holds here too.
    pub fn compare_and_delete(
        &self,
        network: &str,
        table: &str,
        key: &str,
        expected: Version,
    ) -> Result<Version, WriteError> {
        self.change(|replica, now| replica.compare_and_delete(network, table, key, expected, now))
    }

    /// Deletes an entry, whichever node wrote it; an error if the key is not live. Returns the version of the delete.
    pub fn delete(&self, network: &str, table: &str, key: &str) -> Result<Version, WriteError> {
        self.change(|replica, now| replica.delete(network, table, key, now))
    }

    /// Makes all of these writes in one step, or none of them; returns their versions. At most
    /// [`MAX_BATCH_WRITES`](crate::MAX_BATCH_WRITES), each to another entry; conditions and limits are checked as if
    /// they were made one after the other.
    ///
    /// One step here: no other write of this node comes between. A batch that fits into one datagram, about a
    /// kilobyte, travels in one, and is one step on each node that receives it. A longer one, and one that a
    /// node learns in a sync, arrives in pieces. A watch finds all changes of a step, or none. Readers of several entries can see some of them replaced and
    /// others not yet, on this node too: reads take no lock.
    ///
    /// # Examples
    /// ```
    /// # use tabledb::{BatchError, Config, NodeName, Operation, TableDb, Write};
    /// # let tables = TableDb::new(Config::starting_now(NodeName::new("host-1")?))?;
    /// # tables.join_network("blue")?;
    /// tables.create("blue", "addresses", "10.0.0.7", "web")?;
    /// let moved = [
    ///     Write { table: "addresses", key: "10.0.0.8", operation: Operation::Create(b"web") },
    ///     Write { table: "addresses", key: "10.0.0.7", operation: Operation::Delete },
    /// ];
    /// tables.write_batch("blue", &moved)?;
    /// let again = tables.write_batch("blue", &moved);
    /// assert!(matches!(again, Err(BatchError::Write { index: 0, .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_batch(&self, network: &str, batch: &[Write<'_>]) -> Result<Vec<Version>, BatchError> {
        self.change(|replica, now| replica.write_batch(network, batch, now))
    }

    /// The visible entry under `key`, if any.
    pub fn get(&self, network: &str, table: &str, key: &str) -> Option<Entry> {
        self.shared.views.get(network)?.get(table, key)
    }

    /// Reads many entries of one table, which need not exist yet.
    pub fn reader(&self, network: &str, table: &str) -> TableReader {
        TableReader::new(self.shared.clone(), network, table)
    }

    /// The visible entries of a table, sorted by key; none for a network not joined.
    pub fn entries(&self, network: &str, table: &str) -> Vec<Entry> {
        let table = self.shared.table(network, table);
        let mut entries = table.map(|table| table.entries()).unwrap_or_default();
        entries.sort_unstable_by(|a, b| a.key_bytes().cmp(b.key_bytes()));
        entries
    }

    /// The same for callers that may give up: calls `keep_going` before each entry, and returns `None` once
    /// it returns false.
    pub fn entries_while(
        &self,
        network: &str,
        table: &str,
        keep_going: impl FnMut() -> bool,
    ) -> Option<Vec<Entry>> {
        let Some(table) = self.shared.table(network, table) else {
            return Some(Vec::new());
        };
        let mut entries = table.entries_while(keep_going)?;
        entries.sort_unstable_by(|a, b| a.key_bytes().cmp(b.key_bytes()));
        Some(entries)
    }

    /// A part of a table, sorted by key, and whether there is more behind it; empty for a network that is not
    /// joined. O(n log n) in the entries of the table, whichever part it is. Calls `keep_going` before each
    /// entry, and returns `None` once it returns false.
    ///
    /// # Examples
    /// ```
    /// # use tabledb::{Config, Listing, NodeName, TableDb};
    /// # let tables = TableDb::new(Config::starting_now(NodeName::new("host-1")?))?;
    /// # tables.join_network("blue")?;
    /// for key in ["web/1", "web/2", "dns/1"] {
    ///     tables.create("blue", "services", key, "10.0.0.7:80")?;
    /// }
    /// let first = Listing { prefix: "web/", limit: 1.try_into().ok(), ..Listing::default() };
    /// let (part, more) = tables.list("blue", "services", first, || true).unwrap();
    /// assert_eq!((part[0].entry.key(), part.len(), more), ("web/1", 1, true));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list(
        &self,
        network: &str,
        table: &str,
        listing: Listing<'_>,
        keep_going: impl FnMut() -> bool,
    ) -> Option<(Vec<Listed>, bool)> {
        let Listing { prefix, after, limit, hidden } = listing;
        let hidden_owners = if hidden { self.replica().hidden_owners(network) } else { Vec::new() };
        let Some(table) = self.shared.table(network, table) else { return Some((Vec::new(), false)) };
        let reason = |entry: &Entry| {
            let found = hidden_owners.iter().find(|(owner, _)| owner == entry.owner());
            // It has been hidden since the owners were read.
            found.map_or(HiddenReason::OwnerFailed, |(_, reason)| *reason)
        };
        let wanted = |key: &[u8]| {
            key.starts_with(prefix.as_bytes()) && after.is_none_or(|after| key > after.as_bytes())
        };
        let limit = limit.map_or(usize::MAX, NonZeroUsize::get);
        let mut listed = FirstByKey::new(limit.saturating_add(1));
        table.walk_while(keep_going, |record| {
            let (key, is_visible) = (record.key_bytes(), record.is_visible());
            if wanted(key) && (is_visible || hidden && record.is_live()) && listed.may_be_among_them(key) {
                let entry = Entry::of(record);
                let hidden = (!is_visible).then(|| reason(&entry));
                listed.add(Listed { entry, hidden });
            }
        })?;
        let mut listed = listed.sorted();
        let more = listed.len() > limit;
        listed.truncate(limit);
        Some((listed, more))
    }

    /// The tables of `network` with at least one visible entry and the number of entries of each, sorted.
    /// Calls `keep_going` before each entry, and returns `None` once it returns false. No entry is copied.
    pub fn table_counts_while(
        &self,
        network: &str,
        mut keep_going: impl FnMut() -> bool,
    ) -> Option<Vec<(Arc<str>, usize)>> {
        let mut counts = Vec::new();
        for table in self.view(network).map(|view| view.tables()).unwrap_or_default() {
            let count = table.count_while(&mut keep_going)?;
            if count > 0 {
                counts.push((table.name.clone(), count));
            }
        }
        Some(counts)
    }

    /// Calls `visit` for each visible entry of a table, in no particular order, until it breaks. No lock is
    /// held meanwhile, so `visit` may use the database; it sees the table as it was when the walk began.
    pub fn walk(&self, network: &str, table: &str, mut visit: impl FnMut(&Entry) -> ControlFlow<()>) {
        let table = self.shared.table(network, table);
        for entry in table.map(|table| table.entries()).unwrap_or_default() {
            if visit(&entry).is_break() {
                return;
            }
        }
    }

    /// Watches changes: first a create for each visible entry, then each change.
    pub fn watch(&self, filter: WatchFilter) -> Watch {
        let (snapshot, cursor) = self.replica().watch(&filter);
        Watch::new(Arc::downgrade(&self.shared), filter, snapshot, cursor)
    }

    /// Keeps a history of the latest changes from now on, from which watches can be resumed; bounded like the log of the
    /// watchers with one filter ([`Limits::watch_queue`](crate::Limits::watch_queue),
    /// [`Limits::watch_bytes`](crate::Limits::watch_bytes)). The first resumable watch does the same.
    pub fn keep_history(&self) {
        self.replica().start_history();
    }

    /// Watches changes as [`Self::watch`], and can be resumed. Reads nothing yet. The first event has the caller start over
    /// if there is a reason.
    pub fn watch_resumable(&self, filter: WatchFilter, reset: Option<ResetReason>) -> ResumableWatch {
        let resumed = self.replica().watch_from_start(&filter);
        self.resumable(resumed, filter, reset)
    }

    /// Resumes a watch with the same filter at a point that this node issued, or another node that holds replicas of the
    /// same tables.
    ///
    /// On the node that issued it, every change since is returned, as long as it is kept. On another, and when it is not,
    /// what the caller has is compared with what this node has: the caller receives the difference, one change for each
    /// key, if this node can find out exactly what the caller has. Otherwise the watch starts over, with the reason.
    ///
    /// `None` if writes that the caller has seen have not arrived on this node: they will, so try again. Takes time in
    /// proportion to the entries of the watched networks, and gives up above 262,144.
    ///
    /// # Examples
    /// ```
    /// use tabledb::{Config, NodeName, ResumableEvent, ResumePoint, TableDb, WatchFilter};
    ///
    /// let tables = TableDb::new(Config::starting_now(NodeName::new("host-1")?))?;
    /// tables.join_network("blue")?;
    /// let mut watch = tables.watch_resumable(WatchFilter::default(), None);
    /// assert_eq!(watch.try_next(), Some(ResumableEvent::Synchronised { compared: false }));
    /// let kept = watch.point().to_bytes();
    /// drop(watch);
    /// tables.create("blue", "services", "web", "10.0.0.7:80")?;
    /// let mut watch = tables.resume(WatchFilter::default(), &ResumePoint::from_bytes(&kept)?).unwrap();
    /// assert!(matches!(watch.try_next(), Some(ResumableEvent::Change(change)) if &*change.key == "web"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume(&self, filter: WatchFilter, point: &ResumePoint) -> Option<ResumableWatch> {
        let resumed = self.replica().resume(&filter, point);
        match resumed {
            Ok(resumed) => Some(self.resumable(resumed, filter, None)),
            Err(NotResumed::Behind) => None,
            Err(NotResumed::Reset(reason)) => Some(self.watch_resumable(filter, Some(reason))),
        }
    }

    fn resumable(&self, resumed: Resumed, filter: WatchFilter, reset: Option<ResetReason>) -> ResumableWatch {
        let Resumed { from, history, changes, cursor } = resumed;
        let progress = Progress::new(from, history, &filter, reset);
        ResumableWatch::new(Watch::new(Arc::downgrade(&self.shared), filter, changes, cursor), progress)
    }

    /// Ends every watch. Each watcher receives the changes that already happened, then
    /// [`WatchEvent::Closed`](crate::WatchEvent::Closed). Called when the node ends: entries that disappear
    /// afterwards are not reported as deleted, and networks that are left afterwards stay readable in their
    /// last state until the process ends.
    pub fn end_watches(&self) {
        self.replica().end_watches();
    }

    fn view(&self, network: &str) -> Option<Arc<View>> {
        self.shared.views.get(network).map(|view| view.clone())
    }

    fn change<T>(&self, call: impl FnOnce(&mut Replica, Instant) -> T) -> T {
        let (result, wake) = {
            let mut replica = self.replica();
            let now = monotonic_now();
            if replica.wants_wall_clock(now) {
                replica.handle_wall_clock(wall_clock(), now);
            }
            let result = call(&mut replica, now);
            (result, replica.take_wake())
        };
        // Not under the lock: the waker is the caller's code.
        if wake && let Some(waker) = self.shared.waker.get() {
            waker();
        }
        result
    }
}
