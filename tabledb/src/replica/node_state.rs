//! State of the node that all of its networks share, and the output of the replica.

use std::collections::VecDeque;
use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use wire::{NodeName, StreamId};

use super::Origin;
use super::arrivals::Arrivals;
use super::clock::Clock;
use super::connections::Connections;
use super::counters::Counters;
use super::forgotten_owners::ForgottenOwners;
use super::owners::Owners;
use super::requests::Requests;
use super::skews::Skews;
use super::watchers::Watchers;
use crate::{Config, FinalSyncs, JoinOutcome, Latencies};

/// An action that the replica wants the driver to take.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
// Exhaustive: a driver that ignored one would break the protocol.
pub enum Transmit {
    /// Send one datagram of at most 1,140 bytes; it may be lost.
    Datagram {
        /// The receiver.
        to: NodeName,
        /// The content.
        bytes: Vec<u8>,
    },
    /// Open a bidirectional stream, then move frames with `poll_frame` and `handle_frame`.
    OpenStream {
        /// The replica's number of the stream.
        stream: StreamId,
        /// The peer.
        to: NodeName,
    },
    /// Reset a stream in both directions: the replica gave the session up, and the stream is no longer open
    /// here.
    CloseStream {
        /// The stream.
        stream: StreamId,
    },
    /// Poll a stream for frames although nothing arrived on it: the session is over, and our half of the
    /// stream has to be finished.
    WakeStream {
        /// The stream.
        stream: StreamId,
    },
}

/// An event for the driver of the replica.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
// Exhaustive: a driver acts on each, and one of them asks it for a new generation.
pub enum Event {
    /// A joined network completed its initial sync, or does not wait for it any longer.
    NetworkReady {
        /// The network.
        network: String,
        /// What this node holds of it.
        outcome: JoinOutcome,
    },
    /// This node has left a network: its tables are dropped here.
    NetworkLeft {
        /// The network.
        network: String,
        /// Whether the writes that only this node knew reached other members.
        final_syncs: FinalSyncs,
    },
    /// A peer holds writes in the name of our instance that we never made: an earlier process used the same
    /// generation. The driver takes a higher generation and calls [`Replica::renew`](super::Replica::renew).
    /// May be reported several times; it has no meaning once our generation has changed.
    GenerationTaken {
        /// The generation in conflict.
        generation: u64,
    },
}

/// The state that every network of the node uses: settings, clock, owners, watchers, requests and output.
#[derive(Debug)]
pub(crate) struct NodeState {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) owners: Owners,
    pub(crate) connections: Connections,
    pub(crate) forgotten_owners: ForgottenOwners,
    pub(crate) watchers: Watchers,
    pub(crate) outbox: VecDeque<Transmit>,
    pub(crate) requests: Requests,
    pub(crate) events: VecDeque<Event>,
    pub(crate) counters: Counters,
    pub(crate) latencies: Latencies,
    pub(crate) skews: Skews,
    pub(crate) arrivals: Arrivals,
    /// A call that is not the driver's own moved a deadline forward: the driver has to be woken.
    pub(crate) wake: bool,
}

impl NodeState {
    /// The state of a node on no network.
    pub(crate) fn new(config: Config, origin: Origin) -> Self {
        Self {
            clock: Clock::new(origin.now, origin.wall_clock),
            rng: ChaCha8Rng::seed_from_u64(origin.seed),
            owners: Owners::new(config.node.clone(), &config.limits),
            connections: Connections::default(),
            forgotten_owners: ForgottenOwners::default(),
            watchers: Watchers::new((&config.limits).into()),
            outbox: VecDeque::new(),
            requests: Requests::default(),
            events: VecDeque::new(),
            counters: Counters::default(),
            latencies: Latencies::default(),
            skews: Skews::default(),
            arrivals: Arrivals::default(),
            wake: false,
            config,
        }
    }

    /// A peer has reported its wall clock.
    pub(crate) fn note_wall_clock(&mut self, peer: &NodeName, theirs: u64, now: Instant) {
        if self.owners.get(peer.as_str()).is_some() {
            let ours = self.clock.wall(now);
            self.skews.note(&self.owners.me().name, peer, theirs, ours, now);
        }
    }

    /// A peer holds writes in our name that we never made.
    pub(crate) fn report_generation_conflict(&mut self) {
        let taken = Event::GenerationTaken { generation: self.owners.me().generation };
        // One chunk can show the conflict many times.
        if self.events.back() != Some(&taken) {
            self.events.push_back(taken);
        }
    }
}
