//! The transport between the nodes of a cluster: one QUIC endpoint per node, unreliable datagrams and
//! reliable streams of frames, between peers that have proved their identity.
//!
//! The transport does not interpret what it carries. It selects the connection to a peer, dials and
//! accepts, proves and verifies identities, and bounds every resource that a peer can use up.
//!
//! - **Identity.** All nodes of a cluster share a secret. From it each node derives the same certificate
//!   authority and mints itself a short-lived certificate with its name. Both sides of a connection
//!   verify the other's certificate. Any node with the secret can take any name: a secret keeps other
//!   hosts out, but does not separate members. An operator's own authority ([`CertificateSet`]) does
//!   both. Either can be replaced while the node runs ([`Transport::set_identity`]).
//! - **Introductions.** After TLS has verified both names, each side sends the name of its cluster
//!   before anything else.
//! - **Connections.** One for each pair of processes. When two nodes dial each other at the same time,
//!   both keep the same connection. Only an address that packets came from, or that answered, leads to a
//!   peer, so a node with a stolen name cannot divert traffic from the first one. Each process draws a
//!   random instance id at its start, by which peers recognise a restart. A restarted node resets the
//!   connections it has lost.
//! - **Datagrams** ([`Transport::send_datagram`]) never wait: a datagram that cannot be sent now is
//!   dropped, counted and reported to the caller.
//! - **Streams** ([`Transport::open_stream`]) carry frames with a size limit and a timeout for each
//!   frame.
//! - **Arrivals** ([`Incoming`]) are queued per peer with a bound. Dropped ones are counted.
//! - **Unauthenticated clients** that begin a handshake see the certificate of the node, as in any TLS:
//!   its name, and the fingerprint of its secret or the name of its authority. They get nothing else.
//!
//! ```
//! use networkdb_transport::{Arrival, Config, KeySet, Transport};
//! use wire::{Destination, NodeName};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = |name: &str| -> Result<Config, wire::NodeNameError> {
//!     Ok(Config::new(NodeName::new(name)?, "127.0.0.1:0".parse().unwrap(), KeySet::development()))
//! };
//! let (anna, _) = Transport::bind(config("anna")?)?;
//! let (bert, mut arrivals) = Transport::bind(config("bert")?)?;
//!
//! let to = Destination { name: Some(NodeName::new("bert")?), address: bert.local_address() };
//! anna.send_datagram(&to, "hello".into())?;
//! let Some(Arrival::Datagram { from, bytes }) = arrivals.next().await else { panic!() };
//! assert_eq!((from.name.as_str(), &bytes[..]), ("anna", &b"hello"[..]));
//! # Ok(())
//! # }
//! ```

mod accept;
mod adoption;
mod arrivals;
mod certificate;
mod cluster_name;
mod config;
mod dial;
mod dial_policy;
mod dials;
mod endpoint;
mod error;
mod frames;
#[cfg(fuzzing)]
pub mod fuzzing;
mod half_open;
mod identity;
mod introduction;
mod keys;
mod link;
mod log_limiter;
mod peer;
mod pki;
mod quic;
mod reassembly;
mod routes;
mod shared;
mod socket;
mod statistics;
mod stream_guard;
mod tls;
mod upkeep;

#[cfg(test)]
mod hostile_tests;

pub use arrivals::{Arrival, Incoming};
pub use cluster_name::{ClusterName, ClusterNameError, MAX_CLUSTER_NAME_BYTES};
pub use config::{Config, Limits, Timeouts};
pub use dial_policy::{DialEnd, DialPolicy, DialSettings, RENEWAL_INTERVAL, Turn};
pub use endpoint::{Sent, Transport};
pub use error::{BindError, Loss, OpenError, PROTOCOL, RefusalReason, SendError};
pub use frames::{FrameError, FrameReceiver, FrameSender};
pub use identity::{Identity, IdentityError};
pub use keys::{
    Fingerprint, FingerprintError, KeySet, KeySetError, MAX_SECRETS, SECRET_PREFIX, Secret, SecretError,
    generate_secret,
};
pub use peer::Peer;
pub use pki::{CertificateSet, CertificateSetError, MAX_AUTHORITIES};
pub use shared::ConnectionChanges;
pub use socket::host_of;
pub use statistics::{ConnectionStatistics, Statistics};

/// Every path carries datagrams of this size, in bytes. Larger ones may be rejected at any time.
pub const DATAGRAM_BYTES: usize = 1150;
