//! Membership, fed with whatever arrives.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use membership::{Config, Membership, NodeRecord, State, Transmit};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use wire::{FramePoll, NodeName, StreamId};

use crate::input::Input;
use crate::world::{
    MALLORY, Machine, NEWCOMER, PEER, VICTIM, WHILE, Wanted, World, address, first_instance, instance,
};

struct Member(Membership);

impl Member {
    fn new(who: &str, start: Instant, now: Instant) -> Self {
        let record =
            NodeRecord { id: instance(who, start, now), address: address(who), labels: BTreeMap::new() };
        let rng = ChaCha8Rng::seed_from_u64(who.len() as u64);
        Self(Membership::new(Config::lan(), record, now, rng).expect("the settings fit together"))
    }

    fn holds_alive(&self, who: &str) -> bool {
        self.0.member(who).is_some_and(|member| member.state == State::Alive)
    }
}

impl Machine for Member {
    fn datagram(&mut self, from: &NodeName, source: SocketAddr, bytes: &[u8], now: Instant) {
        let _ = self.0.handle_datagram(from, source, bytes, now);
    }

    fn opened(&mut self, from: &NodeName, source: SocketAddr, now: Instant) -> StreamId {
        self.0.handle_stream_opened(from, source, now)
    }

    fn connected(&mut self, stream: StreamId, peer: &NodeName, now: Instant) {
        self.0.handle_stream_connected(stream, peer, now);
    }

    fn frame(&mut self, stream: StreamId, bytes: &[u8], now: Instant) -> bool {
        self.0.handle_frame(stream, bytes, now).is_ok()
    }

    fn finished(&mut self, stream: StreamId, now: Instant) {
        self.0.handle_stream_finished(stream, now);
    }

    fn closed(&mut self, stream: StreamId, now: Instant) {
        self.0.handle_stream_closed(stream, now);
    }

    fn lost(&mut self, peer: &NodeName, now: Instant) {
        self.0.handle_connection_lost(peer, now);
    }

    fn next(&mut self, _now: Instant) -> Option<Wanted> {
        while self.0.poll_event().is_some() {}
        Some(match self.0.poll_transmit()? {
            Transmit::Datagram { to, bytes, .. } => Wanted::Datagram { to, bytes },
            Transmit::OpenStream { stream, to } => Wanted::Open { stream, to },
            Transmit::CloseStream { stream } => Wanted::Close { stream },
        })
    }

    fn next_frame(&mut self, stream: StreamId, now: Instant) -> FramePoll {
        self.0.poll_frame(stream, now)
    }

    fn due(&self) -> Option<Instant> {
        self.0.poll_timeout()
    }

    fn timeout(&mut self, now: Instant) {
        self.0.handle_timeout(now);
    }

    fn ask(&mut self, input: &mut Input<'_>, now: Instant) {
        match input.below(4) {
            0 => self.0.join(&[address(PEER), address(MALLORY)], now),
            1 => self.0.join(&[], now),
            // Its owner knows only instances that others can have reported.
            2 => drop(self.0.renew(first_instance(VICTIM).generation + input.below(5) as u64, now)),
            _ => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let labels = BTreeMap::from([(text(input.bytes()), text(input.bytes()))]);
                let _ = self.0.update_labels(labels, now);
            }
        }
    }
}

/// Feeds a member with `bytes`; panics if it holds too much then, or does not take a newcomer in.
pub fn run(bytes: &[u8]) {
    let now = Instant::now();
    let world = World::run(
        || {
            let mut world = World::new(Member::new(VICTIM, now, now), Member::new(PEER, now, now), PEER, now);
            world.victim.0.join(&[address(PEER)], now);
            world
        },
        bytes,
    );
    if world.victim.0.is_leaving() {
        return;
    }
    let newcomer = Member::new(NEWCOMER, world.start, world.now);
    let mut world = world.meet(newcomer);
    let now = world.now;
    world.peer.0.join(&[address(VICTIM)], now);
    let met = world.be_kind(Duration::from_secs(120), |world| {
        world.victim.holds_alive(NEWCOMER) && world.peer.holds_alive(VICTIM)
    });
    assert!(met, "a newcomer is not taken in: {:?}", world.victim.0.statistics());
    world.be_kind(WHILE, |_| false);
    let stays = world.victim.holds_alive(NEWCOMER) && world.peer.holds_alive(VICTIM);
    assert!(stays, "a newcomer does not stay: {:?}", world.victim.0.statistics());
}
