//! The program that runs the node: its log, and its end.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::body::Bytes;
use tokio::sync::{mpsc, watch};
use tracing::Level;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{LogLevel, LogRecord};
use super::parameters::{FromParameters, Given, NoParameters, Parameters};
use crate::Program;
use crate::admission::Admission;
use crate::channel_body::ChannelBody;
use crate::client_origin::client_origin;
use crate::log_tail::{LogEvent, LogTail};
use crate::permits::Permit;
use crate::problem::{Problem, ProblemCode};
use crate::streamed::JSON_LINES;

/// The interval at which an idle log sends an empty line, so that a client that is gone is noticed.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Offered {
    program: Program,
    admission: Arc<Admission>,
    stopping: watch::Receiver<bool>,
}

/// The routes `/leave` and `/log`. The log ends when `stopping` becomes true.
pub(super) fn router(
    program: Program,
    admission: Arc<Admission>,
    stopping: watch::Receiver<bool>,
) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(leave)).routes(routes!(show_log)).with_state(Offered {
        program,
        admission,
        stopping,
    })
}

/// Leave the cluster, and end the program that runs the node
///
/// As SIGTERM does: the node's entries go everywhere at once.
#[utoipa::path(
    post,
    path = "/leave",
    tag = "cluster",
    operation_id = "leave_cluster",
    responses((status = 202, description = "The node leaves, and its program ends")),
    extensions(("x-problems" = json!(["not_offered", "admin_socket_required"]))),
)]
async fn leave(
    State(Offered { program, .. }): State<Offered>,
    _: Parameters<NoParameters>,
) -> Result<StatusCode, Problem> {
    program.leave.ok_or_else(not_offered)?.notify_one();
    Ok(StatusCode::ACCEPTED)
}

/// Follow the log of the program that runs the node, a JSON line each
///
/// The latest lines come first. An empty line shows that the connection is alive.
#[utoipa::path(
    get,
    path = "/log",
    tag = "cluster",
    operation_id = "show_log",
    params(LogParameters),
    responses((
        status = 200, description = "A line of the log on each line", body = LogRecord,
        content_type = "application/x-ndjson"
    )),
    extensions(("x-problems" = json!(["not_offered", "admin_socket_required", "too_many_watches"]))),
)]
async fn show_log(
    State(Offered { program, admission, stopping }): State<Offered>,
    Parameters(LogParameters { level, latest_only }): Parameters<LogParameters>,
    request: Request,
) -> Result<Response, Problem> {
    let tail = program.log.ok_or_else(not_offered)?;
    let permit = admission.watch(client_origin(&request))?;
    let (sender, body) = mpsc::channel(4);
    tokio::spawn(send_log(tail, level.into(), latest_only, sender, stopping, permit));
    Ok((JSON_LINES, Body::new(ChannelBody(body))).into_response())
}

fn not_offered() -> Problem {
    Problem::new(ProblemCode::NotOffered, "the program that runs this node does not offer that over HTTP")
}

/// Sends the lines until the client is gone or the server stops.
async fn send_log(
    tail: LogTail,
    level: Level,
    latest_only: bool,
    sender: mpsc::Sender<std::io::Result<Bytes>>,
    mut stopping: watch::Receiver<bool>,
    _permit: Permit,
) {
    let mut reader = tail.follow(level);
    let recent: String = tail.recent(level).iter().map(|line| &*line.text).collect();
    let mut next = Bytes::from(recent);
    loop {
        if (!next.is_empty() && sender.send(Ok(next)).await.is_err()) || latest_only {
            return;
        }
        next = tokio::select! {
            event = reader.next() => match event {
                LogEvent::Line(text) => Bytes::copy_from_slice(text.as_bytes()),
                LogEvent::Lost(lost) => lost_line(lost).into(),
            },
            () = tokio::time::sleep(HEARTBEAT_INTERVAL) => Bytes::from_static(b"\n"),
            () = sender.closed() => return,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
    }
}

/// A line in place of those that a slow reader lost.
fn lost_line(lost: u64) -> String {
    let record = LogRecord {
        timestamp: None,
        level: "WARN".to_owned(),
        message: format!("{lost} lines are missing here: the reader is too slow"),
        target: "log".to_owned(),
        fields: Default::default(),
    };
    serde_json::to_string(&record).expect("texts have a JSON form") + "\n"
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct LogParameters {
    /// The least important level; `info` unless it is given.
    #[param(value_type = Option<LogLevel>, inline)]
    level: LogLevel,
    /// Whether to end after the latest lines, of which those below `info` are not kept.
    #[param(value_type = Option<bool>)]
    latest_only: bool,
}

impl FromParameters for LogParameters {
    const KNOWN: &'static [&'static str] = &["level", "latest_only"];

    fn read(given: &Given) -> Result<Self, Problem> {
        let level = given.parsed("level", "error, warn, info (the default), debug and trace")?;
        Ok(Self { level: level.unwrap_or(LogLevel::Info), latest_only: given.flag("latest_only")? })
    }
}
