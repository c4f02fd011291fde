//! What the watchers hear of a store, and the history.

use super::Store;
use crate::change::{Cause, RecordedChange, Skipped};
use crate::record::Record;
use crate::replica::view::Table;
use crate::replica::watchers::Watchers;
use crate::{Change, ChangeKind, DeleteReason, Key, Value};

impl Store {
    /// Reports a change of the visible state to the watchers. Its kind comes from that state alone, never
    /// from the writer's operation: a watcher can be a driver that deletes real things. A write that was skipped is
    /// reported also if nothing changed here: a client that comes from another node may have received it.
    pub(super) fn report(
        &self,
        watchers: &mut Watchers,
        (before, after): (Option<&Record>, Option<&Record>),
        skipped: Option<Skipped>,
        reason: DeleteReason,
    ) {
        if !watchers.wants(&self.view.name) {
            return;
        }
        let old = before.filter(|record| record.is_visible());
        // Nor is a hidden one seen here.
        let hidden = before.filter(|record| record.is_live() && !record.is_visible());
        let hidden = hidden.map(|record| Skipped { write: record.version().into(), is_live: Some(true) });
        let skipped = hidden.or(skipped);
        let new = after.filter(|record| record.is_visible());
        let (kind, record) = match (old, new) {
            (None, None) => {
                if let (Some(skipped), Some(record)) = (skipped, after.or(before)) {
                    self.record_skipped(skipped, record, after, watchers);
                }
                return;
            }
            (None, Some(new)) => (ChangeKind::Create, new),
            (Some(_), Some(new)) => (ChangeKind::Update, new),
            (Some(old), None) => (ChangeKind::Delete, old),
        };
        let former_owner = before.map(|record| record.tag().owner.name.clone());
        let mut change = self.change(kind, record, new, old);
        change.version = new.map(Record::version);
        change.reason = (kind == ChangeKind::Delete).then_some(reason);
        let cause = after.map(|record| self.cause(record));
        let previous = old.map(|record| record.version().into());
        let recorded = RecordedChange { change, cause, previous, skipped, former_owner, position: 0 };
        watchers.send(recorded, &self.me);
    }

    /// Records for clients of other nodes that a write changed nothing here, because there is a greater one.
    pub(super) fn record_declined(&self, declined: &Record, table: &Table, watchers: &mut Watchers) {
        let present = table.records.get(declined.key());
        let skipped = Skipped { write: declined.version().into(), is_live: Some(declined.is_live()) };
        self.record_skipped(skipped, declined, present.as_ref(), watchers);
    }

    /// Records that a write under the key of `record`, where `present` is now, was not shown here.
    fn record_skipped(
        &self,
        skipped: Skipped,
        record: &Record,
        present: Option<&Record>,
        watchers: &mut Watchers,
    ) {
        if !watchers.keeps_history() {
            return;
        }
        // A copy: the key of a change holds the record that it is in.
        let key = Key::from(record.key());
        let change = Change { key, ..self.change(ChangeKind::Delete, record, None, None) };
        let (cause, skipped) = (present.map(|present| self.cause(present)), Some(skipped));
        let recorded = RecordedChange { cause, skipped, ..RecordedChange::of_snapshot(change) };
        watchers.send(recorded, &self.me);
    }

    /// The write of a record as the cause of a change.
    fn cause(&self, record: &Record) -> Cause {
        let seen = self.attachments.get(&record.tag().index).map(|attachment| attachment.seen.as_slice());
        let complete_to = match seen {
            Some([(1, high), ..]) => *high,
            _ => 0,
        };
        Cause { write: record.version().into(), complete_to }
    }

    pub(super) fn change(
        &self,
        kind: ChangeKind,
        record: &Record,
        new: Option<&Record>,
        old: Option<&Record>,
    ) -> Change {
        Change {
            kind,
            network: self.view.name.clone(),
            table: self.table_of(record).name.clone(),
            key: Key::of(record),
            value: new.map(Value::of),
            previous: old.map(Value::of),
            version: None,
            owner: record.tag().owner.name.clone(),
            reason: None,
        }
    }
}
