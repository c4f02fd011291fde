//! Watches over HTTP: a stream of changes as JSON lines.
//!
//! A watch waits as a task does, without a thread. Only the snapshot is read on a blocking thread, a chunk at
//! a time: it can be a search through a large table.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use hyper::body::{Bytes, Frame};
use tabledb::{TableDb, Watch, WatchEvent, WatchFilter};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Sleep;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::WatchRecord;
use super::parameters::{FromParameters, Given, Parameters};
use super::watch_line::{MAX_PIECE_BYTES, WatchLine};
use crate::admission::Admission;
use crate::client_origin::client_origin;
use crate::permits::Permit;
use crate::problem::Problem;
use crate::streamed::JSON_LINES;

/// The longest chunk. A watch holds no other text.
const MAX_CHUNK_BYTES: usize = 64 << 10;

/// The interval at which an idle watch sends an empty line, which readers of JSON lines ignore, so that both
/// sides detect a broken connection.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Watching {
    db: TableDb,
    admission: Arc<Admission>,
    stopping: watch::Receiver<bool>,
}

/// The route of `/watch`; its streams end when `stopping` becomes true.
pub(super) fn router(
    db: TableDb,
    admission: Arc<Admission>,
    stopping: watch::Receiver<bool>,
) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(follow)).with_state(Watching { db, admission, stopping })
}

/// Watch: all entries, then every change, a JSON line each
///
/// An empty line shows that the connection is alive.
#[utoipa::path(
    get,
    path = "/watch",
    tag = "watch",
    operation_id = "watch",
    params(WatchParameters),
    responses((
        status = 200, description = "A change on each line", body = WatchRecord,
        content_type = "application/x-ndjson"
    )),
    extensions(("x-problems" = json!(["too_many_watches"]))),
)]
async fn follow(
    State(Watching { db, admission, stopping }): State<Watching>,
    Parameters(WatchParameters { network, table, exclude_own }): Parameters<WatchParameters>,
    request: Request,
) -> Result<Response, Problem> {
    let filter = WatchFilter { network, table, exclude_own };
    let permit = admission.watch(client_origin(&request))?;
    let body = WatchBody::start(db, filter, permit, stopping, HEARTBEAT_INTERVAL);
    Ok((JSON_LINES, Body::new(body)).into_response())
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct WatchParameters {
    /// Only this network.
    network: Option<String>,
    /// Only tables of this name.
    table: Option<String>,
    /// Without the entries of the responding node.
    #[param(value_type = Option<bool>)]
    exclude_own: bool,
}

impl FromParameters for WatchParameters {
    const KNOWN: &'static [&'static str] = &["network", "table", "exclude_own"];

    fn read(given: &Given) -> Result<Self, Problem> {
        Ok(Self {
            network: given.text("network"),
            table: given.text("table"),
            exclude_own: given.flag("exclude_own")?,
        })
    }
}

/// The body of a watch's response. It renders a chunk when the client can take one, and ends its watch when
/// it is dropped.
struct WatchBody {
    source: Source,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    heartbeat_interval: Duration,
    heartbeat: Pin<Box<Sleep>>,
}

enum Source {
    /// A blocking thread reads the snapshot and renders its next chunk.
    Snapshot(JoinHandle<(Box<Lines>, Vec<u8>)>),
    /// The next change is awaited.
    Changes(Box<Lines>),
    Ended,
}

impl WatchBody {
    fn start(
        db: TableDb,
        filter: WatchFilter,
        permit: Permit,
        mut stopping: watch::Receiver<bool>,
        heartbeat_interval: Duration,
    ) -> Self {
        let start = move || Box::new(Lines::new(db.watch(filter), permit)).read_snapshot();
        Self {
            source: Source::Snapshot(tokio::task::spawn_blocking(start)),
            stopped: Box::pin(async move {
                // An error means that the server is gone.
                let _ = stopping.wait_for(|stop| *stop).await;
            }),
            heartbeat_interval,
            heartbeat: Box::pin(tokio::time::sleep(heartbeat_interval)),
        }
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Vec<u8>>>> {
        loop {
            let lines = match &mut self.source {
                Source::Snapshot(reading) => {
                    let (lines, chunk) = match ready!(Pin::new(reading).poll(context)) {
                        Ok(read) => read,
                        // The body is aborted, so that the client does not take the rest for complete.
                        Err(error) => {
                            self.source = Source::Ended;
                            return Poll::Ready(Some(Err(io::Error::other(error))));
                        }
                    };
                    self.source = Source::Changes(lines);
                    if !chunk.is_empty() {
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                    continue;
                }
                Source::Changes(lines) => lines,
                Source::Ended => return Poll::Ready(None),
            };
            if !lines.stopping {
                lines.stopping = self.stopped.as_mut().poll(context).is_ready();
            }
            if lines.in_snapshot && !lines.stopping {
                if let Source::Changes(lines) = std::mem::replace(&mut self.source, Source::Ended) {
                    let reading = tokio::task::spawn_blocking(|| lines.read_snapshot());
                    self.source = Source::Snapshot(reading);
                }
                continue;
            }
            let chunk = lines.fill_chunk(|watch| match watch.poll_recv(context) {
                Poll::Ready(event) => Some(event),
                Poll::Pending => None,
            });
            if !chunk.is_empty() {
                return Poll::Ready(Some(Ok(chunk)));
            }
            if lines.closed {
                self.source = Source::Ended;
            } else if !lines.in_snapshot {
                ready!(self.heartbeat.as_mut().poll(context));
                return Poll::Ready(Some(Ok(b"\n".to_vec())));
            }
        }
    }
}

impl HttpBody for WatchBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = ready!(self.poll_chunk(context));
        let interval = self.heartbeat_interval;
        self.heartbeat.set(tokio::time::sleep(interval));
        Poll::Ready(next.map(|chunk| chunk.map(|chunk| Frame::data(chunk.into()))))
    }
}

/// A watch, and the line that is being rendered.
struct Lines {
    watch: Watch,
    line: Option<WatchLine>,
    /// There may be more of a snapshot to read.
    in_snapshot: bool,
    /// The server stops: the last line follows.
    stopping: bool,
    /// The last line is being rendered.
    closed: bool,
    _permit: Permit,
}

impl Lines {
    fn new(watch: Watch, permit: Permit) -> Self {
        Self { watch, line: None, in_snapshot: true, stopping: false, closed: false, _permit: permit }
    }

    /// The next chunk, from a thread that may block.
    fn read_snapshot(mut self: Box<Self>) -> (Box<Self>, Vec<u8>) {
        let chunk = self.fill_chunk(Watch::try_next);
        (self, chunk)
    }

    /// Renders the lines of the events that `next` returns, until the chunk is full or there is none now.
    fn fill_chunk(&mut self, mut next: impl FnMut(&mut Watch) -> Option<WatchEvent>) -> Vec<u8> {
        let mut chunk = Vec::new();
        while chunk.len() + MAX_PIECE_BYTES <= MAX_CHUNK_BYTES {
            if let Some(line) = &mut self.line {
                if !line.write_piece(&mut chunk) {
                    self.line = None;
                }
                continue;
            }
            if self.closed {
                break;
            }
            // The last line tells the client that the node has shut down, and that the entries were not
            // deleted.
            let event = if self.stopping { Some(WatchEvent::Closed) } else { next(&mut self.watch) };
            let Some(event) = event else {
                self.in_snapshot = false;
                break;
            };
            let lagged = event == WatchEvent::Lagged;
            self.closed = event == WatchEvent::Closed;
            self.line = Some(WatchLine::new(event));
            if lagged {
                // A new snapshot follows, which a blocking thread reads.
                self.in_snapshot = true;
                break;
            }
        }
        chunk
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
