//! Counters, by reason, and the state of each connection.

use std::time::Duration;

use crate::keys::Fingerprint;
use crate::peer::Peer;

wire::atomic_counters! {
    /// Counters since the transport was bound. They never decrease.
    #[non_exhaustive]
    pub struct Statistics, counted by Counters {
        /// Datagrams handed to QUIC.
        datagrams_sent,
        /// Bytes of datagrams handed to QUIC.
        datagram_sent_bytes,
        /// Datagrams kept until their dial succeeds. Each is later counted as sent or dropped.
        datagrams_kept,
        /// Datagrams received and queued for the owner.
        datagrams_received,
        /// Bytes of datagrams received and queued for the owner.
        datagram_received_bytes,
        /// Streams opened by this node.
        streams_opened,
        /// Streams opened by peers and queued for the owner.
        streams_accepted,
        /// Streams of peers refused because of the limit on all streams.
        streams_refused,
        /// Streams that could not be opened.
        streams_failed,
        /// Frames sent on streams.
        frames_sent,
        /// Complete frames received on streams.
        frames_received,
        /// Streams that ended before they were finished, in either direction.
        streams_broken,
        /// Dials started.
        dials_started,
        /// Dials that led to a connection.
        dials_succeeded,
        /// Dials started again because they had lasted long and another peer was heard meanwhile.
        dials_renewed,
        /// Handshakes of peers that led to a connection.
        handshakes_accepted,
        /// Handshakes answered with a request to validate the sender's address (QUIC Retry).
        handshakes_retried,
        /// Peers that refused this node.
        refused_by_peer,
        /// Notices (lost connections and refusals) dropped because the owner did not take them in time.
        notices_dropped,
        /// Certificates minted by this node.
        certificates_minted,
    }
    /// Datagrams that were not sent, or were received and not queued for the owner.
    datagrams_dropped by reason {
        /// Datagrams dropped because the peer is still being dialled.
        datagrams_dropped_not_ready,
        /// Datagrams dropped because a dial has just failed, or too many are running.
        datagrams_dropped_unreachable,
        /// Datagrams dropped because the send buffer for the peer is full.
        datagrams_dropped_full,
        /// Datagrams dropped because they are larger than the path allows.
        datagrams_dropped_too_large,
        /// Received datagrams dropped because the owner takes them too slowly.
        datagrams_dropped_untaken,
        /// Received datagrams dropped because they are empty.
        datagrams_dropped_empty,
    }
    /// Frames of streams that were given up.
    frames_dropped by reason {
        /// Frames of peers refused because they declare a size above the limit.
        frames_dropped_too_large,
        /// Frames of peers given up because of the limits on buffered bytes of incomplete frames.
        frames_dropped_unfinished,
        /// Frames that exceeded their timeout, in either direction.
        frames_dropped_timed_out,
    }
    /// Dials that led to no connection.
    dials_failed by reason {
        /// Dials that were not answered in time.
        dials_failed_unanswered,
        /// Dials that failed because one side refused the other.
        dials_failed_refused,
        /// Dials not started because too many were running.
        dials_failed_capped,
    }
    /// Handshakes of peers that led to no connection.
    handshakes_failed by reason {
        /// Handshakes refused because too many are half-open in total.
        handshakes_failed_capped,
        /// Handshakes refused because too many are half-open from one address.
        handshakes_failed_capped_by_address,
        /// Handshakes that were begun and failed or timed out.
        handshakes_failed_unfinished,
        /// Packets that look like the first of a handshake but are not: mostly late packets of handshakes
        /// that were given up here.
        handshakes_failed_stray,
    }
    /// Peers that this node refused, whichever side dialled.
    refused by reason {
        /// Peers refused because this node does not have their secret.
        refused_unknown_secret,
        /// Peers refused because this node does not accept their authority.
        refused_unknown_authority,
        /// Peers refused because their certificate is invalid, expired or not valid yet.
        refused_certificate,
        /// Peers refused because they belong to another cluster.
        refused_cluster,
        /// Peers refused because they have another name than the one that was dialled.
        refused_name,
        /// Peers refused because they have no protocol version in common with this node.
        refused_protocol,
        /// Peers refused because they sent no valid introduction.
        refused_introduction,
        /// Handshakes of this node with itself.
        refused_myself,
        /// Peers refused because of a limit on connections.
        refused_capacity,
    }
    /// Connections that ended, but for the shutdown of this node.
    connections_closed by reason {
        /// Connections replaced by another one with the same peer.
        connections_closed_replaced,
        /// Connections lost: idle timeout, restart or shutdown of the peer, or a protocol error.
        connections_closed_lost,
        /// Connections closed because they were unused.
        connections_closed_unused,
        /// Connections closed because their secret or authority is no longer accepted.
        connections_closed_keys,
    }
}

/// The state of one connection at this moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectionStatistics {
    /// The peer at the other end.
    pub peer: Peer,
    /// Whether this node dialled.
    pub dialled: bool,
    /// Whether new datagrams and streams use it. Otherwise it is being drained.
    pub current: bool,
    /// The fingerprint of the secret or authority behind the peer's certificate.
    pub authority: Fingerprint,
    /// The smoothed round-trip time.
    pub round_trip: Duration,
    /// The congestion window, in bytes.
    pub congestion_window: u64,
    /// The largest packet the path is known to carry, in bytes.
    pub path_mtu: u16,
    /// The largest datagram that can be sent now, in bytes.
    pub datagram_limit: usize,
    /// Packets sent.
    pub packets_sent: u64,
    /// Of those, packets declared lost.
    pub packets_lost: u64,
    /// How often loss or congestion marks reduced the window.
    pub congestion_events: u64,
    /// UDP bytes sent.
    pub bytes_sent: u64,
    /// UDP bytes received.
    pub bytes_received: u64,
    /// Streams in use here.
    pub streams: usize,
}
