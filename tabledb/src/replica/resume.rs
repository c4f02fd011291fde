//! Resuming a watch: what has changed for a caller since it received something, here or on another node.
//!
//! On the node that issued the point, every change since is in the history, or the history no longer reaches back.
//! Elsewhere this node looks for the caller's table among what it holds and what it held a moment ago: the entries whose
//! writes are behind the caller, and, from the history, those that were replaced or removed by a write that is not. A
//! digest of the versions of the caller's entries, for each attachment, proves that the table is the right one. Then the
//! difference to the present table is what the caller has not seen; nothing depends on how writes travelled.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use rand::RngExt;

use super::Replica;
use super::network::Network;
use super::resume_point::{ReceivedContext, ResumePoint, ResumedFrom};
use super::watch_cursor::{Present, WatchCursor};
use super::watch_log::{LogLimits, weight};
use crate::change::{Cause, RecordedChange, Skipped, WriteId};
use crate::record::Record;
use crate::{Change, ChangeKind, DeleteReason, Entry, Key, ResetReason, Value, WatchFilter};

/// The most entries that are compared with what a caller has, under the lock of the replica.
const MAX_COMPARED: usize = 1 << 18;

/// How a watch starts.
#[derive(Debug)]
pub(crate) struct Resumed {
    /// What the caller has received already; `None` if it starts over, with a snapshot.
    pub(crate) from: Option<ResumedFrom>,
    /// The id of the history.
    pub(crate) history: u64,
    /// What comes before the events of the cursor.
    pub(crate) changes: VecDeque<RecordedChange>,
    pub(crate) cursor: WatchCursor,
}

/// Why a watch cannot be resumed here and now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotResumed {
    /// Writes that the caller has seen have not arrived here yet.
    Behind,
    /// It has to start over.
    Reset(ResetReason),
}

/// Network, table and key.
type Place = (Arc<str>, Arc<str>, Key);

/// An entry that the caller has, as far as this node can tell.
#[derive(Debug)]
enum Held {
    /// It is in the store, shown or hidden.
    Stored { network: Arc<str>, record: Record },
    /// It was replaced or removed.
    Gone {
        write: WriteId,
        /// By this change.
        by: Arc<RecordedChange>,
        /// The latest change of its key.
        latest: Arc<RecordedChange>,
        /// Whether it was an entry for certain, and not a delete.
        is_certain: bool,
    },
}

impl Held {
    fn write(&self) -> WriteId {
        match self {
            Self::Stored { record, .. } => record.version().into(),
            Self::Gone { write, .. } => *write,
        }
    }
}

impl Replica {
    /// Keeps a history of changes from now on, from which watches can be resumed. Returns its id.
    pub(crate) fn start_history(&mut self) -> u64 {
        let rng = &mut self.node.rng;
        self.node.watchers.start_history(|| rng.random())
    }

    /// Starts a resumable watch with a snapshot.
    pub(crate) fn watch_from_start(&mut self, filter: &WatchFilter) -> Resumed {
        let history = self.start_history();
        let cursor = WatchCursor::new(self.node.watchers.log_for(filter), true);
        Resumed { from: None, history, changes: VecDeque::new(), cursor }
    }

    /// Resumes a watch.
    pub(crate) fn resume(
        &mut self,
        filter: &WatchFilter,
        point: &ResumePoint,
    ) -> Result<Resumed, NotResumed> {
        if point.filter != filter.digest() {
            return Err(NotResumed::Reset(ResetReason::OtherFilter));
        }
        if !point.complete {
            return Err(NotResumed::Reset(ResetReason::Incomplete));
        }
        let id = self.start_history();
        let history = self.node.watchers.history();
        let position = point.place.filter(|(of, _)| *of == id).map(|(_, position)| position);
        if let Some(position) = position.filter(|position| history.reaches_back_to(*position)) {
            let mut cursor = WatchCursor::new(self.node.watchers.log_for(filter), true);
            cursor.replay_from(position);
            let from = ResumedFrom { context: point.context.clone(), position: Some(position) };
            return Ok(Resumed { from: Some(from), history: id, changes: VecDeque::new(), cursor });
        }
        let too_late = match position {
            Some(_) => ResetReason::TooFarBehind,
            None => ResetReason::UnknownCursor,
        };
        let Some(context) = &point.context else {
            let reason = if position.is_some() { too_late } else { ResetReason::TooManyOwners };
            return Err(NotResumed::Reset(reason));
        };
        if filter.exclude_own && position.is_none() {
            // The issuing node's own entries are left out there, and this node's here.
            return Err(NotResumed::Reset(ResetReason::OtherFilter));
        }
        let changes = self.difference(filter, context).map_err(|why| match why {
            NotResumed::Reset(ResetReason::UnknownCursor) => NotResumed::Reset(too_late),
            why => why,
        })?;
        let present = self.present(filter, true);
        let mut cursor = WatchCursor::new(self.node.watchers.log_for(filter), true);
        cursor.follow_from_now(present);
        let from = ResumedFrom { context: Some(context.clone()), position: None };
        Ok(Resumed { from: Some(from), history: id, changes, cursor })
    }

    /// The end of the past, for a watcher with this filter.
    pub(super) fn present(&self, filter: &WatchFilter, with_seen: bool) -> Present {
        let mut compared = self.watched(filter).map(Network::is_synced).peekable();
        let compared = compared.peek().is_some() && compared.all(|is_synced| is_synced);
        let history = self.node.watchers.history();
        let seen = || {
            let attachments = self.watched(filter).flat_map(|network| network.store.attachments());
            let attachments = attachments.map(|(_, held)| (held.tag.digest, held.seen().clone()));
            // First: one that returned has begun anew.
            let ended = history.ended().filter(|(network, ..)| filter.wants_network(network));
            let ended = ended.map(|(_, writer, seen)| (*writer, seen.clone()));
            ended.chain(attachments).collect()
        };
        let position = history.end();
        Present { compared, position, seen: with_seen.then(seen) }
    }

    fn watched<'a>(&'a self, filter: &'a WatchFilter) -> impl Iterator<Item = &'a Network> {
        self.networks.iter().flatten().filter(|network| filter.wants_network(&network.name))
    }

    /// What a caller has not seen, with the values that it has.
    fn difference(
        &self,
        filter: &WatchFilter,
        context: &ReceivedContext,
    ) -> Result<VecDeque<RecordedChange>, NotResumed> {
        let (mut entries, mut known) = (0, HashSet::new());
        known.extend(self.node.watchers.history().ended().map(|(_, writer, _)| *writer));
        for (_, attachment) in self.watched(filter).flat_map(|network| network.store.attachments()) {
            let received = context.get(attachment.tag.digest);
            if received.is_some_and(|received| !received.seen.is_subset_of(attachment.accounted())) {
                return Err(NotResumed::Behind);
            }
            entries += attachment.live().len();
            known.insert(attachment.tag.digest);
        }
        if context.attachments().any(|(writer, received)| received.held != 0 && !known.contains(&writer)) {
            // Its owner has joined a moment ago, or this node has.
            return Err(NotResumed::Behind);
        }
        if entries > MAX_COMPARED {
            return Err(NotResumed::Reset(ResetReason::TooFarBehind));
        }
        let mut held = self.held_by(filter, context);
        prove(&mut held, context)?;
        let mut changes = Changes::new(self.node.watchers.limits());
        let (mut stored, mut gone) = (HashSet::new(), HashSet::new());
        let me = &self.node().name;
        for held in held.into_values().flatten() {
            match held {
                Held::Stored { network, record } => {
                    stored.insert(WriteId::from(record.version()));
                    if !record.is_visible() {
                        let change = self.change_of(network, None, Some(&record));
                        changes.push(change, Some(DeleteReason::OwnerFailed))?;
                    }
                }
                Held::Gone { write, by, latest, .. } => {
                    let Change { network, table, key, .. } = &by.change;
                    let now = self.table(network, table).and_then(|table| table.get(key));
                    let now = now.map(Entry::into_record);
                    let (now, other) = match now {
                        Some(now) if !filter.wants_owner(&now.tag().owner.name, me) => (None, true),
                        now => (now, false),
                    };
                    let reason = if other { Some(DeleteReason::OtherOwner) } else { latest.change.reason };
                    // The value is not known if the write never arrived here.
                    let previous = by.change.previous.clone().filter(|_| by.previous == Some(write));
                    let owner = match &now {
                        Some(now) => &now.tag().owner.name,
                        None => by.former_owner.as_ref().unwrap_or(&by.change.owner),
                    };
                    let change = Change {
                        kind: if now.is_some() { ChangeKind::Update } else { ChangeKind::Delete },
                        // A copy: the key of a change holds the record that it is in.
                        key: Key::from(&**key),
                        value: now.as_ref().map(Value::of),
                        previous,
                        version: now.as_ref().map(Record::version),
                        owner: owner.clone(),
                        ..by.change.clone()
                    };
                    gone.insert((network.clone(), table.clone(), key.clone()));
                    let recorded = RecordedChange {
                        // A caller that is moved again before it has the whole difference is behind this write, and not
                        // behind all earlier ones.
                        cause: latest.cause.map(|cause| Cause { complete_to: 0, ..cause }),
                        previous: Some(write),
                        ..RecordedChange::of_snapshot(change)
                    };
                    changes.push(recorded, Some(reason.unwrap_or(DeleteReason::Deleted)))?;
                }
            }
        }
        for network in self.watched(filter) {
            for (_, attachment) in network.store.attachments() {
                for (_, record) in attachment.live().iter().filter(|(_, record)| record.is_visible()) {
                    let table = &network.store.table_of(record).name;
                    if filter.wants_key(&network.name, table, record.key())
                        && filter.wants_owner(&attachment.tag.owner.name, me)
                        && !stored.contains(&record.version().into())
                        && !gone.contains(&(network.name.clone(), table.clone(), Key::of(record)))
                    {
                        changes.push(self.change_of(network.name.clone(), Some(record), None), None)?;
                    }
                }
            }
        }
        Ok(changes.changes)
    }

    /// The entries that a caller has if the writes in its context are behind it, and no others; by attachment.
    fn held_by(&self, filter: &WatchFilter, context: &ReceivedContext) -> BTreeMap<u64, Vec<Held>> {
        let mut found = BTreeMap::<u64, Vec<Held>>::new();
        let me = &self.node().name;
        let has = |write: &WriteId| {
            let received = context.get(write.writer).filter(|received| received.held != 0);
            received.is_some_and(|received| received.seen.contains(write.number))
        };
        // For each key, from its latest change back to the first that is behind the caller.
        let mut latest = HashMap::<Place, (Arc<RecordedChange>, bool)>::new();
        for recorded in self.node.watchers.history().from(0).rev() {
            let Change { network, table, key, reason, .. } = &recorded.change;
            let place = (network.clone(), table.clone(), key.clone());
            if !filter.wants_key(network, table, key) || *reason == Some(DeleteReason::OwnerFailed) {
                continue;
            }
            let (latest, decided) = latest.entry(place).or_insert_with(|| (recorded.clone(), false));
            if *decided {
                continue;
            }
            let is_behind = |write: WriteId| context.has_seen(write);
            let skipped = recorded.skipped.filter(|skipped| is_behind(skipped.write));
            let (write, is_certain) = match (recorded.cause, skipped, recorded.previous) {
                (Some(cause), ..) if is_behind(cause.write) => (None, true),
                // Whose entry it was, only its digest says.
                (_, Some(Skipped { write, is_live }), _) => {
                    (Some(write).filter(|write| is_live != Some(false) && has(write)), is_live.is_some())
                }
                (.., Some(previous)) if has(&previous) => {
                    let former = recorded.former_owner.as_ref();
                    let is_wanted = former.is_some_and(|former| filter.wants_owner(former, me));
                    (Some(previous).filter(|_| is_wanted), true)
                }
                _ => continue,
            };
            *decided = true;
            if let Some(write) = write {
                let (by, latest) = (recorded.clone(), latest.clone());
                found.entry(write.writer).or_default().push(Held::Gone { write, by, latest, is_certain });
            }
        }
        for network in self.watched(filter) {
            for (_, attachment) in network.store.attachments() {
                if !filter.wants_owner(&attachment.tag.owner.name, me) {
                    continue;
                }
                for (_, record) in attachment.live().iter() {
                    if !has(&record.version().into()) {
                        continue;
                    }
                    let table = &network.store.table_of(record).name;
                    if filter.wants_key(&network.name, table, record.key()) {
                        let (network, record) = (network.name.clone(), record.clone());
                        let held = Held::Stored { network, record };
                        found.entry(attachment.tag.digest).or_default().push(held);
                    }
                }
            }
        }
        found
    }

    /// The change that makes `new` of `old`, one of which there is.
    fn change_of(&self, network: Arc<str>, new: Option<&Record>, old: Option<&Record>) -> RecordedChange {
        let record = new.or(old).expect("one of them");
        let store = self.network(&network).map(|network| &network.store);
        let table = store.map_or_else(|| "".into(), |store| store.table_of(record).name.clone());
        let owner = record.tag().owner.name.clone();
        let change = Change {
            kind: if new.is_some() { ChangeKind::Create } else { ChangeKind::Delete },
            network,
            table,
            key: Key::of(record),
            value: new.map(Value::of),
            previous: old.map(Value::of),
            version: new.map(Record::version),
            owner: owner.clone(),
            reason: None,
        };
        let former_owner = old.map(|_| owner);
        let previous = old.map(|record| record.version().into());
        let cause = new.map(cause);
        RecordedChange { cause, previous, former_owner, ..RecordedChange::of_snapshot(change) }
    }
}

fn cause(record: &Record) -> Cause {
    Cause { write: record.version().into(), complete_to: 0 }
}

/// The most entries of an attachment that may be none, in all combinations.
const MAX_UNCERTAIN: usize = 10;

/// Leaves what the caller has: for each attachment all that was found, with or without what is not certain, or, of one
/// whose entries were being shown or hidden one after the other, the stretch of numbers that gives the digest.
fn prove(found: &mut BTreeMap<u64, Vec<Held>>, context: &ReceivedContext) -> Result<(), NotResumed> {
    let unknown = NotResumed::Reset(ResetReason::UnknownCursor);
    for (writer, received) in context.attachments().filter(|(_, received)| received.held != 0) {
        let held = found.get_mut(&writer).ok_or(unknown)?;
        let digest = |held: &[Held]| held.iter().fold(0, |all, held| all ^ held.write().digest());
        let is_uncertain = |held: &mut Held| matches!(held, Held::Gone { is_certain: false, .. });
        let uncertain: Vec<_> = held.extract_if(.., is_uncertain).collect();
        let (missing, uncertain_digests) = (
            digest(held) ^ received.held,
            uncertain.iter().map(|held| held.write().digest()).take(MAX_UNCERTAIN).collect::<Vec<_>>(),
        );
        let is_in = |set: usize, at: usize| set & 1 << at != 0;
        let sum = |set: usize| {
            let of_set = (0..).zip(&uncertain_digests).filter(|&(at, _)| is_in(set, at));
            of_set.fold(0, |all, (_, digest)| all ^ digest)
        };
        if let Some(set) = (0..1 << uncertain_digests.len()).find(|&set| sum(set) == missing) {
            held.extend(
                (0..)
                    .zip(uncertain)
                    .filter(|&(at, _)| at < MAX_UNCERTAIN && is_in(set, at))
                    .map(|(_, held)| held),
            );
            continue;
        }
        held.sort_unstable_by_key(|held| held.write().number);
        // The digest of all up to each of them, the latest of those with the same.
        let (mut all, mut digests) = (0, HashMap::from([(0, 0)]));
        let stretch = (1..).zip(held.iter()).find_map(|(end, held)| {
            all ^= held.write().digest();
            digests.insert(all, end);
            digests.get(&(all ^ received.held)).map(|&begin| (begin, end))
        });
        let (begin, end) = stretch.ok_or(unknown)?;
        held.truncate(end);
        held.drain(..begin);
    }
    Ok(())
}

/// Changes for a caller, bounded like a log of watchers.
struct Changes {
    changes: VecDeque<RecordedChange>,
    bytes: usize,
    limits: LogLimits,
}

impl Changes {
    fn new(limits: LogLimits) -> Self {
        Self { changes: VecDeque::new(), bytes: 0, limits }
    }

    /// Adds a change; a delete for this reason.
    fn push(&mut self, mut recorded: RecordedChange, reason: Option<DeleteReason>) -> Result<(), NotResumed> {
        recorded.change.reason = reason.filter(|_| recorded.change.kind == ChangeKind::Delete);
        self.bytes += weight(&recorded.change);
        self.changes.push_back(recorded);
        if self.changes.len() > self.limits.changes || self.bytes > self.limits.bytes {
            return Err(NotResumed::Reset(ResetReason::TooFarBehind));
        }
        Ok(())
    }
}
