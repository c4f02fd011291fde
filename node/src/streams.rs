//! The streams of a node: whose each one is, and which halves of it are over.
//!
//! A stream is here from the moment it is asked for, or a peer has opened it, until both of its halves are over or it was
//! broken off. Nothing else remembers that it is open, and everything here has a time at which it goes in any case: a stream
//! that is forgotten is one less for the connection, for good.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wire::{NodeName, StreamId};

/// How long a peer that opened a stream may take to say what it is for.
const UNADDRESSED_FOR: Duration = Duration::from_secs(10);

/// How long the peer's half of a stream may bring nothing of use once ours is over. What it has sent by then may still be on its way: a
/// stream takes up to 2 MiB in advance, which are 17 s of a megabit a second.
const HALF_FOR: Duration = Duration::from_secs(30);

/// Whose a stream is, and the number that its owner knows it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The peer has not said yet.
    Unknown { from: NodeName, source: SocketAddr },
    /// Membership's.
    Membership(StreamId),
    /// The tables'.
    Tables(StreamId),
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) owner: Owner,
    /// The first frame has to say whose it is.
    pub(crate) announce: bool,
    /// We have sent all.
    sent_all: bool,
    /// The peer has sent all.
    received_all: bool,
    /// When it is broken off; while its owner has work with it, that is the owner's to decide.
    until: Option<Instant>,
}

impl Stream {
    /// Whether our half is over.
    pub(crate) fn has_sent_all(&self) -> bool {
        self.sent_all
    }

    /// Whether the peer's half is over.
    pub(crate) fn has_received_all(&self) -> bool {
        self.received_all
    }
}

/// All streams of a node.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    streams: BTreeMap<StreamId, Stream>,
    of_membership: BTreeMap<StreamId, StreamId>,
    of_tables: BTreeMap<StreamId, StreamId>,
    deadlines: BTreeSet<(Instant, StreamId)>,
    next: u64,
}

impl Streams {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Their numbers, ascending.
    pub(crate) fn ids(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.streams.keys().copied()
    }

    /// A stream that `owner` wants opened.
    pub(crate) fn open(&mut self, owner: Owner) -> StreamId {
        self.add(owner, true)
    }

    /// A stream that a peer has opened.
    pub(crate) fn accept(&mut self, from: NodeName, source: SocketAddr, now: Instant) -> StreamId {
        let stream = self.add(Owner::Unknown { from, source }, false);
        self.set_deadline(stream, Some(now + UNADDRESSED_FOR));
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
        match *owner {
            Owner::Unknown { .. } => {}
            Owner::Membership(inner) => drop(self.of_membership.insert(inner, stream)),
            Owner::Tables(inner) => drop(self.of_tables.insert(inner, stream)),
        }
    }

    /// The peer has said whose its stream is.
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

    /// Whether the next frame is the first of ours.
    pub(crate) fn take_announce(&mut self, stream: StreamId) -> bool {
        self.streams.get_mut(&stream).is_some_and(|stream| std::mem::take(&mut stream.announce))
    }

    /// The node's number of a stream of membership.
    pub(crate) fn of_membership(&self, inner: StreamId) -> Option<StreamId> {
        self.of_membership.get(&inner).copied()
    }

    /// The node's number of a stream of the tables.
    pub(crate) fn of_tables(&self, inner: StreamId) -> Option<StreamId> {
        self.of_tables.get(&inner).copied()
    }

    /// Our half is over. If the peer's is too, so is the stream.
    pub(crate) fn finish_sending(&mut self, stream: StreamId, now: Instant) {
        let Some(known) = self.streams.get_mut(&stream) else { return };
        known.sent_all = true;
        if known.received_all {
            self.remove(stream);
        } else {
            self.set_deadline(stream, Some(now + HALF_FOR));
        }
    }

    /// The peer's half goes on, to some purpose.
    pub(crate) fn note_frame(&mut self, stream: StreamId, now: Instant) {
        if self.get(stream).is_some_and(Stream::has_sent_all) {
            self.set_deadline(stream, Some(now + HALF_FOR));
        }
    }

    /// The peer's half is over. If ours is too, so is the stream; if not, what we still have to say is said.
    pub(crate) fn finish_receiving(&mut self, stream: StreamId) {
        let Some(known) = self.streams.get_mut(&stream) else { return };
        known.received_all = true;
        if known.sent_all {
            self.remove(stream);
        }
    }

    /// Forgets a stream; its owner and the driver have to be told.
    pub(crate) fn remove(&mut self, stream: StreamId) -> Option<Owner> {
        self.set_deadline(stream, None);
        let removed = self.streams.remove(&stream)?;
        match removed.owner {
            Owner::Unknown { .. } => {}
            Owner::Membership(inner) => drop(self.of_membership.remove(&inner)),
            Owner::Tables(inner) => drop(self.of_tables.remove(&inner)),
        }
        Some(removed.owner)
    }

    /// A stream whose time is up.
    pub(crate) fn next_overdue(&self, now: Instant) -> Option<StreamId> {
        self.deadlines.first().filter(|(due, _)| *due <= now).map(|(_, stream)| *stream)
    }

    /// When the next one's time is up.
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
