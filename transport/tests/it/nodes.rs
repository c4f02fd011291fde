//! Nodes for tests, and helpers that wait for a condition with a timeout.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use networkdb_transport::{
    Arrival, Config, FrameReceiver, FrameSender, Incoming, KeySet, Peer, Secret, Statistics, Transport,
    generate_secret,
};
use tokio::time::{Instant, timeout};
use wire::{Destination, NodeName};

/// The time limit for everything that the tests wait for.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

pub(crate) fn secret() -> Secret {
    Secret::parse(&generate_secret()).unwrap()
}

/// A node, and its arrivals.
pub(crate) struct Node {
    pub(crate) transport: Transport,
    pub(crate) incoming: Incoming,
    name: NodeName,
}

/// A configuration on a port that the system chooses.
pub(crate) fn config(text: &str, keys: &KeySet) -> Config {
    Config::new(name(text), "127.0.0.1:0".parse().unwrap(), keys.clone())
}

impl Node {
    pub(crate) fn start(config: Config) -> Self {
        let name = config.name.clone();
        let (transport, incoming) = Transport::bind(config).unwrap();
        Self { transport, incoming, name }
    }

    /// A node with the development secret.
    pub(crate) fn development(name: &str) -> Self {
        Self::start(config(name, &KeySet::development()))
    }

    /// Binds again to the address of a node that has just stopped, as soon as the port is free.
    pub(crate) async fn restart(config: Config) -> Self {
        let name = config.name.clone();
        let start = Instant::now();
        loop {
            match Transport::bind(config.clone()) {
                Ok((transport, incoming)) => return Self { transport, incoming, name },
                Err(error) if start.elapsed() > TIMEOUT => panic!("{error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.transport.local_address()
    }

    /// This node, by name and address.
    pub(crate) fn destination(&self) -> Destination {
        Destination { name: Some(self.name.clone()), address: self.address() }
    }

    /// This node, by address only, like a seed.
    pub(crate) fn seed(&self) -> Destination {
        Destination { name: None, address: self.address() }
    }

    pub(crate) async fn arrival(&mut self) -> Arrival {
        timeout(TIMEOUT, self.incoming.next()).await.expect("nothing arrived").expect("shut down")
    }

    /// The next datagram. Other arrivals before it are skipped.
    pub(crate) async fn datagram(&mut self) -> (Peer, Bytes) {
        loop {
            if let Arrival::Datagram { from, bytes } = self.arrival().await {
                return (from, bytes);
            }
        }
    }

    /// The next stream. Other arrivals before it are skipped.
    pub(crate) async fn stream(&mut self) -> (Peer, FrameSender, FrameReceiver) {
        loop {
            if let Arrival::Stream { from, sender, receiver } = self.arrival().await {
                return (from, sender, receiver);
            }
        }
    }

    /// Sends until the peer has received one of the datagrams: they may be lost, and the first ones have
    /// no connection.
    pub(crate) async fn reach(&self, to: &mut Node, text: &'static str) {
        let destination = to.destination();
        let start = Instant::now();
        while start.elapsed() < TIMEOUT {
            let _ = self.transport.send_datagram(&destination, Bytes::from_static(text.as_bytes()));
            let arrived = timeout(Duration::from_millis(50), to.datagram()).await;
            if arrived.is_ok_and(|(from, bytes)| from.name == self.name && bytes == text) {
                return;
            }
        }
        panic!("{:?} does not reach {:?}", self.name, to.name);
    }

    /// Waits until the counters satisfy a condition.
    pub(crate) async fn counted(&self, wanted: impl Fn(&Statistics) -> bool) -> Statistics {
        until("the counters", || {
            let statistics = self.transport.statistics();
            wanted(&statistics).then_some(statistics)
        })
        .await
    }
}

/// Waits until `condition` returns a value.
pub(crate) async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < TIMEOUT, "{what}: not in {TIMEOUT:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
