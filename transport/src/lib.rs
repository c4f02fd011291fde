//! How bytes travel between the nodes of a cluster: one QUIC endpoint a node, unreliable datagrams and reliable streams
//! of frames, between peers that have proved who they are.
//!
//! The transport knows nothing of what it carries. It decides which connection leads to a peer, dials and accepts,
//! proves and checks identities, and bounds everything a peer can use up.
//!
//! - **Identity.** All nodes of a cluster share a secret. From it each derives the same certificate authority, and mints
//!   itself a short-lived certificate with its name. Both sides of a connection check the other's. Whoever has a secret
//!   can take any name: secrets keep strangers out, not members apart. An operator's own authority
//!   ([`CertificateSet`]) does both. Either can be exchanged while the node runs ([`Transport::set_identity`]).
//! - **Introductions.** When TLS has proved their names, both sides say which cluster they belong to before anything else.
//! - **Connections.** One for each pair of processes; when two dial each other at once, both keep the same one. Only an
//!   address that packets came from, or that answered, leads to a peer, so a stolen name draws nothing off the first.
//!   A restarted node is recognised by what it drew at its start, and tells peers that it has forgotten their connections.
//! - **Datagrams** ([`Transport::send_datagram`]) never wait: what cannot go now is dropped, counted and reported.
//! - **Streams** ([`Transport::open_stream`]) carry frames with a limit and a deadline on each.
//! - **Arrivals** ([`Incoming`]) are bounded for each peer, with a counter for what was dropped.
//! - **Strangers** who begin a handshake see the certificate of the node, as in any TLS: its name, and the fingerprint of
//!   its secret or the name of its authority. They get nothing else.
//!
//! ```
//! use transport::{Arrival, Config, KeySet, Transport};
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
mod arrivals;
mod certificate;
mod config;
mod dial;
mod dial_policy;
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
mod pki;
mod quic;
mod reassembly;
mod routes;
mod shared;
mod socket;
mod statistics;
mod tls;
mod upkeep;

#[cfg(test)]
mod hostile_tests;

pub use arrivals::{Arrival, Incoming, Peer};
pub use config::{ClusterName, ClusterNameError, Config, Limits, MAX_CLUSTER_NAME_BYTES, Timeouts};
pub use dial_policy::{DialEnd, DialPolicy, DialSettings, Turn};
pub use endpoint::{Sent, Transport};
pub use error::{BindError, Loss, OpenError, PROTOCOL, RefusalReason, SendError};
pub use frames::{FrameError, FrameReceiver, FrameSender};
pub use identity::{Identity, IdentityError};
pub use keys::{
    Fingerprint, FingerprintError, KeySet, KeySetError, MAX_SECRETS, SECRET_PREFIX, Secret, SecretError,
    generate_secret,
};
pub use pki::{CertificateSet, CertificateSetError, MAX_AUTHORITIES};
pub use shared::ConnectionChanges;
pub use socket::host_of;
pub use statistics::{ConnectionStatistics, Statistics};

/// Every path carries datagrams of this size, in bytes; larger ones may be refused at any time.
pub const DATAGRAM_BYTES: usize = 1150;
