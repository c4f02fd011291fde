//! What a network has to tell: news not yet sent, and the heads of what changed lately.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::store::Dot;
use super::timing::{BACKLOG_BYTES, DATAGRAM_BUDGET, FLUSH_DELAY, WATERMARKS_AFTER};
use super::view::AttachmentIndex;

/// A number to tell. What it stands for is looked up when it is sent: superseded news is told as dead, so that nobody
/// takes it for a hole, and no stale value ever leaves.
#[derive(Debug, Clone)]
pub(crate) struct QueuedUpdate {
    pub(crate) dot: Dot,
    pub(crate) replaced: Vec<Dot>,
}

/// News of one network.
///
/// Two queues in front of one threshold: what waits is at most eight datagrams' worth, since beyond that the queues
/// are emptied and the whole difference goes over streams, where nothing needs a queue.
#[derive(Debug, Default)]
pub(crate) struct UpdateQueue {
    /// Our own writes go first: relaying for others must not starve them.
    local: VecDeque<QueuedUpdate>,
    relayed: VecDeque<QueuedUpdate>,
    bytes: usize,
    flush_at: Option<Instant>,
    /// There is more than datagrams should carry.
    backlog: bool,
    /// Attachments with news since the last push over streams.
    touched: BTreeSet<AttachmentIndex>,
    watermarks: BTreeMap<AttachmentIndex, (Instant, usize)>,
    watermarks_at: Option<Instant>,
}

impl UpdateQueue {
    /// How many items wait.
    pub(crate) fn len(&self) -> usize {
        self.local.len() + self.relayed.len()
    }

    /// Queues one item of about `bytes`. Returns whether the driver has to look at its deadline again.
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
        self.flush_by(now + FLUSH_DELAY)
    }

    /// Everything new goes over streams at once.
    pub(crate) fn push_backlog(&mut self, now: Instant) -> bool {
        self.backlog = true;
        self.local.clear();
        self.relayed.clear();
        self.bytes = 0;
        self.flush_by(now)
    }

    /// Takes note that an attachment changed: its heads are to be told for a while.
    pub(crate) fn touch(&mut self, index: AttachmentIndex, now: Instant) {
        let soon = now + WATERMARKS_AFTER[0].0;
        self.touched.insert(index);
        // In a busy attachment the first deadline stays where it is, or it would never come.
        let entry = self.watermarks.entry(index).or_insert((soon, 0));
        if entry.1 > 0 {
            *entry = (soon, 0);
        }
        self.watermarks_at = Some(self.watermarks_at.map_or(soon, |at| at.min(soon)));
    }

    /// Notes that an attachment with news is to be pushed on.
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

    /// When there is something to send.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        [self.flush_at, self.watermarks_at].into_iter().flatten().min()
    }

    /// Whether the first sending is due.
    pub(crate) fn flush_due(&self, now: Instant) -> bool {
        self.flush_at.is_some_and(|at| at <= now)
    }

    /// What is to be sent now: everything that waits, or the attachments to push.
    pub(crate) fn take(&mut self) -> Flush {
        self.flush_at = None;
        self.bytes = 0;
        let touched = std::mem::take(&mut self.touched);
        if std::mem::take(&mut self.backlog) {
            return Flush::Backlog(touched);
        }
        Flush::Updates(self.local.drain(..).chain(self.relayed.drain(..)).collect())
    }

    /// The attachments whose heads are due, in order, and how many members are to hear of them; each is scheduled for its
    /// next time, or done.
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

/// What [`News::take`] found.
#[derive(Debug)]
pub(crate) enum Flush {
    /// To be packed into datagrams.
    Updates(Vec<QueuedUpdate>),
    /// To be pushed over streams: whatever the receivers lack of these.
    Backlog(BTreeSet<AttachmentIndex>),
}
