//! Comparison under continuous writes: the settled part of each attachment, in a network that is not
//! quiescent as a whole.
//!
//! The fingerprints of busy networks never agree. So every half second each member reports to two others, per
//! attachment, the number up to which it had seen everything half a second ago, and a digest of the numbers
//! up to it that are live now. A receiver that has seen as much computes the same digest. If it differs, some
//! number is live on one side and superseded on the other, and a full sync finds it. A receiver that has seen
//! less pulls.

use std::collections::BTreeMap;
use std::time::Instant;

use wire::{NodeName, codec};

use super::super::message::{Datagram, Settled};
use super::super::node_state::{NodeState, Transmit};
use super::super::store::Attachment;
use super::super::timing::{
    DATAGRAM_BUDGET, QUIESCENT_AFTER, SETTLED_AFTER, SETTLED_FAN_OUT, SETTLED_INTERVAL, SETTLED_UNTIL,
};
use super::Network;
use crate::record::AttachmentIndex;

/// The most numbers that may have followed the settled ones.
const MAX_LATER: u64 = 1 << 16;

/// A period of changes without a pause of `SETTLED_UNTIL`.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Busy {
    began_at: Instant,
    changed_at: Instant,
    send_at: Instant,
    /// For each attachment, the number up to which it had been seen at the latest report.
    seen: BTreeMap<AttachmentIndex, u64>,
    /// The attachment with which the next report begins, since not all may fit.
    next: AttachmentIndex,
}

impl Network {
    /// The store has changed.
    pub(super) fn note_change(&mut self, now: Instant) {
        match &mut self.busy {
            Some(busy) => busy.changed_at = now,
            None => {
                let send_at = now + SETTLED_AFTER;
                self.busy = Some(Busy {
                    began_at: now,
                    changed_at: now,
                    send_at,
                    seen: BTreeMap::new(),
                    next: AttachmentIndex(0),
                });
            }
        }
    }

    pub(super) fn settled_deadline(&self) -> Option<Instant> {
        self.busy.as_ref().map(|busy| busy.send_at)
    }

    /// Reports the settled part if it is due; ends the period once the network is quiescent.
    pub(super) fn send_settled(&mut self, node: &mut NodeState, now: Instant) {
        let Some(busy) = &mut self.busy else { return };
        if now < busy.send_at {
            return;
        }
        let pause = now.saturating_duration_since(busy.changed_at);
        // Watermarks and fingerprints cover a single burst.
        let was_one_burst = busy.changed_at < busy.began_at + QUIESCENT_AFTER;
        if pause >= SETTLED_UNTIL || (pause >= QUIESCENT_AFTER && was_one_burst) {
            self.busy = None;
            return;
        }
        busy.send_at = now + SETTLED_INTERVAL;
        // During the initial sync, numbers look live that later ones have superseded.
        if !self.scheduler.is_synced() {
            return;
        }
        let from = busy.next;
        let mut budget = DATAGRAM_BUDGET.saturating_sub(24 + self.name.len());
        let mut settled = Vec::new();
        let whole_turn = self.store.attachments().filter(|(index, _)| *index >= from);
        for (index, held) in whole_turn.chain(self.store.attachments().filter(|(index, _)| *index < from)) {
            let Some(&upto) = busy.seen.get(&index) else { continue };
            if upto == 0 || seen_without_holes(held) < upto {
                continue;
            }
            // The maximum size with variable-length integers.
            const EACH: usize = 5 + 10 + 5;
            let Some(left) = budget.checked_sub(EACH) else {
                busy.next = index;
                break;
            };
            budget = left;
            settled.push(Settled { attachment: held.short_id(), upto, live: live_upto(held, upto) });
        }
        busy.seen = self.store.attachments().map(|(index, held)| (index, seen_without_holes(held))).collect();
        if settled.is_empty() {
            return;
        }
        let datagram = Datagram::Settled { network: &self.name, settled };
        let bytes = codec::encode(&datagram);
        for to in self.scheduler.sample_members(SETTLED_FAN_OUT, node) {
            node.outbox.push_back(Transmit::Datagram { to, bytes: bytes.clone() });
        }
    }

    /// Compares a member's settled report with the store.
    pub(crate) fn note_settled(
        &mut self,
        peer: &NodeName,
        settled: &[Settled],
        node: &mut NodeState,
        now: Instant,
    ) {
        if !self.is_synced() || self.is_leaving() {
            return;
        }
        let theirs: BTreeMap<u32, &Settled> =
            settled.iter().map(|settled| (settled.attachment, settled)).collect();
        // A report is a high watermark as well. Those that follow a change end sixteen seconds after it;
        // without reports, a node that was cut off for longer would miss the change until the network is
        // quiescent.
        let watermarks: Vec<(AttachmentIndex, u64)> = self
            .store
            .attachments()
            .filter_map(|(index, held)| Some((index, theirs.get(&held.short_id())?.upto)))
            .collect();
        for (index, upto) in watermarks {
            self.note_watermark(index, upto, peer, now);
        }
        if self.refusals.puts_off_comparison(now) || !self.scheduler.follows_settled(node, now) {
            return;
        }
        let differs = |held: &Attachment| {
            theirs.get(&held.short_id()).is_some_and(|theirs| {
                // Settled numbers were the latest a moment ago: a peer that claims otherwise must not make
                // this node count everything.
                let later = seen_without_holes(held).checked_sub(theirs.upto);
                later.is_some_and(|later| later <= MAX_LATER) && live_upto(held, theirs.upto) != theirs.live
            })
        };
        let mut attachments = 0;
        let mut found = false;
        for (_, held) in self.store.attachments() {
            attachments += 1;
            found = found || differs(held);
        }
        if found {
            self.scheduler.settled_differs(peer, attachments, node, now);
        }
    }
}

/// The greatest number up to which all have been seen.
fn seen_without_holes(held: &Attachment) -> u64 {
    match held.seen().as_slice().first() {
        Some(&(1, last)) => last,
        _ => 0,
    }
}

/// A digest of the live numbers up to `upto`. Costs as much as there are live numbers beyond it, which are
/// few.
fn live_upto(held: &Attachment, upto: u64) -> u32 {
    (held.live_digest() ^ held.live_within(upto + 1, u64::MAX).0) as u32
}
