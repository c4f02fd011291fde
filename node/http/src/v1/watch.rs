//! Following changes as a stream of JSON lines.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use hyper::StatusCode;
use tabledb::{TableDb, WatchEvent, WatchFilter};
use tokio::sync::watch;

use super::model::WatchRecord;
use super::refused::Refused;
use super::stream::json_lines;
use crate::guard::{Guard, peer};
use crate::query::{NotUtf8, Query};

/// How soon a watcher notices that its caller is gone or the server ends.
const PAUSE: Duration = Duration::from_millis(200);

/// So many changes at most go out before the caller and the server are looked at again.
const MOST_TOGETHER: usize = 1000;

/// After so many pauses without a change, an empty line.
const QUIET_PAUSES: u32 = 50;

#[derive(Clone)]
struct Watching {
    db: TableDb,
    guard: Arc<Guard>,
    stopping: watch::Receiver<bool>,
}

/// The route of `/watch`; its streams end when `stopping` becomes true.
pub(super) fn router(db: TableDb, guard: Arc<Guard>, stopping: watch::Receiver<bool>) -> Router {
    Router::new().route("/watch", get(follow)).with_state(Watching { db, guard, stopping })
}

async fn follow(
    State(Watching { db, guard, stopping }): State<Watching>,
    request: Request,
) -> Result<Response, Refused> {
    let query = request.uri().query();
    let filter = filter(&Query::parse(query.unwrap_or_default()))
        .map_err(|error| Refused::new(StatusCode::BAD_REQUEST, error))?;
    let permit = guard.watch(peer(&request))?;
    Ok(json_lines(move |lines| {
        let _permit = permit;
        let mut watch = db.watch(filter);
        let mut quiet = 0;
        let mut closed = false;
        while !closed && !*stopping.borrow() && !lines.reader_is_gone() {
            match watch.next_timeout(PAUSE) {
                Some(event) => {
                    quiet = 0;
                    let mut next = Some(event);
                    // What is there already goes out together; nothing waits for what may come later.
                    for _ in 0..MOST_TOGETHER {
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
                    quiet += 1;
                    if quiet % QUIET_PAUSES == 0 {
                        lines.heartbeat()?;
                    }
                }
            }
        }
        // Whoever reads this knows that the node has ended, not the entries.
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
