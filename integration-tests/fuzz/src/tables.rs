//! The tables' replica, fed with whatever arrives.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tabledb::{Config, Driver, Event, Origin, Replica, TableDb, Transmit};
use wire::{Destination, FramePoll, NodeName, StreamId};

use crate::input::Input;
use crate::world::{
    MALLORY, Machine, NEWCOMER, PEER, VICTIM, WHILE, Wanted, World, address, first_instance, instance, name,
    wall_clock,
};

const NETWORKS: [&str; 3] = ["blue", "green", "red"];
const KEYS: [&str; 4] = ["", "a", "b", "long-long-long-long"];

pub(crate) struct Tables(pub(crate) Driver);

/// The tables of a node that starts `now`, with a clock that is right: the world began at `start`.
pub(crate) fn tables(who: &str, start: Instant, now: Instant) -> Driver {
    let origin = Origin { now, wall_clock: wall_clock(start, now), seed: who.len() as u64 };
    let tables = TableDb::starting_at(Config::new(instance(who, start, now)), origin);
    tables.expect("the settings fit together").driver().expect("it was just made")
}

/// Something the owner of tables asks of them.
pub(crate) fn ask(replica: &mut Replica, input: &mut Input<'_>, now: Instant) {
    let network = NETWORKS[input.below(NETWORKS.len())];
    let key = KEYS[input.below(KEYS.len())];
    match input.below(6) {
        0 => drop(replica.join_network(network, now)),
        1 => drop(replica.leave_network(network, now)),
        2 | 3 => drop(replica.create(network, "t", key, input.bytes(), now)),
        4 => drop(replica.update(network, "t", key, input.bytes(), now)),
        _ => drop(replica.delete(network, "t", key, now)),
    }
}

impl Machine for Tables {
    fn datagram(&mut self, from: &NodeName, _: SocketAddr, bytes: &[u8], now: Instant) {
        // The first byte tells gossip from what rides along with probes, which another machine would have distinguished.
        let Some((kind, bytes)) = bytes.split_first() else { return };
        let _ = match kind {
            0 => self.0.replica().handle_digest(from, bytes, now),
            _ => self.0.replica().handle_datagram(from, bytes, now),
        };
    }

    fn opened(&mut self, from: &NodeName, _: SocketAddr, now: Instant) -> StreamId {
        self.0.replica().handle_stream_opened(from, now)
    }

    fn connected(&mut self, _: StreamId, _: &NodeName, _: Instant) {}

    fn frame(&mut self, stream: StreamId, bytes: &[u8], now: Instant) -> bool {
        self.0.replica().handle_frame(stream, bytes, now).is_ok()
    }

    fn finished(&mut self, stream: StreamId, now: Instant) {
        self.0.replica().handle_stream_finished(stream, now);
    }

    fn closed(&mut self, stream: StreamId, now: Instant) {
        self.0.replica().handle_stream_closed(stream, now);
    }

    fn lost(&mut self, peer: &NodeName, now: Instant) {
        self.0.replica().handle_owner_failed(&first_instance(peer.as_str()), now);
    }

    fn next(&mut self, now: Instant) -> Option<Wanted> {
        let mut replica = self.0.replica();
        while let Some(event) = replica.poll_event() {
            if let Event::GenerationTaken { generation } = event {
                replica.renew(generation.saturating_add(1), now);
            }
        }
        let to = |name: NodeName| Destination { address: address(name.as_str()), name: Some(name) };
        loop {
            return Some(match replica.poll_transmit(now)? {
                Transmit::Datagram { to: name, bytes } => {
                    Wanted::Datagram { to: to(name), bytes: [&[1], &bytes[..]].concat() }
                }
                Transmit::OpenStream { stream, to: name } => Wanted::Open { stream, to: to(name) },
                Transmit::CloseStream { stream } => Wanted::Close { stream },
                // Every stream is asked again and again.
                Transmit::WakeStream { .. } => continue,
            });
        }
    }

    fn next_frame(&mut self, stream: StreamId, now: Instant) -> FramePoll {
        self.0.replica().poll_frame(stream, now)
    }

    fn due(&self) -> Option<Instant> {
        self.0.replica().poll_timeout()
    }

    fn timeout(&mut self, now: Instant) {
        self.0.replica().handle_timeout(now);
    }

    fn ask(&mut self, input: &mut Input<'_>, now: Instant) {
        match input.below(8) {
            0 => self.0.replica().handle_owner_alive(&first_instance(MALLORY), now),
            1 => self.0.replica().handle_owner_failed(&first_instance(MALLORY), now),
            2 => self.0.replica().handle_owner_alive(&first_instance(PEER), now),
            3 => drop(self.0.replica().digest_for(&name(PEER), 100, now)),
            _ => ask(&mut self.0.replica(), input, now),
        }
    }
}

/// Whether both show what one of them writes.
pub(crate) fn share(one: &TableDb, other: &TableDb) -> bool {
    let shown = |tables: &TableDb| {
        let entries = tables.entries("fresh", "t");
        entries.iter().map(|entry| (entry.key().to_string(), entry.value().to_vec())).collect::<Vec<_>>()
    };
    let wanted = [("one".to_owned(), b"1".to_vec()), ("other".to_owned(), b"2".to_vec())];
    shown(one) == wanted && shown(other) == wanted
}

/// Puts both on a network of their own, and has each write something.
pub(crate) fn meet(one: &mut Replica, other: &mut Replica, now: Instant) {
    for (replica, key, value) in [(one, "one", b"1"), (other, "other", b"2")] {
        replica.join_network("fresh", now).expect("there is room for a network");
        replica.create("fresh", "t", key, value.as_slice(), now).expect("nobody else writes this key");
    }
}

/// Feeds a replica with `bytes`; panics if it holds too much then, or does not share a table with a newcomer.
pub fn run(bytes: &[u8]) {
    let now = Instant::now();
    let world = World::run(
        || {
            let (victim, peer) = (tables(VICTIM, now, now), tables(PEER, now, now));
            for (tables, others) in [(&victim, [PEER, MALLORY]), (&peer, [VICTIM, MALLORY])] {
                let mut replica = tables.replica();
                others.iter().for_each(|other| replica.handle_owner_alive(&first_instance(other), now));
                replica.join_network("blue", now).expect("there is room for a network");
            }
            victim.replica().handle_cluster_joined(&name(PEER), now);
            World::new(Tables(victim), Tables(peer), PEER, now)
        },
        bytes,
    );
    assert_eq!(world.victim.0.replica().recount(), Ok(()), "after what the input says");
    let now = world.now;
    let newcomer = Tables(tables(NEWCOMER, world.start, now));
    let victims_life = world.victim.0.tables().node();
    newcomer.0.replica().handle_owner_alive(&victims_life, now);
    world.victim.0.replica().handle_owner_alive(&instance(NEWCOMER, world.start, now), now);
    newcomer.0.replica().handle_cluster_joined(&name(VICTIM), now);
    let mut world = world.meet(newcomer);
    meet(&mut world.victim.0.replica(), &mut world.peer.0.replica(), now);
    let agreed = world
        .be_kind(Duration::from_secs(120), |world| share(world.victim.0.tables(), world.peer.0.tables()));
    assert!(agreed, "a newcomer does not see what is written: {:?}", world.victim.0.replica().counters());
    world.be_kind(WHILE, |_| false);
    assert!(share(world.victim.0.tables(), world.peer.0.tables()), "what was agreed on is forgotten");
    assert_eq!(world.victim.0.replica().recount(), Ok(()), "after the newcomer was served");
}
