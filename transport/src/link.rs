//! One connection with one peer: its datagrams and streams, and how it is drained once another
//! connection has replaced it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::{ConnectionError, FrameStats, SendDatagramError};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

use crate::arrivals::Inbox;
use crate::error::{CloseCode, SendError};
use crate::frames::{FrameReceiver, FrameSender, FrameSettings};
use crate::keys::Fingerprint;
use crate::peer::Peer;
use crate::routes::LinkId;
use crate::statistics::ConnectionStatistics;
use crate::stream_guard::StreamsInUse;

/// The shortest time for which a drained connection stays open: data that the peer sent before it
/// learned of the replacement must arrive.
const LINGER: Duration = Duration::from_secs(1);

/// How long streams may continue on a connection whose secret or authority is no longer accepted.
const KEYS_DRAIN: Duration = Duration::from_secs(5);

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) peer: Peer,
    pub(crate) authority: Fingerprint,
    pub(crate) dialled: bool,
    pub(crate) connection: quinn::Connection,
    pub(crate) inbox: Arc<Inbox>,
    in_use: Arc<StreamsInUse>,
    frame_settings: FrameSettings,
    retirement: watch::Sender<Option<Retirement>>,
    activity: Mutex<(u64, Instant)>,
    answers: Mutex<Answers>,
}

/// What earlier looks at a connection saw, to find out whether the peer still answers.
#[derive(Debug, Default)]
struct Answers {
    received: u64,
    asked: u64,
    /// Consecutive looks with an unanswered packet.
    unanswered: u32,
    /// The connection was closed for want of an answer.
    given_up: bool,
}

impl Answers {
    /// Takes in how many packets were received, and how many frames that ask for an answer were sent.
    fn look(&mut self, received: u64, asked: u64) -> u32 {
        if received != self.received {
            self.unanswered = 0;
        } else if self.unanswered > 0 || asked != self.asked {
            // Until there is an answer QUIC asks again, so a packet sent just before something arrived is noticed too.
            self.unanswered += 1;
        }
        (self.received, self.asked) = (received, asked);
        self.unanswered
    }
}

/// How a connection is drained.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retirement {
    /// The connection is not closed before this time.
    linger_until: Instant,
    /// The connection is closed at this time, whatever is still on it.
    deadline: Instant,
    /// Whether this side closes the connection once it is idle. Otherwise the peer does.
    ours: bool,
}

impl Retirement {
    /// Another connection with the same process replaced it. Only the side that dialled closes it,
    /// because the other side may consider it the one to keep.
    pub(crate) fn replaced(link: &Link, now: Instant, drain: Duration) -> Self {
        Self { linger_until: now + LINGER.min(drain), deadline: now + drain, ours: link.dialled }
    }

    /// Its process no longer exists.
    pub(crate) fn stale(now: Instant) -> Self {
        Self { linger_until: now, deadline: now + LINGER, ours: true }
    }

    /// Its secret or authority is no longer accepted.
    pub(crate) fn keys(now: Instant) -> Self {
        Self { linger_until: now + LINGER, deadline: now + KEYS_DRAIN, ours: true }
    }
}

impl Link {
    pub(crate) fn new(
        id: LinkId,
        peer: Peer,
        authority: Fingerprint,
        dialled: bool,
        connection: quinn::Connection,
        frame_settings: FrameSettings,
        in_use: Arc<StreamsInUse>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            inbox: Inbox::new(peer.clone()),
            peer,
            authority,
            dialled,
            connection,
            in_use,
            frame_settings,
            retirement: watch::Sender::new(None),
            activity: Mutex::new((0, Instant::now())),
            answers: Mutex::default(),
        })
    }

    /// Hands a datagram to QUIC, or returns why it was not accepted. Never waits, and never drops an
    /// earlier datagram.
    pub(crate) fn send_datagram(&self, bytes: Bytes) -> Result<(), DatagramFailure> {
        let size = bytes.len();
        // Polled once: this is the only call that keeps the queued datagrams if the buffer is full.
        match pin!(self.connection.send_datagram_wait(bytes)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Ok(()),
            Poll::Pending => Err(DatagramFailure::Send(SendError::Full)),
            Poll::Ready(Err(SendDatagramError::ConnectionLost(_))) => Err(DatagramFailure::Ended),
            Poll::Ready(Err(
                SendDatagramError::TooLarge
                | SendDatagramError::Disabled
                | SendDatagramError::UnsupportedByPeer,
            )) => {
                let limit = self.connection.max_datagram_size().unwrap_or(0);
                Err(DatagramFailure::Send(SendError::TooLarge { size, limit }))
            }
        }
    }

    /// Both directions of a stream, for the owner.
    pub(crate) fn frames(
        &self,
        (send, receive): (quinn::SendStream, quinn::RecvStream),
        permit: Option<OwnedSemaphorePermit>,
    ) -> (FrameSender, FrameReceiver) {
        let guard = self.in_use.begin(permit);
        let settings = self.frame_settings.clone();
        (
            FrameSender::new(send, settings.clone(), guard.clone()),
            FrameReceiver::new(receive, settings, guard),
        )
    }

    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        self.connection.close(code.code(), reason.as_bytes());
    }

    /// Starts draining the connection; `None` stops draining it.
    pub(crate) fn set_retirement(&self, retirement: Option<Retirement>) {
        self.retirement.send_replace(retirement);
    }

    pub(crate) fn streams(&self) -> usize {
        self.in_use.count()
    }

    /// Returns once no stream is in use.
    pub(crate) async fn streams_finished(&self) {
        self.in_use.finished().await;
    }

    /// Whether every datagram that was handed to QUIC has been sent.
    pub(crate) fn all_datagrams_sent(&self, buffer: usize) -> bool {
        // quinn accounts for some overhead even when the buffer is empty.
        const BOOKKEEPING: usize = 64;
        self.connection.close_reason().is_some()
            || self.connection.datagram_send_buffer_space() + BOOKKEEPING >= buffer
    }

    /// How long the connection has carried nothing but keep-alives, as far as repeated calls of this
    /// method can tell.
    pub(crate) fn unused_for(&self, now: Instant) -> Duration {
        let stats = self.connection.stats();
        let frames = [&stats.frame_tx, &stats.frame_rx];
        let seen = frames.iter().map(|frames| frames.datagram + frames.stream).sum();
        let mut activity = self.activity.lock();
        if activity.0 != seen || self.streams() > 0 {
            *activity = (seen, now);
        }
        now.saturating_duration_since(activity.1)
    }

    /// For how many consecutive calls a packet to the peer has been without an answer.
    pub(crate) fn look_for_answer(&self) -> u32 {
        let stats = self.connection.stats();
        // QUIC repeats any other frame that it asks an answer for, with one of these.
        let FrameStats { datagram, stream, ping, immediate_ack, .. } = stats.frame_tx;
        let asked = datagram + stream + ping + immediate_ack;
        self.answers.lock().look(stats.udp_rx.datagrams, asked)
    }

    pub(crate) fn close_unanswered(&self) {
        self.answers.lock().given_up = true;
        self.close(CloseCode::Unanswered, "packets were not answered");
    }

    /// Why the connection ended, if it did.
    pub(crate) fn end(&self) -> Option<ConnectionError> {
        let end = self.connection.close_reason()?;
        // To the owner it is the same, whether QUIC or `close_unanswered` found it.
        Some(if self.answers.lock().given_up { ConnectionError::TimedOut } else { end })
    }

    pub(crate) fn statistics(&self, current: bool) -> ConnectionStatistics {
        let stats = self.connection.stats();
        ConnectionStatistics {
            peer: self.peer.clone(),
            dialled: self.dialled,
            current,
            authority: self.authority,
            round_trip: stats.path.rtt,
            congestion_window: stats.path.cwnd,
            path_mtu: stats.path.current_mtu,
            datagram_limit: self.connection.max_datagram_size().unwrap_or(0),
            packets_sent: stats.path.sent_packets,
            packets_lost: stats.path.lost_packets,
            congestion_events: stats.path.congestion_events,
            bytes_sent: stats.udp_tx.bytes,
            bytes_received: stats.udp_rx.bytes,
            streams: self.streams(),
        }
    }

    /// How the connection is to be drained, and every change of that.
    pub(crate) fn retirements(&self) -> watch::Receiver<Option<Retirement>> {
        self.retirement.subscribe()
    }

    /// Returns when a drained connection may be closed.
    pub(crate) async fn drained(&self, retirement: Option<Retirement>) {
        let Some(Retirement { linger_until, deadline, ours }) = retirement else {
            return std::future::pending().await;
        };
        let over = async {
            sleep_until(linger_until).await;
            self.streams_finished().await;
            // The peer may have opened a stream just now. If the peer is to close the connection, wait for
            // that or for the deadline.
            if !ours {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = over => {}
            () = sleep_until(deadline) => {}
        }
    }
}

/// Why QUIC did not accept a datagram.
pub(crate) enum DatagramFailure {
    /// The connection has ended.
    Ended,
    /// An error that is returned to the owner of the transport.
    Send(SendError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packets_that_stay_unanswered_count_as_looks_without_an_answer() {
        let mut answers = Answers::default();
        assert_eq!(answers.look(5, 5), 0, "something arrived");
        assert_eq!(answers.look(5, 5), 0, "silence on both sides");
        assert_eq!(answers.look(5, 6), 1);
        assert_eq!(answers.look(5, 6), 2, "QUIC waits longer each time before it asks again");
        assert_eq!(answers.look(6, 7), 0, "an answer, and a new packet that may still get one");
        assert_eq!(answers.look(6, 7), 0);
    }
}
