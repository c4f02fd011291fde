//! Counters, by reason, and what is known about each connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Peer;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened since the transport was bound. Every counter only grows.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Statistics {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The counters behind [`Statistics`].
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Statistics {
                Statistics { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }

        impl Statistics {
            /// Every counter with its name, in the order of the fields.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Datagrams handed to QUIC.
    datagrams_sent,
    /// Bytes of those.
    datagram_bytes_sent,
    /// Datagrams kept until their dial succeeds; each is counted as sent or dropped later.
    datagrams_kept,
    /// Datagrams dropped because the peer is still being dialled.
    datagrams_dropped_not_ready,
    /// Datagrams dropped because a dial has just failed, or too many are under way.
    datagrams_dropped_unreachable,
    /// Datagrams dropped because too many wait to be sent to the peer.
    datagrams_dropped_full,
    /// Datagrams dropped because the path does not carry their size.
    datagrams_dropped_too_large,
    /// Datagrams that arrived and were queued for the owner.
    datagrams_received,
    /// Bytes of those.
    datagram_bytes_received,
    /// Arrived datagrams dropped because the owner takes them too slowly.
    datagrams_dropped_untaken,
    /// Arrived datagrams dropped because they are empty, which nobody has a reason to send.
    datagrams_dropped_empty,
    /// Streams opened here.
    streams_opened,
    /// Streams opened by peers and queued for the owner.
    streams_accepted,
    /// Streams of peers refused because of the limit on all of them together.
    streams_refused,
    /// Streams that could not be opened.
    streams_failed,
    /// Frames given to streams.
    frames_sent,
    /// Whole frames read from streams.
    frames_received,
    /// Frames of peers refused because they declare more than the limit.
    frames_too_large,
    /// Frames of peers given up because too much of others was unfinished.
    frames_unfinished,
    /// Frames that did not get through in their time, in either direction.
    frames_timed_out,
    /// Streams that ended in the middle, in either direction.
    streams_broken,
    /// Dials begun.
    dials_started,
    /// Dials that led to a connection.
    dials_succeeded,
    /// Dials begun anew because they had lasted long and other handshakes succeeded meanwhile.
    dials_renewed,
    /// Dials that nobody answered in time.
    dials_unanswered,
    /// Dials that ended because one side will not talk to the other.
    dials_refused,
    /// Dials not begun because too many were under way.
    dials_capped,
    /// Handshakes of peers that led to a connection.
    handshakes_accepted,
    /// Handshakes refused because too many are half open, in all.
    handshakes_capped,
    /// Handshakes refused because too many are half open from one address.
    handshakes_capped_by_address,
    /// Handshakes answered with a request to prove the sender's address first.
    handshakes_retried,
    /// Handshakes that were begun and not completed in time, or broke off.
    handshakes_unfinished,
    /// Packets that begin no handshake, though they look like it: mostly late ones of handshakes that were given up here.
    handshakes_stray,
    /// Peers refused for a secret we do not have.
    refused_unknown_secret,
    /// Peers refused for a certificate of an authority we do not have.
    refused_unknown_authority,
    /// Peers refused for a certificate that is invalid, or not valid now.
    refused_certificate,
    /// Peers refused because they are of another cluster.
    refused_cluster,
    /// Peers refused because another name was expected.
    refused_name,
    /// Peers refused because they have no protocol version in common with us.
    refused_protocol,
    /// Peers refused because they did not introduce themselves as a node does.
    refused_introduction,
    /// Handshakes with ourselves.
    refused_myself,
    /// Peers refused because there are as many connections as allowed.
    refused_no_room,
    /// Peers that refused us.
    refused_by_peer,
    /// Connections that took the place of another one with the same peer.
    connections_replaced,
    /// Connections lost: silence, a restart, a goodbye, or a broken peer.
    connections_lost,
    /// Connections closed because they were not used.
    connections_unused,
    /// Connections closed because their secret or authority is no longer accepted.
    connections_retired_by_keys,
    /// Hints and refusals that the owner did not take in time.
    notices_dropped,
    /// Certificates minted.
    certificates_minted,
}

/// One counter that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }
}

/// What is known about one connection at this moment.
#[derive(Debug, Clone)]
pub struct ConnectionStatistics {
    /// Who is at the other end.
    pub peer: Peer,
    /// Whether we dialled, or the peer did.
    pub dialled: bool,
    /// Whether new datagrams and streams go over it; otherwise it is being used up.
    pub current: bool,
    /// The fingerprint of the secret or authority that the peer's certificate comes from.
    pub authority: crate::Fingerprint,
    /// The smoothed round trip.
    pub round_trip: Duration,
    /// The congestion window, in bytes.
    pub congestion_window: u64,
    /// The largest packet the path is known to carry, in bytes.
    pub path_mtu: u16,
    /// The largest datagram that can be sent now, in bytes.
    pub datagram_limit: usize,
    /// Packets sent.
    pub packets_sent: u64,
    /// Of those, packets given up as lost.
    pub packets_lost: u64,
    /// Times that loss or congestion marks made the window smaller.
    pub congestion_events: u64,
    /// UDP bytes sent.
    pub bytes_sent: u64,
    /// UDP bytes received.
    pub bytes_received: u64,
    /// Streams in use here.
    pub streams: usize,
}
