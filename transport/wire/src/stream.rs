//! Streams and destinations, as a state machine without sockets sees them.

use std::net::SocketAddr;

use crate::NodeName;

/// A reliable exchange with one peer, numbered by the state machine that takes part in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// The destination of a datagram or of a new stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// The name that the node there must have; `None` for a seed, of which only the address is known.
    pub name: Option<NodeName>,
    /// Its address.
    pub address: SocketAddr,
}

/// The response of a state machine when a stream can send another frame.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: a driver acts on each.
pub enum FramePoll {
    /// Send this frame, then ask again.
    Frame(Vec<u8>),
    /// There is nothing to send until the peer's next frame has been handled.
    Wait,
    /// No frame will follow: finish the sending side.
    Finish,
}
