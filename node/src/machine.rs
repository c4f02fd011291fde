//! The composition of membership and tables into one state machine that owns no socket, clock or thread.
//!
//! The driver feeds it with tokio and QUIC; the simulator feeds the very same code with a heap of timed events.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use tabledb::TableDb;
use wire::{Destination, FramePoll, NodeName, StreamId};

/// Something the node wants done on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeTransmit {
    /// Send one datagram; it may be lost.
    Datagram {
        /// Where to.
        to: Destination,
        /// At most the datagram budget (1,150 bytes by default).
        bytes: Vec<u8>,
    },
    /// Open a bidirectional stream, then move frames with `poll_frame` and `handle_frame`.
    OpenStream {
        /// The machine's own number for it.
        stream: StreamId,
        /// Where to.
        to: Destination,
    },
}

/// Something the owner of the node may want to know. To be extended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeEvent {
    /// What membership reported.
    Membership(membership::Event),
    /// The first sync of a network joined here is over, or nobody was there to sync with.
    NetworkReady(String),
    /// A network has been left: the final sync is over, its tables are gone here.
    NetworkLeft(String),
}

/// What arrived could not be used; it was dropped and counted.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The bytes did not decode, or came on a stream that is unknown.
    #[error("{0}")]
    Malformed(String),
}

/// One node without its sockets.
#[derive(Debug)]
pub struct NodeMachine;

#[allow(missing_docs, unused_variables)]
impl NodeMachine {
    /// Composes the two machines. Writes are made on `tables` (thread-safe; the caller gives the time through
    /// `tables.replica()`), after which the driver polls.
    pub fn new(membership: membership::Membership, tables: TableDb, now: Instant, rng: ChaCha8Rng) -> Self {
        todo!()
    }

    // Getters
    pub fn membership(&self) -> &membership::Membership {
        todo!()
    }
    pub fn tables(&self) -> &TableDb {
        todo!()
    }

    // What happens to it
    pub fn handle_datagram(
        &mut self,
        from: &NodeName,
        source: SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(), MachineError> {
        todo!()
    }
    /// An inbound stream; the number is the machine's.
    pub fn handle_stream_opened(&mut self, from: &NodeName, source: SocketAddr, now: Instant) -> StreamId {
        todo!()
    }
    pub fn handle_frame(&mut self, stream: StreamId, bytes: &[u8], now: Instant) -> Result<(), MachineError> {
        todo!()
    }
    /// The peer finished its side cleanly (`clean`), or the stream broke or could not be opened.
    pub fn handle_stream_closed(&mut self, stream: StreamId, clean: bool, now: Instant) {
        todo!()
    }
    /// A hint to the failure detector, never a verdict.
    pub fn handle_connection_lost(&mut self, peer: &NodeName, now: Instant) {
        todo!()
    }
    /// Early, late or twice is always legal.
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }

    // What its owner asks of it
    pub fn join(&mut self, seeds: &[SocketAddr], now: Instant) {
        todo!()
    }
    pub fn join_network(&mut self, network: &str, now: Instant) -> Result<(), tabledb::JoinError> {
        todo!()
    }
    pub fn leave_network(&mut self, network: &str, now: Instant) -> Result<(), tabledb::LeaveError> {
        todo!()
    }
    /// Final syncs, then the farewell; `NodeEvent::Membership(LeaveCompleted)` tells when it is over.
    pub fn leave(&mut self, now: Instant) {
        todo!()
    }

    // What it wants
    pub fn poll_transmit(&mut self, now: Instant) -> Option<NodeTransmit> {
        todo!()
    }
    /// Called whenever the stream can take a frame: after opening, after each handled frame, after each sent frame.
    pub fn poll_frame(&mut self, stream: StreamId, now: Instant) -> FramePoll {
        todo!()
    }
    pub fn poll_event(&mut self) -> Option<NodeEvent> {
        todo!()
    }
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    /// Longest time any deadline may lie ahead; a driver may sleep at most this long.
    pub const MAX_SLEEP: Duration = Duration::from_secs(60);
}
