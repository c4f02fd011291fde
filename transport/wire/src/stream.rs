//! Streams and destinations, as a state machine without sockets sees them.

use std::net::SocketAddr;

use crate::NodeName;

/// A reliable exchange with one peer, numbered by the state machine that takes part in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Where a datagram or a new stream is to go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// Who must answer there; `None` for a seed, of which only the address is known.
    pub name: Option<NodeName>,
    /// The address to reach it at.
    pub address: SocketAddr,
}

/// What a state machine has to say when a stream can take another frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FramePoll {
    /// Send this frame, then ask again.
    Frame(Vec<u8>),
    /// Nothing to send until the peer's next frame has been handled.
    Wait,
    /// Nothing will ever follow: finish the sending side.
    Finish,
}
