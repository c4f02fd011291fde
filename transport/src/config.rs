//! The configuration of a node's endpoint: identity, addresses, limits and timeouts.

use std::net::SocketAddr;
use std::time::Duration;

use wire::NodeName;

use crate::cluster_name::ClusterName;
use crate::identity::Identity;

/// The configuration of a node's endpoint.
#[derive(Debug, Clone)]
// Exhaustive: other crates build it as a literal, from the defaults.
pub struct Config {
    /// The cluster that the node belongs to.
    pub cluster: ClusterName,
    /// The name of the node. Its certificate must contain this name.
    pub name: NodeName,
    /// The address to listen on. With port 0 the system chooses, see
    /// [`crate::Transport::local_address`].
    pub bind: SocketAddr,
    /// The address at which others reach the node, if that is not `bind`. Sent to peers that have proved
    /// their names.
    pub advertise: Option<SocketAddr>,
    /// What the node proves its identity with, and what it accepts from peers.
    pub identity: Identity,
    /// Bounds on what peers can use up.
    pub limits: Limits,
    /// Bounds on time.
    pub timeouts: Timeouts,
}

impl Config {
    /// A node called `name` that listens on `bind`, with every other setting at its default.
    pub fn new(name: NodeName, bind: SocketAddr, identity: impl Into<Identity>) -> Self {
        Self {
            cluster: ClusterName::default(),
            name,
            bind,
            advertise: None,
            identity: identity.into(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
        }
    }
}

/// Bounds on time.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: other crates build it as a literal, from the defaults.
pub struct Timeouts {
    /// The shortest timeout of a dial, from the first packet until the peer has accepted. It also
    /// applies to a handshake that a peer began, and to waiting for a stream that the peer's limit does
    /// not allow yet. The actual timeout follows the measured handshake times, see
    /// [`crate::DialPolicy`]. Default 3 s.
    pub dial: Duration,
    /// The longest timeout of a dial. Default 20 s.
    pub dial_most: Duration,
    /// The backoff after a failed dial, during which the same destination is not dialled again. It
    /// doubles with each failure, minus random jitter of up to a half. Default 200 ms.
    pub dial_backoff: Duration,
    /// The longest backoff. Default 3 s.
    pub dial_backoff_most: Duration,
    /// The longest backoff of an address that was learned from a peer and has never answered. Default 60
    /// s.
    pub dial_backoff_unanswered: Duration,
    /// How long the peer may leave packets unanswered before the connection is lost. Default 10 s, and up
    /// to an eighth more.
    pub unanswered: Duration,
    /// The idle timeout: a connection without a packet for this time is lost. It only removes what nobody
    /// uses any more, see `unanswered`. Default 5 min.
    pub idle: Duration,
    /// The keep-alive interval of an idle connection; must be well below `idle`. A node behind a firewall
    /// or NAT that forgets silent connections needs a shorter one, such as 20 s. Default 100 s.
    pub keep_alive: Duration,
    /// How long a connection may carry no data before it is closed, if there are more than
    /// [`Limits::warm_connections`]. Default 60 s.
    pub unused: Duration,
    /// The timeout for sending or receiving one frame, unless the stream sets another. Default 10 s.
    pub frame: Duration,
    /// How long a replaced connection may still be used by its streams. Default 30 s.
    pub drain: Duration,
    /// The validity of the certificates that the node mints for itself. It renews them after half of
    /// this time. In whole seconds, at least 2. Default 24 h.
    pub certificate: Duration,
    /// The tolerated difference between the clocks of two hosts, by which a minted certificate may be
    /// expired or not valid yet. In whole seconds. Default 1 h.
    pub clock_skew: Duration,
    /// The round-trip time assumed before the first measurement. QUIC repeats the first packet of a dial
    /// after three times as long. Default 50 ms.
    pub initial_rtt: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            dial: Duration::from_secs(3),
            dial_most: Duration::from_secs(20),
            dial_backoff: Duration::from_millis(200),
            dial_backoff_most: Duration::from_secs(3),
            dial_backoff_unanswered: Duration::from_secs(60),
            unanswered: Duration::from_secs(10),
            idle: Duration::from_secs(300),
            keep_alive: Duration::from_secs(100),
            unused: Duration::from_secs(60),
            frame: Duration::from_secs(10),
            drain: Duration::from_secs(30),
            certificate: Duration::from_secs(24 * 3600),
            clock_skew: Duration::from_secs(3600),
            initial_rtt: Duration::from_millis(50),
        }
    }
}

/// Bounds on what peers can use up. Anything beyond is refused, and counted in [`crate::Statistics`].
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: other crates build it as a literal, from the defaults.
pub struct Limits {
    /// Connections, dialled and accepted. Beyond this number none is accepted. Default 4,096.
    pub connections: usize,
    /// Connections with peers at one IP address (of IPv6, in one /64), dialled and accepted. Beyond this
    /// number none is accepted. Default 1,024.
    pub connections_per_address: usize,
    /// Connections above this number are closed once they are unused for [`Timeouts::unused`]. Default 128.
    pub warm_connections: usize,
    /// Half-open handshakes: begun by peers and not complete. Default 512.
    pub handshakes: usize,
    /// Half-open handshakes from one validated IP address (of IPv6, from one /64). As many again may be
    /// half-open without validation of the address, in total a quarter of `handshakes`. Beyond that a
    /// sender has to validate its address. Default 128.
    pub handshakes_per_address: usize,
    /// The most concurrent dials. The actual number follows the measured handshake times. Default 64.
    pub dials: usize,
    /// Streams that one peer may have open to this node on one connection. Default 64.
    pub streams_per_connection: u32,
    /// Streams that all peers together may have open to this node. Default 4,096.
    pub streams: usize,
    /// Buffered bytes of incomplete frames from one peer, on one connection. A stream that exceeds this
    /// is reset. Default 32 MiB, at least twice `frame_bytes`.
    pub unfinished_bytes_per_connection: usize,
    /// The same for all peers together. Default 256 MiB.
    pub unfinished_bytes: usize,
    /// The largest frame that is sent or accepted, in bytes. Default [`wire::codec::MAX_MESSAGE_BYTES`].
    pub frame_bytes: usize,
    /// Unread bytes that one peer may have in one stream. Default 2 MiB.
    pub stream_window: u32,
    /// Unread bytes that one peer may have in all streams of a connection. Default 8 MiB.
    pub connection_window: u32,
    /// Datagram bytes in the send buffer for one peer. Default 256 KiB.
    pub datagram_send_bytes: usize,
    /// Datagram bytes from one peer that the owner has not taken yet. Default 1 MiB.
    pub datagram_receive_bytes: usize,
    /// Datagrams from one peer that the owner has not taken yet. Default 4,096.
    pub datagram_receive_count: usize,
    /// Datagram bytes from all peers that the owner has not taken yet. Default 64 MiB.
    pub datagram_receive_bytes_total: usize,
    /// The requested size of each buffer of the UDP socket, in bytes. The system may grant less. Default
    /// 8 MiB.
    pub socket_buffer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_address: 1024,
            warm_connections: 128,
            handshakes: 512,
            handshakes_per_address: 128,
            dials: 64,
            streams_per_connection: 64,
            streams: 4096,
            frame_bytes: wire::codec::MAX_MESSAGE_BYTES,
            unfinished_bytes_per_connection: 32 << 20,
            unfinished_bytes: 256 << 20,
            stream_window: 2 << 20,
            connection_window: 8 << 20,
            datagram_send_bytes: 256 << 10,
            datagram_receive_bytes: 1 << 20,
            datagram_receive_count: 4096,
            datagram_receive_bytes_total: 64 << 20,
            socket_buffer_bytes: 8 << 20,
        }
    }
}
