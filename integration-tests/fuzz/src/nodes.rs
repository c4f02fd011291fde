//! A whole node without its sockets, fed with whatever arrives.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use networkdb::{MachineSettings, NodeMachine, NodeTransmit, compose};
use wire::{FramePoll, NodeName, StreamId};

use crate::input::Input;
use crate::tables::{ask, meet, share};
use crate::world::{
    MALLORY, Machine, NEWCOMER, PEER, VICTIM, WHILE, Wanted, World, address, instance, wall_clock,
};

struct Node(NodeMachine);

impl Node {
    fn new(who: &str, start: Instant, now: Instant) -> Self {
        let (id, wall) = (instance(who, start, now), wall_clock(start, now));
        let settings = MachineSettings::new(id, address(who), now, wall, who.len() as u64);
        Self(compose(settings).expect("the settings fit together"))
    }
}

impl Machine for Node {
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

    fn next(&mut self, now: Instant) -> Option<Wanted> {
        while self.0.poll_event().is_some() {}
        loop {
            return Some(match self.0.poll_transmit(now)? {
                NodeTransmit::Datagram { to, bytes, .. } => Wanted::Datagram { to, bytes },
                NodeTransmit::OpenStream { stream, to } => Wanted::Open { stream, to },
                NodeTransmit::CloseStream { stream } => Wanted::Close { stream },
                // Every stream is asked again and again.
                NodeTransmit::WakeStream { .. } => continue,
            });
        }
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
        match input.below(8) {
            0 => self.0.join(&[address(PEER), address(MALLORY)], now),
            _ => ask(&mut self.0.replica(), input, now),
        }
    }
}

/// Feeds a node with `bytes`; panics if it holds too much then, or does not share a table with a newcomer.
pub fn run(bytes: &[u8]) {
    let now = Instant::now();
    let world = World::run(
        || {
            let mut world = World::new(Node::new(VICTIM, now, now), Node::new(PEER, now, now), PEER, now);
            for node in [&mut world.victim, &mut world.peer] {
                node.0.join_network("blue", now).expect("there is room for a network");
            }
            world.victim.0.join(&[address(PEER)], now);
            world
        },
        bytes,
    );
    assert_eq!(world.victim.0.replica().recount(), Ok(()), "after what the input says");
    let newcomer = Node::new(NEWCOMER, world.start, world.now);
    let mut world = world.meet(newcomer);
    let now = world.now;
    world.peer.0.join(&[address(VICTIM)], now);
    meet(&mut world.victim.0.replica(), &mut world.peer.0.replica(), now);
    let agreed = world
        .be_kind(Duration::from_secs(180), |world| share(world.victim.0.tables(), world.peer.0.tables()));
    assert!(
        agreed,
        "a newcomer does not see what is written: {:?} {:?}",
        world.victim.0.membership().statistics(),
        world.victim.0.replica().counters()
    );
    world.be_kind(WHILE, |_| false);
    let shares = share(world.victim.0.tables(), world.peer.0.tables());
    assert!(shares, "a newcomer does not stay: {:?}", world.victim.0.membership().statistics());
}
