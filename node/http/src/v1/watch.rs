//! Watches over HTTP: a stream of changes as JSON lines.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use hyper::StatusCode;
use tabledb::{TableDb, WatchEvent, WatchFilter};
use tokio::sync::watch;

use super::error::HttpError;
use super::model::WatchRecord;
use super::stream::json_lines;
use crate::admission::{Admission, client_origin};
use crate::query::{NotUtf8, Query};

/// The interval at which an idle watch checks for a disconnected client and for the server's shutdown.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// The most changes that are sent between two such checks.
const MAX_BATCH: usize = 1000;

/// The number of idle intervals after which the node sends an empty line.
const HEARTBEAT_INTERVALS: u32 = 50;

#[derive(Clone)]
struct Watching {
    db: TableDb,
    admission: Arc<Admission>,
    stopping: watch::Receiver<bool>,
}

/// The route of `/watch`; its streams end when `stopping` becomes true.
pub(super) fn router(db: TableDb, admission: Arc<Admission>, stopping: watch::Receiver<bool>) -> Router {
    Router::new().route("/watch", get(follow)).with_state(Watching { db, admission, stopping })
}

async fn follow(
    State(Watching { db, admission, stopping }): State<Watching>,
    request: Request,
) -> Result<Response, HttpError> {
    let query = request.uri().query();
    let filter = filter(&Query::parse(query.unwrap_or_default()))
        .map_err(|error| HttpError::new(StatusCode::BAD_REQUEST, error))?;
    let permit = admission.watch(client_origin(&request))?;
    Ok(json_lines(move |lines| {
        let _permit = permit;
        let mut watch = db.watch(filter);
        let mut idle = 0;
        let mut closed = false;
        while !closed && !*stopping.borrow() && !lines.is_disconnected() {
            match watch.next_timeout(CHECK_INTERVAL) {
                Some(event) => {
                    idle = 0;
                    let mut next = Some(event);
                    // Queued changes are sent together, without waiting for later ones.
                    for _ in 0..MAX_BATCH {
                        let Some(event) = next else { break };
                        closed = event == WatchEvent::Closed;
                        if closed {
                            break;
                        }
                        lines.line(&WatchRecord::from(&event))?;
                        next = watch.try_next();
                    }
                    lines.flush()?;
                }
                None => {
                    idle += 1;
                    if idle % HEARTBEAT_INTERVALS == 0 {
                        lines.heartbeat()?;
                    }
                }
            }
        }
        // This line tells the client that the node has shut down, and that the entries were not deleted.
        lines.line(&WatchRecord::from(&WatchEvent::Closed))?;
        lines.flush()
    }))
}

fn filter(query: &Query) -> Result<WatchFilter, NotUtf8> {
    Ok(WatchFilter {
        network: query.text("network")?.map(str::to_owned),
        table: query.text("table")?.map(str::to_owned),
        exclude_own: query.has("exclude_own"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_read_from_the_query() {
        assert_eq!(filter(&Query::parse("")), Ok(WatchFilter::default()));
        assert_eq!(
            filter(&Query::parse("network=a%2Fb&table=t&exclude_own")),
            Ok(WatchFilter { network: Some("a/b".into()), table: Some("t".into()), exclude_own: true })
        );
        assert_eq!(filter(&Query::parse("table=%ff")), Err(NotUtf8("table")));
    }
}
