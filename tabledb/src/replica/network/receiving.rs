//! Which attachments sessions are bringing in already, so that nothing is asked for twice.
//!
//! A session whose peer has fallen silent may stay open for long: over a lossy link, or with a host that has lost power. What it
//! was to bring counts as not coming then.

use std::collections::BTreeMap;
use std::time::Instant;

use wire::StreamId;

use super::super::timing::PEER_IDLE_TIMEOUT;
use super::super::view::AttachmentIndex;

#[derive(Debug, Default)]
pub(crate) struct Receiving {
    by_attachment: BTreeMap<AttachmentIndex, StreamId>,
    /// When the peer sent the latest frame of each of these sessions.
    last_frame: BTreeMap<StreamId, Instant>,
}

impl Receiving {
    /// A session is going to bring in what is lacking of an attachment, unless another does so already.
    pub(crate) fn begin(&mut self, index: AttachmentIndex, session: StreamId, now: Instant) {
        if !self.is_coming(index, now) {
            self.by_attachment.insert(index, session);
        }
        self.last_frame.insert(session, now);
    }

    /// The peer has sent a frame of the session.
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
