//! A peer as the transport names it to its owner.

use std::net::SocketAddr;

use wire::NodeName;

/// A peer whose name is verified, and the address its packets come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// The name in its certificate.
    pub name: NodeName,
    /// The source address of its packets. A [`wire::Destination`] with this address and name uses the
    /// same connection.
    pub address: SocketAddr,
    /// The address at which the peer can be reached, according to its introduction.
    pub advertised: Option<SocketAddr>,
}
