//! The sessions of a network that are in progress, and what each of them brings, so that nothing is requested
//! twice.
//!
//! A session with an idle peer may stay open for a long time: over a lossy link, or with a host that lost
//! power. Its numbers then no longer count as coming.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wire::{NodeName, StreamId};

use super::super::super::requests::SyncKind;
use super::super::super::timing::{FIRST_RESPONSE_TIMEOUT, PEER_IDLE_TIMEOUT};
use crate::record::AttachmentIndex;

/// A full sync or a pull that this node opened and that is in progress.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Syncing {
    pub(crate) peer: NodeName,
    opened_at: Instant,
    /// When the latest frame from the peer arrived, if any did.
    last_frame_at: Option<Instant>,
}

impl Syncing {
    fn new(peer: NodeName, now: Instant) -> Self {
        Self { peer, opened_at: now, last_frame_at: None }
    }

    /// Whether the peer has received it, or may still receive it. A stream that was opened while the peer was
    /// unreachable may wait for its connection for a long time.
    pub(super) fn is_in_progress(&self, timeout: Duration, now: Instant) -> bool {
        self.is_answered() || now < self.opened_at + timeout
    }

    pub(super) fn is_answered(&self) -> bool {
        self.last_frame_at.is_some()
    }

    /// Whether no frame arrived from the peer for `timeout` after its latest one.
    pub(super) fn is_idle(&self, timeout: Duration, now: Instant) -> bool {
        self.last_frame_at.is_some_and(|last_frame| now >= last_frame + timeout)
    }
}

/// The sessions of a network that are in progress.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct OpenSessions {
    /// Full syncs that this node opened.
    full_syncs: BTreeMap<StreamId, Syncing>,
    /// The pull that this node opened.
    pull: Option<(StreamId, Syncing)>,
    /// Members that a push sends all new updates to.
    pushes: BTreeMap<NodeName, StreamId>,
    /// The session that brings the missing numbers of each attachment.
    bringing: BTreeMap<AttachmentIndex, StreamId>,
    /// When the latest frame of each of these sessions arrived.
    last_frames: BTreeMap<StreamId, Instant>,
}

impl OpenSessions {
    /// Records a session that this node opens. False if it is needless: a pull is in progress, or a push to
    /// this peer.
    pub(crate) fn open(&mut self, id: StreamId, kind: SyncKind, peer: &NodeName, now: Instant) -> bool {
        match kind {
            SyncKind::Full => {
                self.full_syncs.insert(id, Syncing::new(peer.clone(), now));
                true
            }
            SyncKind::Pull if self.pull.is_some() => false,
            SyncKind::Pull => {
                self.pull = Some((id, Syncing::new(peer.clone(), now)));
                true
            }
            SyncKind::Push { .. } if self.pushes.contains_key(peer) => false,
            SyncKind::Push { .. } => {
                self.pushes.insert(peer.clone(), id);
                true
            }
        }
    }

    /// A frame of a session arrived from the peer.
    pub(crate) fn frame_received(&mut self, id: StreamId, now: Instant) {
        if let Some(last_frame) = self.last_frames.get_mut(&id) {
            *last_frame = now;
        }
        if let Some(syncing) = self.full_syncs.get_mut(&id) {
            syncing.last_frame_at = Some(now);
        } else if let Some((_, pull)) = self.pull.as_mut().filter(|(pull, _)| *pull == id) {
            pull.last_frame_at = Some(now);
        }
    }

    /// A session will bring the missing numbers of an attachment, unless another already does.
    pub(crate) fn will_bring(&mut self, index: AttachmentIndex, id: StreamId, now: Instant) {
        if !self.brings(index, now) {
            self.bringing.insert(index, id);
        }
        self.last_frames.insert(id, now);
    }

    /// Whether a session brings the missing numbers of an attachment.
    pub(crate) fn brings(&self, index: AttachmentIndex, now: Instant) -> bool {
        let last_frame = self.bringing.get(&index).and_then(|id| self.last_frames.get(id));
        last_frame.is_some_and(|last_frame| now < *last_frame + PEER_IDLE_TIMEOUT)
    }

    /// A push has sent all that the peer lacked: new updates are sent to it by gossip again.
    pub(crate) fn push_caught_up(&mut self, id: StreamId) {
        self.pushes.retain(|_, push| *push != id);
    }

    /// A session is over. Full syncs and pulls are taken out with their results.
    pub(crate) fn over(&mut self, id: StreamId) {
        if self.last_frames.remove(&id).is_some() {
            self.bringing.retain(|_, by| *by != id);
        }
        self.push_caught_up(id);
    }

    /// A full sync is over. Returns when it was opened; `None` if this node did not open it.
    pub(crate) fn full_sync_over(&mut self, id: StreamId) -> Option<Instant> {
        self.full_syncs.remove(&id).map(|syncing| syncing.opened_at)
    }

    /// A pull is over. False if a later one replaced it, because it had no response.
    pub(super) fn pull_over(&mut self, id: StreamId) -> bool {
        self.pull.take_if(|(pull, _)| *pull == id).is_some()
    }

    /// The attachment has ended.
    pub(super) fn forget(&mut self, index: AttachmentIndex) {
        self.bringing.remove(&index);
    }

    /// The full syncs that this node opened.
    pub(crate) fn full_syncs(&self) -> impl ExactSizeIterator<Item = &Syncing> {
        self.full_syncs.values()
    }

    /// The pull in progress.
    pub(super) fn pull(&self) -> Option<StreamId> {
        self.pull.as_ref().map(|(id, _)| *id)
    }

    /// When the pull in progress gives way to another one, because its peer does not respond or is idle.
    pub(super) fn pull_gives_way_at(&self) -> Option<Instant> {
        self.pull.as_ref().map(|(_, pull)| match pull.last_frame_at {
            None => pull.opened_at + FIRST_RESPONSE_TIMEOUT,
            Some(last_frame) => last_frame + PEER_IDLE_TIMEOUT,
        })
    }

    /// Whether a push sends all new updates to this member.
    pub(super) fn pushes_to(&self, peer: &NodeName) -> bool {
        self.pushes.contains_key(peer)
    }
}
