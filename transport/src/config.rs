//! What a node's endpoint is told at its start: who it is, where it listens, and what it will put up with.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use wire::NodeName;

use crate::identity::Identity;

/// The longest cluster name, in bytes of UTF-8.
pub const MAX_CLUSTER_NAME_BYTES: usize = 128;

/// The name of a cluster: nodes of different clusters refuse each other, even with the same secret.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(Arc<str>);

/// Why a text is not a cluster name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterNameError {
    /// The text is empty.
    #[error("a cluster name is empty; give it 1 to {MAX_CLUSTER_NAME_BYTES} bytes")]
    Empty,
    /// The text is longer than [`MAX_CLUSTER_NAME_BYTES`].
    #[error("a cluster name of {0} bytes is too long; at most {MAX_CLUSTER_NAME_BYTES} bytes are allowed")]
    TooLong(usize),
    /// The text would garble a terminal or a log line.
    #[error("the cluster name {0:?} contains a control character; use printable characters only")]
    ControlCharacter(String),
}

impl ClusterName {
    /// Checks `name` and keeps a copy of it.
    pub fn new(name: &str) -> Result<Self, ClusterNameError> {
        if name.is_empty() {
            return Err(ClusterNameError::Empty);
        }
        if name.len() > MAX_CLUSTER_NAME_BYTES {
            return Err(ClusterNameError::TooLong(name.len()));
        }
        if name.chars().any(char::is_control) {
            return Err(ClusterNameError::ControlCharacter(name.to_owned()));
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ClusterName {
    fn default() -> Self {
        Self("default".into())
    }
}

impl std::str::FromStr for ClusterName {
    type Err = ClusterNameError;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// How a node's endpoint is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which cluster the node belongs to.
    pub cluster: ClusterName,
    /// What the node is called; its certificate says so, and one of an operator's authority must.
    pub name: NodeName,
    /// Where to listen. Port 0 lets the system choose, see [`crate::Transport::local_address`].
    pub bind: SocketAddr,
    /// Where others reach the node, if that is not `bind`; told to those that have proved their names.
    pub advertise: Option<SocketAddr>,
    /// What the node proves itself with, and what it accepts from others.
    pub identity: Identity,
    /// What peers may use up.
    pub limits: Limits,
    /// How long things may take.
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

/// How long things may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// The least time after which a dial is given up, from the first packet until the peer has accepted; also a handshake
    /// that a peer began, and the wait for a stream that the peer's limit does not allow yet. It follows what dials take
    /// at the moment, see [`crate::DialPolicy`]. Default 3 s.
    pub dial: Duration,
    /// The most that it may become. Default 20 s.
    pub dial_most: Duration,
    /// After a failed dial, how long the same destination is not dialled again; it doubles with each failure, and a random
    /// part of up to a half is left out. Default 200 ms.
    pub dial_backoff: Duration,
    /// The most that it may become. Default 3 s.
    pub dial_backoff_most: Duration,
    /// The most that it may become of an address that a peer has told of and that has never answered. Default 60 s.
    pub dial_backoff_unanswered: Duration,
    /// Silence after which a connection is lost. Default 10 s.
    pub idle: Duration,
    /// How often an otherwise silent connection is kept alive; must be well below `idle`. Default 3 s.
    pub keep_alive: Duration,
    /// How long a connection may carry nothing before it is closed, when there are more than
    /// [`Limits::warm_connections`]. Default 60 s.
    pub unused: Duration,
    /// How long one frame may take to be sent or to arrive, unless the stream is told otherwise. Default 10 s.
    pub frame: Duration,
    /// How long a connection that was replaced may be used up by what is already on it. Default 30 s.
    pub drain: Duration,
    /// How long the certificates are valid that the node mints for itself; it mints the next when half of that is over.
    /// In whole seconds, at least 2. Default 24 h.
    pub certificate: Duration,
    /// How far the clocks of two hosts may be apart: by so much a minted certificate may be past its time or before it.
    /// In whole seconds. Default 1 h.
    pub clock_skew: Duration,
    /// The round trip assumed before it has been measured; three times as long passes before the first packet of a
    /// dial is repeated. Default 50 ms.
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
            idle: Duration::from_secs(10),
            keep_alive: Duration::from_secs(3),
            unused: Duration::from_secs(60),
            frame: Duration::from_secs(10),
            drain: Duration::from_secs(30),
            certificate: Duration::from_secs(24 * 3600),
            clock_skew: Duration::from_secs(3600),
            initial_rtt: Duration::from_millis(50),
        }
    }
}

/// What peers may use up. What goes beyond is refused and counted in [`crate::Statistics`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections, dialled and accepted. Beyond it none is accepted. Default 4,096.
    pub connections: usize,
    /// Connections with peers at one IP address (of IPv6, in one /64), dialled and accepted. Beyond it none is accepted. Default 1,024.
    pub connections_per_address: usize,
    /// Connections above this number are closed once they are unused for [`Timeouts::unused`]. Default 128.
    pub warm_connections: usize,
    /// Handshakes that peers have begun and not completed. Default 512.
    pub handshakes: usize,
    /// The same, from one IP address (of IPv6, from one /64) that has proved to be the sender's. As many again may be begun in its
    /// name without proof, in all a quarter of `handshakes`; then a sender has to prove its address. Default 128.
    pub handshakes_per_address: usize,
    /// The most dials at the same time; how many there may be follows what they take. Default 64.
    pub dials: usize,
    /// Streams that one peer may have open towards us on one connection. Default 64.
    pub streams_per_connection: u32,
    /// Streams that all peers together may have open towards us. Default 4,096.
    pub streams: usize,
    /// Bytes of frames that one peer has begun and not finished, on one connection. A stream that would take more is given
    /// up. Default 32 MiB, at least twice `frame_bytes`.
    pub unfinished_bytes_per_connection: usize,
    /// The same for all peers together. Default 256 MiB.
    pub unfinished_bytes: usize,
    /// The largest frame that is sent or accepted, in bytes. Default [`wire::codec::MAX_MESSAGE_BYTES`].
    pub frame_bytes: usize,
    /// Unread bytes that one peer may have in one stream. Default 2 MiB.
    pub stream_window: u32,
    /// Unread bytes that one peer may have in all streams of a connection. Default 8 MiB.
    pub connection_window: u32,
    /// Datagram bytes that wait to be sent to one peer. Default 256 KiB.
    pub datagram_send_bytes: usize,
    /// Datagram bytes from one peer that wait to be taken. Default 1 MiB.
    pub datagram_receive_bytes: usize,
    /// Datagrams from one peer that wait to be taken. Default 4,096.
    pub datagram_receive_count: usize,
    /// Datagram bytes from all peers that wait to be taken. Default 64 MiB.
    pub datagram_receive_bytes_total: usize,
    /// The size asked for the UDP socket's buffers, each, in bytes; the system may grant less. Default 8 MiB.
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
