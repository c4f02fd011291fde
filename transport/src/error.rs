//! Why a peer is refused, why a connection ended, and how both are told to the other side.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectionError, VarInt};
use wire::NodeName;

use crate::config::ClusterName;
use crate::identity::IdentityError;

/// The protocol that peers must have in common, as TLS negotiates it (ALPN).
pub const PROTOCOL: &str = "networkdb/1";

/// The longest text of a peer that is shown or logged, in characters.
const MAX_PEER_TEXT: usize = 300;

/// Why two nodes do not talk to each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusalReason {
    /// The peer's certificate comes from a secret we do not have.
    #[error(
        "its certificate was made from the secret {theirs}, which is not among ours ({ours}); give both nodes the same secret file"
    )]
    UnknownSecret {
        /// The fingerprint it names; an unknown authority's own name if it is no node of ours at all.
        theirs: String,
        /// The fingerprints of ours, with commas.
        ours: String,
    },
    /// The peer's certificate was issued by an authority we do not know.
    #[error(
        "its certificate was issued by {theirs:?}, which is not among our certificate authorities ({ours}); give both \
         nodes certificates of one authority"
    )]
    UnknownAuthority {
        /// What the issuer is called.
        theirs: String,
        /// The fingerprints of ours, with commas.
        ours: String,
    },
    /// The peer's certificate is past its time by our clock.
    #[error("its certificate expired {ago:?} ago by our clock; renew it, or set the clocks of both hosts")]
    Expired {
        /// How long ago, beyond what is tolerated.
        ago: Duration,
    },
    /// The peer's certificate begins in the future of our clock.
    #[error("its certificate is valid only in {ahead:?} by our clock; set the clocks of both hosts")]
    NotYetValid {
        /// How long until then.
        ahead: Duration,
    },
    /// The peer's certificate is not one of a node.
    #[error("its certificate is not one of a node: {0}")]
    Certificate(String),
    /// The peer proved its name, and then did not say what a node says first.
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
    /// Somebody else answered at the address.
    #[error("the node {found:?} answers there, not {expected:?}")]
    Name {
        /// Who should have answered.
        expected: NodeName,
        /// Who did.
        found: NodeName,
    },
    /// The address leads back to ourselves.
    #[error("that is this node itself")]
    Myself,
    /// The peer has no protocol version in common with us.
    #[error("it does not speak our protocol ({PROTOCOL}); run versions that have one in common")]
    Protocol,
    /// A limit of this node or of the peer is reached.
    #[error("a limit on connections or handshakes is reached")]
    AtCapacity,
    /// The peer refused us, in its own words.
    #[error("it refused us: {0}")]
    ByPeer(String),
}

impl RefusalReason {
    /// The same as the refused side is to read it, behind "it refused us".
    pub(crate) fn message_to_peer(&self) -> String {
        match self {
            Self::UnknownSecret { theirs, ours } => format!(
                "your certificate was made from the secret {theirs}, which is not among mine ({ours}); give both nodes \
                 the same secret file"
            ),
            Self::UnknownAuthority { theirs, ours } => format!(
                "your certificate was issued by {theirs:?}, which is not among my certificate authorities ({ours}); \
                 give both nodes certificates of one authority"
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
            Self::Protocol => format!("you do not speak my protocol ({PROTOCOL})"),
            Self::AtCapacity => "I have no room for another connection".to_owned(),
            Self::ByPeer(reason) => reason.clone(),
        }
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// Nothing was heard of the peer for the idle time.
    #[error("nothing was heard of it for the idle time")]
    TimedOut,
    /// The peer has no memory of the connection: it was restarted.
    #[error("it does not know the connection any more, so it was restarted")]
    Forgotten,
    /// The peer stopped in an orderly way.
    #[error("it is shutting down")]
    ShuttingDown,
    /// The peer cut us off, in its own words.
    #[error("it closed the connection: {0}")]
    ClosedByPeer(String),
    /// The peer, or something between, did not keep to QUIC.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// We ended it ourselves.
    #[error("it was closed here")]
    ClosedHere,
}

/// What a connection is closed with, so that the other side knows why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum CloseCode {
    /// The node stops.
    ShuttingDown = 1,
    /// Nobody used the connection for long.
    Unused = 2,
    /// Another connection with the same peer took its place.
    Replaced = 3,
    /// The handshake succeeded, but the peer is not welcome; the reason says why.
    Refused = 4,
    /// The owner of the transport cut the peer off; the reason says why.
    Disconnected = 5,
    /// The dialler has reached itself.
    Myself = 6,
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
        ];
        known.into_iter().find(|known| known.code() == code)
    }

    /// What a refused peer is told by.
    pub(crate) fn of_refusal(refusal: &RefusalReason) -> Self {
        if *refusal == RefusalReason::Myself { Self::Myself } else { Self::Refused }
    }
}

/// What a handshake that failed says about the peer; `None` if it says nothing but that there was no answer.
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
        // What TLS found here about the peer. Anything else that QUIC found says nothing about who it is.
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

/// Whether the other side ended a connection that nobody needs, which is no sign of a failure.
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

/// A peer's text as it may be shown: bounded, and without characters that garble a terminal or a log.
fn readable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * MAX_PEER_TEXT)]);
    // What TLS puts before our own words says nothing to the reader.
    let text = text.rsplit("invalid peer certificate: ").next().unwrap_or_default();
    let text = text.strip_prefix("other error: ").unwrap_or(text);
    let text = match text.strip_prefix("Other(OtherError(") {
        Some(words) => words.strip_suffix("))").unwrap_or(words),
        None => text,
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_PEER_TEXT).collect()
}

/// Why there is no stream to a peer. Nothing was sent to it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// Nobody answered.
    #[error("{to} did not answer within {after:?}")]
    NoAnswer {
        /// Who was asked, as text.
        to: Arc<str>,
        /// For how long.
        after: Duration,
    },
    /// We, or the peer, will not talk to the other.
    #[error("no connection with {to}: {refusal}")]
    Refused {
        /// Who was asked, as text.
        to: Arc<str>,
        /// Why not.
        refusal: RefusalReason,
    },
    /// The connection ended before there was a stream.
    #[error("no connection with {to}: {loss}")]
    Lost {
        /// Who was asked, as text.
        to: Arc<str>,
        /// How it ended.
        loss: Loss,
    },
    /// The address cannot be dialled from where we listen.
    #[error("{to} cannot be reached from a socket bound to {bound}: {reason}")]
    Address {
        /// Who was asked, as text.
        to: Arc<str>,
        /// Where we listen.
        bound: SocketAddr,
        /// What the system or QUIC said.
        reason: String,
    },
    /// As many dials are running as allowed, or as many streams are open as the peer allows.
    #[error("{to} could not be reached within {after:?}: a limit on dials or streams is reached")]
    Busy {
        /// Who was asked, as text.
        to: Arc<str>,
        /// For how long.
        after: Duration,
    },
    /// The transport was shut down.
    #[error("the transport is shut down")]
    ShutDown,
}

/// Why a datagram was not sent. It is gone; what it said must be said again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no connection yet; one is being made, and its one place for a waiting datagram is taken.
    #[error("the peer is still being dialled")]
    NotReady,
    /// The last dial failed a moment ago, or too many others are under way.
    #[error("the peer could not be reached a moment ago")]
    Unreachable,
    /// The peer takes datagrams more slowly than they are sent.
    #[error("too many datagrams wait to be sent to the peer")]
    Full,
    /// The path does not carry datagrams of this size now.
    #[error(
        "a datagram of {size} bytes does not fit the path to the peer, which takes {limit}; use a stream"
    )]
    TooLarge {
        /// What was to be sent.
        size: usize,
        /// What fits, in bytes.
        limit: usize,
    },
    /// The transport was shut down.
    #[error("the transport is shut down")]
    ShutDown,
}

/// Why a transport could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The development secret is not for addresses that others can reach.
    #[error(
        "{0} is not a loopback address, and the development secret is for loopback addresses only; a \
         secret of the cluster is needed"
    )]
    NoSecret(SocketAddr),
    /// The identity cannot be this node's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Another program listens there.
    #[error("the address {0} is already in use; stop the program that listens there, or choose another port")]
    InUse(SocketAddr),
    /// No interface has the address.
    #[error("the address {0} does not belong to this host; choose one of its own")]
    NotLocal(SocketAddr),
    /// The system does not allow it.
    #[error("this user may not listen on {0}; choose a port above 1023")]
    NotPermitted(SocketAddr),
    /// Anything else the system said.
    #[error("cannot listen on {address}: {error}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// What it said.
        error: std::io::Error,
    },
    /// A setting makes no sense.
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
        ] {
            assert_eq!(CloseCode::of(code.code()), Some(code));
        }
        assert_eq!(CloseCode::of(VarInt::from_u32(77)), None);
    }
}
