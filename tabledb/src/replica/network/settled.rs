//! Comparing under writes: what is settled of each attachment, in a network that is never still as a whole.
//!
//! The fingerprint of a busy network never agrees with another's. So every half second each member tells two others, per
//! attachment, up to which number it had seen everything half a second ago, and the digest of what of that is live now.
//! Whoever has seen as much computes the same for itself; where it differs, something is live on one side and dead on the
//! other, and a full sync finds out what. Whoever has seen less pulls it.

use std::collections::BTreeMap;
use std::time::Instant;

use wire::{NodeName, codec};

use super::super::common::{Common, Transmit};
use super::super::message::{Datagram, SessionKind, Settled};
use super::super::store::Attachment;
use super::super::timing::{
    DATAGRAM_BUDGET, SETTLED_AFTER, SETTLED_FAN_OUT, SETTLED_INTERVAL, SETTLED_PAUSE, SETTLED_UNTIL,
    STILLNESS,
};
use super::super::view::Slot;
use super::{Network, Phase};

/// Attachments that a pause of one second between such syncs is for.
const ATTACHMENTS_A_SECOND: usize = 64;

/// How many numbers may have come since what a member calls settled.
const MAX_LATER: u64 = 1 << 16;

/// The changes of a network that come without a pause as long as `SETTLED_UNTIL`.
#[derive(Debug)]
pub(super) struct Busy {
    began_at: Instant,
    changed_at: Instant,
    tell_at: Instant,
    /// Up to where each attachment had been seen when last it was told.
    seen: BTreeMap<Slot, u64>,
    /// Where to go on: not all may fit.
    next: Slot,
}

impl Network {
    /// Something of the store changed.
    pub(super) fn note_change(&mut self, now: Instant) {
        match &mut self.busy {
            Some(busy) => busy.changed_at = now,
            None => {
                let tell_at = now + SETTLED_AFTER;
                self.busy = Some(Busy {
                    began_at: now,
                    changed_at: now,
                    tell_at,
                    seen: BTreeMap::new(),
                    next: Slot(0),
                });
            }
        }
    }

    pub(super) fn settled_deadline(&self) -> Option<Instant> {
        self.busy.as_ref().map(|busy| busy.tell_at)
    }

    /// Tells what is settled if it is time to, and nothing more once the network is still.
    pub(super) fn tell_settled(&mut self, common: &mut Common, now: Instant) {
        let Some(busy) = &mut self.busy else { return };
        if now < busy.tell_at {
            return;
        }
        let pause = now.saturating_duration_since(busy.changed_at);
        // What came all at once is told by heads, and fingerprints find the rest.
        let was_one_burst = busy.changed_at < busy.began_at + STILLNESS;
        if pause >= SETTLED_UNTIL || (pause >= STILLNESS && was_one_burst) {
            self.busy = None;
            return;
        }
        busy.tell_at = now + SETTLED_INTERVAL;
        // Half of a first sync is here: what has been superseded by what comes last looks alive.
        if matches!(self.phase, Phase::Joining(_)) {
            return;
        }
        let from = busy.next;
        let mut room = DATAGRAM_BUDGET.saturating_sub(24 + self.name.len());
        let mut settled = Vec::new();
        let whole_turn = self.store.attachments().filter(|(slot, _)| *slot >= from);
        for (slot, held) in whole_turn.chain(self.store.attachments().filter(|(slot, _)| *slot < from)) {
            let Some(&upto) = busy.seen.get(&slot) else { continue };
            if upto == 0 || seen_without_holes(held) < upto {
                continue;
            }
            // As long as variable lengths may make it.
            const EACH: usize = 5 + 10 + 5;
            let Some(left) = room.checked_sub(EACH) else {
                busy.next = slot;
                break;
            };
            room = left;
            settled.push(Settled { attachment: held.short_id(), upto, live: live_upto(held, upto) });
        }
        busy.seen = self.store.attachments().map(|(slot, held)| (slot, seen_without_holes(held))).collect();
        if settled.is_empty() {
            return;
        }
        let datagram = Datagram::Settled { network: &self.name, settled };
        let bytes = codec::encode(&datagram);
        for to in self.sample_members(SETTLED_FAN_OUT, common) {
            common.outbox.push_back(Transmit::Datagram { to, bytes: bytes.clone() });
        }
    }

    /// Compares what a member has told with what is held here.
    pub(crate) fn note_settled(
        &mut self,
        peer: &NodeName,
        settled: &[Settled],
        common: &mut Common,
        now: Instant,
    ) {
        if !self.is_synced() || self.is_leaving() {
            return;
        }
        let theirs: BTreeMap<u32, &Settled> =
            settled.iter().map(|settled| (settled.attachment, settled)).collect();
        // It is a head as well. Those that follow a change end sixteen seconds after it: who was cut off for longer would not
        // hear of it until the network is still.
        let heads: Vec<(Slot, u64)> = self
            .store
            .attachments()
            .filter_map(|(slot, held)| Some((slot, theirs.get(&held.short_id())?.upto)))
            .collect();
        for (slot, upto) in heads {
            self.note_head(slot, upto, peer, now);
        }
        if self.is_syncing(common)
            || self.refusals.puts_off_comparison(now)
            || self.settled_pause.is_some_and(|until| now < until)
        {
            return;
        }
        let differs = |held: &Attachment| {
            theirs.get(&held.short_id()).is_some_and(|theirs| {
                // What is settled was the last not long ago: a peer that says otherwise is not to have everything counted.
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
            let pause = SETTLED_PAUSE * (1 + attachments / ATTACHMENTS_A_SECOND) as u32;
            self.settled_pause = Some(now + pause);
            common.counters.settled_syncs += 1;
            self.request(SessionKind::Full, peer.clone(), Default::default(), common);
        }
    }
}

/// The last of the numbers from the first on that have all been seen.
fn seen_without_holes(held: &Attachment) -> u64 {
    match held.context().as_slice().first() {
        Some(&(1, last)) => last,
        _ => 0,
    }
}

/// A digest of what is live up to a number. Costs as much as is live beyond it, which is little: it was the last not long ago.
fn live_upto(held: &Attachment, upto: u64) -> u32 {
    (held.live_digest() ^ held.live_within(upto + 1, u64::MAX).0) as u32
}
