//! The stream of one client connection. It closes the connection of a client that does not read its response
//! in time, and records the state of the last exchange, so that the server can send a final error response.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Timeout for sending the final response of a connection.
const FINAL_RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// So much of a request shows whether it is for `/v1`.
const REQUEST_BEGIN_BYTES: usize = 32;

#[derive(Debug)]
struct Shared<S> {
    stream: S,
    /// The first bytes of the last request.
    begin: Vec<u8>,
    /// Part of a request arrived, and no part of a response was sent since.
    unanswered: bool,
    /// The client did not read for too long.
    stalled: bool,
    /// The status of an empty response that the HTTP library made itself. This stream does not send it: the
    /// server sends a response with an explanation in its place, as the last one of the connection.
    bare: Option<u16>,
}

impl<S> Shared<S> {
    /// Part of a request has arrived.
    fn note_request(&mut self, part: &[u8]) {
        if part.is_empty() {
            return;
        }
        if !std::mem::replace(&mut self.unanswered, true) {
            self.begin.clear();
        }
        let missing = REQUEST_BEGIN_BYTES - self.begin.len();
        self.begin.extend_from_slice(&part[..part.len().min(missing)]);
    }

    /// Whether `bytes` are such a response. The stream then reports them as written without sending them.
    fn withholds(&mut self, bytes: &[u8]) -> bool {
        self.bare = self.bare.or_else(|| bare_refusal(bytes));
        self.bare.is_some()
    }
}

/// The status of an error response of the HTTP library. Responses of this crate's handlers always have the
/// header `x-content-type-options`.
fn bare_refusal(bytes: &[u8]) -> Option<u16> {
    let head = bytes.strip_prefix(b"HTTP/1.1 ")?;
    let status = std::str::from_utf8(head.get(..3)?).ok()?.parse().ok()?;
    let whole = head.ends_with(b"\r\n\r\n") && head.windows(17).any(|part| part == b"content-length: 0");
    let ours = head.windows(22).any(|part| part == b"x-content-type-options");
    (matches!(status, 400 | 414 | 431) && whole && !ours).then_some(status)
}

/// Whether a request that begins with these bytes is for `/v1`, or a path below it.
fn is_v1_request(begin: &[u8]) -> bool {
    let path = begin.split(|byte| *byte == b' ').nth(1).and_then(|path| path.strip_prefix(b"/v1"));
    path.is_some_and(|rest| matches!(rest.first(), None | Some(b'/' | b'?')))
}

/// The stream that the HTTP library serves.
#[derive(Debug)]
pub(super) struct ClientStream<S> {
    shared: Arc<Mutex<Shared<S>>>,
    stall_time: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

/// The server's handle of the stream, for use after the HTTP library has finished.
#[derive(Debug)]
pub(super) struct StreamHandle<S>(Arc<Mutex<Shared<S>>>);

impl<S> ClientStream<S> {
    /// The connection is closed if the client reads no part of a response for `stall_time`.
    pub(super) fn new(stream: S, stall_time: Duration) -> (Self, StreamHandle<S>) {
        let shared = Shared { stream, begin: Vec::new(), unanswered: false, stalled: false, bare: None };
        let shared = Arc::new(Mutex::new(shared));
        (Self { shared: shared.clone(), stall_time, waiting: None }, StreamHandle(shared))
    }

    /// Returns the outcome of a write; an error if it made no progress for too long.
    fn bounded<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waiting = None;
            return outcome;
        }
        let stall_time = self.stall_time;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(stall_time)));
        ready!(waiting.as_mut().poll(context));
        self.shared.lock().stalled = true;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> StreamHandle<S> {
    /// Whether part of a request has arrived without a response.
    pub(super) fn is_unanswered(&self) -> bool {
        self.0.lock().unanswered
    }

    /// Whether the path of the last request is that of `/v1`, or below it.
    pub(super) fn is_v1(&self) -> bool {
        is_v1_request(&self.0.lock().begin)
    }

    /// Whether the connection was closed because the client did not read.
    pub(super) fn is_stalled(&self) -> bool {
        self.0.lock().stalled
    }

    /// The status of the HTTP library's own error response.
    pub(super) fn bare_refusal(&self) -> Option<u16> {
        self.0.lock().bare
    }

    /// Sends `text` as the final response and closes the connection.
    pub(super) async fn send_final_response(self, text: String) {
        if let Ok(shared) = Arc::try_unwrap(self.0).map(Mutex::into_inner) {
            send_final_response(shared.stream, text).await;
        }
    }
}

/// Sends `text` and closes. If a socket is closed with unread data, the system resets the connection and
/// discards the response. So this reads the rest, within the timeout.
async fn send_final_response(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: String) {
    let sending = async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while tokio::io::AsyncReadExt::read(&mut stream, &mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // A client that does not read the response in time does not get it.
    let _ = tokio::time::timeout(FINAL_RESPONSE_TIMEOUT, sending).await;
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut shared = self.shared.lock();
        let before = buffer.filled().len();
        let outcome = ready!(Pin::new(&mut shared.stream).poll_read(context, buffer));
        shared.note_request(&buffer.filled()[before..]);
        Poll::Ready(outcome)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = {
            let mut shared = self.shared.lock();
            shared.unanswered = false;
            if shared.withholds(bytes) {
                return Poll::Ready(Ok(bytes.len()));
            }
            Pin::new(&mut shared.stream).poll_write(context, bytes)
        };
        self.bounded(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = {
            let mut shared = self.shared.lock();
            shared.unanswered = false;
            if shared.withholds(pieces.first().map_or(b"", |piece| piece)) {
                return Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()));
            }
            Pin::new(&mut shared.stream).poll_write_vectored(context, pieces)
        };
        self.bounded(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.shared.lock().stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.shared.lock().stream).poll_flush(context);
        self.bounded(context, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.lock();
        if shared.bare.is_some() {
            // The final response is still to be sent.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut shared.stream).poll_shutdown(context)
    }
}
