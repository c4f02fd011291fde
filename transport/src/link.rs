//! One connection with one peer: its datagrams and streams, and how it is drained once another
//! connection has replaced it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::{ConnectionError, SendDatagramError};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use crate::arrivals::{Inbox, Peer};
use crate::error::{CloseCode, SendError};
use crate::frames::{FrameReceiver, FrameSender, StreamCode};
use crate::keys::Fingerprint;
use crate::reassembly::ReassemblyBudget;
use crate::routes::LinkId;
use crate::shared::Shared;
use crate::statistics::ConnectionStatistics;

/// The shortest time for which a drained connection stays open: data that the peer sent before it
/// learned of the replacement must arrive.
const LINGER: Duration = Duration::from_secs(1);

/// How long streams may continue on a connection whose secret or authority is no longer accepted.
const KEYS_DRAIN: Duration = Duration::from_secs(5);

/// How many datagrams are read before other tasks run.
const DATAGRAMS_A_TURN: usize = 128;

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) peer: Peer,
    pub(crate) authority: Fingerprint,
    pub(crate) dialled: bool,
    pub(crate) connection: quinn::Connection,
    inbox: Arc<Inbox>,
    in_use: Arc<StreamsInUse>,
    reassembly: ReassemblyBudget,
    retirement: watch::Sender<Option<Retirement>>,
    activity: Mutex<(u64, Instant)>,
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

/// The number of streams in use on a connection.
#[derive(Debug, Default)]
struct StreamsInUse {
    count: AtomicUsize,
    idle: Notify,
}

/// Held by both directions of a stream. It keeps their connection open and their permit taken.
#[derive(Debug)]
pub(crate) struct StreamGuard {
    in_use: Arc<StreamsInUse>,
    tracker: TaskTracker,
    runtime: Handle,
    _permit: Option<OwnedSemaphorePermit>,
}

impl StreamGuard {
    /// Keeps the stream in use until the peer has acknowledged everything. May be called on any thread.
    pub(crate) fn hold_until<F>(self: Arc<Self>, acknowledged: F)
    where
        F: Future + Send + 'static,
    {
        let (tracker, runtime) = (self.tracker.clone(), self.runtime.clone());
        let holding = async move {
            acknowledged.await;
            drop(self);
        };
        tracker.spawn_on(holding, &runtime);
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if self.in_use.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.in_use.idle.notify_waiters();
        }
    }
}

impl Link {
    pub(crate) fn new(
        id: LinkId,
        peer: Peer,
        authority: Fingerprint,
        dialled: bool,
        connection: quinn::Connection,
        reassembly: ReassemblyBudget,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            inbox: Inbox::new(peer.clone()),
            peer,
            authority,
            dialled,
            connection,
            in_use: Arc::default(),
            reassembly,
            retirement: watch::Sender::new(None),
            activity: Mutex::new((0, Instant::now())),
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
        shared: &Shared,
        permit: Option<OwnedSemaphorePermit>,
    ) -> (FrameSender, FrameReceiver) {
        self.in_use.count.fetch_add(1, Ordering::AcqRel);
        let guard = Arc::new(StreamGuard {
            in_use: self.in_use.clone(),
            tracker: shared.tracker.clone(),
            runtime: shared.runtime.clone(),
            _permit: permit,
        });
        let settings = shared.frame_settings(&self.reassembly);
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
        self.in_use.count.load(Ordering::Acquire)
    }

    /// Returns once no stream is in use.
    pub(crate) async fn streams_finished(&self) {
        loop {
            let idle = self.in_use.idle.notified();
            if self.streams() == 0 {
                return;
            }
            idle.await;
        }
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

    /// Returns when a drained connection may be closed.
    async fn drained(&self, retirement: Option<Retirement>) {
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

    /// Accepts the peer's streams until the connection ends. Returns why it ended.
    pub(crate) async fn serve_streams(&self, shared: &Shared) -> ConnectionError {
        let mut retirements = self.retirement.subscribe();
        loop {
            let retirement = *retirements.borrow_and_update();
            tokio::select! {
                stream = self.connection.accept_bi() => match stream {
                    Ok(stream) => self.accept_stream(stream, shared),
                    Err(error) => return error,
                },
                _ = retirements.changed() => {}
                () = self.drained(retirement) => {
                    self.close(CloseCode::Replaced, "another connection replaced it");
                }
            }
        }
    }

    fn accept_stream(&self, stream: (quinn::SendStream, quinn::RecvStream), shared: &Shared) {
        let Ok(permit) = shared.streams.clone().try_acquire_owned() else {
            let (mut send, mut receive) = stream;
            let _ = send.reset(StreamCode::Busy.code());
            let _ = receive.stop(StreamCode::Busy.code());
            return shared.counters.streams_refused.increment();
        };
        let (sender, receiver) = self.frames(stream, shared, Some(permit));
        shared.arrivals.push_stream(self.peer.clone(), sender, receiver);
    }

    /// Receives the peer's datagrams until the connection ends.
    pub(crate) async fn serve_datagrams(&self, shared: &Shared) {
        loop {
            for _ in 0..DATAGRAMS_A_TURN {
                match self.connection.read_datagram().await {
                    Ok(bytes) => {
                        shared.last_heard.note();
                        shared.arrivals.push_datagram(&self.inbox, bytes);
                    }
                    Err(_) => return,
                }
            }
            // A peer that always has another datagram ready must not block the thread.
            tokio::task::yield_now().await;
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
