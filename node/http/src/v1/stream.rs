//! Streamed responses of JSON lines.

use std::io;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::channel_body::ChannelBody;

/// The size of a full chunk, which is sent at once.
const CHUNK_BYTES: usize = 64 << 10;

/// The number of chunks that wait for a slow client before the writer blocks.
const MAX_WAITING_CHUNKS: usize = 4;

/// One JSON value a line.
const NDJSON: &str = "application/x-ndjson";

/// Writes lines from a blocking thread, split into chunks.
pub(super) struct LineWriter {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    chunk: Vec<u8>,
}

/// The client has disconnected.
#[derive(Debug)]
pub(super) struct Disconnected;

impl io::Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK_BYTES {
            io::Write::flush(self)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.chunk);
        self.chunks.blocking_send(Ok(chunk.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl LineWriter {
    /// Adds `value` as a line, and sends each full chunk. Blocks while the client is slow.
    pub(super) fn line(&mut self, value: &impl Serialize) -> Result<(), Disconnected> {
        serde_json::to_writer(&mut *self, value).map_err(|_| Disconnected)?;
        io::Write::write_all(self, b"\n").map_err(|_| Disconnected)
    }

    /// Sends an empty line, which readers of JSON lines ignore, so that both sides detect a broken
    /// connection.
    pub(super) fn heartbeat(&mut self) -> Result<(), Disconnected> {
        self.chunk.push(b'\n');
        self.flush()
    }

    /// Sends the buffered lines.
    pub(super) fn flush(&mut self) -> Result<(), Disconnected> {
        io::Write::flush(self).map_err(|_| Disconnected)
    }

    /// Whether the client has disconnected.
    pub(super) fn is_disconnected(&self) -> bool {
        self.chunks.is_closed()
    }
}

/// The headers of JSON lines.
pub(super) const HEADERS: [(HeaderName, &str); 2] = [(CONTENT_TYPE, NDJSON), (CACHE_CONTROL, "no-store")];

/// A response of JSON lines that `write` produces on a thread of the runtime's blocking pool. It ends when
/// `write` returns. When the client disconnects, the next line or flush returns an error to `write`.
pub(super) fn json_lines(
    write: impl FnOnce(&mut LineWriter) -> Result<(), Disconnected> + Send + 'static,
) -> Response {
    let (sender, receiver) = mpsc::channel(MAX_WAITING_CHUNKS);
    tokio::task::spawn_blocking(move || {
        let mut writer = LineWriter { chunks: sender, chunk: Vec::new() };
        // A client may disconnect at any time; that is not an error.
        let _ = write(&mut writer).and_then(|()| writer.flush());
    });
    (HEADERS, Body::new(ChannelBody(receiver))).into_response()
}
