//! Watches over HTTP: a stream of changes, as JSON lines or as server-sent events, that can be resumed on any node.
//!
//! A watch waits as a task does, without a thread. Only what precedes the present is read on a blocking thread, a
//! chunk at a time: it can be a search through a large table.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use hyper::body::{Bytes, Frame};
use networkdb::ClusterName;
use tabledb::{ResetReason, ResumableEvent, ResumableWatch, ResumePoint, TableDb, WatchFilter};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Sleep;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::WatchRecord;
use super::parameters::{FromParameters, Given, Parameters};
use super::watch_cursor::Cursors;
use super::watch_form::WatchForm;
use super::watch_line::{MAX_PIECE_BYTES, WatchLine};
use crate::admission::Admission;
use crate::client_origin::client_origin;
use crate::permits::Permit;
use crate::problem::{Problem, ProblemCode};

/// The longest chunk. A watch holds no other text.
const MAX_CHUNK_BYTES: usize = 64 << 10;

/// The interval at which an idle watch sends what readers ignore, an empty line or a comment, so that both sides detect
/// a broken connection.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);

/// How long a client waits for writes to arrive here that it has seen on another node.
const ARRIVAL_TIME: Duration = Duration::from_secs(2);

/// The pause between two looks for them.
const ARRIVAL_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone)]
struct Watching {
    db: TableDb,
    cursors: Cursors,
    admission: Arc<Admission>,
    stopping: watch::Receiver<bool>,
}

/// The route of `/watch`; its streams end when `stopping` becomes true. Changes are kept from now on, so that watches of
/// other nodes can be resumed here.
pub(super) fn router(
    db: TableDb,
    cluster: &ClusterName,
    admission: Arc<Admission>,
    stopping: watch::Receiver<bool>,
) -> OpenApiRouter {
    db.keep_history();
    let cursors = Cursors::of(cluster);
    OpenApiRouter::new().routes(routes!(follow)).with_state(Watching { db, cursors, admission, stopping })
}

/// Watch: all entries, then every change
///
/// As JSON lines, or as server-sent events if `Accept` prefers them. Each entry is a `put`; `synchronised` ends them; then
/// each change follows as a `put` or a `delete`. The node sends an empty line, or a comment, every ten seconds in which
/// nothing happens.
///
/// Each event has a cursor. A watch with the same filter that is given the latest one continues behind that event, on any
/// node of the cluster: on the node that issued it with every change since, as long as that is kept; on another with one
/// event for each key that differs. Where a node cannot tell exactly what the client has, it sends `reset` first, and then
/// all entries.
#[utoipa::path(
    get,
    path = "/watch",
    tag = "watch",
    operation_id = "watch",
    params(WatchQuery, LastEventId),
    responses((
        status = 200, description = "An event on each line, or in the data of each server-sent event",
        content((WatchRecord = "application/x-ndjson"), (WatchRecord = "text/event-stream"))
    )),
    extensions(("x-problems" = json!(["bad_cursor", "foreign_cursor", "not_acceptable", "too_many_watches"]))),
)]
async fn follow(
    State(Watching { db, cursors, admission, stopping }): State<Watching>,
    Parameters(WatchParameters { filter, cursor }): Parameters<WatchParameters>,
    request: Request,
) -> Result<Response, Problem> {
    let form = WatchForm::accepted_by(request.headers())?;
    let point = cursors.given(request.headers(), cursor.as_deref())?;
    let permit = admission.watch(client_origin(&request))?;
    let watch = start(db, filter, point).await?;
    let texts = Texts { form, cursors };
    let body = WatchBody::start(watch, texts, permit, stopping, HEARTBEAT_INTERVAL);
    Ok((form.headers(), Body::new(body)).into_response())
}

/// Starts a watch, at a point if there is one. Waits for writes that the client has seen on another node.
#[expect(clippy::disallowed_methods, reason = "the client waits in real time")]
async fn start(
    db: TableDb,
    filter: WatchFilter,
    point: Option<ResumePoint>,
) -> Result<ResumableWatch, Problem> {
    let deadline = Instant::now() + ARRIVAL_TIME;
    while let Some(point) = point.clone()
        && Instant::now() < deadline
    {
        let (db, filter) = (db.clone(), filter.clone());
        let resuming = tokio::task::spawn_blocking(move || db.resume(filter, &point));
        let resumed = resuming.await.map_err(|error| Problem::new(ProblemCode::InternalError, error))?;
        if let Some(watch) = resumed {
            return Ok(watch);
        }
        tokio::time::sleep(ARRIVAL_PAUSE).await;
    }
    Ok(db.watch_resumable(filter, point.map(|_| ResetReason::NodeBehind)))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document; they are read into a filter")]
struct WatchQuery {
    /// Only this network.
    network: Option<String>,
    /// Only tables of this name.
    table: Option<String>,
    /// Only keys that begin with this.
    prefix: Option<String>,
    /// Only entries of this node.
    owner: Option<String>,
    /// Without the entries of the responding node.
    exclude_own: Option<bool>,
    /// Where to resume: the cursor of the last event that the client has received. An opaque text.
    #[param(max_length = 4107)]
    cursor: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "`Cursors::given` reads it")]
struct LastEventId {
    /// The same as the parameter cursor, which it comes before: browsers send it when they reconnect.
    #[param(rename = "Last-Event-ID", max_length = 4107)]
    last_event_id: Option<String>,
}

struct WatchParameters {
    filter: WatchFilter,
    cursor: Option<String>,
}

impl FromParameters for WatchParameters {
    const KNOWN: &'static [&'static str] = &["network", "table", "prefix", "owner", "exclude_own", "cursor"];

    fn read(given: &Given) -> Result<Self, Problem> {
        let filter = WatchFilter {
            network: given.text("network"),
            table: given.text("table"),
            prefix: given.text("prefix").unwrap_or_default(),
            owner: given.parsed("owner", "the name of a node")?,
            exclude_own: given.flag("exclude_own")?,
        };
        Ok(Self { filter, cursor: given.text("cursor") })
    }
}

/// How the events of a watch become text.
#[derive(Debug, Clone, Copy)]
struct Texts {
    form: WatchForm,
    cursors: Cursors,
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
        watch: ResumableWatch,
        texts: Texts,
        permit: Permit,
        mut stopping: watch::Receiver<bool>,
        heartbeat_interval: Duration,
    ) -> Self {
        let start = move || Box::new(Lines::new(watch, texts, permit)).read_snapshot();
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
                return Poll::Ready(Some(Ok(lines.texts.form.heartbeat().into())));
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

/// A watch, and the event that is being rendered.
struct Lines {
    watch: ResumableWatch,
    texts: Texts,
    has_begun: bool,
    line: Option<WatchLine>,
    /// There may be more of a snapshot to read.
    in_snapshot: bool,
    /// The server stops: the last event follows.
    stopping: bool,
    /// The last event is being rendered.
    closed: bool,
    _permit: Permit,
}

impl Lines {
    fn new(watch: ResumableWatch, texts: Texts, permit: Permit) -> Self {
        Self {
            watch,
            texts,
            has_begun: false,
            line: None,
            in_snapshot: true,
            stopping: false,
            closed: false,
            _permit: permit,
        }
    }

    /// The next chunk, from a thread that may block.
    fn read_snapshot(mut self: Box<Self>) -> (Box<Self>, Vec<u8>) {
        let chunk = self.fill_chunk(ResumableWatch::try_next);
        (self, chunk)
    }

    /// Renders the events that `next` returns, until the chunk is full or there is none now.
    fn fill_chunk(&mut self, mut next: impl FnMut(&mut ResumableWatch) -> Option<ResumableEvent>) -> Vec<u8> {
        let Texts { form, cursors } = self.texts;
        let mut chunk = Vec::new();
        if !std::mem::replace(&mut self.has_begun, true) {
            chunk.extend_from_slice(form.preamble().as_bytes());
        }
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
            // The last event tells the client that the node has shut down, and that the entries were not
            // deleted.
            let event = if self.stopping { Some(ResumableEvent::Closed) } else { next(&mut self.watch) };
            let Some(event) = event else {
                self.in_snapshot = false;
                break;
            };
            let is_reset = matches!(event, ResumableEvent::Reset(_));
            self.closed = event == ResumableEvent::Closed;
            self.line = Some(WatchLine::new(event, &cursors.write(&self.watch.point_bytes()), form));
            if is_reset {
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
