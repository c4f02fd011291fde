//! The attachments whose missing numbers a session already brings, so that nothing is requested twice.
//!
//! A session with an idle peer may stay open for a long time: over a lossy link, or with a host that lost
//! power. Its numbers then no longer count as coming.

use std::collections::BTreeMap;
use std::time::Instant;

use wire::StreamId;

use super::super::timing::PEER_IDLE_TIMEOUT;
use super::super::view::AttachmentIndex;

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Receiving {
    by_attachment: BTreeMap<AttachmentIndex, StreamId>,
    /// When the latest frame of each of these sessions arrived.
    last_frame: BTreeMap<StreamId, Instant>,
}

impl Receiving {
    /// A session will bring the missing numbers of an attachment, unless another already does.
    pub(crate) fn begin(&mut self, index: AttachmentIndex, session: StreamId, now: Instant) {
        if !self.is_coming(index, now) {
            self.by_attachment.insert(index, session);
        }
        self.last_frame.insert(session, now);
    }

    /// A frame of the session arrived from the peer.
    pub(crate) fn frame_received(&mut self, session: StreamId, now: Instant) {
        if let Some(last_frame) = self.last_frame.get_mut(&session) {
            *last_frame = now;
        }
    }

    pub(crate) fn is_coming(&self, index: AttachmentIndex, now: Instant) -> bool {
        let last_frame = self.by_attachment.get(&index).and_then(|session| self.last_frame.get(session));
        last_frame.is_some_and(|last_frame| now < *last_frame + PEER_IDLE_TIMEOUT)
    }

    pub(crate) fn over(&mut self, session: StreamId) {
        if self.last_frame.remove(&session).is_some() {
            self.by_attachment.retain(|_, by| *by != session);
        }
    }

    pub(crate) fn forget(&mut self, index: AttachmentIndex) {
        self.by_attachment.remove(&index);
    }
}
