//! Three members without a network: one joins late, one is cut off, and the others notice. The program carries their
//! bytes and their time by hand: `cargo run -p networkdb-membership --example virtual_time`.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use networkdb_membership::{Config, Event, Membership, NodeRecord, Transmit};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use wire::{FramePoll, NodeId, NodeName, StreamId};

/// The members. What one sends arrives at once, unless one of both is cut off.
struct Cluster {
    members: Vec<Membership>,
    cut_off: Option<usize>,
}

impl Cluster {
    fn add(&mut self, name: &str, seeds: &[SocketAddr], now: Instant) -> Result<SocketAddr, Box<dyn Error>> {
        let address = SocketAddr::from(([10, 0, 0, self.members.len() as u8 + 1], 7946));
        let id = NodeId::new(NodeName::new(name)?, 1);
        let record = NodeRecord { id, address, labels: BTreeMap::new() };
        let rng = ChaCha8Rng::seed_from_u64(self.members.len() as u64);
        let mut member = Membership::new(Config::loopback(), record, now, rng)?;
        member.join(seeds, now);
        self.members.push(member);
        Ok(address)
    }

    /// Carries out what one member requests.
    fn carry(&mut self, from: usize, now: Instant) -> Result<(), Box<dyn Error>> {
        while let Some(transmit) = self.members[from].poll_transmit() {
            let sender = self.members[from].me().record.clone();
            let is_at = |member: &Membership, address| member.me().record.address == address;
            let reach = |members: &[Membership], address| {
                let to = members.iter().position(|member| is_at(member, address))?;
                (self.cut_off != Some(from) && self.cut_off != Some(to)).then_some(to)
            };
            match transmit {
                Transmit::Datagram { to, bytes, .. } => {
                    // A datagram may be lost.
                    if let Some(to) = reach(&self.members, to.address) {
                        self.members[to].handle_datagram(&sender.id.name, sender.address, &bytes, now)?;
                    }
                }
                Transmit::OpenStream { stream, to } => match reach(&self.members, to.address) {
                    Some(to) => {
                        let accepted =
                            self.members[to].handle_stream_opened(&sender.id.name, sender.address, now);
                        let peer = self.members[to].me().record.id.name.clone();
                        self.members[from].handle_stream_connected(stream, &peer, now);
                        self.exchange([(from, stream), (to, accepted)], now)?;
                    }
                    None => self.members[from].handle_stream_closed(stream, now),
                },
                // A stream lasts no longer than its exchange of frames.
                Transmit::CloseStream { .. } => {}
            }
        }
        Ok(())
    }

    /// Moves the frames of a stream between its ends until neither has one, and closes it.
    fn exchange(&mut self, [a, b]: [(usize, StreamId); 2], now: Instant) -> Result<(), Box<dyn Error>> {
        let mut moved = true;
        while std::mem::take(&mut moved) {
            for ((from, stream), (to, other)) in [(a, b), (b, a)] {
                while let FramePoll::Frame(bytes) = self.members[from].poll_frame(stream, now) {
                    self.members[to].handle_frame(other, &bytes, now)?;
                    moved = true;
                }
            }
        }
        for (at, stream) in [a, b] {
            self.members[at].handle_stream_closed(stream, now);
        }
        Ok(())
    }

    /// Lets time pass, and prints what the members report.
    fn run(&mut self, milliseconds: std::ops::Range<u64>, start: Instant) -> Result<(), Box<dyn Error>> {
        for millisecond in milliseconds {
            let now = start + Duration::from_millis(millisecond);
            for at in 0..self.members.len() {
                self.members[at].handle_timeout(now);
                self.carry(at, now)?;
                while let Some(event) = self.members[at].poll_event() {
                    let what = match event {
                        Event::Joined(record) => format!("{} has joined", record.id.name),
                        Event::Suspected(id) => format!("{} does not answer", id.name),
                        Event::Failed(id) => format!("{} has failed", id.name),
                        other => format!("{other:?}"),
                    };
                    println!("{millisecond:>5} ms  {}: {what}", self.members[at].me().record.id.name);
                }
            }
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "only a starting point: no time passes")]
fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut cluster = Cluster { members: Vec::new(), cut_off: None };
    let seed = cluster.add("ada", &[], start)?;
    cluster.add("bob", &[seed], start)?;
    cluster.run(0..2000, start)?;
    cluster.add("cleo", &[seed], start + Duration::from_secs(2))?;
    cluster.run(2000..5000, start)?;
    // To the others it has crashed; to itself it is alone.
    cluster.cut_off = Some(1);
    cluster.run(5000..15_000, start)?;
    assert_eq!(cluster.members[0].alive_count(), 2, "ada and cleo are left");
    Ok(())
}
