//! Replicas connected by a simulated wire: every datagram and frame is really encoded, and delivered in order
//! at once, unless a test arranges otherwise.

mod batches;
mod conditional_writes;
mod connections;
mod convergence;
mod exhaustive;
mod inquiries;
mod latencies;
mod model;
mod resuming;
mod stories;
mod syncing;
mod watching;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use wire::{FramePoll, NodeId, NodeName, StreamId};

use super::message::{Frame, Open, SessionKind, Standing};
use super::{Event, Origin, Replica, Transmit};
use crate::{Config, JoinOutcome, SyncProgress};

pub(super) const NET: &str = "net";
pub(super) const TABLE: &str = "table";

/// The second node's first frame, made by hand, of a session.
pub(super) fn open(kind: SessionKind, epoch: u64) -> Frame<'static> {
    Frame::Open(Open {
        kind,
        network: if kind == SessionKind::Lists { "" } else { NET },
        clock: 0,
        generation: 1,
        epoch,
        fingerprint: 7,
        periodic: false,
        wall: 1_000_000_000_000,
        standing: Standing::Synchronised,
    })
}

/// The event that ends a join.
pub(super) fn ready(network: &str, outcome: JoinOutcome) -> Event {
    Event::NetworkReady { network: network.to_owned(), outcome }
}

/// One end of a stream: its replica, and the number there.
type End = (usize, StreamId);

/// A few replicas that know each other.
pub(super) struct Cluster {
    pub(super) replicas: Vec<Replica>,
    pub(super) now: Instant,
    /// (from, to): nothing is delivered.
    pub(super) cut: BTreeSet<(usize, usize)>,
    /// All datagrams are lost.
    pub(super) lose_datagrams: bool,
    /// One frame in each direction of a stream moves every tenth of a second.
    pub(super) slow_streams: bool,
    frames_at: Instant,
    /// Datagrams not delivered yet, while they are held.
    pub(super) held: Option<Vec<(usize, usize, Vec<u8>)>>,
    streams: BTreeMap<End, End>,
    pub(super) events: Vec<VecDeque<Event>>,
    pub(super) frames: u64,
    pub(super) bytes: u64,
    pub(super) datagrams: u64,
}

pub(super) fn name(at: usize) -> NodeName {
    NodeName::new(&format!("n{at}")).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "only a starting point")]
pub(super) fn start() -> Instant {
    Instant::now()
}

impl Cluster {
    /// `count` replicas, all on the network, all synchronised.
    pub(super) fn joined(count: usize) -> Self {
        let mut cluster = Self::strangers(count, |_| {});
        for at in 0..count {
            cluster.join(at);
        }
        cluster.settle();
        cluster
    }

    pub(super) fn strangers(count: usize, configure: impl Fn(&mut Config)) -> Self {
        let now = start();
        let replicas = (0..count).map(|at| {
            let mut config = Config::new(NodeId::new(name(at), 1));
            configure(&mut config);
            let origin = Origin { now, wall_clock: Duration::from_secs(1_000_000), seed: at as u64 };
            Replica::new(config, origin).unwrap()
        });
        let mut cluster = Self {
            replicas: replicas.collect(),
            now,
            cut: BTreeSet::new(),
            lose_datagrams: false,
            slow_streams: false,
            frames_at: now,
            held: None,
            streams: BTreeMap::new(),
            events: vec![VecDeque::new(); count],
            frames: 0,
            bytes: 0,
            datagrams: 0,
        };
        for a in 0..count {
            for b in (0..count).filter(|&b| b != a) {
                let instance = cluster.replicas[b].node().clone();
                cluster.replicas[a].handle_owner_alive(&instance, now);
            }
        }
        cluster
    }

    pub(super) fn join(&mut self, at: usize) {
        let now = self.now;
        self.replicas[at].join_network(NET, now).unwrap();
    }

    pub(super) fn create(&mut self, at: usize, key: &str, value: &str) {
        let now = self.now;
        self.replicas[at].create(NET, TABLE, key, value.as_bytes(), now).unwrap();
    }

    pub(super) fn update(&mut self, at: usize, key: &str, value: &str) {
        let now = self.now;
        self.replicas[at].update(NET, TABLE, key, value.as_bytes(), now).unwrap();
    }

    pub(super) fn delete(&mut self, at: usize, key: &str) {
        let now = self.now;
        self.replicas[at].delete(NET, TABLE, key, now).unwrap();
    }

    pub(super) fn failed(&mut self, at: usize, whom: usize) {
        let (instance, now) = (self.replicas[whom].node().clone(), self.now);
        self.replicas[at].handle_owner_failed(&instance, now);
    }

    pub(super) fn alive(&mut self, at: usize, whom: usize) {
        let (instance, now) = (self.replicas[whom].node().clone(), self.now);
        self.replicas[at].handle_owner_alive(&instance, now);
    }

    /// Cuts everything between `a` and `b`.
    pub(super) fn part(&mut self, a: usize, b: usize) {
        self.cut.extend([(a, b), (b, a)]);
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    /// The visible entries at `at`, by key.
    pub(super) fn shown(&self, at: usize) -> BTreeMap<String, String> {
        let Some(inspected) = self.replicas[at].inspect(NET, self.now) else { return BTreeMap::new() };
        let visible = inspected.entries.into_iter().filter(|(_, entry)| entry.visible);
        visible
            .map(|((_, key), entry)| {
                (key, String::from_utf8_lossy(entry.value.as_deref().unwrap_or_default()).into_owned())
            })
            .collect()
    }

    pub(super) fn get(&self, at: usize, key: &str) -> Option<String> {
        self.shown(at).remove(key)
    }

    /// Lets a little time pass: enough for updates, watermarks and pulls.
    pub(super) fn settle(&mut self) {
        self.run(Duration::from_millis(500));
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.exchange();
            let next = self.replicas.iter().filter_map(Replica::poll_timeout).min();
            match next.filter(|&next| next <= end) {
                Some(next) => self.now = self.now.max(next),
                None => break,
            }
            let now = self.now;
            for replica in &mut self.replicas {
                if replica.poll_timeout().is_some_and(|due| due <= now) {
                    replica.handle_timeout(now);
                }
            }
        }
        self.now = end;
    }

    fn at_of(&self, to: &NodeName) -> usize {
        self.replicas.iter().position(|replica| replica.node().name == *to).unwrap()
    }

    /// Delivers everything until nothing moves.
    pub(super) fn exchange(&mut self) {
        let now = self.now;
        loop {
            let mut moved = false;
            for at in 0..self.replicas.len() {
                while let Some(transmit) = self.replicas[at].poll_transmit(now) {
                    moved = true;
                    match transmit {
                        Transmit::Datagram { to, bytes } => {
                            let to = self.at_of(&to);
                            self.datagrams += 1;
                            self.bytes += bytes.len() as u64;
                            if let Some(held) = &mut self.held {
                                held.push((at, to, bytes));
                            } else if !self.lose_datagrams {
                                self.deliver(at, to, &bytes);
                            }
                        }
                        Transmit::OpenStream { stream, to } => {
                            let to = self.at_of(&to);
                            if self.cut.contains(&(at, to)) {
                                self.replicas[at].handle_stream_closed(stream, now);
                                continue;
                            }
                            let from = self.replicas[at].node().name.clone();
                            let theirs = self.replicas[to].handle_stream_opened(&from, now);
                            self.streams.insert((at, stream), (to, theirs));
                            self.streams.insert((to, theirs), (at, stream));
                        }
                        Transmit::CloseStream { stream } => self.close((at, stream)),
                        // Every end is polled repeatedly anyway.
                        Transmit::WakeStream { .. } => {}
                    }
                }
                while let Some(event) = self.replicas[at].poll_event() {
                    self.events[at].push_back(event);
                }
            }
            if !self.slow_streams || now >= self.frames_at {
                self.frames_at = now + Duration::from_millis(100);
                for end in self.streams.keys().copied().collect::<Vec<_>>() {
                    moved |= self.move_frame(end);
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Moves one frame from `end` to the other, if there is one.
    fn move_frame(&mut self, end: End) -> bool {
        let now = self.now;
        let Some(&other) = self.streams.get(&end) else { return false };
        if self.cut.contains(&(end.0, other.0)) {
            self.close(end);
            return true;
        }
        match self.replicas[end.0].poll_frame(end.1, now) {
            FramePoll::Frame(frame) => {
                self.frames += 1;
                self.bytes += frame.len() as u64;
                if self.replicas[other.0].handle_frame(other.1, &frame, now).is_err() {
                    self.close(end);
                }
                self.recount(other.0);
                true
            }
            FramePoll::Wait => false,
            FramePoll::Finish => {
                // The stream is over once both ends have finished.
                self.replicas[other.0].handle_stream_finished(other.1, now);
                if self.replicas[other.0].poll_frame(other.1, now) == FramePoll::Finish {
                    self.close(end);
                    return true;
                }
                false
            }
        }
    }

    fn close(&mut self, end: End) {
        let now = self.now;
        if let Some(other) = self.streams.remove(&end) {
            self.streams.remove(&other);
            self.replicas[end.0].handle_stream_closed(end.1, now);
            self.replicas[other.0].handle_stream_closed(other.1, now);
        }
    }

    pub(super) fn deliver(&mut self, from: usize, to: usize, bytes: &[u8]) {
        if self.cut.contains(&(from, to)) {
            return;
        }
        let (name, now) = (self.replicas[from].node().name.clone(), self.now);
        self.replicas[to].handle_datagram(&name, bytes, now).unwrap();
        self.recount(to);
    }

    /// The incremental fingerprint equals one computed from scratch, and a small store is checked whole.
    fn recount(&mut self, at: usize) {
        if self.replicas[at].networks.iter().flatten().all(|network| network.store.counts().0 <= 100) {
            assert_eq!(self.replicas[at].recount(), Ok(()), "n{at}");
        }
        for network in self.replicas[at].networks.iter_mut().flatten() {
            let counted_anew = network.store.attachments().fold(0, |all, (_, held)| all ^ held.digest());
            assert_eq!(network.store.fingerprint(), counted_anew, "n{at}");
        }
    }

    /// Lets every pair compare fingerprints, as if a probe and its acknowledgement had carried them.
    pub(super) fn exchange_digests(&mut self) {
        let now = self.now;
        for a in 0..self.replicas.len() {
            for b in (0..self.replicas.len()).filter(|&b| b != a) {
                if self.cut.contains(&(a, b)) {
                    continue;
                }
                let (from, to) = (name(a), name(b));
                if let Some(digest) = self.replicas[a].digest_for(&to, 500, now) {
                    self.replicas[b].handle_digest(&from, &digest, now).unwrap();
                }
            }
        }
        self.exchange();
    }

    /// Probes with digests for a while.
    pub(super) fn probe_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.exchange_digests();
            self.run(Duration::from_millis(500));
        }
    }

    /// All replicas on the network show the same entries.
    pub(super) fn assert_agreement(&self) {
        let joined: Vec<usize> =
            (0..self.replicas.len()).filter(|&at| self.replicas[at].statistics(NET).is_some()).collect();
        for pair in joined.windows(2) {
            assert_eq!(self.shown(pair[0]), self.shown(pair[1]), "n{} and n{} differ", pair[0], pair[1]);
            let digest = |at: usize| self.replicas[at].statistics(NET).unwrap().digest;
            assert_eq!(
                digest(pair[0]),
                digest(pair[1]),
                "the digests of n{} and n{} differ",
                pair[0],
                pair[1]
            );
        }
    }
}
