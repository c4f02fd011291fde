//! The open streams of a node: the owner of each, and which of its halves are closed.
//!
//! A stream is registered from its open, by this node or a peer, until both halves are closed or it is reset.
//! This is the only record of open streams, and a deadline removes each stream that makes no progress: a
//! leaked stream would reduce the stream limit of its connection for good.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wire::{NodeName, StreamId};

/// Timeout for the first frame of a stream that a peer opened; the frame names the owner.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout between useful frames of the peer after this node has closed its half. Sent data may still be in
/// flight: a stream buffers up to 2 MiB, which take 17 s at one megabit a second.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(30);

/// The owner of a stream, and the owner's ID for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// The peer has not sent the first frame yet.
    Unknown { from: NodeName, source: SocketAddr },
    /// Membership's.
    Membership(StreamId),
    /// The tables'.
    Tables(StreamId),
    /// That of a question.
    Inquiry(StreamId),
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) owner: Owner,
    /// This node's first frame, which names the owner, is still to be sent.
    pub(crate) announce: bool,
    /// This node has closed its half.
    sent_all: bool,
    /// The peer has closed its half.
    received_all: bool,
    /// When the stream is reset. `None` while the owner uses the stream and decides about it.
    until: Option<Instant>,
}

impl Stream {
    /// Whether this node has closed its half.
    pub(crate) fn has_sent_all(&self) -> bool {
        self.sent_all
    }

    /// Whether the peer has closed its half.
    pub(crate) fn has_received_all(&self) -> bool {
        self.received_all
    }
}

/// All streams of a node.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    streams: BTreeMap<StreamId, Stream>,
    by_owner: BTreeMap<Owner, StreamId>,
    deadlines: BTreeSet<(Instant, StreamId)>,
    next: u64,
}

impl Streams {
    /// The number of open streams.
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// The IDs of all open streams, ascending.
    pub(crate) fn ids(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.streams.keys().copied()
    }

    /// Registers a stream that `owner` opens.
    pub(crate) fn open(&mut self, owner: Owner) -> StreamId {
        self.add(owner, true)
    }

    /// Registers a stream that a peer has opened.
    pub(crate) fn accept(&mut self, from: NodeName, source: SocketAddr, now: Instant) -> StreamId {
        let stream = self.add(Owner::Unknown { from, source }, false);
        self.set_deadline(stream, Some(now + FIRST_FRAME_TIMEOUT));
        stream
    }

    fn add(&mut self, owner: Owner, announce: bool) -> StreamId {
        let id = StreamId(self.next);
        self.next += 1;
        self.note_owner(id, &owner);
        let stream = Stream { owner, announce, sent_all: false, received_all: false, until: None };
        self.streams.insert(id, stream);
        id
    }

    fn note_owner(&mut self, stream: StreamId, owner: &Owner) {
        if !matches!(owner, Owner::Unknown { .. }) {
            self.by_owner.insert(owner.clone(), stream);
        }
    }

    /// Sets the owner that the peer's first frame named.
    pub(crate) fn assign(&mut self, stream: StreamId, owner: Owner) {
        self.note_owner(stream, &owner);
        self.set_deadline(stream, None);
        if let Some(known) = self.streams.get_mut(&stream) {
            known.owner = owner;
        }
    }

    pub(crate) fn get(&self, stream: StreamId) -> Option<&Stream> {
        self.streams.get(&stream)
    }

    /// Whether the next frame is this node's first one; true only once.
    pub(crate) fn take_announce(&mut self, stream: StreamId) -> bool {
        self.streams.get_mut(&stream).is_some_and(|stream| std::mem::take(&mut stream.announce))
    }

    /// The node's ID of an owner's stream.
    pub(crate) fn of(&self, owner: &Owner) -> Option<StreamId> {
        self.by_owner.get(owner).copied()
    }

    /// Closes this node's half. If both halves are closed, the stream is removed.
    pub(crate) fn finish_sending(&mut self, stream: StreamId, now: Instant) {
        let Some(known) = self.streams.get_mut(&stream) else { return };
        known.sent_all = true;
        if known.received_all {
            self.remove(stream);
        } else {
            self.set_deadline(stream, Some(now + HALF_CLOSED_TIMEOUT));
        }
    }

    /// Restarts the timeout: the peer has sent a useful frame.
    pub(crate) fn note_frame(&mut self, stream: StreamId, now: Instant) {
        if self.get(stream).is_some_and(Stream::has_sent_all) {
            self.set_deadline(stream, Some(now + HALF_CLOSED_TIMEOUT));
        }
    }

    /// Closes the peer's half. If both halves are closed, the stream is removed; otherwise this node
    /// continues to send.
    pub(crate) fn finish_receiving(&mut self, stream: StreamId) {
        let Some(known) = self.streams.get_mut(&stream) else { return };
        known.received_all = true;
        if known.sent_all {
            self.remove(stream);
        }
    }

    /// Removes a stream. The caller has to notify its owner and the driver.
    pub(crate) fn remove(&mut self, stream: StreamId) -> Option<Owner> {
        self.set_deadline(stream, None);
        let removed = self.streams.remove(&stream)?;
        self.by_owner.remove(&removed.owner);
        Some(removed.owner)
    }

    /// A stream whose deadline has passed.
    pub(crate) fn next_overdue(&self, now: Instant) -> Option<StreamId> {
        self.deadlines.first().filter(|(due, _)| *due <= now).map(|(_, stream)| *stream)
    }

    /// The earliest deadline.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    fn set_deadline(&mut self, stream: StreamId, until: Option<Instant>) {
        let Some(known) = self.streams.get_mut(&stream) else { return };
        if let Some(before) = std::mem::replace(&mut known.until, until) {
            self.deadlines.remove(&(before, stream));
        }
        if let Some(until) = until {
            self.deadlines.insert((until, stream));
        }
    }
}
