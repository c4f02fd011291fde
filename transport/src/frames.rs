//! Frames on a stream: four bytes of length, little-endian, then that many bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use quinn::{ReadError, VarInt, WriteError};
use tokio::time::{Instant, timeout_at};

use crate::error::Loss;
use crate::link::StreamGuard;
use crate::reassembly::{ReassemblyBudget, StreamReservation};
use crate::statistics::Counters;

/// The bytes of a length.
const HEADER: usize = 4;

/// A frame up to this size is copied behind its length, which is cheaper than a second piece.
const COPIED: usize = 2048;

/// What is set aside for a frame before any of it has arrived, at most.
const FIRST_RESERVE: usize = 64 << 10;

/// Pieces of a stream taken at once.
const PIECES: usize = 64;

/// Why a stream was given up, as its other side learns it.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(crate) enum StreamCode {
    /// Whoever held the stream dropped it.
    Abandoned = 1,
    /// A frame declared more than is accepted.
    TooLarge = 2,
    /// A frame took too long.
    TimedOut = 3,
    /// There are too many streams.
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

/// Why a frame did not get through. The stream is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame took longer than allowed.
    #[error("a frame did not get through within {after:?}")]
    TimedOut {
        /// What was allowed.
        after: Duration,
    },
    /// The frame is larger than the limit.
    #[error("a frame of {size} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// The size of the frame, or what the peer declared.
        size: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The limit on buffered bytes of incomplete frames is reached.
    #[error("a limit on buffered bytes of incomplete frames is reached")]
    ReassemblyLimit,
    /// The peer finished the stream in the middle of a frame.
    #[error("the stream ended {missing} bytes before the end of a frame")]
    Truncated {
        /// How much is missing; of the length itself, if it did not arrive.
        missing: usize,
    },
    /// The peer gave the stream up.
    #[error("the peer gave the stream up: {0}")]
    GivenUp(String),
    /// The connection ended.
    #[error("the connection with the peer ended: {0}")]
    Lost(Loss),
    /// The stream was finished, or had failed, before.
    #[error("the stream is over")]
    Over,
}

/// What both directions of a stream are set to.
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
            FrameError::TimedOut { .. } => self.counters.frames_timed_out.increment(),
            FrameError::TooLarge { .. } => self.counters.frames_too_large.increment(),
            FrameError::ReassemblyLimit => self.counters.frames_unfinished.increment(),
            FrameError::Truncated { .. } | FrameError::GivenUp(_) | FrameError::Lost(_) => {
                self.counters.streams_broken.increment();
            }
            FrameError::Over => {}
        }
    }
}

/// The sending direction of a stream.
///
/// Dropping it without [`FrameSender::finish`] tells the peer that the stream was given up.
#[derive(Debug)]
pub struct FrameSender {
    stream: quinn::SendStream,
    settings: FrameSettings,
    /// What is left of a frame whose sending was cancelled, to go out before anything else.
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

    /// How long each frame may take from now on: one that the peer does not read in this time fails.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.settings.timeout = timeout;
    }

    /// Sends one frame; returns once QUIC has taken it, which the peer's flow control may delay.
    ///
    /// A `Vec<u8>` or `Bytes` of more than 2 KiB is not copied. If the call is cancelled, the frame still goes out
    /// whole with the next call. A frame above the limit is refused and leaves the stream as it was; any other error
    /// ends the stream.
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

    /// Says that no frame follows. The peer reads all that was sent, then a clean end.
    pub async fn finish(&mut self) -> Result<(), FrameError> {
        if self.state != State::Open {
            return Err(FrameError::Over);
        }
        self.flush(Instant::now() + self.settings.timeout).await?;
        self.state = State::Finished;
        self.stream.finish().map_err(|_| FrameError::Over)
    }

    /// After [`FrameSender::finish`]: waits until the peer's QUIC has all of it.
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
            // A piece that went out is left empty, and one that went out in part is left with its rest: cancelling is
            // safe at every await.
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
            // quinn would finish the stream: half an exchange would look like a whole one.
            State::Open => drop(self.stream.reset(StreamCode::Abandoned.code())),
            // The connection must stay until all of it has arrived.
            State::Finished => guard.hold_until(self.stream.stopped()),
            State::Failed => {}
        }
    }
}

/// The receiving direction of a stream.
#[derive(Debug)]
pub struct FrameReceiver {
    /// Apart, because arrivals wait in rows, and most of them are small.
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

    /// How long each frame may take from now on, counted from the first call of [`FrameReceiver::next`] for it.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.inner.settings.timeout = timeout;
        self.inner.deadline = None;
    }

    /// The next frame; `None` if the peer finished the stream after the last one.
    ///
    /// Memory never exceeds twice what has arrived of the frame plus 64 KiB, whatever length is declared. Cancelling
    /// loses nothing and does not prolong the frame's deadline. Any error ends the stream.
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
                    // What has arrived goes now, not when the stream is dropped.
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
        // Harmless if the stream has ended; otherwise the peer learns why nobody reads any more.
        let _ = self.stream.stop(StreamCode::Abandoned.code());
    }
}

/// Frames out of pieces that end anywhere.
#[derive(Debug)]
struct Assembly {
    limit: usize,
    /// Arrived and not looked at, in order.
    pieces: std::collections::VecDeque<Bytes>,
    waiting: usize,
    /// The frame that is being put together, once its length is known.
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

    /// How many bytes wait here for the rest of a frame.
    fn buffered_bytes(&self) -> usize {
        self.waiting + self.frame.as_ref().map_or(0, |frame| frame.bytes.len())
    }

    /// How many bytes a stream that ends now leaves to be wished for.
    fn missing(&self) -> usize {
        match &self.frame {
            Some(frame) => frame.size - frame.bytes.len() - self.waiting,
            None if self.waiting == 0 => 0,
            None => HEADER - self.waiting,
        }
    }

    /// The next whole frame, if all of it has arrived.
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
            // A frame that came in one piece is that piece.
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
                // Doubling follows what has arrived; the declared size only keeps it from going beyond.
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
