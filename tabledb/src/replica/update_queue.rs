//! The outgoing updates of a network that are not sent yet, and the high watermarks of its recent changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::store::Dot;
use super::timing::{BACKLOG_BYTES, DATAGRAM_BUDGET, UPDATES_PAUSE, WATERMARKS_AFTER};
use crate::record::AttachmentIndex;

/// A dot to send. Its content is looked up when it is sent: a dot superseded meanwhile is sent as such, so
/// that no receiver takes it for a hole, and no stale value leaves the node.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct QueuedUpdate {
    pub(crate) dot: Dot,
    pub(crate) replaced: Vec<Dot>,
    /// The bytes of a batch that begins here, which one datagram carries if it can; else 0.
    pub(crate) together: usize,
}

/// The queue of updates of one network.
///
/// Two queues share one threshold: at most eight datagrams' worth of updates wait. Beyond that the queues are
/// emptied and the whole difference is pushed over streams, which need no queue.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct UpdateQueue {
    /// Our own writes are sent first: relaying must not starve them.
    local: VecDeque<QueuedUpdate>,
    relayed: VecDeque<QueuedUpdate>,
    bytes: usize,
    flush_at: Option<Instant>,
    /// Until then, updates wait for others to share their datagram.
    pause_until: Option<Instant>,
    /// More updates wait than datagrams should carry.
    backlog: bool,
    /// Attachments with updates since the last push over streams.
    touched: BTreeSet<AttachmentIndex>,
    watermarks: BTreeMap<AttachmentIndex, (Instant, usize)>,
    watermarks_at: Option<Instant>,
}

impl UpdateQueue {
    /// The number of waiting updates.
    pub(crate) fn len(&self) -> usize {
        self.local.len() + self.relayed.len()
    }

    /// Whether everything new is to be pushed over streams, and no update is queued.
    pub(crate) fn has_backlog(&self) -> bool {
        self.backlog
    }

    /// Queues one update of about `bytes`. Returns whether the driver has to look at its deadline again.
    pub(crate) fn push(&mut self, update: QueuedUpdate, local: bool, bytes: usize, now: Instant) -> bool {
        self.touch(update.dot.0, now);
        if self.backlog {
            return false;
        }
        self.bytes += bytes;
        if self.bytes > BACKLOG_BYTES {
            return self.push_backlog(now);
        }
        if local {
            self.local.push_back(update)
        } else {
            self.relayed.push_back(update)
        }
        if self.bytes >= DATAGRAM_BUDGET {
            return self.flush_by(now);
        }
        // The first after a pause goes at once: a single write is not delayed, and a burst costs one datagram more.
        self.flush_by(self.pause_until.map_or(now, |until| until.max(now)))
    }

    /// Pushes everything new over streams at once.
    pub(crate) fn push_backlog(&mut self, now: Instant) -> bool {
        self.backlog = true;
        self.local.clear();
        self.relayed.clear();
        self.bytes = 0;
        self.flush_by(now)
    }

    /// An attachment changed: schedules the reports of its high watermark.
    pub(crate) fn touch(&mut self, index: AttachmentIndex, now: Instant) {
        let soon = now + WATERMARKS_AFTER[0].0;
        self.touched.insert(index);
        // While an attachment keeps changing, its first deadline is not postponed.
        let entry = self.watermarks.entry(index).or_insert((soon, 0));
        if entry.1 > 0 {
            *entry = (soon, 0);
        }
        self.watermarks_at = Some(self.watermarks_at.map_or(soon, |at| at.min(soon)));
    }

    /// Schedules a push of an attachment with new updates.
    pub(crate) fn relay_by_stream(&mut self, index: AttachmentIndex, at: Instant) {
        self.touched.insert(index);
        self.backlog = true;
        self.flush_by(at);
    }

    pub(crate) fn forget(&mut self, index: AttachmentIndex) {
        self.watermarks.remove(&index);
        self.touched.remove(&index);
        self.local.retain(|update| update.dot.0 != index);
        self.relayed.retain(|update| update.dot.0 != index);
    }

    /// The next time at which there is something to send.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        [self.flush_at, self.watermarks_at].into_iter().flatten().min()
    }

    /// Whether waiting updates are due.
    pub(crate) fn flush_due(&self, now: Instant) -> bool {
        self.flush_at.is_some_and(|at| at <= now)
    }

    /// What to send now: the waiting updates, or the attachments to push.
    pub(crate) fn take(&mut self, now: Instant) -> Flush {
        self.flush_at = None;
        self.pause_until = Some(now + UPDATES_PAUSE);
        self.bytes = 0;
        let touched = std::mem::take(&mut self.touched);
        if std::mem::take(&mut self.backlog) {
            return Flush::Backlog(touched);
        }
        Flush::Updates(self.local.drain(..).chain(self.relayed.drain(..)).collect())
    }

    /// The attachments whose high watermarks are due, in order, and the number of members to send them to.
    /// Schedules the next report of each, if there is one.
    pub(crate) fn due_watermarks(&mut self, now: Instant) -> (Vec<AttachmentIndex>, usize) {
        let mut fan_out = 0;
        let mut due = Vec::new();
        if self.watermarks_at.is_none_or(|at| at > now) {
            return (due, fan_out);
        }
        self.watermarks.retain(|&index, (at, stage)| {
            if *at > now {
                return true;
            }
            due.push(index);
            let (told_after, to) = WATERMARKS_AFTER[*stage];
            fan_out = fan_out.max(to);
            *stage += 1;
            match WATERMARKS_AFTER.get(*stage) {
                Some(&(after, _)) => {
                    *at = now + (after - told_after);
                    true
                }
                None => false,
            }
        });
        self.watermarks_at = self.watermarks.values().map(|&(at, _)| at).min();
        (due, fan_out)
    }

    fn flush_by(&mut self, at: Instant) -> bool {
        let earlier = self.flush_at.is_none_or(|planned| at < planned);
        if earlier {
            self.flush_at = Some(at);
        }
        earlier
    }
}

/// The result of [`UpdateQueue::take`].
#[derive(Debug)]
pub(crate) enum Flush {
    /// To be packed into datagrams.
    Updates(Vec<QueuedUpdate>),
    /// To be pushed over streams: all that the receivers lack of these attachments.
    Backlog(BTreeSet<AttachmentIndex>),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only a starting point")]
    fn a_single_update_goes_at_once_and_the_next_ones_together() {
        let (mut queue, mut now) = (UpdateQueue::default(), Instant::now());
        let push = |queue: &mut UpdateQueue, number, now| {
            let update =
                QueuedUpdate { dot: (AttachmentIndex(0), number), replaced: Vec::new(), together: 0 };
            queue.push(update, true, 100, now)
        };
        assert!(push(&mut queue, 1, now) && queue.flush_due(now), "the first goes at once");
        assert!(matches!(queue.take(now), Flush::Updates(updates) if updates.len() == 1));
        now += Duration::from_micros(10);
        assert!(push(&mut queue, 2, now) && !queue.flush_due(now), "it waits for others");
        now += Duration::from_micros(10);
        assert!(!push(&mut queue, 3, now), "it waits with the one before");
        now += UPDATES_PAUSE;
        assert!(queue.flush_due(now));
        assert!(matches!(queue.take(now), Flush::Updates(updates) if updates.len() == 2));
        now += UPDATES_PAUSE;
        assert!(push(&mut queue, 4, now) && queue.flush_due(now), "after a pause the next goes at once");
    }
}
