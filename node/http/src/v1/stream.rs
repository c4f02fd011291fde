//! Answers of JSON lines that go on for as long as something happens.

use std::io;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::pieces::Pieces;

/// A piece is sent when it has reached this size.
const PIECE_BYTES: usize = 64 << 10;

/// So many pieces may wait for a slow reader; then the writer waits.
const PIECES: usize = 4;

/// One JSON value a line.
const NDJSON: &str = "application/x-ndjson";

/// The writer's end: takes lines from a thread that may block. What is longer than a piece is cut into pieces.
pub(super) struct LineWriter {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

/// The reader is gone; there is nobody left to write for.
#[derive(Debug)]
pub(super) struct ReaderGone;

impl io::Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            io::Write::flush(self)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece);
        self.pieces.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl LineWriter {
    /// Adds `value` as a line, and sends what has gathered if that is enough; waits while the reader is slow.
    pub(super) fn line(&mut self, value: &impl Serialize) -> Result<(), ReaderGone> {
        serde_json::to_writer(&mut *self, value).map_err(|_| ReaderGone)?;
        io::Write::write_all(self, b"\n").map_err(|_| ReaderGone)
    }

    /// Sends an empty line, which readers of JSON lines pass over: it shows both sides that the other is there.
    pub(super) fn heartbeat(&mut self) -> Result<(), ReaderGone> {
        self.piece.push(b'\n');
        self.flush()
    }

    /// Sends what has gathered.
    pub(super) fn flush(&mut self) -> Result<(), ReaderGone> {
        io::Write::flush(self).map_err(|_| ReaderGone)
    }

    /// Whether the reader has gone away.
    pub(super) fn reader_is_gone(&self) -> bool {
        self.pieces.is_closed()
    }
}

/// The headers of JSON lines.
pub(super) const HEADERS: [(HeaderName, &str); 2] = [(CONTENT_TYPE, NDJSON), (CACHE_CONTROL, "no-store")];

/// An answer of JSON lines that `write` makes on a thread of the runtime's blocking pool. It ends when `write` returns,
/// and `write` learns at its next line or flush when the reader is gone.
pub(super) fn json_lines(
    write: impl FnOnce(&mut LineWriter) -> Result<(), ReaderGone> + Send + 'static,
) -> Response {
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut writer = LineWriter { pieces: sender, piece: Vec::new() };
        // A reader that is gone is no error: it had enough.
        let _ = write(&mut writer).and_then(|()| writer.flush());
    });
    (HEADERS, Body::new(Pieces(receiver))).into_response()
}
