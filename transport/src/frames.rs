//! Frames on a stream: a length of four bytes, little-endian, then that many bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use quinn::{ReadError, VarInt, WriteError};
use tokio::time::{Instant, timeout_at};

use crate::error::Loss;
use crate::reassembly::{ReassemblyBudget, StreamReservation};
use crate::statistics::Counters;
use crate::stream_guard::StreamGuard;

/// The size of the length field.
const HEADER: usize = 4;

/// A frame up to this size is copied after its length, which is cheaper than a second chunk.
const COPIED: usize = 2048;

/// The most memory reserved for a frame before any of it has arrived.
const FIRST_RESERVE: usize = 64 << 10;

/// Chunks of a stream read at once.
const PIECES: usize = 64;

/// The code that a stream is reset or stopped with, which tells the peer the reason.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(crate) enum StreamCode {
    /// The application dropped the stream.
    Abandoned = 1,
    /// A frame declared a larger size than the limit.
    TooLarge = 2,
    /// A frame exceeded its timeout.
    TimedOut = 3,
    /// There are too many streams or too many incomplete frames.
    Busy = 4,
}

impl StreamCode {
    pub(crate) fn code(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    fn explain(code: VarInt) -> String {
        match u64::from(code) {
            1 => "it dropped the stream".to_owned(),
            2 => "the frame is larger than it accepts".to_owned(),
            3 => "a frame took longer than it waits".to_owned(),
            4 => "it has too many streams".to_owned(),
            other => format!("stream error {other}"),
        }
    }
}

/// Why a frame was not sent or received. The stream cannot be used any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame exceeded the timeout.
    #[error("a frame was not sent or received within {after:?}")]
    TimedOut {
        /// The timeout.
        after: Duration,
    },
    /// The frame is larger than the limit.
    #[error("a frame of {size} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// The size of the frame, as declared by the peer or as given to `send`.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The limit on buffered bytes of incomplete frames is reached.
    #[error("a limit on buffered bytes of incomplete frames is reached")]
    ReassemblyLimit,
    /// The peer finished the stream in the middle of a frame.
    #[error("the stream ended {missing} bytes before the end of a frame")]
    Truncated {
        /// The number of missing bytes; of the length field, if that is incomplete.
        missing: usize,
    },
    /// The peer reset or stopped the stream.
    #[error("the peer abandoned the stream: {0}")]
    GivenUp(String),
    /// The connection ended.
    #[error("the connection with the peer ended: {0}")]
    Lost(Loss),
    /// The stream was finished, or has failed, before.
    #[error("the stream has ended")]
    Over,
}

/// The settings of both directions of a stream.
#[derive(Debug, Clone)]
pub(crate) struct FrameSettings {
    pub(crate) limit: usize,
    pub(crate) timeout: Duration,
    pub(crate) counters: Arc<Counters>,
    pub(crate) reassembly: ReassemblyBudget,
}

impl FrameSettings {
    /// Counts the failure of a stream.
    fn count(&self, error: &FrameError) {
        match error {
            FrameError::TimedOut { .. } => self.counters.frames_dropped_timed_out.increment(),
            FrameError::TooLarge { .. } => self.counters.frames_dropped_too_large.increment(),
            FrameError::ReassemblyLimit => self.counters.frames_dropped_unfinished.increment(),
            FrameError::Truncated { .. } | FrameError::GivenUp(_) | FrameError::Lost(_) => {
                self.counters.streams_broken.increment();
            }
            FrameError::Over => {}
        }
    }
}

/// The sending direction of a stream.
///
/// Dropping it without [`FrameSender::finish`] resets the stream, so that the peer sees that it is
/// incomplete.
#[derive(Debug)]
pub struct FrameSender {
    stream: quinn::SendStream,
    settings: FrameSettings,
    /// The rest of a frame whose `send` was cancelled. It is sent before anything else.
    pieces: [Bytes; 2],
    state: State,
    guard: Option<Arc<StreamGuard>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Finished,
    Failed,
}

impl FrameSender {
    pub(crate) fn new(stream: quinn::SendStream, settings: FrameSettings, guard: Arc<StreamGuard>) -> Self {
        Self {
            stream,
            settings,
            pieces: [Bytes::new(), Bytes::new()],
            state: State::Open,
            guard: Some(guard),
        }
    }

    /// Sets the timeout for each further frame. A frame that the peer does not read in this time fails.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.settings.timeout = timeout;
    }

    /// Sends one frame. Returns once QUIC has buffered it, which the peer's flow control may delay.
    ///
    /// A `Vec<u8>` or `Bytes` of more than 2 KiB is not copied. If the call is cancelled, the next call
    /// still sends the frame completely. A frame above the limit is rejected and leaves the stream as it
    /// was. Any other error ends the stream.
    pub async fn send(&mut self, frame: impl Into<Bytes>) -> Result<(), FrameError> {
        let frame = frame.into();
        let limit = self.settings.limit;
        if self.state != State::Open {
            return Err(FrameError::Over);
        }
        let size = match u32::try_from(frame.len()) {
            Ok(size) if frame.len() <= limit => size,
            _ => return Err(FrameError::TooLarge { size: frame.len(), limit }),
        };
        let deadline = Instant::now() + self.settings.timeout;
        self.flush(deadline).await?;
        let mut header =
            BytesMut::with_capacity(HEADER + if frame.len() <= COPIED { frame.len() } else { 0 });
        header.put_u32_le(size);
        if frame.len() <= COPIED {
            header.extend_from_slice(&frame);
            self.pieces = [header.freeze(), Bytes::new()];
        } else {
            self.pieces = [header.freeze(), frame];
        }
        self.flush(deadline).await?;
        self.settings.counters.frames_sent.increment();
        Ok(())
    }

    /// Finishes the stream: the peer reads everything that was sent, then a clean end.
    pub async fn finish(&mut self) -> Result<(), FrameError> {
        if self.state != State::Open {
            return Err(FrameError::Over);
        }
        self.flush(Instant::now() + self.settings.timeout).await?;
        self.state = State::Finished;
        self.stream.finish().map_err(|_| FrameError::Over)
    }

    /// After [`FrameSender::finish`]: waits until the peer's QUIC has acknowledged everything.
    pub async fn acknowledged(&mut self) -> Result<(), FrameError> {
        let deadline = Instant::now() + self.settings.timeout;
        let after = self.settings.timeout;
        match timeout_at(deadline, self.stream.stopped()).await {
            Err(_) => Err(self.fail(FrameError::TimedOut { after })),
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(code))) => Err(self.fail(FrameError::GivenUp(StreamCode::explain(code)))),
            Ok(Err(quinn::StoppedError::ConnectionLost(error))) => {
                Err(self.fail(FrameError::Lost(Loss::of(&error))))
            }
            Ok(Err(quinn::StoppedError::ZeroRttRejected)) => Err(self.fail(FrameError::Over)),
        }
    }

    async fn flush(&mut self, deadline: Instant) -> Result<(), FrameError> {
        while self.pieces.iter().any(|piece| !piece.is_empty()) {
            // A chunk that was sent is left empty, and one that was sent in part is left with its rest.
            // So it is safe to cancel at every await.
            match timeout_at(deadline, self.stream.write_chunks(&mut self.pieces)).await {
                Ok(Ok(_)) => {}
                Ok(Err(WriteError::Stopped(code))) => {
                    return Err(self.fail(FrameError::GivenUp(StreamCode::explain(code))));
                }
                Ok(Err(WriteError::ConnectionLost(error))) => {
                    return Err(self.fail(FrameError::Lost(Loss::of(&error))));
                }
                Ok(Err(WriteError::ClosedStream | WriteError::ZeroRttRejected)) => {
                    return Err(self.fail(FrameError::Over));
                }
                Err(_) => {
                    let after = self.settings.timeout;
                    let _ = self.stream.reset(StreamCode::TimedOut.code());
                    return Err(self.fail(FrameError::TimedOut { after }));
                }
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: FrameError) -> FrameError {
        self.state = State::Failed;
        self.settings.count(&error);
        error
    }
}

impl Drop for FrameSender {
    fn drop(&mut self) {
        let Some(guard) = self.guard.take() else { return };
        match self.state {
            // quinn would finish the stream, and the peer would take an incomplete exchange for a
            // complete one.
            State::Open => drop(self.stream.reset(StreamCode::Abandoned.code())),
            // The connection must stay open until the peer has acknowledged everything.
            State::Finished => guard.hold_until(self.stream.stopped()),
            State::Failed => {}
        }
    }
}

/// The receiving direction of a stream.
#[derive(Debug)]
pub struct FrameReceiver {
    /// Boxed, because arrivals are queued by value and most of them are small.
    inner: Box<Receiving>,
}

#[derive(Debug)]
struct Receiving {
    stream: quinn::RecvStream,
    settings: FrameSettings,
    assembly: Assembly,
    reservation: StreamReservation,
    deadline: Option<Instant>,
    ended: bool,
    _guard: Arc<StreamGuard>,
}

impl FrameReceiver {
    pub(crate) fn new(stream: quinn::RecvStream, settings: FrameSettings, guard: Arc<StreamGuard>) -> Self {
        let assembly = Assembly::new(settings.limit);
        let reservation = settings.reassembly.for_stream();
        let inner = Receiving {
            stream,
            settings,
            assembly,
            reservation,
            deadline: None,
            ended: false,
            _guard: guard,
        };
        Self { inner: Box::new(inner) }
    }

    /// Sets the timeout for each further frame, counted from the first call of [`FrameReceiver::next`]
    /// for it.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.inner.settings.timeout = timeout;
        self.inner.deadline = None;
    }

    /// The next frame, or `None` if the peer finished the stream after the last one.
    ///
    /// Memory never exceeds twice the received part of the frame plus 64 KiB, whatever size is declared.
    /// Cancel safe, and cancelling does not prolong the timeout of the frame. Any error ends the stream.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        self.inner.next().await
    }
}

impl Receiving {
    async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        if self.ended {
            return Ok(None);
        }
        let timeout = self.settings.timeout;
        loop {
            match self.assembly.next() {
                Ok(Some(frame)) => {
                    self.deadline = None;
                    self.reservation.set(self.assembly.buffered_bytes());
                    self.settings.counters.frames_received.increment();
                    return Ok(Some(frame));
                }
                Ok(None) if self.reservation.set(self.assembly.buffered_bytes()) => {}
                Ok(None) => {
                    // The buffered bytes are released now, not when the stream is dropped.
                    self.assembly = Assembly::new(self.settings.limit);
                    self.reservation.set(0);
                    return Err(self.fail(FrameError::ReassemblyLimit, StreamCode::Busy));
                }
                Err(error) => return Err(self.fail(error, StreamCode::TooLarge)),
            }
            let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + timeout);
            let mut pieces = [const { Bytes::new() }; PIECES];
            match timeout_at(deadline, self.stream.read_chunks(&mut pieces)).await {
                Ok(Ok(Some(count))) => self.assembly.extend(pieces.into_iter().take(count)),
                Ok(Ok(None)) => {
                    self.ended = true;
                    return match self.assembly.missing() {
                        0 => Ok(None),
                        missing => Err(self.fail(FrameError::Truncated { missing }, StreamCode::Abandoned)),
                    };
                }
                Ok(Err(error)) => {
                    let error = match error {
                        ReadError::Reset(code) => FrameError::GivenUp(StreamCode::explain(code)),
                        ReadError::ConnectionLost(error) => FrameError::Lost(Loss::of(&error)),
                        ReadError::ClosedStream
                        | ReadError::IllegalOrderedRead
                        | ReadError::ZeroRttRejected => FrameError::Over,
                    };
                    return Err(self.fail(error, StreamCode::Abandoned));
                }
                Err(_) => {
                    return Err(self.fail(FrameError::TimedOut { after: timeout }, StreamCode::TimedOut));
                }
            }
        }
    }

    fn fail(&mut self, error: FrameError, code: StreamCode) -> FrameError {
        self.settings.count(&error);
        let _ = self.stream.stop(code.code());
        error
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        // No effect if the stream has ended. Otherwise the peer learns that no node reads it any more.
        let _ = self.stream.stop(StreamCode::Abandoned.code());
    }
}

/// Reassembles frames from chunks with arbitrary boundaries.
#[derive(Debug)]
struct Assembly {
    limit: usize,
    /// Received and not parsed yet, in order.
    pieces: std::collections::VecDeque<Bytes>,
    waiting: usize,
    /// The frame being reassembled, once its size is known.
    frame: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    size: usize,
    bytes: Vec<u8>,
}

impl Assembly {
    fn new(limit: usize) -> Self {
        Self { limit, pieces: std::collections::VecDeque::new(), waiting: 0, frame: None }
    }

    fn extend(&mut self, pieces: impl Iterator<Item = Bytes>) {
        for piece in pieces.filter(|piece| !piece.is_empty()) {
            self.waiting += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// The number of bytes buffered for an incomplete frame.
    fn buffered_bytes(&self) -> usize {
        self.waiting + self.frame.as_ref().map_or(0, |frame| frame.bytes.len())
    }

    /// The number of bytes that are missing if the stream ends now.
    fn missing(&self) -> usize {
        match &self.frame {
            Some(frame) => frame.size - frame.bytes.len() - self.waiting,
            None if self.waiting == 0 => 0,
            None => HEADER - self.waiting,
        }
    }

    /// The next complete frame, if there is one.
    fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        if self.frame.is_none() {
            if self.waiting < HEADER {
                return Ok(None);
            }
            let mut header = [0; HEADER];
            for byte in &mut header {
                let first = self.pieces.front_mut().expect("counted in waiting");
                *byte = first.get_u8();
                if first.is_empty() {
                    self.pieces.pop_front();
                }
            }
            self.waiting -= HEADER;
            let size = u32::from_le_bytes(header) as usize;
            if size > self.limit {
                return Err(FrameError::TooLarge { size, limit: self.limit });
            }
            // A frame within one chunk is a slice of it.
            if let Some(first) = self.pieces.front_mut()
                && first.len() >= size
            {
                let frame = first.split_to(size);
                if first.is_empty() {
                    self.pieces.pop_front();
                }
                self.waiting -= size;
                return Ok(Some(frame));
            }
            self.frame = Some(Partial { size, bytes: Vec::with_capacity(size.min(FIRST_RESERVE)) });
        }
        let Some(frame) = &mut self.frame else { return Ok(None) };
        while frame.bytes.len() < frame.size {
            let Some(first) = self.pieces.front_mut() else { return Ok(None) };
            let piece = first.split_to(first.len().min(frame.size - frame.bytes.len()));
            if first.is_empty() {
                self.pieces.pop_front();
            }
            self.waiting -= piece.len();
            let (length, capacity) = (frame.bytes.len(), frame.bytes.capacity());
            if length + piece.len() > capacity {
                // The capacity doubles with the received bytes. The declared size is only its upper
                // bound.
                let wanted = (2 * capacity).max(length + piece.len()).min(frame.size);
                frame.bytes.reserve_exact(wanted - length);
            }
            frame.bytes.extend_from_slice(&piece);
        }
        let frame = self.frame.take().expect("completed above");
        Ok(Some(frame.bytes.into()))
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
