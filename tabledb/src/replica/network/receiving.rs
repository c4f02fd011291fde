//! Which attachments sessions are bringing in already, so that nothing is asked for twice.
//!
//! A session whose peer has fallen silent may stay open for long: over a lossy link, or with a host that has lost power. What it
//! was to bring counts as not coming then.

use std::collections::BTreeMap;
use std::time::Instant;

use wire::StreamId;

use super::super::timing::PEER_SILENCE;
use super::super::view::Slot;

#[derive(Debug, Default)]
pub(crate) struct Receiving {
    by_slot: BTreeMap<Slot, StreamId>,
    /// When the peer sent the latest frame of each of these sessions.
    heard: BTreeMap<StreamId, Instant>,
}

impl Receiving {
    /// A session is going to bring in what is lacking of an attachment, unless another does so already.
    pub(crate) fn begin(&mut self, slot: Slot, session: StreamId, now: Instant) {
        if !self.is_coming(slot, now) {
            self.by_slot.insert(slot, session);
        }
        self.heard.insert(session, now);
    }

    /// The peer has sent a frame of the session.
    pub(crate) fn heard(&mut self, session: StreamId, now: Instant) {
        if let Some(heard) = self.heard.get_mut(&session) {
            *heard = now;
        }
    }

    pub(crate) fn is_coming(&self, slot: Slot, now: Instant) -> bool {
        let heard = self.by_slot.get(&slot).and_then(|session| self.heard.get(session));
        heard.is_some_and(|heard| now < *heard + PEER_SILENCE)
    }

    pub(crate) fn over(&mut self, session: StreamId) {
        if self.heard.remove(&session).is_some() {
            self.by_slot.retain(|_, by| *by != session);
        }
    }

    pub(crate) fn forget(&mut self, slot: Slot) {
        self.by_slot.remove(&slot);
    }
}
