//! Links that can be cut: in front of each node stands a relay of UDP packets, and others know the node by the relay's
//! address.
//!
//! A connection goes through the relay of the node that was dialled, in both directions. So a relay that asks the
//! table of cuts about each packet is all it takes to part two nodes, whichever of them dialled.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Who does not hear whom, by the addresses where the nodes really listen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cuts(Arc<Mutex<BTreeSet<(SocketAddr, SocketAddr)>>>);

impl Cuts {
    /// Nothing passes between the two any more.
    pub(crate) fn part(&self, one: SocketAddr, other: SocketAddr) {
        self.0.lock().unwrap().extend([(one, other), (other, one)]);
    }

    /// All links are whole again.
    pub(crate) fn heal(&self) {
        self.0.lock().unwrap().clear();
    }

    fn passes(&self, from: SocketAddr, to: SocketAddr) -> bool {
        !self.0.lock().unwrap().contains(&(from, to))
    }
}

/// The relay in front of one node; gone when dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    front: Arc<UdpSocket>,
    tasks: JoinSet<()>,
}

/// The largest UDP packet.
const PACKET: usize = 65_536;

impl Relay {
    pub(crate) async fn bind() -> Self {
        Self { front: Arc::new(local_socket().await), tasks: JoinSet::new() }
    }

    /// Where others send to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.front.local_addr().unwrap()
    }

    /// Begins to pass packets on to and from the node at `node`.
    pub(crate) fn lead_to(&mut self, node: SocketAddr, cuts: Cuts) {
        self.tasks.spawn(pass_on(self.front.clone(), node, cuts));
    }
}

async fn pass_on(front: Arc<UdpSocket>, node: SocketAddr, cuts: Cuts) {
    // The node distinguishes its peers by their ports, so each gets one here.
    let mut callers: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut ways_back = JoinSet::new();
    let mut packet = vec![0; PACKET];
    loop {
        // An error reports that an earlier packet found no listener.
        let Ok((length, caller)) = front.recv_from(&mut packet).await else { continue };
        if !cuts.passes(caller, node) {
            continue;
        }
        let behind = match callers.entry(caller) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let behind = Arc::new(local_socket().await);
                ways_back.spawn(pass_back(behind.clone(), front.clone(), node, caller, cuts.clone()));
                new.insert(behind)
            }
        };
        let _ = behind.send_to(&packet[..length], node).await;
    }
}

async fn pass_back(
    behind: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    node: SocketAddr,
    caller: SocketAddr,
    cuts: Cuts,
) {
    let mut packet = vec![0; PACKET];
    loop {
        let Ok((length, from)) = behind.recv_from(&mut packet).await else { continue };
        if from == node && cuts.passes(node, caller) {
            let _ = front.send_to(&packet[..length], caller).await;
        }
    }
}

async fn local_socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.expect("loopback has a free port")
}
