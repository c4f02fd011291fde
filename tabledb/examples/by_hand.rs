//! Two databases in one process, replicated by hand: whatever carries datagrams and streams between processes can do the
//! same. `cargo run -p tabledb --example by_hand`.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use tabledb::{Config, Driver, FramePoll, NodeId, NodeName, StreamId, TableDb, Transmit};

/// One end of a stream: whose it is (0 or 1), and that side's number of it.
type End = (usize, StreamId);

/// The network between the two: every datagram and frame arrives at once.
struct Wire {
    drivers: [Driver; 2],
    names: [NodeName; 2],
    /// The two ends of each open stream.
    streams: BTreeMap<End, End>,
}

impl Wire {
    /// Passes on everything that both sides want to send. Returns how many messages that were.
    fn carry(&mut self, now: Instant) -> Result<usize, Box<dyn std::error::Error>> {
        let mut messages = 0;
        for (from, to) in [(0, 1), (1, 0)] {
            loop {
                // The lock is released before the message is passed on.
                let transmit = self.drivers[from].replica().poll_transmit(now);
                let Some(transmit) = transmit else { break };
                messages += 1;
                match transmit {
                    Transmit::Datagram { bytes, .. } => {
                        self.drivers[to].replica().handle_datagram(&self.names[from], &bytes, now)?;
                    }
                    Transmit::OpenStream { stream, .. } => {
                        let accepted =
                            self.drivers[to].replica().handle_stream_opened(&self.names[from], now);
                        self.streams.insert((from, stream), (to, accepted));
                        self.streams.insert((to, accepted), (from, stream));
                    }
                    Transmit::CloseStream { stream } => self.close((from, stream), now),
                    // All streams are polled below.
                    Transmit::WakeStream { .. } => {}
                }
            }
        }
        let mut ends: VecDeque<End> = self.streams.keys().copied().collect();
        while let Some((from, stream)) = ends.pop_front() {
            let Some(&(to, other)) = self.streams.get(&(from, stream)) else { continue };
            let poll = self.drivers[from].replica().poll_frame(stream, now);
            match poll {
                FramePoll::Frame(bytes) => {
                    messages += 1;
                    self.drivers[to].replica().handle_frame(other, &bytes, now)?;
                    ends.push_back((from, stream));
                }
                FramePoll::Wait => {}
                FramePoll::Finish => {
                    self.drivers[to].replica().handle_stream_finished(other, now);
                    if self.drivers[to].replica().poll_frame(other, now) == FramePoll::Finish {
                        self.close((from, stream), now);
                    }
                }
            }
        }
        Ok(messages)
    }

    fn close(&mut self, end: End, now: Instant) {
        let Some(other) = self.streams.remove(&end) else { return };
        self.streams.remove(&other);
        for (side, stream) in [end, other] {
            self.drivers[side].replica().handle_stream_closed(stream, now);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a program outside of the protocol reads the clock")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let names = [NodeName::new("a")?, NodeName::new("b")?];
    let ids = names.clone().map(|name| NodeId::new(name, 1));
    let databases = [TableDb::new(Config::new(ids[0].clone()))?, TableDb::new(Config::new(ids[1].clone()))?];
    // A program that moves the bytes of a database takes its driver, once.
    let [Some(a), Some(b)] = databases.each_ref().map(TableDb::driver) else {
        unreachable!("nobody else has")
    };
    // Membership says who is there: here each is the other's only peer.
    let start = Instant::now();
    a.replica().handle_owner_alive(&ids[1], start);
    b.replica().handle_owner_alive(&ids[0], start);
    for database in &databases {
        database.join_network("blue")?;
    }
    databases[0].create("blue", "services", "web", *b"10.0.0.7:80")?;
    databases[1].create("blue", "services", "db", *b"10.0.0.9:5432")?;

    // Time is an argument: these two seconds of replication take no time at all.
    let mut wire = Wire { drivers: [a, b], names, streams: BTreeMap::new() };
    let mut messages = 0;
    for milliseconds in 0..2000 {
        let now = start + Duration::from_millis(milliseconds);
        for driver in &wire.drivers {
            let mut replica = driver.replica();
            if replica.poll_timeout().is_some_and(|due| due <= now) {
                replica.handle_timeout(now);
            }
        }
        messages += wire.carry(now)?;
    }
    println!("{messages} messages");
    for (database, name) in databases.iter().zip(&wire.names) {
        let mut keys: Vec<_> =
            database.entries("blue", "services").into_iter().map(|entry| entry.key().to_owned()).collect();
        keys.sort();
        println!("{name} has {keys:?}");
        assert_eq!(keys.len(), 2, "both have both entries");
    }
    Ok(())
}
