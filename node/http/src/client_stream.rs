//! The socket of one caller, which tells afterwards what the caller was waiting for, and does not wait for ever itself.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A last word must have gone out within this time.
const LAST_WORD_TIME: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Shared<S> {
    stream: S,
    /// Something of a request arrived, and nothing of an answer went out since.
    unanswered: bool,
    /// The caller took nothing for too long.
    stalled: bool,
    /// The status of an answer that the HTTP library gave by itself, without a body. It is held back: it was the last, and a better
    /// one follows.
    bare: Option<u16>,
}

impl<S> Shared<S> {
    /// Whether `bytes` are such an answer, and have been taken for written.
    fn holds_back(&mut self, bytes: &[u8]) -> bool {
        self.bare = self.bare.or_else(|| bare_refusal(bytes));
        self.bare.is_some()
    }
}

/// The status of a refusal that none of our handlers has made: those always have the header by which browsers do not guess.
fn bare_refusal(bytes: &[u8]) -> Option<u16> {
    let head = bytes.strip_prefix(b"HTTP/1.1 ")?;
    let status = std::str::from_utf8(head.get(..3)?).ok()?.parse().ok()?;
    let whole = head.ends_with(b"\r\n\r\n") && head.windows(17).any(|part| part == b"content-length: 0");
    let ours = head.windows(22).any(|part| part == b"x-content-type-options");
    (matches!(status, 400 | 414 | 431) && whole && !ours).then_some(status)
}

/// The end that is served.
#[derive(Debug)]
pub(super) struct ClientStream<S> {
    shared: Arc<Mutex<Shared<S>>>,
    stall_time: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

/// The end that is kept until the other one is done.
#[derive(Debug)]
pub(super) struct Kept<S>(Arc<Mutex<Shared<S>>>);

impl<S> ClientStream<S> {
    /// Whoever takes nothing of an answer for `stall_time` is given up.
    pub(super) fn new(stream: S, stall_time: Duration) -> (Self, Kept<S>) {
        let shared = Arc::new(Mutex::new(Shared { stream, unanswered: false, stalled: false, bare: None }));
        (Self { shared: shared.clone(), stall_time, waiting: None }, Kept(shared))
    }

    /// Passes on what a write came to, and gives up one that came to nothing for too long.
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

impl<S: AsyncRead + AsyncWrite + Unpin> Kept<S> {
    /// Whether part of a request is still without an answer.
    pub(super) fn is_unanswered(&self) -> bool {
        self.0.lock().unanswered
    }

    /// Whether the caller was given up because it took nothing.
    pub(super) fn is_stalled(&self) -> bool {
        self.0.lock().stalled
    }

    /// The status that the HTTP library answered with by itself.
    pub(super) fn bare_refusal(&self) -> Option<u16> {
        self.0.lock().bare
    }

    /// Sends `text` as the end of the connection, now that nobody else does.
    pub(super) async fn last_word(self, text: String) {
        if let Ok(shared) = Arc::try_unwrap(self.0).map(Mutex::into_inner) {
            last_word(shared.stream, text).await;
        }
    }
}

/// Sends `text` and closes. A system that closes while something arrived unread would take back what was sent, so that is
/// waited for as well, for a moment.
async fn last_word(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: String) {
    let saying = async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while tokio::io::AsyncReadExt::read(&mut stream, &mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // Whoever does not want to hear it goes without.
    let _ = tokio::time::timeout(LAST_WORD_TIME, saying).await;
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
        shared.unanswered |= buffer.filled().len() > before;
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
            if shared.holds_back(bytes) {
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
            if shared.holds_back(pieces.first().map_or(b"", |piece| piece)) {
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
            // There is something left to say.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut shared.stream).poll_shutdown(context)
    }
}
