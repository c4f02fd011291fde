//! Why a peer is refused, why a connection ended, and how both are reported to the peer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectionError, VarInt};
use wire::NodeName;

use crate::cluster_name::ClusterName;
use crate::identity::IdentityError;

/// The protocol that peers must have in common, negotiated by TLS (ALPN).
pub const PROTOCOL: &str = "networkdb/1";

/// The longest text from a peer that is shown or logged, in characters.
const MAX_PEER_TEXT: usize = 300;

/// Why two nodes do not connect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusalReason {
    /// The peer's certificate comes from a secret that this node does not have.
    #[error(
        "its certificate was made from the secret {theirs}, which is not among ours ({ours}); give both \
         nodes the same secret file"
    )]
    UnknownSecret {
        /// The fingerprint in the certificate, or the issuer's name if no node of this software issued
        /// it.
        theirs: String,
        /// The fingerprints of our secrets, separated by commas.
        ours: String,
    },
    /// The peer's certificate was issued by an authority that this node does not accept.
    #[error(
        "its certificate was issued by {theirs:?}, which is not among our certificate authorities ({ours}); \
         give both nodes certificates of one authority"
    )]
    UnknownAuthority {
        /// The name of the issuer.
        theirs: String,
        /// The fingerprints of our authorities, separated by commas.
        ours: String,
    },
    /// The peer's certificate has expired, by our clock.
    #[error("its certificate expired {ago:?} ago by our clock; renew it, or set the clocks of both hosts")]
    Expired {
        /// How long ago, including the tolerated clock skew.
        ago: Duration,
    },
    /// The peer's certificate is not valid yet, by our clock.
    #[error("its certificate is valid only in {ahead:?} by our clock; set the clocks of both hosts")]
    NotYetValid {
        /// How long until it is valid.
        ahead: Duration,
    },
    /// The peer's certificate is not the certificate of a node.
    #[error("its certificate is not one of a node: {0}")]
    Certificate(String),
    /// The peer proved its name, and then sent no valid introduction.
    #[error("it did not introduce itself as a node does: {0}")]
    Introduction(String),
    /// The peer is a node of another cluster.
    #[error("it belongs to the cluster {theirs:?}, we to {ours:?}")]
    Cluster {
        /// Its cluster.
        theirs: ClusterName,
        /// Our cluster.
        ours: ClusterName,
    },
    /// A node with another name answered at the address.
    #[error("the node {found:?} answers there, not {expected:?}")]
    Name {
        /// The name that was dialled.
        expected: NodeName,
        /// The name that answered.
        found: NodeName,
    },
    /// The address leads back to this node.
    #[error("that is this node itself")]
    Myself,
    /// The peer has no protocol version in common with this node.
    #[error("it does not support our protocol ({PROTOCOL}); run versions that have one in common")]
    Protocol,
    /// A limit of this node or of the peer is reached.
    #[error("a limit on connections or handshakes is reached")]
    AtCapacity,
    /// The peer refused us, for the reason it sent.
    #[error("it refused us: {0}")]
    ByPeer(String),
}

impl RefusalReason {
    /// The same reason, addressed to the refused peer, which shows it after "it refused us".
    pub(crate) fn message_to_peer(&self) -> String {
        match self {
            Self::UnknownSecret { theirs, ours } => format!(
                "your certificate was made from the secret {theirs}, which is not among mine ({ours}); \
                 give both nodes the same secret file"
            ),
            Self::UnknownAuthority { theirs, ours } => format!(
                "your certificate was issued by {theirs:?}, which is not among my certificate authorities \
                 ({ours}); give both nodes certificates of one authority"
            ),
            Self::Expired { ago } => format!(
                "your certificate expired {ago:?} ago by my clock; renew it, or set the clocks of both hosts"
            ),
            Self::NotYetValid { ahead } => {
                format!(
                    "your certificate is valid only in {ahead:?} by my clock; set the clocks of both hosts"
                )
            }
            Self::Certificate(reason) => format!("your certificate is not one of a node: {reason}"),
            Self::Introduction(reason) => format!("you did not introduce yourself as a node does: {reason}"),
            Self::Cluster { theirs, ours } => format!("you belong to the cluster {theirs:?}, I to {ours:?}"),
            Self::Name { expected, found } => {
                format!("I looked for the node {expected:?} at your address, but you are {found:?}")
            }
            Self::Myself => "you are myself".to_owned(),
            Self::Protocol => format!("you do not support my protocol ({PROTOCOL})"),
            Self::AtCapacity => "my limit on connections is reached".to_owned(),
            Self::ByPeer(reason) => reason.clone(),
        }
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Loss {
    /// The peer left packets unanswered, or was silent for the idle timeout.
    #[error("it did not answer any more")]
    TimedOut,
    /// The peer does not know the connection: it was restarted, or lost the connection before this node did.
    #[error("it does not know the connection any more: it was restarted, or lost the connection first")]
    Forgotten,
    /// The peer shut down and closed its connections.
    #[error("it is shutting down")]
    ShuttingDown,
    /// The peer closed the connection, for the reason it sent.
    #[error("it closed the connection: {0}")]
    ClosedByPeer(String),
    /// The peer, or a host on the path, violated the QUIC protocol.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// This node closed it.
    #[error("it was closed here")]
    ClosedHere,
}

/// The code that a connection is closed with, which tells the peer the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum CloseCode {
    /// The node shuts down.
    ShuttingDown = 1,
    /// The connection was not used for long.
    Unused = 2,
    /// Another connection with the same peer replaced it.
    Replaced = 3,
    /// The handshake succeeded, but the peer is refused. The reason phrase says why.
    Refused = 4,
    /// The owner of the transport disconnected the peer. The reason phrase says why.
    Disconnected = 5,
    /// The dialler has reached itself.
    Myself = 6,
    /// The peer left packets unanswered.
    Unanswered = 7,
}

impl CloseCode {
    pub(crate) fn code(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    fn of(code: VarInt) -> Option<Self> {
        let known = [
            Self::ShuttingDown,
            Self::Unused,
            Self::Replaced,
            Self::Refused,
            Self::Disconnected,
            Self::Myself,
            Self::Unanswered,
        ];
        known.into_iter().find(|known| known.code() == code)
    }

    /// The code for a peer that is refused.
    pub(crate) fn of_refusal(refusal: &RefusalReason) -> Self {
        if *refusal == RefusalReason::Myself { Self::Myself } else { Self::Refused }
    }
}

/// The refusal behind a failed handshake; `None` if it failed for want of an answer.
pub(crate) fn refusal_of(error: &ConnectionError) -> Option<RefusalReason> {
    /// The alert `no_application_protocol` of TLS (RFC 7301), as QUIC carries it.
    const NO_APPLICATION_PROTOCOL: u64 = 0x178;
    /// Any alert of TLS.
    const ALERTS: std::ops::Range<u64> = 0x100..0x200;
    const CONNECTION_REFUSED: u64 = 2;
    match error {
        ConnectionError::VersionMismatch => Some(RefusalReason::Protocol),
        ConnectionError::TransportError(error) if u64::from(error.code) == NO_APPLICATION_PROTOCOL => {
            Some(RefusalReason::Protocol)
        }
        // TLS rejected the peer on this side. Other errors of QUIC are no evidence about the peer's
        // identity.
        ConnectionError::TransportError(error) if ALERTS.contains(&u64::from(error.code)) => {
            Some(RefusalReason::Certificate(readable(error.reason.as_bytes())))
        }
        ConnectionError::TransportError(_) => None,
        ConnectionError::ConnectionClosed(close) => match u64::from(close.error_code) {
            NO_APPLICATION_PROTOCOL => Some(RefusalReason::Protocol),
            CONNECTION_REFUSED => Some(RefusalReason::AtCapacity),
            code if ALERTS.contains(&code) && close.reason.is_empty() => {
                Some(RefusalReason::ByPeer(close.error_code.to_string()))
            }
            code if ALERTS.contains(&code) => Some(RefusalReason::ByPeer(readable(&close.reason))),
            _ => None,
        },
        ConnectionError::ApplicationClosed(close)
            if CloseCode::of(close.error_code) == Some(CloseCode::Refused) =>
        {
            Some(RefusalReason::ByPeer(readable(&close.reason)))
        }
        ConnectionError::ApplicationClosed(close)
            if CloseCode::of(close.error_code) == Some(CloseCode::Myself) =>
        {
            Some(RefusalReason::Myself)
        }
        ConnectionError::CidsExhausted => Some(RefusalReason::AtCapacity),
        ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed => None,
    }
}

/// Whether the peer closed a connection that was unused or replaced. That is no sign of a failure.
pub(crate) fn is_orderly(error: &ConnectionError) -> bool {
    let ConnectionError::ApplicationClosed(close) = error else { return false };
    matches!(CloseCode::of(close.error_code), Some(CloseCode::Unused | CloseCode::Replaced))
}

impl Loss {
    pub(crate) fn of(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::Reset => Self::Forgotten,
            ConnectionError::LocallyClosed => Self::ClosedHere,
            ConnectionError::ApplicationClosed(close) => match CloseCode::of(close.error_code) {
                Some(CloseCode::ShuttingDown) => Self::ShuttingDown,
                _ => Self::ClosedByPeer(readable(&close.reason)),
            },
            ConnectionError::ConnectionClosed(close) => {
                Self::ClosedByPeer(format!("{}: {}", close.error_code, readable(&close.reason)))
            }
            other => Self::Broken(readable(other.to_string().as_bytes())),
        }
    }
}

/// Makes a peer's text safe to show: bounded, and without control characters.
fn readable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * MAX_PEER_TEXT)]);
    // The prefixes that TLS adds are of no use to the reader.
    let text = text.rsplit("invalid peer certificate: ").next().unwrap_or_default();
    let text = text.strip_prefix("other error: ").unwrap_or(text);
    let text = match text.strip_prefix("Other(OtherError(") {
        Some(inner) => inner.strip_suffix("))").unwrap_or(inner),
        None => text,
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_PEER_TEXT).collect()
}

/// Why no stream was opened. Nothing was sent to the peer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The peer did not answer.
    #[error("{to} did not answer within {after:?}")]
    NoAnswer {
        /// The destination, as text.
        to: Arc<str>,
        /// How long the caller waited.
        after: Duration,
    },
    /// This node refused the peer, or the peer refused this node.
    #[error("no connection with {to}: {refusal}")]
    Refused {
        /// The destination, as text.
        to: Arc<str>,
        /// Why.
        refusal: RefusalReason,
    },
    /// The connection ended before the stream was opened.
    #[error("no connection with {to}: {loss}")]
    Lost {
        /// The destination, as text.
        to: Arc<str>,
        /// How the connection ended.
        loss: Loss,
    },
    /// The address cannot be dialled from the local socket.
    #[error("{to} cannot be reached from a socket bound to {bound}: {reason}")]
    Address {
        /// The destination, as text.
        to: Arc<str>,
        /// The local address.
        bound: SocketAddr,
        /// The error of the system or of QUIC.
        reason: String,
    },
    /// As many dials are running as allowed, or as many streams are open as the peer allows.
    #[error("{to} could not be reached within {after:?}: a limit on dials or streams is reached")]
    Busy {
        /// The destination, as text.
        to: Arc<str>,
        /// How long the caller waited.
        after: Duration,
    },
    /// The transport was shut down.
    #[error("the transport is shut down")]
    ShutDown,
}

/// Why a datagram was not sent. It is lost; the caller has to send its content again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no connection yet. It is being dialled, and another datagram already waits for it.
    #[error("the peer is still being dialled")]
    NotReady,
    /// The last dial failed recently, or too many others are running.
    #[error("the peer could not be reached recently")]
    Unreachable,
    /// The peer receives datagrams more slowly than they are sent.
    #[error("the send buffer for datagrams to the peer is full")]
    Full,
    /// The path does not carry datagrams of this size now.
    #[error(
        "a datagram of {size} bytes does not fit the path to the peer, which takes {limit}; use a stream"
    )]
    TooLarge {
        /// The size of the datagram.
        size: usize,
        /// The largest size that fits, in bytes.
        limit: usize,
    },
    /// The transport was shut down.
    #[error("the transport is shut down")]
    ShutDown,
}

/// Why a transport could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The development secret is accepted on loopback addresses only.
    #[error(
        "{0} is not a loopback address, and the development secret is for loopback addresses only; a \
         secret of the cluster is needed"
    )]
    NoSecret(SocketAddr),
    /// This node cannot use the identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Another program uses the address.
    #[error("the address {0} is already in use; stop the program that listens there, or choose another port")]
    InUse(SocketAddr),
    /// No interface has the address.
    #[error("the address {0} does not belong to this host; choose one of its own")]
    NotLocal(SocketAddr),
    /// The system does not permit it.
    #[error("this user may not listen on {0}; choose a port above 1023")]
    NotPermitted(SocketAddr),
    /// Any other error of the system.
    #[error("cannot listen on {address}: {error}")]
    Socket {
        /// The address.
        address: SocketAddr,
        /// The error.
        error: std::io::Error,
    },
    /// A setting is invalid.
    #[error("{0}")]
    Setting(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_a_peer_is_bounded_and_harmless() {
        assert_eq!(readable(b"a\x1b[31m\nb\xff"), "a [31m b\u{fffd}");
        assert_eq!(readable(&[b'x'; 5000]).len(), MAX_PEER_TEXT);
        assert_eq!(readable(b"invalid peer certificate: other error: who?"), "who?");
    }

    #[test]
    fn close_codes_are_read_back() {
        for code in [
            CloseCode::ShuttingDown,
            CloseCode::Unused,
            CloseCode::Replaced,
            CloseCode::Refused,
            CloseCode::Disconnected,
            CloseCode::Myself,
            CloseCode::Unanswered,
        ] {
            assert_eq!(CloseCode::of(code.code()), Some(code));
        }
        assert_eq!(CloseCode::of(VarInt::from_u32(77)), None);
    }
}
