//! What all networks of a replica share.

use std::collections::VecDeque;
use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use wire::{NodeName, StreamId};

use super::clock::Clock;
use super::connections::Connections;
use super::counters::Counters;
use super::owners::Owners;
use super::remembered::Remembered;
use super::requests::Requests;
use super::skews::Skews;
use super::watchers::Watchers;
use crate::{Config, FinalSyncs};

/// Something the replica wants done on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transmit {
    /// Send one datagram of at most 1,140 bytes; it may be lost.
    Datagram {
        /// To which node.
        to: NodeName,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Open a bidirectional stream, then move frames with `poll_frame` and `handle_frame`.
    OpenStream {
        /// The replica's number for it.
        stream: StreamId,
        /// To which node.
        to: NodeName,
    },
    /// Break off a stream in both directions: the exchange on it was given up. It is not open here any more.
    CloseStream {
        /// Which one.
        stream: StreamId,
    },
    /// Ask for a stream's frames, though nothing has arrived on it: the exchange is over, and its half is to be finished.
    WakeStream {
        /// Which one.
        stream: StreamId,
    },
}

/// Something that happened which the owner of the replica may be waiting for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A network joined here has been synchronised for the first time, or nobody was there to synchronise with.
    NetworkReady(String),
    /// A network has been left: its tables are gone here.
    NetworkLeft {
        /// Which network.
        network: String,
        /// Whether what only this node knew has reached others.
        final_syncs: FinalSyncs,
    },
    /// A peer holds writes in our name and life that we never made: an earlier process bore the same generation. Take a
    /// higher one and call [`Replica::renew`](super::Replica::renew). May be told several times; of no account once
    /// our generation is another.
    GenerationTaken {
        /// The generation in question.
        generation: u64,
    },
}

/// The parts of a replica that every network needs a hand on.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) owners: Owners,
    pub(crate) connections: Connections,
    pub(crate) remembered: Remembered,
    pub(crate) watchers: Watchers,
    pub(crate) outbox: VecDeque<Transmit>,
    pub(crate) requests: Requests,
    pub(crate) events: VecDeque<Event>,
    pub(crate) counters: Counters,
    pub(crate) skews: Skews,
    /// A deadline came nearer outside of the driver's own calls: it has to be woken.
    pub(crate) wake: bool,
}

impl Common {
    /// A peer has told what its wall clock shows.
    pub(crate) fn note_wall_clock(&mut self, peer: &NodeName, theirs: u64, now: Instant) {
        if self.owners.get(peer.as_str()).is_some() {
            let ours = self.clock.wall(now);
            self.skews.note(&self.owners.me().name, peer, theirs, ours, now);
        }
    }

    /// Somebody holds writes in our name that we never made.
    pub(crate) fn report_taken_generation(&mut self) {
        let taken = Event::GenerationTaken { generation: self.owners.me().generation };
        // One chunk can show it many times.
        if self.events.back() != Some(&taken) {
            self.events.push_back(taken);
        }
    }
}
