//! The settings of the network as a whole.

use std::time::Duration;

use transport::DialSettings;

use super::link::Link;
use crate::trace::Describe;

/// Settings of the network as a whole.
#[derive(Debug, Clone)]
pub struct FabricConfig {
    /// The seed of all random draws.
    pub seed: u64,
    /// The conditions of links without conditions of their own.
    pub link: Link,
    /// A connection is lost to an end whose packets are unanswered for this long.
    pub unanswered: Duration,
    /// A connection without traffic for this long is lost.
    pub idle_timeout: Duration,
    /// A dial without an answer for this long has failed, unless `dialling` sets another limit.
    pub connect_timeout: Duration,
    /// The bounds of production's dial policy; without it, every process may dial any peer at any
    /// time.
    pub dialling: Option<DialSettings>,
    /// The price of handshakes; by default they are free.
    pub handshakes: Option<HandshakePrice>,
    /// How many frames of one stream may be under way or unread, each way.
    pub frames_in_flight: usize,
    /// How many streams an end of a connection may have opened at a time; further ones wait.
    pub streams_per_connection: usize,
    /// The size of a paused process's receive buffer for datagrams, in bytes.
    pub receive_buffer: usize,
    /// How many events the trace keeps.
    pub trace_lines: usize,
    /// How the trace names messages.
    pub describe: Describe,
}

/// The price of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandshakePrice {
    /// The processor time of each side. Handshakes are processed one after the other.
    pub work: Duration,
    /// The number of processors that all hosts share; zero if each host has its own.
    pub shared_cores: usize,
    /// Limit of half-open handshakes begun by peers; a host refuses further ones.
    pub most_half_open: usize,
}

impl Default for FabricConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            link: Link::default(),
            unanswered: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            connect_timeout: Duration::from_secs(3),
            dialling: None,
            handshakes: None,
            frames_in_flight: 8,
            streams_per_connection: 64,
            receive_buffer: 212_992,
            trace_lines: 400,
            describe: Describe::default(),
        }
    }
}
